"""The tiny pipelines of all families, each made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bases.tiny_language_models import LANGUAGE_MODELS
from tests.bases.tiny_pipelines import PIPELINES
from tests.bases.tiny_transformers import TRANSFORMERS

TINY = PIPELINES | TRANSFORMERS | LANGUAGE_MODELS


@pytest.fixture(scope="session")
def tiny_base(whole_tiny_base: Path) -> Path:
    """What is asked of bases is asked of one with all kinds of blocks."""
    return whole_tiny_base


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name -> its pipeline's folder."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = TINY[name](tmp_path_factory.mktemp("tiny") / name)
        return made[name]

    return get
