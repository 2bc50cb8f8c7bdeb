"""The evaluation protocol: train on synthetic, test on real, beside the rows that give it meaning.

Everything here is computed from private or held-out data and stays in the run folder, marked
PRIVATE.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from ..bases import Base, base_info, open_adapted, read_embeds, text_base
from ..errors import DataError, SfumatoError
from ..evaluation import (
    Comparison,
    Extractor,
    UtilityRow,
    classifier_features,
    compare,
    train_classifier,
    utility,
)
from ..evaluation.page import as_text, few, page
from ..methods import METHODS, Prompts
from ..methods.inversion.controls import cosine
from ..options import FIXED, Judging, Sampling, Values, gather, takes
from ..records import RecordSet, is_flat, load_records
from ..runs.attempts import frozen_contents, note_weights
from ..runs.folder import Run
from ..runs.looks import record_look, record_public
from ..runs.prepared import original_base, rebuild
from ..synthesis.dataset import class_of_each, pictures
from ..training import State, open_latents, train_without_privacy, write_file
from .keywords import EvaluateOptions

# rows that are functions of private images, whatever they are tested on
EXACT = ("one_image", "non_private", "real")
ROWS = ("synthetic", "public_only", "noise_only", "one_image", "non_private", "real")
# rows that nothing but a method's own controls can give
CONTROLS_ALONE = frozenset({"noise_only", "one_image"})


@dataclass(frozen=True)
class Evaluation:
    """`utility`: row name -> one UtilityRow per classifier.

    `distances`: row name -> figures against the test set, under the name of their features.
    `images`: row name -> images trained on. `cosines`: row name -> cosine of its token to the
    exact mean, both from the public anchor (after an inversion that kept its exact controls).
    PRIVATE.
    """

    utility: dict[str, list[UtilityRow]]
    distances: dict[str, dict[str, Any]]
    images: dict[str, int]
    cosines: dict[str, float] = field(default_factory=dict)


@takes(judging=Judging)
def evaluate(
    run: Run | str | Path,
    release: str | Path,
    *,
    test: str | Path | RecordSet,
    train: str | Path | RecordSet | None = None,
    rows: Sequence[str] = ("synthetic", "public_only"),
    beside: Sequence[Run | str | Path] = (),
    public_test: bool = False,
    on_stage: Callable[[str], None] = lambda stage: None,
    **options: Unpack[EvaluateOptions],
) -> Evaluation:
    """Trains every classifier on every row and tests it on real images.

    Mean and spread over seeds; model selection on held-out synthetic images only. Exact figures are
    a look: a row of the ledger, written before the first of them is computed, which every later
    certificate of a run on these images (the run's and the test's) counts. Writes
    `evaluation/utility.json` and `evaluation/page.html` into the private run folder, never into the
    release. With one class there is nothing to classify: distances only, in the latents of the
    base's autoencoder.

    Args:
        run: A finished run, or its folder.
        release: A folder of `synthesize`.
        test: Held-out real images, not part of the private set.
        train: The private images themselves, for the row "real".
        rows: "synthetic" (the release), "public_only" (the base as it came, zero-shot),
            "non_private" (same recipe, no clipping, no noise; needs the run's cache) and "real".
            After an inversion also "noise_only" and "one_image"; its exact rows need `adapt` with
            `controls`.
        beside: Other runs on the same images and base, a row each, drawn with the same sampler and
            seeds. Each was charged to the ledger as a run of its own.
        public_test: The test images are public, so that only rows that are functions of private
            images are a look; a PUBLIC row, so that no run is charged for them later.
        on_stage: Called with a line for every row that begins.
        options: Fields of `Judging`, or one as `judging`.

    Returns:
        Accuracies, distances, cosines. PRIVATE.

    Raises:
        SfumatoError: Rows that do not exist, or that need what is missing.
        DataError: `public_test` with an image that the ledger knows as private.
    """
    how: Judging = gather({"judging": Judging}, options)["judging"]
    run = run if isinstance(run, Run) else Run.open(run)
    for row in rows:
        if row not in ROWS:
            raise SfumatoError(f"--rows {row}: choose from {', '.join(ROWS)}")
    if CONTROLS_ALONE.intersection(rows).difference(METHODS[run.plan.method].control_rows):
        raise SfumatoError("--rows noise_only and one_image are controls of --method inversion")
    if "real" in rows and train is None:
        raise SfumatoError("the row 'real' needs the private images themselves: give --train")
    others = _beside(run, beside)
    classes, resolution = run.plan.classes, base_info(run.plan.base).resolution
    values = Values.kept(run.options)
    test = records_of(test, classes, "test", values)
    train = None if train is None else records_of(train, classes, "train", values)
    _record(
        run, others, rows, test, train if "real" in rows else None, how.with_distances, public_test
    )
    held_out = images_of(test, classes, resolution, "test")
    results: dict[str, list[UtilityRow]] = {}
    figures: dict[str, dict[str, Any]] = {}
    counts: dict[str, int] = {}
    extractor = latents_of(original_base(run.plan)) if len(classes) == 1 else None
    shown: dict[str, np.ndarray] = {}
    for row in [*sorted(rows, key=ROWS.index), *others]:
        on_stage(f"evaluating {row}")
        if row in others:
            images, labels = _draw_as(
                Path(release), _adapted(others[row]), others[row], how.public_images
            )
        else:
            images, labels = _row_images(
                row, run, Path(release), train, classes, resolution, how.public_images
            )
        counts[row] = len(images)
        if row != "real":
            shown[row] = images[few(labels)]
        if len(classes) > 1:
            results[row] = utility(
                images,
                labels,
                *held_out,
                len(classes),
                classifiers=tuple(how.classifiers),
                seeds=how.of_seeds,
                steps=how.steps,
                progress=done_of(row, len(how.classifiers) * len(how.of_seeds), on_stage),
            )
        if how.with_distances:
            if extractor is None:
                # Features of a classifier trained on the synthetic images: no second use of real
                # labels.
                first = train_classifier(
                    "cnn", images, labels, len(classes), seed=0, steps=how.steps
                )
                extractor = classifier_features(first, f"cnn-on-{row}")
            number = min(len(images), len(held_out[0]), 5000)
            figures[row] = _plain(compare(extractor, held_out[0][:number], images[:number]))
    result = Evaluation(results, figures, counts, _cosines(run, others))
    folder = run.folder / "evaluation"
    folder.mkdir(exist_ok=True)
    body = {
        "PRIVATE": "computed against private or held-out data; not covered by epsilon",
        "in_ledger": True,  # a LOOK row, or all of it was public
        "test_images": len(held_out[0]),
        "images": counts,
        "utility": {name: [asdict(r) for r in found] for name, found in results.items()},
        "distances": figures,
        "cosine_to_exact_mean": result.cosines,
        "beside": {row: _promise(other) for row, other in others.items()},
    }
    write_file(folder / "utility.json", json.dumps(body, indent=1).encode())
    title = f"{run.folder.name}: {run.plan.method} at epsilon {run.plan.epsilon:.3g}"
    told = as_text(counts, results, figures, result.cosines)
    write_file(folder / "page.html", page(title, told, shown).encode())
    return result


def done_of(
    row: str, total: int, on_stage: Callable[[str], None]
) -> Callable[[str, int, float], None]:
    """A `progress` of `utility` that counts a row's classifiers, and says no figure."""
    done = 0

    def progress(classifier: str, seed: int, accuracy: float) -> None:
        nonlocal done
        done += 1
        on_stage(f"evaluating {row}: {done} of {total} classifiers ({classifier}, seed {seed})")

    return progress


def _record(
    run: Run,
    others: dict[str, Run],
    rows: Sequence[str],
    test: RecordSet,
    train: RecordSet | None,
    distances: bool,
    public_test: bool,
) -> None:
    """Appends the LOOK rows of an evaluation, one for each run that is judged.

    PUBLIC rows if the test images, and so all figures, are public.
    """
    for judged in (run, *others.values()) if public_test else ():
        record_public(judged, test)
    cosines = _has_exact_mean(run)
    if public_test and not cosines and not set(EXACT).intersection(rows):
        return
    what = (
        ["accuracy"] * (len(run.plan.classes) > 1)
        + ["distances"] * distances
        + ["cosines"] * cosines
    )
    seen = [] if public_test else [test]
    for other in (run, *others.values()):
        record_look(
            other, what, *seen, *([train] if train is not None else []), rows=[*rows, *others]
        )


def _row_images(
    row: str,
    run: Run,
    release: Path,
    train: RecordSet | None,
    classes: Sequence[str],
    resolution: int,
    public_images: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    if row == "synthetic":
        return images_of(release, classes, resolution, "train")
    if row == "real":
        assert train is not None  # `evaluate` has asked for it
        return images_of(train, classes, resolution, "train")
    if row in METHODS[run.plan.method].control_rows:
        base = _control_base(run, row)
    elif row == "public_only":
        base = public_base(run)
    else:
        base = _non_private_base(run)
    return _draw_as(release, base, run, public_images)


def _draw_as(
    release: Path, base: Base, run: Run, count: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns images of `base` with the run's prompts, drawn as the release was.

    The same sampler, seeds and (unless given) number.
    """
    settings = _sampling_of(release)
    number = settings.pop("n", 10_000)
    return draw(base, run.plan.prompts, count or number, Sampling(**settings))


def draw(
    base: Base, prompts: Sequence[str], n: int, sampling: Sampling
) -> tuple[np.ndarray, np.ndarray]:
    """`n` images in equal class shares, in memory: (uint8 [n, R, R, 3], labels int64 [n])."""
    labels = class_of_each(n, [1.0] * len(prompts))
    images = [part for _, part in pictures(base, prompts, labels, np.arange(n), sampling)]
    return np.concatenate(images), labels


def public_base(run: Run) -> Base:
    """The base as it was before the private run, with its class tokens at their public start."""
    base = original_base(run.plan)
    tokens = Prompts.of(run.options["prompts"]).tokens
    if tokens:
        text_base(base).add_tokens(list(tokens), list(tokens.values()))
    return base


def control_base(run: Run, row: str) -> Base:
    """Returns the base with a token of an inversion's controls; an exact one is a look.

    SfumatoError if the run did not keep the token.
    """
    if row in EXACT:
        record_look(run, ("an exact token",), rows=(row,))
    return _control_base(run, row)


def _control_base(run: Run, row: str) -> Base:
    folder = run.folder / "controls" / METHODS[run.plan.method].control_rows[row]
    if not folder.exists():
        raise SfumatoError(
            f"the row {row} needs a token that is not kept by default: adapt with --controls"
        )
    return open_adapted(folder, lambda: original_base(run.plan))


def _adapted(run: Run) -> Base:
    return open_adapted(run.model, lambda: original_base(run.plan))


def _promise(run: Run) -> dict[str, Any]:
    plan = run.plan
    return {
        name: getattr(plan, name) for name in ("method", "epsilon", "delta", "unit", "relation")
    }


def _beside(run: Run, beside: Sequence[Run | str | Path]) -> dict[str, Run]:
    """Returns row name -> run.

    Raises:
        SfumatoError: A run whose images or privacy parameters cannot be compared with `run`'s.
    """
    found: dict[str, Run] = {}
    for other in (o if isinstance(o, Run) else Run.open(o) for o in beside):
        name = f"{other.plan.method} at epsilon {other.plan.epsilon:.3g}"
        while name in found:
            name += ", again"
        for what in ("classes", "base_digest", "unit", "relation", "delta"):
            if getattr(other.plan, what) != getattr(run.plan, what):
                raise SfumatoError(
                    f"--beside {other.folder}: its {what} differs from that of {run.folder}, so the"
                    " two cannot be compared"
                )
        known = other.ledger_path == run.ledger_path
        if known and other.id not in {charge["run"] for charge in run.group().charges}:
            raise SfumatoError(
                f"--beside {other.folder}: it was adapted to other images than {run.folder}"
            )
        found[name] = other
    return found


def token_cosines(run: Run, others: dict[str, Run]) -> dict[str, float]:
    """Row -> cosine between a token and the exact mean, both from the anchor. PRIVATE, and a look.

    Returns:
        Empty if the mean was not kept.
    """
    if _has_exact_mean(run):
        record_look(run, ("cosines",), rows=tuple(others))
    return _cosines(run, others)


def _has_exact_mean(run: Run) -> bool:
    rows = METHODS[run.plan.method].control_rows
    return "non_private" in rows and (run.folder / "controls" / rows["non_private"]).exists()


def _cosines(run: Run, others: dict[str, Run]) -> dict[str, float]:
    folder = run.folder / "controls"
    if not _has_exact_mean(run):
        return {}
    words, kept = run.options["prompts"]["placeholders"], METHODS[run.plan.method].control_rows
    anchor, exact = (
        read_embeds(folder / kept[row], words).double().flatten(1)
        for row in ("public_only", "non_private")
    )
    tokens = {"synthetic": (run.model, words)}
    tokens |= {row: (folder / kept[row], words) for row in ("noise_only", "one_image")}
    tokens |= {
        row: (other.model, other.options["prompts"]["placeholders"])
        for row, other in others.items()
        if METHODS[other.plan.method].learns_tokens
    }
    found = {row: read_embeds(*place).double().flatten(1) for row, place in tokens.items()}
    return {
        row: round(float(cosine(u - anchor, exact - anchor)), 4)
        for row, u in found.items()
        if u.shape == exact.shape
    }


def latents_of(base: Base) -> Extractor:
    """The base's own autoencoder as features: public, and there before any image is."""

    def function(images: np.ndarray) -> np.ndarray:
        parts = [
            base.encode(images[i : i + 256])[0].flatten(1).numpy()
            for i in range(0, len(images), 256)
        ]
        return np.concatenate(parts)

    return Extractor("autoencoder", function)


def non_private_base(run: Run, seed: int = 0) -> Base:
    """Returns the same recipe on the run's cached latents without clipping and noise.

    PRIVATE, and a look.
    """
    record_look(run, ("weights without privacy",))
    return _non_private_base(run, seed)


def _non_private_base(run: Run, seed: int = 0) -> Base:
    prepared = rebuild(run.plan, run.options, run.selected, run.start)
    plan, micro_batch = run.plan, prepared.performance.micro_batch
    assert micro_batch is not None  # a run has decided
    state = State(
        prepared.adaptation.trainable, prepared.adaptation.learning_rate_factor, prepared.recipe
    )
    train_without_privacy(
        prepared.adaptation,
        open_latents(run.folder / "cache"),
        recipe=prepared.recipe,
        state=state,
        steps=plan.steps,
        batch=round(plan.expected_batch_size),
        draws=plan.noise_draws,
        micro_batch=micro_batch,
        seed=seed,
    )
    state.use_average()
    folder = run.folder / "evaluation" / "non-private-model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    public = frozen_contents(prepared.adaptation)
    prepared.adaptation.save(folder)
    run.record(note_weights(run, "control", folder, public))
    return open_adapted(folder, lambda: original_base(plan))


def _sampling_of(release: Path) -> dict[str, Any]:
    for name in ("privacy.json", "synthesis.json"):
        path = release / name
        if path.exists():
            body = json.loads(path.read_text("utf-8"))
            made = body.get("certificate", body).get("synthesis", {})
            return {
                "scheduler": made["scheduler"],
                "steps": made["steps"],
                "guidance_scale": made["guidance"],
                "seed": made["public_seed"],
                "n": made["n"],
            }
    raise SfumatoError(f"{release} has no certificate: make it with `sfumato synthesize`")


def records_of(
    source: str | Path | RecordSet,
    classes: Sequence[str],
    split: str,
    values: Values = FIXED,
) -> RecordSet:
    """The records of a folder, with stored `values` as the run declared; a RecordSet as it is."""
    if isinstance(source, RecordSet):
        return source
    path = Path(source)
    alone = len(classes) == 1 and is_flat(path)
    own = {"classes": list(classes), "split": split, "unlabelled": alone}
    return load_records(path, **own, **values.as_options())


def images_of(
    source: str | Path | RecordSet, classes: Sequence[str], resolution: int, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a folder or RecordSet.

    Args:
        source: The folder or RecordSet.
        classes: The run's classes; labels are positions in it.
        resolution: In pixels.
        split: Which split of the source.

    Returns:
        uint8 [n, h, w, 3] and int64 [n].

    Raises:
        SfumatoError: A class unknown to the run.
        DataError: Images changed or vanished while they were read.
    """
    records = records_of(source, classes, split)
    index = {name: i for i, name in enumerate(classes)}
    for name in records.classes:
        if name not in index:
            raise SfumatoError(f"{records.source} has a class {name!r} that the run does not know")
    own = np.array([index[name] for name in records.classes])
    use = np.flatnonzero(records.usable & (records.labels >= 0))
    images, good = records.load(use, resolution)
    if not good.all():
        raise DataError(
            f"{int((~good).sum())} images changed or vanished while they were read: start again"
        )
    return images, own[records.labels[use]]


def _plain(found: Comparison) -> dict[str, Any]:
    return {
        f"FD-{found.features}": found.frechet,
        f"KD-{found.features}": found.kernel._asdict(),
        "manifold": found.manifold._asdict(),
    }
