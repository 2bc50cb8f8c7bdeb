"""Two finished runs on the same images, for tests of what looks at several."""

from __future__ import annotations

from pathlib import Path

from sfumato import verbs
from sfumato.methods import Lora
from sfumato.options import Sampling


def make_two_runs(place: Path, base: Path, images: Path, pictures: int) -> None:
    """Writes the runs `a` and `b`, their ledger, and drafts of so many pictures of each."""
    for name in "ab":
        verbs.adapt(
            images,
            anyway=True,
            yes_public=True,
            output=place / name,
            ledger=place / "ledger.sqlite",
            epsilon=8.0,
            delta=1e-3,
            base=str(base),
            method=Lora(rank=2),
            steps=2,
        )
        verbs.synthesize(
            place / name,
            pictures,
            place / f"draft-{name}",
            sampling=Sampling(steps=1),
            keep_key=True,
        )
