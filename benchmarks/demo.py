"""`sfumato demo` with seconds of each stage.

    python benchmarks/demo.py                     # on a quiet machine: all of its cores
    python benchmarks/demo.py --threads 1 --steps 3

Prints one JSON line per stage (seconds by the clock, processor seconds of this process and of the
decoders that it ended) and one for the whole: accuracy at that epsilon, formats, seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

from measure import machine, prepare_process


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--base", default="glyphs")
    parser.add_argument("--epsilon", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=None, help="fewer than the demo's own")
    args = parser.parse_args()
    prepare_process(args.threads)
    from sfumato.verbs.demo import run_demo

    stages: dict[str, list[float]] = {}
    now, since = "reading the digits", spent()

    def entered(line: str) -> None:
        nonlocal now, since
        name = getattr(line, "what", line)
        if name.startswith("note: "):
            return
        until = spent()
        held = stages.setdefault(now, [0.0, 0.0])
        for i, (end, start) in enumerate(zip(until, since)):
            held[i] += end - start
        now, since = name, until

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        found = run_demo(
            base=args.base, epsilon=args.epsilon, steps=args.steps, output=out, on_stage=entered
        )
        entered("end")
        kept = json.loads((out / "run" / "options.json").read_text("utf-8"))
    for name, (wall, cpu) in stages.items():
        print(json.dumps({"stage": name, "seconds": round(wall, 1), "cpu_seconds": round(cpu, 1)}))
    whole = {"accuracy": found["accuracy"], "epsilon": found["epsilon"], "steps": args.steps}
    whole |= {"seconds": found["seconds"], "threads": args.threads, "formats": kept["formats"]}
    cpu = round(sum(cpu for _, cpu in stages.values()), 1)
    print(json.dumps(whole | {"cpu_seconds": cpu} | machine("cpu")), flush=True)


def spent() -> tuple[float, float]:
    """Seconds by the clock and of processors, so far."""
    own, ended = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return time.perf_counter(), sum(u.ru_utime + u.ru_stime for u in (own, ended))


if __name__ == "__main__":
    main()
