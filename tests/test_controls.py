"""Controls of an inversion: the public ones are in every report, the exact ones stay in the run
folder whatever one tries.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
import torch
from markupsafe import escape
from PIL import Image
from safetensors.torch import load_file, save_file

from sfumato import verbs
from sfumato.errors import LedgerFault, SfumatoError
from sfumato.evaluation.page import in_words
from sfumato.methods import Embedding, Inversion, Lora
from sfumato.methods.inversion import store
from sfumato.options import Sampling
from sfumato.releases import DRAFT, finalise, write_release
from sfumato.releases.beside import check_beside
from sfumato.releases.facts import CertificateFacts, LedgerFacts
from sfumato.runs.folder import Run
from sfumato.verbs import evaluate, figures
from sfumato.verbs.cosines import token_cosines

from .pasted import draw_as_pasted, pixels

torch.set_num_threads(1)
OPTIONS = {"inversion_steps": 3, "inversion_draws": 2, "dimensions": 4}


@pytest.fixture(scope="module")
def steady_ground():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
        yield


@pytest.fixture(scope="module")
def artwork(tiny_images, tmp_path_factory):
    """24 pictures in one folder, and 6 others of the same kind to test with."""
    place = tmp_path_factory.mktemp("artwork")
    for name in ("private", "test"):
        (place / name).mkdir()
    for i, path in enumerate(sorted(tiny_images.rglob("*.png"))):
        shutil.copy(path, place / "private" / f"{i:02d}.png")
        if i % 4 == 0:
            Image.open(path).rotate(90).save(place / "test" / f"{i:02d}.png")
    return place


def adapted(artwork, base, output, **changes):
    said = {"epsilon": 4.0, "base": str(base), "prompt": "a {class} picture"}
    method = {"method": Inversion(**OPTIONS)}
    return verbs.adapt(
        artwork / "private",
        anyway=True,
        yes_public=True,
        output=output,
        **{**said, **method, **changes},
    )


@pytest.fixture(scope="module")
def place(steady_ground, artwork, tiny_base, tmp_path_factory):
    """A run with its exact controls, the pictures and the token released from it, and the images'
    evaluation.
    """
    place = tmp_path_factory.mktemp("place")
    ledger = place / "ledger.sqlite"
    run = adapted(artwork, tiny_base, place / "run", controls=True, ledger=ledger)
    adapted(
        artwork,
        tiny_base,
        place / "run-embedding",
        ledger=ledger,
        method=Embedding(),
        steps=2,
        clip_norm=1.0,
    )
    verbs.synthesize(run, 12, place / "pictures", sampling=Sampling(steps=2), keep_key=True)
    verbs.export(run, place / "token")
    for name in ("pictures", "token"):
        shutil.copytree(place / name, place / f"{name}-draft")
        verbs.release(place / name)
    return place


def site(place, tmp_path):
    """Runs, their ledger and what was made from them, where a test may add rows."""
    shutil.copytree(place, tmp_path / "site")
    return tmp_path / "site"


def opened(site, name: str = "run"):
    return Run.open(site / name, site / "ledger.sqlite")


def strips(page: str) -> list[Image.Image]:
    found = re.findall(r"data:image/png;base64,([^\"]+)", page)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def test_a_release_shows_the_token_beside_public_controls(place):
    report = verbs.verify(place / "pictures")
    assert report.ok
    page = (place / "pictures" / "report.html").read_text()
    for words in (
        "the released token",
        "the public anchor alone",
        "the same noise on a sum of nothing",
        "an assumption",
    ):
        assert words in page
    drawn = [np.asarray(one.convert("RGB"), int) for one in strips(page)]
    assert len(drawn) == 4 * 10 and {one.shape for one in drawn} == {(16, 16, 3)}
    samples, released, anchor, noise = (np.stack(drawn[i : i + 10]) for i in range(0, 40, 10))
    # The row of the token shows the pictures that were released, drawn again.
    assert np.abs(samples - released).max() <= 2
    assert not np.array_equal(released, anchor) or not np.array_equal(released, noise)
    assert "as <code>plan</code> printed it" in page and "can be learned" in page


def test_a_token_release_shows_pictures_beside_the_public_anchor(place):
    page = (place / "token" / "report.html").read_text()
    assert "the public anchor alone" in page and verbs.verify(place / "token").ok
    shown = [one.convert("RGB").tobytes() for one in strips(page)]
    files = [f"{row}-{i:03d}.png" for row in ("adapted", "base", "noise-only") for i in range(6)]
    folder = place / "token" / "samples"
    assert sorted(p.name for p in folder.iterdir()) == sorted([*files, "metadata.jsonl"])
    assert shown == [Image.open(folder / name).convert("RGB").tobytes() for name in files]
    card = (place / "token" / "README.md").read_text()
    assert '<img src="samples/adapted-000.png"' in card and "A token for a public" in card


def test_the_figures_beside_a_token_are_those_of_the_files(place):
    draft = json.loads((place / "token-draft" / DRAFT).read_text())["controls"]
    token = {
        name: load_file(path / "learned_embeds.safetensors")["<artwork>"].flatten().double()
        for name, path in {
            "released": place / "token",
            "anchor": place / "run" / "controls" / "anchor",
        }.items()
    }
    between = (token["released"] - token["anchor"]).norm()
    plan = json.loads((place / "run" / "plan.json").read_text())
    assert draft["rows"]["released"]["from_anchor"] == pytest.approx(
        float(between / plan["clip_norm"]), rel=1e-4
    )
    assert draft["rows"]["anchor"] == pytest.approx({"from_anchor": 0.0, "cosine_with_anchor": 1.0})
    assert 0 < draft["expected"]["cosine"] < 1 and draft["expected"]["known"] is False


def test_public_controls_look_at_no_run(place, artwork, tiny_base, tmp_path, steady_ground):
    """Another run on other pictures, with another key, has the same public tokens to the bit."""
    other = tmp_path / "other"
    shutil.copytree(artwork / "private", other / "private")
    for path in (other / "private").iterdir():
        path.write_bytes((artwork / "private" / "07.png").read_bytes())
    run = adapted(other, tiny_base, tmp_path / "run")
    for name in ("anchor", "noise-only"):
        file = f"controls/{name}/learned_embeds.safetensors"
        assert (run.folder / file).read_bytes() == (place / "run" / file).read_bytes()
    assert sorted(p.name for p in (run.folder / "controls").iterdir()) == ["anchor", "noise-only"]


def test_exact_controls_are_marked_and_the_embeddings_are_gone(place):
    assert not (place / "run" / store.FOLDER).exists()
    for name in ("non-private", "one-image"):
        folder = place / "run" / "controls" / name
        assert (folder / "PRIVATE").read_text().startswith("PRIVATE")
    for name in ("pictures", "token"):
        facts = json.loads((place / name / "privacy.json").read_text())
        assert facts["not_private"]["internal_evaluations"] == ["exact-controls"]
        # the exact mean and one image's embedding, kept at the owner's wish
        assert facts["looks"]["exact"] == 1


def test_no_release_holds_an_exact_control(place):
    """Neither its numbers nor a picture drawn with it, in any file of any release."""
    secret = []
    for name in ("non-private", "one-image"):
        row = load_file(place / "run" / "controls" / name / "learned_embeds.safetensors")[
            "<artwork>"
        ].numpy()
        secret += [row.tobytes(), row.astype("<f2").tobytes(), row.astype("<f8").tobytes()]
    seen = 0
    for name in ("pictures", "token", "pictures-draft", "token-draft"):
        for path in (p for p in (place / name).rglob("*") if p.is_file()):
            assert not any(part in path.read_bytes() for part in secret), path
            assert "non-private" not in path.name and "one-image" not in path.name
            seen += 1
    assert seen > 20


def test_exact_controls_put_into_a_release_by_hand_are_refused(place, tmp_path):
    exact = place / "run" / "controls" / "non-private"
    for kind in ("pictures", "token"):
        for what in ("controls", "evaluation"):
            folder = tmp_path / f"{kind}-{what}"
            shutil.copytree(place / f"{kind}-draft", folder)
            shutil.copytree(exact, folder / what)
            with pytest.raises(SfumatoError, match="not on the list"):
                verbs.release(folder)
    swapped = tmp_path / "swapped"
    shutil.copytree(place / "token-draft", swapped)
    shutil.copy(exact / "learned_embeds.safetensors", swapped / "learned_embeds.safetensors")
    with pytest.raises(SfumatoError, match="not the file that was synthesized or exported"):
        verbs.release(swapped)
    with pytest.raises(SfumatoError, match=DRAFT):
        verbs.release(exact)
    with pytest.raises(SfumatoError, match="PRIVATE is not on the list"):
        plan = json.loads((place / "run" / "plan.json").read_text())
        said = CertificateFacts(
            plan=plan,
            ledger=LedgerFacts(head="0" * 64, entries=1, attempts=1, replays=0),
            run_key_id="0" * 16,
            code_version="0",
        )
        write_release(exact, tmp_path / "out", said, artefacts="model")
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    shutil.copy(exact / "learned_embeds.safetensors", run / "model" / "learned_embeds.safetensors")
    for way in (
        lambda: verbs.export(run, tmp_path / "x"),
        lambda: verbs.synthesize(run, 2, tmp_path / "y"),
    ):
        with pytest.raises(LedgerFault, match="not the model"):
            way()


def test_the_cards_lines_draw_a_sample_again(place, tiny_base, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    name, drawn = draw_as_pasted(place / "token", tiny_base, tmp_path)
    assert name == "samples/adapted-000.png"
    assert np.abs(drawn - pixels(place / "token" / name)).mean() < 1.0


def test_distances_of_few_images_are_left_out(place, artwork, tmp_path):
    found = evaluate.evaluate(
        opened(site(place, tmp_path)),
        place / "pictures",
        test=artwork / "test",
        rows=("synthetic", "public_only"),
    )
    assert not found.distances and found.images["synthetic"] == 12
    assert found.verdict.sentences == ("What your images added is not measured: too few images.",)
    (remark,) = found.remarks
    assert remark.startswith("no distances of synthetic (the release), public base alone:")
    assert "fewer than 200 images" in remark and remark in found.page.read_text()


def test_the_owner_sees_every_control_beside_the_release(place, artwork, tmp_path, monkeypatch):
    """All rows of the paper's comparison, DP-SGD on one embedding among them, as figures, cosines
    and pictures. PRIVATE.
    """
    monkeypatch.setattr(figures, "FEWEST_COMPARED", 6)
    own = site(place, tmp_path)
    run = own / "run"
    found = evaluate.evaluate(
        opened(own),
        place / "pictures",
        test=artwork / "test",
        public_images=12,
        beside=[opened(own, "run-embedding")],
        rows=("synthetic", "public_only", "noise_only", "one_image", "non_private"),
    )
    assert list(found.distances) == list(found.images)
    (sgd,) = set(found.distances) - set(evaluate.ROWS)
    assert sgd.startswith("embedding at epsilon ") and found.images[sgd] == 12
    assert set(found.cosines) == {"synthetic", "noise_only", "one_image", sgd}
    assert all(-1 <= value <= 1 for value in found.cosines.values())
    written = json.loads((run / "evaluation" / "utility.json").read_text())
    assert "PRIVATE" in written and written["beside"][sgd]["method"] == "embedding"
    assert written["cosine_to_exact_mean"] == found.cosines
    page = (run / "evaluation" / "page.html").read_text()
    assert (
        page.count("PRIVATE") >= 2
        and page.count("<figure>") == 7  # the real images, too
        and all(escape(in_words(row)) in page for row in found.images)
    )
    assert len({picture.tobytes() for picture in strips(page)}) > 4 * 5

    folder = tmp_path / "with-page"
    shutil.copytree(place / "pictures-draft", folder)
    shutil.copy(run / "evaluation" / "page.html", folder / "report.html")
    with pytest.raises(SfumatoError, match="report.html is not on the list"):
        verbs.release(folder, ledger=own / "ledger.sqlite")
    with pytest.raises(SfumatoError, match=DRAFT):
        verbs.release(run / "evaluation")


def test_a_token_near_the_exact_mean_has_a_high_cosine(place, artwork, tmp_path):
    own = site(place, tmp_path)
    run = own / "run"
    exact = load_file(run / "controls" / "non-private" / "learned_embeds.safetensors")["<artwork>"]
    anchor = load_file(run / "controls" / "anchor" / "learned_embeds.safetensors")["<artwork>"]
    cosines = []
    for sign in (1, -1):
        file = run / "controls" / "one-image" / "learned_embeds.safetensors"
        save_file(
            {"<artwork>": anchor + sign * 0.5 * (exact - anchor)}, file, metadata={"format": "pt"}
        )
        cosines.append(token_cosines(opened(own), {})["one_image"])
    assert cosines == [1.0, -1.0]


def test_runs_that_do_not_compare_are_refused(
    place, artwork, tiny_base, tiny_base_epsilon, tmp_path, steady_ground
):
    ledger = place / "ledger.sqlite"
    said = {"method": Embedding(), "steps": 1, "clip_norm": 1.0}
    other = adapted(artwork, tiny_base_epsilon, tmp_path / "base", ledger=ledger, **said)
    turned = tmp_path / "turned"
    shutil.copytree(artwork / "test", turned / "private")
    images = adapted(turned, tiny_base, tmp_path / "images", ledger=ledger, delta=1e-5, **said)
    for run, words in ((other, "base_digest"), (images, "other images")):
        with pytest.raises(SfumatoError, match=words):
            evaluate.evaluate(
                place / "run", place / "pictures", test=artwork / "test", beside=[run]
            )
    plain = adapted(turned, tiny_base, tmp_path / "plain")
    with pytest.raises(SfumatoError, match="adapt with --controls"):
        evaluate.evaluate(plain, place / "pictures", test=artwork / "test", rows=("one_image",))
    with pytest.raises(SfumatoError, match="--controls of adapt go with --method inversion"):
        adapted(
            artwork,
            tiny_base,
            tmp_path / "lora",
            method=Lora(),
            controls=True,
            unlabelled=True,
        )


def test_a_draft_that_names_another_control_is_refused(place, tmp_path):
    good = json.loads((place / "pictures-draft" / DRAFT).read_text())

    def rename(body):
        body["rows"]["non-private"] = body["rows"].pop("noise-only")

    def show(body):
        body["pictures"]["one-image"] = body["pictures"]["anchor"]

    def add(body):
        body["cosine_to_exact_mean"] = 0.9

    def score(body):
        body["rows"]["released"]["accuracy"] = 0.9

    def text(body):
        body["rows"]["released"]["from_anchor"] = "a name"

    def many(body):
        body["pictures"]["anchor"] = body["pictures"]["anchor"] * 2

    def labelled(body):
        out = io.BytesIO()
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("comment", "a name")
        Image.new("RGB", (2, 2)).save(out, "PNG", pnginfo=info)
        body["pictures"]["anchor"][0] = base64.b64encode(out.getvalue()).decode()

    assert check_beside(good["controls"])["rows"] and check_beside(None) is None
    for number, change in enumerate((rename, show, add, score, text, many, labelled)):
        folder = tmp_path / str(number)
        shutil.copytree(place / "pictures-draft", folder)
        draft = json.loads(json.dumps(good))
        change(draft["controls"])
        (folder / DRAFT).write_text(json.dumps(draft))
        with pytest.raises(SfumatoError, match="controls in the draft|metadata"):
            finalise(folder)  # the ledger's own comparison would refuse it first


def test_tokens_of_classes_and_several_vectors_stand_beside_their_own(
    steady_ground, tiny_images, tiny_base, tmp_path
):
    options = OPTIONS | {"num_vectors": 2, "dimensions": 6}
    run = verbs.adapt(
        tiny_images,
        anyway=True,
        yes_public=True,
        output=tmp_path / "run",
        epsilon=4.0,
        method=Inversion(**options),
        base=str(tiny_base),
        prompt="{class} circle",
    )
    for shard in (0, 1):
        verbs.synthesize(
            run,
            9,
            tmp_path / f"part-{shard}",
            sampling=Sampling(steps=1),
            keep_key=True,
            shard=(shard, 2),
            form="parquet",
        )
        drawn = json.loads((tmp_path / f"part-{shard}" / DRAFT).read_text())["controls"]["pictures"]
        assert [len(row) for row in drawn.values()] == [5 - shard] * 3
        # Noise alone may be shrunk to nothing, and then is the anchor.
        assert len({json.dumps(row) for row in drawn.values()}) >= 2
    verbs.synthesize(run, 2, tmp_path / "plain", sampling=Sampling(steps=1), controls=False)
    assert "pictures" not in json.loads((tmp_path / "plain" / DRAFT).read_text())["controls"]
    assert verbs.verify(verbs.release(tmp_path / "plain")).ok
