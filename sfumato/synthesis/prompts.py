"""A file of public prompts: what synthesis is told, how often, and under which label."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..bases import Base, text_base
from ..errors import SfumatoError
from ..options.sharing import UNLABELLED

COLUMNS = ("prompt", "label", "count")
MOST_BYTES = 64 * 2**20
MOST_PROMPTS = 100_000
MOST_IMAGES = 100_000_000
FORM = "a CSV with the columns prompt and, if wanted, label and count, or JSON lines of these"


@dataclass(frozen=True)
class PublicPrompts:
    """Public prompts in the order of their file.

    Attributes:
        texts: One a row.
        labels: A class of the plan for each; None: it has none.
        counts: How many pictures of each.
        sha256: Of the file's bytes, hex.
    """

    texts: tuple[str, ...]
    labels: tuple[str | None, ...]
    counts: tuple[int, ...]
    sha256: str

    @property
    def n(self) -> int:
        """How many pictures they ask for together."""
        return sum(self.counts)

    def on(self, base: Base, classes: Sequence[str], prompts: Sequence[str]) -> PublicPrompts:
        """The same as a base reads them: `circle` is a class's `<circle>` where it knows no other.

        Args:
            base: What draws, with the tokens of the classes.
            classes: Public class names of the plan.
            prompts: Of each class.

        Raises:
            SfumatoError: It is told nothing, or cannot read one of them.
        """
        if base.info.condition == "none":
            raise SfumatoError("--prompts: this base draws without being told what: leave it out")
        texts = self.texts
        if base.info.condition == "class":
            own, known = dict(zip(classes, prompts)), text_base(base)
            texts = tuple(t if known.tokens_of(t) else own.get(t, t) for t in texts)
        base.check_prompts(list(dict.fromkeys(texts)))
        return replace(self, texts=texts)

    def names(self, classes: Sequence[str]) -> list[str]:
        """Names of what is drawn: the classes, and `UNLABELLED` where several could be meant."""
        needed = len(classes) > 1 and None in self.labels
        return [*classes, *([UNLABELLED] if needed else [])]

    def numbers(self, classes: Sequence[str]) -> list[int]:
        """Place in `names` of each prompt's label."""
        names = self.names(classes)
        # without a label: of the only class, or of none
        return [len(names) - 1 if label is None else names.index(label) for label in self.labels]


def read_prompts(path: str | Path, classes: Sequence[str]) -> PublicPrompts:
    """The prompts of a file, checked whole: nothing is drawn of one that has a fault.

    Args:
        path: .csv or .jsonl.
        classes: Public class names of the plan.

    Raises:
        SfumatoError: No such file, no prompts, a label that is no class, a count that is none;
            with the row where there is one.
    """
    place = Path(path)
    try:
        blob = place.read_bytes() if place.stat().st_size <= MOST_BYTES else None
    except OSError as error:
        raise SfumatoError(f"--prompts {place.name}: {error.strerror}: name {FORM}") from None
    if blob is None:
        raise SfumatoError(f"--prompts {place.name}: over {MOST_BYTES // 2**20} MB: split it")
    try:
        text = blob.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SfumatoError(f"--prompts {place.name}: not UTF-8: save it again as UTF-8") from None
    rows = _rows(text, place)
    if not rows:
        raise SfumatoError(f"--prompts {place.name}: it holds no prompt: write one a row")
    if len(rows) > MOST_PROMPTS:
        raise SfumatoError(f"--prompts {place.name}: over {MOST_PROMPTS:,} prompts: split it")
    known = [_checked(row, f"--prompts {place.name}, row {n}", classes) for n, row in rows]
    texts, labels, counts = zip(*known)
    if sum(counts) > MOST_IMAGES:
        raise SfumatoError(f"--prompts {place.name}: over {MOST_IMAGES:,} pictures: ask for fewer")
    return PublicPrompts(texts, labels, counts, hashlib.sha256(blob).hexdigest())


def _rows(text: str, place: Path) -> list[tuple[int, dict[str, Any]]]:
    """(number, row) of each row that is not empty."""
    if place.suffix.lower() == ".jsonl":
        return [
            _json_row(n, row, place) for n, row in enumerate(text.split("\n"), 1) if row.strip()
        ]
    if place.suffix.lower() != ".csv":
        raise SfumatoError(f"--prompts {place.name}: give {FORM} (.jsonl)")
    try:
        table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        header = tuple(table.fieldnames or ())
        if "prompt" not in header or not set(header) <= set(COLUMNS):
            raise SfumatoError(
                f"--prompts {place.name}: its first line names other columns: {FORM}"
            )
        rows = list(enumerate(table, 2))
    except csv.Error:
        raise SfumatoError(f"--prompts {place.name}: not a readable CSV: save it again") from None
    for number, row in rows:
        if None in row or None in row.values():
            raise SfumatoError(
                f"--prompts {place.name}, row {number}: other cells than the first line names: put"
                " a text with commas in double quotes"
            )
    return rows


def _json_row(number: int, line: str, place: Path) -> tuple[int, dict[str, Any]]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or "prompt" not in row or not set(row) <= set(COLUMNS):
        raise SfumatoError(
            f"--prompts {place.name}, row {number}: not an object of prompt and, if wanted, label"
            " and count"
        )
    return number, row


def _checked(
    row: dict[str, Any], where: str, classes: Sequence[str]
) -> tuple[str, str | None, int]:
    """(prompt, label, count) of a row."""
    text, label, count = row["prompt"], row.get("label") or None, row.get("count", 1)
    if not isinstance(text, str):
        raise SfumatoError(f"{where}: the prompt is no text")
    if any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in text):
        raise SfumatoError(f"{where}: control characters: a prompt is one line of plain text")
    if label is not None and label not in classes:
        raise SfumatoError(
            f"{where}: its label is no class of the plan: take one of {', '.join(classes)}, or"
            " leave it out"
        )
    if isinstance(count, str) and count.strip().isascii() and count.strip().isdigit():
        count = int(count.strip())
    elif count in ("", None):
        count = 1
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_IMAGES:
        raise SfumatoError(f"{where}: the count is a whole number of at least 1")
    return text, label, count
