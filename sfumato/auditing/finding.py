"""What a check found: one row of the report, and how one is written down while a check runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Finding:
    """One check on one subject.

    Attributes:
        numbers: How many numbers or replays it rests on.
        alpha: How often correct code would fail it (0: no statistics).
        sees: The smallest deviation it would have seen.
        detail: What went wrong, empty if nothing did.
    """

    check: str
    subject: str
    passed: bool
    numbers: int
    alpha: float
    sees: str
    detail: str
    seconds: float = 0.0

    def to_json(self) -> dict:
        """A JSON object with all fields but the time, so that equal audits are equal files."""
        body = asdict(self)
        del body["seconds"]
        return body


@dataclass
class Notes:
    """Collects what is wrong on the way; the first few sentences are kept."""

    wrong: list[str] = field(default_factory=list)
    numbers: int = 0

    def expect(self, holds: bool, sentence: str) -> bool:
        """Note `sentence` unless `holds`."""
        if not holds:
            self.wrong.append(sentence)
        return bool(holds)

    def finding(self, check: str, subject: str, *, sees: str, alpha: float = 0.0) -> Finding:
        """The row that follows from the notes."""
        more = f" (and {len(self.wrong) - 3} more)" if len(self.wrong) > 3 else ""
        return Finding(
            check,
            subject,
            not self.wrong,
            self.numbers,
            alpha,
            sees,
            "; ".join(self.wrong[:3]) + more,
        )
