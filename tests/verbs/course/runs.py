"""Runs on a tiny base that die, stop and are copied."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

from sfumato import verbs
from sfumato.privacy.random.keys import RunKey
from sfumato.runs.folder import Run

CLASSES = ("circle", "cross", "square")
KINDS = ["PLAN", "CHARGE", "ATTEMPT"]


def steady(patch):
    """One code version, though somebody may be editing."""
    patch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")


def same_draws(patch):
    patch.setattr("sfumato.runs.folder.RunKey.generate", lambda: RunKey(bytes(range(32))))
    patch.setattr("sfumato.runs.folder.RunKey.fresh_salt", lambda: "00" * 16)
    # it decides the order of the slots
    patch.setattr("sfumato.privacy.ledger.secret.fresh_key", lambda: bytes(32))


class Killed(BaseException):
    """Stands for a death between two steps."""


def dies_after(step):
    def progress(now, plan):
        if now.step == step:
            raise Killed

    return progress


def weights(run):
    return load_file(run.model / "pytorch_lora_weights.safetensors")


def same_weights(a, b):
    a, b = weights(a), weights(b)
    return set(a) == set(b) and all(torch.equal(a[n], b[n]) for n in a)


def kinds(run):
    return [row.kind for row in run.ledger.rows if row.kind != "NOTE"]


def copied(run, to):
    """The run folder and the owner's ledger as they are now, somewhere else."""
    book = shutil.copytree(run.ledger_path.parent, to.with_name(to.name + "-ledger"))
    return Run.open(shutil.copytree(run.folder, to), book / run.ledger_path.name)


def crashed(tiny_images, settings, folder, step, **more):
    with pytest.raises(Killed):
        verbs.adapt(
            tiny_images,
            anyway=True,
            yes_public=True,
            output=folder,
            progress=dies_after(step),
            **settings | more,
        )
    return Run.open(folder)


def resume(run, images, **more):
    return verbs.adapt(images, output=run.folder, resume=True, ledger=run.ledger_path, **more)
