"""Every family by every method: a step through the command line, or one line that refuses it.

Families that read texts hand over what plain diffusers loads and draws the same from; the table is
in docs/models.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfumato.bases import load_base, open_adapted, words_in
from sfumato.options import Sampling
from sfumato.privacy import accounting
from sfumato.synthesis.sampler import Sampler
from tests.bases.family_checks import Draw, adapt, check_output, refused
from tests.bases.published_classes import draw_dit, draw_unet2d
from tests.bases.text_families import EACH, TEXT

WEIGHTS, ADAPTERS = ("full", "attention"), ("lora", "saliency", "loda")
TOKENS = ("embedding", "inversion")
METHODS = (*WEIGHTS, *ADAPTERS, *TOKENS)
NO_FORMAT, NO_TOKENS = "has no file format for adapters", "has no tokens that can be taught"
FolderOf = Callable[[str], Path]
DOC = Path(__file__).parents[2] / "docs" / "models.md"


@dataclass(frozen=True)
class Row:
    """A family: how plain diffusers draws, whether there are classes, and words that refuse."""

    draw: Draw
    classes: bool = True
    no_adapters: str | None = None
    no_tokens: str | None = None

    def refusal(self, method: str) -> str | None:
        """The words with which a method is refused; None for one that runs."""
        if method in ADAPTERS:
            return self.no_adapters
        return self.no_tokens if method in TOKENS else None


def text_row(name: str) -> Row:
    family = TEXT[name]
    formats = None if family.adapters else NO_FORMAT
    return Row(family.draw, no_adapters=formats, no_tokens=None if family.tokens else NO_TOKENS)


ROWS = {name: text_row(name) for name in EACH} | {
    "latent_consistency": text_row("stable_diffusion"),
    "ddpm": Row(draw_unet2d, False, NO_FORMAT, "is told nothing"),
    "ldm_vq": Row(draw_unet2d, False, NO_FORMAT, "is told nothing"),
    "ddpm_classes": Row(draw_unet2d, no_adapters=NO_FORMAT),
    "ldm_classes": Row(draw_unet2d, no_adapters=NO_FORMAT),
    "dit": Row(draw_dit, no_adapters=NO_FORMAT),
}
QUICK = {("flux2_klein", "lora"), ("stable_diffusion_xl", "saliency")}
RUNS = [
    pytest.param(n, m, marks=() if (n, m) in QUICK else pytest.mark.slow, id=f"{n}-{m}")
    for n, row in ROWS.items()
    for m in METHODS
    if row.refusal(m) is None
]


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "CERTIFICATE_GRID", 1e-2)
    monkeypatch.setattr(accounting, "PLANNING_GRID", 1e-2)


def images_of(row: Row, images: Path) -> tuple[Path, list[str]]:
    return (images, []) if row.classes else (images / "circle", ["--unlabelled"])


def init_of(name: str, method: str) -> list[str]:
    """What tells a class base where the token of a class that it does not know starts."""
    if method not in TOKENS or name not in ("ddpm_classes", "ldm_classes", "dit"):
        return []
    return ["--init", {"ldm_classes": "circle=class1"}.get(name, "circle=great star")]


@pytest.mark.parametrize(("name", "method"), RUNS)
def test_a_step_of_every_method(
    name: str, method: str, folder_of: FolderOf, tiny_images: Path, tmp_path: Path
) -> None:
    row = ROWS[name]
    images, words = images_of(row, tiny_images)
    words += ["--mixed-precision", "no", *init_of(name, method)]
    if method != "inversion":
        words += ["--steps", "1", "--samples-every", "0"]
    run = adapt(folder_of(name), images, tmp_path / "run", method, *words)
    if method in TOKENS:
        base = open_adapted(run.model, lambda: load_base(folder_of(name)))
        drawn = Sampler(base, run.plan.prompts, Sampling(steps=2)).draw(np.arange(2), np.arange(2))
        assert words_in(run.model) and drawn.std() > 3
    else:
        check_output(run, folder_of(name), row.draw)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, r in ROWS.items() if any(map(r.refusal, METHODS))])
def test_what_does_not_run_is_refused_in_one_line(
    name: str, folder_of: FolderOf, tiny_images: Path, tmp_path: Path, capsys: Any
) -> None:
    images, words = images_of(ROWS[name], tiny_images)
    for method in METHODS:
        if said := ROWS[name].refusal(method):
            found = refused(
                folder_of(name), images, tmp_path / "run", "--method", method, *words,
                capsys=capsys,
            )  # fmt: skip
            assert said in found


def test_the_documented_table_is_this_one() -> None:
    table = DOC.read_text("utf-8").split("| tiny pipeline |", 1)[1].split("\n\n", 1)[0]
    found = {}
    for line in table.splitlines()[2:]:
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        found[name.strip("`")] = cells
    assert found == {
        name: ["refused" if row.refusal(method) else "runs" for method in METHODS]
        for name, row in ROWS.items()
    }
    assert re.findall(r"`(\w+)`", table.splitlines()[0]) == list(METHODS)
