"""The owner's page of an evaluation: what it says, its figures, and pictures class by class.

PRIVATE, as it states itself: it shows real images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from sfumato import pages
from sfumato.pages import Picture, beside

MOST = 4  # pictures of a row in a class
CLASSES = 30  # classes whose pictures are shown
# Rows, in the words of the page; what is not here has the name it was given.
WORDS = {
    "tested on": "real test images",
    "synthetic": "synthetic (the release)",
    "public_only": "public base alone",
    "noise_only": "noise alone",
    "one_image": "one image's token",
    "non_private": "without privacy",
    "reconstructed": "real images through the base's autoencoder",
    "real": "real images themselves",
}
# which decisions these figures may lead to: the same sentence in docs/evaluation.md, guarantee.md
# and privacy.md
DECISIONS = (
    "After `evaluate` or `audit --pictures`, handing a release over or not is yours to decide: it"
    " counts as a look, and the certificate says so; choosing among several runs, releases or"
    " settings by private scores without its being said voids the claim (`select` pays for such a"
    " choice)."
)
PRIVATE = Markup(
    '<p class="private"><b>PRIVATE.</b> It shows real images, and figures computed from private or'
    " held-out images without noise. No epsilon covers it. It stays in the run folder. {}</p>\n"
).format(DECISIONS.replace("`", ""))

Shown = Mapping[str, Mapping[str, np.ndarray]]


def by_class(
    images: np.ndarray, labels: np.ndarray, classes: Sequence[str], most: int = MOST
) -> dict[str, np.ndarray]:
    """The first images of each class, uint8 [k, R, R, 3], by the class's name."""
    first = {
        name: images[np.flatnonzero(labels == i)[:most]] for i, name in enumerate(classes[:CLASSES])
    }
    return {name: own for name, own in first.items() if len(own)}


def page(
    title: str, said: Sequence[str], figures: Mapping[str, Mapping[str, str]], shown: Shown
) -> str:
    """HTML of one file.

    Args:
        title: Of the page.
        said: The verdict, a sentence each.
        figures: Row -> column -> text.
        shown: Row -> class -> uint8 [k, R, R, 3].
    """
    classes = list(dict.fromkeys(name for own in shown.values() for name in own))
    body = Markup(
        "<h2>Pictures by class</h2>\n<p>The first {} of each class, at most {} classes; rows that"
        " are drawn show the same prompts and seeds.{}</p>\n"
    ).format(MOST, CLASSES, pages.ENLARGE)
    body += Markup().join(_class(name, shown) for name in classes)
    return framed(title, said, figures, "trained on", body)


def framed(
    title: str, said: Sequence[str], figures: Mapping[str, Mapping[str, str]], of: str, body: Markup
) -> str:
    """HTML of one file that is PRIVATE, as it says first.

    Args:
        title: Of the page.
        said: The verdict, a sentence each.
        figures: Row -> column -> text.
        of: The head of the rows' names.
        body: What follows the figures.
    """
    head = PRIVATE + Markup("<h1>{}</h1>\n").format(title)
    head += Markup().join(Markup("<p>{}</p>\n").format(sentence) for sentence in said)
    head += Markup("<h2>Figures</h2>\n") + _table(figures, of)
    return pages.page(f"PRIVATE: {title}", head + body)


def in_words(row: str) -> str:
    """A row in the words of page and terminal."""
    return WORDS.get(row, row)


def _table(figures: Mapping[str, Mapping[str, str]], of: str) -> Markup:
    columns = list(dict.fromkeys(name for row in figures.values() for name in row))
    head = Markup().join(Markup('<th scope="col">{}</th>').format(name) for name in (of, *columns))
    rows = Markup().join(
        Markup('<tr><th scope="row">{}</th>{}</tr>\n').format(
            in_words(row),
            Markup().join(
                Markup('<td class="n">{}</td>').format(found.get(name, "")) for name in columns
            ),
        )
        for row, found in figures.items()
    )
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="Figures"><table>\n<thead><tr>{}'
        "</tr></thead>\n<tbody>{}</tbody></table></div>\n"
    ).format(head, rows)


def _class(name: str, shown: Shown) -> Markup:
    columns = {
        in_words(row): [
            Picture(image, f"{in_words(row)}, class {name}, picture {number} of {len(own[name])}")
            for number, image in enumerate(own[name], 1)
        ]
        for row, own in shown.items()
        if name in own
    }
    return Markup("<h3>{}</h3>\n{}").format(name, beside(columns))
