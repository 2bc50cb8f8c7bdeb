"""Families that are told texts: how each is trained and drawn by diffusers alone."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bases import published_unets
from tests.bases.family_checks import Draw, Published, draw
from tests.bases.published import PUBLISHED
from tests.bases.published import draw as draw_transformer
from tests.bases.published_language_models import OWN


@dataclass(frozen=True)
class TextFamily:
    """What a family's own library computes.

    loss: its training loss. draw: its pictures. adapters: whether its pipeline loads LoRA files.
    tokens: whether its pipeline learns tokens.
    """

    loss: Published
    draw: Draw = draw
    adapters: bool = True
    tokens: bool = False


TEXT = {
    "stable_diffusion": TextFamily(published_unets.stable_diffusion, tokens=True),
    "stable_diffusion_xl": TextFamily(published_unets.stable_diffusion_xl, tokens=True),
    **{
        name: TextFamily(loss, draw_transformer, adapters=name != "pixart_sigma")
        for name, loss in PUBLISHED.items()
    },
    **{name: TextFamily(own.loss, own.draw, name != "prx") for name, own in OWN.items()},
}
# One of each; the others differ in their parts alone.
EACH = (
    "stable_diffusion",
    "stable_diffusion_xl",
    "stable_diffusion_3",
    "pixart_sigma",
    "flux",
    "flux2_klein",
    "sana",
    "lumina_2",
    "z_image",
    "qwen_image",
    "prx",
)
