"""DP-SAPF: adapters on the matrices a probe ranks highest (Gong et al., arXiv 2605.30312).

The probe is private.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

from ...errors import SfumatoError
from ...options import Privacy, Schedule, option, parse
from ..given import Given
from ..interface import Mechanisms, Method, Prepared, Rows, Timed, Work
from ..low_rank import LowRank

if TYPE_CHECKING:
    from ...bases import Base
    from ...privacy.mechanisms.votes import Probe
    from ...privacy.plan import Plan
    from ...privacy.random.keys import RunKey
    from ..adaptation import Adaptation
    from ..public import PublicLook
    from ..workspace import Workspace
    from .adaptation import Ranked


@dataclass(frozen=True)
class Saliency(LowRank):
    """LoRA on the best `keep` of the candidates, alone, by layer or by block (section 4).

    The candidates are `target_modules`. choose "private" asks the plan for a probe
    (`privacy.mechanisms.votes.Probe`) on `probe_units` expected units with `probe_draws` draws
    each, whose noise is `probe_noise` or whatever `probe_share` pays for; "random" draws from the
    public seed. Until a choice has been made, by the probe or on public data (`Given.selected`),
    all candidates are adapted. Saves what `lora` saves.
    """

    name = "saliency"
    takes_buckets = False

    rank: int = option(4, "Rank of the adapters.", least=1)
    keep: float | int = option(
        0.3, "Ratio or count of the candidates that trains.", metavar="0.3|38",
        parse=parse.ratio_or_count,
    )  # fmt: skip
    choose: Literal["private", "public", "random"] = option(
        "private", "By a paid probe (default), by --public-data, or by chance."
    )
    granularity: Literal["matrix", "layer", "block"] = option("matrix", "What is chosen as one.")
    score: Literal["votes", "squares"] = option(
        "votes", "What a unit contributes (default: votes for its best)."
    )
    votes: int | None = option(None, "Votes of a unit (default: as many as train).", least=1)
    probe_clip: float | None = option(
        None, "squares: clip to this norm (default: scale to norm 1)."
    )
    per_size: bool = option(False, "Divide norms by the root of a matrix's size.")
    probe_units: int = option(4096, "Poisson mean of units asked (default 4096, or all).", least=1)
    probe_draws: int = option(4, "Draws averaged per unit.", least=1)
    probe_share: float = option(0.02, "Rise of training's sigma that the probe may cost.", above=0)
    probe_noise: float | None = option(None, "Or its noise multiplier.", metavar="SIGMA", above=0)

    @property
    def cannot_share(self) -> str:
        """The probe's ranks ask as many units as each has."""
        private = self.choose == "private"
        return "its probe's ranks work at paces of their own" if private else ""

    def apply(self, base: Base, given: Given) -> Ranked:
        """Adds LoRA to the chosen candidates, or to all of them before the choice."""
        import torch

        from ..targets import grouped, how_many, matching_modules
        from .adaptation import Ranked

        candidates = matching_modules(base, self.target_modules)
        groups = grouped(base, candidates, self.granularity)
        count, probe, selected = how_many(self.keep, len(groups)), None, given.selected
        if selected is None and count < len(groups):
            if self.choose == "public":
                raise SfumatoError(
                    "--choose public needs --public-data, images that may be ranked by for free"
                )
            if self.choose == "random":
                drawn = torch.randperm(len(groups))[:count].sort().values
                selected = [list(groups)[i] for i in drawn]
            else:
                probe = self.probe(tuple(groups), count)
        if selected is not None and (len(selected) != count or not set(selected) <= set(groups)):
            raise SfumatoError(
                "the selection does not fit the candidates: it belongs to another base or other"
                " options"
            )
        chosen = [
            m for m in candidates if selected is None or any(m in groups[g] for g in selected)
        ]
        adapted = self.adapters(base, given, chosen)
        as_it_is = {one.name: getattr(adapted, one.name) for one in fields(adapted)}
        return Ranked(**as_it_is, groups=groups, probe=probe)

    def probe(self, groups: tuple[str, ...], count: int) -> Probe:
        """The noisy ranking of `groups` that the plan is asked to pay for."""
        from ...privacy.mechanisms.votes import Probe

        try:
            return Probe(
                groups,
                count,
                self.score,
                self.votes or (count if self.score == "votes" else None),
                self.probe_clip,
                self.per_size,
                float(self.probe_units),
                self.probe_draws,
                self.probe_noise,
            )
        except ValueError as error:
            raise SfumatoError(f"--method saliency: {error}") from error

    # Public images may choose.

    @property
    def public_purposes(self) -> tuple[str, ...]:
        """Public images may decide which matrices train and how the adapters start."""
        chosen = ("which matrices train",) if self.choose == "public" else ()
        return (*chosen, *super().public_purposes)

    def undecided(self) -> LowRank:
        """The options without what public images decide: all candidates, a Gaussian start."""
        plain = super().undecided()
        return replace(plain, choose="private") if self.choose == "public" else plain

    def candidates(self, draft: Ranked) -> list[str]:
        """Full names of all candidate matrices."""
        return [matrix for members in draft.groups.values() for matrix in members]

    def choice(
        self, draft: Ranked, look: PublicLook
    ) -> tuple[list[str] | None, list[float] | None]:
        """The groups that public images rank highest, and the scores."""
        from .probe import by_group

        if self.choose != "public":
            return None, None
        if draft.probe is None:
            raise SfumatoError(
                "--choose public: all candidates are kept, so there is nothing to choose"
            )
        squares = by_group(look.squares, look.sizes, draft.groups, draft.probe)
        total = draft.probe.unit_scores(squares).sum(0)
        scores = [float(value) * draft.probe.grid for value in total]
        return list(draft.probe.best(total.tolist())), scores

    def selection(self, adapted: Ranked, scores: Sequence[float] | None) -> dict | None:
        """The certificate's entry about a choice without a probe."""
        if adapted.probe is not None:
            return None
        chosen = [name for name, members in adapted.groups.items() if members[0] in adapted.targets]
        return {
            "how": "all" if len(chosen) == len(adapted.groups) else self.choose,
            "groups": list(adapted.groups),
            "selected": chosen,
            "scores": scores and list(scores),
        }

    # The probe: planned, priced in time, tried, asked.

    def mechanisms(
        self,
        adapted: Ranked,
        privacy: Privacy,
        asked: Schedule,
        schedule: Schedule,
        n_units: int,
    ) -> Mechanisms:
        """DP-SGD, and the probe before it if the choice is private."""
        found, probe = super().mechanisms(adapted, privacy, asked, schedule, n_units), adapted.probe
        if probe is not None:
            units = min(probe.expected_batch_size, float(n_units))
            probe = replace(probe, expected_batch_size=units)
        return replace(found, probe=probe, probe_share=self.probe_share)

    def estimate(self, prepared: Prepared) -> Work:
        """Time and memory of training, with the probe's passes."""
        from ..dpsgd import estimate

        return estimate(prepared, _draws_of_the_probe(prepared))

    def in_time(
        self, prepared: Prepared, timed: Timed, seconds: float, asked: Schedule
    ) -> tuple[Method, Schedule]:
        """The schedule that takes so long here, the probe included."""
        from ..dpsgd import in_time

        return self, in_time(prepared, timed, seconds, asked, _draws_of_the_probe(prepared))

    def remarks(self, prepared: Prepared) -> list[str]:
        """Remarks on training and on the probe."""
        from .words import remarks

        return super().remarks(prepared) + remarks(prepared.plan)

    @classmethod
    def mechanism_rows(cls, plan: Plan) -> Rows:
        """Training and the probe, for the table of a plan."""
        from .words import rows

        return super().mechanism_rows(plan) + rows(plan)

    @classmethod
    def trains(cls, plan: Plan) -> str:
        """How many numbers train: at most so many before the probe has chosen."""
        return ("" if plan.probe is None else "at most ") + super().trains(plan)

    def check(self, prepared: Prepared, on_stage: Callable[[str], None]) -> None:
        """Checks the clipped sums and, with a probe, the scores against autograd."""
        from ..checks import check_gradients
        from .probe import check_scores

        asks = prepared.plan.probe is not None
        check_gradients(prepared, on_stage, *([check_scores] if asks else []))

    def trial_selection(self, prepared: Prepared) -> dict | None:
        """A choice by zero scores in place of the probe's."""
        probe = prepared.plan.probe
        if probe is None:
            return None
        scores = [0.0] * len(probe.groups)
        return {
            "how": "private",
            "groups": list(probe.groups),
            "selected": list(probe.best(scores)),
            "scores": scores,
            "targets": list(prepared.adaptation.targets),
            "trainable": prepared.plan.trainable,
        }

    def try_noise(self, plan: Plan, key: RunKey) -> None:
        """Draws the probe's noise on zero scores."""
        import torch

        from .probe import release_scores

        if plan.probe is not None:
            nothing = torch.zeros(len(plan.probe.groups), dtype=torch.int64)
            release_scores(plan.probe, nothing, key, 0)

    def untrained(self, prepared: Prepared) -> Ranked:
        """An adaptation of as many groups as the probe keeps, not trained."""
        from ..prepared import prepare_again

        plan = prepared.plan
        chosen = plan.probe and plan.probe.best([0.0] * len(plan.probe.groups))
        return prepare_again(self, plan, prepared.options, chosen, prepared.start).adaptation

    def fit(self, prepared: Prepared, workspace: Workspace) -> Adaptation:
        """Runs the probe, unless its result was recorded, then trains."""
        from .probe import choose_matrices

        if prepared.plan.probe is not None and workspace.selected is None:
            workspace.on_stage("probing which matrices matter")
            prepared = choose_matrices(prepared, workspace)
            # Other tensors train than those that were checked before the charge: the engine sees
            # the layout of their rows on dummy records, too, and not on the first private ones.
            units = min(2, prepared.performance.micro_batch or 1)
            self.one_pass(prepared, units * prepared.plan.noise_draws)()
        return super().fit(prepared, workspace)

    @classmethod
    def require_retry(
        cls, plan: Plan, selected: Sequence[str] | None, moments: str | None = None
    ) -> None:
        """Refuses a paid retry of a run that stopped before its probe was recorded."""
        if plan.probe is not None and selected is None:
            raise SfumatoError(
                "the run stopped before its probe was recorded, and the retry reserve pays for"
                " training steps only: --resume without --new-attempt, or adapt into a new folder"
            )


def _draws_of_the_probe(prepared: Prepared) -> float:
    probe = prepared.plan.probe
    return 0.0 if probe is None else probe.expected_batch_size * probe.noise_draws
