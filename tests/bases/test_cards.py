"""The lines of a released model's card, run as they stand by a process that knows nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sfumato.cli import main
from sfumato.privacy import accounting
from tests.bases.family_checks import adapt
from tests.bases.test_table import ROWS, images_of, init_of
from tests.pasted import pasted_lines, pixels

# Which lines there are follows from what leaves: pipelines, LoRA files, branches, tokens.
LEAVES = ("attention", "lora", "loda", "embedding")
CARDS = [(n, m) for n, row in ROWS.items() for m in LEAVES if row.refusal(m) is None]
# Levels of 256: untrained latents of 5e4 show the rounding of two pictures beside one.
LOUD = {"ldm_classes": 24}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method"), CARDS)
def test_the_lines_of_the_card_draw_its_sample_again(
    name: str,
    method: str,
    folder_of: Callable[[str], Path],
    tiny_images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accounting, "CERTIFICATE_GRID", 1e-2)
    monkeypatch.setattr(accounting, "PLANNING_GRID", 1e-2)
    images, words = images_of(ROWS[name], tiny_images)
    words += ["--steps", "1", "--samples-every", "0", "--mixed-precision", "no"]
    run, out = tmp_path / "run", tmp_path / "out"
    adapt(folder_of(name), images, run, method, *words, *init_of(name, method))
    assert main(["export", str(run), "-o", str(out)]) == 0
    assert main(["release", str(out)]) == 0
    sample, lines = pasted_lines(out, folder_of(name), tmp_path)
    if name == "lumina_2":  # counts eight pixels a latent, and this autoencoder has two
        lines = re.sub("(height|width)=16,", r"\1=64,", lines)
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    drawn = pixels(tmp_path / "picture.png").astype(int)
    assert (sample is None) == (name in ("ddpm", "ldm_vq"))  # told nothing: another picture
    if sample is not None:
        shown = pixels(out / sample)
        assert drawn.shape == shown.shape
        assert np.abs(drawn - shown).max() <= LOUD.get(name, 1)
