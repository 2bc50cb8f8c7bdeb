"""The pictures of README and tour, from finished demos: `sfumato demo` at epsilon 1 and 10.

    python benchmarks/front.py demo demo-10 --out docs/pictures/front.png python benchmarks/front.py
    demo-letters demo-letters-10 --out docs/pictures/letters.png --rows 10

Four panels beside each other: private images, the public base, synthetic images of each demo.
"Private" are the bundled MNIST training digits, which the demo calls private; MNIST is public, so
no private image is shown. Nothing is picked by hand: of each class the first images are shown, by
position in the data set and in the release. The public panel is drawn by diffusers alone from the
bundled base as it came, with the demo's prompts; where a prompt holds a class token, with the
public letter that the token starts from.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CLASSES = 10
SIDE = 32  # of the bundled bases
GAP, MARGIN, ARROW, HEADER = 4, 16, 44, 58
INK, GREY, PAPER, LINE = (25, 25, 30), (95, 95, 105), (255, 255, 255), (205, 205, 212)


def private(per_class: int) -> np.ndarray:
    """[class, per_class, 28, 28]: the first bundled digits of each class."""
    from sfumato.records import bundled_digits

    digits = bundled_digits("train")
    chosen = [np.flatnonzero(digits.labels == c)[:per_class] for c in range(CLASSES)]
    return np.stack([digits.images(rows, SIDE) for rows in chosen])


def public(name: str, prompts: list[str], per_class: int) -> np.ndarray:
    """[class, per_class, side, side, 3]: the base as it came, drawn by diffusers alone."""
    import torch
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    from sfumato.bases import bundled_bases

    pipe = StableDiffusionPipeline.from_pretrained(
        bundled_bases()[name], safety_checker=None, local_files_only=True
    ).to(torch.float32)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    drawn = [
        pipe(
            [prompt] * per_class,
            num_inference_steps=8,
            guidance_scale=1.0,
            generator=generator,
            output_type="np",
        ).images
        for prompt in prompts
    ]
    return np.round(255 * np.stack(drawn)).astype(np.uint8)


def synthetic(demo: Path, per_class: int) -> np.ndarray:
    """[class, per_class, side, side, 3]: the first images of each class in the release."""
    folders = [
        sorted((demo / "release" / "train" / str(c)).glob("*.png"))[:per_class]
        for c in range(CLASSES)
    ]
    return np.stack(
        [[np.asarray(Image.open(path).convert("RGB")) for path in paths] for paths in folders]
    )


def facts(demo: Path) -> dict:
    """Epsilon, base and public prompts of a demo, as its run says them."""
    plan = json.loads((demo / "run" / "plan.json").read_text("utf-8"))
    words = json.loads((demo / "run" / "options.json").read_text("utf-8"))["prompts"]
    starts = words.get("initializers") or [""] * CLASSES
    prompts = [re.sub(r"<class-\d+>", start, p) for p, start in zip(plan["prompts"], starts)]
    return {
        "epsilon": round(plan["epsilon_target"]),
        "delta": plan["delta"],
        "base": plan["base"],
        "prompts": prompts,
    }


def panel(images: np.ndarray, columns: int, scale: int) -> Image.Image:
    """Classes from left to right and top to bottom, their images below each other."""
    images = images if images.shape[-1] == 3 else np.repeat(images[..., None], 3, -1)
    groups, per_class, cell = CLASSES // columns, images.shape[1], SIDE * scale
    step = cell + GAP
    sheet = Image.new("RGB", (columns * step - GAP, groups * per_class * step - GAP), PAPER)
    for c in range(CLASSES):
        for k in range(per_class):
            picture = Image.fromarray(images[c, k]).resize((cell, cell), Image.NEAREST)
            sheet.paste(picture, ((c % columns) * step, ((c // columns) * per_class + k) * step))
    return sheet


def compose(panels: list[tuple[str, str, Image.Image]]) -> Image.Image:
    """Panels with two lines above each; a plus, an arrow and a line between them."""
    bold, plain = ImageFont.load_default(17), ImageFont.load_default(13)
    width = 2 * MARGIN + sum(p.width for *_, p in panels) + ARROW * (len(panels) - 1)
    height = 2 * MARGIN + HEADER + panels[0][2].height
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    x, middle = MARGIN, MARGIN + HEADER + panels[0][2].height // 2
    for i, (title, under, picture) in enumerate(panels):
        draw.text((x, MARGIN), title, INK, bold)
        draw.text((x, MARGIN + 26), under, GREY, plain)
        sheet.paste(picture, (x, MARGIN + HEADER))
        x += picture.width
        if i + 1 < len(panels):
            a, b = x + 10, x + ARROW - 10
            if i == 0:  # private images and the public base go in together
                centre = (a + b) // 2
                draw.line((centre - 9, middle, centre + 9, middle), GREY, 3)
                draw.line((centre, middle - 9, centre, middle + 9), GREY, 3)
            elif i == 1:
                draw.line((a, middle, b, middle), GREY, 3)
                draw.polygon([(b + 2, middle), (b - 8, middle - 7), (b - 8, middle + 7)], GREY)
            else:  # one result beside the other
                draw.line(
                    (x + ARROW // 2, MARGIN + HEADER, x + ARROW // 2, height - MARGIN), LINE, 1
                )
            x += ARROW
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "demos", type=Path, nargs="+", help="folders of sfumato demo on the same base"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--columns", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2, help="images of each class")
    parser.add_argument("--scale", type=int, default=2)
    asked = parser.parse_args()
    said = [facts(demo) for demo in asked.demos]
    known = {
        "glyphs": "has seen letters and digits of fonts",
        "letters": "has seen letters, never a digit",
    }
    sheets = [
        ("private images", "stay with you (here: MNIST)", private(asked.rows)),
        (
            "public base model",
            known[said[0]["base"]],
            public(said[0]["base"], said[0]["prompts"], asked.rows),
        ),
    ]
    for demo, fact in zip(asked.demos, said):
        under = f"may leave; delta {fact['delta']:g}, unit: image, zero-out"
        sheets.append((f"synthetic, epsilon {fact['epsilon']}", under, synthetic(demo, asked.rows)))
    picture = compose(
        [
            (title, under, panel(images, asked.columns, asked.scale))
            for title, under, images in sheets
        ]
    )
    # No metadata: only the pixels, in a palette that keeps the file small.
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(64, dither=Image.Dither.NONE).save(asked.out, optimize=True)
    print(f"{asked.out}: {picture.width}x{picture.height}, {asked.out.stat().st_size // 1000} KB")


if __name__ == "__main__":
    main()
