"""The words of these pages, of the command line and of a release, in plain sentences.

The one source: docs/glossary.md is made from it (`.ci/glossary > docs/glossary.md`), and every
release carries the words that its own pages use. No meaning holds a digit, so that `verify`, which
reads every figure on a page, finds none in an explanation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Word:
    """One entry.

    Attributes:
        term: As it is written, in its singular.
        meaning: In one to three sentences.
        released: Whether the pages of a release use it.
        found: Rule for its forms in a text, without regard to case; default: the term, or with an
            s.
    """

    term: str
    meaning: str
    released: bool = False
    found: str = ""

    @property
    def place(self) -> str:
        """The id of its entry on a page."""
        return "word-" + re.sub(r"[^a-z]+", "-", self.term.lower())

    @property
    def rule(self) -> str:
        """Regular expression of its forms."""
        return self.found or re.escape(self.term) + "s?"


def _word(term: str, meaning: str, found: str = "") -> Word:
    return Word(term, meaning, released=True, found=found)


WORDS = (
    Word(
        "adapter",
        "A small set of extra weights beside a frozen model, such as a LoRA. Only the adapter is"
        " trained and released.",
    ),
    _word(
        "add-remove",
        "A relation in which one world lacks a unit that the other has, so that the number of units"
        " is not public either.",
    ),
    Word("adjacency", "The same as *relation*."),
    _word(
        "anchor",
        "The public point from which a token is measured, such as the base's own vectors of the"
        " words that it starts from. A token that stays at its anchor has learned nothing.",
    ),
    _word(
        "audit",
        "A test on dummy data of whether the mechanisms do what the plan says. It can find errors;"
        " it cannot prove the guarantee.",
    ),
    _word(
        "base",
        "The public model that a run starts from. The images that it was trained on are not"
        " protected.",
        r"base models?|public base|\*base\*",
    ),
    Word(
        "cap",
        "The largest total epsilon that all runs on the same images may cost. A run that would"
        " exceed it is refused.",
    ),
    _word(
        "certificate",
        "`privacy.json` in a release: every figure of the guarantee, so that anybody can compute"
        " epsilon again.",
    ),
    Word(
        "charge",
        "The entry of a run's whole cost in the ledger, written before training reads an image. It"
        " is not taken back if the run fails.",
    ),
    _word(
        "clip norm",
        "The largest length that the gradient of one unit may have. A longer one is scaled down,"
        " so no unit can pull the model further than that.",
    ),
    Word(
        "config",
        "`sfumato.toml`: the options of a project, which every verb reads where it runs. Private.",
    ),
    _word(
        "controls",
        "Reference rows of an evaluation or a report, such as the public base alone. They show"
        " what the private images added.",
        "controls",
    ),
    _word(
        "cosine",
        "How far two directions agree: one if they are the same, zero if they have nothing in"
        " common.",
    ),
    _word(
        "delta",
        "A small probability, by default at most one in a hundred thousand, set aside for which"
        " the limit of epsilon need not hold.",
        "delta",
    ),
    Word(
        "differential privacy",
        "A mathematical limit on how much a result can depend on any one unit, whatever else an"
        " attacker knows.",
    ),
    Word(
        "DP-SGD",
        "Training in noisy steps: draw units at random, clip each unit's gradient, add noise to"
        " the sum.",
    ),
    Word(
        "dummy data",
        "Random images and numbers of the right shape. They are used to measure time and memory"
        " and to test the mechanisms, and they say nothing about private images.",
    ),
    _word(
        "epsilon",
        "The strength of the guarantee: one is strong, ten is weak. The smaller epsilon, the more"
        " noise.",
        "epsilon",
    ),
    Word(
        "held-out images",
        "Real images that no run was trained on, kept for testing; `sfumato split` sets them apart"
        " by unit.",
    ),
    _word(
        "ledger",
        "A file on the owner's machine that records what every run has cost, over all folders and"
        " names.",
        "ledger",
    ),
    _word(
        "look",
        "One time that exact figures of private images were computed for somebody to see. No"
        " epsilon covers it, and certificates count it.",
        r"looks?(?= at exact)",
    ),
    Word(
        "look-alikes",
        "Images that are nearly the same, such as two scans of one print. `inspect` finds many of"
        " them as near-copies; two look-alikes are two units unless a column says that they belong"
        " together. In `--init`, a public word that looks like what a new class is.",
    ),
    Word("LoRA", "Low-rank adaptation: an adapter made of two thin matrices per layer."),
    Word(
        "microbatch",
        "The units that go through the model in one pass. Its size changes time and memory, not"
        " the result.",
    ),
    _word(
        "mu",
        "One number for the whole curve of epsilon and delta: the guarantee is at least as strong"
        " as that of one sum under Gaussian noise of standard deviation one over mu.",
        r"mu(?!\w)",
    ),
    _word(
        "noise multiplier",
        "The noise of a step divided by the most that one unit can add. It is computed from"
        " epsilon, delta, steps and sampling rate.",
        "noise multiplier",
    ),
    _word(
        "PLD",
        "Privacy loss distribution: the exact way of adding up what the steps of a run cost. The"
        " accountant rounds against the owner, never in favour.",
        "PLD",
    ),
    Word(
        "Poisson sampling",
        "Each step draws every unit independently with the same probability, so the batch size"
        " varies. The accounting depends on it.",
    ),
    _word(
        "post-processing",
        "Anything that is computed from a private result alone, such as drawing more images from"
        " the adapted model. It costs no more privacy.",
    ),
    _word(
        "probe",
        "A first, noisy question to the private images about which layers are worth training"
        " (`--method saliency`). It is part of the cost.",
        "probe",
    ),
    _word("prompt", "The public text that the model is given for each class. It is published."),
    _word(
        "radius",
        "The most that the vectors of one image may differ from the anchor in an inversion: its"
        " clip norm. It comes from public words or images.",
        "radius|radii",
    ),
    _word(
        "range",
        "The stored values that become black and white. It is declared (`--range`, `--window`), or"
        " a rule of one picture alone; `plan` and `adapt` never read it off the set.",
    ),
    _word(
        "record",
        "One image with its label and caption. It is the unit unless `--unit` names a column.",
        r"(?<!owner's )records?",
    ),
    _word(
        "relation",
        'What "left out" means in the guarantee. Under zero-out, the default, everything of one'
        " unit is replaced by nothing and the number of units is public.",
        "relation",
    ),
    Word(
        "release",
        "The finished folder that may leave: images or a model, with certificate, privacy"
        " statement and verifier.",
    ),
    _word(
        "replace-one",
        "A relation in which a unit is not left out in the other world but exchanged for another,"
        " so that every step costs more.",
        "replace-one",
    ),
    Word(
        "residual",
        "What remains after something public is taken off. In `--target-modules`, the"
        " convolutions of a model's residual blocks; in an inversion, an image's vectors minus"
        " the anchor.",
    ),
    Word("run folder", "The output of `adapt`, marked PRIVATE. It never leaves."),
    _word(
        "sampling rate",
        "The probability with which a step draws each unit, independently of all others.",
        "sampling rate",
    ),
    _word(
        "slot",
        "The place of one record in the count. It stays even if the record cannot be used, so"
        " that the count says nothing about which records are good.",
    ),
    Word(
        "split",
        "A small private file that says, by a secret keyed hash of each unit's own value, which"
        " units are kept for testing.",
    ),
    Word(
        "stand-in",
        "Public images of the same kind as the private ones, named by the user, on which a"
        " question may be answered at no cost.",
    ),
    _word(
        "token",
        "A word with trainable vectors that the base's text encoder learns, such as `<artwork>`.",
    ),
    _word(
        "trained numbers",
        "How many numbers of the model the run may change. Noise is added to each of them.",
        "trained numbers",
    ),
    _word(
        "unit",
        "Who or what is protected: one record, or with `--unit` everything that shares one value of"
        " a column.",
        r"(?<!in )units?",
    ),
    Word(
        "zero slot",
        "A record that cannot be used, such as an unreadable file. It keeps its place in the count"
        " and contributes nothing.",
    ),
    _word(
        "zero-out",
        "The default relation, in which everything of one unit is replaced by nothing in the other"
        " world, and the number of units is public.",
        "zero-out",
    ),
)
_RULES = [(word, re.compile(rf"(?<![\w-])(?:{word.rule})(?![\w-])", re.I)) for word in WORDS]


def released() -> tuple[Word, ...]:
    """The words that a release explains."""
    return tuple(word for word in WORDS if word.released)


def definitions(words: Iterable[Word]) -> Markup:
    """A list of definitions, each with the id that `linked` points at."""
    rows = (
        Markup('<div id="{}"><dt>{}</dt><dd>{}</dd></div>\n').format(
            word.place, word.term, _marked(word.meaning)
        )
        for word in words
    )
    return Markup('<dl class="words">\n{}</dl>\n').format(Markup().join(rows))


def linked(
    text: str,
    page: str = "",
    known: Container[str] = (),
    note: Callable[[str], object] = lambda term: None,
) -> Markup:
    """The text, escaped, with the first form of each word a link to its meaning.

    Args:
        text: Plain text.
        page: Address of the page with the definitions; empty: this one.
        known: Terms that need no link any more.
        note: Called with each term that was linked.
    """
    hits = []
    for word, rule in _RULES:
        found = rule.search(text) if word.released and word.term not in known else None
        if found:
            hits.append((found.start(), -found.end(), word))
    parts, at = Markup(), 0
    for start, end, word in sorted(hits, key=lambda hit: hit[:2]):
        if start < at:
            continue
        link = Markup('<a class="word" href="{}#{}">{}</a>').format(
            page, word.place, text[start:-end]
        )
        parts += Markup("{}{}").format(text[at:start], link)
        at = -end
        note(word.term)
    return parts + Markup("{}").format(text[at:])


def _marked(text: str) -> Markup:
    """`code` and *emphasis* in HTML."""
    found = str(Markup("{}").format(text))
    found = re.sub(r"`([^`]*)`", r"<code>\1</code>", found)
    return Markup(re.sub(r"\*([^*]*)\*", r"<em>\1</em>", found))
