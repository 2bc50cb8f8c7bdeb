"""A method of one's own: DP-BiTFiT, which trains only biases.

Bu, Wang, Zha, Karypis, arXiv 2210.00036.

    python examples/method.py IMAGES RUN

adapts the bundled base to the images in IMAGES. In the package itself this file would be one of
`sfumato/methods/`, and the line before the last part of it one name more in `METHODS`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from torch import nn

import sfumato
from sfumato.bases import Base
from sfumato.methods import METHODS, Given, Trained
from sfumato.methods.adaptation import Adaptation, adaptation, save_whole
from sfumato.options import option


@dataclass(frozen=True)
class Bias(Trained):
    """Train the denoiser's biases, a small share of its numbers.

    The noise on a step grows with the square root of how many numbers train, and no activation has
    to be kept for the gradient of a bias. Saves a pipeline folder.
    """

    name = "bias"
    learning_rate = 0.01  # few numbers need larger steps than all weights do

    norms: bool = option(True, "Train the biases of normalisations, too.")

    def apply(self, base: Base, given: Given) -> Adaptation:
        kinds = () if self.norms else (nn.GroupNorm, nn.LayerNorm)
        left = {n for n, m in base.denoiser.named_modules() if isinstance(m, kinds)}
        biases = {
            name: tensor
            for name, tensor in base.learnable().items()
            if name.endswith(".bias") and name.removesuffix(".bias") not in left
        }
        if not biases:
            raise sfumato.SfumatoError("--method bias: the denoiser of this base has no biases")
        modules = [name.removesuffix(".bias") for name in biases]
        return adaptation(base, given, biases, modules, save_whole, self.learning_rate)


METHODS[Bias.name] = Bias

if __name__ == "__main__":
    images, folder = sys.argv[1:]
    run = sfumato.adapt(images, epsilon=4, method=Bias(), output=folder)
    print(f"epsilon {run.plan.epsilon}: {run.folder} is PRIVATE")
