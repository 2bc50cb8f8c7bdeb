"""Bases that are told a class: a table of vectors, one row for each class, with public names.

A class is a word of such a base, and its row is the word's vector. So class names of private sets
find a base's classes by name, a class that the base does not know gets a row of its own, taught as
a token of text is, and the null class of classifier-free guidance (Ho and Salimans, arXiv
2207.12598) is the empty prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..compute.device import on_host, to_device
from ..errors import ModelError, SfumatoError
from .interface import TextBase
from .weights import check_settings

# In a pipeline's index: row -> names, separated by commas, as DiT's has them. The null class has
# the empty name.
NAMES = "id2label"
SHOWN = 8  # names in a message


@dataclass
class ClassTable:
    """The rows of a class table and their names.

    Attributes:
        rows: One for each class, [N, ...], on the denoiser's device, without a gradient.
        names: For each row its names; none for the null class.
        null: Its row, or None: then the mean of all rows stands for it.
    """

    rows: torch.Tensor
    names: list[tuple[str, ...]]
    null: int | None

    def find(self, name: str) -> int | None:
        """The row of a class by one of its names; of those that differ by case, the exact one."""
        for wanted, said in ((name, str), (name.lower(), str.lower)):
            for row, known in enumerate(self.names):
                if wanted in map(said, known):
                    return row
        return None

    def place(self, name: str) -> int:
        """The row of a class.

        Raises:
            SfumatoError: There is none of this name.
        """
        row = self.find(name)
        if row is None:
            some = [known[0] for known in self.names if known]
            more = f" and {len(some) - SHOWN} more" if len(some) > SHOWN else ""
            raise SfumatoError(
                f"the base has no class {name[:60]!r} ({', '.join(some[:SHOWN])}{more}): a prompt"
                " is a class's name alone; --init CLASS=ONE-OF-THESE teaches a class from another"
            )
        return row

    def told(self, prompts: Sequence[str]) -> torch.Tensor:
        """Rows [n, ...] of names; of the empty prompt the null class's."""
        return torch.stack([self.rows[self.place(p)] if p else self.empty for p in prompts])

    @property
    def empty(self) -> torch.Tensor:
        """What stands for no class."""
        return self.rows.mean(0) if self.null is None else self.rows[self.null]

    def add(self, word: str, row: torch.Tensor) -> int:
        """Appends a class; the rows before it, the null class's too, keep their numbers.

        Raises:
            SfumatoError: There is one of this name, or it would be read as two.
        """
        if "," in word:
            raise SfumatoError(f"the placeholder {word!r}: a class's name holds no comma")
        if any(word in known for known in self.names):
            raise SfumatoError(f"the base already has a token {word}: choose another placeholder")
        self.rows = torch.cat([self.rows, row.to(self.rows).view(1, *self.rows.shape[1:])])
        self.names.append((word,))
        return len(self.names) - 1

    def written(self) -> dict[str, str]:
        """The names as an index holds them."""
        return {str(row): ", ".join(known) for row, known in enumerate(self.names)}


def read_names(file: Path, rows: int, null: int | None) -> tuple[list[tuple[str, ...]], int | None]:
    """Names of `rows` classes in a pipeline's index, and the null class's row.

    A row that nobody has named is `class3`, of row 3. One with the empty name is the null class.

    Args:
        file: The index.
        rows: How many.
        null: The null class's row where no name says so.

    Raises:
        ModelError: For names that are no texts, or of rows that are not there, twice, or not plain.
    """
    given = check_settings(file).get(NAMES, {})
    wrong = ModelError(
        f"{NAMES} in {file.name} does not name {rows} rows of the class table, each by texts of its"
        ' own, as {"0": "cat, kitten", "1": "dog"}: correct it, or leave it out'
    )
    if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
        raise wrong
    if not set(given) <= {str(row) for row in range(rows)}:
        raise wrong
    nobody = [int(row) for row, text in given.items() if not text.strip()]
    if len(nobody) > 1:
        raise wrong
    null = nobody[0] if nobody else null
    names: list[tuple[str, ...]] = []
    for row in range(rows):
        text = "" if row == null else given.get(str(row), f"class{row}")
        names.append(tuple(part for word in text.split(",") if (part := word.strip())))
    every = [name for known in names for name in known]
    if not all(name.isprintable() for name in every) or len(every) == 0:
        raise wrong
    if not all(known for row, known in enumerate(names) if row != null):
        raise wrong
    return _distinct(names), null


def _distinct(names: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Of a name that several rows have (ImageNet has two cranes), the first row's counts.

    A row that is left without any is called by its number, too.
    """
    seen: set[str] = set()
    found: list[tuple[str, ...]] = []
    for row, known in enumerate(names):
        own = tuple(dict.fromkeys(name for name in known if name not in seen))
        if known and not own:
            own = (f"class{row}",)
        seen.update(own)
        found.append(own)
    return found


class RowEncoder(nn.Module):
    """Rows of classes per record, with a trainable vector for each class that has a token.

    `tokens` is an Embedding [tokens, D] with the flattened rows; a class without one has its row as
    the base has it.
    """

    def __init__(self, table: ClassTable, prompts: Sequence[str], ids: Sequence[int | None]):
        super().__init__()
        self.row: torch.Tensor
        self.has: torch.Tensor
        self.fixed: torch.Tensor
        for prompt, i in zip(prompts, ids):
            if i is not None and prompt not in table.names[i]:
                table.place(prompt)  # says what a prompt is
        own = list(dict.fromkeys(i for i in ids if i is not None))
        self.tokens = nn.Embedding.from_pretrained(table.rows[own].flatten(1), freeze=False)
        where = table.rows.device
        has = torch.tensor([i is not None for i in ids])
        row = torch.tensor([0 if i is None else own.index(i) for i in ids])
        self.register_buffer("has", to_device(has, where), persistent=False)
        self.register_buffer("row", to_device(row, where), persistent=False)
        self.register_buffer("fixed", table.told(prompts).clone(), persistent=False)

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels int64 [B] -> rows [B, ...]."""
        fixed = self.fixed[labels]
        vectors = self.tokens(self.row[labels]).view_as(fixed)
        has = self.has[labels].view(-1, *[1] * (fixed.ndim - 1))
        return torch.where(has, vectors.to(fixed.dtype), fixed)


class ClassBase(TextBase):
    """A base with a class table; a family keeps it as `table` and puts it back when it saves."""

    table: ClassTable

    def condition(self, prompts: Sequence[str]) -> torch.Tensor:
        """Rows of the table by names of classes, [n, ...]."""
        return self.table.told(prompts)

    def rows_of(self, prompts: Sequence[str]) -> list[int]:
        """Rows of classes, which learn with the whole denoiser."""
        return [self.table.place(prompt) for prompt in prompts]

    @property
    def word_vectors(self) -> torch.Tensor:
        """The table [N, D], of rows flattened."""
        return on_host(self.table.rows.flatten(1))

    def token_ids(self, words: Sequence[str]) -> list[int]:
        """Rows of classes by name."""
        return [self.table.place(word) for word in words]

    def tokens_of(self, text: str) -> list[int]:
        """The row of the class of this name, if there is one."""
        row = self.table.find(text)
        return [] if row is None else [row]

    def has_token(self, word: str) -> bool:
        """Whether a class has exactly this name."""
        return any(word in known for known in self.table.names)

    def unknown_words(self, prompts: Sequence[str]) -> list[str]:
        """All words of a text that is no class's name."""
        unknown = [text for text in prompts if self.table.find(text) is None]
        return sorted({word for text in unknown for word in text.split()})

    def add_tokens(self, words: Sequence[str], initializers: Sequence[str | None]) -> list[int]:
        """Adds classes: each a copy of its initializer's row, or the mean of all rows."""
        return [
            self.table.add(
                word,
                self.table.rows[self.table.place(start)] if start else self.table.rows.mean(0),
            )
            for word, start in zip(words, initializers)
        ]

    def write_embeddings(self, ids: Sequence[int], rows: torch.Tensor) -> None:
        """Overwrites rows of the table."""
        table = self.table.rows.clone()  # conditions may still look at the old one
        table[list(ids)] = to_device(rows, table.device).view(-1, *table.shape[1:]).to(table)
        self.table.rows = table

    def token_encoder(self, prompts: Sequence[str], ids: Sequence[int | None]) -> RowEncoder:
        """Rows with one trainable vector per class that has an id."""
        return RowEncoder(self.table, prompts, ids)

    def vector_encoder(
        self, prompts: Sequence[str], placeholders: Sequence[str], vectors: int
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """Rows with a vector of its own for every record; a class has one."""
        if vectors != 1:
            raise SfumatoError(
                f"a {self.family} base tells a class by one vector: leave --num-vectors out"
            )
        for prompt, word in zip(prompts, placeholders):
            if prompt != word:
                self.table.place(prompt)
        shape = self.table.rows.shape[1:]

        def rows(own: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            return own[:, 0].reshape(len(label), *shape).to(self.table.rows.dtype)

        return rows

    def freeze_text(self) -> None:
        """Nothing: the table never takes a gradient itself."""

    def learn_token(self, word: str, vectors: torch.Tensor) -> None:
        """Adds a class with a row [1, D] of a token file.

        Raises:
            ValueError: It does not fit.
        """
        if vectors.shape != (1, self.table.rows[0].numel()) or not vectors.isfinite().all():
            raise ValueError(f"it holds no row of {self.table.rows[0].numel()} finite numbers")
        self.table.add(word, vectors)


def with_names(index: Mapping[str, Any], table: ClassTable) -> dict[str, Any]:
    """A pipeline's index with the names of its classes."""
    return {**index, NAMES: table.written()}
