"""What a base is saved as opens by a call of plain diffusers that says nothing of formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.bases import load_base
from sfumato.bases.loading import stored_formats
from tests.bases.family_checks import check_sampling, pipeline
from tests.bases.text_families import EACH, TEXT


def formats(pipe: Any) -> dict[str, set[torch.dtype]]:
    """Of the numbers of each model."""
    return {
        name: {p.dtype for p in part.parameters()}
        for name, part in pipe.components.items()
        if isinstance(part, torch.nn.Module)
    }


@pytest.mark.parametrize("name", EACH)
def test_a_plain_call_opens_what_is_stored_in_half_precision(
    name: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    load_base(folder_of(name)).save(tmp_path / "saved")
    plain = pipeline(tmp_path / "saved", dtype=None)
    found = formats(plain)
    assert len(found) > 2 and set.union(*found.values()) == {torch.float32}
    assert all(stored_formats(tmp_path / "saved" / part)[0] == {torch.float16} for part in found)
    check_sampling(load_base(tmp_path / "saved"), plain, ["circle"], TEXT[name].draw)


def test_a_format_that_is_asked_for_is_used(folder_of: Callable[[str], Path], tmp_path: Path):
    load_base(folder_of("stable_diffusion")).save(tmp_path / "saved")
    half = formats(pipeline(tmp_path / "saved", dtype=torch.float16))
    assert set.union(*half.values()) == {torch.float16}
