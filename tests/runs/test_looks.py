"""Looks: whoever sees exact private scores leaves a row, and every later certificate of a run on
these images says how often that was.
"""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato import verbs
from sfumato.cli import main
from sfumato.errors import BudgetError, DataError, LedgerFault, SfumatoError
from sfumato.releases import DRAFT, finalise, looks_facts
from sfumato.releases.statements import check_looks
from sfumato.runs import budget, certified
from sfumato.runs.folder import Run
from sfumato.runs.looks import looks_of
from sfumato.runs.reading import remembered
from sfumato.verbs import evaluate, figures
from sfumato.verbs.real_images import records_of
from sfumato.verbs.row_images import non_private_base
from tests.two_runs import make_two_runs

TRUSTED_GRADIENTS = True

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def place(tiny_base, tiny_images, tmp_path_factory):
    """Two runs on the same images, drafts of both, and pictures that are no private ones."""
    place = tmp_path_factory.mktemp("looks")
    rng = np.random.default_rng(3)
    for name in ("circle", "cross", "square"):
        (place / "held-out" / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(
                place / "held-out" / name / f"{i}.png"
            )
    make_two_runs(place, tiny_base, tiny_images, 12)
    yield place


@pytest.fixture
def site(place, tmp_path):
    """The same in a folder of the test's own, whose ledger may be written to."""
    shutil.copytree(place, tmp_path / "site")
    return tmp_path / "site"


def look(site, run="a", **said):
    run = Run.open(site / run, site / "ledger.sqlite")
    said = {
        "test": site / "held-out",
        "classifiers": ("logistic",),
        "seeds": (0,),
        "steps": 2,
        "distances": False,
    } | said
    return evaluate.evaluate(run, site / f"draft-{run.folder.name}", public_images=12, **said)


def rows(site) -> list[dict]:
    return [row.body for row in budget.open_ledger(site / "ledger.sqlite").chain.of("LOOK")]


def certificate(folder) -> dict:
    return json.loads((folder / "privacy.json").read_text())


def test_a_look_at_one_run_stands_in_the_release_of_another(site):
    look(site)
    look(site, seeds=(0, 1))
    assert [row["what"] for row in rows(site)] == [["accuracy"]] * 2 and all(
        row["internal"] for row in rows(site)
    )
    verbs.release(site / "draft-b", ledger=site / "ledger.sqlite")  # drafted before anybody looked
    assert certificate(site / "draft-b")["looks"]["exact"] == 2
    for name in ("privacy.json", "PRIVACY.md", "README.md", "report.html"):
        text = (site / "draft-b" / name).read_text()
        assert "Chosen after 2 looks at exact private scores; the choice is not covered." in text, (
            name
        )
    verbs.export(Run.open(site / "b", site / "ledger.sqlite"), site / "model")
    assert json.loads((site / "model" / DRAFT).read_text())["certificate"]["looks"]["exact"] == 2
    # The pictures that were looked at count as well: a run on them would carry the looks.
    ledger = budget.open_ledger(site / "ledger.sqlite")
    held_out = records_of(site / "held-out", ("circle", "cross", "square"), "test")
    assert ledger.group(ledger.identify(held_out.fingerprints)).looks == 2


def test_the_row_is_there_before_a_figure_is(site, monkeypatch):
    """Whoever stops an evaluation half-way has looked."""

    def die(*_, **__):
        assert len(rows(site)) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(figures, "images_of", die)
    with pytest.raises(KeyboardInterrupt):
        look(site)
    assert looks_of(Run.open(site / "a", site / "ledger.sqlite"))["exact"] == 1


def test_a_long_evaluation_is_no_look_without_a_yes(site, monkeypatch):
    """How long it takes, and what is quicker, is said before the row is written."""
    said: list[str] = []

    def no(seconds: float) -> bool:
        assert seconds > 0 and not rows(site)
        assert [text for text in said if text.startswith("note: about ") and "quicker" in text]
        return False

    monkeypatch.setattr(evaluate, "LONG", 0.0)
    with pytest.raises(SfumatoError, match="no look is recorded"):
        look(site, confirm=no, on_stage=said.append)
    assert not rows(site) and not (site / "a" / "evaluation").exists()
    look(site, confirm=no, public_test=True, on_stage=said.append)  # no look, so nobody is asked
    look(site, on_stage=said.append)  # nobody is there to be asked
    assert len(rows(site)) == 1
    monkeypatch.setattr(evaluate, "LONG", 3600.0)
    look(site, confirm=no)
    assert len(rows(site)) == 2


def test_every_way_to_exact_figures_is_a_look(site, tiny_images):
    run = Run.open(site / "a", site / "ledger.sqlite")
    look(site, test=site / "held-out", public_test=True)
    assert not rows(site)  # public images, public and released pictures: nobody saw a private score
    look(site, public_test=True, rows=("synthetic", "non_private"))
    look(site, public_test=True, rows=("synthetic", "real"), train=tiny_images)
    assert len(rows(site)) == 2
    non_private_base(run)
    assert len(rows(site)) == 3 and rows(site)[-1]["what"] == ["weights without privacy"]
    look(site, beside=(Run.open(site / "b", site / "ledger.sqlite"),))
    assert len(rows(site)) == 5  # one for each run that is judged
    with pytest.raises(DataError, match="known to the ledger as private"):
        look(site, test=tiny_images, public_test=True)


def test_an_evaluation_of_before_counts(site):
    (site / "a" / "evaluation").mkdir()
    (site / "a" / "evaluation" / "utility.json").write_text(
        json.dumps({"PRIVATE": "old", "utility": {}})
    )
    run = Run.open(site / "a", site / "ledger.sqlite")
    assert looks_of(run)["exact"] == 1
    look(site)
    assert looks_of(run)["exact"] == 1  # its own file now


def test_the_command_line_says_that_it_is_recorded(site, capsys):
    words = ["--ledger", str(site / "ledger.sqlite")]
    words = [str(site / "a"), str(site / "draft-a"), "--test", str(site / "held-out"), *words]
    assert (
        main(
            [
                "evaluate",
                *words,
                "--classifiers",
                "logistic",
                "--seeds",
                "1",
                "--steps",
                "2",
                "--no-distances",
            ]
        )
        == 0
    )
    assert "later certificates count it" in capsys.readouterr().out and len(rows(site)) == 1
    assert main(["release", str(site / "draft-a"), "--ledger", str(site / "ledger.sqlite")]) == 0
    assert certificate(site / "draft-a")["looks"]["exact"] == 1
    assert certificate(site / "draft-a")["ledger"]["key_kept"] is True


def test_what_only_the_ledger_knows_is_not_known_without_it(site):
    look(site)
    with pytest.raises(LedgerFault, match="leave --without-ledger out"):
        verbs.release(site / "draft-b", ledger=site / "ledger.sqlite", without_ledger=True)
    draft = json.loads((site / "draft-b" / DRAFT).read_text())
    (site / "draft-b" / DRAFT).write_text(
        json.dumps(draft | {"ledger": str(site / "ledger.sqlite")})
    )
    # the one that the draft names
    with pytest.raises(LedgerFault, match="leave --without-ledger out"):
        verbs.release(site / "draft-b", without_ledger=True)
    (site / "draft-b" / DRAFT).write_text(json.dumps(draft | {"ledger": str(site / "gone.sqlite")}))
    verbs.release(site / "draft-b", without_ledger=True)
    facts = certificate(site / "draft-b")
    assert facts["looks"]["exact"] is None and facts["later_choices"].startswith("Not known")
    for name in ("README.md", "PRIVACY.md", "report.html"):
        text = (site / "draft-b" / name).read_text()
        assert (
            facts["looks"]["statement"] in text
            and facts["later_choices"] in text
            and "No look" not in text
        ), name
    report = verbs.verify(site / "draft-b", site / "ledger.sqlite")
    assert report.ok and "does not know of looks, and the ledger has 1 now" in report.checks[-1][2]
    # A figure where nobody asked is no figure.
    assert not check_looks(facts | {"looks": looks_facts(0)}) and not check_looks(
        {**facts, "later_choices": None}
    )


def test_the_ledger_knows_how_many_looks_there_were_at_the_release(site):
    look(site)
    verbs.release(site / "draft-b", ledger=site / "ledger.sqlite")
    look(site)
    book = budget.open_ledger(site / "ledger.sqlite")
    assert certified.check_certificate(book, site / "draft-b" / "privacy.json").missing == (
        "the ledger has 1 more looks than it says, since this release",
    )
    fewer = certificate(site / "draft-b") | {"looks": looks_facts(0)}
    (site / "fewer.json").write_text(json.dumps(fewer))
    with pytest.raises(LedgerFault, match="not one that the ledger noted"):
        certified.check_certificate(book, site / "fewer.json")
    # Whoever finishes it past the ledger leaves no row: then the looks that are missing are said.
    finalise(site / "draft-a")
    found = certified.check_certificate(book, site / "draft-a" / "privacy.json").missing
    assert found == (
        (
            "the ledger has 2 more looks than it says, some of them perhaps before this release,"
            " whose row is not known"
        ),
    )


def test_a_public_test_set_is_never_private_again(site, tiny_images):
    """Exact figures of these images were seen, for nothing: a promise about them would be an empty
    one.
    """
    look(site, public_test=True)
    look(site, public_test=True, seeds=(1,))  # a real public test set is used as often as one likes
    ledger = budget.open_ledger(site / "ledger.sqlite")
    found = [row.body for row in ledger.chain.of("PUBLIC")]
    assert [body["count"] for body in found] == [12] and "--public-test" in found[0]["decided"]
    with pytest.raises(BudgetError, match="taken as public before"):
        verbs.adapt(
            site / "held-out",
            anyway=True,
            yes_public=True,
            base="icons",
            output=site / "c",
            ledger=site / "ledger.sqlite",
            epsilon=8.0,
            delta=1e-3,
            steps=2,
        )
    assert not (site / "c").exists() and len(ledger.chain.of("CHARGE")) == 2
    verbs.export(Run.open(site / "b", site / "ledger.sqlite"), site / "model")
    verbs.export(Run.open(site / "a", site / "ledger.sqlite"), site / "judged")
    said = [
        json.loads((site / name / DRAFT).read_text())["certificate"]["public_facts"][
            "public_inputs"
        ]
        for name in ("model", "judged")
    ]
    assert [[entry["count"] for entry in entries] for entries in said] == [[], [12]]


def test_an_audit_of_the_pictures_is_a_look_and_stays_in_the_run_folder(site, capsys, monkeypatch):
    """The row is there before a distance is; the release is left as it was."""
    from sfumato.verbs import nearest

    before = {path: path.read_bytes() for path in (site / "draft-a").rglob("*") if path.is_file()}

    def seen(*words, **said):
        assert [row["what"] for row in rows(site)] == [list(nearest.WHAT)]
        return measured(*words, **said)

    measured = nearest.nearness
    monkeypatch.setattr(nearest, "nearness", seen)
    words = ["audit", str(site / "a"), "--pictures", str(site / "draft-a")]
    words += ["--ledger", str(site / "ledger.sqlite"), "--no-config"]
    assert main([*words, "--test", str(site / "held-out")]) == 0
    told = capsys.readouterr().out
    assert "nearer to a private picture than to a held-out one (95% interval" in told
    assert "PRIVATE: no epsilon covers these figures" in told and "this was a look" in told
    folder = site / "a" / "evaluation"
    body = json.loads((folder / nearest.FILE).read_text())
    assert body["PRIVATE"] and len(body["figures"]["ratio"]) == 12
    assert len(body["figures"]["nearer"]) == 3
    page = (folder / nearest.PAGE).read_text()
    assert "PRIVATE" in page and page.count("<img") == 3 * 12
    own = body["figures"]
    first = int(np.argsort(own["ratio"], kind="stable")[0])
    said = [
        f'<td class="n">{own[n][first]:.3g}</td>' for n in ("distance", "distance_test", "ratio")
    ]
    row = re.search(r'<tr><th scope="row">1</th>(.*?)</tr>', page, re.S)[1]
    assert re.findall(r'<td class="n">.*?</td>', row) == said
    assert re.findall(r'alt="([^"]*)"', row) == [
        f"{sort} picture, row 1" for sort in ("released", "nearest private", "nearest held-out")
    ]
    for of_another_page in (
        "trained on",
        "Pictures by class",
        "of each class",
        "prompts and seeds",
    ):
        assert of_another_page not in page, of_another_page
    now = {path: path.read_bytes() for path in (site / "draft-a").rglob("*") if path.is_file()}
    assert now == before
    assert looks_of(Run.open(site / "a", site / "ledger.sqlite"))["exact"] == 1
    verbs.release(site / "draft-b", ledger=site / "ledger.sqlite")
    assert certificate(site / "draft-b")["looks"]["exact"] == 1


def test_a_model_has_no_pictures_to_judge_and_nobody_has_looked(site, capsys):
    """Every verb that judges pictures says so of an adapter, a pipeline and a run, in one line."""
    book = ["--ledger", str(site / "ledger.sqlite"), "--no-config"]
    verbs.export(Run.open(site / "a", site / "ledger.sqlite"), site / "adapter", keep_key=True)
    (site / "pipeline" / "model").mkdir(parents=True)
    (site / "pipeline" / "model" / "model_index.json").write_text("{}")
    test = ["--test", str(site / "held-out")]
    for model, kind in (("adapter", "a model"), ("pipeline", "a model"), ("b", "a run folder")):
        given = str(site / model)
        asked = [
            ["evaluate", str(site / "a"), given, *test],
            ["audit", str(site / "a"), "--pictures", given, *test],
        ]
        if model != "b":
            asked.append(["select", str(site / "a"), given, "--data", str(site / "held-out")])
        for words in asked:
            assert main([*words, *book, *["--epsilon", "1"] * (words[0] == "select")]) == 2, words
            told = capsys.readouterr().err
            assert f"{given} is {kind}" in told and "sfumato synthesize" in told, told
    shutil.rmtree(site / "adapter" / "samples", ignore_errors=True)
    with pytest.raises(DataError, match="holds a model and no images"):
        records_of(site / "adapter", ("circle", "cross", "square"), "train")
    assert not rows(site)


def test_an_audit_of_the_pictures_asks_for_what_it_needs(site, capsys):
    words = ["audit", "--no-config", "--pictures", str(site / "draft-a")]
    assert main(words) == 2 and "needs the run" in capsys.readouterr().err
    own = [*words, str(site / "a"), "--ledger", str(site / "ledger.sqlite")]
    assert main(own) == 2 and "--test is required" in capsys.readouterr().err
    assert main(["audit", "--no-config", "--test", str(site / "held-out")]) == 2
    assert "go with --pictures" in capsys.readouterr().err
    for more in (["--only", "M1"], ["--quick"], ["--fresh"], ["--seed", "3"]):
        assert main([*own, *more]) == 2
        assert f"{more[0]} is of the checks" in capsys.readouterr().err
    trained = ["--test", remembered(site / "a").images]
    assert main([*own, *map(str, trained)]) == 10
    told = capsys.readouterr().err
    assert "that the run was trained on" in told and "allow-overlap" not in told
    assert not rows(site)
