"""Correct code passes on models of the size that people have: many numbers see what a small model's
checks do not.
"""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.auditing import conduct, noise
from sfumato.auditing.subject import dummy_subject


def test_noise_of_many_numbers_has_its_declared_size_at_every_step():
    """Declared is sigma C (1 + rho): nearly a hundredth more than sigma C, which many
    numbers show.
    """
    finding = conduct.course(dummy_subject("wide"), seed=0, alpha=1e-6, steps=2)
    assert finding.passed, finding.detail


@pytest.mark.parametrize(("count", "sd"), [(100_000, 30_000.0), (50_000, 1e6), (200_000, 500.0)])
def test_how_many_integers_are_expected_to_differ(count, sd):
    drawn = np.rint(np.random.default_rng(1).normal(0.0, sd, count))
    assert len(np.unique(drawn)) / count == pytest.approx(
        noise.distinct_integers(count, sd), rel=0.02
    )
