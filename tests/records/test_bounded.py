"""No file exhausts memory, hangs or takes the process with it: a decoder of its own dies in our
place.
"""

from __future__ import annotations

import gc
import io
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import sfumato
from sfumato.errors import DataError, MachineError
from sfumato.records import bounded, load_records, process
from sfumato.records.decode import BadImage, decode, fingerprint
from sfumato.records.folder import read_below
from sfumato.records.limits import TOO_LONG

RNG = np.random.default_rng(0)


def encoded(pixels, form="PNG", **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


def pictures(n: int, side: int = 16) -> list[bytes]:
    return [encoded(RNG.integers(0, 255, (side, side, 3), np.uint8)) for _ in range(n)]


def looked(files: list[bytes]) -> dict:
    return dict(bounded.look(files.__getitem__, len(files)))


def test_the_other_process_sees_what_we_see():
    files = pictures(40)
    files[7], files[30] = b"no picture", encoded(RNG.integers(0, 255, (3, 9, 3), np.uint8))
    seen = looked(files)
    assert sorted(seen) == list(range(40))
    assert seen[7].startswith("not a picture") and seen[30] == "too small"
    for slot in set(range(40)) - {7, 30}:
        pixels, _ = decode(files[slot])
        assert seen[slot].size == (16, 16) and seen[slot].print == fingerprint(pixels)
        assert seen[slot].seal == bounded.seal(files[slot])


def slow_picture() -> bytes:
    """A progressive JPEG of 4 MP with its last scan 86 times: small, within every rule, and
    slow.
    """
    data = encoded(np.full((2048, 2048, 3), 90, np.uint8), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * 85 + data[-2:]


def test_a_picture_that_takes_too_long_is_a_zero_slot_and_costs_the_others_nothing(monkeypatch):
    monkeypatch.setattr(bounded, "SECONDS", 0.1)
    files = pictures(30)
    files[11] = slow_picture()
    started = time.monotonic()
    seen = looked(files)
    assert seen.pop(11) == TOO_LONG and time.monotonic() - started < 60
    assert len(seen) == 29 and all(isinstance(found, bounded.Seen) for found in seen.values())


@pytest.mark.parametrize("way", [signal.SIGSEGV, signal.SIGKILL])
def test_a_dead_decoder_takes_one_picture_at_most(way):
    files = pictures(50)
    looked(files[:1])

    def read(slot: int) -> bytes:
        if slot == 20:
            time.sleep(0.2)  # it has answered or holds the oldest one
            os.kill(bounded._ONE.child.pid, way)
        return files[slot]

    seen = dict(bounded.look(read, len(files)))
    lost = [slot for slot, found in seen.items() if isinstance(found, str)]
    assert sorted(seen) == list(range(50))
    if way == signal.SIGKILL:  # somebody else's doing: the picture gets a second chance
        assert not lost
    else:
        assert len(lost) <= 1 and all(seen[slot] == bounded.CRASHED for slot in lost)


def test_what_was_left_in_the_middle_is_not_answered_to_the_next():
    one = bounded.look(pictures(40).__getitem__, 40)
    next(one)
    del one
    gc.collect()
    files = pictures(5)
    assert [seen.seal for _, seen in sorted(looked(files).items())] == [
        bounded.seal(data) for data in files
    ]


def test_a_forked_process_has_a_decoder_of_its_own():
    files = pictures(3)
    looked(files)
    ours = bounded._ONE.child.pid
    pid = os.fork()
    if pid == 0:
        mine = looked(files)
        os._exit(0 if len(mine) == 3 and bounded._ONE.child.pid != ours else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(looked(files)) == 3 and bounded._ONE.child.pid == ours


def test_no_process_is_an_error_of_the_machine(monkeypatch, tmp_path):
    bounded._ONE.stop()
    for path in ("/nonexistent/python", "/bin/false"):
        monkeypatch.setattr(process.sys, "executable", path)
        with pytest.raises(MachineError, match="decode") as caught:
            looked(pictures(1))
        assert caught.value.exit_code == 14
    monkeypatch.undo()
    assert len(looked(pictures(2))) == 2


def test_the_decoder_writes_nothing_and_leaves_no_core():
    looked(pictures(1))
    limits = Path(f"/proc/{bounded._ONE.child.pid}/limits")
    if not limits.exists():
        pytest.skip("needs /proc")
    shown = {line[:26].strip(): line[26:].split()[:2] for line in limits.read_text().splitlines()}
    assert shown["Max core file size"] == shown["Max file size"] == ["0", "0"]
    assert int(shown["Max address space"][1]) <= 2 * 2**30


def bomb(folder: Path) -> Path:
    """Parquet of a few kB: one 16 MB value that 120 rows of a row group share."""
    values = pa.array([encoded(np.zeros((9, 9, 3), np.uint8)) + bytes(16 * 2**20)])
    images = pa.DictionaryArray.from_arrays(pa.array([0] * 120, pa.int32()), values)
    rows = pa.table({"image": images, "label": ["a", "b"] * 60})
    place = folder / "bomb.parquet"
    pq.write_table(
        rows, place, compression="zstd", store_schema=False, dictionary_pagesize_limit=2**30
    )
    return place


def test_a_parquet_bomb_is_refused(tmp_path):
    place = bomb(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert place.stat().st_size < 2**20
    with pytest.raises(DataError, match="takes more than 1.5 GB to read: write smaller row groups"):
        load_records(place)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    assert len(looked(pictures(2))) == 2, "the decoder goes on"


def test_a_table_bomb_is_refused(tmp_path):
    (tmp_path / "metadata.jsonl").write_bytes(
        b'{"file_name": "x.png", "a": [' + b"[]," * 12_000_000 + b"1]}"
    )
    with pytest.raises(DataError, match="takes more than .* to read"):
        load_records(tmp_path)


def test_a_pipe_or_endless_file_is_no_picture(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadImage, match="missing file"):
        read_below(tmp_path, "pipe.png")
    monkeypatch.setattr("sfumato.records.folder.MAX_BYTES", 100)
    (tmp_path / "long.png").write_bytes(bytes(101))
    with pytest.raises(BadImage, match="too large"):
        read_below(tmp_path, "long.png")


def test_damaged_row_groups_are_zero_slots_and_never_end_a_run(tmp_path):
    rows = pa.table({"image": pictures(12), "label": ["a", "b"] * 6})
    place = tmp_path / "x.parquet"
    pq.write_table(rows, place, row_group_size=4, compression="none")
    records = load_records(place)
    images, good = records.load(range(12), 16)
    assert good.all()
    data = bytearray(place.read_bytes())
    place.unlink()
    assert not records.load(range(8), 16)[1].any()
    data[200:260] = b"\xff" * 60  # inside the first row group's page
    place.write_bytes(data)
    assert load_records(place, max_bad=0.5).usable[4:].all()


@pytest.mark.parametrize("resolution", [0, 8, 32, 200])
def test_pixels_are_handed_over_by_the_other_process_alone(tmp_path, monkeypatch, resolution):
    """The process that holds keys decodes no private file, neither while it lists pictures nor when
    it wants them again.
    """
    for name in "ab":
        (tmp_path / name).mkdir()
    wanted = {}
    for i, data in enumerate(pictures(40, 20)):
        (tmp_path / "ab"[i % 2] / f"{i:02d}.png").write_bytes(data)
        wanted[f"{i:02d}"] = decode(data)[0]
    parent = os.getpid()

    def here(data: bytes):
        assert os.getpid() != parent, "decoded beside the keys"
        return decode(data)

    from sfumato.records import decode as decoder

    monkeypatch.setattr(decoder, "decode", here)
    monkeypatch.setattr(Image, "open", here)
    records = load_records(tmp_path)
    found, good = records.load(np.arange(40), resolution or 20)
    assert good.all()
    order = [*range(0, 40, 2), *range(1, 40, 2)]
    for slot, number in enumerate(order):
        own = wanted[f"{number:02d}"]
        assert np.array_equal(found[slot], decoder.fit(own, (resolution or 20,) * 2))
        assert slot > 3 or np.array_equal(records.pixels(slot), own)


def test_a_file_that_changed_or_kills_its_decoder_is_no_picture_any_more(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i, data in enumerate(pictures(3)):
            (tmp_path / name / f"{i}.png").write_bytes(data)
    records = load_records(tmp_path)
    (tmp_path / "a" / "1.png").write_bytes(pictures(1)[0])
    assert records.load(np.arange(6), 16)[1].tolist() == [True, False, True, True, True, True]
    assert records.pixels(1) is None and records.pixels(0) is not None
    monkeypatch.setattr(bounded, "HANDING_OVER", 1e-6)
    assert records.load(np.arange(6), 1024)[1].sum() == 0 and len(records.images([0, 5], 16)) == 2


def test_the_process_has_no_network():
    program = (
        "from sfumato.records import limits\n"
        "limits.limit_process()\n"
        "import socket\n"
        "for act in (socket.socket, lambda: socket.getaddrinfo('localhost', 80)):\n"
        "    try:\n"
        "        act()\n"
        "    except PermissionError:\n"
        "        print('refused')\n"
    )
    root = str(Path(sfumato.__file__).parents[1])
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root)
    assert said.stdout.split() == ["refused", "refused"], said.stderr
