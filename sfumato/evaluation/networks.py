"""The four networks of the utility protocol, small enough for two CPU cores."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.compute.device import HOST

NAMES = ("logistic", "cnn", "resnet", "wrn")


class Logistic(nn.Module):
    """Multinomial logistic regression on the pixels, area-averaged to 16 x 16."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.head = nn.Linear(channels * 16 * 16, classes)

    def features(self, x: Tensor) -> Tensor:
        """The pixels, averaged to 16 x 16."""
        return F.adaptive_avg_pool2d(x, 16).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.head(self.features(x))


class CNN(nn.Module):
    """Two convolutions and one hidden layer (0.24M parameters).

    The small CNN of the DP image-generation papers. Sees 32 x 32 pixels; other sizes are resampled
    first, so that the parameter count does not depend on them.
    """

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 5, 2)
        self.conv2 = nn.Conv2d(32, 48, 3)
        self.hidden = nn.Linear(48 * 6 * 6, 128)
        self.head = nn.Linear(128, classes)

    def features(self, x: Tensor) -> Tensor:
        """The hidden layer's activations."""
        if x.shape[-1] != 32:
            x = F.interpolate(
                x, size=(32, 32), mode="bilinear", antialias=True, align_corners=False
            )
        # a stride instead of the first pooling: two thirds of the time (99.4 % when trained on
        # 60,000 real digits)
        x = F.relu(self.conv1(x))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return F.relu(self.hidden(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.head(self.features(x))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut.

    Post-activation (arXiv 1512.03385) or pre-activation (arXiv 1605.07146).
    """

    def __init__(self, inside: int, outside: int, stride: int, preactivation: bool):
        super().__init__()
        self.preactivation = preactivation
        self.norm1 = nn.BatchNorm2d(inside if preactivation else outside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        same = inside == outside and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, [B, C', R', R']."""
        if self.preactivation:
            h = F.relu(self.norm1(x))
            skip = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(h)
            return skip + self.conv2(F.relu(self.norm2(self.conv1(h))))
        h = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(h + self.shortcut(x))


class Residual(nn.Module):
    """A stem of stride 2, three groups of residual blocks, global average pooling.

    Any input size from 16 on.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        stem: int,
        widths: tuple[int, ...],
        blocks: int,
        wide: bool,
    ):
        super().__init__()
        self.stem = nn.Conv2d(channels, stem, 3, 2, 1, bias=False)
        layers, inside = [], stem
        for group, width in enumerate(widths):
            for block in range(blocks):
                layers.append(ResidualBlock(inside, width, 2 if group and not block else 1, wide))
                inside = width
        self.stem_norm = nn.Identity() if wide else nn.BatchNorm2d(stem)
        self.blocks = nn.Sequential(*layers)
        self.last_norm = nn.BatchNorm2d(inside) if wide else nn.Identity()
        self.head = nn.Linear(inside, classes)

    def features(self, x: Tensor) -> Tensor:
        """The pooled activations."""
        x = self.stem_norm(self.stem(x))
        x = self.last_norm(self.blocks(x))
        return F.relu(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.head(self.features(x))


def build(name: str, channels: int, classes: int, generator: torch.Generator) -> nn.Module:
    """A fresh network on the CPU, every weight drawn from `generator`.

    None from torch's global state. `resnet`: ResNet-8-like, widths 32-64-128, 0.31M parameters.
    `wrn`: WRN-16-2 (arXiv 1605.07146), 0.69M parameters. Both halve the image in the first
    convolution, a fourth of the published cost. ValueError for another name.
    """
    with torch.device("meta"):
        if name == "logistic":
            network: nn.Module = Logistic(channels, classes)
        elif name == "cnn":
            network = CNN(channels, classes)
        elif name == "resnet":
            network = Residual(
                channels, classes, stem=32, widths=(32, 64, 128), blocks=1, wide=False
            )
        elif name == "wrn":
            network = Residual(
                channels, classes, stem=16, widths=(32, 64, 128), blocks=2, wide=True
            )
        else:
            raise ValueError(f"unknown classifier {name!r}; choose from {', '.join(NAMES)}")
    network = network.to_empty(device=HOST)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    # a small head starts every class alike, so that the first steps are not spent on unlearning
    nn.init.normal_(network.head.weight, std=0.01, generator=generator)
    return network
