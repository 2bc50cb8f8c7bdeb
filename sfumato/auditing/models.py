"""Dummy denoisers: six families of layers, small enough to replay hundreds of times.

They know no image.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

SHAPE = (2, 2, 2)  # of a latent
SIZE = math.prod(SHAPE)
LABELS = 4
WIDTH = 8
ALPHAS = torch.linspace(0.999, 0.01, 1000)  # of every diffusion time


class Denoiser(nn.Module):
    """A dummy denoiser, called as the base's own.

    (latents [R, c, h, w], times [R], context [R, L, d]) -> .sample.
    """

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Linear(1, WIDTH).requires_grad_(False)
        self.register_buffer("seen", torch.zeros(2))  # nothing may ever change it

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor) -> SimpleNamespace:
        """The prediction as `.sample`, in the shape of `x`."""
        told = encoder_hidden_states.mean(1)
        hidden = self.time(time[:, None].to(x.dtype) / len(ALPHAS)) + told
        return SimpleNamespace(sample=self.body(x, hidden).view(x.shape))

    def body(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The prediction, of x's numbers, from what time and context say."""
        raise NotImplementedError


class Linears(Denoiser):
    """Linear layers with biases."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(SIZE, WIDTH), nn.Linear(WIDTH, SIZE)

    def body(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The prediction, from latents and embedded time and context."""
        return self.last((self.first(x.flatten(1)) + hidden).tanh())


class Convolutions(Denoiser):
    """Convolutions, large, strided and pointwise, and group normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(SHAPE[0], WIDTH, 3, padding=1)
        self.norm = nn.GroupNorm(2, WIDTH)
        self.point = nn.Conv2d(WIDTH, SHAPE[0], 1, bias=False)

    def body(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The prediction, from latents and embedded time and context."""
        return self.point((self.norm(self.first(x)) + hidden[:, :, None, None]).tanh())


class Attention(Denoiser):
    """Layer normalisation, queries, keys and values of one input, and a projection.

    Recomputed in the backward pass.
    """

    def __init__(self) -> None:
        super().__init__()
        tokens = SIZE // SHAPE[0]
        self.embed = nn.Linear(SHAPE[0], WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.out = nn.Linear(WIDTH, SHAPE[0])
        self.tokens = tokens

    def attend(self, h: Tensor) -> Tensor:
        """Self-attention over positions."""
        h = self.norm(h)
        return (self.q(h) @ self.k(h).transpose(1, 2) / math.sqrt(WIDTH)).softmax(-1) @ self.v(h)

    def body(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The prediction, from latents and embedded time and context."""
        h = self.embed(x.flatten(2).transpose(1, 2)) + hidden[:, None]
        h = h + checkpoint(self.attend, h, use_reentrant=False)
        return self.out(h).transpose(1, 2)


class LowRank(Denoiser):
    """A frozen matrix with an adapter of rank 2 beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(SIZE, WIDTH).requires_grad_(False)
        self.down, self.up = nn.Linear(SIZE, 2, bias=False), nn.Linear(2, WIDTH, bias=False)
        self.last = nn.Linear(WIDTH, SIZE).requires_grad_(False)

    def body(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The prediction, from latents and embedded time and context."""
        x = x.flatten(1)
        return self.last((self.frozen(x) + self.up(self.down(x)) + hidden).tanh())


class Reused(Denoiser):
    """One matrix that is used twice, on inputs of different length.

    And root-mean-square normalisation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.norm = nn.Linear(WIDTH, WIDTH), nn.RMSNorm(WIDTH)
        self.last = nn.Linear(WIDTH, SIZE)
        self.lift = nn.Linear(SIZE, WIDTH).requires_grad_(False)

    def body(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The prediction, from latents and embedded time and context."""
        h = torch.stack([self.lift(x.flatten(1)), hidden, torch.ones_like(hidden)], 1)
        h = self.twice(self.norm(h)).tanh()
        return self.last(self.twice(h[:, :2]).mean(1))


class Broadcast(Denoiser):
    """Parameters that a module reads by itself and broadcasts over rows.

    A gate, a scale and a table of positions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.last = nn.Linear(SIZE, WIDTH), nn.Linear(WIDTH, SIZE)
        self.gate = nn.Parameter(torch.ones(WIDTH))
        self.shift = nn.Parameter(torch.zeros(1, WIDTH))
        self.position = nn.Parameter(torch.randn(1, SIZE) * 0.1)

    def body(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The prediction, from latents and embedded time and context."""
        h = (self.lift(x.flatten(1) + self.position) + hidden).tanh()
        return self.last(h * self.gate + self.shift)


class Wide(Denoiser):
    """One large matrix among small ones.

    A single step then has numbers enough for a chi-square test of one per cent.
    """

    SIDE = (640, 660)

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Linear(SIZE, self.SIDE[0]).requires_grad_(False)
        self.large = nn.Linear(*self.SIDE, bias=False)
        self.last = nn.Linear(self.SIDE[1], SIZE)
        self.add = nn.Linear(WIDTH, SIZE)

    def body(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The prediction, from latents and embedded time and context."""
        return self.last(self.large(self.lift(x.flatten(1)).tanh()).tanh()) + self.add(hidden)


FAMILIES = {
    "linear": Linears,
    "convolution": Convolutions,
    "attention": Attention,
    "low-rank": LowRank,
    "reused": Reused,
    "broadcast": Broadcast,
}
