"""What is random in training mode is refused by name, and what draws in silence is found."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.gradients import Engine, self_check

from .models import denoiser, mlp


class Label(nn.Module):
    """Drops labels by chance, as diffusers' LabelEmbedding does."""

    def __init__(self, chance):
        super().__init__()
        self.dropout_prob, self.table = chance, nn.Embedding(3, 3)

    def forward(self, label):
        gone = torch.rand(label.shape) < self.dropout_prob
        return self.table(torch.where(gone, 2, label))


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.Dropout(0.1), "Dropout"),
        (nn.Dropout2d(0.5), "Dropout2d"),
        (nn.AlphaDropout(0.1), "AlphaDropout"),
        (nn.RReLU(), "RReLU"),
        (Label(0.1), "Label"),
        (nn.TransformerEncoderLayer(4, 2, dropout=0.1), "MultiheadAttention"),
    ],
)
def test_refused_by_name_unless_it_is_off(layer, name):
    model = nn.ModuleDict({"lin": nn.Linear(3, 3), "layer": layer})
    trainable = {"w": model["lin"].weight}
    with pytest.raises(ValueError, match=rf"layer.*: {name} is random in training mode"):
        Engine(model.train(), trainable)
    Engine(model.eval(), trainable).close()


def test_a_chance_of_nothing_is_no_chance():
    model = nn.ModuleDict({"lin": nn.Linear(3, 3), "drop": nn.Dropout(0.0), "label": Label(0.0)})
    Engine(model.train(), {"w": model["lin"].weight}).close()


def test_a_transformer_that_drops_labels():
    """DiT in training mode: two drawn labels may agree by luck, so that no comparison sees it."""
    case = denoiser("dit", "attention")
    dead = [name for name in case.trainable if name.endswith("to_k.bias")]
    case = case.only(lambda name: name not in dead)
    check = [case.model, case.trainable, case.rows, case.records, 1]
    assert self_check(*check) == []
    for layer in case.model.transformer_blocks:
        layer.norm1.emb.class_embedder.dropout_prob = 0.1
    assert self_check(*check) == []
    case.model.train()
    with pytest.raises(ValueError, match="class_embedder: LabelEmbedding is random"):
        self_check(*check)


def test_functions_that_draw_are_found_even_where_their_draws_agree():
    case, x = mlp(), torch.randn(6, 3)

    def never(i):
        return case.model(F.dropout(x[i], 1e-12, training=True)).square().sum(1)

    with pytest.raises(RuntimeError, match="draw random numbers"):
        self_check(case.model, case.trainable, never, case.records, 1)

    def own(i):
        g = torch.Generator().manual_seed(0)
        noise = torch.randn(6, 3, generator=g)
        return case.model(x[i] + noise[i]).square().sum(1)

    assert self_check(case.model, case.trainable, own, case.records, 1) == []
