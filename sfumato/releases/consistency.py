"""Whether what a release states more than once, in words or tables, is the same everywhere.

Beside the stand-alone verifier's checks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from sfumato.privacy import events as dp_events
from sfumato.privacy.mechanisms.base_vote import NEAREST, SPACES
from sfumato.privacy.mechanisms.histogram import GRID as VOTE_GRID
from sfumato.privacy.mechanisms.histogram import VoteHistogram
from sfumato.privacy.mechanisms.mean import GRID
from sfumato.privacy.mechanisms.moments import GRID as MOMENTS_GRID
from sfumato.privacy.mechanisms.moments import Moments
from sfumato.releases.certificate import LARGE_DELTA, event_tree
from sfumato.releases.figures import PAGES
from sfumato.releases.mechanism import BASE_VOTE_RULES
from sfumato.releases.moments import check_moved, rule_in_words
from sfumato.releases.pages import CROISSANT, check_figures
from sfumato.releases.prices import GROUP_SIZES, NEIGHBOURS, group_sizes, record_groups
from sfumato.releases.statements import (
    KEY_KEPT,
    base_vote_facts,
    captions_facts,
    check_choice,
    check_looks,
    check_prompts,
    held_out_facts,
    stopped_facts,
)
from sfumato.releases.verify_privacy import RELATIONS, load, planned_steps, positive

Check = tuple[str, bool, str]


def checks(folder: Path) -> list[Check]:
    """(name, passed, detail) of every check.

    A file that cannot be read is a failed check, not an exception.
    """
    facts: dict[str, Any] = {}
    results: list[Check] = []
    parts: dict[str, Callable[[], Iterator[Check]] | partial[Iterator[Check]]] = {
        "consistency": lambda: check_facts(facts),
        "PRIVACY.md": lambda: check_page(facts, (folder / "PRIVACY.md").read_text("utf-8")),
        **{
            f"figures of {name}": partial(check_figures, folder, name)
            for name in (*PAGES, CROISSANT)
        },
    }
    for name, part in parts.items():
        try:
            facts = facts or load(folder)
            found = part(facts) if isinstance(part, partial) else part()
            results.extend((title, bool(passed), detail) for title, passed, detail in found)
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
        ) as error:
            results.append(
                (name, False, f"cannot be checked: {type(error).__name__}: {str(error)[:120]}")
            )
    return results


def check_facts(facts: dict[str, Any]) -> Iterator[Check]:
    """Checks the statement, the event tree, the queries and the table for groups of records.

    The queries are the probe with its choice and the sum of embeddings.
    """
    words = (
        f"({facts['epsilon']:g}, {facts['delta']:g})-differential privacy, unit of privacy:"
        f" {facts['unit']}, relation: "
    )
    named = facts["adjacency"]["dp_accounting"] == RELATIONS[facts["relation"]]
    yield (
        "statement",
        named and facts["statement"] == f"{words}{facts['relation']}.",
        "says the same figures",
    )
    small = facts["delta"] < 1 / facts["public_facts"]["n_units"]
    yield (
        "delta",
        small or LARGE_DELTA in facts["not_private"]["opt_ins"],
        "below 1 / n, or the operator says otherwise",
    )
    if "looks" in facts:
        kept = (KEY_KEPT in facts["not_private"]["opt_ins"]) == facts["ledger"]["key_kept"]
        yield "looks", check_looks(facts) and kept, facts["looks"]["statement"]
    if "stopped" in facts:
        said = facts["stopped"]
        right = said == stopped_facts(said["step"], planned_steps(facts["mechanism"]) or 0)
        yield "stopped", right, said["statement"]
    if "held_out" in facts["public_facts"]:
        apart = facts["public_facts"]["held_out"]
        right = positive(apart["share"]) < 1 and apart == held_out_facts(apart["share"])["held_out"]
        yield "held out", right, apart["statement"]
    if "captions" in facts["public_facts"]:
        told = facts["public_facts"]["captions"]
        yield "captions", told == captions_facts(True)["captions"], told["statement"]
    if "prompts_file" in facts["synthesis"]:
        yield "prompts", check_prompts(facts), facts["synthesis"]["prompts_file"]["statement"]
    if "class_moments" in facts["synthesis"]:
        told = facts["synthesis"]["class_moments"]
        yield "moved pictures", check_moved(facts), told.get("statement", "")
    for choice in facts.get("selections", []):
        yield "selection", check_choice(choice), choice["statement"]
    yield (
        "event tree",
        facts["event_tree"] == event_tree(facts["events"]),
        "the same events as in 'events'",
    )
    asked = facts["mechanism"]["one_shot"]
    sums = sum("divisors" in query or "rounds" in query for query in asked)
    if sums != (facts["mechanism"]["sampling_rate"] is None):
        yield (
            "aggregation",
            False,
            f"{sums} sums of embeddings or votes, not one or training",
        )
    for query in facts["mechanism"]["one_shot"]:
        if "divisors" in query:
            yield "aggregation", *_aggregation(query, facts)
        elif "rounds" in query:
            yield "votes", *_votes(query, facts)
        elif "bases" in query:
            yield "base vote", *_base_vote(query, facts)
        elif "class_moments" in query:
            yield "class moments", *_moments(query, facts)
        elif "sensitivity" in query:
            chosen = facts["selection"]
            ranked = sorted(zip(chosen["groups"], chosen["scores"]), key=lambda pair: -pair[1])[
                : query["kept"]
            ]
            enough = query["noise_stddev"] >= query["noise"] * positive(query["sensitivity"]) * (
                1 - 1e-12
            )
            best = sorted(chosen["selected"]) == sorted(group for group, _ in ranked)
            yield (
                "probe",
                enough and best,
                f"noise {query['noise_stddev']:.6g} on the scores; the best are chosen",
            )
    yield from _groups(facts)


def _groups(facts: dict[str, Any]) -> Iterator[Check]:
    """No figure of the table is too low, and no size is missing unless it is named as left out."""
    events, table = dp_events.from_json(facts["events"]), facts.get("k_table", {})
    if facts["unit"] != "record" or facts["relation"] not in NEIGHBOURS:
        if table:
            yield "k_table", False, "stands where it cannot be priced again"
        return
    named = tuple(k for k in GROUP_SIZES if str(k) in table)
    own = (
        record_groups(events, facts["delta"], facts["relation"], facts["epsilon"], named)
        if named
        else {}
    )
    low = [k for k, least in (own or {}).items() if table[k] < least - 1e-3]
    whole = set(table) == set(own or {}) and table.get("1", facts["epsilon"]) == facts["epsilon"]
    said = set(group_sizes(events)) <= set(named) or bool(facts.get("left_out"))
    if table or not said:
        yield (
            "k_table",
            whole and said and not low,
            f"{len(table)} group sizes, none priced too low",
        )


def _aggregation(query: dict[str, Any], facts: dict[str, Any]) -> tuple[bool, str]:
    """Checks the sum of embeddings.

    Its bound is the clip norm (1 for unit vectors), its noise is what is billed and stated, its
    divisors are numbers.
    """
    mechanism, classes = facts["mechanism"], facts["public_facts"]["classes"]
    bound, noise = (
        positive({"clip": mechanism["clip_norm"], "unit": 1.0}[query["rule"]]),
        positive(query["noise"]),
    )
    same = positive(query["sensitivity"]) == positive(mechanism["sensitivity"]) == bound
    billed = positive(mechanism["noise_multiplier"]) == noise
    enough = math.isclose(
        positive(query["noise_stddev"]), math.ceil(noise * GRID) / GRID * bound, rel_tol=1e-9
    )
    everyone = positive(query["sampling_rate"], 1) == 1
    kind = query["type"] == ("gaussian" if everyone else "poisson_gaussian")
    whole = kind and len(list(map(positive, query["divisors"]))) == len(classes)
    holds = same and billed and enough and whole and query["blocks"] == len(classes)
    return (
        holds,
        f"noise {query['noise_stddev']:.6g} on a sum to which one unit adds at most {bound:.6g}",
    )


def _votes(query: dict[str, Any], facts: dict[str, Any]) -> tuple[bool, str]:
    """Checks the rounds of votes: a unit's bound is 1, and the noise what is billed and stated."""
    mechanism, classes = facts["mechanism"], facts["public_facts"]["classes"]
    noise, bound = positive(query["noise"]), positive(query["sensitivity"])
    one = bound == positive(mechanism["sensitivity"]) == positive(mechanism["clip_norm"]) == 1
    billed = positive(mechanism["noise_multiplier"]) == noise
    exact = math.ceil(Fraction(noise) * VOTE_GRID) / VOTE_GRID
    enough = math.isclose(positive(query["noise_stddev"]), exact, rel_tol=1e-12)
    all_units = query["type"] == "gaussian" and query["sampling_rate"] == 1
    paid = positive(query["rounds"]) <= positive(query["count"], 1e6)
    table = VoteHistogram(*(query[field.name] for field in fields(VoteHistogram)))
    holds = one and billed and enough and all_units and paid and table.classes == len(classes)
    return holds, f"{query['count']} rounds, noise {query['noise_stddev']:.6g} on each sum of votes"


def _base_vote(query: dict[str, Any], facts: dict[str, Any]) -> tuple[bool, str]:
    """Checks the vote for a base: its bound, noise and rule, and that it is told in full."""
    noise, said = positive(query["noise"]), facts["base_vote"]
    exact = math.ceil(Fraction(noise) * VOTE_GRID) / VOTE_GRID
    enough = math.isclose(positive(query["noise_stddev"]), exact, rel_tol=1e-12)
    all_units = query["type"] == "gaussian" and query["sampling_rate"] == query["count"] == 1
    names, digests, shares = (
        [candidate[name] for candidate in said["candidates"]]
        for name in ("base", "digest", "share")
    )
    own = digests.index(facts["conditions"]["base_digest"])
    told = len(names) == query["bases"] and base_vote_facts(names, digests, shares, own) == said
    rule = query.get("rule", NEAREST)
    ruled = BASE_VOTE_RULES[rule] == query["rule_in_words"] and SPACES[rule] == query["features"]
    known = ruled and positive(query["pictures"]) >= 1
    holds = positive(query["sensitivity"]) == 1 and enough and all_units and told and known
    return holds, said["statement"]


def _moments(query: dict[str, Any], facts: dict[str, Any]) -> tuple[bool, str]:
    """Checks class moments: a unit's bound is 1, noise and rounds are what is billed."""
    noise, classes = positive(query["noise"]), facts["public_facts"]["classes"]
    exact = math.ceil(Fraction(noise) * MOMENTS_GRID) / MOMENTS_GRID
    enough = math.isclose(positive(query["noise_stddev"]), exact, rel_tol=1e-12)
    all_units = query["type"] == "gaussian" and query["sampling_rate"] == 1
    own = query["class_moments"]
    lists = {name: tuple(own[name]) for name in ("bounds", "divisors")}
    made = Moments(**{**own, **lists}, noise_multiplier=noise)
    holds = positive(query["sensitivity"]) == 1 and enough and all_units
    holds = holds and made.rounds == query["count"] and made.classes == len(classes)
    holds = holds and query["rule_in_words"] == rule_in_words(made)
    return holds, f"{query['count']} rounds, noise {query['noise_stddev']:.6g} of the bound on each"


def check_page(facts: dict[str, Any], text: str) -> Iterator[Check]:
    """Unit, relation and figures of PRIVACY.md, the page that is signed."""
    rows = [
        re.split(r"(?<!\\)\|", line.strip())[1:-1]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    rows = [[cell.strip() for cell in row] for row in rows if row[0].strip(" -")]
    said = {(row[0], len(row)): row[1:] for row in rows}
    unit, relation = said["Unit of privacy", 2][0].replace("\\", ""), said["Relation", 2][0]
    column = " ".join(facts["unit"].replace("\\", "").split())
    m, ledger, claim = facts["mechanism"], facts["ledger"], (facts["epsilon"], facts["delta"])
    summed = any("divisors" in query or "rounds" in query for query in m["one_shot"])
    noise = [m["noise_multiplier"]] if m["steps"] or summed else []
    total = (
        [ledger["total_epsilon"]]
        if len(ledger["charges"]) > 1 and ledger["total_epsilon"] is not None
        else []
    )
    figures = [
        ((*said["epsilon", 2], *said["delta", 2]), claim),
        *(
            (found, claim)
            for found in re.findall(r"\(([^()]*), ([^()]*)\)-differential", text) or [()]
        ),
        (re.findall(r"noise of (\S+) times", text), noise),
        (re.findall(r"cost epsilon (\S+) at", text), total),
    ]
    if table := facts.get("k_table", {}):
        figures += [
            (said[name, len(table) + 1], row)
            for name, row in (("k", table), ("epsilon", table.values()))
        ]
    figures += [
        (said[f"{100 * float(rate):g} %", 2], [100 * p])
        for rate, p in facts["attack_success"].items()
    ]
    agree = [
        len(texts) == len(values)
        and all(
            math.isclose(
                float(t.strip("> %").replace(",", "")),
                float(v),
                rel_tol=1e-4,
                abs_tol=0.0101 * ("%" in t),
            )
            for t, v in zip(texts, values)
        )
        for texts, values in figures
    ]
    whose = unit.startswith("one record ") if column == "record" else f"`{column}`" in unit
    yield (
        "PRIVACY.md",
        all(agree)
        and len(said) == len(rows)
        and whose
        and relation.startswith(facts["relation"] + ":"),
        "says unit, relation and figures of privacy.json, each once",
    )
    yield (
        "head",
        f"ledger head {ledger['head']}," in text,
        "PRIVACY.md names the ledger's head of privacy.json",
    )
