"""One-pass engine against the reference engine on a bundled base: `python benchmarks/parity.py
[--base glyphs]`.

Prints one JSON line per method and number of draws: the relative difference of the clipped sums
(largest over tensors, and of the whole vector) and of the norms, in single precision on dummy
latents, with a clip norm at the median so that clipping acts; and whether an empty batch gives
exactly zero.
"""

from __future__ import annotations

import argparse
import json

import torch

from sfumato.gradients import Engine, ReferenceEngine
from sfumato.planning.facts import PublicFacts
from sfumato.planning.prepare import prepare
from sfumato.planning.task import task_of
from sfumato.privacy.clipping import flat
from sfumato.training.dummy import dummy_batch
from sfumato.verbs.demo import demo_prompts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="glyphs")
    parser.add_argument("--units", type=int, default=5)
    args = parser.parse_args()
    records = PublicFacts(n_units=60_000, classes=tuple("0123456789"))
    for method in ("full", "attention", "lora"):
        for draws in (1, 4):
            prepared = prepare(
                records,
                task_of(
                    epsilon=1,
                    delta=1e-5,
                    base=args.base,
                    method=method,
                    noise_draws=draws,
                    **demo_prompts(args.base),
                )[2],
            )
            adaptation = prepared.adaptation
            if method == "lora":  # B starts at zero, which would hide A's gradient
                for name, tensor in adaptation.trainable.items():
                    if "lora_B" in name:
                        torch.nn.init.normal_(tensor, std=0.05)
            batch = dummy_batch(prepared, args.units)
            with ReferenceEngine(adaptation.model, adaptation.trainable) as engine:
                _, norms = engine.clipped_sum(
                    adaptation.exact_losses, batch, draws=draws, clip=torch.ones_like
                )
                clip = flat(float(norms.median())).factors
                right, _ = engine.clipped_sum(
                    adaptation.exact_losses, batch, draws=draws, clip=clip
                )
            with Engine(adaptation.model, adaptation.trainable) as engine:
                got, found = engine.clipped_sum(
                    adaptation.exact_losses, batch, draws=draws, clip=clip, micro_batch=2
                )
                empty, _ = engine.clipped_sum(
                    adaptation.exact_losses, batch[0:0], draws=draws, clip=clip
                )
            whole = torch.cat([t.flatten() for t in right.values()]).norm()
            difference = torch.cat([(got[n] - right[n]).flatten() for n in right]).norm()
            print(
                json.dumps(
                    {
                        "base": args.base,
                        "method": method,
                        "draws": draws,
                        "trainable": prepared.plan.trainable,
                        "relative_error_sum": float(difference / whole),
                        "relative_error_norms": float(((found - norms).abs() / norms).max()),
                        "empty_batch_is_zero": all(not bool(t.any()) for t in empty.values()),
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
