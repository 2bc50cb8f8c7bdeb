"""Bad input: one line on stderr that names rule and cure, the exit code of its cause, and nothing
half-written.
"""

from __future__ import annotations

import errno
import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from sfumato.cli import main


@pytest.fixture
def refused(capsys, tmp_path):
    """Runs a command line that must be refused; returns its one line. `new` must not appear, nor
    anything beside it.
    """

    def run(*words: object, code: int = 2) -> str:
        before = sorted(tmp_path.iterdir())
        assert main([str(word) for word in words]) == code
        out, err = capsys.readouterr()
        assert out == ""
        # A stage that had begun ("checking ...", its time on a slow machine) and notes on the plan
        # may stand before the error.
        lines = [
            line
            for line in err.strip().splitlines()
            if not line.endswith((" ...", " so far")) and line[:6] != "note: "
        ]
        assert len(lines) == 1 and lines[0].startswith("sfumato: "), err
        assert sorted(tmp_path.iterdir()) == before, "something was half-written"
        return lines[0]

    return run


def adapt(images: Path, new: Path, base: Path, *more: object) -> list[object]:
    return [
        "adapt",
        images,
        "-o",
        new,
        "--base",
        base,
        "--epsilon",
        4,
        "--anyway",
        "--yes-public",
        *more,
    ]


def test_empty_folder(refused, tmp_path, tiny_base):
    (tmp_path / "empty").mkdir()
    assert "no " in refused(*adapt(tmp_path / "empty", tmp_path / "new", tiny_base), code=10)
    assert main(["inspect", str(tmp_path / "empty")]) == 0, "a diagnosis refuses no folder"


def test_a_run_folder_among_the_images(refused, tmp_path, tiny_base, tiny_images):
    """Its samples would be a class of the next run."""
    shutil.copytree(tiny_images, tmp_path / "scans")
    said = refused(*adapt(tmp_path / "scans", tmp_path / "scans" / "run", tiny_base))
    assert "would lie among the private images: name a place outside" in said
    assert not (tmp_path / "scans" / "run").exists()


def test_missing_folder(refused, tmp_path, tiny_base):
    assert "no such file or folder" in refused(
        *adapt(tmp_path / "none", tmp_path / "new", tiny_base)
    )


def test_one_image(refused, tmp_path, tiny_images, tiny_base):
    (tmp_path / "one" / "circle").mkdir(parents=True)
    shutil.copy(tiny_images / "circle" / "000.png", tmp_path / "one" / "circle")
    words = adapt(tmp_path / "one", tmp_path / "new", tiny_base)
    words.remove("--yes-public")
    assert "fewer than 3 units" in refused(*words, code=10)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"cut"])
def test_unreadable_images(refused, tmp_path, tiny_images, tiny_base, content):
    shutil.copytree(tiny_images, tmp_path / "bad")
    victim = tmp_path / "bad" / "cross" / "003.png"
    victim.write_bytes(victim.read_bytes()[:60] if content == b"cut" else content)
    line = refused(*adapt(tmp_path / "bad", tmp_path / "new", tiny_base), code=10)
    assert "--max-bad" in line


def test_huge_image(refused, tmp_path, tiny_images, tiny_base):
    shutil.copytree(tiny_images, tmp_path / "bad")
    # Only the header says so: a file of a hundred bytes that would fill the memory when decoded.
    victim = tmp_path / "bad" / "cross" / "003.png"
    data = victim.read_bytes()
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + data[24:29]
    victim.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    assert "--max-bad" in refused(*adapt(tmp_path / "bad", tmp_path / "new", tiny_base), code=10)


@pytest.mark.parametrize("flag", ["--unit", "--labels", "--caption-column"])
def test_missing_column(refused, tmp_path, tiny_images, tiny_base, flag):
    assert "absent_column" in refused(
        *adapt(tiny_images, tmp_path / "new", tiny_base, flag, "absent_column")
    )
    flat = tmp_path / "flat"
    flat.mkdir()
    rows = ["file_name,label"]
    for i, picture in enumerate(sorted(tiny_images.glob("*/*.png"))):
        shutil.copy(picture, flat / f"{i}.png")
        rows.append(f"{i}.png,{picture.parent.name}")
    (flat / "metadata.csv").write_text("\n".join(rows))
    assert "absent_column" in refused(
        *adapt(flat, tmp_path / "new", tiny_base, flag, "absent_column")
    )


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1"])
@pytest.mark.parametrize("name", ["epsilon", "delta"])
def test_epsilon_and_delta(refused, tmp_path, tiny_images, tiny_base, name, value):
    line = refused(*adapt(tiny_images, tmp_path / "new", tiny_base, f"--{name}", value))
    assert f"--{name}" in line and "above 0" in line


def test_large_delta(refused, tmp_path, tiny_images, tiny_base):
    line = refused(*adapt(tiny_images, tmp_path / "new", tiny_base, "--delta", "0.5"))
    assert "delta" in line and "1 / n_units" in line


def test_target_that_cannot_be_met(refused, tmp_path, tiny_images, tiny_base):
    line = refused(
        *adapt(tiny_images, tmp_path / "new", tiny_base, "--epsilon", "0.05", "--histogram", "0.5")
    )
    assert "epsilon" in line


@pytest.mark.parametrize("content", [None, "{}", '{"_class_name": "AuraFlowPipeline"}', "not json"])
def test_base_that_is_no_pipeline(refused, tmp_path, tiny_images, content):
    (tmp_path / "base").mkdir()
    if content is not None:
        (tmp_path / "base" / "model_index.json").write_text(content)
    refused(*adapt(tiny_images, tmp_path / "new", tmp_path / "base"), code=11)


def test_base_with_pickled_weights(refused, tmp_path, tiny_images, tiny_base):
    shutil.copytree(tiny_base, tmp_path / "base")
    weights = tmp_path / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    line = refused(*adapt(tiny_images, tmp_path / "new", tmp_path / "base"), code=11)
    assert "pickle" in line and "safetensors" in line


def test_output_that_exists(refused, tmp_path, tiny_images, tiny_base):
    (tmp_path / "old").mkdir()
    assert "exists" in refused(*adapt(tiny_images, tmp_path / "old", tiny_base))
    assert "exists" in refused("synthesize", tmp_path, "-n", 3, "-o", tmp_path / "old")
    (tmp_path / "old" / "release").mkdir()
    assert "holds a demo already" in refused("demo", "-o", tmp_path / "old")


def test_full_disk(refused, tmp_path, tiny_images, tiny_base, monkeypatch):
    import sfumato.runs.folder

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sfumato.runs.folder, "write_file", full)
    line = refused(*adapt(tiny_images, tmp_path / "new", tiny_base), code=14)
    assert "No space left on device" in line


def test_what_is_no_run_or_release(refused, tmp_path):
    assert "not a run folder" in refused("synthesize", tmp_path, "-n", 3, "-o", tmp_path / "new")
    assert "not a run folder" in refused("export", tmp_path, "-o", tmp_path / "new")
    assert "not a run folder" in refused("evaluate", tmp_path, tmp_path, "--test", tmp_path)
    assert "synthesize" in refused("release", tmp_path)
    assert "sfumato release" in refused("verify", tmp_path)
    assert "is not a folder" in refused("verify", tmp_path / "none")
    # what is printed never has a folder that is taken, or a path that a shell would cut
    assert "-o` made" in refused("synthesize", tmp_path, "-n", 3, "-o", tmp_path / "new")
    assert "made it" in refused("verify", tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    assert "is a run folder, which never leaves" in refused("release", tmp_path)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--blocks", "2-"], "--blocks does not go with --method lora"),
        (["--rank", "0"], "--rank"),
        (["--prompt", "a picture"], "{class}"),
        (["--prompt", "circle=a", "--prompt", "circle=b"], "twice"),
        (["--init", "circle"], "CLASS=TEXT"),
        (["--target-modules", "to_nothing"], "to_nothing"),
        (["--relation", "sideways"], "--relation"),
        (
            ["--mixed-precision", "fp16"],
            "Invalid value for '--mixed-precision': 'fp16' is not one of 'auto', 'no', 'bf16'; see",
        ),
        (["--max-grad-norm", "1"], "--clip-norm"),
        (["--max_grad_norm=1"], "--clip-norm"),
        (["--train-batch-size", "8"], "--expected-batch-size"),
        (["--resolution", "64"], "--base"),
        (["--colour", "red"], "--colour"),
        (["--expected-batch-size", "1000"], "expected_batch_size"),
        (["--resume"], "--resume"),
        (["--new-attempt"], "--resume"),
    ],
)
def test_options(refused, tmp_path, tiny_images, tiny_base, words, expected):
    assert expected in refused(
        *adapt(tiny_images, tmp_path / "new", tiny_base, "--method", "lora", *words)
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--shard", "3/3"], "--shard"),
        (["--shard", "one"], "--shard"),
        (["--class-shares", "a=-1"], "--class-shares"),
        (["--class-shares", "a=x"], "--class-shares"),
        (["--class-shares", "a=0,b=0"], "all 0"),
        (["--guidance-scale", "nan"], "--guidance-scale"),
        (["--form", "zip"], "--form"),
        (["--steps", "0"], "--steps"),
    ],
)
def test_synthesis_options(refused, tmp_path, words, expected):
    assert expected in refused("synthesize", tmp_path, "-n", 3, "-o", tmp_path / "new", *words)


def test_unknown_method_and_missing_epsilon(refused, tmp_path, tiny_images, tiny_base):
    assert "choose attention" in refused(
        *adapt(tiny_images, tmp_path / "new", tiny_base, "--method", "magic")
    )
    assert "--epsilon" in refused("adapt", tiny_images, "-o", tmp_path / "new", "--base", tiny_base)


def test_a_bug_shows_its_kind_and_nothing_else(refused, tmp_path, monkeypatch):
    import sfumato.verbs

    def bug(*_: object, **__: object) -> None:
        raise RuntimeError(f"pixels {np.arange(3)}")

    monkeypatch.setattr(sfumato.verbs, "inspect", bug)
    line = refused("inspect", tmp_path, code=70)
    assert "RuntimeError" in line and "pixels" not in line and "--debug" in line


def test_debug_shows_the_traceback_with_a_warning(capsys, tmp_path, monkeypatch):
    import sfumato.verbs

    def bug(*_: object, **__: object) -> None:
        raise RuntimeError("where")

    monkeypatch.setattr(sfumato.verbs, "inspect", bug)
    assert main(["inspect", str(tmp_path), "--debug"]) == 70
    err = capsys.readouterr().err
    assert "may contain private data" in err and 'raise RuntimeError("where")' in err


def test_an_interrupted_run_can_be_resumed(refused, tmp_path, tiny_images, tiny_base, monkeypatch):
    import sfumato.verbs
    from sfumato import Interrupted

    def stop(*_: object, **__: object) -> None:
        raise Interrupted("stopped at step 3 of 9; continue with --resume")

    monkeypatch.setattr(sfumato.verbs, "adapt", stop)
    assert "--resume" in refused(*adapt(tiny_images, tmp_path / "new", tiny_base), code=75)


def test_a_release_that_was_altered(capsys, tmp_path):
    (tmp_path / "SHA256SUMS").write_text("0" * 64 + "  README.md\n")
    (tmp_path / "README.md").write_text("# altered\n")
    (tmp_path / "privacy.json").write_text(json.dumps({"epsilon": 1}))
    assert main(["verify", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "FAIL" in out
    stage, line = err.strip().splitlines()
    assert stage.endswith("...") and line.startswith("sfumato: ")


@pytest.mark.parametrize("words", ["plan x --captions", "bases --copy glyphs", "adapt --buckets"])
def test_a_flag_without_its_value_names_the_help_of_its_verb(refused, words):
    said = refused(*words.split())
    assert "requires" in said and said.endswith(f"see `sfumato {words.split()[0]} --help`")


@pytest.mark.parametrize(
    ("what", "part"),
    [("nosuch", "in one .safetensors file"), ("table.csv", "choose glyphs"), ("base", "as it is")],
)
def test_only_bundled_bases_and_checkpoints_are_copied(refused, tmp_path, what, part):
    (tmp_path / "base").mkdir()
    (tmp_path / "table.csv").write_text("a,b\n")
    assert part in refused("bases", "--copy", tmp_path / what, tmp_path / "new")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--method", "saliency", "--keep", "0"], "--keep"),
        (["--method", "saliency", "--keep", "most"], "--keep most"),
        (["--method", "saliency", "--choose", "public"], "--public-data"),
        (["--method", "saliency", "--activation", "silu"], "--activation does not go with"),
        (["--method", "lora", "--keep", "0.3"], "--keep does not go with"),
        (["--method", "saliency", "--probe-noise", "-1"], "--probe-noise -1: must be above 0"),
        (
            ["--method", "saliency", "--probe-noise", "0.1", "--probe-units", "24"],
            "one-shot events alone",
        ),
        (["--method", "loda", "--target-modules", "conv9"], "--target-modules conv9"),
        (["--method", "attention", "--public-data", "nowhere"], "nowhere"),
        (["--method", "lora", "--adapter-init", "public"], "--public-data"),
    ],
)
def test_choices_and_adapters(refused, tmp_path, tiny_images, tiny_base, words, part):
    assert part in refused(*adapt(tiny_images, tmp_path / "new", tiny_base, *words))
