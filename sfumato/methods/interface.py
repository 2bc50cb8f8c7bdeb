"""A method: a frozen class of options that states its mechanisms and learns from private data.

No code outside this room checks which method it is. Most methods train by DP-SGD and extend
`trained.Trained`, which implements everything here but `apply`. The hooks are in the order in which
a run calls them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from ..errors import SfumatoError
from ..options import Execution, Options, Performance, Privacy, Prompting, Recipe, Schedule
from .given import LEARNING_RATE, Drawing, Given, PublicAnswers, PublicImages

if TYPE_CHECKING:
    import torch

    from ..bases import Base
    from ..compute.measure import Trial
    from ..privacy.ledger.public import PublicInput
    from ..privacy.mechanisms.histogram import VoteHistogram
    from ..privacy.mechanisms.mean import Aggregation
    from ..privacy.mechanisms.moments import Moments
    from ..privacy.mechanisms.votes import Probe
    from ..privacy.plan import Plan
    from ..privacy.random.keys import RunKey
    from .adaptation import Adapted
    from .workspace import Workspace

A = TypeVar("A", bound="Adapted")


@dataclass(frozen=True)
class Mechanisms:
    """What a method asks of private data; the plan calibrates its noise and pays for it.

    Attributes:
        schedule: Expected units per step, steps, and draws per unit.
        clip_norm: The most that a unit adds to a sum.
        clip_groups: How many groups of tensors share it, if it is shared.
        probe: A noisy ranking before training, for at most `probe_share` more training noise.
        aggregation: One noisy sum, in place of training.
        voting: A noisy histogram in every step, in place of training.
        moments: Noisy class moments before training, for at most `moments_share` more training
            noise.
    """

    schedule: Schedule
    clip_norm: float
    clip_groups: int | None = None
    probe: Probe | None = None
    probe_share: float = 0.02
    aggregation: Aggregation | None = None
    voting: VoteHistogram | None = None
    moments: Moments | None = None
    moments_share: float = 0.1


@dataclass(frozen=True)
class Prepared(Generic[A]):
    """A base with a method applied to it, and the plan that pays for what it will learn.

    Attributes:
        options: What the run keeps of its task, to be prepared again from.
        start: Public tensors that adapters or a geometry began with.
        public_inputs: What was taken as public beside the plan's own facts.
        ancestors: Runs that base and public images come from.
        timed: What this machine was measured to take, if the schedule was solved for a time.
        trials: Stage -> what a few dummy rows took in each number format, where they were timed.
    """

    method: Method
    base: Base
    adaptation: A
    plan: Plan
    recipe: Recipe
    performance: Performance
    options: dict[str, Any]
    start: dict[str, torch.Tensor] = field(default_factory=dict)
    public_inputs: tuple[PublicInput, ...] = ()
    ancestors: tuple[dict[str, Any], ...] = ()
    timed: Timed | None = None
    trials: Mapping[str, Trial] = field(default_factory=dict[str, "Trial"])


@dataclass(frozen=True)
class Timed:
    """What a schedule is solved for a time with.

    Attributes:
        pace: What `Method.pace` has measured.
        fixed: Seconds of a run that neither options nor schedule change.
    """

    pace: Any
    fixed: float


@dataclass(frozen=True)
class Work:
    """What a run will take on this machine: seconds, and bytes at its peak."""

    seconds: float
    peak_bytes: int


Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Method(Options):
    """One paper: its options are the fields, its algorithm the functions.

    Attributes:
        name: On the command line and in plans.
        learning_rate: Of Adam, unless set by the recipe.
        bears: Up to how much noise over the largest possible signal, of a whole run, that rate is
            proposed, and up to how much half of it; above, the proposal falls as the noise rises.
            None: that rate, whatever the noise.
        learns_tokens: Whether it learns tokens only.
        trains_captions: Whether it can learn from captions in place of the prompts of classes.
        takes_buckets: Whether it learns from pictures of several sizes.
        hands_over: What `export` writes: a token, a LoRA, or the model; or pictures, which only
            `synthesize` does.
        own_bound: The option that --clip-norm means, if the method bounds a unit by a rule of its
            own.
        takes_steps: Whether it pays for steps, billed and resumed one by one; otherwise an attempt
            is one noisy sum.
        learns_weights: Whether a checkpoint between its steps is a model, which draws samples.
        every_class: Whether it needs an image of every class.
        from_nothing: Whether it can learn from random numbers in place of a public base.
        compares: Whether its report shows tokens beside the released one (`controls`).
        less_noise: What would put less noise on the answer at the same epsilon, as advice.
        stages: What of a run has a number format of its own (`formats`).
        control_rows: Rows of an evaluation that it leaves in the run folder, by the folder inside
            `controls/`.
    """

    panel = "Method"
    name: ClassVar[str]
    learning_rate: ClassVar[float] = LEARNING_RATE
    bears: ClassVar[tuple[float, float] | None] = None
    learns_tokens: ClassVar[bool] = False
    trains_captions: ClassVar[bool] = False
    takes_buckets: ClassVar[bool] = False
    hands_over: ClassVar[str] = "model"
    own_bound: ClassVar[str | None] = None
    takes_steps: ClassVar[bool] = True
    learns_weights: ClassVar[bool] = True
    every_class: ClassVar[bool] = False
    from_nothing: ClassVar[bool] = False
    compares: ClassVar[bool] = False
    less_noise: ClassVar[str] = "train fewer numbers (--method lora or embedding)"
    stages: ClassVar[tuple[str, ...]] = ("encode", "train", "sample", "decode")
    control_rows: ClassVar[Mapping[str, str]] = {}
    # Where public images decide nothing: what --public-data is told.
    without_public: ClassVar[str] = (
        "--public-data is for --choose public and for --adapter-init public: add one, or leave it"
        " out"
    )

    @property
    def afterwards(self) -> str | None:
        """What is made of the answer at no cost, for the certificate; None for nothing."""
        return None

    @property
    def cannot_share(self) -> str:
        """Why its ranks cannot keep a share of the base each; empty if they can."""
        return "its ranks work at paces of their own"

    @abstractmethod
    def apply(self, base: Base, given: Given) -> Adapted:
        """Apply the method to a base: what trains, and the loss per record.

        Args:
            base: A public base; it is changed in place.
            given: Prompts, and what public images or a probe decided.

        Raises:
            SfumatoError: Options that do not fit each other, the base or the prompts.
        """

    # Before the plan: public images, and what is asked of private ones.

    @property
    def public_purposes(self) -> tuple[str, ...]:
        """What public images decide under these options, in words; empty, as here, for nothing."""
        return ()

    def public_answers(
        self,
        base: str,
        prompting: Prompting,
        seed: int,
        public: PublicImages,
        classes: tuple[str, ...],
        precision: str = "auto",
    ) -> PublicAnswers:
        """What public images decide; here nothing, so they are refused. Nothing is charged.

        Args:
            base: Name or folder of the base.
            prompting: Names and prompts of the classes.
            seed: Public.
            public: The images.
            classes: The private data's public list of classes.
            precision: As in `Performance`.

        Raises:
            SfumatoError: Options under which public images decide nothing, or no usable images.
        """
        raise SfumatoError(self.without_public)

    @abstractmethod
    def mechanisms(
        self,
        adapted: Any,
        privacy: Privacy,
        asked: Schedule,
        schedule: Schedule,
        n_units: int,
    ) -> Mechanisms:
        """What is asked of private data.

        Args:
            adapted: What `apply` returned.
            privacy: The promise and its bounds.
            asked: The schedule as it was asked for.
            schedule: The same with every field decided by data size and epsilon.
            n_units: How many units there are, which is public.

        Raises:
            SfumatoError: Options that this mechanism does not have.
        """

    def used(self, adapted: Any) -> dict[str, Any]:
        """Its options as they are kept and published: those given, as they act on this base."""
        return self.given()

    def selection(self, adapted: Any, scores: Sequence[float] | None) -> dict[str, Any] | None:
        """A certificate's entry about a choice of what trains that cost nothing; None without one.

        Args:
            adapted: What `apply` returned.
            scores: Of public images, if they decided.

        Returns:
            The entry, or None.
        """
        return None

    # The plan's estimate and remarks.

    def one_pass(self, prepared: Prepared[Any], rows: int) -> Callable[[], object]:
        """A pass of training over so many dummy rows, to be timed."""
        raise NotImplementedError  # for methods with the stage "train"

    @abstractmethod
    def fit_to_memory(self, prepared: Prepared[Any]) -> Prepared[Any]:
        """The same with the microbatch decided by the memory budget.

        From the model and public settings alone.

        Args:
            prepared: Plan, options and adaptation.

        Returns:
            The same, with options that fit.

        Raises:
            SfumatoError: A layer that the engine has no rule for.
        """

    @abstractmethod
    def estimate(self, prepared: Prepared[Any]) -> Work:
        """Time and memory on this machine, measured on dummy data; `prepared` fits to memory."""

    @abstractmethod
    def pace(self, prepared: Prepared[Any]) -> Any:
        """Seconds of a run's parts on this machine, measured on dummy data for `in_time`.

        Args:
            prepared: With the options and schedule of a run without a time; fits to memory.
        """

    @abstractmethod
    def in_time(
        self, prepared: Prepared[Any], timed: Timed, seconds: float, asked: Schedule
    ) -> tuple[Method, Schedule]:
        """Options and schedule with which a run takes about so long on this machine.

        What it returns then stands in the plan.

        Args:
            prepared: As for `pace`.
            timed: What was measured.
            seconds: The whole run's.
            asked: What the user fixed of the schedule.

        Raises:
            SfumatoError: Nothing is that short; the message says what would be.
        """

    @classmethod
    def schedule_flags(cls, plan: Plan) -> str | None:
        """The flags that fix a schedule which `in_time` solved; None if a plan does not tell."""
        return None

    def forecast(self, prepared: Prepared[Any]) -> Any:
        """The expected quality of the result, if it can be known beforehand; else None."""
        return None

    def remarks(self, prepared: Prepared[Any]) -> list[str]:
        """Warnings about a plan that is unlikely to work, from public numbers: one line each."""
        return []

    def proposals(self, prepared: Prepared[Any]) -> list[str]:
        """Options that may make more of a plan, from public numbers: one line each."""
        return []

    @classmethod
    @abstractmethod
    def mechanism_rows(cls, plan: Plan) -> Rows:
        """The plan's mechanisms in words: (name, value) each."""

    @classmethod
    @abstractmethod
    def work_rows(cls, plan: Plan, estimate: Any, forecast: Any, time: str) -> Rows:
        """What is learnt, time and memory, and signal beside noise, in words.

        Args:
            plan: The plan.
            estimate: `planning.estimate.Estimate`.
            forecast: What `forecast` returned.
            time: The estimate's seconds in words.
        """

    # Before the charge: all that can fail is tried.

    @abstractmethod
    def check(self, prepared: Prepared[Any], on_stage: Callable[[str], None]) -> None:
        """Checks on dummy data what the proof assumes of this machine.

        Raises:
            SfumatoError: A base, an option or a machine for which the guarantee would not hold.
        """

    @classmethod
    def check_execution(cls, execution: Execution) -> None:
        """SfumatoError for options of execution that the method has no use for."""

    def trial_selection(self, prepared: Prepared[Any]) -> dict[str, Any] | None:
        """A placeholder for the choice that only the run's own probe can make.

        Args:
            prepared: Plan, options and adaptation.

        Returns:
            The entry, or None without a probe.
        """
        return None

    def try_noise(self, plan: Plan, key: RunKey) -> None:
        """Draws the noise of the one-shot queries, on zero sums and with a throw-away key."""

    @abstractmethod
    def untrained(self, prepared: Prepared[Any]) -> Adapted:
        """What would be saved if nothing were learnt.

        An adaptation of its own, since saving may change the base.
        """

    @abstractmethod
    def scratch_bytes(self, prepared: Prepared[Any], images: int) -> int:
        """The most that the method keeps on disk beside cached latents and the model, in bytes."""

    # The run.

    @abstractmethod
    def fit(self, prepared: Prepared[Any], workspace: Workspace) -> Adapted | None:
        """Learn from the private data, by the plan's mechanisms alone.

        Args:
            prepared: What was planned; not changed, except for the tensors that train.
            workspace: What of the run may be touched.

        Returns:
            What was learnt, whose `save` writes what may leave; None if there is more to do
            before anything can be saved (one of several shards).

        Raises:
            Interrupted: It was stopped, or the device failed; a resume goes on.
        """

    def at_checkpoint(
        self, prepared: Prepared[Any], tensors: dict[str, torch.Tensor], step: int
    ) -> Adapted:
        """What a checkpoint of a step leaves, where the owner finishes there.

        Args:
            prepared: What was planned.
            tensors: Of the checkpoint.
            step: Its step.

        Raises:
            SfumatoError: A checkpoint of this method leaves nothing.
        """
        raise SfumatoError(
            f"--finish-here: --method {self.name} trains no model that an earlier step could"
            " leave: go on with --resume"
        )

    @classmethod
    @abstractmethod
    def ended(cls, plan: Plan, noted: Callable[[type], Sequence[Any]]) -> bool:
        """Whether an attempt's last step was begun and ended, by its notes in the ledger.

        Args:
            plan: The run's plan.
            noted: The attempt's notes of one sort (`privacy.ledger.notes`).
        """

    @classmethod
    def require_resumable(cls, plan: Plan) -> None:
        """SfumatoError for a run that cannot go on, replay or not."""

    @classmethod
    def require_retry(
        cls, plan: Plan, selected: Sequence[str] | None, moments: str | None = None
    ) -> None:
        """SfumatoError if a new attempt would ask for what the retry reserve does not pay.

        Args:
            plan: The run's plan.
            selected: What its probe has chosen; None before it has.
            moments: Hash of its class moments; None before the ledger knows them.
        """

    # Afterwards: what is shown beside the answer.

    def report_controls(
        self, prepared: Prepared[Any], model: Path, drawing: Drawing | None = None
    ) -> dict[str, Any] | None:
        """Controls that a report shows beside what was learnt; None for nothing.

        From released and public numbers alone, so that they may be released.

        Args:
            prepared: From plan, options and public start alone.
            model: Folder of what was learnt.
            drawing: Which images to draw with each control, if any.

        Returns:
            The report's entry, or None.
        """
        return None

    @classmethod
    def clear(cls, folder: Path) -> None:
        """Removes from a run folder what is private and needed only while the run goes on."""

    @classmethod
    def exact_left(cls, folder: Path) -> list[str]:
        """The certificate's names of everything without noise that a run has left in its folder."""
        return []
