"""Inversion end to end on a tiny base: one run to a release, isolation, resume, shards, and what is
left behind.
"""

from __future__ import annotations

import importlib
import json
import shutil
import stat

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sfumato import verbs
from sfumato.bases.tiny import make_tiny_images
from sfumato.errors import Interrupted, SfumatoError
from sfumato.methods import Embedding, Inversion, Lora, Saliency
from sfumato.methods.inversion import cost, store
from sfumato.methods.inversion import fit as inversion
from sfumato.options import Execution, Sampling
from sfumato.planning.facts import PublicFacts
from sfumato.planning.prepare import prepare
from sfumato.planning.task import task_of
from sfumato.privacy.random.keys import RunKey
from sfumato.records import load_records
from sfumato.runs.samples import Samples
from sfumato.runs.workspace import RunWorkspace

torch.set_num_threads(1)
OPTIONS = {"inversion_steps": 3, "inversion_draws": 2, "dimensions": 4}


@pytest.fixture(autouse=True)
def steady_ground(monkeypatch, tmp_path):
    monkeypatch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
    monkeypatch.setenv("SFUMATO_LEDGER", str(tmp_path / "ledger.sqlite"))


@pytest.fixture
def artwork(tmp_path, tiny_images):
    """A plain folder of 24 pictures, as a user has it."""
    (tmp_path / "artwork").mkdir()
    for path in tiny_images.rglob("*.png"):
        shutil.copy(path, tmp_path / "artwork" / f"{path.parent.name}-{path.name}")
    return tmp_path / "artwork"


def adapt(path, base, output, **changes):
    options = {
        "epsilon": 4.0,
        "method": Inversion(**OPTIONS),
        "base": str(base),
        "prompt": "a {class} picture",
    }
    return verbs.adapt(path, anyway=True, yes_public=True, output=output, **options | changes)


def test_a_folder_of_pictures_becomes_a_token_and_a_verified_release(artwork, tiny_base, tmp_path):
    run = adapt(artwork, tiny_base, tmp_path / "run")
    plan = run.plan
    assert plan.classes == ("image",) and plan.prompts == ("a <artwork> picture",)
    assert plan.n_units == 24 and plan.aggregation.divisors == (24.0,) and plan.epsilon <= 4
    assert [type(event).__name__ for event in plan.events] == ["Gaussian"]
    tokens = load_file(run.model / "learned_embeds.safetensors")
    assert list(tokens) == ["<artwork>"] and tokens["<artwork>"].shape == (1, 16)
    assert not (run.folder / store.FOLDER).exists()  # the private embeddings are gone
    assert sorted(p.name for p in (run.folder / "controls").iterdir()) == ["anchor", "noise-only"]

    verbs.synthesize(run, 6, tmp_path / "pictures", sampling=Sampling(steps=2), keep_key=True)
    verbs.export(run, tmp_path / "model")
    for name in ("pictures", "model"):
        verbs.release(tmp_path / name)
        report = verbs.verify(tmp_path / name)
        assert report.ok, report
        facts = json.loads((tmp_path / name / "privacy.json").read_text())
        (query,) = facts["mechanism"]["one_shot"]
        assert (
            query["noise_stddev"] >= plan.noise_multiplier * plan.clip_norm
            and facts["mechanism"]["billed_steps"] == 0
        )
    assert (tmp_path / "model" / "learned_embeds.safetensors").is_file()
    assert (
        'load_textual_inversion("path/to/this/folder/learned_embeds.safetensors")'
        in (tmp_path / "model/README.md").read_text()
    )

    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(tiny_base, local_files_only=True)
    pipe.load_textual_inversion(tmp_path / "model")
    number = pipe.tokenizer.convert_tokens_to_ids("<artwork>")
    assert torch.allclose(
        pipe.text_encoder.get_input_embeddings().weight[number], tokens["<artwork>"][0]
    )


def workspace(run, data, **execution):
    """An attempt of its own at a run, under a key that anybody knows."""
    return RunWorkspace(
        data=data,
        order=np.arange(len(data.label)),
        key=RunKey(bytes(32)),
        attempt=0,
        folder=run.folder,
        execution=Execution(**execution),
        checkpoint=None,
        selected=None,
        moments=None,
        on_stage=lambda stage: None,
        run=run,
        tell=lambda now, plan: None,
        samples=Samples(run, 0, lambda stage: None),
    )


def test_a_missing_file_is_a_zero_and_nothing_else(artwork, tiny_base, tmp_path):
    """The same noise, the same divisor: what is released differs by the missing unit's bounded
    vector over n, exactly.
    """
    from sfumato.privacy.mechanisms.mean import GRID
    from sfumato.runs.prepared import rebuild
    from sfumato.training import open_latents

    run = adapt(
        artwork,
        tiny_base,
        tmp_path / "run",
        keep_inversions=True,
        method=Inversion(**OPTIONS, shrink=False),
    )
    prepared, data = rebuild(run.plan, run.options), open_latents(run.folder / "cache")
    geometry, plan, label = (
        prepared.adaptation.geometry,
        run.plan,
        torch.zeros(1, dtype=torch.long),
    )
    inverter = prepared.adaptation.inverter
    rows = inverter.vectors(
        store.read_rows(run.folder, 24, inverter.geometry.dimensions), np.zeros(24, np.int64)
    )
    row = geometry.coordinates(torch.from_numpy(rows[7:8]), label).numpy().astype(np.float64)
    released = []
    for _ in range(2):
        vectors = inversion.release(prepared, workspace(run, data, keep_inversions=True))
        released.append(geometry.coordinates(vectors, label).numpy())
        store.place_of(run.folder, 7).unlink(missing_ok=True)
    bounded = plan.aggregation.unit_rows(row, plan.clip_norm) * (plan.clip_norm / GRID)
    assert np.abs(bounded).max() > 1e-3
    assert np.allclose((released[0] - released[1]) * 24, bounded, atol=1e-5)

    # A start that was to keep everything did not end, and the next was not to: nothing exact is
    # left of it.
    assert (run.folder / "controls" / "one-image").exists()
    inversion.release(prepared, workspace(run, data))
    assert sorted(p.name for p in (run.folder / "controls").iterdir()) == ["anchor", "noise-only"]
    assert not (run.folder / store.FOLDER).exists()


def test_controls_are_rows_of_the_evaluation(artwork, tiny_base, tmp_path, monkeypatch):
    from sfumato.verbs import evaluate, figures

    monkeypatch.setattr(figures, "FEWEST_COMPARED", 6)
    for kept in (True, False):
        run = adapt(artwork, tiny_base, tmp_path / f"run-{kept}", keep_inversions=kept)
        verbs.synthesize(run, 12, tmp_path / f"pictures-{kept}", sampling=Sampling(steps=1))
        rows = (
            ("synthetic", "public_only", "noise_only", "one_image", "non_private")
            if kept
            else ("noise_only",)
        )
        found = evaluate.evaluate(
            run,
            tmp_path / f"pictures-{kept}",
            test=artwork,
            rows=rows,
            public_images=12,
            allow_overlap=True,
        )
        assert set(found.distances) == set(rows) and not found.utility
        assert all("FD-autoencoder" in found.distances[row] for row in rows)
    with pytest.raises(SfumatoError, match="--controls"):
        evaluate.evaluate(run, tmp_path / "pictures-False", test=artwork, rows=("non_private",))
    other = adapt(artwork, tiny_base, tmp_path / "other", method=Embedding(), steps=1)
    with pytest.raises(SfumatoError, match="--method inversion"):
        evaluate.evaluate(other, tmp_path / "pictures-True", test=artwork, rows=("noise_only",))


def test_a_certificate_with_less_noise_or_another_bound_does_not_verify(
    artwork, tiny_base, tmp_path
):
    run = adapt(artwork, tiny_base, tmp_path / "run")
    verbs.export(run, tmp_path / "model")
    verbs.release(tmp_path / "model")
    good = json.loads((tmp_path / "model" / "privacy.json").read_text())
    from sfumato.releases.consistency import check_facts
    from sfumato.releases.verify_privacy import check_privacy

    def failed(change):
        facts = json.loads(json.dumps(good))
        change(facts, facts["mechanism"]["one_shot"][0])
        try:
            return [
                name
                for name, passed, _ in [*check_privacy(facts), *check_facts(facts)]
                if not passed
            ]
        except (ValueError, LookupError, TypeError):  # `verify` makes a failed check of it
            return ["unreadable"]

    assert failed(lambda facts, query: None) == []
    assert "aggregation" in failed(
        lambda facts, query: query.update(noise_stddev=0.99 * query["noise_stddev"])
    )
    assert "aggregation" in failed(
        lambda facts, query: query.update(sensitivity=0.5 * query["sensitivity"])
    )
    assert "events" in failed(lambda facts, query: query.update(noise=query["noise"] * 2))
    assert "events" in failed(lambda facts, query: facts["mechanism"].update(one_shot=[]))
    # The page that is signed says mechanism.noise_multiplier: it must be what is billed.
    assert "aggregation" in failed(
        lambda facts, query: facts["mechanism"].update(noise_multiplier=100.0)
    )
    assert "aggregation" in failed(
        lambda facts, query: query.update(noise_stddev=100 * query["noise_stddev"])
    )
    assert "aggregation" in failed(lambda facts, query: query.update(sampling_rate=0.01))
    assert "aggregation" in failed(
        lambda facts, query: query.update(type="laplace", sampling_rate=0.5)
    )
    for query_says in (
        {"divisors": [True]},
        {"divisors": [24.0, 24.0]},
        {"divisors": []},
        {"rule": "mean"},
        {"blocks": 2},
    ):
        assert failed(lambda facts, query, says=query_says: query.update(says)), query_says

    def hidden(facts, query):
        for name in ("divisors", "sensitivity", "noise_stddev"):
            del query[name]

    assert "aggregation" in failed(hidden)


def test_interrupted_and_sharded_runs_end_with_the_same_bytes(
    artwork, tiny_base, tmp_path, monkeypatch
):
    from sfumato.options import Performance

    key = RunKey(bytes(range(32)))
    monkeypatch.setattr("sfumato.runs.folder.RunKey.generate", lambda: key)
    monkeypatch.setattr("sfumato.runs.folder.RunKey.fresh_salt", staticmethod(lambda: "00" * 16))
    more = {"performance": Performance(micro_batch=5), "keep_inversions": True}
    whole = adapt(artwork, tiny_base, tmp_path / "whole", **more)
    wanted = (whole.model / "learned_embeds.safetensors").read_bytes()
    files = sorted((whole.folder / store.FOLDER).iterdir())
    assert len(files) == 24 and all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in files)
    assert (whole.folder / "controls" / "non-private" / "learned_embeds.safetensors").is_file()

    calls = iter([False, True])
    real = inversion.invert

    def stopped(prepared, workspace, stopping):
        return real(prepared, workspace, lambda: next(calls))

    monkeypatch.setattr(inversion, "invert", stopped)
    with pytest.raises(Interrupted):
        adapt(artwork, tiny_base, tmp_path / "stopped", **more)
    monkeypatch.setattr(inversion, "invert", real)
    left = tmp_path / "stopped" / store.FOLDER
    assert len(list(left.iterdir())) == 10
    torn = sorted(left.iterdir())[0]
    torn.write_bytes(torn.read_bytes()[:7])  # a cut file is made again
    again = verbs.adapt(artwork, output=tmp_path / "stopped", resume=True, keep_inversions=True)
    assert (again.model / "learned_embeds.safetensors").read_bytes() == wanted

    first = adapt(
        artwork,
        tiny_base,
        tmp_path / "sharded",
        shard=(0, 2),
        performance=Performance(micro_batch=5),
    )
    assert not (first.folder / "model").exists()
    verbs.adapt(artwork, output=first.folder, resume=True, shard=(1, 2))
    assert len(list((first.folder / store.FOLDER).iterdir())) == 24
    monkeypatch.setattr(inversion.store, "write_rows", None)  # nothing is left to invert
    last = verbs.adapt(artwork, output=first.folder, resume=True)
    assert (last.model / "learned_embeds.safetensors").read_bytes() == wanted
    assert not (last.folder / store.FOLDER).exists()


def test_a_second_noisy_sum_is_never_free(artwork, tiny_base, tmp_path):
    from sfumato.options import Performance

    for steps in (0, -25):  # what a new attempt is billed by
        with pytest.raises(SfumatoError, match="--checkpointing-steps"):
            adapt(
                artwork,
                tiny_base,
                tmp_path / "run",
                shard=(3, 4),
                performance=Performance(checkpoint_steps=steps),
            )
    adapt(artwork, tiny_base, tmp_path / "run", shard=(3, 4))
    with pytest.raises(SfumatoError, match="retry reserve"):
        verbs.adapt(artwork, output=tmp_path / "run", resume=True, new_attempt=True)


def test_no_private_file_is_written_after_they_were_added_up(
    artwork, tiny_base, tmp_path, monkeypatch
):
    """Shards work side by side, whoever adds up works alone, and a shard that comes late finds the
    run finished.
    """
    from sfumato.runs.lock import one_writer

    run = adapt(artwork, tiny_base, tmp_path / "run", shard=(0, 2))
    with one_writer(run, (1, 2)):
        with one_writer(run, (0, 2)):
            pass
        for shard in ((1, 2), None):
            with pytest.raises(SfumatoError, match="another process"):
                verbs.adapt(artwork, output=run.folder, resume=True, shard=shard)
    assert (run.folder / store.FOLDER).exists() and not (run.folder / "model").exists()

    page = importlib.import_module("sfumato.verbs.resume")
    real = page.records_of

    def slow(path, reading):
        monkeypatch.setattr(page, "records_of", real)
        # while this shard reads, another process adds up
        verbs.adapt(artwork, output=run.folder, resume=True)
        return real(path, reading)

    monkeypatch.setattr(page, "records_of", slow)
    with pytest.raises(SfumatoError, match="finished meanwhile"):
        verbs.adapt(artwork, output=run.folder, resume=True, shard=(1, 2))
    assert (run.folder / "model").exists() and not (run.folder / store.FOLDER).exists()


def test_isolation_is_asked_for_the_rows_that_run(artwork, tiny_base, tmp_path, monkeypatch):
    """However the measured memory wavers, and on every rank: what is checked is what the run's
    options say.
    """
    from sfumato.methods.inversion.batch import Inverter

    checked, peaks = [], iter([2 << 30, 1 << 30, 4 << 30])
    monkeypatch.setattr(cost, "peak_bytes", lambda work: next(peaks))
    monkeypatch.setattr(Inverter, "self_check", lambda self, rows: checked.append(rows) or True)
    run = adapt(artwork, tiny_base, tmp_path / "run", shard=(3, 4))
    assert checked == [run.options["performance"]["micro_batch"]]


def test_one_token_a_class_with_person_units_and_several_vectors(tiny_images, tiny_base, tmp_path):
    options = OPTIONS | {"num_vectors": 2, "dimensions": 6}
    run = adapt(
        tiny_images,
        tiny_base,
        tmp_path / "run",
        method=Inversion(**options),
        prompt="{class} circle",
        placeholder="<mark>",
    )
    assert run.plan.aggregation.blocks == 3 and run.plan.trainable == 18
    assert run.plan.aggregation.divisors == (8.0, 8.0, 8.0)
    found = {
        k: v for path in sorted(run.model.glob("*.safetensors")) for k, v in load_file(path).items()
    }
    assert list(found) == ["<mark-0>", "<mark-1>", "<mark-2>"] and all(
        v.shape == (2, 16) for v in found.values()
    )
    verbs.export(run, tmp_path / "model")
    assert verbs.verify(verbs.release(tmp_path / "model")).ok


def test_a_persons_pictures_are_one_unit(artwork, tiny_base, tmp_path):
    names = sorted(p.name for p in artwork.iterdir())
    (artwork / "metadata.csv").write_text(
        "file_name,label,person\n"
        + "".join(f"{name},drawing,p{i // 3}\n" for i, name in enumerate(names))
    )
    run = adapt(artwork, tiny_base, tmp_path / "run", unit="person", placeholder="<hand>")
    assert (
        run.plan.unit == "person"
        and run.plan.n_units == 8
        and run.plan.aggregation.divisors == (8.0,)
    )
    verbs.export(run, tmp_path / "model")
    assert verbs.verify(verbs.release(tmp_path / "model")).ok
    statement = (tmp_path / "model" / "PRIVACY.md").read_text()
    assert (
        "any number, averaged before the bound" in statement
        and "1 noisy query is included" in statement
    )


def test_the_papers_recipe_subsampled_is_priced_as_a_poisson_sample(artwork, tiny_base, tmp_path):
    run = adapt(
        artwork,
        tiny_base,
        tmp_path / "run",
        expected_batch_size=12,
        relation="replace-one",
        keep_inversions=True,
        method=Inversion(inversion_steps=2, inversion_draws=1, aggregate="unit"),
    )
    (event,) = run.plan.events
    assert (event.sampling_rate, event.steps) == (0.5, 1) and run.plan.clip_norm == 1.0
    assert run.plan.aggregation.dimensions == 16 and not run.plan.aggregation.shrink
    # Nobody outside the sample is inverted, or added up.
    from sfumato.privacy.mechanisms.mean import STEP
    from sfumato.privacy.random.sampling import poisson

    key = run.key.for_attempt(run.ledger.bodies("ATTEMPT")[0]["salt"])
    drawn = poisson(key, STEP, 0, 24, 0.5)
    assert np.flatnonzero(store.read_rows(run.folder, 24, 16).any(1)).tolist() == drawn.tolist()


def test_a_unit_is_in_the_sample_with_all_of_its_images_or_none():
    from sfumato.training import LatentData

    unit = np.random.default_rng(0).permutation(np.arange(60) % 20)
    order = np.argsort(unit, kind="stable")
    first = np.searchsorted(unit[order], np.arange(21))
    data = LatentData(np.zeros((60, 1)), np.zeros((60, 1)), np.arange(60) % 3, order, first)
    left = inversion.only_sampled(data, 0.5, RunKey(bytes(32)), 0).label
    inside = {int(u) for u in unit[left >= 0]}
    assert 4 < len(inside) < 16 and (np.isin(unit, list(inside)) == (left >= 0)).all()
    assert (left[left >= 0] == data.label[left >= 0]).all()
    assert (inversion.only_sampled(data, 0.5, RunKey(bytes(32)), 1).label != left).any()


def test_dp_sgd_on_one_token_runs_through_the_ordinary_loop(artwork, tiny_base, tmp_path):
    run = adapt(
        artwork,
        tiny_base,
        tmp_path / "run",
        method=Embedding(),
        steps=2,
        clip_norm=1.0,
    )
    assert run.plan.aggregation is None and run.plan.trainable == 16
    assert list(load_file(run.model / "learned_embeds.safetensors")) == ["<artwork>"]
    verbs.synthesize(run, 2, tmp_path / "pictures", sampling=Sampling(steps=1))


def test_plan_says_what_the_answer_will_be_worth(artwork, tiny_base, tmp_path):
    poor = verbs.plan(
        artwork,
        epsilon=0.5,
        method=Inversion(**(OPTIONS | {"dimensions": 16})),
        base=str(tiny_base),
        prompt="{class}",
    )
    assert poor.forecast.cosine < 0.75 and not poor.forecast.known and poor.forecast.needed > 24
    assert any("noise" in remark for remark in poor.remarks)
    public = verbs.plan(
        artwork,
        epsilon=100.0,
        method=Inversion(**OPTIONS),
        base=str(tiny_base),
        prompt="{class}",
        public_data=make_tiny_images(tmp_path / "public", seed=9),
    )
    assert public.forecast.known and public.plan.aggregation.subspace == "public"
    assert public.forecast.cosine > poor.forecast.cosine and public.estimate.seconds > 0


def test_public_images_place_the_anchor_and_are_not_needed_again(artwork, tiny_base, tmp_path):
    public = make_tiny_images(tmp_path / "public", seed=9)
    run = adapt(artwork, tiny_base, tmp_path / "run", public_data=public, shard=(0, 1))
    assert (
        set(run.start) == {"anchor", "basis", "radius", "spectrum", "signal"}
        and run.plan.aggregation.subspace == "public"
    )
    assert run.plan.clip_norm == float(run.start["radius"][0])
    done = verbs.adapt(artwork, output=run.folder, resume=True)
    token = load_file(done.model / "learned_embeds.safetensors")["<artwork>"]
    assert torch.isfinite(token).all() and not torch.allclose(token, run.start["anchor"])
    with pytest.raises(SfumatoError, match="--public-data is for"):
        adapt(
            artwork,
            tiny_base,
            tmp_path / "other",
            public_data=public,
            method=Inversion(subspace="none"),
        )


def test_a_private_picture_is_not_public(artwork, tiny_base, tmp_path):
    """Their mean is released without noise: one picture of the private folder among them, under
    whatever name, is refused.
    """
    public = make_tiny_images(tmp_path / "public", seed=9)
    Image.open(artwork / "circle-000.png").save(public / "circle" / "another.png", compress_level=1)
    for path in (public, artwork):
        with pytest.raises(SfumatoError, match="also among the private images"):
            adapt(artwork, tiny_base, tmp_path / "run", public_data=path)
    saliency = {
        "method": Saliency(choose="public"),
        "unlabelled": True,
        "prompt": "circle",
    }
    with pytest.raises(SfumatoError, match="also among the private images"):
        adapt(artwork, tiny_base, tmp_path / "run", public_data=public, **saliency)
    assert not (tmp_path / "run").exists()


def test_one_picture_replaced_by_nothing_moves_no_other_bit(artwork, tiny_base, tmp_path):
    """The whole way from files to private embeddings, with a picture that cannot be read in the
    other data set.
    """
    rows = {}
    records = load_records(artwork, unlabelled=True)
    prepared = prepare(
        PublicFacts.of(records),
        task_of(epsilon=4.0, method=Inversion(**OPTIONS), base=str(tiny_base), prompt="{class}")[2],
    )
    for name in ("all", "without"):
        if name == "without":
            (artwork / "cross-003.png").write_bytes(b"no picture")
            records = load_records(artwork, unlabelled=True, max_bad=1.0)
        from sfumato.training import build_latents

        data = build_latents(
            tmp_path / name,
            records.n,
            lambda slots, r=records: r.load(slots, 16),
            lambda i: prepared.base.encode(i),
            np.where(records.usable, records.labels, -1),
            records.unit,
            order=records.reading_order,
        )
        inverter = prepared.adaptation.inverter
        rows[name] = [
            inverter.invert(data, c, RunKey(bytes(32)))[0]
            for c in inversion.chunks(records.reading_order, 7)
        ]
    gone = [
        i
        for i in range(24)
        if not np.array_equal(np.concatenate(rows["all"])[i], np.concatenate(rows["without"])[i])
    ]
    assert len(gone) == 1 and not np.concatenate(rows["without"])[gone[0]].any()


def test_options_that_do_not_fit_are_refused(artwork, tiny_base, tmp_path):
    for changes, words in (
        ({"steps": 3}, "no training steps"),
        ({"retry_fraction": 0.1}, "no training steps"),
        ({"method": Inversion(aggregate="unit", dimensions=4)}, "paper's recipe"),
        ({"method": Inversion(subspace="public")}, "--public-data"),
        ({"method": Inversion(dimensions=17)}, "--dimensions 17"),
        ({"placeholder": "Circle"}, "placeholder"),
        ({"embedder": False}, "--no-embedder"),
        (
            {"method": Lora(), "shard": (0, 2), "unlabelled": True},
            "--method inversion",
        ),
    ):
        with pytest.raises(SfumatoError, match=words):
            adapt(artwork, tiny_base, tmp_path / "run", **changes)
        assert not (tmp_path / "run").exists()


def test_one_picture_in_two_sizes_is_no_reason_to_stop(tmp_path, tiny_base):
    (tmp_path / "few").mkdir()
    for i in range(3):
        Image.new("RGB", (16, 16), (90 * i, 20, 7)).save(tmp_path / "few" / f"{i}.png")
    run = adapt(tmp_path / "few", tiny_base, tmp_path / "run", epsilon=1.0)
    assert run.plan.n_units == 3 and (run.model / "learned_embeds.safetensors").is_file()
