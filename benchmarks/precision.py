"""What the number formats that this machine chooses save: a training step, new beside old.

    git worktree add /somewhere/old COMMIT
    python benchmarks/precision.py --old /somewhere/old      # some minutes on one core

Old is the engine of another checkout with every product in bfloat16, which was the default whatever
the processor; new is this checkout with formats and engine constants as measured here. Both take
turns on one model and the same dummy records in one process, after a check that their sums agree as
far as bfloat16 lets them. A second process does the same with oneDNN told to leave the processor's
bfloat16 instructions alone (ONEDNN_MAX_CPU_ISA=AVX512_CORE), as on the many that lack them; what
torch's own kernels do with them stays. One JSON line per instruction set, method and K: processor
seconds of a step of the plan's expected batch (medians), their ratio, the formats that were chosen,
and what the trials of the other stages said.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from integer_sums import old_engine
from measure import clock, machine, prepare_process, say

WITHOUT = "AVX512_CORE"
AGREE = 0.05  # of the sum's norm: bfloat16 keeps 8 bits of each product's factors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", required=True, help="a checkout to compare with")
    parser.add_argument("--base", default="glyphs")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=["attention"])
    parser.add_argument("--draws", type=lambda text: [int(k) for k in text.split(",")], default=[1])
    parser.add_argument("--rows", type=int, default=256, help="records x draws of a microbatch")
    parser.add_argument("--batch", type=int, default=1024, help="records of a step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=("all", "native", "without"), default="all")
    args = parser.parse_args()
    if args.only == "all":
        for only in ("native", "without"):
            isa = {"ONEDNN_MAX_CPU_ISA": WITHOUT} if only == "without" else {}
            words = [sys.executable, *sys.argv, "--only", only]
            subprocess.run(words, check=True, env=os.environ | isa)
        return
    prepare_process(args.threads)
    os.environ.pop("SFUMATO_MEASURE", None)
    old = old_engine(Path(args.old))
    for method in args.methods:
        for draws in args.draws:
            say(f"{args.only}, {method}, K = {draws}")
            row = {"instructions": args.only} | measure(old, method, draws, args)
            print(json.dumps(row | machine("cpu")), flush=True)


def measure(old, method: str, draws: int, args: argparse.Namespace) -> dict:
    import torch

    from sfumato.compute.precision import Formats
    from sfumato.gradients import Engine
    from sfumato.planning.estimate import fit_to_machine
    from sfumato.planning.facts import PublicFacts
    from sfumato.planning.prepare import prepare
    from sfumato.planning.task import task_of
    from sfumato.training.dummy import dummy_batch
    from sfumato.verbs.demo import demo_prompts

    records = PublicFacts(n_units=60_000, classes=tuple("0123456789"))
    asked = {"epsilon": 1, "delta": 1e-5, "base": args.base, "method": method}
    asked |= {"noise_draws": draws, "expected_batch_size": args.batch, "steps": 60}
    task = task_of(**asked, micro_batch=args.rows // draws, **demo_prompts(args.base))[2]
    prepared = fit_to_machine(prepare(records, task), compared=True)
    plan, adaptation, units = prepared.plan, prepared.adaptation, args.rows // draws
    batch = dummy_batch(prepared, units)
    chosen = Formats.named(prepared.options["formats"])
    sides = {
        "old": (old, Formats.everywhere("bfloat16"), "auto"),
        "new": (Engine, chosen, prepared.options["ways"]),
    }
    seconds, sums = {name: [] for name in sides}, {}
    for turn in range(args.rounds + 1):
        for name, (kind, formats, ways) in sides.items():
            prepared.base.formats = formats
            with kind(adaptation.model, adaptation.trainable, strategy=ways) as engine:
                (found, _), spent, _ = clock(
                    lambda: engine.clipped_sum(  # noqa: B023
                        adaptation.row_losses,
                        batch,
                        draws=draws,
                        clip=plan.clip().factors,
                        rounding=plan.rounding,
                    )
                )
            sums[name] = torch.cat([value.flatten() for value in found.values()]).double()
            if turn:  # the first round fills caches and tables
                seconds[name].append(spent)
    apart = float((sums["new"] - sums["old"]).norm() / sums["old"].norm())
    if not apart <= AGREE:
        raise SystemExit(f"the sums differ by {apart:.3g} of their norm: nothing to compare")
    passes = plan.expected_batch_size / units
    steps = {name: median(each) * passes for name, each in seconds.items()}
    return {
        "base": args.base,
        "method": method,
        "draws": draws,
        "batch": plan.expected_batch_size,
        "old_step": round(steps["old"], 3),
        "new_step": round(steps["new"], 3),
        "ratio": round(median(o / n for o, n in zip(seconds["old"], seconds["new"])), 3),
        "sums_apart": round(apart, 5),
        "formats": prepared.options["formats"],
        "bfloat16_over_float32": {
            stage: round(trial.bfloat16 / trial.float32, 3)
            for stage, trial in prepared.trials.items()
        },
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    main()
