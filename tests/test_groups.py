"""Per-group clipping from the words of a user to a resumed run: the plan's groups are those that
train.
"""

from __future__ import annotations

import pytest
import torch

from sfumato import verbs
from sfumato.bases import load_base
from sfumato.cli.plan import sections
from sfumato.methods import METHODS, Given, Prompts, Saliency
from sfumato.options import Performance
from sfumato.planning.estimate import Estimate
from sfumato.privacy.random.keys import RunKey
from sfumato.runs.folder import Run
from sfumato.training import latest_checkpoint, loop

TRUSTED_GRADIENTS = True

torch.set_num_threads(1)
PLAIN = Prompts(("circle", "cross", "square"))
TOKENS = Prompts(
    tuple(f"<class-{i}>" for i in range(3)), tuple(f"<class-{i}>" for i in range(3)), (None,) * 3
)


@pytest.mark.parametrize("prompts", [PLAIN, TOKENS], ids=["plain", "tokens"])
@pytest.mark.parametrize(
    ("method", "options", "count"),
    [
        ("lora", {}, 32),
        ("lora", {"freeze_a": True}, 32),
        ("loda", {}, None),
        ("attention", {}, 4),
        ("full", {}, None),
        ("saliency", {"choose": "random", "keep": 5}, 5),
        ("saliency", {"keep": 1.0}, 32),
        ("saliency", {"choose": "random", "keep": 2, "granularity": "block"}, 2),
    ],
)
def test_groups_are_a_partition_by_matrix_block_or_module(
    whole_tiny_base, method, options, count, prompts
):
    adapted = METHODS[method](**options).apply(load_base(whole_tiny_base), given(prompts))
    groups = adapted.clip_groups
    names = [name for members in groups.values() for name in members]
    assert sorted(names) == sorted(adapted.trainable) and len(groups) == adapted.clip_group_count
    tokens = 1 if prompts is TOKENS else 0
    modules = {name.rpartition(".")[0] for name in names} - {"tokens"}
    assert len(groups) - tokens == {"loda": len(adapted.targets), "full": len(modules)}.get(
        method, count
    )
    if tokens:
        assert groups["tokens"] == ["tokens.weight"]


@pytest.mark.parametrize("granularity", ["matrix", "block"])
def test_the_count_is_known_before_the_probe_has_chosen(whole_tiny_base, granularity):
    options = {"keep": 3, "granularity": granularity}
    before = Saliency(**options).apply(load_base(whole_tiny_base), given(TOKENS))
    assert before.probe is not None and before.clip_group_count == 4 < len(before.clip_groups)
    after = Saliency(**options).apply(
        load_base(whole_tiny_base), given(TOKENS, selected=list(before.groups)[:3])
    )
    assert after.clip_group_count == len(after.clip_groups) == 4


def given(prompts, **more):
    return Given(prompts, **more)


class Killed(BaseException):
    """Stands for a death."""


def test_a_run_keeps_its_groups_over_a_death(tiny_images, whole_tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
    monkeypatch.setattr("sfumato.runs.folder.RunKey.generate", lambda: RunKey(bytes(range(32))))
    monkeypatch.setattr("sfumato.runs.folder.RunKey.fresh_salt", lambda: "00" * 16)
    trained, opened = [], loop.open_engine

    def spy(adaptation, groups, *ways, **how):
        trained.append(groups)
        return opened(adaptation, groups, *ways, **how)

    monkeypatch.setattr(loop, "open_engine", spy)  # as the loop has it: trials have their own
    settings = {
        "epsilon": 4.0,
        "delta": 1e-2,
        "base": str(whole_tiny_base),
        "method": Saliency(rank=2, keep=5, probe_units=16, probe_draws=2),
        "expected_batch_size": 8,
        "steps": 3,
        "embedder": True,
        "prompt": "a picture of a {class}",
        "clipping": "per-group",
        "performance": Performance(micro_batch=8, checkpoint_steps=1, precision="float32"),
    }

    def dies(now, plan):
        raise Killed

    whole = verbs.adapt(
        tiny_images, anyway=True, yes_public=True, output=tmp_path / "whole", **settings
    )
    with pytest.raises(Killed):
        verbs.adapt(
            tiny_images,
            anyway=True,
            yes_public=True,
            output=tmp_path / "run",
            progress=dies,
            **settings,
        )
    run = verbs.adapt(tiny_images, output=tmp_path / "run", resume=True)
    report = verbs.PlanReport(run.plan, Estimate(1.0, 1, 1.0, 1.0), ())
    words = {name: value for _, rows in sections(report) for name, value in rows}
    assert words["clip"] == (
        "norm 0.05 in total: 6 groups of 0.02041 each, a clip for every unit and group"
    )
    assert run.plan.clip_groups == 6 and Run.open(run.folder).plan.clip() == whole.plan.clip()
    assert len(trained) == 3 and trained[0] == trained[1] == trained[2]
    assert sorted(map(len, trained[0])) == [1, 2, 2, 2, 2, 2] and ["tokens.weight"] in trained[0]
    ends = [latest_checkpoint(r.folder / "checkpoints")[1] for r in (whole, run)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
