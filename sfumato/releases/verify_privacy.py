"""Check a release on its own: file hashes, and the price of the privacy claim computed again from privacy.json.

    pip install dp-accounting && python verify_privacy.py [folder]

Needs dp_accounting and the standard library only, works offline, changes nothing. Exit code 0: every check passed.
What it cannot see: whether the program that trained the model really did what privacy.json says it did.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections import Counter
from pathlib import Path

import dp_accounting as dp
from dp_accounting.pld import PLDAccountant

K_TABLE = "2", "3", "5", "10"
LARGE_DELTA = "delta is not below 1/n"
RELATIONS = {"zero-out": "REPLACE_SPECIAL", "add-remove": "ADD_OR_REMOVE_ONE", "replace-one": "REPLACE_ONE"}


def positive(value, most=math.inf):
    """The number, or ValueError when it is not a finite number in (0, most]."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (known and math.isfinite(value) and 0 < value <= most):
        raise ValueError(f"{value!r} is not a number in (0, {most}]")
    return value


def once(pairs):
    """A JSON object, or ValueError where a name stands twice: two readers could see two values."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return dict(pairs)


def number(text):
    """A number of privacy.json; ValueError for NaN and infinities, in any spelling (no comparison with NaN fails)."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def load(folder):
    """privacy.json, read so that everybody reads the same."""
    return json.loads(
        (folder / "privacy.json").read_text("utf-8"), object_pairs_hook=once, parse_constant=number, parse_float=number
    )


def price(facts, events, k=1, grid=None):
    """A dp_accounting PLD accountant which has composed these events, for k records that belong together."""
    grid = positive(grid or facts["accountant"]["grid"], 2e-2)
    # About as many points as the accountant will need: a forged certificate must not fill the memory.
    mean = 0.0
    for event in events:
        loss = (k / positive(event.get("noise_multiplier", 1 / positive(event.get("epsilon", 1))))) ** 2
        share = min(positive(event.get("sampling_rate", 1), 1) ** 2 * math.expm1(min(loss, 600)), loss)
        mean += positive(event.get("steps", event.get("count", 1))) * share / 2
    if len(events) > 1000 or (mean + 9 * math.sqrt(mean)) / grid > 3e6 or grid < 1e-5:
        raise ValueError("costs that no run has")
    accountant = PLDAccountant(getattr(dp.NeighboringRelation, RELATIONS[facts["relation"]]), grid)
    for event in events:
        kind, count = event["type"], event.get("steps", event.get("count", 1))
        if kind == "laplace":
            one = dp.LaplaceDpEvent(1 / (k * positive(event["epsilon"])))
        else:
            one = dp.GaussianDpEvent(positive(event["noise_multiplier"]) / k)
        if kind == "poisson_gaussian" and k == 1:
            one = dp.PoissonSampledDpEvent(positive(event["sampling_rate"], 1), one)
        elif kind == "poisson_gaussian":  # a draw holds Binomial(k, q) of the k records
            q = positive(event["sampling_rate"], 1)
            shares = [math.comb(k, i) * q**i * (1 - q) ** (k - i) for i in range(k + 1)]
            one = dp.dp_event.MixtureOfGaussiansDpEvent(event["noise_multiplier"], list(range(k + 1)), shares)
        elif kind not in ("gaussian", "laplace"):
            raise ValueError(f"unknown event type {kind!r}")
        if int(positive(count)) != count:
            raise ValueError(f"{count!r} is not a whole number")
        accountant.compose(one, int(count))
    return accountant


def total_bound(m):
    """The most that one unit adds to the sum: with groups the root of their bounds' squares, because it can fill all of them."""
    if m["clipping"] in ("flat", "normalised"):
        return positive(m["clip_norm"] if m["clipping"] == "flat" else 1.0)
    if m["clipping"] not in ("per-group", "per-group-normalised"):
        raise ValueError(f"unknown clipping {m['clipping']!r}")
    return math.sqrt(positive(m["clip_groups"])) * positive(m["clip_norm_per_group"])


def tail(x):
    return math.erfc(-x / math.sqrt(2)) / 2


def delta_of_mu(mu, epsilon):
    """delta of one Gaussian mechanism with separation mu (Dong, Roth, Su; arXiv 1905.02383)."""
    return tail(mu / 2 - epsilon / mu) - math.exp(min(epsilon, 700)) * tail(-mu / 2 - epsilon / mu)


def found_at_most(rate, epsilon, delta):
    """Bound on true positives at false positive rate `rate`, from one point of the curve (Kairouz, Oh, Viswanath)."""
    return min(math.exp(min(epsilon, 700)) * rate + delta, 1 - math.exp(-epsilon) * (1 - delta - rate))


def check_privacy(facts):
    """Every check that needs privacy.json alone, as a list of (name, passed, detail)."""
    m = facts["mechanism"]
    if max(len(facts[name]) for name in ("curve", "events", "attack_success")) > 1000:
        raise ValueError("a list longer than any certificate's")
    named = Counter({("poisson_gaussian", m["sampling_rate"], m["noise_multiplier"]): m["billed_steps"] or 0})
    for query in m["one_shot"]:
        rate = query["sampling_rate"] if query["type"] == "poisson_gaussian" else None
        named[query["type"], rate, query["noise"]] += 1
    billed = Counter()
    for event in facts["events"]:
        noise = event.get("noise_multiplier", event.get("epsilon"))
        billed[event["type"], event.get("sampling_rate"), noise] += int(event.get("steps", event.get("count", 1)))
    paid = +named == +billed and (m["billed_steps"] or 0) >= (m["steps"] or 0)
    said = f"{m['billed_steps']} steps billed, {len(m['one_shot'])} one-shot queries; rate and noise as in 'mechanism'"
    yield "events", paid, said
    if m["sampling_rate"] is not None:
        n, batch = facts["public_facts"]["n_units"], m["expected_batch_size"]
        sums = math.isclose(n * m["sampling_rate"], batch, rel_tol=1e-6) and math.isclose(
            m["noise_stddev"], m["noise_multiplier"] * m["sensitivity"], rel_tol=1e-6
        )
        yield "sums", sums, f"{n} units x rate = expected batch {batch}; noise = multiplier x sensitivity"
        bound = total_bound(m)
        clips = math.isclose(m["sensitivity"], bound, rel_tol=1e-9)
        yield "clip", clips, f"{m['clipping']}: one unit adds at most {bound:.6g} in all"
    yield "event tree", facts["event_tree"] == tree(facts["events"]), "the same events as in 'events'"
    for query in m["one_shot"]:
        if "sensitivity" in query:
            chosen = facts["selection"]
            ranked = sorted(zip(chosen["groups"], chosen["scores"]), key=lambda pair: -pair[1])[: query["kept"]]
            enough = query["noise_stddev"] >= query["noise"] * positive(query["sensitivity"]) * (1 - 1e-12)
            yield (
                "probe",
                enough and sorted(chosen["selected"]) == sorted(group for group, _ in ranked),
                f"noise {query['noise_stddev']:.6g} on scores of sensitivity {query['sensitivity']:.6g}; the best chosen",
            )
    delta, stated = positive(facts["delta"], 0.5), facts["epsilon"]
    allowed = delta < 1 / facts["public_facts"]["n_units"] or LARGE_DELTA in facts["not_private"]["opt_ins"]
    yield "delta", allowed, "below 1 / n, or the operator says that it is not"
    accountant = price(facts, facts["events"])
    epsilon = accountant.get_epsilon(delta)
    yield (
        "epsilon",
        -1e-7 <= stated - epsilon <= 1e-3 + 1e-7,
        f"stated {stated}, priced again {epsilon:.6f} at delta {delta} ({facts['relation']}); rounded up",
    )
    words = f"({stated:g}, {delta:g})-differential privacy, unit of privacy: {facts['unit']}, relation: "
    named = facts["adjacency"]["dp_accounting"] == RELATIONS[facts["relation"]]
    yield "statement", named and facts["statement"] == f"{words}{facts['relation']}.", "says the same figures"
    table, low = facts.get("k_table", {}), []
    if facts["relation"] != "replace-one" and facts["unit"] == "record":
        noise = min(event.get("noise_multiplier", 1.0) for event in facts["events"])
        for k in map(int, K_TABLE):
            grid = min(max((k**2 / (2 * noise**2) + 6 * k / noise) / 1500, 1e-3), 2e-2)
            if table[str(k)] < price(facts, facts["events"], k, grid).get_epsilon(delta) - 1e-6:
                low.append(k)
        whole = table["1"] == stated and set(table) == {"1", *K_TABLE}
        yield "k_table", whole and not low, f"{len(table)} group sizes, none priced too low"
    elif table:
        yield "k_table", False, "stands where it cannot be priced again"
    charges, total = facts["ledger"]["charges"], facts["ledger"]["total_epsilon"]
    own = any(c["events"] == facts["events"] and abs(c["epsilon"] - stated) <= 1e-3 + 1e-7 for c in charges)
    together = epsilon
    if len(charges) > 1:
        together = price(facts, [event for charge in charges for event in charge["events"]]).get_epsilon(delta)
    bounded = own and (total is None or total >= together - 1e-7)
    yield "all runs", bounded, f"{len(charges)} on overlapping images, together epsilon {total}"
    points = [(e, d, accountant.get_delta(e)) for e, d in facts["curve"]]
    high = len(points) >= 2 and all(d >= true * (1 - 1e-6) - 1e-13 for _, d, true in points)
    yield "curve", high, f"{len(points)} (epsilon, delta) points, none below the mechanism's"
    mu, floor = positive(facts["mu"]["value"]), positive(facts["mu"]["delta_floor"], max(delta, 1e-9))
    # At points of our own: the stated ones could all lie where the curve says nothing.
    last = accountant.get_epsilon(floor)
    ours = [(last * i / 63, accountant.get_delta(last * i / 63)) for i in range(64)]
    ours += [(e, true * (1 - 1e-6) / (1 - 1e-3)) for e, _, true in points if true >= floor]
    covers = all(delta_of_mu(mu, e) >= true * (1 - 1e-3) - 1e-13 for e, true in ours)
    yield "mu", covers, f"Gaussian mu {mu} covers the curve down to delta {floor}"
    for rate, found in facts["attack_success"].items():
        f, pairs = float(rate), [(e, d) for e, _, d in points]
        best = min(range(len(pairs)), key=lambda i: found_at_most(f, *pairs[i]))
        low, high = pairs[max(best - 1, 0)][0], pairs[min(best + 1, len(pairs) - 1)][0]
        near = [low + (high - low) * i / 100 for i in range(101)]
        bound = min(found_at_most(f, e, accountant.get_delta(e)) for e in near)
        most = f"at most {found:.2%} of members found when {f:.1%} of others are accused wrongly"
        yield f"attack {rate}", f <= found <= 1 and found >= 0.999 * min(bound, 1), most


def check_page(facts, text):
    """Unit, relation and figures of PRIVACY.md, the page that is signed, as (name, passed, detail)."""
    rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in row] for row in rows if row[0].strip(" -")]
    said = {(row[0], len(row)): row[1:] for row in rows}
    unit, relation = said["Unit of privacy", 2][0].replace("\\", ""), said["Relation", 2][0]
    column = " ".join(facts["unit"].replace("\\", "").split())
    m, ledger, claim = facts["mechanism"], facts["ledger"], (facts["epsilon"], facts["delta"])
    noise = [m["noise_multiplier"]] if m["steps"] else []
    total = [ledger["total_epsilon"]] if len(ledger["charges"]) > 1 and ledger["total_epsilon"] is not None else []
    figures = [
        ((*said["epsilon", 2], *said["delta", 2]), claim),
        *((found, claim) for found in re.findall(r"\(([^()]*), ([^()]*)\)-differential", text) or [()]),
        (re.findall(r"noise of (\S+) times", text), noise),
        (re.findall(r"cost epsilon (\S+) at", text), total),
    ]
    if table := facts.get("k_table", {}):
        figures += [(said[name, len(table) + 1], row) for name, row in (("k", table), ("epsilon", table.values()))]
    figures += [(said[f"{100 * float(rate):g} %", 2], [100 * p]) for rate, p in facts["attack_success"].items()]
    agree = [
        len(texts) == len(values)
        and all(
            math.isclose(float(t.strip(" %").replace(",", "")), float(v), rel_tol=1e-4, abs_tol=0.0101 * ("%" in t))
            for t, v in zip(texts, values)
        )
        for texts, values in figures
    ]
    whose = unit.startswith("one record ") if column == "record" else f"`{column}`" in unit
    yield (
        "PRIVACY.md",
        all(agree) and len(said) == len(rows) and whose and relation.startswith(facts["relation"] + ":"),
        "says unit, relation and figures of privacy.json, each once",
    )
    yield "head", f"ledger head {ledger['head']}," in text, "PRIVACY.md names the ledger's head of privacy.json"


def tree(events):
    """The events as dp_accounting nests them."""
    leaves = []
    for event in events:
        leaf = {"event": "Laplace" if event["type"] == "laplace" else "Gaussian"}
        leaf |= {name: event[name] for name in ("noise_multiplier", "epsilon") if name in event}
        if event["type"] == "poisson_gaussian":
            leaf = {"event": "PoissonSampled", "sampling_probability": event["sampling_rate"], "of": leaf}
        leaves.append({"event": "SelfComposed", "count": event.get("steps", event.get("count", 1)), "of": leaf})
    return {"event": "Composed", "of": leaves}


def check_files(folder):
    """Hashes, and that nothing is missing or extra, as (name, passed, detail)."""
    listed = {}
    for line in (folder / "SHA256SUMS").read_text("utf-8").splitlines():
        digest, _, name = line.partition("  ")
        if listed.setdefault(name, digest) != digest:
            raise ValueError("SHA256SUMS gives two hashes of one file")
    found, odd = {}, []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            odd.append(name)
        elif path.is_file() and name != "SHA256SUMS":
            with path.open("rb") as stream:
                digest = hashlib.sha256()
                while block := stream.read(1 << 20):
                    digest.update(block)
            found[name] = digest.hexdigest()
    strange = sorted(set(found) - set(listed)) + odd
    yield "no extra file", not strange, f"{len(found)} files; not listed: {', '.join(strange[:3]) or 'none'}"
    missing = sorted(set(listed) - set(found))
    yield "no missing file", not missing, "all present" if not missing else "missing: " + ", ".join(missing[:3])
    bad = sorted(name for name in found if name in listed and found[name] != listed[name])
    yield "hashes", not bad, "all match SHA256SUMS" if not bad else "changed: " + ", ".join(bad[:3])
    stated = load(folder)["artefacts"]
    found.pop("privacy.json", None)
    yield "artefacts", stated == found, f"privacy.json names {len(stated)} files and their hashes"


def checks(folder):
    """All checks of a release folder; unreadable files and missing fields become failed checks, not tracebacks."""
    results = []
    for part, name in (
        (lambda: check_files(folder), "files"),
        (lambda: check_privacy(load(folder)), "privacy.json"),
        (lambda: check_page(load(folder), (folder / "PRIVACY.md").read_text("utf-8")), "PRIVACY.md"),
    ):
        try:
            results.extend((title, bool(passed), detail) for title, passed, detail in part())
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
            results.append((name, False, f"cannot be checked: {type(error).__name__}: {str(error)[:120]}"))
    # A stranger's file name may hold commands for the terminal: they must not paint over a verdict.
    return [(plain(title), passed, plain(detail)) for title, passed, detail in results]


def plain(text):
    return "".join(sign if sign.isprintable() else "?" for sign in text)


if __name__ == "__main__":
    outcome = checks(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
    for title, passed, detail in outcome:
        print(f"{'ok  ' if passed else 'FAIL'}  {title:<16} {detail}")
    sys.exit(0 if all(passed for _, passed, _ in outcome) else 1)
