"""Reserved packs, the tokenizer, glyph drawing, the saved pipeline and the card of a
bundled base.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

pytest.importorskip("diffusers")

import torch

from recipes import captions, glyphs, icons, packages

RECIPES = Path(packages.__file__).parent


def _strings(source: str) -> list[str]:
    """Names and string constants of a module, but for docstrings and the RESERVED tuple."""
    tree = ast.parse(source)
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "RESERVED":
            skipped.update(map(id, ast.walk(node)))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
    kept = [n for n in ast.walk(tree) if id(n) not in skipped]
    constants = [n.value for n in kept if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return constants + [n.id for n in kept if isinstance(n, ast.Name)]


def test_reserved_packs_are_in_no_base():
    assert {"maki", "healthicons", "icon-park", "twemoji", "emoji-datasource-twitter"} <= set(
        packages.RESERVED
    )
    assert "animal-mnist" in packages.RESERVED
    every = packages.ICON_PACKAGES | packages.GARMENT_PACKAGES | packages.COLOUR_PACKAGES
    for name in every:
        assert not any(name.startswith(r) for r in packages.RESERVED), name


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.py")), ids=lambda p: p.name)
def test_reserved_packs_are_in_no_recipe(path):
    for text in _strings(path.read_text()):
        assert not any(r in text.lower() for r in packages.RESERVED), text[:80]


def test_the_reserved_check_sees_a_use():
    assert "maki" in _strings('"""Doc on maki."""\nRESERVED = ("maki",)\nPACKS = ["maki"]')
    assert "maki" not in _strings('"""Doc on maki."""\nRESERVED = ("maki",)')


def test_every_word_is_one_token(tmp_path):
    rows = [
        icons.icon_captions(s, "high contrast emoji")
        for s in ("fork and knife plate", "apple", "bicycle")
    ]
    texts = [c for row in rows for c in row] + [
        c for k in glyphs.CHARACTERS for c in captions.glyph_captions(k)
    ]
    tokenizer = captions.make_tokenizer(texts, tmp_path / "tokenizer", 16)
    for word in {w for text in texts for w in text.replace(",", " ").split()} | {","}:
        assert len(tokenizer(word).input_ids) == 3, word  # start, the word, end
    longest = icons.icon_captions("fork and knife plate", "high contrast emoji")[0]
    assert len(tokenizer(longest).input_ids) == 14
    assert tokenizer.decode(tokenizer(longest).input_ids, skip_special_tokens=True).split() == [
        "icon",
        "of",
        "a",
        "fork",
        "and",
        "knife",
        "plate",
        ",",
        "high",
        "contrast",
        "emoji",
        "style",
    ]
    # A word never seen is spelt out, not lost.
    assert len(tokenizer("zyzzyva").input_ids) > 3


def test_glyph_drawing_is_deterministic():
    axis = torch.arange(48.0) - 23.5
    # a vertical bar's distance field
    skeleton = axis.abs()[None, :, None].expand(3, 48, 48).contiguous()
    skeleton = torch.maximum(skeleton.transpose(1, 2), axis.abs()[None, :, None] - 14)

    def drawn(seed: int) -> torch.Tensor:
        return glyphs.draw(skeleton - 2, skeleton, torch.Generator().manual_seed(seed))

    first = drawn(1)
    assert first.shape == (3, 32, 32) and first.dtype == torch.uint8
    assert torch.equal(first, drawn(1)) and not torch.equal(first, drawn(2))
    # ink in the middle, none at the rim
    assert first.amax((1, 2)).min() > 200 and first[:, 0].max() == 0


def test_a_base_of_icons_fits_in_eight_megabytes_and_opens(tmp_path):
    from diffusers import StableDiffusionPipeline

    from recipes.autoencoder import make_autoencoder
    from recipes.denoiser import make_unet
    from recipes.saving import save_pipeline

    tokenizer = captions.make_tokenizer(
        ["icon of a bicycle, outline style"], tmp_path / "tokenizer", 16
    )
    save_pipeline(
        tmp_path / "base",
        make_unet(),
        make_autoencoder(),
        captions.make_text_encoder(tokenizer),
        tokenizer,
    )
    size = sum(p.stat().st_size for p in (tmp_path / "base").rglob("*.safetensors"))
    vocabulary = 6000 * 64 * 2  # more tokens than the icons' captions need, 64 wide, two bytes each
    assert size + vocabulary < 8_000_000
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "base")
    assert (
        pipe.tokenizer.model_max_length == 16
        and pipe.scheduler.config.prediction_type == "v_prediction"
    )


def test_the_card_lists_the_licence_of_each_icon_package(tmp_path):
    from recipes.cards import write_card

    made = tmp_path / "made"
    made.mkdir()
    pack = {
        "version": "1.2.4",
        "icons": 7,
        "licence": "CC-BY-3.0",
        "licence_url": "",
        "author": "GameIcons",
    }
    (made / "training.json").write_text(json.dumps({"steps": 5, "packages": {"game-icons": pack}}))
    write_card(made, tmp_path / "out", "icons", tmp_path)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| `@iconify-json/game-icons` | 1.2.4 | 7 | GameIcons | CC-BY-3.0 |" in card
    facts = {"openclipart-png": pack, "dicebear micah": pack}
    (made / "training.json").write_text(json.dumps({"packages": facts}))
    write_card(made, tmp_path / "things", "things", tmp_path)
    other = (tmp_path / "things" / "README.md").read_text()
    assert "(64x64 RGB" in other and "| Debian `openclipart-png` | 1.2.4 | 7 |" in other
    assert "| `@dicebear/collection`, style micah | 1.2.4 | 7 |" in other
    assert "- steps: 5" in card and "- packages:" not in card.split("## Sources")[0]
    assert not (tmp_path / "out" / "training.json").exists()
