"""The saliency probe: one unit's scores of the weight matrices, as integers of bounded norm.

DP-SAPF (arXiv 2605.30312), with a bound that holds for the numbers as they are computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from sfumato.privacy.mechanisms.bounded import is_positive

if TYPE_CHECKING:
    import torch

SCORES = ("votes", "squares")
VOTE = 1 << 10  # grid units of one vote
SQUARE = 1 << 20  # grid units of the bound on a unit's squares
# The probe's address in the key schedule: a step that training never has, so its sample and draws
# are its own.
STEP = 1 << 40


@dataclass(frozen=True)
class Probe:
    """One noisy ranking of `groups` of matrices, of which the `keep` best are trained.

    All of it is public.

    score: "votes" (a unit names its `votes` groups of largest gradient norm) or "squares" (squared
    gradient norm per group of the unit's gradient over all groups together, scaled to norm 1, or
    with `clip_norm` C_s clipped to it). per_size: norms are divided by the root of a group's size
    first. expected_batch_size: mean of the Poisson sample, n_units for all units. noise_draws: K,
    averaged before anything else. noise_multiplier: noise sd / sensitivity; noise_before: the
    training noise multiplier that the plan would have without the probe. Both are None until a plan
    has set them. ValueError for bad fields.
    """

    groups: tuple[str, ...]
    keep: int
    score: str
    votes: int | None
    clip_norm: float | None
    per_size: bool
    expected_batch_size: float
    noise_draws: int
    noise_multiplier: float | None = None
    noise_before: float | None = None

    def __post_init__(self):
        if self.score not in SCORES:
            raise ValueError(f"unknown probe score: use one of {', '.join(SCORES)}")
        if len(set(self.groups)) != len(self.groups) or not all(
            isinstance(name, str) for name in self.groups
        ):
            raise ValueError("the probe's groups are texts, each once: name every matrix in full")
        if not _is_count(self.keep) or not self.keep < len(self.groups):
            raise ValueError(
                f"a probe keeps between 1 and {len(self.groups) - 1} of its groups: keeping all"
                " needs none"
            )
        if (self.votes is None) != (self.score == "squares"):
            raise ValueError("votes belong to the score 'votes', which needs their number")
        if self.votes is not None and not (_is_count(self.votes) and self.votes < len(self.groups)):
            raise ValueError("a unit votes for at least one group and not for all")
        if self.clip_norm is not None and (
            self.score != "squares" or not is_positive(self.clip_norm)
        ):
            raise ValueError(
                "the probe's clip norm belongs to the score 'squares' and is a finite number > 0"
            )
        if not _is_count(self.noise_draws) or not isinstance(self.per_size, bool):
            raise ValueError("the probe averages at least one draw")
        for name in ("expected_batch_size", "noise_multiplier", "noise_before"):
            value = getattr(self, name)
            if not (is_positive(value) or (value is None and name != "expected_batch_size")):
                raise ValueError(f"the probe's {name} must be a finite number > 0")

    @property
    def sensitivity(self) -> float:
        """L2 bound on one unit's scores under zero-out.

        sqrt(votes), or C_s^2 (1 when normalised), never C_s.
        """
        return (self.clip_norm or 1.0) ** 2 if self.votes is None else math.sqrt(self.votes)

    @property
    def grid(self) -> float:
        """The score that one grid unit stands for."""
        return 1 / VOTE if self.score == "votes" else self.sensitivity / SQUARE

    @property
    def noise_stddev(self) -> int:
        """Standard deviation of the noise on the summed scores, in grid units.

        Rounded up, exactly: no float product is rounded on the way.

        Raises:
            ValueError: The probe has no noise multiplier yet.
        """
        if self.noise_multiplier is None:
            raise ValueError("the probe has no noise yet: make the plan first")
        square = SQUARE**2 if self.votes is None else self.votes * VOTE**2
        return math.isqrt(math.ceil(Fraction(self.noise_multiplier) ** 2 * square) - 1) + 1

    def unit_scores(self, squares: torch.Tensor) -> torch.Tensor:
        """Each unit's scores, every row's L2 norm <= sensitivity / grid.

        The bound holds whatever the numbers are: votes are counted, and shares are made from the
        very squares they are shares of and rounded towards zero, so that their sum is at most the
        bound and their L2 norm at most their sum. A unit whose squares are not finite, negative, or
        all zero adds exactly zero.

        Args:
            squares: Squared gradient norms [B, M] of B units and M matrices.

        Returns:
            int64 [B, M] in grid units.
        """
        import torch  # here: whoever only prices or verifies a plan starts without it

        squares = squares.detach().to(torch.float64)
        total = squares.sum(1, keepdim=True)
        sound = torch.isfinite(total) & (total > 0) & (squares >= 0).all(1, keepdim=True)
        squares = torch.where(sound, squares, 0.0)
        if self.score == "votes":
            # stable: equal norms are told apart by the group's place, so exactly `votes` groups are
            # named
            named = torch.argsort(squares, dim=1, descending=True, stable=True)[:, : self.votes]
            return torch.zeros_like(squares, dtype=torch.int64).scatter_(1, named, VOTE) * (
                squares > 0
            )
        bound = total if self.clip_norm is None else total.clamp_min(self.clip_norm**2)
        return (squares / torch.where(sound, bound, 1.0) * SQUARE).floor().to(torch.int64)

    def best(self, scores: list[float]) -> tuple[str, ...]:
        """The `keep` groups of highest score; post-processing of noisy scores.

        Args:
            scores: One noisy score per group.

        Returns:
            Names in the order of `groups`; ties go to the earlier group.

        Raises:
            ValueError: Another number of scores.
        """
        if len(scores) != len(self.groups):
            raise ValueError("one score per group is needed")
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[: self.keep]
        return tuple(self.groups[i] for i in sorted(order))

    def to_json(self) -> dict[str, Any]:
        """A JSON object with one entry per field."""
        return {**asdict(self), "groups": list(self.groups)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Probe:
        """The inverse of `to_json`; ValueError for missing, unknown or contradictory fields."""
        if not isinstance(body, Mapping) or set(body) != {field.name for field in fields(cls)}:
            raise ValueError("this is not a probe of this version: make the plan again")
        groups: Any = body["groups"]
        if not isinstance(groups, (list, tuple)):
            raise ValueError("the probe's groups must be a list")
        own: dict[str, Any] = {**body, "groups": tuple(cast(Sequence[str], groups))}
        return cls(**own)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
