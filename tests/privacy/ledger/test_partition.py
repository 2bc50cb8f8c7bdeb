"""Runs whose costs add up to a figure for a unit, and runs whose units do not fit together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.privacy.ledger.partition import same_units


def run(*images):
    """("a", "p") or ("a", "p", "file") as traces."""
    return [
        (image[0].encode(), (image[2] if len(image) > 2 else "").encode(), image[1].encode())
        for image in images
    ]


ONE = run(("a", "p"), ("b", "p"), ("c", "q"))


@pytest.mark.parametrize(
    ("other", "fit"),
    [
        (ONE, True),
        (run(("d", "p"), ("e", "r")), True),  # other images of a unit, and a new one
        (run(("a", "P"), ("b", "P"), ("c", "Q")), True),  # renamed one to one
        (run(("a", "p"), ("b", "s"), ("c", "q")), False),  # one picture moved to a unit of its own
        (run(("a", "s1"), ("b", "s2")), False),  # a unit cut in two
        (run(("a", "p"), ("b", "p"), ("c", "p")), False),  # two units put together
        (run(("a", "q"), ("b", "q"), ("c", "p")), False),  # names swapped
        (run(("a", "P"), ("d", "p")), False),  # renamed, and the old name given to another
        # a copy of a picture with somebody else
        (run(("a", "p"), ("b", "p"), ("c", "q"), ("a", "r")), True),
    ],
)
def test_two_runs(other, fit):
    assert same_units([ONE, other]) == fit and same_units([other, ONE]) == fit


def test_files_tie_units_where_pixels_do_not():
    """Another decoder's pixels of the same two files, in units that were cut in two."""
    before = run(("a", "p", "f"), ("b", "p", "g"))
    assert not same_units([before, run(("x", "s", "f"), ("y", "t", "g"))])
    assert same_units([before, run(("x", "s", "f"), ("y", "s", "g"))])
    assert same_units([run(("a", "p"), ("b", "p")), run(("x", "s"), ("y", "t"))]), (
        "nothing ties these"
    )


def test_a_third_run_may_tie_what_two_do_not():
    first, second = run(("a", "p"), ("b", "q")), run(("c", "r"))
    assert same_units([first, second])
    assert not same_units([first, second, run(("a", "u"), ("b", "u"), ("c", "u"))])
    assert not same_units([run(("a", "p")), run(("a", "p"), ("a", "q")), run(("a", "q"))])


def test_one_run_fits_itself_whatever_it_repeats():
    assert same_units([run(("a", "p"), ("a", "q"))]) and same_units([])
    assert same_units([run(("a", "p"), ("a", "q"))] * 2)


@given(
    st.dictionaries(st.integers(0, 9), st.integers(0, 4)),
    st.dictionaries(st.integers(0, 9), st.integers(0, 4)),
)
def test_shared_images_grouped_alike_under_new_names_fit(first, second):
    """Names of the second run are its own, so only shared images tie: they fit exactly when each is
    grouped alike in both.
    """
    runs = [
        run(*((str(i), f"{k}{u}") for i, u in held.items()))
        for k, held in (("x", first), ("y", second))
    ]
    shared = [(first[i], second[i]) for i in first.keys() & second.keys()]
    alike = all((a == c) == (b == d) for a, b in shared for c, d in shared)
    assert same_units(runs) == alike
