"""Seconds and peak memory of indexing many records, by layout; bytes that each record adds.

    python benchmarks/indexing.py                        # 10,000 and 100,000 records of each layout
    python benchmarks/indexing.py --n 1000,5000 --layouts parquet

Writes made-up pictures (16 x 16, PNG) with a label, a unit and a caption in a temporary folder, and
indexes them in a process of their own, with `--unit` and `--classes`. One JSON line per run:
`peak_mb` is the process that indexes, `readers_peak_mb` the largest of its decoders and readers,
`bytes_per_record` what the peak grew by for each record more than in the run before.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SHARD, GROUP = 10_000, 100  # records of a file, and of a row group or record batch
COLUMNS = ("image", "label", "patient", "caption")


def record(number: int) -> tuple[bytes, int, str, str]:
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue(), number % 10, f"patient {number // 5}", f"picture {number} of many"


def write_parquet(folder: Path, n: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for start in range(0, n, SHARD):
        rows = [record(i) for i in range(start, min(n, start + SHARD))]
        columns = dict(zip(COLUMNS, map(list, zip(*rows))))
        place = folder / f"train-{start // SHARD:05d}.parquet"
        pq.write_table(pa.table(columns), place, row_group_size=GROUP)


def write_arrow(folder: Path, n: int) -> None:
    import pyarrow as pa

    files = []
    for start in range(0, n, SHARD):
        rows = [record(i) for i in range(start, min(n, start + SHARD))]
        table = pa.table(dict(zip(COLUMNS, map(list, zip(*rows)))))
        files.append({"filename": f"data-{start // SHARD:05d}.arrow"})
        with pa.OSFile(str(folder / files[-1]["filename"]), "wb") as out:
            with pa.ipc.new_stream(out, table.schema) as stream:
                stream.write_table(table, max_chunksize=GROUP)
    (folder / "state.json").write_text(json.dumps({"_data_files": files}))


def write_webdataset(folder: Path, n: int) -> None:
    for start in range(0, n, SHARD):
        with tarfile.open(folder / f"train-{start // SHARD:05d}.tar", "w") as archive:
            for i in range(start, min(n, start + SHARD)):
                image, label, patient, caption = record(i)
                held = {"png": image, "cls": str(label).encode(), "txt": caption.encode()}
                held["json"] = json.dumps({"patient": patient}).encode()
                for suffix, data in held.items():
                    info = tarfile.TarInfo(f"{i:07d}.{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))


WRITERS = {"parquet": write_parquet, "arrow": write_arrow, "webdataset": write_webdataset}


def peak_mb() -> float:
    """Of this program alone: what `getrusage` says is also of the one that started it."""
    status = Path("/proc/self/status").read_text("ascii")
    (held,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(held.split()[1]) / 1024, 1)


def index(folder: str) -> None:
    """The measured process: one JSON line."""
    from sfumato.records import load_records

    started = time.perf_counter()
    records = load_records(folder, unit="patient", classes=[str(i) for i in range(10)])
    seconds = time.perf_counter() - started
    peak = peak_mb()
    own = resource.getrusage(resource.RUSAGE_SELF)
    from sfumato.records import bounded

    for process in (bounded._ONE, bounded._READER):  # a process counts when it has ended
        process.stop()
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = {
        "n": records.n,
        "units": records.n_units,
        "usable": int(records.usable.sum()),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in (own, others)), 1),
        "peak_mb": peak,
        "readers_peak_mb": round(others.ru_maxrss / 1024, 1),
    }
    print(json.dumps(line))


def main() -> None:
    form = argparse.RawTextHelpFormatter
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    asked.add_argument("--n", default="10000,100000", help="records, comma between them")
    asked.add_argument("--layouts", default=",".join(WRITERS))
    said = asked.parse_args()
    for layout in said.layouts.split(","):
        before = None
        for n in map(int, said.n.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                WRITERS[layout](Path(folder), n)
                command = [sys.executable, __file__, "--index", folder]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            line = {"layout": layout, **json.loads(done.stdout)}
            if before is not None:
                grown = (line["peak_mb"] - before["peak_mb"]) * 2**20
                line["bytes_per_record"] = round(grown / (line["n"] - before["n"]))
            print(json.dumps(line), flush=True)
            before = line


if __name__ == "__main__":
    if sys.argv[1:2] == ["--index"]:
        index(sys.argv[2])
    else:
        main()
