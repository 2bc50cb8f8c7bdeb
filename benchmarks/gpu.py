"""All that needs a GPU to be known, in one command: is it right there, how fast, how much memory.

    python benchmarks/gpu.py --out results-gpu             # under eight minutes, without network
    python benchmarks/gpu.py --out smoke --smoke           # tiny shapes on the CPU, for tests

Weights are random and shapes real: a UNet as large as Stable Diffusion 1.5's (860 million numbers)
on latents of 64 x 64, batches of 16. Every part prints one JSON line, which is also appended to
OUT/gpu.jsonl; a part that fails says its error in its line and ends nothing else, and one for which
no time is left says so.

- `right`: clipped sums of every method on the device beside the host's; the same step twice, bit
  by bit; noise beside the host's at the same address; `adapt`, an interruption, the free replay.
- `step`: a private step over the non-private one, time and peak memory of torch's allocator, with
  Opacus and `torch.func` beside it (`peers.py`), and with gradient checkpointing.
- `noise`: the step's noise for as many numbers as the whole model has, and its share of a step.
- `feed`: drawing a microbatch on the host and copying it, beside the step that hides it.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from measure import clock, machine, prepare_process, say

PARAMETERS = 860_000_000
PEERS = {
    "lora8": (),
    "attention": ("opacus hooks", "torch.func vmap"),
    "whole": ("opacus hooks", "opacus ghost", "torch.func vmap"),
}
METHODS = ("attention", "full", "lora", "loda", "embedding")
CLASSES = ("circle", "cross", "square")


def main() -> None:
    args = arguments()
    prepare_process(args.threads)
    import torch

    if args.device != "cpu":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    args.out.mkdir(parents=True, exist_ok=True)
    facts = machine(args.device) | {"smoke": args.smoke}
    say(f"{facts['device']}, {facts['processor']}, {facts['threads']} thread(s)")
    started = time.monotonic()
    for name, part in parts(args).items():
        if time.monotonic() - started > args.seconds:
            row: dict[str, Any] = {"skipped": "no time left"}
        else:
            say(name)
            row = attempt(part)
        row = {"part": name, "at": round(time.monotonic() - started, 1)} | row | facts
        print(json.dumps(row), flush=True)
        with open(args.out / "gpu.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        gc.collect()
        if args.device != "cpu":
            torch.cuda.empty_cache()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N")
    parser.add_argument("--seconds", type=float, default=400, help="no part begins after so many")
    parser.add_argument("--records", type=int, default=16, help="of a batch")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each method")
    parser.add_argument("--threads", type=int, default=8, help="of the host")
    parser.add_argument("--only", type=lambda text: text.split(","), help="parts, by name")
    args = parser.parse_args()
    if args.smoke:
        args.device, args.records, args.rounds, args.threads = "cpu", 2, 1, 1
    return args


def parts(args: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    """Name -> what measures it, the most telling first."""
    found: dict[str, Callable[[], dict[str, Any]]] = {"right": lambda: right(args)}
    for trainable, peers in PEERS.items():
        found[f"step {trainable}"] = lambda t=trainable: step(args, t, ())
        if peers:
            found[f"peers {trainable}"] = lambda t=trainable, p=peers: step(args, t, p)
        if trainable == "attention":
            found["noise"], found["feed"] = lambda: noise(args), lambda: feed(args)
            found["checkpointed attention"] = lambda: step(args, "attention", (), kept=False)
    return {name: part for name, part in found.items() if args.only is None or name in args.only}


def attempt(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    from measure import first_line

    try:
        return part()
    except Exception as error:  # noqa: BLE001  whatever it is belongs into the results
        say(traceback.format_exc())
        return {"error": first_line(error)}


def step(
    args: argparse.Namespace, trainable: str, peers: tuple[str, ...], kept: bool = True
) -> dict[str, Any]:
    """A step beside the non-private one; `kept` activations, or computed again."""
    from engine import summary
    from models import MODELS, assemble
    from peers import AGAIN, BASE, OURS, compare

    model = "tiny" if args.smoke else "sd15"

    def builder():
        made = MODELS[model]()
        if not kept:
            made.enable_gradient_checkpointing()
        return made

    def fresh():
        ask = (args.records, 1, "bfloat16", args.device)
        return assemble(model, builder, trainable, *ask)

    # against peers two steps of each are enough, and the non-private one stays the measure
    few = 2 if peers and not args.smoke else args.rounds
    result = compare(fresh, dict.fromkeys((BASE, AGAIN, OURS, *peers), few), args.device)
    head = {"model": model, "trainable": trainable, "records": args.records, "K": 1}
    head |= {"numbers": sum(t.numel() for t in result.sums.values()), "dtype": "bfloat16"}
    head |= {"checkpointed": not kept, "strategies": result.strategies}
    return head | summary(result.found, trainable, 1, "bfloat16")


def noise(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the noise on the device, and for `PARAMETERS` numbers in proportion."""
    import torch

    from sfumato.privacy.random.keys import RunKey
    from sfumato.privacy.random.noise import add_integer_noise

    key, count = RunKey(bytes(range(32))), 10_000 if args.smoke else 20_000_000
    where = torch.device(args.device)
    sums = {"w": torch.zeros(count, dtype=torch.int64, device=where)}
    how = {"multiplier": 1.0, "bound": 1 << 24}
    _, _, first = clock(lambda: add_integer_noise(sums, key, 0, 0, **how), args.device)
    seconds = [
        clock(lambda at=at: add_integer_noise(sums, key, at, 0, **how), args.device)[2]
        for at in range(1, 4)
    ]
    whole = min(seconds) * PARAMETERS / count
    return {"numbers": count, "seconds": seconds, "first": first, "of_860_million": round(whole, 4)}


def feed(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds to draw the random numbers of a batch on the host, and to copy it."""
    import numpy as np
    import torch

    from sfumato.privacy.random.keys import RunKey
    from sfumato.training import LatentData, UnitBatch

    side, units = (8, 4) if args.smoke else (64, args.records)
    mean = np.zeros((units, 4, side, side), np.float16)
    own, where = np.arange(units), torch.device(args.device)
    data = LatentData(mean, mean, own, own, np.arange(units + 1))
    batch = UnitBatch(data, own, RunKey(bytes(32)), 0, 0, 1, 1.5, 0.0, 1000)
    draw = [clock(lambda: batch[0:units])[2] for _ in range(5)]
    part = batch[0:units] if args.device == "cpu" else batch[0:units].pinned()
    copy = [clock(lambda: part.to(where), args.device)[2] for _ in range(5)]
    return {"records": units, "draw_seconds": min(draw), "copy_seconds": min(copy)}


def right(args: argparse.Namespace) -> dict[str, Any]:
    """Whether the device gives the host's answers, the same ones twice, and runs that resume."""
    from sfumato.bases.tiny import make_tiny_base, make_tiny_images

    with tempfile.TemporaryDirectory() as folder:
        base = make_tiny_base(Path(folder) / "base")
        images = make_tiny_images(Path(folder) / "images")
        sums = {method: of_method(args, base, method) for method in METHODS}
        rest = {"noise_equal": noise_equal(args), "run": of_run(args, base, images, Path(folder))}
    return {"sums": sums} | rest


def of_method(args: argparse.Namespace, base: Path, method: str) -> dict[str, Any]:
    """The largest relative error of norms and sum against the host, and whether bits repeat."""
    import torch

    from sfumato.compute.device import on_host, using
    from sfumato.gradients import Engine
    from sfumato.planning.facts import PublicFacts
    from sfumato.planning.prepare import prepare
    from sfumato.planning.task import task_of
    from sfumato.training.dummy import dummy_batch

    def found(device: str) -> list[torch.Tensor]:
        with using(device):
            said = {"epsilon": 2.0, "delta": 1e-3, "expected_batch_size": 20, "steps": 3}
            task = task_of(base=str(base), method=method, precision="float32", **said)[2]
            made = prepare(PublicFacts(n_units=200, classes=CLASSES), task)
            adaptation, batch = made.adaptation, dummy_batch(made, 6)
            with Engine(adaptation.model, adaptation.trainable) as engine:
                sums, norms = engine.clipped_sum(
                    adaptation.row_losses,
                    batch,
                    clip=made.plan.clip().factors,
                    micro_batch=3,
                    rounding=made.plan.rounding,
                )
            return [on_host(norms).double(), on_host(flat(sums)).double()]

    def flat(sums: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([value.flatten() for value in sums.values()])

    here, there, again = found("cpu"), found(args.device), found(args.device)
    apart = [float((a - b).norm() / a.norm()) for a, b in zip(here, there, strict=True)]
    same = all(torch.equal(a, b) for a, b in zip(there, again, strict=True))
    return {"norms_error": apart[0], "sum_error": apart[1], "repeats": same}


def noise_equal(args: argparse.Namespace) -> bool:
    """Whether the device's noise is the host's, number by number."""
    import torch

    from sfumato.compute.device import on_host
    from sfumato.privacy.random.keys import RunKey
    from sfumato.privacy.random.noise import add_integer_noise

    def drawn(device: str) -> torch.Tensor:
        nothing = {"w": torch.zeros(70_001, dtype=torch.int64, device=torch.device(device))}
        key = RunKey(bytes(range(32)))
        return on_host(add_integer_noise(nothing, key, 3, 1, multiplier=1.5, bound=10**7)["w"])

    return bool(torch.equal(drawn("cpu"), drawn(args.device)))


def of_run(args: argparse.Namespace, base: Path, images: Path, folder: Path) -> dict[str, Any]:
    """A run that is stopped and replayed for free, beside one that was not; then its pictures."""
    import sfumato
    from sfumato.errors import SfumatoError
    from sfumato.privacy.random.keys import RunKey
    from sfumato.runs import folder as runs

    class Stopped(Exception):
        pass

    def stop(now, plan) -> None:
        if now.step == 3:
            raise Stopped

    how = {"epsilon": 2.0, "delta": 1e-2, "base": base, "method": "lora", "yes_public": True}
    how |= {"expected_batch_size": 8, "steps": 4, "anyway": True, "device": args.device}
    how |= {"checkpoint_steps": 2, "samples_every": 0}
    key, salt = RunKey(bytes(range(32))), "00" * 16
    started = time.perf_counter()
    with (
        patch.object(runs.RunKey, "generate", staticmethod(lambda: key)),
        patch.object(runs.RunKey, "fresh_salt", staticmethod(lambda: salt)),
    ):
        book = {"ledger": folder / "ledger.sqlite"}
        whole = sfumato.adapt(images, output=folder / "whole", **how, **book)
        try:
            sfumato.adapt(images, output=folder / "stopped", progress=stop, **how, **book)
        except Stopped:
            pass
        again = sfumato.resume(images, folder / "stopped", **book)
    seconds = time.perf_counter() - started
    name = "pytorch_lora_weights.safetensors"
    same = (whole.model / name).read_bytes() == (again.model / name).read_bytes()
    refused = None
    if args.device != "cpu":
        try:
            sfumato.adapt(images, output=folder / "third", progress=stop, **how, **book)
        except Stopped:
            pass
        try:
            sfumato.resume(images, folder / "third", device="cpu", **book)
        except SfumatoError as error:
            refused = str(error)
    sfumato.synthesize(whole, 6, folder / "release", device=args.device)
    return {"replay_equal": same, "seconds": round(seconds, 2), "elsewhere": refused}


if __name__ == "__main__":
    main()
