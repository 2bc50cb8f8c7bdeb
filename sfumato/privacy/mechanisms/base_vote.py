"""The vote for a base: one vote of each unit among public bases, counted once with noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from sfumato.privacy.mechanisms.bounded import is_positive

# Its address in the key schedule: a step that no round of votes, training or other query has.
STEP = (1 << 40) + 5
DIRECTIONS = 32
# How an image finds its base. A plan that names no rule was made when there was but the first.
NEAREST = "the nearest picture"
LIKELIEST = f"the likeliest Gaussian in {DIRECTIONS} main directions"
# The public space in which each rule compares pictures: under another name it is another question.
SPACES = {NEAREST: "pixels, 16 x 16", LIKELIEST: "grey of one contrast, 16 x 16"}


@dataclass(frozen=True)
class BaseVote:
    """One noisy histogram of all units' votes, which decides on what base a run trains.

    All of it is public. A unit votes, with norm 1 in all, for the base that each of its images
    finds by `rule` among the public pictures, in `features`.

    bases: candidates by name, with the hash of each in `digests`; pictures: how many public ones
    stand for each; noise_multiplier: noise sd / sensitivity; noise_before: the training noise
    multiplier that the plan would have without the vote. Both are None until a plan has set them.
    ValueError for fields that contradict each other.
    """

    bases: tuple[str, ...]
    digests: tuple[str, ...]
    pictures: int
    features: str
    noise_multiplier: float | None = None
    noise_before: float | None = None
    rule: str = NEAREST

    def __post_init__(self):
        texts = (*self.bases, *self.digests)
        if not all(isinstance(text, str) and text for text in texts):
            raise ValueError("the vote's bases and digests are texts")
        if len(self.bases) < 2 or len(set(self.bases)) < len(self.bases):
            raise ValueError("a vote is among at least two bases, each named once")
        if len(self.digests) != len(self.bases):
            raise ValueError("the vote has one digest for each base")
        own = self.pictures
        if isinstance(own, bool) or not isinstance(own, int) or own < 1:
            raise ValueError("pictures must be an integer >= 1, as many for each base")
        if not isinstance(self.rule, str) or self.rule not in SPACES:
            raise ValueError("the vote's rule is none of this version: use the one that made it")
        if self.features != SPACES[self.rule]:
            raise ValueError(f"the vote's rule compares {SPACES[self.rule]}, and it says another")
        for value in (self.noise_multiplier, self.noise_before):
            if value is not None and not is_positive(value):
                raise ValueError("the vote's noise must be a finite number > 0")

    def best(self, votes: Sequence[float] | np.ndarray) -> int:
        """The number of the base with most noisy votes; of equals the first.

        Args:
            votes: One noisy number for each base.

        Returns:
            Its number; free post-processing.

        Raises:
            ValueError: Another number of votes.
        """
        if len(votes) != len(self.bases):
            raise ValueError("one noisy number for each base is needed")
        return int(np.argmax(votes))

    def to_json(self) -> dict[str, Any]:
        """A JSON object with one entry per field; without the first rule, as plans had none."""
        body = {**asdict(self), "bases": list(self.bases), "digests": list(self.digests)}
        return {k: v for k, v in body.items() if (k, v) != ("rule", NEAREST)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> BaseVote:
        """The inverse of `to_json`; ValueError for missing, unknown or contradictory fields."""
        known = {field.name for field in fields(cls)}
        if not isinstance(body, Mapping) or {*body, "rule"} != known:
            raise ValueError("this is not a vote for a base of this version: make the plan again")
        lists = {name: body[name] for name in ("bases", "digests")}
        if not all(isinstance(value, (list, tuple)) for value in lists.values()):
            raise ValueError("the vote's bases and digests must be lists")
        own: dict[str, Any] = {**body, **{name: tuple(value) for name, value in lists.items()}}
        return cls(**own)
