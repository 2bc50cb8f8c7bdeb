from types import SimpleNamespace

import pytest


@pytest.fixture
def kit(tmp_path, tiny_base, tiny_images, monkeypatch, capsys, ledger_of_the_test):
    """What an input may use: a folder of its own, a base, pictures, and the owner's ledger."""
    return SimpleNamespace(
        tmp=tmp_path,
        base=tiny_base,
        images=tiny_images,
        patch=monkeypatch,
        said=capsys,
        book=ledger_of_the_test,
    )
