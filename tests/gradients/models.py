"""Small models and their cases: one of each layer, diffusers' UNet and DiT, peft's LoRA on both,
hard norms.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .helpers import Case


class Block(nn.Module):
    """One of each supported layer; `head` is called twice, on inputs of different length; `table`
    on B rows.
    """

    def __init__(self, repeat=True, checkpointed=False):
        super().__init__()
        self.repeat, self.checkpointed = repeat, checkpointed
        self.table = nn.Embedding(5, 16)
        self.words = nn.Embedding(7, 16)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.group = nn.GroupNorm(2, 8)
        self.point = nn.Conv2d(8, 8, 1, bias=False)
        self.stride = nn.Conv2d(8, 8, 3, stride=2, padding="valid")
        self.layer = nn.LayerNorm(8)
        self.query = nn.Linear(8, 16)
        self.rms = nn.RMSNorm(16)
        self.time = nn.Linear(4, 16)
        self.head = nn.Linear(16, 16)

    def body(self, x):
        h = self.stride(self.point(self.group(self.conv(x)).tanh()))
        return self.query(self.layer(h.flatten(2).transpose(1, 2)))

    def forward(self, x, label, words, time, draws):
        h = checkpoint(self.body, x, use_reentrant=False) if self.checkpointed else self.body(x)
        context = torch.cat([self.table(label)[:, None], self.words(words)], 1).repeat_interleave(
            draws, 0
        )
        h = self.rms(h + self.time(time)[:, None]) @ context.transpose(1, 2)
        h = torch.cat([h.softmax(-1) @ context, context], 1)
        h = self.head(h).tanh()
        if self.repeat:
            h = self.head(input=h[:, :3])
        return h.square().mean((1, 2))


class Data:
    """Records that slice: inputs with K draws each."""

    def __init__(self, n, draws, dtype):
        g = torch.Generator().manual_seed(7)
        self.items = (
            torch.randn(n, draws, 3, 7, 7, generator=g).to(dtype),
            torch.randint(0, 5, (n,), generator=g),
            torch.randint(0, 7, (n, 4), generator=g),
            torch.randn(n, draws, 4, generator=g).to(dtype),
        )

    def __len__(self):
        return len(self.items[0])

    def __getitem__(self, at):
        part = Data.__new__(Data)
        part.items = tuple(t[at] for t in self.items)
        return part


def block(draws=1, dtype=torch.float64, n=5, **options):
    torch.manual_seed(0)
    model = Block(**options).to(dtype)
    g = torch.Generator().manual_seed(7)
    x = torch.randn(n, draws, 3, 7, 7, generator=g).to(dtype)
    label, words = torch.randint(0, 5, (n,), generator=g), torch.randint(0, 7, (n, 4), generator=g)
    time = torch.randn(n, draws, 4, generator=g).to(dtype)

    def rows(i):
        return model(x[i].flatten(0, 1), label[i], words[i], time[i].flatten(0, 1), draws)

    return Case(model, dict(model.named_parameters()), rows, torch.arange(n), draws)


def mlp() -> Case:
    """Two Linears, six records."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    x = torch.randn(6, 3)
    return Case(
        model,
        dict(model.named_parameters()),
        lambda i: model(x[i]).square().sum(1),
        torch.arange(6),
    )


class Small(nn.Module):
    """Every layer on B*K rows."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(4, 8)
        self.conv = nn.Conv2d(2, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.lin = nn.Linear(8, 8)
        self.gate = nn.Parameter(torch.randn(8))

    def forward(self, x, label):
        h = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        return self.lin(h + self.table(label)[:, None]) * self.gate


def small(n: int, draws: int) -> tuple[Case, dict]:
    """A case and its data, to be spoilt by the test: x [n, draws, 2, 4, 4], labels y [n], loss
    weights w [n].
    """
    torch.manual_seed(0)
    model = Small()
    data = {"x": torch.randn(n, draws, 2, 4, 4), "y": torch.randint(0, 4, (n,)), "w": torch.ones(n)}

    def rows(i):
        out = model(data["x"][i].flatten(0, 1), data["y"][i].repeat_interleave(draws))
        return out.square().mean((1, 2)) * data["w"][i].repeat_interleave(draws)

    return Case(model, dict(model.named_parameters()), rows, torch.arange(n), draws), data


def cancelling(
    tokens: int, spread: float, precision=torch.bfloat16
) -> tuple[Case, torch.Tensor, torch.Tensor]:
    """Tokens nearly alike, of the given precision, whose output gradients sum to about zero; the
    exact norms and sums of norms.
    """
    torch.manual_seed(1)
    layer = nn.Linear(24, 16, bias=False)
    x = (torch.randn(4, 1, 24) + spread * torch.randn(4, tokens, 24)).to(precision).float()
    g = torch.randn(4, tokens, 16)
    g = (g - g.mean(1, keepdim=True)).to(precision).float()
    exact = torch.linalg.vector_norm(
        torch.bmm(g.double().transpose(1, 2), x.double()).flatten(1), dim=1
    )
    most = (x.double().norm(dim=2) * g.double().norm(dim=2)).sum(1)
    return (
        Case(
            layer, {"w": layer.weight}, lambda i: (layer(x[i]) * g[i]).sum((1, 2)), torch.arange(4)
        ),
        exact,
        most,
    )


def opposed() -> tuple[Case, torch.Tensor, torch.Tensor]:
    """A layer called twice with opposite gradients; its norms are zero. With the sums of token
    norms, as `cancelling`.
    """
    layer, x = nn.Linear(6, 4).double(), torch.randn(3, 6).double()

    def rows(i):
        return layer(x[i]).sum(1) - layer(x[i]).sum(1)

    return (
        Case(layer, dict(layer.named_parameters()), rows, torch.arange(3)),
        torch.zeros(3).double(),
        4 * x.norm(dim=1),
    )


def unet() -> nn.Module:
    diffusers = pytest.importorskip("diffusers")
    return diffusers.UNet2DConditionModel(
        sample_size=4,
        in_channels=2,
        out_channels=2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
    )


def dit() -> nn.Module:
    """Calls the first block's embedder twice; the label dropout is switched off, as it must be."""
    diffusers = pytest.importorskip("diffusers")
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=2,
        num_layers=2,
        sample_size=4,
        patch_size=2,
        num_embeds_ada_norm=5,
        norm_num_groups=1,
    )
    for layer in model.transformer_blocks:
        layer.norm1.emb.class_embedder.dropout_prob = 0.0
    return model


MODELS = {"unet": unet, "dit": dit}
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def add_lora(model: nn.Module, **options) -> None:
    """Adapters of rank 2 on the attention, with random B: at zero the gradient of A would
    be zero.
    """
    peft = pytest.importorskip("peft")
    config = {"r": 2, "lora_alpha": 2, "target_modules": TARGETS, **options}
    peft.inject_adapter_in_model(peft.LoraConfig(**config), model)
    g = torch.Generator().manual_seed(3)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.copy_(torch.randn(p.shape, generator=g) * 0.1)


def denoiser(
    kind: str, which: str, draws: int = 1, dtype=torch.float32, n: int = 4, **lora
) -> Case:
    """A tiny `kind` ("unet", "dit") of which everything, the attention or peft's LoRA is
    trained.
    """
    torch.manual_seed(0)
    model = MODELS[kind]()
    if which == "lora":
        add_lora(model, **lora)
    model.to(dtype).eval()  # dropout of the adapters too
    keep = {"whole": "", "attention": ".attn", "lora": "lora_"}[which]
    x, target = (torch.randn(n, draws, 2, 4, 4).to(dtype) for _ in range(2))
    time = torch.randint(0, 1000, (n, draws))
    context, label = torch.randn(n, 3, 8).to(dtype), torch.randint(0, 5, (n,))

    def rows(i):
        image, steps = x[i].flatten(0, 1), time[i].flatten()
        if kind == "unet":
            out = model(image, steps, context[i].repeat_interleave(draws, 0)).sample
        else:
            out = model(
                image, timestep=steps, class_labels=label[i].repeat_interleave(draws)
            ).sample
        return (out - target[i].flatten(0, 1)).square().mean((1, 2, 3))

    trainable = {name: p for name, p in model.named_parameters() if keep in name}
    return Case(model, trainable, rows, torch.arange(n), draws)
