"""DP-SGD after a warm-up on noisy class moments (DP-FETA: Gong et al., arXiv 2504.01395)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import isqrt
from typing import TYPE_CHECKING, Any, Literal

from ...errors import SfumatoError
from ...options import Privacy, Schedule, option
from ..interface import Mechanisms, Method, Prepared, Rows, Timed, Work
from ..trained import Trained

if TYPE_CHECKING:
    from ...bases import Base
    from ...privacy.mechanisms.moments import Moments
    from ...privacy.plan import Plan
    from ...privacy.random.keys import RunKey
    from ..adaptation import Adaptation
    from ..workspace import Workspace

# Most that a unit's small picture, and its residual from its class's mean, count: root mean square
# of their numbers. Of pixels, from -1 to 1, and of latents, whose variance is about 1.
PIXELS, LATENTS = (1.0, 0.45), (1.0, 0.7)
COUNTING = 0.25  # of the bound on a unit's first vector: the constant that counts its class
SIDE, NUMBERS = 14, 256  # of small pictures: most, unless they were asked for
# Plain steps unless they were asked for: of a model that draws, and of random numbers.
STEPS, FROM_NOTHING = 400, 1200


@dataclass(frozen=True)
class Warmed(Trained):
    """Options of a method that noisy class moments can warm up before DP-SGD."""

    warm_up: Literal["none", "means"] = option(
        "none",
        "means: noisy class moments of small pictures, paid in the same plan, train the model"
        " before DP-SGD.",
    )
    warm_up_share: float = option(
        0.1, "Rise of training's sigma that the class moments may cost.", above=0, most=1
    )
    warm_up_steps: int | None = option(
        None,
        f"Plain steps on what the class moments show (default: {STEPS}; on --base none"
        f" {FROM_NOTHING:,}).",
        least=1,
    )
    warm_up_size: int | None = option(
        None,
        "Side of the small pictures, in pixels or latents (default: 14, or what makes 256 numbers"
        " at most).",
        least=1,
    )
    warm_up_rounds: int = option(
        2, "1: class means alone; 2: and how the small pictures vary around them.", least=1, most=2
    )

    @property
    def cannot_share(self) -> str:
        """The plain steps of the warm-up need a whole base."""
        return "its warm-up trains a whole base" if self.warm_up == "means" else ""

    def mechanisms(
        self,
        adapted: Adaptation,
        privacy: Privacy,
        asked: Schedule,
        schedule: Schedule,
        n_units: int,
    ) -> Mechanisms:
        """DP-SGD, and the class moments before it."""
        found = super().mechanisms(adapted, privacy, asked, schedule, n_units)
        if self.warm_up == "none":
            self._require_nothing()
            return found
        moments = self.moments(adapted, n_units)
        return replace(found, moments=moments, moments_share=self.warm_up_share)

    def _require_nothing(self) -> None:
        for one in fields(Warmed):
            if one.name.startswith("warm_up_") and getattr(self, one.name) != one.default:
                flag = one.name.replace("_", "-")
                raise SfumatoError(f"--{flag} goes with --warm-up means: add that, or leave it out")

    def moments(self, adapted: Adaptation, n_units: int) -> Moments:
        """The noisy class moments that the plan is asked to pay for."""
        from ...privacy.mechanisms.moments import Moments
        from .pictures import plain_pixels
        from .release import size_of

        base, classes = adapted.base, adapted.classes
        if base.buckets:
            raise SfumatoError(
                "--buckets: --warm-up means adds up pictures of one size: leave one of the two out"
            )
        if n_units < classes:
            raise SfumatoError(
                f"--warm-up means: {n_units} units are fewer than the {classes} classes, so a class"
                " has no mean: bring more units, or leave --warm-up out"
            )
        height, width = size_of(base.latent_shape, self.side(base))
        numbers = base.latent_shape[0] * height * width
        most = PIXELS if plain_pixels(base) else LATENTS
        bounds = [share * numbers**0.5 for share in most[: self.warm_up_rounds]]
        bounds[0] /= (1 - COUNTING**2) ** 0.5  # room for the constant that counts
        even = (n_units / classes,) * classes
        try:
            return Moments(
                classes, numbers, self.warm_up_rounds, tuple(bounds), even, counting=COUNTING
            )
        except ValueError as error:
            raise SfumatoError(
                f"--warm-up means: {error}; give a smaller --warm-up-size"
            ) from error

    def used(self, adapted: Adaptation) -> dict[str, Any]:
        """Small pictures are no larger than what is seen; a resume makes as many plain steps."""
        said = super().used(adapted)
        size = {} if self.warm_up_size is None else {"warm_up_size": self.side(adapted.base)}
        warmed = self.warm_up == "means"
        steps = {"warm_up_steps": self.plain_steps(adapted.base)} if warmed else {}
        return said | size | steps

    def plain_steps(self, base: Base) -> int:
        """Of the warm-up: random numbers need more than a model that draws already."""
        from ...bases import scratch_name

        usual = FROM_NOTHING if scratch_name(base.name) else STEPS
        return self.warm_up_steps or usual

    def side(self, base: Base) -> int:
        """Of the small pictures."""
        if self.warm_up_size is not None:
            return min(self.warm_up_size, max(base.latent_shape[1:]))
        return min(SIDE, isqrt(NUMBERS // base.latent_shape[0]))

    def estimate(self, prepared: Prepared) -> Work:
        """Time and memory of training, with the passes of the warm-up."""
        from ..dpsgd import estimate

        return estimate(prepared, self._passes(prepared.base))

    def in_time(
        self, prepared: Prepared, timed: Timed, seconds: float, asked: Schedule
    ) -> tuple[Method, Schedule]:
        """The schedule that takes so long here, the warm-up included."""
        from ..dpsgd import in_time

        return self, in_time(prepared, timed, seconds, asked, self._passes(prepared.base))

    def _passes(self, base: Base) -> float:
        """Draws of units that take as long as the warm-up, at most."""
        from .fit import BATCH

        return 0.0 if self.warm_up == "none" else float(self.plain_steps(base) * BATCH)

    def remarks(self, prepared: Prepared) -> list[str]:
        """Remarks on training and on the class moments."""
        from .words import remarks

        return super().remarks(prepared) + remarks(prepared.plan)

    def proposals(self, prepared: Prepared) -> list[str]:
        """Also the warm-up itself, where it may be worth its share."""
        from .words import proposal

        base = prepared.base
        fits = not base.buckets and not prepared.performance.shard_base
        return super().proposals(prepared) + (proposal(prepared.plan) if fits else [])

    @classmethod
    def mechanism_rows(cls, plan: Plan) -> Rows:
        """Training and the class moments, for the table of a plan."""
        from .words import rows

        return super().mechanism_rows(plan) + rows(plan)

    def try_noise(self, plan: Plan, key: RunKey) -> None:
        """Draws the noise of the class moments on the sums of nobody."""
        import numpy as np

        from .release import add_noise_once

        super().try_noise(plan, key)
        if plan.moments is not None:
            nothing = np.zeros((plan.moments.classes, plan.moments.columns), np.int64)
            add_noise_once(plan.moments, 0, nothing, key, 0)

    def scratch_bytes(self, prepared: Prepared, images: int) -> int:
        """Bytes of the checkpoints, and of the class moments."""
        moments = prepared.plan.moments
        more = 0 if moments is None else 8 * moments.released
        return super().scratch_bytes(prepared, images) + more

    def fit(self, prepared: Prepared, workspace: Workspace) -> Adaptation:
        """Warms up, unless a checkpoint has been kept since, then trains by DP-SGD."""
        from .fit import warm_up

        if prepared.plan.moments is not None and workspace.checkpoint is None:
            base = prepared.base
            warm_up(prepared, workspace, self.side(base), self.plain_steps(base))
        return super().fit(prepared, workspace)

    @classmethod
    def require_retry(
        cls, plan: Plan, selected: Sequence[str] | None, moments: str | None = None
    ) -> None:
        """Refuses a paid retry of a run that stopped before its class moments were noted."""
        if plan.moments is not None and moments is None:
            raise SfumatoError(
                "the run stopped before its class moments were noted, and the retry reserve pays"
                " for training steps only: --resume without --new-attempt, or adapt into a new"
                " folder"
            )
