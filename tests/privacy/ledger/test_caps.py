"""Caps: of all that were set on images that belong together the smallest wins, in every order; only
a raise that says so is one.
"""

from __future__ import annotations

import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.privacy.ledger.charges import OverBudget
from sfumato.privacy.ledger.faults import LedgerError
from sfumato.privacy.ledger.ledger import Ledger
from sfumato.privacy.ledger.runs import RunLedger

EVENTS = [{"type": "gaussian", "noise_multiplier": 2.0, "count": 1}]
TERMS = {"unit": "record", "relation": "zero-out", "delta": 1e-5}
IMAGES = [bytes([65 + i]) * 32 for i in range(4)]
SETS = st.sets(st.sampled_from(range(4)), min_size=1).map(sorted)
FIGURES = st.sampled_from([0.5, 1.0, 2.0, 3.0, 8.0])
COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.just("cap"), SETS, FIGURES),
        st.tuples(st.just("raise"), SETS, FIGURES),
        st.tuples(st.just("charge"), SETS, st.sampled_from([0.25, 1.0])),
        st.tuples(st.just("again"), SETS, FIGURES),
    ),
    max_size=12,
)
books = itertools.count()


class Model:
    """What must hold, said another way: a union of pictures, and the smallest cap that was ever set
    since the last raise on them.
    """

    def __init__(self):
        self.groups: list[tuple[set, list]] = []

    def of(self, images) -> tuple[set, list]:
        """The group of these pictures, which become one."""
        met = [group for group in self.groups if group[0] & set(images)]
        return set(images).union(*(g[0] for g in met)), [c for g in met for c in g[1]]

    def put(self, images, caps) -> None:
        self.groups = [group for group in self.groups if not group[0] & images] + [(images, caps)]


@settings(max_examples=60, deadline=None)
@given(commands=COMMANDS)
def test_the_smallest_cap_wins_in_every_order(tmp_path_factory, commands):
    folder = tmp_path_factory.mktemp("caps")
    book, model, spent = Ledger(folder / "ledger.sqlite"), Model(), []
    for number, (what, images, figure) in enumerate(commands):
        manifest = book.identify([IMAGES[i] for i in images])
        union, caps = model.of(images)
        now = min(caps, default=math.inf)
        paid = sum(cost for pictures, cost in spent if pictures & union)
        if what == "charge":
            RunLedger(book, str(number)).append("PLAN", {})
            body = {"events": EVENTS, "epsilon": figure, **TERMS}
            fits = paid + figure <= now
            try:
                book.charge(str(number), manifest, body, lambda c, r: sum(b["epsilon"] for b in c))
                assert fits, f"charged {paid + figure} over the cap {now}"
                spent.append((union, figure))
                model.put(union, caps)
            except OverBudget:
                assert not fits
        else:
            raising = what == "raise"
            try:
                book.set_cap(manifest, figure, raising=raising)
                assert raising or figure <= now, f"{now} was raised to {figure} by a plain cap"
                model.put(union, [figure] if raising else [*caps, figure])
            except OverBudget:
                assert not raising and figure > now
        for pictures, caps in model.groups:
            for i in pictures:
                known = book.group(book.identify([IMAGES[i]])).cap
                assert known == min(caps, default=None), (commands, i)
    book.close()
    again = Ledger(folder / "ledger.sqlite")
    again.verify_records()
    for pictures, caps in model.groups:
        assert again.group(again.identify([IMAGES[min(pictures)]])).cap == min(caps, default=None)
    again.close()


def test_a_join_and_a_larger_set_never_raise(tmp_path):
    """The orders of the issue by hand: A at 1, B at 5; a set that holds both; a cap on the larger
    set; a raise of B alone.
    """
    a, b, c = (tmp_path / name for name in "abc")
    for folder, order in ((a, "A B AB"), (b, "B A AB"), (c, "AB A B")):
        book = Ledger(folder / "ledger.sqlite")
        for name in order.split():
            manifest = book.identify([IMAGES["AB".index(x)] for x in name])
            try:
                book.set_cap(manifest, {"A": 1.0, "B": 5.0, "AB": 8.0}[name])
            except LedgerError as error:
                assert "smallest wins" in str(error)
        assert book.group(book.identify(IMAGES[:1])).cap == 1.0, order
    book = Ledger(tmp_path / "d" / "ledger.sqlite")
    book.set_cap(book.identify(IMAGES[:1]), 1.0)
    book.set_cap(book.identify(IMAGES[1:2]), 5.0)
    book.set_cap(book.identify(IMAGES[1:2]), 7.0, raising=True)
    assert book.group(book.identify(IMAGES[:2])).cap == 1.0, (
        "a raise of B is none of A, joined or not"
    )
