"""Everything but `apply` of a method that trains by DP-SGD."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import SfumatoError
from ..options import Execution, Privacy, Schedule, parse
from .given import Given
from .interface import Mechanisms, Method, Prepared, Rows, Timed, Work

if TYPE_CHECKING:
    import torch

    from ..bases import Base
    from ..privacy.plan import Plan
    from .adaptation import Adaptation
    from .pace import Pace
    from .workspace import Workspace

CLIP_NORM = 0.05  # of one unit, unless told otherwise
# Units and epsilon up to which one noisy mean of tokens was measured to teach more than steps do,
# with words that the base does not know; not at 10 (docs/results.md, "One token a class")
A_HANDFUL, AT_MOST = 500, 1.0


@dataclass(frozen=True)
class Trained(Method):
    """Poisson-sampled, clipped and noised steps on what `apply` makes trainable."""

    trains_captions = True
    takes_buckets = True

    @property
    def cannot_share(self) -> str:
        """Empty: the ranks of a step run in step."""
        return ""

    @abstractmethod
    def apply(self, base: Base, given: Given) -> Adaptation:
        """As `Method.apply`: what trains, and the loss per record."""
        ...

    def mechanisms(
        self,
        adapted: Adaptation,
        privacy: Privacy,
        asked: Schedule,
        schedule: Schedule,
        n_units: int,
    ) -> Mechanisms:
        """DP-SGD with the schedule as it is, and the clip of the privacy options."""
        clip_norm = CLIP_NORM if privacy.clip_norm is None else privacy.clip_norm
        shared = privacy.clipping.startswith("per-group")
        return Mechanisms(schedule, clip_norm, adapted.clip_group_count if shared else None)

    def one_pass(self, prepared: Prepared, rows: int) -> Callable[[], object]:
        """The clipped sum of dummy units with the plan's draws, about so many rows."""
        from .dpsgd import one_pass

        return one_pass(prepared, rows)

    def fit_to_memory(self, prepared: Prepared) -> Prepared:
        """The same with the microbatch decided by the memory budget."""
        from .dpsgd import fit_to_memory

        with prepared.base.seeing(prepared.base.largest):
            return fit_to_memory(prepared)

    def estimate(self, prepared: Prepared) -> Work:
        """Time and memory of training, measured on dummy records."""
        from .dpsgd import estimate

        with prepared.base.seeing(prepared.base.largest):
            return estimate(prepared)

    def pace(self, prepared: Prepared) -> Pace:
        """Of units, draws, steps, checkpoints and samples."""
        from .dpsgd import general_pace

        with prepared.base.seeing(prepared.base.largest):
            return general_pace(prepared)

    def in_time(
        self, prepared: Prepared, timed: Timed, seconds: float, asked: Schedule
    ) -> tuple[Method, Schedule]:
        """The schedule of steps that takes so long here."""
        from .dpsgd import in_time

        return self, in_time(prepared, timed, seconds, asked)

    def proposals(self, prepared: Prepared) -> list[str]:
        """One mean of tokens in place of many steps, where units are few."""
        plan, tokens = prepared.plan, prepared.adaptation.reads_prompts
        few = plan.n_units <= A_HANDFUL and plan.epsilon_target <= AT_MOST
        if not few or not tokens or self.learns_tokens or len(plan.classes) < 2:
            return []
        return [
            f"{plan.n_units:,} units are few for steps: --method inversion pays for one noisy mean"
            " of each class's token, which had 75 % on 500 digits at epsilon 1, where steps had 70"
        ]

    @classmethod
    def schedule_flags(cls, plan: Plan) -> str:
        """Steps, batch and draws as flags."""
        return (
            f"--steps {plan.steps} --expected-batch-size {plan.expected_batch_size:g}"
            f" --noise-draws {plan.noise_draws}"
        )

    @classmethod
    def mechanism_rows(cls, plan: Plan) -> Rows:
        """Sampling, clip and noise, for the table of a plan."""
        clip = (
            f"norm {plan.clip_norm:g}"
            if plan.gamma is None
            else f"normalised to 1, gamma {plan.gamma:g}"
        )
        if plan.clip_groups is None:
            clip += ", one per unit over all trainable numbers"
        else:
            clip += (
                f" in total: {plan.clip_groups} groups of {plan.clip().bounds[0]:.4g} each, a clip"
                " for every unit and group"
            )
        reserve = f" and {plan.retry_steps:,} in reserve for a new attempt"
        histogram = plan.histogram_noise_multiplier
        return [
            (
                "training",
                f"Poisson-sampled Gaussian, {plan.steps:,} steps"
                + (reserve if plan.retry_steps else ""),
            ),
            ("noise multiplier sigma", f"{plan.noise_multiplier:.4f}"),
            (
                "sampling rate q",
                f"{plan.sampling_rate:.6g} ({plan.expected_batch_size:g} of {plan.n_units:,} units"
                " a step, on average)",
            ),
            ("clip", clip),
            ("noise draws K", f"{plan.noise_draws} averaged inside the unit"),
            (
                "class histogram",
                "none: class shares are uniform or declared"
                if histogram is None
                else f"Gaussian, noise multiplier {histogram:g}",
            ),
        ]

    @classmethod
    def trains(cls, plan: Plan) -> str:
        """How much trains, in words."""
        return f"{plan.trainable:,} numbers"

    @classmethod
    def work_rows(cls, plan: Plan, estimate: Any, forecast: Any, time: str) -> Rows:
        """Method, trainable numbers, time, memory and signal, for the table of a plan."""
        signal = (
            estimate.signal_bound / estimate.noise_norm if estimate.noise_norm else float("inf")
        )
        rank = f", rank {plan.rank}" if plan.rank else ""
        return [
            ("method", f"{plan.method} on base {plan.base}{rank}"),
            ("trains", cls.trains(plan)),
            ("time here", time),
            ("memory here", f"about {estimate.peak_bytes / 2**30:.1f} GB"),
            ("noise norm a step", f"{parse.rounded(estimate.noise_norm, 4)} on the mean gradient"),
            (
                "signal norm a step",
                f"at most {parse.rounded(estimate.signal_bound, 4)}"
                f" (signal-to-noise at most {parse.rounded(signal)})",
            ),
        ]

    def check(self, prepared: Prepared, on_stage: Callable[[str], None]) -> None:
        """Checks the clipped sums against autograd on this machine."""
        from .checks import check_gradients

        check_gradients(prepared, on_stage)

    @classmethod
    def check_execution(cls, execution: Execution) -> None:
        """Refuses options of execution that only an inversion has."""
        if execution != Execution():
            raise SfumatoError(
                "--shard, --keep-inversions and --controls of adapt go with --method inversion"
            )

    def untrained(self, prepared: Prepared) -> Adaptation:
        """The adaptation as it starts."""
        from .prepared import prepare_again

        return prepare_again(self, prepared.plan, prepared.options, None, prepared.start).adaptation

    def scratch_bytes(self, prepared: Prepared, images: int) -> int:
        """Bytes of the checkpoints."""
        from .dpsgd import checkpoint_bytes

        return checkpoint_bytes(prepared.adaptation)

    def at_checkpoint(
        self, prepared: Prepared, tensors: dict[str, torch.Tensor], step: int
    ) -> Adaptation:
        """The averaged weights that a checkpoint holds."""
        from ..training import State

        adaptation = prepared.adaptation
        state = State(adaptation.trainable, adaptation.learning_rate_factor, prepared.recipe)
        state.restore(tensors, step)
        state.use_average()
        return adaptation

    def fit(self, prepared: Prepared, workspace: Workspace) -> Adaptation:
        """Trains by DP-SGD."""
        from .dpsgd import fit

        return fit(prepared, workspace)

    @classmethod
    def ended(cls, plan: Plan, noted: Callable[[type], Sequence[Any]]) -> bool:
        """Whether the last interval was begun and its checkpoint written, or the owner stopped."""
        from ..privacy.ledger.notes import CheckpointMade, Interval, Stopped

        if noted(Stopped):
            return True
        begun = any(note.interval[1] == plan.steps for note in noted(Interval))
        return begun and any(note.checkpoint == plan.steps for note in noted(CheckpointMade))

    @classmethod
    def require_resumable(cls, plan: Plan) -> None:
        """Refuses a plan without the integer grid, of an earlier version."""
        from ..training import require_grid

        require_grid(plan)
