"""Make a public base from public packages, the bundled ones again: `python -m recipes.make glyphs
-o sfumato/data/bases/glyphs`.

`letters` is trained first and alone; `glyphs` continues from it with digits added, so that one
command for `glyphs` makes both. `icons` continues from `letters`, and `garments`, which is not
bundled, and `things` from the bundled `icons`. `glyphs-pixels` stands alone. Needs
the `recipes` extra, `apt-get` and `npm`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from . import captions, glyphs, packages
from .autoencoder import encode, reconstruction_error, train_autoencoder
from .cards import write_card
from .denoiser import Examples, make_unet, train_denoiser
from .saving import log, save_pipeline

SEED = 20261122
LETTERS_STEPS, GLYPHS_STEPS = 2600, 2000
AUTOENCODER_STEPS = 900


def glyph_examples(vae, font_glyphs, counts: dict[str, int], seed: int) -> Examples:
    """Draw `counts` and encode them."""
    images, label = glyphs.make_each(font_glyphs, counts, seed)
    log(f"drew {len(images)} pictures")
    mean, std = encode(vae, images)
    scale = vae.config.scaling_factor
    log("encoded")
    return Examples(
        mean * scale,
        std * scale,
        label,
        captions.caption_table(list(range(len(glyphs.CHARACTERS)))),
    )


def all_captions(characters: str) -> list[str]:
    return [c for character in characters for c in captions.glyph_captions(character)]


def make_letters(work: Path, cache: Path) -> Path:
    """The base that never saw a digit; its autoencoder serves `glyphs` too."""
    done = work / "letters"
    if (done / "model_index.json").exists():
        return done
    torch.manual_seed(SEED)
    faces = glyphs.load_glyphs(packages.fetch_fonts(cache), cache)
    log(f"{len(faces.family_names)} font families, {len(faces.character) // 62} faces")
    from diffusers import AutoencoderKL

    store = work / "autoencoder"
    if store.exists():
        vae = AutoencoderKL.from_pretrained(store)
    else:
        pictures, _ = glyphs.make_images(faces, glyphs.LETTERS, 1000, 0)
        vae = train_autoencoder(pictures, AUTOENCODER_STEPS, 0)
        vae.save_pretrained(store)
    examples = glyph_examples(vae, faces, {glyphs.LETTERS: 4000}, SEED)
    tokenizer = captions.make_tokenizer(all_captions(glyphs.LETTERS), work / "letters-tokenizer", 8)
    unet, text, figures = train_denoiser(
        make_unet(),
        captions.make_text_encoder(tokenizer),
        tokenizer,
        examples,
        minutes=60,
        max_steps=LETTERS_STEPS,
        seed=SEED,
    )
    held_out, _ = glyphs.make_images(faces, glyphs.LETTERS, 20, 99)
    figures |= {"reconstruction_mse": reconstruction_error(vae, held_out[:512])}
    save_pipeline(done, unet, vae, text, tokenizer)
    (done / "training.json").write_text(json.dumps(figures, indent=1))
    return done


def make_glyphs(work: Path, cache: Path) -> Path:
    """Letters and digits, continued from `letters`."""
    from diffusers import StableDiffusionPipeline

    done = work / "glyphs"
    if (done / "model_index.json").exists():
        return done
    letters = StableDiffusionPipeline.from_pretrained(
        make_letters(work, cache), dtype=torch.float32
    )
    faces = glyphs.load_glyphs(packages.fetch_fonts(cache), cache)
    examples = glyph_examples(letters.vae, faces, glyphs.COUNTS, SEED + 10)
    tokenizer = captions.make_tokenizer(
        all_captions(glyphs.CHARACTERS), work / "glyphs-tokenizer", 8
    )
    text = captions.make_text_encoder(tokenizer)
    captions.carry_tokens(letters.text_encoder, letters.tokenizer, text, tokenizer)
    unet, text, figures = train_denoiser(
        letters.unet,
        text,
        tokenizer,
        examples,
        minutes=60,
        max_steps=GLYPHS_STEPS,
        seed=SEED + 1,
        learning_rate=1.5e-3,
    )
    save_pipeline(done, unet, letters.vae, text, tokenizer)
    (done / "training.json").write_text(json.dumps(figures, indent=1))
    return done


BASES = ("letters", "glyphs", "glyphs-pixels", "icons", "garments", "things")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", choices=list(BASES))
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="folder for the finished base"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("build/recipes"), help="folder for downloads and stages"
    )
    args = parser.parse_args()
    if args.output.exists():
        parser.error(f"{args.output} exists; name a new folder")
    cache = args.work / "packages"
    cache.mkdir(parents=True, exist_ok=True)
    if args.base == "icons":
        from .icons import make_icons

        made = make_icons(args.work, cache, make_letters(args.work, cache))
    elif args.base in ("garments", "things"):
        from sfumato.bases import bundled_bases

        from .garments import make_garments
        from .things import make_things

        make = {"garments": make_garments, "things": make_things}[args.base]
        made = make(args.work, cache, bundled_bases()["icons"])
    elif args.base == "glyphs-pixels":
        from .pixels import make_glyphs_pixels

        made = make_glyphs_pixels(args.work, cache)
    else:
        made = {"letters": make_letters, "glyphs": make_glyphs}[args.base](args.work, cache)
    write_card(made, args.output, args.base, cache)
    log(f"wrote {args.output}")


if __name__ == "__main__":
    main()
