"""How images are evaluated: the classifiers of `evaluate`, and what `select` asks and pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import SfumatoError
from . import parse
from .declare import Options, option

CLASSIFIERS = ("logistic", "cnn", "resnet", "wrn")


@dataclass(frozen=True)
class Judging(Options):
    """What is trained on the images, and how often."""

    panel = "Judging"

    classifiers: Sequence[str] = option(
        CLASSIFIERS,
        "Any of logistic, cnn, resnet, wrn.",
        metavar="A,B,..",
        parse=parse.listed,
    )
    seeds: int | Sequence[int] = option(
        3, "Number of seeds, from 0; in Python also a list of seeds.", parse=parse.count
    )
    steps: int | None = option(None, "Training steps of each classifier.", least=1)
    public_images: int | None = option(
        None, "Images drawn per control row (default: as many as the release has).", least=1
    )
    distances: bool | None = option(
        None, "Frechet and kernel distance, precision, recall, density, coverage (default: on)."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.of_seeds:
            raise SfumatoError("--seeds 0: give at least 1")
        for name in self.classifiers:
            if name not in CLASSIFIERS:
                raise SfumatoError(f"--classifiers {name}: choose {', '.join(CLASSIFIERS)}")

    @property
    def of_seeds(self) -> tuple[int, ...]:
        """The seeds one by one."""
        return tuple(range(self.seeds) if isinstance(self.seeds, int) else self.seeds)

    @property
    def with_distances(self) -> bool:
        """Whether distances are computed."""
        return self.distances is not False


@dataclass(frozen=True)
class Matching(Options):
    """How near public bases are to private images: what is asked, and what it may cost."""

    panel = "Match"

    epsilon: float | None = option(None, "Privacy budget spent on the images.", above=0)
    delta: float | None = option(
        None, "Default: that of earlier charges on these images, else min(1e-5, n^-1.5).", above=0
    )
    relation: Literal["zero-out", "replace-one"] = option("zero-out", "Adjacency, as for `adapt`.")
    allow_doubtful_units: bool = option(False, "As for `adapt`; recorded in the ledger.")
    bases: Sequence[str] | None = option(
        None,
        "Candidate bases, names or folders (default: the bundled ones).",
        metavar="A,B,..",
        parse=parse.listed,
    )
    words: Sequence[str] | None = option(
        None,
        "Public words or prompts of the nearest base, of which each class's look-alikes are named.",
        metavar="A,B,..",
        parse=parse.names,
    )
    samples: int = option(300, "Pictures that each base draws of all that it knows.", least=10)
    sampler_steps: int = option(10, "Sampler steps for these pictures.", least=1)
    seed: int = option(0, "Public seed of the pictures.")


@dataclass(frozen=True)
class Selecting(Options):
    """A choice among runs: what is asked of the held-out units, and what it may cost them."""

    panel = "Selection"

    epsilon: float | None = option(None, "Privacy budget spent on the held-out units.", above=0)
    delta: float | None = option(
        None, "Default: that of earlier charges on these images, else min(1e-5, n^-1.5).", above=0
    )
    relation: Literal["zero-out", "replace-one"] = option("zero-out", "Adjacency, as for `adapt`.")
    allow_doubtful_units: bool = option(False, "As for `adapt`; recorded in the ledger.")
    classifier: Literal["logistic", "cnn", "resnet", "wrn"] = option(
        "cnn", "Classifier trained on each run's images."
    )
    steps: int | None = option(None, "Training steps of each classifier.", least=1)
    images: int = option(5000, "Images drawn from each run folder.", least=10)
    sampler_steps: int = option(10, "Sampler steps for these images.", least=1)
    seed: int = option(0, "Public seed of images and classifiers.")
