"""A step of every method, and all else that computes, on a device whose tensors do not mix with the
host's: nothing is made in the wrong place, nothing goes to the host and back, and the sums are the
host's.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

import sfumato
from sfumato.bases import load_base
from sfumato.compute import measure, ranks
from sfumato.compute.device import on_host, to_device
from sfumato.evaluation import train_classifier
from sfumato.gradients import Engine
from sfumato.methods import formats
from sfumato.methods.inversion.batch import Chunk
from sfumato.methods.saliency.probe import looking_at, total_scores
from sfumato.methods.shared import share_base
from sfumato.options import Performance, Sampling
from sfumato.planning.facts import PublicFacts
from sfumato.planning.prepare import prepare
from sfumato.planning.task import task_of
from sfumato.privacy.random.keys import RunKey
from sfumato.runs.folder import Run
from sfumato.synthesis.sampler import pictures
from sfumato.training import Batch, LatentData, State, UnitBatch, train

from . import fake_device as fake

fake.register()  # while tests are collected: before the first backward pass of the process

CLASSES = ("circle", "cross", "square")
TRAINED = {
    "full": {},
    "attention": {},
    "attention, tokens": {"method": "attention", "embedder": True},
    "lora": {"rank": 2},
    "lora, orthonormal": {"method": "lora", "rank": 2, "adapter_init": "orthonormal"},
    "loda": {"rank": 2, "activation": "silu"},
    "saliency": {"rank": 2, "keep": 0.3},
    "embedding": {},
}
SCHEDULERS = (
    "DPMSolverMultistepScheduler",
    "DDIMScheduler",
    "EulerAncestralDiscreteScheduler",
    "UniPCMultistepScheduler",
    "PNDMScheduler",
    "DDPMScheduler",
)
# of a microbatch; the whole model has most. In the first step of a branch half of it has no
# gradient, and each such layer is looked at by itself.
WAITS = {"loda": 14}
# further ones of schedulers that draw noise for each picture: a step each
STOCHASTIC = {"EulerAncestralDiscreteScheduler": 4, "DDPMScheduler": 4}
# without a kernel that repeats to the last bit on a GPU (torch.use_deterministic_algorithms)
UNREPEATABLE = {
    "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward",
    "_embedding_bag_dense_backward",
    "adaptive_max_pool2d_backward", "avg_pool3d_backward", "bincount", "cummax_helper", "cumsum",
    "fractional_max_pool2d_backward", "grid_sampler_2d_backward", "histc", "kthvalue", "median",
    "max_pool3d_with_indices_backward", "max_unpool2d", "nll_loss2d_forward", "put_",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "replication_pad1d_backward",
    "replication_pad2d_backward", "resize_", "upsample_bicubic2d_backward",
    "upsample_bilinear2d_backward", "upsample_linear1d_backward", "upsample_trilinear3d_backward",
}  # fmt: skip


def made(whole_tiny_base, name, **more):
    said = {"method": name} | TRAINED.get(name, {}) | more
    said |= {"epsilon": 2.0, "delta": 1e-3, "expected_batch_size": 20, "steps": 3}
    if said["method"] == "inversion":
        del said["steps"]
    facts = PublicFacts(n_units=200, classes=CLASSES)
    said = {"precision": "float32"} | said
    return prepare(facts, task_of(base=str(whole_tiny_base), **said)[2])


def latents(prepared, units):
    rng, shape = np.random.default_rng(0), (units, *prepared.base.latent_shape)
    mean, own = rng.standard_normal(shape).astype(np.float16), np.arange(units)
    label = own % len(CLASSES)
    return LatentData(mean, np.full_like(mean, 0.1), label, own, np.arange(units + 1))


def units(prepared, count=4, draws=None):
    key, k = RunKey(bytes(32)), draws or prepared.plan.noise_draws
    how = (1.5, 0.0, prepared.base.times)
    return UnitBatch(latents(prepared, count), np.arange(count), key, 0, 0, k, *how)


def clipped(prepared, batch):
    plan, adaptation = prepared.plan, prepared.adaptation
    with Engine(adaptation.model, adaptation.trainable) as engine:
        return engine.clipped_sum(
            adaptation.row_losses,
            batch,
            draws=plan.noise_draws,
            clip=plan.clip().factors,
            micro_batch=2,
            rounding=plan.rounding,
        )


def by_file(lines):
    found = Counter()
    for line, times in lines.items():
        found[line.partition(":")[0]] += times
    return found


def flat(tensors):
    return torch.cat([on_host(tensor, torch.float64).flatten() for tensor in tensors.values()])


# The device itself.


def test_two_devices_do_not_mix_and_waits_are_counted():
    with fake.fake_device() as seen:
        here, there = torch.ones(3), torch.ones(3, device=fake.DEVICE)
        with pytest.raises(RuntimeError, match="two devices"):
            here + there
        with pytest.raises(TypeError, match="copy it first"):
            there.numpy()
        assert bool(there.sum() > 2) and seen.reads.total() == 1
        assert on_host(there).tolist() == [1, 1, 1] and seen.to_host.total() == 1
        assert to_device(here, fake.DEVICE).device == fake.DEVICE and seen.pinned == 1
        assert to_device(there, fake.DEVICE) is there and seen.to_device.total() == 1
    assert torch.ones(3).sum() == 3


def test_what_forgets_the_device_is_seen(whole_tiny_base, monkeypatch):
    """The helper finds the fault that it is for."""
    with fake.fake_device():
        there = made(whole_tiny_base, "attention")
        monkeypatch.setattr(Batch, "to", lambda self, where: self)
        with pytest.raises(RuntimeError, match="two devices"):
            clipped(there, units(there))


# A base that ranks will share.


def like_fsdp2(moved):
    """`fully_shard` in a world of one: it moves what it manages, and notes how much that was."""

    def fully_shard(module, *, ignored_params=frozenset(), **_):
        assert all(p.device == fake.DEVICE for p in ignored_params)
        moved.append(sum(p.numel() for p in module.parameters() if p.device != fake.DEVICE))
        module.to(fake.DEVICE)

    return fully_shard


@pytest.mark.parametrize("name", ["lora", "attention, tokens", "full"])
def test_a_base_to_be_shared_comes_to_the_device_part_by_part(whole_tiny_base, monkeypatch, name):
    """And what is made of it meanwhile is there already; sums are those of a base opened there."""
    with fake.fake_device():
        there = made(whole_tiny_base, name)
        expected = flat(clipped(there, units(there))[0])
    moved = []
    monkeypatch.setattr(ranks, "_place", ranks.Place(0, 2))
    monkeypatch.setattr("torch.distributed.fsdp.fully_shard", like_fsdp2(moved))
    monkeypatch.setattr("torch.distributed.device_mesh.init_device_mesh", lambda *_: None)
    with fake.fake_device():
        ready = made(whole_tiny_base, name, shard_base=True)
        base = ready.base
        numbers = sum(p.numel() for p in base.denoiser.parameters())
        assert {p.device.type for p in base.denoiser.parameters()} == {"cpu"}
        assert {p.device.type for p in base.vae.parameters()} == {fake.NAME}
        whole = ready.method.untrained(ready).base
        assert {p.device.type for p in whole.vae.parameters()} == {"cpu"} == {whole.device.type}
        shared = share_base(ready)
        assert {p.device.type for p in shared.adaptation.model.parameters()} == {fake.NAME}
        assert len(moved) > 10 and max(moved) < numbers / 4
        monkeypatch.setattr(ranks, "_place", ranks.Place())
        assert torch.equal(flat(clipped(shared, units(shared))[0]), expected)


def test_a_base_to_be_shared_is_not_timed(whole_tiny_base, monkeypatch):
    monkeypatch.setenv(measure.OPT_OUT, "1")
    monkeypatch.setattr(ranks, "_place", ranks.Place(0, 2))
    monkeypatch.setattr(ranks, "on_first_rank", lambda ask: ask())
    monkeypatch.setattr(formats, "compare", None)
    monkeypatch.setattr(formats, "quick_precision", lambda on: torch.bfloat16)
    with fake.fake_device():
        asked = made(whole_tiny_base, "lora", shard_base=True, precision="auto")
        chosen = formats.choose_formats(asked).options["formats"]
        assert {chosen[stage] for stage in asked.method.stages} == {"bfloat16"}
        monkeypatch.setenv(measure.OPT_OUT, "0")
        assert set(formats.choose_formats(asked).options["formats"].values()) == {"float32"}


# Training.


def some(names, quick):
    """All of them; `make test` runs the quick ones alone."""
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", some(TRAINED, {"lora", "attention, tokens"}))
def test_a_step_has_the_sums_of_the_host(whole_tiny_base, name):
    here = made(whole_tiny_base, name)
    sums, norms = clipped(here, units(here))
    with fake.fake_device() as seen:
        there = made(whole_tiny_base, name)
        clipped(there, units(there))  # chooses its ways
        seen.clear()
        found, lengths = clipped(there, units(there))
        assert all(value.device == fake.DEVICE for value in (*found.values(), lengths))
    assert torch.allclose(on_host(lengths), norms, rtol=1e-4)
    right = flat(sums)
    assert right.norm() > 1000 and (flat(found) - right).norm() <= 1e-4 * right.norm()
    # of two microbatches: each part of the batch goes there once, through pinned memory
    assert by_file(seen.to_device) == {"training/objective.py": 18} and seen.pinned == 18
    assert not seen.made_on_host
    assert seen.waits <= 2 * WAITS.get(name, 7), seen
    assert not UNREPEATABLE & set(seen.operations)


@pytest.mark.slow
def test_steps_leave_the_weights_of_the_host(whole_tiny_base):
    def after(where_from):
        there = made(whole_tiny_base, "lora")
        state = State(there.adaptation.trainable, {}, there.recipe)
        run = {"recipe": there.recipe, "performance": Performance(micro_batch=7), "attempt": 0}
        on_step = lambda now, state: True  # noqa: E731
        data, key = latents(there, 200), RunKey(bytes(32))
        assert train(there.plan, there.adaptation, data, key, state=state, on_step=on_step, **run)
        return state, there

    here = after(None)[0]
    with fake.fake_device() as seen:
        there, prepared = after(fake.DEVICE)
        kept = there.tensors()
        assert all(type(value) is torch.Tensor for value in kept.values())
        again = State(prepared.adaptation.trainable, {}, prepared.recipe)
        again.restore(kept, 3)
        assert all(value.device == fake.DEVICE for value in again.average.values())
        moments = next(iter(again.optimizer.state.values()))
        assert moments["exp_avg"].device == fake.DEVICE and moments["step"].is_cpu
        same = again.tensors()
    assert all(torch.equal(same[name], value) for name, value in kept.items())
    assert "training/data.py" not in by_file(seen.made_on_host)
    for name, value in here.tensors().items():
        assert torch.allclose(kept[name].float(), value.float(), atol=1e-5), name


@pytest.mark.slow
def test_a_probe_has_the_scores_of_the_host(whole_tiny_base):
    def scores():
        there = made(whole_tiny_base, "saliency")
        losses, weights, model = looking_at(there)
        groups, probe = there.adaptation.groups, there.plan.probe
        batch = units(there, draws=probe.noise_draws)
        return total_scores(probe, groups, losses, weights, model, batch, 2)

    right = scores()
    with fake.fake_device() as seen:
        assert torch.equal(scores(), right) and right.sum() > 0
    assert by_file(seen.to_host) == {"methods/saliency/probe.py": 2}


@pytest.mark.slow
def test_an_inversion_finds_what_the_host_finds(whole_tiny_base):
    def found():
        there = made(whole_tiny_base, "inversion", inversion_steps=3)
        inverter = there.adaptation.inverter
        chunk, data, key = Chunk(np.array([0, 1, -1, 2])), latents(there, 4), RunKey(bytes(32))
        z, taken = inverter.invert(data, chunk, key)
        return z, taken, inverter.vectors(z, np.zeros(4, np.int64)), inverter, data, chunk

    right = found()
    with fake.fake_device() as seen:
        z, taken, vectors, inverter, data, chunk = found()
        loss = inverter.losses(data, chunk, RunKey(bytes(32)), z, draws=16)
        assert inverter.self_check(3)
    assert np.allclose(z, right[0], atol=1e-4) and np.abs(z).max() > 0
    assert (taken == right[1]).all() and np.allclose(vectors, right[2], atol=1e-4)
    assert np.isfinite(loss).all() and "methods/inversion/batch.py" not in by_file(
        seen.made_on_host
    )


# Images.


def test_images_prompts_and_latents_are_those_of_the_host(whole_tiny_base):
    pictures = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    here = load_base(whole_tiny_base)
    mean, deviation = here.encode(pictures)
    with fake.fake_device() as seen:
        there = load_base(whole_tiny_base)
        assert there.device == fake.DEVICE
        seen.clear()
        found = there.encode(pictures)
        assert all(type(part) is torch.Tensor for part in found)  # latents stay in host memory
        assert seen.to_device.total() == 1 and seen.to_host.total() == 2
        text = there.condition([*CLASSES, ""])
        assert text.device == fake.DEVICE
        drawn = there.decode(mean)
        assert not seen.made_on_host
    # the host's is in half precision
    assert torch.allclose(found[0], mean, atol=0.05) and torch.allclose(
        found[1], deviation, atol=0.05
    )
    assert torch.allclose(on_host(text), here.condition([*CLASSES, ""]), atol=1e-5)
    assert np.abs(drawn.astype(int) - here.decode(mean)).max() <= 8


@pytest.mark.parametrize("scheduler", some(SCHEDULERS, {"DPMSolverMultistepScheduler"}))
def test_pictures_are_drawn_there(whole_tiny_base, scheduler):
    labels, numbers = np.array([0, 1, 2, 0]), np.arange(4)
    sampling = Sampling(scheduler=scheduler, steps=4, guidance_scale=2.0)
    ((_, right),) = pictures(load_base(whole_tiny_base), CLASSES, labels, numbers, sampling)
    with fake.fake_device() as seen:
        base = load_base(whole_tiny_base)
        seen.clear()
        ((_, drawn),) = pictures(base, CLASSES, labels, numbers, sampling)
    assert np.abs(drawn.astype(int) - right).max() <= 24 and drawn.std() > 5
    assert seen.reads.total() <= 1 + STOCHASTIC.get(scheduler, 0), seen.reads
    assert seen.to_host.total() <= 1 + STOCHASTIC.get(scheduler, 0), seen.to_host


@pytest.mark.parametrize("name", some(["logistic", "cnn", "resnet", "wrn"], {"cnn"}))
def test_classifiers_learn_there(name):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 120, (60, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(60) % 2
    images[labels == 1] += 130
    right = train_classifier(name, images, labels, 2, steps=6)
    with fake.fake_device() as seen:
        found = train_classifier(name, images, labels, 2, steps=6)
        assert found.shift.device == fake.DEVICE
        answers, features = found.predict(images), found.features(images)
        assert (answers == labels).mean() == (right.predict(images) == labels).mean()
        assert type(features) is np.ndarray and features.shape == right.features(images).shape
    assert seen.reads.total() == 0


# Memory.


def test_what_training_does_not_use_leaves_the_device(whole_tiny_base):
    with fake.fake_device():
        base = load_base(whole_tiny_base)
        parts = lambda: [p.device.type for p in (base.unet, base.vae, base.text_encoder)]  # noqa: E731
        assert parts() == ["fake"] * 3
        base.park(prompts=False)
        assert parts() == ["fake", "cpu", "fake"]
        base.park(prompts=True)
        assert parts() == ["fake", "cpu", "cpu"]


@pytest.mark.parametrize("embedder", [False, True])
def test_tokens_that_train_keep_what_reads_them(whole_tiny_base, embedder):
    there = made(whole_tiny_base, "attention", embedder=embedder)
    assert there.adaptation.reads_prompts is embedder
    assert made(whole_tiny_base, "inversion").adaptation.reads_prompts


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "saliency", "inversion"])
def test_whole_verbs_compute_there(whole_tiny_base, tiny_images, tmp_path, monkeypatch, method):
    """A run that is stopped and goes on, its pictures, its model and what they are worth."""
    monkeypatch.setattr("sfumato.compute.device.settle", lambda asked: ("there", fake.DEVICE))
    monkeypatch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
    book = {"ledger": tmp_path / "ledger.sqlite"}
    how = {
        "epsilon": 2.0,
        "delta": 1e-2,
        "base": whole_tiny_base,
        "yes_public": True,
        "anyway": True,
    }
    how |= (
        {"expected_batch_size": 8, "steps": 3, "checkpoint_steps": 1}
        if (method != "inversion")
        else {"inversion_steps": 3}
    )

    class Killed(BaseException):
        pass

    def dies(now, plan):
        raise Killed

    with fake.fake_device() as seen:
        assert sfumato.plan(tiny_images, method=method, **how, **book).device == "there"
        run = tmp_path / "run"
        if method == "inversion":
            sfumato.adapt(tiny_images, output=run, method=method, **how, **book)
        else:
            with pytest.raises(Killed):
                sfumato.adapt(tiny_images, output=run, method=method, progress=dies, **how, **book)
            sfumato.resume(tiny_images, run, **book)
        sfumato.synthesize(run, 12, tmp_path / "release")
        sfumato.export(run, tmp_path / "model")
        judged = {"steps": 2, "seeds": 1, "allow_overlap": True, "public_images": 12}
        found = sfumato.evaluate(run, tmp_path / "release", test=tiny_images, **judged)
        assert found.utility
        assert sfumato.audit(run, only=["M1"]).passed
    assert seen.pinned > 100
    begun = Run.open(run).ledger.bodies("ATTEMPT")
    assert len(begun) == 1 and begun[0]["fingerprint"]["device"] == "fake"
