"""DPAgg-TI on a run: inverts every image alone, in chunks and shards; then one noisy sum.

The private files are deleted after that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from ...compute import ranks
from ...compute.device import is_host
from ...errors import Interrupted
from ...options.progress import Counted
from ...privacy.ledger.notes import Aggregated
from ...privacy.mechanisms.mean import STEP
from ...privacy.random.keys import RunKey
from ...privacy.random.sampling import poisson
from ...training import LatentData
from ..interface import Prepared
from ..workspace import Workspace
from . import aggregate, controls, store
from .adaptation import Inverting
from .batch import chunks


def fit(prepared: Prepared[Inverting], workspace: Workspace) -> Inverting | None:
    """Invert what is missing, and put it together; None for one shard of several.

    Raises:
        Interrupted: Somebody stopped it; every image that was inverted stays so.
    """
    if not is_host(prepared.base.device):
        prepared.base.park(prompts=False)
    # its one step: a new attempt pays for the sum again
    ranks.on_first_rank(lambda: workspace.begin(0))
    with workspace.stoppable() as stop:
        vectors = invert(prepared, workspace, lambda: stop.asked)
    if vectors is None:
        return None
    ranks.on_first_rank(lambda: _note_exact_tokens(workspace))
    return prepared.adaptation.with_vectors(vectors)


def invert(
    prepared: Prepared[Inverting], workspace: Workspace, stopping: Callable[[], bool]
) -> torch.Tensor | None:
    """Token vectors [C, V, D] of the noisy mean, once every image is inverted; None for a shard.

    Slots are laid out in chunks in the source's own order, so that no image's content moves
    another. Every image is inverted at most once and kept in a private file until all are there.
    """
    plan, inverter = prepared.plan, prepared.adaptation.inverter
    size, folder, work = inverter.geometry.dimensions, workspace.folder, workspace.execution
    key, attempt = workspace.key, workspace.attempt
    data = only_sampled(workspace.data, plan.sampling_rate, key, attempt)
    # the run's own: every rank and every resume cuts alike
    parts = chunks(workspace.order, prepared.options["performance"]["micro_batch"])
    index, count = work.shard or (ranks.rank(), ranks.world_size())
    own, steps = -(-len(parts) // count), inverter.recipe.steps
    workspace.on_stage("inverting the images")
    # every rank asks equally often
    for number in range(index, index + own * count, count):
        tell = partial(_tell, workspace, number // count, own, steps)
        if number < len(parts) and not store.is_done(folder, parts[number].slots, size):
            z, _ = inverter.invert(data, parts[number], key, attempt, tell)
            store.write_rows(folder, parts[number].slots, z)
        tell(steps)
        at = f"chunk {min(number + 1, len(parts))} of {len(parts)}"
        if ranks.any_rank(stopping()):
            raise Interrupted(f"stopped at {at}; continue with --resume")
    if work.shard is not None:
        return None
    ranks.any_rank(False)  # all ranks' files are there
    workspace.on_stage("adding up, with noise")
    return ranks.on_first_rank(lambda: release(prepared, replace(workspace, data=data)))


def _tell(workspace: Workspace, number: int, own: int, steps: int, step: int) -> None:
    """Says how far this rank's or shard's `own` chunks are, at least: a chunk may end early."""
    workspace.on_stage(Counted("inverting the images", (number + step / steps) / own, 1.0))


def release(prepared: Prepared[Inverting], workspace: Workspace) -> torch.Tensor:
    """The noisy mean per class as token vectors [C, V, D]; noted in the ledger by its hash.

    Leaves tokens to compare with in the run folder, exact ones if that was asked for, and removes
    the private files unless they are to be kept.
    """
    plan, adapted, folder = prepared.plan, prepared.adaptation, workspace.folder
    aggregation, geometry, inverter = plan.aggregation, adapted.geometry, adapted.inverter
    assert aggregation is not None  # an inversion's plan has one
    data, work = workspace.data, workspace.execution
    label, n = data.label, len(data.label)
    owned = [data.order[a:b] for a, b in zip(data.first, data.first[1:])]
    z = store.read_rows(folder, n, inverter.geometry.dimensions)
    learned = inverter.vectors(z, np.maximum(label, 0))
    said = aggregate.vector_of(aggregation, geometry, learned, np.maximum(label, 0))
    total = aggregate.bounded_total(aggregation, plan.clip_norm, said, label, owned)
    noisy = aggregate.add_noise_once(
        aggregation, plan.noise_multiplier, total, workspace.key, workspace.attempt
    )
    vectors = aggregate.embeddings(
        aggregation, geometry, plan.clip_norm, plan.noise_multiplier, noisy
    )
    digest = hashlib.sha256(vectors.numpy().tobytes()).hexdigest()
    workspace.note(Aggregated(aggregated=digest, attempt=workspace.attempt))
    # exact ones of a start that was to keep them, and then did not end
    store.remove(folder, controls.FOLDER)
    tokens = controls.public_tokens(aggregation, geometry, plan.clip_norm, plan.noise_multiplier)
    if work.keep_inversions or work.controls:
        workspace.look(("the mean without noise", "one image's embedding"))
        tokens |= controls.exact_tokens(geometry, learned, label, aggregation.blocks)
    controls.save_tokens(folder / controls.FOLDER, adapted.placeholders, tokens)
    if not work.keep_inversions:
        store.remove(folder)
    return vectors


def _note_exact_tokens(workspace: Workspace) -> None:
    """Notes tokens without noise, if they are kept as controls, as weights of no public base."""
    for name in controls.EXACT:
        place = workspace.folder / controls.FOLDER / name
        if place.is_dir():
            workspace.note_weights("control", place)


def only_sampled(data: LatentData, rate: float, key: RunKey, attempt: int) -> LatentData:
    """Returns the data with every unit outside the plan's one Poisson sample unusable.

    All units remain if the rate is 1.
    """
    if rate == 1:
        return data
    inside = np.zeros(data.n_units, bool)
    inside[poisson(key, STEP, attempt, data.n_units, rate)] = True
    unit = np.zeros(len(data.label), np.int64)
    unit[data.order] = np.repeat(np.arange(data.n_units), np.diff(data.first))
    return replace(data, label=np.where(inside[unit], data.label, -1))
