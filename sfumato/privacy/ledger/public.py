"""The public inputs of a ledger: an image, a caption or a weight is private or public for ever.

Only HMACs under the ledger's key are kept. Public images and captions are in a table of their own,
in sets that rows of the chain name by a digest (`public:...` in PUBLIC rows, `caption:...` in
CHARGE rows); tensors that a run made are in its NOTE rows.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sfumato.privacy.ledger.chain import Chain
from sfumato.privacy.ledger.datasets import Manifest
from sfumato.privacy.ledger.entries import Charged, TakenAsPublic
from sfumato.privacy.ledger.faults import LedgerError
from sfumato.privacy.ledger.notes import Made

PUBLIC, CAPTION = "public:", "caption:"
PART = 500  # values in one query
EACH, MOST = 64, 1 << 17  # blocks noted of one tensor; of one model
# bytes of a block's code: among 2^40 pairs of different blocks two share one with probability 2^-32
SHORT = 9
# a caption of so many is found inside a longer text, too; shorter ones stand in ordinary prompts
WORDS = 3
LONGEST = 400  # words of a text that are looked through for captions from each word on


@dataclass(frozen=True)
class PublicInput:
    """Images that are taken as public.

    `decided`: what of the run they decided; `prints`, `files` as in `Ledger.identify`.
    """

    decided: str
    prints: tuple[bytes, ...]
    files: tuple[bytes, ...] | None = None


def plain_words(text: str) -> str:
    """Returns a text without case, width, composed forms, punctuation, invisible signs and spacing.

    Two spellings of one text have this in common.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join("".join(map(_shown, folded)).split())


def bare(text: str) -> str:
    """Returns only the letters and digits of a text, without case, accents, signs and spacing.

    The Turkish dotless i is an i.
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold()).replace(
        "\u0131", "i"
    )
    return "".join(sign for sign in folded if sign.isalnum())


def _parts(text: str) -> dict[str, set[str]]:
    """What a text may share with a caption, by kind of key: itself, and its runs of words."""
    words = plain_words(text).split()
    found: dict[str, set[str]] = {"caption": {" ".join(words)}, "bare": {bare(text)}, "part": set()}
    for start in range(len(words)):
        run = ""
        for end in range(start, min(len(words), start + LONGEST)):
            run += bare(words[end])
            found["part"].add(run)
            if end - start + 1 >= WORDS:  # as ledgers kept captions before they kept them bare
                found["caption"].add(" ".join(words[start : end + 1]))
    return {kind: texts - {""} for kind, texts in found.items()}


def copies(texts: Iterable[str], captions: Iterable[str], beside: Iterable[str] = ()) -> int:
    """Returns how many of the texts are, or contain, one of the captions.

    Args:
        texts: Public texts, such as prompts.
        captions: Private captions.
        beside: Public texts; a caption that contains no more than one of them does not count.
    """
    known = _kept(captions, beside)
    return sum(any(_parts(text)[kind] & known[kind] for kind in known) for text in texts)


def _kept(captions: Iterable[str], beside: Iterable[str]) -> dict[str, set[str]]:
    """Returns what is remembered of captions, by kind of key.

    As words, bare, and bare for longer texts that may contain them. Each line of a cell, too, for
    an image may have several captions.
    """
    public = {"", *map(bare, beside)}
    found: dict[str, set[str]] = {"caption": set(), "bare": set(), "part": set()}
    for text in {part for cell in set(captions) for part in (cell, *cell.splitlines())}:
        signs, words = bare(text), plain_words(text)
        if signs in public:
            continue
        found["caption"].add(words)
        found["bare"].add(signs)
        if len(words.split()) >= WORDS:
            found["part"].add(signs)
    return found


def _shown(sign: str) -> str:
    """Returns letters, digits and their marks; "" for an invisible sign; a space for the rest."""
    kind = unicodedata.category(sign)
    if kind == "Cf" or unicodedata.name(sign, "").startswith("VARIATION SELECTOR"):
        return ""
    return sign if sign.isalnum() or kind in ("Mn", "Mc") else " "


def set_id(keys: Iterable[bytes]) -> str:
    """The name of a set of keyed hashes: a digest of all of them."""
    return hashlib.sha256(b"".join(sorted(set(keys)))).hexdigest()[:32]


class PublicInputs:
    """What the runs of a chain were charged for or made, and what they took as public.

    `keyed`: `Ledger.keyed`.
    """

    def __init__(self, chain: Chain, keyed: Callable[[bytes], bytes]):
        self.chain, self.keyed = chain, keyed

    def named(self) -> set[str]:
        """Names of the sets that rows of the chain vouch for."""
        taken = {images.set for images in self.chain.entries(TakenAsPublic)}
        return taken | {own.captions for own in self.chain.entries(Charged) if own.captions}

    def verify(self) -> None:
        """Checks the table of public images and captions against the rows of the chain.

        Raises:
            LedgerError: It is not the table that the rows name.
        """
        held: dict[str, list[bytes]] = {}
        with self.chain.snapshot():
            table = self.chain.read("SELECT hmac, part FROM known", [])
        for key, part in table:
            held.setdefault(part, []).append(key)
        try:
            whole = set(held) == self.named() and all(
                set_id(v) == k.partition(":")[2] for k, v in held.items()
            )
        except (TypeError, AttributeError):
            whole = False
        if not whole:
            raise LedgerError(
                "the ledger's table of public images and captions is damaged: put the newest whole"
                " copy back"
            )

    def _held(
        self, keys: Iterable[bytes], table: str, column: str = "hmac", where: str = "1"
    ) -> int:
        keys = list(dict.fromkeys(keys))
        found: set[bytes] = set()
        for start in range(0, len(keys), PART):
            part = keys[start : start + PART]
            marks = ",".join("?" * len(part))
            query = f"SELECT DISTINCT {column} FROM {table} WHERE {column} IN ({marks}) AND {where}"
            found.update(key for (key,) in self.chain.read(query, part))
        return len(found)

    def charged(self, images: Manifest) -> int:
        """How many of these images, by pixels or file, are in a private data set of the ledger."""
        pictures = self._held(_pictures(images), "record")
        return max(pictures, self._held(_files(images), "trace", "file", "file != x''"))

    def taken(self, images: Manifest) -> int:
        """How many of these images were taken as public by a run."""
        where = f"part LIKE '{PUBLIC}%'"
        return max(self._held(keys(images), "known", where=where) for keys in (_pictures, _files))

    def caption_keys(self, texts: Iterable[str], beside: Iterable[str] = ()) -> list[bytes]:
        """Keyed hashes of captions, except those that add nothing to a text of `beside`."""
        return self._keys(_kept(texts, beside))

    def _keys(self, texts: Mapping[str, Iterable[str]]) -> list[bytes]:
        return [
            self.keyed(kind.encode() + b"\0" + text.encode("utf-8", "surrogatepass"))
            for kind in sorted(texts)
            for text in sorted(texts[kind])
        ]

    def captions(self, texts: Iterable[str], beside: Iterable[str] = ()) -> int:
        """Returns how many of these texts are, or contain, captions of a table that was charged.

        Words that are public (`beside`) are not counted.
        """
        public, where, found = set(map(bare, beside)), f"part LIKE '{CAPTION}%'", 0
        for text in texts:
            asked = {
                kind: {part for part in parts if bare(part) not in public}
                for kind, parts in _parts(text).items()
            }
            found += self._held(self._keys(asked), "known", where=where) > 0
        return found

    def tensor_key(self, content: bytes) -> str:
        """The key of a tensor's content hash in a NOTE row of earlier versions."""
        return self.keyed(b"tensor\0" + content).hex()[:32]

    def _block_key(self, content: bytes) -> bytes:
        return self.keyed(b"block\0" + content)[:SHORT]

    def block_codes(self, made: Iterable[Sequence[bytes]], most: int = MOST) -> str:
        """Returns what a NOTE row keeps of tensors that a run made: codes of their blocks' hashes.

        If a tensor has more than `EACH`, or all together more than `most`, the key decides which:
        those with the smallest codes. A tensor's second code comes after the first of all others.

        Args:
            made: Content hashes of each tensor's blocks.
            most: Codes in all.
        """
        ranked = [
            pair
            for blocks in made
            for pair in enumerate(heapq.nsmallest(EACH, set(map(self._block_key, blocks))))
        ]
        codes = {code for _, code in heapq.nsmallest(most, ranked)}
        return base64.b64encode(b"".join(sorted(codes))).decode("ascii")

    def makers(self, contents: Iterable[bytes]) -> dict[bytes, set[tuple[str, str]]]:
        """The (run, what) that made each content hash, for those made by runs of this ledger."""
        noted = self.chain.entered(Made)
        known = {self._block_key(content): content for content in contents} if noted else {}
        older = any(made.tensors for _, made in noted)
        whole = {self.tensor_key(content): content for content in contents} if older else {}
        found: dict[bytes, set[tuple[str, str]]] = {}
        for row, made in noted:
            codes = base64.b64decode(made.blocks or "")
            here = (known.get(codes[i : i + SHORT]) for i in range(0, len(codes), SHORT))
            for content in (*here, *(whole.get(key) for key in made.tensors or ())):
                if content is not None and made.made is not None:
                    found.setdefault(content, set()).add((row.run_id, made.made))
        return found

    def enter(self, run_id: str, inputs: Sequence[tuple[str, Manifest]]) -> None:
        """Appends a PUBLIC row for each (what they decided, images), and enters the images.

        Must be called inside a transaction.
        """
        for decided, images in inputs:
            keys = [*_pictures(images), *_files(images)]
            name, known = PUBLIC + set_id(keys), self.named()
            if name not in known:
                self._insert(keys, name)
            entry = TakenAsPublic(
                what="images",
                decided=decided,
                count=len(images.records),
                digest=set_id(keys),
                set=name,
            )
            self.chain.enter(entry, run_id)

    def enter_once(self, run_id: str, decided: str, images: Manifest) -> None:
        """The same for a use that may come again; inside a transaction."""
        digest = set_id([*_pictures(images), *_files(images)])
        taken = self.chain.entries(TakenAsPublic, run_id)
        if not any((images.digest, images.decided) == (digest, decided) for images in taken):
            self.enter(run_id, [(decided, images)])

    def enter_captions(self, keys: Sequence[bytes]) -> str | None:
        """Returns the set of a data set's captions, for its CHARGE row; None if there are none.

        Must be called inside a transaction.
        """
        if not keys:
            return None
        name = CAPTION + set_id(keys)
        if name not in self.named():
            self._insert(keys, name)
        return name

    def _insert(self, keys: Sequence[bytes], name: str) -> None:
        self.chain.db.executemany("INSERT INTO known VALUES (?, ?)", [(key, name) for key in keys])


def in_common(some: Manifest, others: Manifest) -> int:
    """How many pictures, or files, two sets have in common."""
    return max(len({*of(some)} & {*of(others)}) for of in (_pictures, _files))


def _pictures(images: Manifest) -> list[bytes]:
    return [key for key, _ in images.records]


def _files(images: Manifest) -> list[bytes]:
    return sorted({file for _, file, _ in images.traces} - {b""})
