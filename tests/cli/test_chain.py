"""The verbs one after another on a tiny base: images in, a verified release out."""

from __future__ import annotations

import pytest

from sfumato.cli import main


@pytest.mark.slow
def test_from_images_to_a_verified_release(capsys, tmp_path, tiny_images, tiny_base):
    run, out, model = (str(tmp_path / name) for name in ("run", "release", "model"))
    words = [
        "--base",
        str(tiny_base),
        "--delta",
        "1e-3",
        "--steps",
        "3",
        "--expected-batch-size",
        "8",
    ]
    assert (
        main(
            [
                "adapt",
                str(tiny_images),
                "--epsilon",
                "4",
                *words,
                "--anyway",
                "--yes-public",
                "--output_dir",
                run,
            ]
        )
        == 0
    )
    assert "PRIVATE" in capsys.readouterr().out
    assert main(["adapt", str(tiny_images), "-o", run, "--resume"]) == 2
    assert "finished" in capsys.readouterr().err
    assert main(["synthesize", run, "-n", "9", "-o", out, "--steps", "2", "--seed", "7"]) == 0
    assert main(["release", out, "--title", "Shapes"]) == 0
    assert main(["verify", out]) == 0
    assert "PASS" in capsys.readouterr().out
    assert main(["export", run, "-o", model]) == 0
    next((tmp_path / "release" / "train").rglob("*.png")).write_bytes(b"altered")
    assert main(["verify", out]) == 1
