"""The owner's page of an audit of the pictures: each of the closest beside what it is like.

PRIVATE, as it states itself: it shows real images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from sfumato.evaluation.nearest import RATIO, Nearness
from sfumato.evaluation.page import framed
from sfumato.pages import ENLARGE, Picture, grid

CLOSEST = 12  # released pictures that the page shows
SORTS = ("released", "nearest private", "nearest held-out")
COLUMNS = (
    "",
    "released",
    "nearest private",
    "its distance",
    "nearest held-out",
    "its distance",
    "ratio to the next private ones",
)


def nearest_page(
    title: str, said: Sequence[str], found: Nearness, pictures: Mapping[str, np.ndarray]
) -> str:
    """HTML of one file.

    Args:
        title: Of the page.
        said: The verdict, a sentence each.
        found: The figures.
        pictures: "released", "private" and "held-out" -> uint8 [n, R, R, 3], as compared.
    """
    first = np.argsort(found.ratio, kind="stable")[:CLOSEST]
    body = Markup(
        "<h2>The closest pictures</h2>\n<p>A row for each of the {} released pictures that are most"
        " like one private picture alone, with the private and the held-out picture nearest to it."
        " Distances are in {}. The last column is the distance to the nearest private picture over"
        " the mean distance to the next ones: below {:g} the picture is perhaps a copy. Look"
        " whether the private picture is the same one, and the held-out picture only a similar"
        " one.{}</p>\n"
    ).format(len(first), found.features, RATIO, ENLARGE)
    head = Markup().join(Markup('<th scope="col">{}</th>').format(name) for name in COLUMNS)
    rows = Markup().join(_row(i, place, found, pictures) for i, place in enumerate(first, 1))
    body += Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="The closest pictures"><table>\n'
        "<thead><tr>{}</tr></thead>\n<tbody>{}</tbody></table></div>\n"
    ).format(head, rows)
    return framed(title, said, _figures(found), "compared with", body)


def _row(number: int, place: int, found: Nearness, pictures: Mapping[str, np.ndarray]) -> Markup:
    shown = (
        pictures["released"][place],
        pictures["private"][found.nearest[place]],
        pictures["held-out"][found.nearest_test[place]],
    )
    cells = [
        Markup("<td>{}</td>").format(grid([Picture(image, f"{sort} picture, row {number}")]))
        for sort, image in zip(SORTS, shown, strict=True)
    ]
    numbers = [
        Markup('<td class="n">{:.3g}</td>').format(float(one[place]))
        for one in (found.distance, found.distance_test, found.ratio)
    ]
    order = (cells[0], cells[1], numbers[0], cells[2], numbers[1], numbers[2])
    return Markup('<tr><th scope="row">{}</th>{}</tr>\n').format(number, Markup().join(order))


def _figures(found: Nearness) -> dict[str, dict[str, str]]:
    sides = {
        "private pictures": (found.to_train, found.copies),
        "held-out pictures": (found.to_test, found.control),
    }
    return {
        name: {
            "median distance to the nearest": f"{middle.value:.3g}",
            "interval": f"{middle.low:.3g} to {middle.high:.3g}",
            "perhaps copies": f"{copies.value:.2%}",
        }
        for name, (middle, copies) in sides.items()
    }
