"""The benchmarks of inversion run on a tiny base and dummy packs, and the reserved packs are
chosen by their rule.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def programs(monkeypatch):
    """The modules `inversion` and `packs` of the folder, with dummy images in place of npm
    packages.
    """
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("inversion", "packs", "measure"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import inversion
    import packs

    rng = np.random.default_rng(0)
    monkeypatch.setattr(
        packs,
        "private_pack",
        lambda name, cache: (rng.integers(0, 255, (240, 16, 16, 3), np.uint8), []),
    )
    made = (
        rng.integers(0, 255, (12, 16, 16, 3), np.uint8),
        np.repeat(np.arange(3), 4),
        ["a", "b", "c"],
    )
    monkeypatch.setattr(packs, "public_packs", lambda cache, each: made)
    yield inversion, packs
    for name in ("inversion", "packs", "measure"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_every_part_gives_its_rows(programs, tiny_base):
    inversion, _ = programs
    said = SimpleNamespace(
        base=str(tiny_base),
        pack="made",
        prompt="a <artwork>",
        quick=True,
        cache=Path(),
        embeddings=None,
        guidance=1.0,
        images=8,
    )
    rows = list(inversion.throughput(said))
    assert {row["draws"] for row in rows} == {1, 4} and all(row["gain"] > 0 for row in rows)
    rows = {row["recipe"]: row for row in inversion.steps(said)}
    assert set(rows) == {"start", "usual, 60 steps", "usual, 120 steps", "ours"}
    (row,) = inversion.wall(said)
    assert row["n"] == 12 and row["seconds"] > 0
    assert rows["usual, 120 steps"]["passes_an_image"] == 480 and rows["ours"]["steps_most"] <= 40


def test_a_packs_other_drawings_are_left_out(monkeypatch, tmp_path):
    pytest.importorskip("resvg_py")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "packs", raising=False)
    import packs

    body = {"body": '<rect width="8" height="8"/>'}
    names = ("bus", "bus-11", "bus-negative", "bus-24px-negative", "7-negative", "car-negative")
    text = json.dumps({"icons": {name: body for name in names}}).encode()
    (tmp_path / "npm").mkdir()
    with tarfile.open(tmp_path / "npm" / "iconify-json-healthicons-1.2.13.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("package/icons.json")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    pictures, subjects = packs.private_pack("healthicons-negative", tmp_path)
    assert sorted(subjects) == ["bus", "car"] and pictures.shape == (2, 32, 32, 3)
    again, _ = packs.private_pack("healthicons-negative", tmp_path)
    assert np.array_equal(pictures, again)
    sys.modules.pop("packs", None)
