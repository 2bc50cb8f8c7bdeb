"""DPAgg-TI: the noisy mean of images' embeddings (Peetathawatchai et al., arXiv 2411.14639).

Every image is inverted alone; the mean becomes a token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...errors import SfumatoError
from ...options import Privacy, Prompting, Schedule, option
from ..given import Drawing, Given, PublicAnswers, PublicImages
from ..interface import Mechanisms, Method, Prepared, Rows, Timed, Work

if TYPE_CHECKING:
    from ...bases import Base, TextBase
    from ...privacy.plan import Plan
    from ..workspace import Workspace
    from .adaptation import Inverting
    from .advisor import Forecast
    from .batch import InversionRecipe
    from .geometry import Geometry

# axes of the vocabulary for one vector: fewer would cut off what no public image speaks for
DIMENSIONS = 64


@dataclass(frozen=True)
class Inversion(Method):
    """Learns `num_vectors` token vectors for every image alone, and releases their noisy mean.

    Nothing trains in a loop; the plan pays for one sum. An image's own embedding is searched in the
    whole space. aggregate: "clip" (residuals from the public anchor in a public subspace of
    `dimensions`, at most `radius` long, shrunk afterwards with public axes) or "unit" (the paper's:
    unit norm in the whole space, as they are). subspace: "vocabulary" (principal axes of the base's
    words), "public" (what `Given.start` holds, from images that need no protection) or "none" (all
    axes). Saves `learned_embeds.safetensors`, one token for each class.
    """

    name = "inversion"
    learns_tokens = True
    hands_over = "token"
    own_bound = "radius"
    less_noise = "use fewer --dimensions"
    takes_steps = False
    learns_weights = False
    stages = ("encode", "invert", "sample", "decode")
    compares = True
    control_rows = {
        "public_only": "anchor",
        "noise_only": "noise-only",
        "one_image": "one-image",
        "non_private": "non-private",
    }

    num_vectors: int = option(1, "Vectors of one token.", least=1)
    aggregate: Literal["clip", "unit"] = option(
        "clip", "Residuals from the anchor, clipped (default), or unit vectors, as the paper does."
    )
    subspace: Literal["vocabulary", "public", "none"] | None = option(
        None,
        "Axes of what is learned: the base's words (default), or those of --public-data.",
    )
    dimensions: int | None = option(
        None, "How many axes (default 64 a vector, of public images 32).", least=1
    )
    radius: float | None = option(
        None, "Clip norm of a residual (default: from public words or images); = --clip-norm."
    )
    shrink: bool | None = option(
        None, "Take known noise off (default: with axes of --public-data)."
    )
    inversion_steps: int | None = option(None, "Steps of one image, at most (default 80).", least=1)
    inversion_draws: int | None = option(None, "Draws of one step (default 4).", least=1)

    def apply(self, base: Base, given: Given) -> Inverting:
        """Prepares tokens, geometry and the inverter; no base weight trains."""
        from torch import nn

        from ...bases import check_placeholders, save_embeds, text_base
        from .adaptation import Inverting
        from .batch import Inverter
        from .geometry import whole_space

        words = tuple(given.prompts.tokens)
        if not words:
            raise SfumatoError(
                "--method inversion puts a token in place of {class}: leave --no-embedder out"
            )
        subspace, taught = self.subspace_for(given), text_base(base)
        check_placeholders(taught, words)
        geometry = self.geometry(taught, given, subspace)
        space = whole_space(taught, geometry.anchor, self.num_vectors)
        inverter = Inverter(taught, given.prompts.prompts, words, space, self.recipe())
        anchor = geometry.anchor.view(len(words), self.num_vectors, -1)
        return Inverting(
            base,
            nn.ModuleDict({base.prefix: base.denoiser}),
            {},
            lambda folder: save_embeds(folder, dict(zip(words, anchor)), taught.token_parts),
            (),
            reads_prompts=True,
            inverter=inverter,
            geometry=geometry,
            placeholders=words,
            rule=self.aggregate,
            subspace=subspace,
            shrink=subspace == "public" if self.shrink is None else self.shrink,
        )

    def recipe(self) -> InversionRecipe:
        """How one image is inverted."""
        from .batch import InversionRecipe

        asked: dict[str, Any] = {"steps": self.inversion_steps, "draws": self.inversion_draws}
        return InversionRecipe(**{k: v for k, v in asked.items() if v is not None})

    def subspace_for(self, given: Given) -> str:
        """The subspace that was asked for or follows; SfumatoError for options that contradict."""
        unit = self.aggregate == "unit"
        subspace = self.subspace or ("none" if unit else "public" if given.start else "vocabulary")
        if unit and (subspace != "none" or self.dimensions or self.shrink):
            raise SfumatoError(
                "--aggregate unit is the paper's recipe: the whole space, no subspace, no shrinkage"
            )
        if subspace == "public" and not given.start:
            raise SfumatoError(
                "--subspace public needs --public-data, images that may be looked at for free"
            )
        if self.radius is not None and not self.radius > 0:
            raise SfumatoError("--num-vectors is at least 1, and a clip norm is above 0")
        return subspace

    def geometry(self, base: TextBase, given: Given, subspace: str) -> Geometry:
        """Anchor, axes and radius, from the vocabulary or from what public images left."""
        from .geometry import Geometry, from_vocabulary

        width, words = base.word_vectors.shape[1], given.prompts.placeholders
        if subspace == "public":
            assert given.start is not None  # `subspace_for` has asked for it
            found = Geometry.from_tensors(given.start, self.num_vectors)
            if found.basis.shape[0] != self.num_vectors * width or len(found.anchor) != len(words):
                raise SfumatoError(
                    "the public geometry belongs to another base, other classes or another"
                    " --num-vectors"
                )
            return found
        most = self.num_vectors * min(DIMENSIONS, width)
        axes = None if subspace == "none" else self.dimensions or most
        initializers = given.prompts.initializers
        return from_vocabulary(base, initializers, self.num_vectors, axes, self.radius)

    @property
    def public_purposes(self) -> tuple[str, ...]:
        """Public images may decide the anchor, the axes and the radius."""
        return ("the anchor, the axes and the radius of the inversion",)

    def public_answers(
        self,
        base: str,
        prompting: Prompting,
        seed: int,
        public: PublicImages,
        classes: tuple[str, ...],
        precision: str = "auto",
    ) -> PublicAnswers:
        """A geometry learned from public images, whose classes are kinds of style."""
        from ...bases import load_base, text_base
        from ..formats import choose_for_base
        from ..prompts import TOKEN, choose_prompts
        from .public import public_geometry

        if self.subspace not in (None, "public") or self.aggregate != "clip":
            raise SfumatoError("--public-data is for --subspace public: leave one of the two out")
        if not public.usable.any():
            raise SfumatoError("--public-data holds no usable image")
        opened = load_base(base)
        init = dict.fromkeys(classes, prompting.initializer) if prompting.initializer else None
        prompts = choose_prompts(
            opened,
            classes,
            prompt=prompting.prompt,
            init=init or prompting.init,
            embedder=True,
            placeholder=prompting.placeholder or TOKEN,
        )
        choose_for_base(opened, prompts.started, precision, "encode", "invert")
        geometry = public_geometry(
            text_base(opened),
            public,
            prompts,
            self.num_vectors,
            self.recipe(),
            dimensions=self.dimensions,
            radius=self.radius,
            seed=seed,
        )
        return PublicAnswers(geometry.tensors())

    def mechanisms(
        self,
        adapted: Inverting,
        privacy: Privacy,
        asked: Schedule,
        schedule: Schedule,
        n_units: int,
    ) -> Mechanisms:
        """One noisy sum of all units' embeddings, or of a sample's."""
        steps = asked.steps or asked.noise_draws or privacy.retry_fraction
        if steps or privacy.clipping != "flat":
            raise SfumatoError(
                "--method inversion has no training steps: --inversion-steps and --inversion-draws"
                " say how one image is inverted"
            )
        units = asked.expected_batch_size or n_units
        once = Schedule(units, 1, adapted.inverter.recipe.draws)
        return Mechanisms(once, adapted.clip_norm, aggregation=adapted.aggregation(float(units)))

    def fit_to_memory(self, prepared: Prepared) -> Prepared:
        """The same with the rows of a chunk decided by the memory budget."""
        from .cost import fit_rows

        return fit_rows(prepared)

    def estimate(self, prepared: Prepared) -> Work:
        """Seconds of inverting all images, and the memory that this process uses now."""
        from ...compute.device import held_bytes
        from .cost import expected_seconds

        seconds = expected_seconds(prepared)
        return Work(seconds, held_bytes(prepared.base.device))

    def pace(self, prepared: Prepared) -> float:
        """Seconds of one step of all images."""
        from .cost import seconds_a_step

        return seconds_a_step(prepared)

    def in_time(
        self, prepared: Prepared, timed: Timed, seconds: float, asked: Schedule
    ) -> tuple[Method, Schedule]:
        """The same with as many steps an image as the time allows."""
        from .cost import steps_in

        if self.inversion_steps is not None:
            raise SfumatoError("--time decides --inversion-steps: give one of the two")
        steps = steps_in(prepared.plan.n_units, timed, seconds)
        return replace(self, inversion_steps=steps), asked

    def forecast(self, prepared: Prepared) -> Forecast:
        """How far the noisy mean will be from the exact one."""
        from .cost import expectation

        return expectation(prepared)

    def remarks(self, prepared: Prepared) -> list[str]:
        """The forecast's remark, if it has one."""
        said = self.forecast(prepared).remark
        return [said] if said else []

    @classmethod
    def mechanism_rows(cls, plan: Plan) -> Rows:
        """The mechanism, for the table of a plan."""
        from .words import mechanism_rows

        return mechanism_rows(plan)

    @classmethod
    def work_rows(cls, plan: Plan, estimate: Any, forecast: Forecast, time: str) -> Rows:
        """Time, memory and forecast, for the table of a plan."""
        from .words import work_rows

        return work_rows(plan, estimate.peak_bytes, forecast, time)

    def check(self, prepared: Prepared, on_stage: Callable[[str], None]) -> None:
        """Checks on this machine that removing one image leaves the bits of all others."""
        from ...compute.threads import use_threads

        on_stage("checking on dummy images that no image changes another")
        performance, inverter = prepared.performance, prepared.adaptation.inverter
        use_threads(performance.threads)  # kernels may differ with their number
        if not inverter.self_check(performance.micro_batch):
            raise SfumatoError(
                "on this machine an image's embedding depends on which others are inverted with it,"
                " so the promise would not hold: try --micro-batch-size 1 or --mixed-precision no"
            )

    def untrained(self, prepared: Prepared) -> Inverting:
        """With the tokens that the mechanism gives for a sum of nothing."""
        from ..prepared import prepare_again
        from .controls import public_tokens

        plan = prepared.plan
        assert plan.aggregation is not None  # an inversion's plan has one
        made = prepare_again(self, plan, prepared.options, None, prepared.start).adaptation
        found = public_tokens(
            plan.aggregation, made.geometry, plan.clip_norm, plan.noise_multiplier
        )
        return made.with_vectors(found["noise-only"])

    def scratch_bytes(self, prepared: Prepared, images: int) -> int:
        """Bytes of all images' coordinates."""
        return 4 * images * prepared.adaptation.inverter.geometry.dimensions

    def fit(self, prepared: Prepared, workspace: Workspace) -> Inverting | None:
        """Inverts this shard's images and, after the last shard, adds them up with noise."""
        from .fit import fit

        return fit(prepared, workspace)

    @classmethod
    def ended(cls, plan: Plan, noted: Callable[[type], Sequence[Any]]) -> bool:
        """Whether the noisy sum was recorded."""
        from ...privacy.ledger.notes import Aggregated

        return bool(noted(Aggregated))

    def report_controls(
        self, prepared: Prepared, model: Path, drawing: Drawing | None = None
    ) -> dict:
        """Tokens that do not depend on private images, beside the released one."""
        from .report import report_controls

        return report_controls(prepared, model, drawing)

    @classmethod
    def exact_left(cls, folder: Path) -> list[str]:
        """Names the exact controls if the run folder still has them."""
        from .controls import EXACT, FOLDER

        return ["exact-controls"] * (folder / FOLDER / EXACT[0]).exists()
