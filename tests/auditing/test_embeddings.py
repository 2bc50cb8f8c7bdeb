"""The audit of an inversion: it passes on the code as it is, and sees a bound, a noise or an
isolation that is not there.
"""

from __future__ import annotations

import numpy as np
import pytest

from sfumato import verbs
from sfumato.auditing import embeddings, on_run, oneshot
from sfumato.methods import Inversion
from sfumato.methods.inversion import batch
from sfumato.privacy.mechanisms.mean import GRID, Aggregation
from sfumato.privacy.random import noise


@pytest.fixture(scope="module")
def run(whole_tiny_base, tiny_images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audited")
    return verbs.adapt(
        tiny_images,
        anyway=True,
        yes_public=True,
        output=folder / "run",
        ledger=folder / "ledger.sqlite",
        base=str(whole_tiny_base),
        method=Inversion(dimensions=4, inversion_steps=2, inversion_draws=1),
        epsilon=4.0,
        delta=1e-3,
        prompt="a {class} circle",
        expected_batch_size=12,
    )


def test_an_inversion_run_is_audited_and_passes(run):
    found = []
    body = on_run.audit_run(run, on_finding=found.append)
    assert body["passed"] and body["complete"], body
    assert {f.check for f in found} == {"M1", "B", "H"}
    assert {f.subject for f in found if f.check == "M1"} == {
        "isolation, 24 rows",
        "embeddings, clip",
        "inversion, clip",
    }


@pytest.mark.parametrize("which", [0, 1])
def test_both_rules_pass(which):
    query = embeddings.mechanisms()[which]
    assert oneshot.neighbours(query, 0).passed and oneshot.noise(query, 0, 1e-6).passed


def test_a_missing_bound_is_seen(monkeypatch):
    def unbounded(self, vectors, clip_norm):
        return np.rint(np.nan_to_num(vectors) / clip_norm * GRID).clip(-1e15, 1e15).astype(np.int64)

    monkeypatch.setattr(Aggregation, "unit_rows", unbounded)
    assert not oneshot.neighbours(embeddings.mechanisms()[0], 0).passed


def test_half_the_noise_is_seen(monkeypatch):
    real = noise.integers
    monkeypatch.setattr(noise, "integers", lambda variance, *rest: real(variance / 4, *rest))
    assert not oneshot.noise(embeddings.mechanisms()[0], 0, 1e-6).passed


def test_an_image_that_moves_another_is_seen(run, monkeypatch):
    from sfumato.runs.prepared import rebuild

    real = batch.Inverter._losses

    def coupled(self, z, rows, drawn):
        return real(self, z * (1 + rows.mean.square().mean()), rows, drawn)

    monkeypatch.setattr(batch.Inverter, "_losses", coupled)
    prepared = rebuild(run.plan, run.options, None, run.start)
    assert not embeddings.isolation(prepared).passed


def test_the_tiny_base_of_every_audit_passes(whole_tiny_base):
    from sfumato.auditing.methods import PROMPTS, load_base

    isolated, bounded = embeddings.on_tiny(load_base(whole_tiny_base), PROMPTS, 0)
    assert isolated.passed and bounded.passed, (isolated, bounded)
