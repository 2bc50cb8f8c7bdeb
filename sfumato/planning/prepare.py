"""From a user's options to a base, a plan and an adaptation; nothing here reads a pixel."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch

from ..bases import Base, load_base, own_name, scratch_name
from ..compute.device import seeded
from ..errors import SfumatoError
from ..methods import Given, Method, Prepared, Prompts
from ..methods.adaptation import Adapted
from ..methods.formats import asked_formats
from ..methods.pace import default_samples_every
from ..methods.prompts import TOKEN, choose_prompts
from ..methods.reach import apply_noted, left_out, noted
from ..methods.shared import open_to_share, shares_too_large
from ..options import FIXED, Performance, Privacy, Prompting, Schedule
from ..options.privacy import usual_delta
from ..privacy.plan import Plan, make_plan
from ..privacy.request import Request
from .facts import PublicFacts, require_clear_units, require_list
from .forecast import opted_in
from .rates import with_default_rate
from .task import Task
from .texts import prompts_hash, require_captions, trains_captions

CAPTIONS_SAID = (
    "prompts may be, or contain, private captions, on the owner's word: none was compared; the"
    " guarantee does not cover what they say"
)
# units from which a schedule of minutes gives way to one of most of an hour on two cores
MANY = 8192
DOUBTFUL_SAID = (
    "values of the unit column that may be spellings of one another count as different units, on"
    " the owner's word"
)
OVERLAP_SAID = (
    "public images, or those that the base was trained on, may contain pictures of units, on the"
    " owner's word; the guarantee does not cover what these show of them"
)
CLASSES_FOUND = (
    "the class list was read off the data and declared public by the owner; the guarantee is"
    " conditional on it"
)

VALUES_SAID = (
    "how stored values become grey levels was chosen by the owner and may have been read off the"
    " data ({}); the guarantee is conditional on it"
)


def require_knowing(base: str | Path, method: Method | type[Method]) -> None:
    """SfumatoError for random numbers as the base of a method that needs a model."""
    if scratch_name(base) and not method.from_nothing:
        raise SfumatoError(
            f"--base none: --method {method.name} needs a model that knows something, and random"
            " numbers know nothing: take --method full"
        )


def default_schedule(n_units: int, epsilon: float) -> dict[str, Any]:
    """Expected batch, steps and draws by data size and epsilon (see docs/results.md).

    Where noise rules, more draws of a record are worth their time; where it does not, more steps on
    more records are.
    """
    if n_units >= MANY:
        steps, draws = (150, 4) if epsilon < 3 else (250, 1)
        return {"expected_batch_size": 2048, "steps": steps, "noise_draws": draws}
    batch = int(min(1024, max(64, n_units // 4), n_units))
    return {"expected_batch_size": batch, "steps": 80 if epsilon < 3 else 90, "noise_draws": 1}


def default_ema_decay(steps: int) -> float:
    """The decay of the weights' average: over the last 20 steps, or 10 of fewer than 100."""
    return 0.95 if steps >= 100 else 0.9


def prepare(facts: PublicFacts, task: Task) -> Prepared[Any]:
    """Load the base, apply the method, compose all mechanisms and calibrate the noise.

    Args:
        facts: All that the plan may know of the private records. A class list that was read off
            the data is refused where it has classes of few units. Whether a prompt stands as a
            caption beside the records is checked where these are at hand
            (`inputs.prepare_as_asked`).
        task: What is asked; the recipe's open fields are decided here.

    Raises:
        SfumatoError: A target that cannot be met, or options that do not fit together.
        TypeError: Anything but `PublicFacts`, since records would do.
    """
    if type(facts) is not PublicFacts:
        raise TypeError("a plan follows from public facts alone: give PublicFacts.of(records)")
    privacy, method = task.privacy, task.method
    if privacy.epsilon is None:
        raise SfumatoError("--epsilon is required: 1 is strong privacy, 10 is weak")
    require_knowing(task.base, method)
    require_list(facts)
    doubtful = require_clear_units(facts, privacy.allow_doubtful_units)
    opened = open_to_share(task.performance, lambda: load_base(task.base))
    opened.formats = asked_formats(task.performance.precision)
    _use_buckets(opened, task)
    captions = trains_captions(facts, task)
    if captions:
        require_captions(opened)
    prompts = prompts_for(opened, facts.classes, task, captions)
    given = Given(prompts, task.public.start or None, task.public.selected)
    with seeded(task.seed):
        adapted = method.apply(opened, given)
    public_prompts = prompts_hash(task.prompting, opened, facts, prompts.prompts)
    if task.performance.gradient_checkpointing:
        opened.checkpoint_gradients()
    _require_units(facts, privacy)
    dead = (
        () if shares_too_large(task.performance) else left_out(adapted, prompts, len(facts.classes))
    )
    adapted = apply_noted(adapted, noted(dead))
    if not adapted.reads_prompts:
        opened.drop_encoders()  # what prompts say is known
    recipe = task.recipe
    asked = dataclasses.replace(task.schedule, time=None).given()
    filled = Schedule(**default_schedule(facts.n_units, privacy.epsilon) | asked)
    assert filled.steps is not None  # a default schedule names all
    if recipe.ema_decay is None:
        recipe = dataclasses.replace(recipe, ema_decay=default_ema_decay(filled.steps))
    task = dataclasses.replace(task, recipe=recipe)
    texts = (captions or None, public_prompts)
    plan = _plan(facts, task, opened, adapted, prompts, filled, texts)
    if recipe.learning_rate is None:
        plan = with_default_rate(plan)
        recipe = dataclasses.replace(recipe, learning_rate=plan.learning_rate)
        task = dataclasses.replace(task, recipe=recipe)
    performance = _with_samples(task, filled, len(facts.classes))
    task = dataclasses.replace(task, performance=performance)
    said = [VALUES_SAID.format(facts.values.said)] * (facts.values != FIXED)
    statements = {
        "opt_ins": (
            [CLASSES_FOUND] * facts.classes_found
            + said
            + [OVERLAP_SAID] * privacy.public_may_overlap
            + [CAPTIONS_SAID] * privacy.allow_caption_prompts
            + [DOUBTFUL_SAID] * bool(doubtful)
        ),
        "tuning": privacy.tuning,
    }
    if facts.held_out is not None:
        statements["held_out"] = facts.held_out
    options = options_of(task, prompts, adapted) | noted(dead) | {"statements": statements}
    if facts.values != FIXED:
        options |= {"values": facts.values.given()}
    if task.fit is not None:
        options["fit"] = task.fit.to_json()
    start = dict(task.public.start)
    made = Prepared(method, opened, adapted, plan, recipe, task.performance, options, start)
    return dataclasses.replace(made, options=opted_in(options, made, privacy.anyway))


def _with_samples(task: Task, schedule: Schedule, classes: int) -> Performance:
    """Decides when pictures are drawn; a method without a noised iterate has none to draw."""
    asked = task.performance.samples_every
    if not task.method.learns_weights:
        if asked:
            raise SfumatoError(
                f"--samples-every: --method {task.method.name} trains nothing, so no step before"
                " the last draws pictures: leave it out"
            )
        every = 0
    elif asked is None:
        every = default_samples_every(task.performance, schedule, classes)
    else:
        every = asked
    return dataclasses.replace(task.performance, samples_every=every)


def prompts_for(base: Base, classes: Sequence[str], task: Task, captions: bool = False) -> Prompts:
    """Public prompts and tokens per class, as the method needs them; no tokens beside captions."""
    asked, tokens = task.prompting, task.method.learns_tokens
    for name in ("placeholder", "initializer"):
        if getattr(asked, name) is not None and not tokens:
            raise SfumatoError(f"--{name}-token requires --method inversion or embedding")
    if asked.initializer is not None and asked.init is not None:
        raise SfumatoError(
            "--initializer-token sets all classes and --init each class: give one of the two"
        )
    return choose_prompts(
        base,
        classes,
        prompt=asked.prompt,
        init=dict.fromkeys(classes, asked.initializer) if asked.initializer else asked.init,
        embedder=_embedder(asked, tokens, captions),
        placeholder=(asked.placeholder or TOKEN) if tokens else None,
    )


def _embedder(asked: Prompting, tokens: bool, captions: bool) -> bool | None:
    if asked.embedder is not None:
        return asked.embedder
    return True if tokens else False if captions else None


def _require_units(facts: PublicFacts, privacy: Privacy) -> None:
    if facts.unit_column == "record":
        # Plan and certificate would then promise one image, whose loss moves its unit's gradient by
        # up to 2 C.
        raise SfumatoError(
            "a unit column cannot be named 'record', which means single images: rename the column"
        )
    if facts.unit_column and privacy.histogram is not None and privacy.max_per_unit is None:
        raise SfumatoError(
            "--histogram with --unit needs --max-per-unit, a public bound on the images counted per"
            " unit"
        )


def _plan(
    facts: PublicFacts,
    task: Task,
    opened: Base,
    adapted: Adapted,
    prompts: Prompts,
    schedule: Schedule,
    texts: tuple[bool | None, str | None],
) -> Plan:
    """Compose the mechanisms that the method asks for and calibrate the noise."""
    privacy, recipe = task.privacy, task.recipe
    asks = task.method.mechanisms(adapted, privacy, task.schedule, schedule, facts.n_units)
    drawn, votes, rate = asks.schedule, asks.voting, recipe.learning_rate
    # Never read off the data: a declared bound, or what one training step can look at.
    assert privacy.epsilon is not None
    assert recipe.ema_decay is not None and drawn.expected_batch_size is not None
    assert drawn.steps is not None and drawn.noise_draws is not None
    of_unit = drawn.noise_draws if privacy.max_per_unit is None else privacy.max_per_unit
    n, delta = facts.n_units, privacy.delta
    try:
        request = Request(
            method=task.method.name,
            unit=facts.unit_column or "record",
            n_units=n,
            max_per_unit=of_unit if facts.unit_column else 1,
            classes=facts.classes,
            prompts=prompts.prompts,
            epsilon=privacy.epsilon,
            delta=usual_delta(n) if delta is None else delta,
            expected_batch_size=drawn.expected_batch_size,
            steps=drawn.steps,
            noise_draws=drawn.noise_draws,
            clip_norm=None if privacy.clipping.endswith("normalised") else asks.clip_norm,
            clipping=privacy.clipping,
            clip_groups=asks.clip_groups,
            relation=privacy.relation,
            histogram_noise_multiplier=privacy.histogram,
            retry_fraction=privacy.retry_fraction,
            allow_large_delta=privacy.allow_large_delta,
            # A path is kept whole, so that the run can be resumed from anywhere; the certificate
            # shows its last part only.
            base=named_in_plan(task.base),
            base_digest=opened.digest,
            trainable=adapted.most_trainable if votes is None else votes.candidates,
            learning_rate=adapted.learning_rate if rate is None else rate,
            warmup_steps=recipe.warmup_steps,
            ema_decay=recipe.ema_decay,
            target_modules=adapted.targets,
            rank=adapted.rank,
            probe=asks.probe,
            probe_share=asks.probe_share,
            aggregation=asks.aggregation,
            voting=votes,
            moments=asks.moments,
            moments_share=asks.moments_share,
            captions=texts[0],
            prompts_file=texts[1],
            base_vote=task.base_vote,
            base_vote_epsilon=task.choosing.share(privacy.epsilon),
        )
        return make_plan(request)
    except ValueError as error:
        raise SfumatoError(str(error)) from error


def named_in_plan(base: str) -> str:
    """A base of sfumato's own by its name, another by its whole path."""
    return own_name(base) or str(Path(base).resolve())


def _use_buckets(base: Base, task: Task) -> None:
    """Sets the sizes of the pictures; SfumatoError where they do not fit the task."""
    if task.recipe.buckets and not task.method.takes_buckets:
        raise SfumatoError(
            f"--buckets: --method {task.method.name} looks at squares: leave it out, or take"
            " another method"
        )
    if task.recipe.buckets and task.performance.shard_base:
        raise SfumatoError("--buckets: ranks that share a base take one size: leave one of the two")
    base.use_buckets(task.recipe.sizes)


def options_of(task: Task, prompts: Prompts, adapted: Adapted) -> dict[str, Any]:
    """What a run keeps of the task beside its plan, to be built again from (`runs.prepared`)."""
    start, public = task.public.start, task.public
    selected = {} if public.selected is None else {"selected": list(public.selected)}
    own = task.method.used(adapted) | selected
    return {
        "method_options": own,
        "prompts": {
            "prompts": list(prompts.prompts),
            "placeholders": list(prompts.placeholders),
            "initializers": list(prompts.initializers),
        },
        "recipe": asdict(task.recipe),
        "performance": asdict(task.performance),
        "seed": task.seed,
        "selection": task.method.selection(adapted, public.scores),
        "start": (
            None if not start else hashlib.sha256(safetensors.torch.save(dict(start))).hexdigest()
        ),
    }
