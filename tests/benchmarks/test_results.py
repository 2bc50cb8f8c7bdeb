"""The protocol's program: a whole run on a tiny base, what is used again, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sfumato.errors import DataError, SfumatoError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
ALL = "synthetic,synthetic+public,public_only,non_private,reconstructed,real"
NAMES = ("measure", "rows", "methods", "packed_sets", "private_sets", "stages", "results")


@pytest.fixture(scope="module")
def programs():
    """The programs as modules, whose stages run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        found = SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
        for module in (found.results, found.stages):
            # it would start pytest anew
            patch.setattr(module, "prepare_process", lambda threads: None)
        patch.setenv("OMP_NUM_THREADS", "1")
        found.commands = []

        def here(command, **options):
            found.commands.append(command[2:])
            found.stages.main(*command[2:])
            return SimpleNamespace(returncode=0)

        patch.setattr(
            found.stages, "subprocess", SimpleNamespace(run=here, DEVNULL=subprocess.DEVNULL)
        )
        yield found
        for name in NAMES:
            del sys.modules[name]


@pytest.fixture(scope="module")
def ask(programs, tiny_base, tmp_path_factory):
    """Run results.py on tiny sizes; its stages and the lines of its file after it."""
    folder = tmp_path_factory.mktemp("results")

    def ask(*options: str, rows: str = ALL):
        out = folder / "protocol.jsonl"
        said = [
            "--quick",
            "--base",
            str(tiny_base),
            "--method",
            "lora",
            "--images",
            "30",
            "--private",
            "96",
        ]
        said += [
            "--rows",
            rows,
            "--classifiers",
            "logistic,cnn",
            "--sampler-steps",
            "2",
            "--seeds",
            "2",
        ]
        before = len(programs.commands)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                sys,
                "argv",
                ["results.py", *said, "--work", str(folder), "--out", str(out), *options],
            )
            programs.results.main()
        stages = [command[0] for command in programs.commands[before:]]
        return stages, [json.loads(line) for line in out.read_text().splitlines()]

    ask.folder = folder
    return ask


@pytest.fixture(scope="module")
def first_line(ask) -> dict:
    stages, (line,) = ask()
    assert stages == ["adapt", "synthesize", "public", "control"]
    return line


def test_a_line_holds_settings_costs_and_figures(first_line):
    settings = first_line["settings"]
    assert (settings["data"], settings["epsilon"], settings["delta"], settings["private"]) == (
        "mnist",
        1.0,
        1e-5,
        96,
    )
    assert (settings["steps"], settings["expected_batch_size"], settings["noise_draws"]) == (
        2,
        32,
        1,
    )
    assert settings["recipe"]["learning_rate"] == 0.04, "defaults are written out"
    assert first_line["plan"]["spent"] <= 1.0 and first_line["plan"]["sigma"] > 0
    assert first_line["pictures"] == {
        "synthetic": 30,
        "synthetic+public": 60,
        "public_only": 30,
        "non_private": 30,
        "reconstructed": 96,
        "real": 96,
    }
    assert first_line["public"]["source"] == "drawn by the public base as it came"
    for stage in ("adapt", "synthesize", "public", "control"):
        assert set(first_line["stages"][stage]) == {"seconds", "cpu_seconds", "peak_mb"}
        assert first_line["stages"][stage]["peak_mb"] > 50
    for row in settings["rows"]:
        scores = first_line["accuracy"][row]
        assert set(scores) == {"logistic", "cnn"} and all(len(own) == 2 for own in scores.values())
        assert first_line["mean"][row]["all"] == pytest.approx(
            np.mean(list(scores.values())), abs=0.01
        )
        assert set(first_line["stages"][row]) == {"seconds", "cpu_seconds"}


def test_the_certificate_is_that_of_the_release(first_line, ask):
    (certificate,) = ask.folder.rglob("privacy.json")
    assert hashlib.sha256(certificate.read_bytes()).hexdigest() == first_line["certificate_sha256"]
    assert json.loads(certificate.read_text())["delta"] == 1e-5


def test_the_sample_shows_every_class(first_line, ask):
    from PIL import Image

    sample = Image.open(ask.folder / first_line["sample"])
    assert sample.size == (160, 160)
    # three pictures of each class were drawn
    columns = np.asarray(sample).reshape(10, 16, 10, 16, 3)[:, :, :3]
    assert (columns.max(axis=(1, 3, 4)) > 0).all()


def test_the_same_settings_are_not_measured_again(first_line, ask, capsys):
    stages, found = ask()
    assert stages == [] and found == [first_line]
    assert "with these settings already" in capsys.readouterr().err


def test_more_judging_takes_run_and_pictures_as_they_are(first_line, ask, programs, monkeypatch):
    import sfumato.evaluation as evaluation

    trained, real = [], evaluation.utility
    monkeypatch.setattr(
        evaluation, "utility", lambda *a, **k: trained.append(k["classifiers"]) or real(*a, **k)
    )
    stages, found = ask(
        "--classifiers", "logistic,cnn,resnet", "--seeds", "1", rows="synthetic,real"
    )
    assert stages == [] and trained == [("resnet",), ("resnet",)]
    assert found[1]["accuracy"]["real"]["cnn"] == first_line["accuracy"]["real"]["cnn"][:1]
    assert found[1]["certificate_sha256"] == first_line["certificate_sha256"]


def test_a_search_is_judged_on_private_pictures_and_never_taken_for_a_test(
    first_line, ask, programs, monkeypatch
):
    import sfumato.evaluation as evaluation

    asked, real = [], evaluation.utility
    monkeypatch.setattr(evaluation, "utility", lambda *a, **k: asked.append(a[2]) or real(*a, **k))
    options = ("--classifiers", "logistic", "--seeds", "1", "--test", "40")
    _, found = ask(*options, "--judge-on", "train", rows="synthetic")
    train = programs.private_sets.read("mnist", "train")
    assert (
        np.array_equal(asked[0], train.images(np.arange(40), 16))
        and found[-1]["settings"]["test"] == "40 of train"
    )
    _, found = ask(*options, rows="synthetic")
    assert len(asked) == 2 and found[-1]["settings"]["test"] == 40
    with pytest.raises(SystemExit):  # a classifier would be asked about what it was trained on
        ask(*options, "--judge-on", "train", rows="real")
    assert np.array_equal(
        asked[1], programs.private_sets.read("mnist", "test").images(np.arange(40), 16)
    )


@pytest.mark.slow
def test_other_pictures_come_from_the_same_run(first_line, ask):
    stages, found = ask("--guidance", "1.5", "--classifiers", "logistic", rows="synthetic")
    assert stages == ["synthesize"]
    assert found[-1]["plan"] == first_line["plan"]
    assert found[-1]["certificate_sha256"] != first_line["certificate_sha256"]


def test_a_longer_control_is_another_one_of_the_same_run(first_line, ask):
    stages, lines = ask("--control-steps", "3", rows="non_private")
    assert stages == ["control"], "run and pictures are there; the control of another length is not"
    assert lines[-1]["settings"]["control_steps"] == 3
    assert "control_steps" not in first_line["settings"], "lines of before stay comparable"
    assert lines[-1]["certificate_sha256"] == first_line["certificate_sha256"]


def test_a_stopped_adaptation_is_continued_and_says_so(first_line, programs, monkeypatch, tmp_path):
    _, folder, asked = next(command for command in programs.commands if command[0] == "adapt")
    whole = json.loads((Path(folder) / "adapt.json").read_text())
    more = json.loads(asked)
    more["options"] = {
        "method_options": {"rank": 2},
        "clipping": "normalised",
        "prompt": "a picture of a {class}",
    }
    asked = json.dumps(more)

    def stop(text: str) -> None:
        if text == "training":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(programs.stages, "say", stop)
        with pytest.raises(SystemExit, match="75"):
            programs.stages.main("adapt", str(tmp_path), asked)
    assert not (tmp_path / "adapt.json").exists()
    programs.stages.main("adapt", str(tmp_path), asked)
    continued = json.loads((tmp_path / "adapt.json").read_text())
    assert continued["resumed"] and not whole["resumed"]
    assert continued["plan"]["sigma"] == whole["plan"]["sigma"]
    assert continued["plan"]["trainable"] < whole["plan"]["trainable"], (
        "rank 2 was asked for by --options"
    )
    assert continued["plan"]["prompts"][3] == "a picture of a <class-3>"


def test_wrong_settings_end_in_one_line(ask, programs, capsys):
    for options, said in (
        (("--recipe", '{"ema": 0.9}'), "--recipe takes a JSON object with some of"),
        (("--options", '{"clip": 0.9}'), "--options takes a JSON object with some of"),
        (("--options", '{"epsilon": 9}'), "--options takes a JSON object with some of"),
        (("--recipe", "3"), "--recipe takes a JSON object with some of"),
        (
            ("--data", "fashion-mnist", "--fashion", str(ask.folder)),
            "apt-get install dataset-fashion-mnist",
        ),
    ):
        with pytest.raises(SystemExit) as stopped:
            ask(*options)
        error = capsys.readouterr().err
        assert stopped.value.code in (2, 10) and said in error and error.count("\n") == 1


def test_methods_that_want_public_pictures_are_not_offered(programs):
    assert "attention" in programs.results.KNOWN and "saliency-public" not in programs.results.KNOWN


def test_means_are_over_classifiers_and_seeds(programs):
    judged = {"rows": ["synthetic"], "classifiers": {"cnn": 1, "wrn": 1}}
    scores = [("cnn", 90.0), ("cnn", 92.0), ("wrn", 97.0), ("wrn", 97.0)]
    found = programs.results.summary(
        [{"row": "synthetic", "classifier": name, "accuracy": value} for name, value in scores],
        judged,
    )
    assert found["accuracy"] == {"synthetic": {"cnn": [90.0, 92.0], "wrn": [97.0, 97.0]}}
    assert found["mean"] == {"synthetic": {"cnn": 91.0, "wrn": 97.0, "all": 94.0}}
    assert found["deviation"] == {"synthetic": {"cnn": 1.41, "wrn": 0.0}}


def test_a_line_that_was_cut_off_is_left_out_and_replaced(programs, tmp_path):
    file = tmp_path / "rows.jsonl"
    programs.rows.append(file, {"a": 1})
    with file.open("a") as out:
        out.write('{"a": 2')
    assert programs.rows.lines(file) == [{"a": 1}]
    programs.rows.append(file, {"a": 3})
    assert programs.rows.lines(file) == [{"a": 1}, {"a": 3}]
    file.write_text("not json\n")
    with pytest.raises(SystemExit, match="no JSON"):
        programs.rows.lines(file)


def test_peak_memory_is_not_the_parents():
    held = bytearray(300 * 2**20)
    held[:: 2**12] = b"\1" * (len(held) // 2**12)
    command = [sys.executable, "-c", "import measure; print(measure.peak_mb())"]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    assert 5 < int(done.stdout) < 200


def idx(shape: tuple[int, ...], values: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    return head + values.astype(np.uint8).tobytes()


def write_fashion(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    folder.mkdir()
    for split in ("train", "t10k"):
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{split}-{name}-ubyte.gz").write_bytes(
                gzip.compress(idx(values.shape, values))
            )
    return folder


def pictures(n: int, side: int = 28) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).integers(0, 256, (n, side, side), np.uint8), np.arange(n) % 10


def test_fashion_is_read_from_debians_files(programs, tmp_path):
    images, labels = pictures(30)
    folder = write_fashion(tmp_path / "fashion", images, labels)
    sets = programs.private_sets
    train, test = (sets.read("fashion-mnist", split, folder) for split in ("train", "test"))
    assert (
        (train.array == 255 - images).all()
        and (test.labels == labels).all()
        and train.classes == sets.CLASSES
    )
    assert not train.classes_found, "the class list is declared"
    some = programs.methods.first(train, 12)
    assert (some.n, some.n_units, len(some.fingerprints)) == (12, 12, 12)
    assert (some.images([11], 28)[0, ..., 0] == 255 - images[11]).all(), (
        "garments are dark on white"
    )
    assert sets.digest(train) == sets.digest(test) != sets.digest(some)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda folder: (folder / "train-labels-idx1-ubyte.gz").unlink(),
            "incomplete idx pair",
        ),
        (lambda folder: [f.unlink() for f in folder.iterdir()], "apt-get install"),
        (
            lambda folder: [f.unlink() for f in folder.iterdir()] and folder.rmdir(),
            "apt-get install",
        ),
        (
            lambda folder: (folder / "train-images-idx3-ubyte.gz").write_bytes(
                (folder / "train-images-idx3-ubyte.gz").read_bytes()[:200]
            ),
            "train-images-idx3-ubyte.gz",
        ),
        (
            lambda folder: (folder / "train-labels-idx1-ubyte.gz").write_bytes(
                gzip.compress(idx((29,), np.zeros(29)))
            ),
            "29",
        ),
    ],
)
def test_damaged_fashion_files_are_named(programs, tmp_path, damage, said):
    folder = write_fashion(tmp_path / "fashion", *pictures(30))
    damage(folder)
    with pytest.raises(DataError) as error:
        programs.private_sets.read("fashion-mnist", "train", folder)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("side", "most"), [(28, 11), (20, 9)])
def test_other_pictures_than_fashions_are_refused(programs, tmp_path, side, most):
    images, labels = pictures(220, side)
    labels[0] = most
    with pytest.raises(SfumatoError):
        programs.private_sets.read(
            "fashion-mnist", "train", write_fashion(tmp_path / "fashion", images, labels)
        )


def test_words_are_those_that_the_base_knows(programs):
    from sfumato.bases import bundled_bases, load_base

    words = programs.private_sets.words
    garments = words("fashion-mnist", "icons")
    assert set(garments["init"]) == set(programs.private_sets.CLASSES)
    assert "icons" in bundled_bases()
    said = [garments["prompt"].replace("{class},", ""), *garments["init"].values()]
    assert not load_base("icons").unknown_words(said)
    assert words("mnist", "letters")["init"]["0"] == "o"
    assert words("fashion-mnist", "garments") == garments
    assert words("mnist", "icons") == words("fashion-mnist", "glyphs") == {}


def test_public_pictures_are_at_most_as_many_as_asked(programs, tmp_path):
    images, labels = pictures(40, 32)
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    found, names = programs.private_sets.public_pictures(
        tmp_path / "own.npz", "mnist", "glyphs", 25, 32, 0
    )
    assert found.shape == (25, 32, 32, 3) and len(names) == 25
    for image, label in zip(found[..., 0], names):
        (place,) = np.flatnonzero((images == image).all((1, 2)))
        assert labels[place] == label
    np.savez(tmp_path / "strange.npz", images=images, labels=labels + 5)
    with pytest.raises(DataError):
        programs.private_sets.public_pictures(
            tmp_path / "strange.npz", "mnist", "glyphs", 25, 32, 0
        )


def test_fonts_give_digits_or_for_letters_what_looks_like_them(programs, tmp_path):
    from recipes.glyphs import CHARACTERS

    # Every character is a disc at a distance of its own from the ink, so that its pictures can be
    # told apart.
    field = np.hypot(*(np.mgrid[:48, :48] - 23.5)).astype(np.float16)
    radius = np.linspace(2, 20, len(CHARACTERS), dtype=np.float16)[:, None, None]
    np.savez(
        tmp_path / "glyphs.npz",
        outline=field - radius,
        skeleton=np.maximum(field - radius, 0),
        character=np.arange(len(CHARACTERS)),
        family=np.zeros(len(CHARACTERS), int),
        family_names=np.array(["made up"]),
    )
    import recipes.glyphs as glyphs

    drawn: list[str] = []
    real = glyphs.make_images
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyphs, "make_images", lambda f, c, *a: drawn.append(c) or real(f, c, *a))
        for kind in ("glyphs", "letters"):
            found, labels = programs.private_sets.public_pictures(
                tmp_path / "glyphs.npz", "mnist", kind, 25, 32, 0
            )
            assert found.shape == (25, 32, 32, 3) and set(labels) == set(range(10))
            assert (found.max((1, 2, 3)) > 100).all()
    assert "".join(drawn) == "0123456789" + "OlZBySbTBq"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyphs, "make_images", lambda f, c, each, seed: real(f, c, 2, seed))
        patch.setattr(
            programs.private_sets, "FONT_DIGITS", {"train": (20, 1_000), "test": (20, 2_000)}
        )
        train, test = (
            programs.private_sets.read("font-digits", s, tmp_path / "glyphs.npz")
            for s in ("train", "test")
        )
    assert train.n == train.n_units == 20 and train.images([3], 32).shape == (1, 32, 32, 3)
    assert (np.bincount(train.labels) == 2).all() and not (train.array == test.array).all(), (
        "test pictures are others"
    )
    assert programs.private_sets.words("font-digits", "letters") == programs.private_sets.words(
        "mnist", "letters"
    )
    with pytest.raises(DataError, match="recipes.make"):
        programs.private_sets.read("font-digits", "train", tmp_path / "none.npz")
    with pytest.raises(DataError, match="mnist alone"):
        programs.private_sets.public_pictures(
            tmp_path / "glyphs.npz", "fashion-mnist", "icons", 25, 32, 0
        )


def test_curves_and_samples_are_drawn_from_the_lines(first_line, ask):
    pytest.importorskip("matplotlib")
    from PIL import Image

    command = [sys.executable, str(BENCHMARKS / "plots.py"), "--results", str(ask.folder)]
    subprocess.run(command, check=True, capture_output=True)
    for name in ("protocol.png", "samples.png"):
        assert len(np.unique(np.asarray(Image.open(ask.folder / name)))) > 20


@pytest.mark.slow
def test_the_quick_command_runs_every_stage_in_a_process_of_its_own(tmp_path):
    out = tmp_path / "results" / "protocol.jsonl"
    options = ["--quick", "--threads", "1", "--work", str(tmp_path / "work"), "--out", str(out)]
    command = [sys.executable, "benchmarks/results.py", *options]
    done = subprocess.run(command, cwd=BENCHMARKS.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line) == json.loads(out.read_text())
    assert list(json.loads(line)["mean"]) == ["synthetic", "synthetic+public", "public_only"]
