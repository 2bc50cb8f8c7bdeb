"""METHODS, M5 and M7, on a dummy pipeline: real methods and whole runs. Slow, because they load
diffusers and price plans.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

from sfumato.auditing import conduct, doors, replay, taint
from sfumato.auditing.methods import KINDS, on_tiny
from sfumato.methods import METHODS
from sfumato.planning import inputs, reading

from . import helpers as bugs

torch.set_num_threads(1)


def test_every_method_is_audited():
    # inversion and evolution have no loop: test_embeddings.py, test_voting.py
    assert {*KINDS, "inversion", "evolution"} == set(METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("method", KINDS)
def test_a_method_passes_and_a_wide_clip_is_found(method, whole_tiny_base, monkeypatch):
    subject = on_tiny(method, whole_tiny_base, KINDS[method])
    assert conduct.changed_set(subject, 0).passed
    assert replay.sensitivity(subject, 0, units=3, brief=True).passed
    bugs.clip_times(1.1)(monkeypatch)
    assert not replay.sensitivity(subject, 0, units=3, brief=True).passed


@pytest.mark.slow
def test_a_trainable_tensor_left_out_of_the_noise_is_found(whole_tiny_base, monkeypatch):
    """A bias that an optimiser of its own moves: it is in no sum, and has no noise."""
    subject = on_tiny("lora", whole_tiny_base)
    bias = dict(subject.adaptation.model.named_parameters())["unet.conv_in.bias"]

    def touch(sums, norms, batch, draws):
        bias.data.add_(1e-4)
        return sums

    bugs.engine(touch)(monkeypatch)
    finding = conduct.changed_set(subject, 0)
    assert not finding.passed and "conv_in.bias" in finding.detail


@pytest.mark.slow
def test_no_record_changes_what_is_published():
    finding = taint.untouched(0)
    assert finding.passed, finding.detail


@pytest.mark.slow
def test_private_class_counts_in_the_synthesis_are_found(monkeypatch):
    real, counts = reading.load_records, []

    def spying(path, **reading):
        records = real(path, **reading)
        counts[:] = np.bincount(records.labels[records.usable], minlength=3).tolist()
        return records

    monkeypatch.setattr(reading, "load_records", spying)
    page = importlib.import_module("sfumato.verbs.synthesize")
    monkeypatch.setattr(
        page, "shares_of", lambda plan, noisy: [c**8 / sum(x**8 for x in counts) for c in counts]
    )
    finding = taint.untouched(0)
    assert not finding.passed and "pictures per class" in finding.detail


@pytest.mark.slow
def test_public_doors_are_closed_and_an_open_one_is_found(monkeypatch):
    finding = doors.closed(0)
    assert finding.passed and finding.numbers == 6, finding.detail
    monkeypatch.setattr(inputs, "_require_uncharged", lambda public, book, flag: None)
    finding = doors.closed(0)
    assert not finding.passed and "charged images are taken as public" in finding.detail
