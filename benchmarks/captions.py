"""Captions beside class prompts: does a picture follow its prompt after private training?

    python benchmarks/captions.py --quick
    python benchmarks/captions.py --epsilon 10,1 --out benchmarks/results/captions.jsonl

Private are packs of colour emoji and icons that the base `icons` never saw, each picture with the
caption "icon of a SUBJECT, STYLE style". With `--styles packs` a pack is a style; with `looks`
every picture has one of four looks (as it is, negative, blue, in red frames), drawn by a fixed
seed, and the base never saw three of them. Subjects of the prompts are held out: no private
picture of them trains. `captions` trains on the captions, `classes` on one prompt for each style
("icon, STYLE style"), `base` is the public base; all are asked with the same prompts and
seeds. Two classifiers of real pictures judge: of the style (of packs: among those of the private
packs and of the base's own, trained on both; of looks: trained on public packs alone), and of the
subject, trained on public packs. The row `real` is the held-out private pictures themselves.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import measure

sys.path.insert(0, str(Path(__file__).parent.parent))  # the recipes

PRIVATE = (
    "emojione",
    "flat-color-icons",
    "fluent-emoji",
    "noto-v1",
    "streamline-emojis",
    "streamline-ultimate-color",
)
LOOKS = ("colour emoji", "negative", "blue", "framed")
SUBJECTS = 24  # of the prompts: those with the most drawings
OF_A_STYLE = 400  # public pictures of each of the base's own styles, for the judge


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epsilon", default="10,1", help="comma separated")
    parser.add_argument("--ways", default="captions,classes", help="comma separated")
    parser.add_argument("--guidance", default="1,3", help="guidance scales, comma separated")
    parser.add_argument("--styles", choices=("packs", "looks"), default="looks")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--method", default="attention")
    parser.add_argument("--images", type=int, default=4, help="pictures per subject and style")
    parser.add_argument("--quick", action="store_true", help="shows that it runs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="append the rows to this file")
    parser.add_argument("--cache", type=Path, default=Path("build/recipes/packages"))
    return parser.parse_args()


def main() -> None:
    said = arguments()
    measure.prepare_process(said.threads)
    from sfumato.bases import load_base

    icons = Icons(said)
    judge = Judge(said, icons)

    def tell(row: dict) -> None:
        row = {"styles": said.styles, "n": len(icons.private), "quick": said.quick, **row}
        print(json.dumps(row), flush=True)
        if said.out:
            with open(said.out, "a", encoding="utf-8") as table:
                table.write(json.dumps(row) + "\n")

    tell({"row": "real, held out", **judge.real()})
    prompts = Prompts(icons, 1 if said.quick else said.images)
    scales = [float(scale) for scale in said.guidance.split(",")]
    for scale in scales:
        drawn = prompts.draw(load_base("icons"), scale, said.quick)
        tell({"row": "base", "guidance": scale, **judge(drawn, prompts)})
    for way in said.ways.split(","):
        for epsilon in map(float, said.epsilon.split(",")):
            with tempfile.TemporaryDirectory() as place:
                started, before = time.perf_counter(), cpu_seconds()
                run, adapted = train(said, icons, way, epsilon, Path(place))
                spent = {
                    "cpu_minutes": round((cpu_seconds() - before) / 60, 1),
                    "minutes": round((time.perf_counter() - started) / 60, 1),
                }
                plan = run.plan
                facts = {
                    "row": way,
                    "epsilon": plan.epsilon,
                    "delta": plan.delta,
                    "steps": plan.steps,
                    "batch": plan.expected_batch_size,
                    "method": plan.method,
                    "captions": bool(plan.captions),
                    **spent,
                }
                for scale in scales:
                    drawn = prompts.draw(adapted, scale, said.quick)
                    tell({**facts, "guidance": scale, **judge(drawn, prompts)})


def cpu_seconds() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


class Icons:
    """The packs: private ones, and those that the base was trained on."""

    def __init__(self, said):
        from collections import Counter

        import numpy as np

        from recipes import packages
        from recipes.icons import draw, load_icons

        wanted = packages.ICON_PACKAGES | packages.COLOUR_PACKAGES
        self.icons, large, _ = load_icons(said.cache, wanted, "things-icons.npz")
        self.large, self.frame = large, draw
        private = np.array([icon.pack in PRIVATE for icon in self.icons])
        by_subject: dict[str, set[str]] = {}
        for icon, own in zip(self.icons, private):
            if own:
                by_subject.setdefault(icon.subject, set()).add(icon.pack)
        drawings = Counter(icon.subject for icon in self.icons)
        known = [s for s, packs in by_subject.items() if len(packs) >= 3 and len(s.split()) == 1]
        self.subjects = sorted(known, key=lambda s: (-drawings[s], s))[:SUBJECTS]
        held = np.array([icon.subject in self.subjects for icon in self.icons])
        order = np.random.default_rng(0).permutation(len(self.icons))
        self.private = [i for i in order if private[i] and not held[i]]
        self.held_out = [i for i in order if private[i] and held[i]]
        self.public = [i for i in order if not private[i]]
        if said.quick:
            self.private = self.private[:300]
        self.looks = said.styles == "looks"
        self.look = np.random.default_rng(1).integers(0, len(LOOKS), len(self.icons))
        self.styles = list(LOOKS)
        if not self.looks:
            self.styles = sorted({self.icons[i].style for i in self.private})

    def style(self, place: int) -> str:
        """What the caption of a drawing calls its style."""
        return LOOKS[self.look[place]] if self.looks else self.icons[place].style

    def pictures(self, places, zoom: float = 1.0):
        """The drawings as they are, or each in its look."""
        import numpy as np

        drawn = [self.frame(self.large[i], zoom, 0.5, 0.5) for i in places]
        if self.looks:
            drawn = [in_look(picture, self.look[i]) for picture, i in zip(drawn, places)]
        return np.stack(drawn)


def in_look(picture, look: int):
    """uint8 [32, 32, 3] in one of `LOOKS`."""
    import numpy as np

    grey = picture.mean(2, keepdims=True)
    if look == 1:
        return 255 - picture
    if look == 2:
        return (grey * (0.5, 0.5, 0) + np.array([0, 0, 255.0])).clip(0, 255).astype(np.uint8)
    if look == 3:
        framed = picture.copy()
        framed[:3], framed[-3:], framed[:, :3], framed[:, -3:] = ((220, 30, 30),) * 4
        return framed
    return picture


class Judge:
    """Two classifiers of real pictures: of style, and of subject."""

    def __init__(self, said, icons: Icons):
        import numpy as np

        from sfumato.evaluation.classifiers import train_classifier

        self.icons, steps = icons, 30 if said.quick else None
        own: dict[str, list[int]] = {}
        for i in icons.public:
            icon = icons.icons[i]
            own.setdefault(f"{icon.pack}, {icon.style}", []).append(i)
        known = {name: found for name, found in own.items() if len(found) >= OF_A_STYLE}
        if icons.looks:
            known = {}
        places = [int(i) for i in (icons.public[:8000] if icons.looks else icons.private)]
        kinds = [icons.styles.index(icons.style(i)) for i in places]
        for number, found in enumerate(known.values(), len(icons.styles)):
            places += found[:OF_A_STYLE]
            kinds += [number] * OF_A_STYLE
        self.style = train_classifier(
            "cnn",
            icons.pictures(places),
            np.array(kinds),
            len(icons.styles) + len(known),
            steps=steps,
        )
        places = [i for i in icons.public if icons.icons[i].subject in icons.subjects]
        # drawings are few, so each stands in three sizes
        self.subject = train_classifier(
            "cnn",
            np.concatenate([icons.pictures(places, zoom) for zoom in (1.0, 1.04, 1.08)]),
            np.tile([icons.subjects.index(icons.icons[i].subject) for i in places], 3),
            len(icons.subjects),
            steps=steps,
        )

    def score(self, pictures, style, subject) -> dict:
        import numpy as np

        right = self.style.predict(pictures) == style
        meant = self.subject.predict(pictures) == subject
        return {
            "pictures": len(pictures),
            "style_accuracy": round(float(right.mean()), 4),
            "subject_accuracy": round(float(meant.mean()), 4),
            "both": round(float((right & meant).mean()), 4),
            "standard_error_of_both": round(
                float(np.sqrt((right & meant).var() / len(pictures))), 4
            ),
        }

    def real(self) -> dict:
        import numpy as np

        icons = self.icons
        kept = [i for i in icons.held_out if icons.style(i) in icons.styles]
        return self.score(
            icons.pictures(kept),
            np.array([icons.styles.index(icons.style(i)) for i in kept]),
            np.array([icons.subjects.index(icons.icons[i].subject) for i in kept]),
        )

    def __call__(self, drawn, prompts: Prompts) -> dict:
        return self.score(drawn, prompts.style, prompts.subject)


class Prompts:
    """The prompts: each held-out subject in each style, `each` pictures of it."""

    def __init__(self, icons: Icons, each: int):
        import numpy as np

        from recipes.icons import icon_captions

        pairs = [(s, k) for s in range(len(icons.subjects)) for k in range(len(icons.styles))]
        self.texts = [icon_captions(icons.subjects[s], icons.styles[k])[0] for s, k in pairs]
        self.which = np.repeat(np.arange(len(pairs)), each)
        self.subject = np.array([pairs[i][0] for i in self.which])
        self.style = np.array([pairs[i][1] for i in self.which])

    def draw(self, base, guidance: float, quick: bool):
        import numpy as np

        from sfumato.options import Sampling
        from sfumato.synthesis.sampler import pictures

        sampling = Sampling(guidance_scale=guidance, steps=4 if quick else 12)
        numbers = np.arange(len(self.which))
        drawn = pictures(base, self.texts, self.which, numbers, sampling)
        return np.concatenate([part for _, part in drawn])


def train(said, icons: Icons, way: str, epsilon: float, place: Path):
    """A run by `sfumato.adapt`, and its adapted base."""
    from PIL import Image

    import sfumato
    from recipes.icons import icon_captions
    from sfumato.options import Recipe
    from sfumato.verbs.facts import adapted_base

    (place / "private").mkdir()
    with open(place / "private" / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "style", "text"])
        for number, (i, picture) in enumerate(zip(icons.private, icons.pictures(icons.private))):
            Image.fromarray(picture).save(place / "private" / f"{number:05d}.png")
            style = icons.style(i)
            text = icon_captions(icons.icons[i].subject, style)[0]
            table.writerow([f"{number:05d}.png", style, text])
    run = sfumato.adapt(
        place / "private",
        output=place / "run",
        ledger=place / "ledger.sqlite",
        base="icons",
        method=said.method,
        epsilon=epsilon,
        anyway=True,
        labels="style",
        classes=icons.styles,
        prompt="icon, {class} style",
        embedder=False,
        steps=3 if said.quick else said.steps,
        expected_batch_size=min(said.batch, len(icons.private)),
        noise_draws=said.draws,
        recipe=Recipe(caption_dropout=0.1),
        # the same for both, so that neither asks whether a prompt stands among the captions
        allow_caption_prompts=True,
        samples_every=0,
        **({"caption_column": "text"} if way == "captions" else {}),
    )
    return run, adapted_base(run)


if __name__ == "__main__":
    main()
