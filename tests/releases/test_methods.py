"""A release of every method, made by the real verbs, is priced again by the stand-alone verifier to
the same epsilon.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from sfumato import verbs
from sfumato.methods import METHODS
from sfumato.options import Performance
from sfumato.privacy import accounting

# Between them: every clipping, the probe, a histogram, steps in reserve, and a relation that is not
# the default.
MORE = {
    "full": {"clipping": "per-group"},
    "attention": {"relation": "replace-one", "histogram": 4.0},
    "lora": {"rank": 2, "retry_fraction": 0.5, "clipping": "normalised"},
    "saliency": {"rank": 2, "keep": 3, "probe_units": 16, "probe_draws": 1},
    "loda": {"rank": 2, "clipping": "per-group-normalised"},
    "embedding": {},
    "inversion": {"inversion_steps": 2, "inversion_draws": 1, "dimensions": 4},
    "evolution": {"candidates": 12, "iterations": 3, "histogram": 4.0, "retry_fraction": 0.3},
}


def test_every_method_is_here():
    assert set(MORE) == set(METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(MORE))
def test_the_stand_alone_verifier_finds_the_same_epsilon(
    tiny_images, tiny_base, tmp_path, monkeypatch, method
):
    monkeypatch.setattr(accounting, "CERTIFICATE_GRID", 1e-3)
    fast = Performance(micro_batch=8, checkpoint_steps=1, precision="float32")
    settings = {
        "delta": 1e-2,
        "base": str(tiny_base),
        "method": method,
    }
    if method in ("inversion", "evolution"):  # no loop
        fast = Performance(precision="float32")
    else:
        settings |= {"expected_batch_size": 8, "steps": 3, "noise_draws": 1}
    run = verbs.adapt(
        tiny_images,
        anyway=True,
        yes_public=True,
        output=tmp_path / "run",
        epsilon=2.0,
        performance=fast,
        **settings,
        **MORE[method],
    )
    if method == "evolution":  # hands over pictures
        verbs.synthesize(run, 6, tmp_path / "made")
    else:
        verbs.export(run, tmp_path / "made")
    release = verbs.release(tmp_path / "made", out=tmp_path / "release")
    done = subprocess.run(
        [sys.executable, "-I", "-B", "verify_privacy.py"],
        cwd=release,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "FAIL" not in done.stdout, done.stdout + done.stderr
    stated, priced = re.search(
        r"ok    epsilon +([\d.]+), priced again ([\d.]+)", done.stdout
    ).groups()
    claim = json.loads((release / "privacy.json").read_text())
    assert float(stated) == claim["epsilon"] and abs(float(stated) - float(priced)) <= 1e-3
    print(f"{method}: stated {stated}, priced again {priced}")
