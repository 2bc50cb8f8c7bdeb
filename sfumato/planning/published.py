"""Everything that a release of a run would make public, on one list, and the yes to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..methods import Prepared
from ..options import Reading, Values
from ..privacy.ledger.public import PublicInput
from ..records import RecordSet

if TYPE_CHECKING:  # `inspect` asks what is published, without prices
    from ..privacy.plan import Plan

Listed = list[tuple[str, str]]
CAPTIONS = "trained: yes (that they are, not what they say, nor which images have one)"
Confirm = Callable[[Listed], bool]


def published(prepared: Prepared[Any]) -> Listed:
    """All that plan and releases say in public beside what is learned, word for word."""
    from ..releases import held_out_in_words  # here: options are read without prices

    plan, options = prepared.plan, prepared.options
    words, said = options["prompts"], options["statements"]
    given = [text for text in (*words["placeholders"], *words["initializers"]) if text]
    settings = {
        "method": plan.method,
        **options["method_options"],
        "epsilon": f"{plan.epsilon:g}",
        "delta": f"{plan.delta:.3g}",
        "relation": plan.relation,
        "noise multiplier": f"{plan.noise_multiplier:.4g}",
        "steps": plan.steps,
        "expected batch": f"{plan.expected_batch_size:g}",
        "draws": plan.noise_draws,
        "clip norm": f"{plan.clip_norm:.4g}",
        "learning rate": plan.learning_rate,
        "seed": options["seed"],
    }
    rows = [
        ("number of units", f"{plan.n_units:,}"),
        ("unit", plan.unit),
        ("held out", held_out_in_words(said["held_out"]) if "held_out" in said else ""),
        ("classes", ", ".join(plan.classes)),
        ("prompts", " | ".join(dict.fromkeys(plan.prompts))),
        ("tokens and their words", ", ".join(dict.fromkeys(given))),
        ("captions", CAPTIONS if plan.captions else ""),
        ("prompts of synthesis", f"SHA-256 {plan.prompts_file}" if plan.prompts_file else ""),
        ("base", _base(plan)),
        ("stored values", Values.kept(options).said),
        ("settings", ", ".join(f"{k} {v}" for k, v in settings.items() if v is not None)),
        ("public images", ", ".join(map(_said, prepared.public_inputs))),
        ("opted in to", "; ".join((*plan.opt_ins, *said["opt_ins"]))),
        ("how settings were chosen", " ".join(filter(None, (said["tuning"], said.get("timed"))))),
    ]
    return [(name, value) for name, value in rows if value]


def _base(plan: Plan) -> str:
    """Its name; where private images choose it, those of all that they choose among."""
    if plan.base_vote is None:
        return Path(plan.base).name
    names = ", ".join(Path(name).name for name in plan.base_vote.bases)
    return f"one of {names}, with the noisy share of votes for each"


def _said(images: PublicInput) -> str:
    return f"{len(images.prints):,} that decided {images.decided}"


def asks_yes(records: RecordSet, reading: Reading) -> bool:
    """Whether `adapt` asks for a yes before class words that were read off the data go public."""
    return records.classes_found and not records.confirmed and reading.yes_public is False


def require_yes(
    prepared: Prepared[Any], records: RecordSet, reading: Reading, confirm: Confirm | None
) -> None:
    """Class words that were read off the data become public only with a yes.

    It is `--yes-public`, a list of one's own, or the answer of `confirm`.

    Raises:
        DataError: Nobody said yes.
    """
    require_yes_to(published(prepared), records, reading, confirm)


def require_yes_to(
    listed: Listed, records: RecordSet, reading: Reading, confirm: Confirm | None
) -> None:
    """The same, of a list of all that would become public.

    Raises:
        DataError: Nobody said yes.
    """
    require_asking(records, reading, confirm)
    if confirm is None or not asks_yes(records, reading) or confirm(listed):
        return
    raise DataError("what would become public was not confirmed, so nothing is charged")


def require_asking(records: RecordSet, reading: Reading, confirm: Confirm | None) -> None:
    """Stop at once where a yes is needed and nobody can be asked for it.

    Raises:
        DataError: Class words were read off the data, and there is no `confirm`.
    """
    if confirm is not None or not asks_yes(records, reading):
        return
    names = ", ".join(map(repr, records.classes))
    raise DataError(
        f"the class names were read off the data and every release would publish them ({names}):"
        " say that they are public with --yes-public, or declare a list of your own with --classes"
        " (`sfumato plan` lists all that becomes public)"
    )
