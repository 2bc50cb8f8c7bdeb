"""Charges and caps: cap check and charge in one transaction, no refunds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from sfumato.privacy.ledger.chain import Chain
from sfumato.privacy.ledger.datasets import SAME, DataSets, Group, Manifest, inherited_charges
from sfumato.privacy.ledger.entries import Capped
from sfumato.privacy.ledger.faults import LedgerError
from sfumato.privacy.ledger.order import require_before
from sfumato.privacy.ledger.public import PublicInputs, in_common
from sfumato.privacy.ledger.rows import Row

Price = Callable[[list[dict[str, Any]], bool], float]


class OverBudget(LedgerError):
    """A charge that the cap, the charges before it or the retry reserve do not allow."""


class Charges:
    """The charges of a chain, on images of its data sets, beside what was taken as public."""

    def __init__(self, chain: Chain, datasets: DataSets, public: PublicInputs):
        self.chain, self.datasets, self.public = chain, datasets, public

    def verify_records(self) -> None:
        """LedgerError unless the table of hashed images is the one that the chain names."""
        self.datasets.verify()
        self.public.verify()

    def charge(
        self,
        run_id: str,
        manifest: Manifest,
        body: Mapping[str, Any],
        price: Price,
        *,
        public: Sequence[tuple[str, Manifest]] = (),
        captions: Sequence[bytes] = (),
    ) -> Row:
        """Charges a whole planned run, durably, or raises OverBudget and writes nothing.

        Args:
            run_id: The run, which is charged once.
            manifest: Its private images and units.
            body: Events (in JSON form), unit, relation, delta, epsilon of the run alone, and more
                to keep
                (`entries.Charge`).
            price: `price(charges, released)`: epsilon of all these bodies composed; `released` is
                true
                if later ones were chosen after a release.
            public: What the run takes as public, and what that decides, one PUBLIC row each.
            captions: `PublicInputs.caption_keys` of the images' captions.

        Returns:
            The CHARGE row.

        Raises:
            ValueError: The body lists no events.
            LedgerError: The run is charged already.
        """
        events = body.get("events")
        listed = cast(list[Any], events) if isinstance(events, list) else []
        if not (listed and all(isinstance(event, dict) for event in listed)):
            raise ValueError("a CHARGE row lists its events: give events.to_json(plan.events)")
        self.verify_records()  # a damaged table would forget images that were charged
        while True:
            with self.chain.snapshot():
                overlapping = self.datasets.overlapping(manifest)
                seen = self.datasets.group(overlapping)
            total = self.fitting(seen, {**body, "listing": manifest.listing}, price, manifest)
            # Pricing takes seconds, so it is done outside; inside, it must still be about the same
            # group.
            with self.chain.transaction():
                require_before(self.chain, run_id, "CHARGE")
                if self.chain.of("CHARGE", run_id):
                    raise LedgerError("this run is charged already: a run is charged once")
                if (self.datasets.overlapping(manifest), self.datasets.group(overlapping)) != (
                    overlapping,
                    seen,
                ):
                    continue
                self._require_two_sides(manifest, [images for _, images in public])
                self.datasets.open(manifest, overlapping)
                self.public.enter(run_id, public)
                facts = {
                    "dataset": manifest.id,
                    "listing": manifest.listing,
                    "cap": seen.cap,
                    "total": total,
                }
                facts["captions"] = self.public.enter_captions(captions)
                return self.chain.append("CHARGE", run_id, {**body, **facts})

    def _require_two_sides(self, manifest: Manifest, public: Sequence[Manifest]) -> None:
        """Refuses an image that would be private and public at once.

        Raises:
            OverBudget: An image was taken as public and has no protection any more.
        """
        self.require_untaken(manifest)
        both = sum(max(self.public.charged(own), in_common(own, manifest)) for own in public)
        if both:
            raise OverBudget(
                f"{both} images that are taken as public were charged as private: leave them out of"
                " --public-data"
            )

    def require_untaken(self, manifest: Manifest) -> None:
        """Refuses images that an earlier run took as public.

        Raises:
            OverBudget: Exact functions of some of these images have been released.
        """
        if both := self.public.taken(manifest):
            raise OverBudget(
                f"{both} of these images were taken as public before (--public-data,"
                " --public-test), and nothing can protect them any more: leave them out"
            )

    def fitting(
        self, group: Group, body: dict[str, Any], price: Price, manifest: Manifest
    ) -> float | None:
        """Returns what the group will have cost, or None if that cannot be stated or is not finite.

        Raises:
            OverBudget: The charge must not be made.
        """
        own = [charge for charge in group.charges if "ancestor" not in charge]
        for name in SAME if own else ():
            if len({charge[name] for charge in own}) > 1:
                raise OverBudget(
                    f"these images belong together with runs of different {name}, whose costs"
                    " cannot be added, so nothing more can be charged on them"
                )
            if {charge[name] for charge in own} != {body[name]}:
                raise OverBudget(
                    f"these images were charged before with {name} {own[0][name]!r}, and costs with"
                    f" different ones cannot be added: give the same {name}"
                )
        inherited = inherited_charges([*own, body])
        charges = [*own, body, *inherited]
        if unclear := self.datasets.unclear(charges, manifest):
            if group.cap is not None:
                raise OverBudget(
                    f"the cap on these images is epsilon {group.cap:g}, and {unclear}, so no total"
                    " can be held against it: give images and unit column as in the earlier runs"
                )
            return None
        total = (
            price(charges, group.released or bool(inherited))
            if len(charges) > 1
            else body["epsilon"]
        )
        if group.cap is not None and not total <= group.cap:
            raise OverBudget(
                f"the cap on these images is epsilon {group.cap:g}; {len(charges) - 1} earlier"
                f" {'charge' if len(charges) == 2 else 'charges'} and this run come to {total:.3f}:"
                " plan a smaller --epsilon, or raise the cap (`sfumato ledger cap IMAGES EPSILON"
                " --raise`, recorded)"
            )
        return total if math.isfinite(total) else None

    def set_cap(self, manifest: Manifest, epsilon: float, *, raising: bool = False) -> Row:
        """Caps what these images, and all sets that share one with them, may cost.

        Args:
            manifest: The images.
            epsilon: The cap, finite and > 0.
            raising: Must be true for a higher cap than the one they have.

        Returns:
            The CAP row.

        Raises:
            ValueError: `epsilon` is not a finite number > 0.
            OverBudget: The cap would rise, and `raising` is false.
        """
        if (
            isinstance(epsilon, bool)
            or not isinstance(epsilon, (int, float))
            or not 0 < epsilon < math.inf
        ):
            raise ValueError("a cap is a finite epsilon above 0")
        self.verify_records()
        with self.chain.transaction():
            overlapping = self.datasets.overlapping(manifest)
            group = self.datasets.group(overlapping)
            if group.cap is not None and epsilon > group.cap and not raising:
                raise OverBudget(
                    f"the cap on these images, or on some of them, is epsilon {group.cap:g}, and"
                    " the smallest wins: to raise it for all sets that share an image with them,"
                    " say --raise, which is recorded"
                )
            self.datasets.open(manifest, overlapping)
            datasets = sorted({*group.datasets, manifest.id})
            capped = Capped(
                datasets=datasets, before=group.cap, epsilon=float(epsilon), raising=raising
            )
            return self.chain.enter(capped)
