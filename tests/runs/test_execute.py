"""The cache of a run: whole, or made again."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sfumato.errors import Interrupted
from sfumato.runs import execute
from sfumato.training.texts import INDEX


def test_a_cache_that_is_written_anew_is_not_whole_before_its_end(tmp_path, monkeypatch):
    """Of a run whose captions were kept in another form: else half of the latents would train."""

    def cut_off(*given, **how):
        raise Interrupted("cut off")

    monkeypatch.setattr(execute, "caption_base", lambda base: SimpleNamespace(**vars(base)))
    monkeypatch.setattr(execute, "write_texts", lambda folder, *_: (folder / INDEX).touch())
    monkeypatch.setattr(execute, "build_latents", cut_off)
    base = SimpleNamespace(sizes=[(8, 8)], buckets=(), encode=None, condition_of_captions=None)
    prepared = SimpleNamespace(
        base=base,
        plan=SimpleNamespace(captions=True),
        adaptation=SimpleNamespace(reads_prompts=True),
    )
    one = np.zeros(1, np.int64)
    records = SimpleNamespace(
        n=1, captions=["a"], usable=one == 0, labels=one, unit=one, reading_order=one
    )
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "done").touch()
    for _ in range(2):  # a second start does not take it for whole
        with pytest.raises(Interrupted):
            execute._encode(SimpleNamespace(folder=tmp_path), prepared, records, lambda line: None)
