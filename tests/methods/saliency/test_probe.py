"""The probe end to end: sensitivity on neighbours, one run through the ledger, replay, and the free
controls.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sfumato import verbs
from sfumato.bases import load_base
from sfumato.bases.tiny import make_tiny_images
from sfumato.bases.unets import PROJECTIONS
from sfumato.errors import SfumatoError
from sfumato.gradients import Engine
from sfumato.gradients import scores as scores_module
from sfumato.methods import Lora, Saliency, dpsgd
from sfumato.methods.saliency import probe as probing
from sfumato.methods.targets import grouped, matching_modules
from sfumato.options import Performance
from sfumato.planning import inputs
from sfumato.planning.task import task_of
from sfumato.privacy.ledger.ledger import Ledger, LedgerError
from sfumato.privacy.ledger.runs import RunLedger
from sfumato.privacy.mechanisms.votes import STEP, Probe
from sfumato.privacy.random.keys import RunKey
from sfumato.privacy.random.sampling import poisson
from sfumato.records import load_records
from sfumato.runs import budget
from sfumato.runs.facts import certificate_facts
from sfumato.runs.folder import Run
from sfumato.runs.prepared import rebuild
from sfumato.training import LatentData, UnitBatch

torch.set_num_threads(1)
KEY = RunKey(bytes(range(32)))
N = 40


@pytest.fixture(autouse=True)
def steady_ground(monkeypatch):
    monkeypatch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
    monkeypatch.setattr("sfumato.runs.folder.RunKey.generate", lambda: KEY)


class Toy(nn.Module):
    """Six small matrices, convolutions and linears."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=1) for _ in range(2))
        self.linears = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        for conv in self.convs:
            x = torch.tanh(conv(x))
        x = x.flatten(1)
        for linear in self.linears:
            x = linear(x) + x
        return x


@pytest.fixture(scope="module")
def toy():
    torch.manual_seed(0)
    model = Toy()

    def losses(batch):
        x = (batch.mean + batch.std * batch.latent_noise + batch.noise).flatten(0, 1)
        return model(x).square().mean(1) * batch.weight.flatten()

    weights = {
        n: m.weight for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))
    }
    return model, weights, losses


def latents(mean, label=None):
    n = len(mean)
    return LatentData(
        mean,
        np.full(mean.shape, 0.1, np.float16),
        np.zeros(n, np.int64) if label is None else label,
        np.arange(n),
        np.arange(n + 1),
    )


def total(toy, probe, data, attempt=0, micro_batch=16):
    model, weights, losses = toy
    units = poisson(KEY, STEP, attempt, N, probe.expected_batch_size / N)
    batch = UnitBatch(data, units, KEY, STEP, attempt, probe.noise_draws, 1.0, 0.0, 1000)
    groups = {name: (name,) for name in probe.groups}
    return probing.total_scores(probe, groups, losses, weights, model, batch, micro_batch), units


PROBES = {
    "votes": ("votes", 2, None, False),
    "squares": ("squares", None, None, False),
    "clipped at 2": ("squares", None, 2.0, False),
    "per size": ("squares", None, 0.01, True),
}


@pytest.mark.parametrize("kind", PROBES)
def test_no_neighbour_moves_the_scores_by_more_than_the_bound(toy, kind):
    """125 random neighbours for each of four scores (500 together): one unit zeroed, replaced,
    planted huge, or made NaN.
    """
    score, votes, clip_norm, per_size = PROBES[kind]
    probe = Probe(tuple(toy[1]), 2, score, votes, clip_norm, per_size, 30.0, 2, 1.0, 1.0)
    rng = np.random.default_rng(len(kind))
    mean = rng.standard_normal((N, 2, 2, 2)).astype(np.float16)
    mean[3], mean[4] = 6e4, np.nan
    whole, units = total(toy, probe, latents(mean))
    assert 10 < len(units) < N
    moves = []
    for trial in range(125):
        unit, label = int(rng.integers(N)), np.zeros(N, np.int64)
        changed = mean.copy()
        kind_of_change = trial % 5
        if kind_of_change == 0:
            changed[unit] = np.nan
        elif kind_of_change == 1:
            changed[unit] = 6e4 * rng.standard_normal((2, 2, 2)).clip(-1, 1)
        elif kind_of_change == 2:
            changed[unit] = np.inf
        else:
            label[unit] = -1  # the unit's contribution is replaced by nothing
        other, _ = total(toy, probe, latents(changed, label))
        moved = float((other - whole).double().norm()) * probe.grid
        # a changed unit is two zero-outs away, so at most twice the bound; in fact sqrt(2) of it
        bound = probe.sensitivity * (
            1 if kind_of_change in (0, 2, 3, 4) or unit in (4,) else 2**0.5
        )
        if unit not in units:
            assert moved == 0
        assert moved <= bound, (unit, kind_of_change)
        moves.append(moved)
    # the test would see a bound that is too small
    assert max(moves) > 0.3 * probe.sensitivity or kind == "per size"


def test_micro_batches_change_nothing(toy):
    probe = Probe(tuple(toy[1]), 2, "votes", 2, None, False, 30.0, 2, 1.0, 1.0)
    data = latents(np.random.default_rng(1).standard_normal((N, 2, 2, 2)).astype(np.float16))
    sums = [total(toy, probe, data, micro_batch=size)[0] for size in (1, 7, N)]
    assert torch.equal(sums[0], sums[1]) and torch.equal(sums[0], sums[2])


def test_the_probe_has_addresses_of_its_own(toy):
    """Amplification by the probe's sample needs it to be independent of every training step's."""
    drawn = {step: set(poisson(KEY, step, 0, 10_000, 0.5).tolist()) for step in (0, 1, STEP)}
    assert all(2300 < len(drawn[STEP] & drawn[step]) < 2700 for step in (0, 1))


@pytest.fixture(scope="module")
def settings(whole_tiny_base):
    return {
        "epsilon": 4.0,
        "delta": 1e-2,
        "base": str(whole_tiny_base),
        "method": Saliency(rank=2, keep=5, probe_units=16, probe_draws=2),
        "expected_batch_size": 8,
        "steps": 3,
        "performance": Performance(micro_batch=8, checkpoint_steps=1, precision="float32"),
    }


class Killed(BaseException):
    """Stands for a death."""


def test_one_run_through_the_ledger(tiny_images, settings, tmp_path, monkeypatch):
    """Charged, then read, probed once, recorded; killed while training it resumes without a second
    look.
    """
    looked = []
    original = probing.choose_matrices

    def choose(prepared, workspace):
        run, key, attempt = workspace.run, workspace.key, workspace.attempt
        (began,) = run.ledger.bodies("ATTEMPT")
        assert key._secret == KEY.for_attempt(began["salt"])._secret and attempt == 0
        assert (
            run.ledger.charged_events() == run.plan.to_json()["events"]
            and len(run.plan.events) == 2
        )
        looked.append(run.ledger.bodies("PROBE"))
        return original(prepared, workspace)

    def dies(now, plan):
        raise Killed

    monkeypatch.setattr(probing, "choose_matrices", choose)
    with pytest.raises(Killed):
        verbs.adapt(
            tiny_images,
            anyway=True,
            yes_public=True,
            output=tmp_path / "run",
            progress=dies,
            **settings,
        )
    assert looked == [[]]
    run = Run.open(tmp_path / "run")
    kinds = [row.kind for row in run.ledger.rows if row.kind != "NOTE"]
    assert kinds == ["PLAN", "CHARGE", "ATTEMPT", "PROBE"]
    (facts,) = run.ledger.bodies("PROBE")
    assert tuple(facts["selected"]) == run.plan.probe.best(facts["scores"]) == run.selected
    assert len(facts["scores"]) == 32 and all((s * 1024) % 1 == 0 for s in facts["scores"])
    assert facts["targets"] == facts["selected"] and facts["trainable"] <= run.plan.trainable

    run = verbs.adapt(tiny_images, output=tmp_path / "run", resume=True)
    assert len(looked) == 1 and len(run.ledger.bodies("PROBE")) == 1
    from safetensors.torch import load_file

    held = load_file(run.model / "pytorch_lora_weights.safetensors")
    adapted = {name.removeprefix("unet.").rpartition(".lora")[0] for name in held}
    assert adapted == set(facts["selected"])  # L24: selected = adapted, to_out.0 included
    public = certificate_facts(run).selection
    assert public["how"] == "private" and public["scores"] == facts["scores"]
    assert json.loads((run.folder / "plan.json").read_text())["probe"]["keep"] == 5


def test_rows_of_what_was_chosen_are_tried_on_dummy_records(
    tiny_images, settings, tmp_path, monkeypatch
):
    tried, training = [], []
    looks, trains = Engine._tried, dpsgd.train

    def looks_at(self, row_losses, part, draws):
        tried.append((len(self._trainable), bool(training)))
        return looks(self, row_losses, part, draws)

    def begins(*given, **how):
        training.append(how["state"])
        return trains(*given, **how)

    monkeypatch.setattr(Engine, "_tried", looks_at)
    monkeypatch.setattr(dpsgd, "train", begins)
    asked = {"anyway": True, "yes_public": True, "output": tmp_path / "run"}
    verbs.adapt(tiny_images, **asked, **settings)
    (state,) = training
    assert len(state.trainable) in {n for n, _ in tried}  # those that the probe left
    assert not any(private for _, private in tried)


def test_a_death_before_the_record_replays_the_same_scores_and_may_not_pay_for_new_ones(
    tiny_images, settings, tmp_path, monkeypatch
):
    def dies(self, kind, body):
        if kind == "PROBE":
            kept.append(body)
            raise Killed
        return append(self, kind, body)

    kept, append = [], RunLedger.append
    with monkeypatch.context() as patch:
        patch.setattr(RunLedger, "append", dies)
        with pytest.raises(Killed):
            verbs.adapt(
                tiny_images,
                anyway=True,
                yes_public=True,
                output=tmp_path / "run",
                retry_fraction=1.0,
                **settings,
            )
    assert not Run.open(tmp_path / "run").ledger.bodies("PROBE")
    with pytest.raises(SfumatoError, match="before its probe was recorded"):
        verbs.adapt(tiny_images, output=tmp_path / "run", resume=True, new_attempt=True)
    run = verbs.adapt(tiny_images, output=tmp_path / "run", resume=True)
    assert run.ledger.bodies("PROBE") == kept and len(run.ledger.bodies("REPLAY")) == 1


def test_a_new_attempt_after_the_probe_keeps_its_choice_and_the_release_tells_of_both(
    tiny_images, settings, tmp_path
):
    """One look for good: the retry draws fresh noise for training only, and every figure can be
    priced again.
    """
    with pytest.raises(Killed):
        verbs.adapt(
            tiny_images,
            anyway=True,
            yes_public=True,
            output=tmp_path / "run",
            retry_fraction=1.0,
            progress=dies_at_once,
            **settings,
        )
    (facts,) = Run.open(tmp_path / "run").ledger.bodies("PROBE")
    run = verbs.adapt(tiny_images, output=tmp_path / "run", resume=True, new_attempt=True)
    first, second = run.ledger.bodies("ATTEMPT")
    assert (
        first["salt"] != second["salt"]
        and run.ledger.bodies("PROBE") == [facts]
        and facts["attempt"] == 0
    )
    assert budget.price(run.group().charges, False) == run.plan.epsilon
    verbs.export(run, tmp_path / "model")
    out = verbs.release(tmp_path / "model")
    assert verbs.verify(out).ok, verbs.verify(out).checks
    told = json.loads((out / "privacy.json").read_text())
    assert told["selection"]["scores"] == facts["scores"] and told["ledger"]["run"] == run.id
    assert told["ledger"]["charges"] == [
        {"run": run.id, "epsilon": run.plan.epsilon, "events": told["events"]}
    ]
    assert [leaf["count"] for leaf in told["event_tree"]["of"]] == [1, 6]


def test_a_probe_is_recorded_once_and_by_the_newest_attempt_only(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    rows = RunLedger(ledger, "a")
    rows.append("PLAN", {})
    with pytest.raises(LedgerError, match="needs a ATTEMPT"):
        rows.append("PROBE", {"attempt": 0})
    events = [{"type": "gaussian", "noise_multiplier": 1.0, "count": 1}]
    body = {
        "events": events,
        "unit": "record",
        "relation": "zero-out",
        "delta": 1e-5,
        "epsilon": 1.0,
    }
    ledger.charge("a", ledger.identify([b"x"]), body, lambda charges, released: 1.0)
    rows.begin({"billed": 0}, expected=0, reserve=1)
    with pytest.raises(LedgerError, match="another copy"):
        rows.append("PROBE", {"attempt": 1})
    rows.append("PROBE", {"attempt": 0})
    with pytest.raises(LedgerError, match="another copy"):
        rows.append("PROBE", {"attempt": 0})


def test_the_probe_of_another_attempt_has_another_sample_and_other_noise(toy):
    """A copied run folder starts with other salt, so nothing of one probe can be subtracted from
    another.
    """
    probe = Probe(tuple(toy[1]), 2, "votes", 2, None, False, 30.0, 2, 1.0, 1.0)
    keys = [KEY.for_attempt(salt * 32) for salt in "ab"]
    drawn = [poisson(key, STEP, 0, 1000, 0.5).tolist() for key in keys]
    zero = torch.zeros(len(probe.groups), dtype=torch.int64)
    noises = [probing.release_scores(probe, zero, key, 0)[0] for key in keys]
    assert drawn[0] != drawn[1] and noises[0] != noises[1]
    assert noises[0] == probing.release_scores(probe, zero, KEY.for_attempt("a" * 32), 0)[0]


def test_the_self_check_sees_wrong_scores(tiny_images, settings, tmp_path, monkeypatch):
    right = scores_module._layer_squares
    monkeypatch.setattr(scores_module, "_layer_squares", lambda *a: right(*a) * 1.01)
    with pytest.raises(SfumatoError, match="squared norms differ"):
        verbs.adapt(tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def prepared(tiny_images, settings, public=None, **options):
    records = load_records(tiny_images)
    method = replace(settings["method"], **options)
    said = {k: v for k, v in settings.items() if k not in ("ledger", "output")}
    _, _, task = task_of(**said | {"method": method})
    return inputs.prepare_as_asked(records, task, public)


def test_random_and_public_choices_cost_nothing(tiny_images, settings, tmp_path):
    by_chance = prepared(tiny_images, settings, choose="random")
    public = make_tiny_images(tmp_path / "public", per_class=2, seed=9)
    by_public = prepared(tiny_images, settings, public, choose="public")
    for found, how in ((by_chance, "random"), (by_public, "public")):
        assert (
            found.plan.probe is None
            and len(found.plan.events) == 1
            and len(found.adaptation.targets) == 5
        )
        assert found.options["selection"]["how"] == how
        assert tuple(found.options["selection"]["selected"]) == found.adaptation.targets
        again = rebuild(found.plan, found.options)
        assert again.adaptation.targets == found.adaptation.targets
    scores = by_public.options["selection"]["scores"]
    assert sum(scores) == pytest.approx(6 * 5)  # six public pictures with five votes each, no noise
    # nothing to choose, nothing to pay
    assert prepared(tiny_images, settings, keep=1.0).plan.probe is None
    with pytest.raises(SfumatoError, match="needs --public-data"):
        prepared(tiny_images, settings, choose="public")
    with pytest.raises(SfumatoError, match="add one, or leave it out"):
        prepared(tiny_images, settings, public)


def test_adapters_start_from_public_gradients_and_resume_with_them(tiny_images, settings, tmp_path):
    public = make_tiny_images(tmp_path / "public", per_class=2, seed=9)
    options = {"rank": 2, "adapter_init": "public", "freeze_a": True}
    said = settings | {
        "method": Lora(**options),
    }
    with pytest.raises(Killed):
        verbs.adapt(
            tiny_images,
            anyway=True,
            yes_public=True,
            output=tmp_path / "run",
            public_data=public,
            progress=dies_at_once,
            **said,
        )
    run = Run.open(tmp_path / "run")
    assert all(torch.allclose(v @ v.T, torch.eye(2), atol=1e-4) for v in run.start.values())
    assert verbs.adapt(tiny_images, output=tmp_path / "run", resume=True).model.is_dir()
    (run.folder / "start.safetensors").write_bytes(b"x")
    with pytest.raises(SfumatoError, match="altered"):
        _ = run.start


def dies_at_once(now, plan):
    raise Killed


def test_scores_follow_their_groups(whole_tiny_base):
    base = load_base(whole_tiny_base)
    unet = base.denoiser
    matrices = matching_modules(base, PROJECTIONS)
    groups = grouped(base, matrices, "layer")
    sizes = {name: unet.get_submodule(name).weight.numel() for name in matrices}
    probe = Probe(tuple(groups), 2, "squares", None, None, False, 5.0, 1)
    squares = torch.rand(3, len(matrices))
    found = probing.by_group(squares, sizes, groups, probe)
    first = [matrices.index(m) for m in next(iter(groups.values()))]
    assert found.shape == (3, 8) and torch.allclose(found[:, 0], squares[:, first].sum(1))
    per_size = probing.by_group(squares, sizes, groups, replace(probe, per_size=True))
    assert torch.allclose(per_size[:, 0], found[:, 0] / sum(sizes[matrices[i]] for i in first))


def test_what_is_shown_of_the_probe_does_not_tell_how_many_were_drawn():
    """It goes on the run's page, where the last line of a run that is cut off stays."""
    expected, drawn = 256.0, range(192, 400)
    assert probing.share_shown(96, expected) == 96 / 256
    assert {probing.share_shown(n, expected) for n in drawn} == {0.75}
    assert probing.share_shown(3, 9.0) == 0.0
