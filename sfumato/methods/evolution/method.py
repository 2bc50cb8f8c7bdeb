"""Private Evolution (Lin, Gopi, Kulkarni, Nori, Yekhanin, arXiv 2305.15560): nothing trains.

The public base draws a population; in each round every private unit votes for the nearest of it,
and what the noisy votes choose is varied by the base's own partial noising and denoising.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import SfumatoError
from ...options import Execution, Privacy, Schedule, option
from ...options.privacy import usual_delta
from ..given import Given
from ..interface import Mechanisms, Method, Prepared, Rows, Timed, Work

if TYPE_CHECKING:
    import torch

    from ...bases import Base
    from ...privacy.plan import Plan
    from ...privacy.random.keys import RunKey
    from ..workspace import Workspace
    from .adaptation import Evolving


@dataclass(frozen=True)
class Evolution(Method):
    """Private images vote, round by round, for the nearest of the public base's pictures.

    Nothing trains; the plan pays for all rounds before the first. A round's `candidates` are
    equally many for each class, and an image votes for its own class's alone. What has votes is
    resampled; the first place of a candidate keeps it, further ones vary it. The last population is
    public and is what `synthesize` writes.
    """

    name = "evolution"
    hands_over = "pictures"
    less_noise = "take fewer --candidates"
    learns_weights = False
    every_class = True
    stages = ("encode", "sample", "decode")
    without_public = (
        "--public-data decides nothing for --method evolution, whose candidates the base draws:"
        " leave it out"
    )

    iterations: int | None = option(None, "Rounds of votes (default 6).", least=1)
    candidates: int | None = option(
        None,
        "Candidates of a round, all classes together (default: by data size and epsilon, at most"
        " 2000).",
        least=2,
    )
    nearest: int = option(1, "Nearest candidates that one image votes for.", least=1)
    threshold: float = option(
        2.0, "Votes below so many standard deviations of the noise count as none.", least=0
    )
    variation: float = option(
        0.8,
        "Share of the sampler's steps that vary a candidate, first round.",
        above=0,
        most=1,
    )
    variation_end: float = option(0.4, "The same in the last round.", above=0, most=1)
    features: str = option(
        "latents",
        "Public feature space of the votes: latents (of the base's autoencoder), pixels, or a"
        " TorchScript file.",
        metavar="latents|pixels|FILE",
        path=True,
    )
    fine_tune: int | None = option(
        None,
        "Steps of training a LoRA of the base on the last population afterwards, which costs"
        " nothing; `export` writes it.",
        least=1,
    )

    @property
    def afterwards(self) -> str | None:
        """The fine-tuning on the last population, if it was asked for."""
        from .tuning import AFTERWARDS

        return None if self.fine_tune is None else AFTERWARDS.format(self.fine_tune)

    @property
    def cannot_share(self) -> str:
        """Its processes share the pictures to draw, each with the whole base."""
        return "its processes share the pictures, and each draws with the whole base"

    @property
    def rounds(self) -> int:
        """Rounds of votes."""
        from .cost import ROUNDS

        return ROUNDS if self.iterations is None else self.iterations

    def apply(self, base: Base, given: Given) -> Evolving:
        """Puts the class tokens at their public start; no weight trains."""
        import torch
        from torch import nn

        from ...bases import text_base
        from ..adaptation import save_tokens
        from .adaptation import Evolving
        from .spaces import space_of

        tokens = given.prompts.tokens
        if tokens:
            text_base(base).add_tokens(list(tokens), list(tokens.values()))
        space = space_of(base, self.features)
        made = Evolving(
            base,
            nn.ModuleDict({base.prefix: base.denoiser}),
            {},
            lambda folder: None,
            (),
            space=space,
            threshold=self.threshold,
            strengths=(self.variation, self.variation_end),
            classes=len(given.prompts.prompts),
            save_words=lambda folder: save_tokens(base, folder, given.prompts),
        )
        return made.with_population(torch.zeros(made.classes, *base.latent_shape), made.classes)

    def mechanisms(
        self,
        adapted: Evolving,
        privacy: Privacy,
        asked: Schedule,
        schedule: Schedule,
        n_units: int,
    ) -> Mechanisms:
        """A noisy histogram of all units' votes in every round."""
        from ...privacy.mechanisms.histogram import VoteHistogram
        from .cost import candidates_for

        if replace(asked, time=None).given():
            raise SfumatoError(
                "--method evolution has rounds of all units and no training steps: give"
                " --iterations, and leave --steps, --expected-batch-size and --noise-draws out"
            )
        if privacy.clip_norm is not None or privacy.clipping != "flat":
            raise SfumatoError(
                "--method evolution: a unit's votes have norm 1, so leave --clip-norm and"
                " --clipping out"
            )
        if n_units < (classes := adapted.classes):
            raise SfumatoError(
                f"--method evolution: {n_units} units are fewer than the {classes} classes, so one"
                " has no vote: bring more units, or declare fewer --classes"
            )
        delta = usual_delta(n_units) if privacy.delta is None else privacy.delta
        size = self.candidates
        if size is None:
            assert privacy.epsilon is not None  # a plan was asked for
            size = candidates_for(n_units, classes, self.rounds, privacy.epsilon, delta)
        if size // classes < 2:
            raise SfumatoError(
                f"--candidates {size}: {classes} classes need at least two each to choose among:"
                f" give {2 * classes} or more"
            )
        size -= size % classes  # equally many for each
        try:
            voting = VoteHistogram(size, classes, self.nearest, adapted.space.name)
        except ValueError as error:
            raise SfumatoError(f"--method evolution: {error}") from error
        return Mechanisms(Schedule(n_units, self.rounds, 1), 1.0, voting=voting)

    def fit_to_memory(self, prepared: Prepared) -> Prepared:
        """The same with a checkpoint after every round."""
        performance = replace(prepared.performance, checkpoint_steps=1)
        options = prepared.options | {"performance": asdict(performance)}
        return replace(prepared, performance=performance, options=options)

    def estimate(self, prepared: Prepared) -> Work:
        """Seconds of all rounds, measured on dummy pictures."""
        from .cost import estimate

        return estimate(prepared)

    def pace(self, prepared: Prepared) -> Any:
        """Seconds of a candidate and of an image, measured on dummy pictures."""
        from .cost import pace

        return pace(prepared)

    def in_time(
        self, prepared: Prepared, timed: Timed, seconds: float, asked: Schedule
    ) -> tuple[Method, Schedule]:
        """The same with as many candidates as the time allows, and never more than by default."""
        from .cost import candidates_in

        if self.candidates is not None:
            raise SfumatoError("--time decides --candidates: give one of the two")
        return replace(self, candidates=candidates_in(prepared, timed, seconds)), asked

    @classmethod
    def schedule_flags(cls, plan: Plan) -> str | None:
        """The flags that fix rounds and candidates."""
        assert plan.voting is not None  # an evolution's plan has one
        return f"--iterations {plan.steps} --candidates {plan.voting.candidates}"

    @classmethod
    def mechanism_rows(cls, plan: Plan) -> Rows:
        """The rounds of votes, for the table of a plan."""
        from .words import mechanism_rows

        return mechanism_rows(plan)

    @classmethod
    def work_rows(cls, plan: Plan, estimate: Any, forecast: Any, time: str) -> Rows:
        """Candidates, time, memory and votes, for the table of a plan."""
        from .words import work_rows

        return work_rows(plan, estimate, time)

    def check(self, prepared: Prepared, on_stage: Callable[[str], None]) -> None:
        """Checks on dummy pictures that no image changes another's features."""
        from ...compute.threads import use_threads
        from .spaces import require_alone

        voting, space = prepared.plan.voting, prepared.adaptation.space
        if voting is None or space.name != voting.features:
            raise SfumatoError(
                "--features: the file is not the one that this run was planned with: put it back"
            )
        on_stage("checking on dummy images that no image changes another")
        use_threads(prepared.performance.threads)
        require_alone(prepared.base, space)

    @classmethod
    def check_execution(cls, execution: Execution) -> None:
        """Refuses shards of several ranks, and options that only an inversion has."""
        from ...compute import ranks

        if ranks.world_size() > 1 and execution.shard is not None:
            raise SfumatoError("--shard: start it without torchrun, whose ranks share the work too")
        if replace(execution, shard=None) != Execution():
            raise SfumatoError(
                "--keep-inversions and --controls of adapt go with --method inversion"
            )

    def try_noise(self, plan: Plan, key: RunKey) -> None:
        """Draws a round's noise on votes of nobody."""
        import numpy as np

        from .voting import noisy_votes

        assert plan.voting is not None  # an evolution's plan has one
        nobody = np.full((1, plan.voting.votes), -1)
        owned = [np.arange(1)]
        noisy_votes(plan.voting, plan.noise_multiplier, nobody, owned, key, 0, 0)

    def untrained(self, prepared: Prepared) -> Evolving:
        """With a population of blanks, as many as there will be."""
        import torch

        from ..prepared import prepare_again
        from .fit import handed_over

        plan = prepared.plan
        assert plan.voting is not None
        again = prepare_again(self, plan, prepared.options, None, prepared.start)
        size = (plan.voting.candidates, *prepared.base.latent_shape)
        return handed_over(again, torch.zeros(size), trained=False)

    def scratch_bytes(self, prepared: Prepared, images: int) -> int:
        """Bytes of all images' features, and of the checkpoints."""
        from .cost import scratch_bytes

        return scratch_bytes(prepared, images)

    def at_checkpoint(
        self, prepared: Prepared, tensors: dict[str, torch.Tensor], step: int
    ) -> Evolving:
        """The population that a checkpoint holds."""
        from .fit import population_of

        return population_of(prepared, tensors)

    def fit(self, prepared: Prepared, workspace: Workspace) -> Evolving | None:
        """Runs the rounds."""
        from .fit import fit

        return fit(prepared, workspace)

    @classmethod
    def clear(cls, folder: Path) -> None:
        """Removes the features of private images, and what shards handed each other."""
        from .sharing import FOLDER as SHARES
        from .spaces import FOLDER

        for name in (FOLDER, SHARES):
            shutil.rmtree(folder / name, ignore_errors=True)

    @classmethod
    def ended(cls, plan: Plan, noted: Callable[[type], Sequence[Any]]) -> bool:
        """Whether the last round was begun and its candidates kept, or the owner stopped."""
        from ...privacy.ledger.notes import CheckpointMade, Interval, Stopped

        if noted(Stopped):
            return True
        begun = any(note.interval[1] == plan.steps for note in noted(Interval))
        return begun and any(note.checkpoint == plan.steps for note in noted(CheckpointMade))
