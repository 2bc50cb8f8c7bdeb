"""What the tests of the release share: a made plan, the facts of a run, twenty images, one finished
release.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from sfumato.privacy import accounting, events
from sfumato.releases import (
    CertificateFacts,
    LedgerFacts,
    build_privacy_json,
    consistency,
    draft,
    folder,
    prices,
    write_release,
)

SIGMA, RATE, STEPS, DELTA = 2.0, 0.05, 60, 1e-5
CLASSES = ("cat", "dog")
LEDGER = {"head": "ab" * 32, "entries": 3, "attempts": 1, "replays": 0}


@pytest.fixture(scope="session", autouse=True)
def price_once():
    """Certificates are priced once for each set of facts."""
    known: dict[str, dict] = {}

    def build(facts, settings=None):
        text = repr((facts, settings))
        known[text] = known.get(text) or build_privacy_json(facts, settings)
        return json.loads(json.dumps(known[text]))

    with pytest.MonkeyPatch.context() as patch:
        for room in (draft, folder):
            patch.setattr(room, "build_privacy_json", build)
        groups = cache(prices.record_groups)
        patch.setattr(prices, "record_groups", groups)
        patch.setattr(consistency, "record_groups", groups)
        yield


def make_plan(**changes) -> dict:
    steps = changes.get("steps", STEPS)
    total = [
        {
            "type": "poisson_gaussian",
            "sampling_rate": RATE,
            "noise_multiplier": SIGMA,
            "steps": steps,
        },
        {"type": "gaussian", "noise_multiplier": 20.0, "count": 1},
    ]
    plan = {
        "method": "attention",
        "unit": "record",
        "relation": "zero-out",
        "n_units": 1000,
        "classes": list(CLASSES),
        "prompts": ["a picture of a cat", "a picture of a dog"],
        "epsilon_target": 1.0,
        "delta": DELTA,
        "sampling_rate": RATE,
        "expected_batch_size": 50,
        "steps": steps,
        "noise_draws": 4,
        "clip_norm": 0.5,
        "clipping": "flat",
        "noise_multiplier": SIGMA,
        "histogram_noise_multiplier": 20.0,
        "retry_steps": 0,
        "events": total,
        "epsilon": None,
        "max_per_unit": 1,
        "base": "glyphs",
        "base_digest": "cd" * 32,
        "trainable": 1234,
        "learning_rate": 1e-3,
        "warmup_steps": 5,
        "ema_decay": 0.9,
        "target_modules": ["to_q"],
        "rank": None,
        "grid": 1e-3,
        **changes,
    }
    if plan["epsilon"] is None:
        plan["epsilon"] = accounting.epsilon_of(
            events.from_json(plan["events"]), plan["delta"], plan["relation"], plan["grid"]
        )
    return plan


def facts(
    plan: dict | None = None, ledger: dict = LEDGER, conditions: dict | None = None, **changes
) -> dict:
    """Arguments of `write_draft` and `write_release`; `changes` of the facts or of the others."""
    settings = {
        "scheduler": "DPMSolverMultistepScheduler",
        "steps": 20,
        "guidance": 1.5,
        "public_seed": 7,
        "n": 20,
        "resolution": 8,
        "class_shares": "uniform",
    }
    said = {"run_key_id": "0123456789abcdef", "code_version": "0.1.0"}
    said |= {"base_data": "public glyphs"} if conditions is None else conditions
    said |= {
        name: changes.pop(name) for name in ("code_version", "prices", "opt_ins") if name in changes
    }
    own = CertificateFacts(plan=plan or make_plan(), ledger=LedgerFacts(**ledger), **said)
    return {"facts": own, "artefacts": "images", "settings": settings, **changes}


def certificate(arguments: dict) -> dict:
    """The certificate that `write_draft` would make with these arguments."""
    return build_privacy_json(arguments["facts"], arguments["settings"])


def make_images(top: Path, table: str = "train/metadata.jsonl", n: int = 20) -> Path:
    rows = []
    for i in range(n):
        label = CLASSES[i % 2]
        path = top / "train" / label / f"{i:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (12 * i, 90, 200)).save(path)
        rows.append(
            {
                "file_name": path.relative_to((top / table).parent).as_posix(),
                "label": label,
                "prompt": f"a picture of a {label}",
                "seed": i,
            }
        )
    (top / table).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return top


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    top = tmp_path_factory.mktemp("made")
    return write_release(
        make_images(top / "source"),
        top / "release",
        **facts(),
        public_metrics=[{"name": "accuracy", "value": 0.913, "public_data": "public test digits"}],
    )


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """The makers above and their constants, for the tests of this folder."""
    return SimpleNamespace(
        plan=make_plan,
        facts=facts,
        certificate=certificate,
        images=make_images,
        classes=CLASSES,
        ledger=LEDGER,
        delta=DELTA,
        steps=STEPS,
        sigma=SIGMA,
    )
