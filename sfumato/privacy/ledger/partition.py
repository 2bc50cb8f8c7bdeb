"""Whether several runs define a unit alike.

Only then do their costs add up to one figure for a unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Trace = tuple[bytes, bytes, bytes]
"""One image of a run: keyed hashes of its pixels, of its file's bytes and of its unit's value; b""
for one that is not known."""


def same_units(runs: Sequence[Iterable[Trace]]) -> bool:
    """Returns whether no unit of one run is spread over two units of another.

    Units of equal value are one, and so are units that hold one image in different runs, be it by
    pixels or by bytes. A total for a unit is true where such a class has at most one unit in every
    run; where it has two, removing one real unit changes two contributions of a run, whose price is
    for one. An image that stands in several units of one run is no sign of anything as long as the
    other run's owners of it are among them.
    """
    owners: dict[tuple[str, bytes], set[frozenset[bytes]]] = {}
    parent: dict[bytes, bytes] = {}
    held: list[set[bytes]] = []
    for run in runs:
        own: dict[tuple[str, bytes], frozenset[bytes]] = {}
        held.append(set())
        for picture, file, unit in run:
            held[-1].add(unit)
            for image in (("picture", picture), ("file", file)):
                if image[1]:
                    own[image] = own.get(image, frozenset()) | {unit}
        for image, units in own.items():
            others = owners.setdefault(image, set())
            for before in others:
                if not (before <= units or units <= before):
                    _join(parent, [*before, *units])
            others.add(units)
    return all(len({_root(parent, unit) for unit in units}) == len(units) for units in held)


def _root(parent: dict[bytes, bytes], unit: bytes) -> bytes:
    while (up := parent.get(unit, unit)) != unit:
        parent[unit] = unit = parent.get(up, up)
    return unit


def _join(parent: dict[bytes, bytes], units: Sequence[bytes]) -> None:
    root = _root(parent, units[0])
    for unit in units[1:]:
        parent[_root(parent, unit)] = root
