"""Before the charge: what follows it is priced and tried; what could not be released is refused,
and nothing is spent or left behind.
"""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest

from sfumato import verbs
from sfumato.errors import MachineError, SfumatoError
from sfumato.methods import Attention, Lora
from sfumato.options import Performance
from sfumato.privacy import curves
from sfumato.releases import certificate, prices, verify
from sfumato.runs import preflight
from sfumato.runs.folder import PRICES


@pytest.fixture(autouse=True)
def steady_ground(monkeypatch):
    monkeypatch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
    monkeypatch.setattr("sfumato.runs.facts.code_version", lambda: "0+test")


@pytest.fixture
def settings(tiny_base):
    return {
        "epsilon": 4.0,
        "delta": 1e-2,
        "base": str(tiny_base),
        "method": Lora(rank=2),
        "expected_batch_size": 8,
        "steps": 2,
        "performance": Performance(micro_batch=8, precision="float32"),
    }


def charged(ledger):
    from sfumato.privacy.ledger.ledger import Ledger

    return [row.kind for row in Ledger(ledger).rows if row.kind in ("CHARGE", "ATTEMPT")]


HARM = {
    "group table": (prices, "record_groups", TypeError("unsupported operand")),
    "curve": (curves, "curve", OverflowError("too large")),
    "report": ("sfumato.releases.report", "render", KeyError("m")),
    "certificate": (
        certificate,
        "mechanism",
        SfumatoError("the plan has a probe that its events do not pay for"),
    ),
    "sampler": (preflight, "write_dataset", SfumatoError("pictures that are not finite")),
    "export": (preflight, "lay_out_model", ValueError("no such tensor")),
    "saving": ("sfumato.methods.Lora", "untrained", RuntimeError("weights share memory")),
    "disk": (shutil, "disk_usage", None),
}


@pytest.mark.parametrize("what", HARM)
def test_what_would_fail_after_the_charge_is_refused_before_it(
    tiny_images, settings, tmp_path, monkeypatch, ledger_of_the_test, what
):
    room, name, error = HARM[what]

    def fails(*_, **__):
        raise error

    instead = fails if error else lambda _: SimpleNamespace(free=1000)
    monkeypatch.setattr(
        f"{room}.{name}" if isinstance(room, str) else room,
        *([] if isinstance(room, str) else [name]),
        instead,
    )
    with pytest.raises(MachineError if what == "disk" else SfumatoError) as refused:
        verbs.adapt(tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", **settings)
    assert (
        "\n" not in str(refused.value)
        and not charged(ledger_of_the_test)
        and not (tmp_path / "run").exists()
    )


def test_the_prices_are_kept_and_read_again(tiny_images, settings, tmp_path, monkeypatch):
    run = verbs.adapt(
        tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", **settings
    )
    kept = json.loads((run.folder / PRICES).read_text())
    assert kept["events"] == run.plan.to_json()["events"] and kept["epsilon"] == run.plan.epsilon
    assert not (run.folder / preflight.TRIAL).exists()
    monkeypatch.setattr(
        certificate, "prices_of", lambda **_: pytest.fail("they were priced before the charge")
    )
    draft = json.loads(
        (verbs.export(run, tmp_path / "out", keep_key=True) / "synthesis.json").read_text()
    )["certificate"]
    assert (
        draft["curve"] == kept["curve"]
        and draft["k_table"] == kept["k_table"]
        and draft["mu"]["value"] == kept["mu"]
    )


@pytest.mark.parametrize("harm", ["altered", "gone"])
def test_prices_that_were_altered_are_made_anew(tiny_images, settings, tmp_path, harm):
    run = verbs.adapt(
        tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", **settings
    )
    place = run.folder / PRICES
    kept = json.loads(place.read_text())
    place.unlink() if harm == "gone" else place.write_text(json.dumps(kept | {"mu": 0.01}))
    draft = json.loads((verbs.export(run, tmp_path / "out") / "synthesis.json").read_text())[
        "certificate"
    ]
    assert draft["mu"]["value"] == kept["mu"]


@pytest.mark.parametrize("method", ["lora", "full", "saliency", "embedding"])
def test_a_trial_leaves_training_as_it_is(tiny_images, settings, tmp_path, monkeypatch, method):
    """Saving may merge adapters into a base: the trial does so on one of its own."""
    asked = {
        **settings,
        "method": method,
        "steps": 1,
        "prompt": "a {class}",
        "embedder": True if method != "embedding" else None,
    }
    if method == "saliency":
        asked |= {"keep": 3, "probe_units": 8, "probe_draws": 1, "rank": 2}
    seen = []
    right = preflight._try_model

    def watched(run, prepared, images):
        state = {n: p.detach().clone() for n, p in prepared.adaptation.model.named_parameters()}
        right(run, prepared, images)
        after = dict(prepared.adaptation.model.named_parameters())
        seen.append(set(after) == set(state) and all((after[n] == state[n]).all() for n in state))

    monkeypatch.setattr(preflight, "_try_model", watched)
    run = verbs.adapt(tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", **asked)
    assert seen == [True] and run.model.exists()


def test_a_base_that_only_its_own_scheduler_samples_is_taken(
    tiny_images, settings, tmp_path, monkeypatch
):
    right, asked = preflight.write_dataset, []

    def write(base, out, *, sampling, **more):
        asked.append((sampling.scheduler, sampling.steps))
        if len(asked) == 1:
            raise SfumatoError("not finite")
        return right(base, out, sampling=sampling, **more)

    monkeypatch.setattr(preflight, "write_dataset", write)
    verbs.adapt(tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", **settings)
    assert asked[0][0] == "auto" and asked[1][1] == 50


@pytest.mark.parametrize("batch", [24, 12])
def test_every_unit_in_every_step_is_released(tiny_images, settings, tmp_path, batch):
    """The default for up to 64 units: a draw of all of them is a plain Gaussian, for one record and
    for several that belong together.
    """
    asked = settings | {
        "expected_batch_size": batch,
        "method": Attention(),
    }
    run = verbs.adapt(tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", **asked)
    folder = verbs.release(verbs.synthesize(run, 2, tmp_path / "out"))
    table = json.loads((folder / "privacy.json").read_text())["k_table"]
    assert verify(folder).ok and list(table) == ["1", "2", "3", "5", "10"]
