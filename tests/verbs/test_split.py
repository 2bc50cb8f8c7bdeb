"""Units set apart by `split`: never trained on, found again by `evaluate` without being named, and
images that a run was trained on are no test, unless somebody says so.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato import verbs
from sfumato.cli import main
from sfumato.errors import DataError, SfumatoError
from sfumato.methods import Lora
from sfumato.options import Reading, Sampling
from sfumato.planning.facts import PublicFacts
from sfumato.records import Split, load_records, read_split
from sfumato.runs import budget
from sfumato.runs.folder import Run
from sfumato.runs.overlap import trained_on
from sfumato.runs.reading import remembered
from sfumato.verbs.evaluate import evaluate
from sfumato.verbs.select import select

TRUSTED_GRADIENTS = True

torch.set_num_threads(1)
PATIENTS = 30
QUICK = {"classifiers": ("cnn",), "seeds": (0,), "steps": 3, "distances": False}


def scans(place, first=0, count=PATIENTS):
    """Two pictures of each patient, in a table whose label column has a name of its own."""
    rng, rows = np.random.default_rng(first), ["file_name,diagnosis,patient"]
    place.mkdir(parents=True)
    for patient in range(first, first + count):
        for number in range(2):
            pixels = rng.integers(0, 90, (16, 16, 3)) + 120 * (patient % 2)
            name = f"{patient}-{number}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(place / name)
            rows.append(f"{name},{('circle', 'cross')[patient % 2]},P-{patient:03d}x")
    (place / "metadata.csv").write_text("\n".join(rows))
    return place


@pytest.fixture(scope="module")
def place(tiny_base, tmp_path_factory):
    place = tmp_path_factory.mktemp("split")
    scans(place / "scans")
    said = {"labels": "diagnosis", "classes": ["circle", "cross"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Split, "draw", lambda share, unit: Split(bytes(range(32)), share, unit))
        sfumato.split(
            place / "scans", test=0.4, output=place / "split.json", unit="patient", **said
        )
        verbs.adapt(
            place / "scans",
            split=str(place / "split.json"),
            anyway=True,
            output=place / "run",
            ledger=place / "ledger.sqlite",
            epsilon=8.0,
            delta=1e-3,
            base=str(tiny_base),
            method=Lora(rank=2),
            steps=2,
            **said,
        )
        verbs.synthesize(
            place / "run", 20, place / "draft", sampling=Sampling(steps=1), keep_key=True
        )
        yield place


@pytest.fixture
def site(place, tmp_path):
    shutil.copytree(place, tmp_path / "site")
    return tmp_path / "site"


def opened(site) -> Run:
    return Run.open(site / "run", site / "ledger.sqlite")


def looks(site):
    return budget.open_ledger(site / "ledger.sqlite").chain.of("LOOK")


def parts(site, **said):
    said = {"labels": "diagnosis", "classes": ["circle", "cross"]} | said
    return [
        load_records(site / "scans", split=site / "split.json", part=part, **said)
        for part in ("train", "test")
    ]


def test_the_verb_counts_both_parts_and_writes_no_picture(tmp_path, capsys):
    source = scans(tmp_path / "scans")
    before = sorted(tmp_path.rglob("*"))
    words = ["split", str(source), "--unit", "patient", "--labels", "diagnosis", "--test", "0.4"]
    assert main([*words, "-o", str(tmp_path / "s.json")]) == 0
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "s.json"])
    out = capsys.readouterr().out
    assert "units of 'patient'" in out and "PRIVATE" in out and "P-0" not in out
    split = read_split(tmp_path / "s.json")
    assert (split.share, split.unit, len(split.marks)) == (0.4, "patient", PATIENTS)
    assert main([*words, "-o", str(tmp_path / "s.json")]) == 2
    assert "exists: another key would move units" in capsys.readouterr().err
    assert read_split(tmp_path / "s.json") == split
    said = {"unit": "patient", "labels": "diagnosis", "test": 0.4}
    report = sfumato.split(source, output=tmp_path / "t.json", **said)
    assert sum(report.units) == PATIENTS and sum(report.images) == 2 * PATIENTS
    assert set(report.classes) == {"circle", "cross"}
    train = load_records(source, split=tmp_path / "t.json", labels="diagnosis")
    assert (train.n_units, train.n) == (report.units[0], report.images[0])


@pytest.mark.parametrize(
    "said, words",
    [
        ({"test": 0.0}, "must be a share of the units"),
        ({"test": 1e-12}, "would be in one part: with so few, give a larger --test"),
        ({"test": 1 - 1e-12}, "would be in one part: with so few, give a smaller --test"),
        ({"split": "x.json"}, "leave it out here"),
        ({"unit": "nobody"}, "no column 'nobody' for --unit"),
    ],
)
def test_the_verb_refuses_and_leaves_nothing(said, words, tmp_path):
    source = scans(tmp_path / "scans")
    said = {"unit": "patient", "labels": "diagnosis", "output": tmp_path / "s.json"} | said
    with pytest.raises(SfumatoError, match=words):
        sfumato.split(source, **said)
    assert not (tmp_path / "s.json").exists()


def test_one_person_under_two_values_is_not_parted(tmp_path):
    source = scans(tmp_path / "scans")
    table = (
        (source / "metadata.csv")
        .read_text()
        .replace("1-1.png,cross,P-001x", "1-1.png,cross,P_001x")
    )
    (source / "metadata.csv").write_text(table)
    said = {"unit": "patient", "labels": "diagnosis", "output": tmp_path / "s.json"}
    with pytest.raises(DataError, match="may be spellings of one another"):
        sfumato.split(source, **said)
    assert not (tmp_path / "s.json").exists()
    assert sfumato.split(source, allow_doubtful_units=True, **said).units


def test_a_plan_knows_the_training_units_and_the_share(site):
    train, test = parts(site)
    run = opened(site)
    assert run.plan.n_units == train.n_units == PATIENTS - test.n_units
    assert run.plan.unit == "patient"  # the split's own
    assert PublicFacts.of(train).held_out == 0.4
    draft = json.loads((site / "draft" / "synthesis.json").read_text())["certificate"]
    assert draft["public_facts"]["held_out"]["share"] == 0.4
    assert (
        "secret keyed hash of its own value alone"
        in (draft["public_facts"]["held_out"]["statement"])
    )
    verbs.release(site / "draft", ledger=site / "ledger.sqlite")
    assert verbs.verify(site / "draft").ok
    key = json.loads((site / "split.json").read_text())["key"]
    for file in (site / "draft").rglob("*"):
        assert not file.is_file() or key.encode() not in file.read_bytes(), file
    assert "Set apart for testing" in (site / "draft" / "PRIVACY.md").read_text()


def test_held_out_units_were_never_charged(site):
    train, test = parts(site)
    pictures, units = trained_on([opened(site)], train)
    assert pictures.all() and units.all()
    pictures, units = trained_on([opened(site)], test)
    assert not pictures.any() and not units.any()
    ledger = budget.open_ledger(site / "ledger.sqlite")
    assert not ledger.group(ledger.identify(test.fingerprints, **test.marks)).charges
    assert len(np.load(site / "run" / "cache" / "mean.npy", mmap_mode="r")) == train.n


def test_a_run_remembers_its_split_and_evaluate_needs_no_folder(site):
    assert remembered(site / "run").reading.labels == "diagnosis"
    (site / "split.json").unlink()  # the run has its own copy
    notes = []
    found = evaluate(opened(site), site / "draft", public_images=12, on_stage=notes.append, **QUICK)
    assert list(found.images) == ["synthetic", "public_only", "real"]
    body = json.loads((site / "run" / "evaluation" / "utility.json").read_text())
    train, test = (
        load_records(
            site / "scans", split=site / "run" / "split.json", part=part, labels="diagnosis"
        )
        for part in ("train", "test")
    )
    assert (body["test_images"], body["test_units"]) == (test.n, test.n_units)
    assert found.images["real"] == train.n and found.remarks == ()
    assert body["verdict"]["sentences"] == list(found.verdict.sentences)
    assert "points" in found.verdict.sentences[0]
    page = found.page.read_text()
    assert (
        "PRIVATE" in page and page.count("<img") >= 3 * 2 and found.verdict.labels_read is not None
    )
    assert notes[0] == "reading the real images"
    assert notes[1].startswith("note: about ") and "also if you stop before the end" in notes[2]
    assert all(" left" in note for note in notes[3:])
    assert len(looks(site)) == 1 and len(looks(site)[0].body["data"]) == 2  # test and train


def test_images_that_were_trained_on_are_no_test(site, tmp_path):
    copies = tmp_path / "copies"
    for place in ("circle", "cross"):
        (copies / place).mkdir(parents=True)
    train, test = parts(site)
    for records, count in ((train, 3), (test, test.n)):
        for slot in range(count):
            name = records.classes[records.labels[slot]]
            pixels = Image.fromarray(records.pixels(slot))
            pixels.save(copies / name / f"{id(records)}-{slot}.bmp")  # other names, other bytes
    with pytest.raises(DataError) as refused:
        evaluate(opened(site), site / "draft", test=copies, **QUICK)
    said = str(refused.value)
    assert f"of {3 + test.n} test images 3 are images that the run was trained on" in said
    assert "leave --test out" in said and "--allow-overlap" in said and str(copies) not in said
    assert not looks(site) and not (site / "run" / "evaluation").exists()
    found = evaluate(
        opened(site), site / "draft", test=copies, allow_overlap=True, public_images=12, **QUICK
    )
    assert found.remarks[0].startswith("the run was trained on 3 of the test images")
    assert "the figures are too good" in found.page.read_text() and len(looks(site)) == 1


def test_other_images_of_a_trained_unit_are_no_test(site, tmp_path):
    other = scans(tmp_path / "later", first=1000, count=6)
    train, _ = parts(site)
    patient = (site / "scans" / "metadata.csv").read_text().splitlines()[1:]
    of = {line.split(",")[0]: line.split(",")[2] for line in patient}
    trained = {
        of[f"{p}-0.png"]
        for p in range(PATIENTS)
        if load_first(site / "scans" / f"{p}-0.png") in set(train.marks["files"])
    }
    table = (other / "metadata.csv").read_text().replace("P-1000x", sorted(trained)[0])
    (other / "metadata.csv").write_text(table)
    with pytest.raises(DataError, match="2 belong to units that it was trained on"):
        evaluate(opened(site), site / "draft", test=other, **QUICK)
    assert not looks(site)
    apart = scans(tmp_path / "strangers", first=2000, count=6)
    assert evaluate(opened(site), site / "draft", test=apart, public_images=12, **QUICK).images


def load_first(path) -> bytes:
    import hashlib

    return hashlib.sha256(path.read_bytes()).digest()


def test_a_held_out_copy_of_a_training_picture_is_left_out(site):
    train, test = parts(site)
    copied = Image.fromarray(train.pixels(0))
    rows = (site / "scans" / "metadata.csv").read_text().splitlines()
    held = {bytes(mark) for mark in test.marks["files"]}
    victim = next(
        line.split(",")
        for line in rows[1:]
        if load_first(site / "scans" / line.split(",")[0]) in held
    )
    copied.save(site / "scans" / victim[0])
    said = {"test": site / "scans", "split": str(site / "split.json"), "public_images": 12}
    found = evaluate(opened(site), site / "draft", **said, **QUICK)
    assert found.remarks == ("left out as copies of training images: 1 held-out images",)
    body = json.loads((site / "run" / "evaluation" / "utility.json").read_text())
    assert body["test_images"] == test.n - 1


def test_without_a_split_a_test_is_asked_for(site):
    for name in ("split.json", "reading.json"):
        (site / "run" / name).unlink()  # as a run of an earlier version
    with pytest.raises(SfumatoError, match="--test is required: the run has no held-out part"):
        evaluate(opened(site), site / "draft", **QUICK)
    assert remembered(site / "run").reading == Reading() and not looks(site)
    said = {"split": str(site / "split.json"), "labels": "diagnosis"}
    found = evaluate(
        opened(site), site / "draft", test=site / "scans", public_images=12, **QUICK, **said
    )
    assert list(found.images) == ["synthetic", "public_only"]
    assert "What your images added" in found.verdict.sentences[0] or found.verdict.added


@pytest.mark.parametrize("named", [False, True])
def test_held_out_units_are_not_public_by_a_flag(site, named):
    """Else exact scores of private images are no look, and these can never be charged again."""
    test = {"test": site / "scans", "split": str(site / "split.json")} if named else {}
    with pytest.raises(SfumatoError, match="as private as the rest"):
        evaluate(opened(site), site / "draft", public_test=True, public_images=12, **QUICK, **test)
    assert not looks(site) and not budget.open_ledger(site / "ledger.sqlite").chain.of("PUBLIC")


@pytest.mark.parametrize(
    "said",
    [
        {"split": "split.json"},
        {"unit": "patient"},
        {"classes": ["a"]},
        {"labels": "patient"},
        {"frames": 2},
    ],
)
def test_records_read_before_take_no_other_units_and_no_split(tiny_base, tmp_path, said):
    """Else held-out people are trained on, or single images are protected, without a word."""
    records = load_records(scans(tmp_path / "scans"), labels="diagnosis")
    more = said | {"base": str(tiny_base), "epsilon": 8.0}
    rule = f"--{next(iter(said))} belongs where records are"
    with pytest.raises(SfumatoError, match=rule):
        verbs.plan(records, **more)
    with pytest.raises(SfumatoError, match=rule):
        verbs.adapt(records, output=tmp_path / "run", **more)
    assert not (tmp_path / "run").exists()
    with pytest.raises(SfumatoError, match="--unit belongs"):
        select([], data=records, epsilon=1.0, unit="patient")


def test_the_classes_of_an_evaluation_are_the_runs(site):
    with pytest.raises(SfumatoError, match="--classes differs from the run's own list"):
        evaluate(opened(site), site / "draft", classes=["circle"], **QUICK)
    assert not looks(site)


def test_a_moved_folder_is_named_by_its_flag(site):
    memory = json.loads((site / "run" / "reading.json").read_text())
    memory["images"] = str(site / "gone")
    (site / "run" / "reading.json").write_text(json.dumps(memory))
    with pytest.raises(SfumatoError, match="not where `adapt` read them: name them with --test"):
        evaluate(opened(site), site / "draft", **QUICK)
    assert not looks(site)


def test_select_pays_for_the_held_out_part(site):
    found = select(
        [site / "draft"],
        data=site / "scans",
        split=str(site / "split.json"),
        labels="diagnosis",
        epsilon=4.0,
        delta=1e-3,
        ledger=site / "ledger.sqlite",
        classifier="logistic",
        steps=2,
    )
    _, test = parts(site)
    assert found.n_units == test.n_units and found.unit == "patient"
    assert found.composes == (False,)  # no unit is in both


def test_a_project_is_told_how_every_verb_knows_the_split(site, capsys, monkeypatch):
    monkeypatch.chdir(site)
    (site / "sfumato.toml").write_text('format = 1\n[project]\nimages = "scans"\n')
    assert main(["split", "-o", "own.json"]) == 0
    assert 'put split = "own.json" under [reading] in sfumato.toml' in capsys.readouterr().out


def test_inspect_shows_the_training_part(site, capsys):
    words = ["inspect", str(site / "scans"), "--split", str(site / "split.json")]
    assert main([*words, "--labels", "diagnosis"]) == 0
    out = capsys.readouterr().out
    train, _ = parts(site)
    assert f"{train.n} records" in out and "only the part that the split leaves" in out
