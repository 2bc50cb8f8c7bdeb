"""DPAgg-TI on a run: invert every image alone, in chunks and shards; then one noisy sum, and the
private files are gone.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..bases import Base, load_base, read_embeds
from ..compute import ranks
from ..compute.device import use_threads
from ..compute.memory import peak_bytes
from ..errors import Interrupted, SfumatoError
from ..methods import PublicAnswers
from ..methods.inversion import aggregate, controls, store
from ..methods.inversion.advisor import Forecast, forecast
from ..methods.inversion.batch import Chunk, InversionRecipe, Inverter, chunks
from ..methods.inversion.controls import PUBLIC_KEY
from ..methods.inversion.geometry import from_public, start_anchor, whole_space
from ..methods.inversion.method import PUBLIC_DIMENSIONS, Inversion
from ..methods.prompts import TOKEN, choose_prompts
from ..options import Prompting, Sampling
from ..privacy.ledger.notes import Aggregated
from ..privacy.mechanisms.mean import STEP
from ..privacy.random.keys import RunKey
from ..privacy.random.sampling import poisson
from ..releases import MOST_PICTURES
from ..synthesis.dataset import class_of_each, shard_indices
from ..training import LatentData, build_latents
from .folder import Run
from .looks import record_look
from .prepared import Prepared, rebuild

MOST_ROWS = 256  # in one pass; more gains little on a CPU
PUBLIC_EACH, PUBLIC_MOST = 16, 320  # public images that are inverted, of one kind and in all
CONTROLS = "controls"


@dataclass(frozen=True)
class Drawing:
    """The first pictures of a data set once more, for its report: a base that was taught the run's
    token, how many pictures in which class shares, the shard (i, k) that is at hand, and how to
    sample.
    """

    base: Base
    n: int
    shares: Sequence[float]
    shard: tuple[int, int]
    sampling: Sampling


@dataclass(frozen=True)
class Work:
    """What `invert` is to do now: `shard` (i, k) of the chunks, `keep` the private files, leave the
    exact `controls` (the mean without noise, one image's embedding) in the run folder. `stop` asks
    whether to end early.
    """

    shard: tuple[int, int] | None = None
    keep: bool = False
    controls: bool = False
    stop: Callable[[], bool] = lambda: False


def invert(
    run: Run,
    prepared: Prepared,
    data: LatentData,
    order: np.ndarray,
    key: RunKey,
    attempt: int,
    work: Work,
    on_stage,
) -> Prepared | None:
    """Invert what is missing; then, on the first rank, release the noisy mean into `prepared`'s
    saver. None for a shard.

    `key` is the attempt's; `order` int64 [n] how slots are laid out in chunks, which is the
    source's own, so that no image's content moves another. Every image is inverted at most once and
    kept in a private file until all are there.
    """
    plan, inversion = run.plan, prepared.adaptation.inversion
    inverter, size = inversion.inverter, inversion.inverter.geometry.dimensions
    data = only_sampled(data, plan.sampling_rate, key, attempt)
    parts = chunks(
        order, run.options["performance"]["micro_batch"]
    )  # the run's own: every rank and every resume cuts alike
    index, count = work.shard or (ranks.rank(), ranks.world_size())
    # every rank asks equally often
    for number in range(index, index + -(-len(parts) // count) * count, count):
        if number < len(parts) and not store.is_done(run.folder, parts[number].slots, size):
            z, _ = inverter.invert(data, parts[number], key, attempt)
            store.write_rows(run.folder, parts[number].slots, z)
        on_stage(f"inverting: chunk {min(number + 1, len(parts))} of {len(parts)}")
        if ranks.any_rank(work.stop()):
            raise Interrupted(
                f"stopped at chunk {min(number + 1, len(parts))} of {len(parts)}; continue with"
                " --resume"
            )
    if work.shard is not None:
        return None
    ranks.any_rank(False)  # all ranks' files are there
    on_stage("adding up, with noise")
    vectors = ranks.on_first_rank(lambda: release(run, prepared, data, key, attempt, work))
    inversion.vectors = vectors
    return prepared


def release(
    run: Run, prepared: Prepared, data: LatentData, key: RunKey, attempt: int, work: Work
) -> torch.Tensor:
    """The noisy mean per class as token vectors [C, V, D]; noted in the ledger by its hash.

    Leaves tokens to compare with in the run folder, exact ones if `work` says so, and removes the
    private files unless it keeps them.
    """
    plan, inversion = run.plan, prepared.adaptation.inversion
    aggregation, geometry = plan.aggregation, inversion.geometry
    label, n = data.label, len(data.label)
    owned = [data.order[a:b] for a, b in zip(data.first, data.first[1:])]
    z = store.read_rows(run.folder, n, inversion.inverter.geometry.dimensions)
    learned = inversion.inverter.vectors(z, np.maximum(label, 0))
    said = aggregate.vector_of(aggregation, geometry, learned, np.maximum(label, 0))
    total = aggregate.bounded_total(aggregation, plan.clip_norm, said, label, owned)
    noisy = aggregate.add_noise_once(aggregation, plan.noise_multiplier, total, key, attempt)
    vectors = aggregate.embeddings(
        aggregation, geometry, plan.clip_norm, plan.noise_multiplier, noisy
    )
    digest = hashlib.sha256(vectors.numpy().tobytes()).hexdigest()
    run.record(Aggregated(aggregated=digest, attempt=attempt))
    # exact ones of a start that was to keep them, and then did not end
    store.remove(run.folder, CONTROLS)
    tokens = controls.public_tokens(aggregation, geometry, plan.clip_norm, plan.noise_multiplier)
    if work.keep or work.controls:
        record_look(run, ("the mean without noise", "one image's embedding"))
        tokens |= controls.exact_tokens(geometry, learned, label, aggregation.blocks)
    controls.save_tokens(run.folder / CONTROLS, inversion.placeholders, tokens)
    if not work.keep:
        store.remove(run.folder)
    return vectors


def only_sampled(data: LatentData, rate: float, key: RunKey, attempt: int) -> LatentData:
    """The data with every unit outside the plan's one Poisson sample unusable; all of them where
    the rate is 1.
    """
    if rate == 1:
        return data
    inside = np.zeros(data.n_units, bool)
    inside[poisson(key, STEP, attempt, data.n_units, rate)] = True
    unit = np.zeros(len(data.label), np.int64)
    unit[data.order] = np.repeat(np.arange(data.n_units), np.diff(data.first))
    return replace(data, label=np.where(inside[unit], data.label, -1))


def public_side(run: Run) -> Prepared | None:
    """What an inversion was prepared with, from its plan and public start alone; None for another
    method.
    """
    return None if run.plan.aggregation is None else rebuild(run.plan, run.options, None, run.start)


def exact_controls(run: Run) -> list[str]:
    """How a certificate calls the exact tokens that a run has left in its folder, if it has."""
    return ["exact-controls"] * (run.folder / CONTROLS / controls.EXACT[0]).exists()


def report_controls(
    prepared: Prepared | None, model: Path, drawing: Drawing | None = None
) -> dict | None:
    """What a report shows beside the released token, from released and public numbers alone, so it
    may leave; None without a token.

    `prepared`: `public_side` of the run; model: folder of the released token; drawing: which
    pictures to draw with each token, if any.
    """
    if prepared is None:
        return None
    plan, inversion = prepared.plan, prepared.adaptation.inversion
    released = read_embeds(model, inversion.placeholders)
    public = controls.public_tokens(
        plan.aggregation, inversion.geometry, plan.clip_norm, plan.noise_multiplier
    )
    tokens, hope = {"released": released, **public}, expectation(prepared)
    body = {
        "expected": {
            "signal": hope.signal,
            "noise": hope.noise,
            "cosine": hope.cosine,
            "known": hope.known,
        },
        "rows": controls.distances(inversion.geometry, tokens),
    }
    if drawing is not None:
        few = shard_indices(drawing.n, drawing.shard)[:MOST_PICTURES]
        labels = class_of_each(int(few[-1]) + 1, drawing.shares)  # any prefix has the same shares
        body["pictures"] = controls.draw_beside(
            drawing.base,
            inversion.placeholders,
            tokens,
            plan.prompts,
            labels,
            few,
            drawing.sampling,
        )
    return body


def check_isolation(prepared: Prepared, on_stage) -> None:
    """Before anything is charged: one image replaced by nothing leaves the bits of all others as
    they are, on this machine.
    """
    on_stage("checking on made-up pictures that no image moves another")
    use_threads(prepared.performance.threads)  # kernels may differ with their number
    if not prepared.adaptation.inversion.inverter.self_check(prepared.performance.micro_batch):
        raise SfumatoError(
            "on this machine an image's embedding depends on which others are inverted with it, so"
            " the promise would not hold: try --micro-batch-size 1 or --mixed-precision no"
        )


def fit_rows(prepared: Prepared) -> Prepared:
    """The same with the rows of a chunk decided: what was asked for, else what the memory budget
    holds, evenly shared.

    Measured once, on the first rank, so that all ranks check and run with the same; nothing changes
    for other methods.
    """
    if prepared.adaptation.inversion is None or prepared.performance.micro_batch is not None:
        return prepared
    rows = ranks.on_first_rank(lambda: _fitting_rows(prepared))
    performance = replace(prepared.performance, micro_batch=rows)
    options = prepared.options | {
        "performance": prepared.options["performance"] | {"micro_batch": rows}
    }
    return replace(prepared, performance=performance, options=options)


def _fitting_rows(prepared: Prepared) -> int:
    plan, inverter = prepared.plan, prepared.adaptation.inversion.inverter
    most = max(1, MOST_ROWS // inverter.recipe.draws)
    probe = min(4, most)
    peak = peak_bytes(lambda: _timed(inverter, probe, steps=1))
    fitting = max(1, min(most, int(probe * prepared.performance.memory_budget / max(peak, 1))))
    return math.ceil(plan.n_units / math.ceil(plan.n_units / fitting))


def expected_seconds(prepared: Prepared) -> float:
    """Time of the whole inversion at most, from two steps on made-up pictures."""
    prepared = fit_rows(prepared)
    inverter, rows = prepared.adaptation.inversion.inverter, prepared.performance.micro_batch
    _timed(inverter, rows, steps=1)
    step = _timed(inverter, rows, steps=2) / 2
    return step * inverter.recipe.steps * math.ceil(prepared.plan.n_units / rows)


def expectation(prepared: Prepared) -> Forecast:
    """The advisor's answer for this plan."""
    plan, geometry = prepared.plan, prepared.adaptation.inversion.geometry
    return forecast(
        noise_multiplier=plan.noise_multiplier,
        units=min(plan.aggregation.divisors),
        dimensions=plan.aggregation.dimensions,
        signal=geometry.signal if plan.aggregation.rule == "clip" else None,
        spectrum=geometry.spectrum if plan.aggregation.shrink else None,
    )


def _timed(inverter: Inverter, rows: int, steps: int) -> float:
    short = inverter.with_recipe(replace(inverter.recipe, steps=steps))
    mean = (
        np.random.default_rng(0).standard_normal((rows, *inverter.latent_shape)).astype(np.float16)
    )
    made_up = LatentData(
        mean,
        np.full_like(mean, 0.1),
        np.zeros(rows, np.int64),
        np.arange(rows),
        np.arange(rows + 1),
    )
    started = time.perf_counter()
    short.invert(made_up, Chunk(np.arange(rows)), PUBLIC_KEY)
    return time.perf_counter() - started


def public_answers(
    method: Inversion, base: str, prompting: Prompting, seed: int, public, classes: tuple[str, ...]
) -> PublicAnswers:
    """A geometry learned from public images (a RecordSet; its classes are kinds of style)."""
    if method.subspace not in (None, "public") or method.aggregate != "clip":
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
    if len(set(prompts.initializers)) > 1:
        raise SfumatoError(
            "--subspace public has one anchor for all classes: use --subspace vocabulary with class"
            " tokens"
        )
    vectors = method.num_vectors
    found, kind = public_embeddings(opened, public, prompts, vectors, method.recipe(), seed=seed)
    size = method.dimensions or min(vectors * PUBLIC_DIMENSIONS, found.shape[1])
    geometry = from_public(found, kind, len(classes), size, vectors, radius=method.radius)
    return PublicAnswers(geometry.tensors())


def public_embeddings(
    base: Base,
    public,
    prompts,
    vectors: int,
    recipe: InversionRecipe,
    *,
    seed: int = 0,
    each: int = PUBLIC_EACH,
) -> tuple[np.ndarray, np.ndarray]:
    """(embeddings float32 [n, V * D], kind int64 [n]) of public images, `each` of every kind, in
    the whole space around the anchor.
    """
    rng, use = np.random.default_rng(seed), []
    for kind in range(len(public.classes)):
        use.append(rng.permutation(np.flatnonzero(public.usable & (public.labels == kind)))[:each])
    use = np.sort(np.concatenate(use))
    use = np.sort(rng.permutation(use)[:PUBLIC_MOST])
    # Every kind is inverted from the first class's prompt and anchor: its label is only looked at
    # afterwards.
    geometry = whole_space(base, start_anchor(base, prompts.initializers[:1], vectors), vectors)
    inverter = Inverter(
        base, prompts.prompts[:1], prompts.placeholders[:1], geometry, recipe, torch.bfloat16
    )
    rows = max(1, MOST_ROWS // recipe.draws)
    with tempfile.TemporaryDirectory() as folder:
        data = build_latents(
            Path(folder),
            len(use),
            lambda slots: public.load(use[slots], base.resolution),
            base.encode,
            np.zeros(len(use), np.int64),
            np.arange(len(use)),
        )
        parts = [
            inverter.invert(data, chunk, PUBLIC_KEY)[0]
            for chunk in chunks(np.arange(len(use)), rows)
        ]
    z = np.concatenate(parts)[: len(use)]
    return inverter.vectors(z, np.zeros(len(z), np.int64)), public.labels[use]
