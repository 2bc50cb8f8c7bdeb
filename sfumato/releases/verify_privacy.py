"""Check a release on its own: file hashes, and the price of the privacy claim computed again from privacy.json.

    pip install dp-accounting && python verify_privacy.py [folder]

Needs dp_accounting and the standard library only, works offline, changes nothing. Exit code 0: every check passed.
What it cannot see: whether the program that trained the model really did what privacy.json says it did.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import Counter
from pathlib import Path

import dp_accounting as dp
from dp_accounting.pld import PLDAccountant

K_TABLE = "2", "3", "5", "10"
RELATIONS = {"zero-out": "REPLACE_SPECIAL", "add-remove": "ADD_OR_REMOVE_ONE", "replace-one": "REPLACE_ONE"}


def positive(value, most=math.inf):
    """The number, or ValueError when it is not a finite number in (0, most]."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not (math.isfinite(value) and 0 < value <= most)
    ):
        raise ValueError(f"{value!r} is not a number in (0, {most}]")
    return value


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
    whole = {"flat": m["clip_norm"], "normalised": 1.0}
    if m["clipping"] in whole:
        return positive(whole[m["clipping"]])
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
    yield (
        "events",
        +named == +billed and (m["billed_steps"] or 0) >= (m["steps"] or 0),
        f"{m['billed_steps']} steps billed, {len(m['one_shot'])} one-shot queries; rate and noise as in 'mechanism'",
    )
    if m["sampling_rate"] is not None:
        n, batch = facts["public_facts"]["n_units"], m["expected_batch_size"]
        sums = math.isclose(n * m["sampling_rate"], batch, rel_tol=1e-6) and math.isclose(
            m["noise_stddev"], m["noise_multiplier"] * m["sensitivity"], rel_tol=1e-6
        )
        yield "sums", sums, f"{n} units x rate = expected batch {batch}; noise = multiplier x sensitivity"
        bound = total_bound(m)
        yield (
            "clip",
            math.isclose(m["sensitivity"], bound, rel_tol=1e-9),
            f"{m['clipping']}: one unit adds at most {bound:.6g} in all",
        )
    yield "event tree", facts["event_tree"] == tree(facts["events"]), "the same events as in 'events'"
    for query in m["one_shot"]:
        if "sensitivity" in query:
            chosen = facts["selection"]
            ranked = sorted(zip(chosen["groups"], chosen["scores"]), key=lambda pair: -pair[1])[: query["kept"]]
            enough = query["noise_stddev"] >= query["noise"] * query["sensitivity"] * (1 - 1e-12)
            yield (
                "probe",
                enough and sorted(chosen["selected"]) == sorted(group for group, _ in ranked),
                f"noise {query['noise_stddev']:.6g} on scores of sensitivity {query['sensitivity']:.6g}; the best chosen",
            )
    delta, stated = positive(facts["delta"], 0.5), facts["epsilon"]
    accountant = price(facts, facts["events"])
    epsilon = accountant.get_epsilon(delta)
    yield (
        "epsilon",
        -1e-7 <= stated - epsilon <= 1e-3 + 1e-7,
        f"stated {stated}, priced again {epsilon:.6f} at delta {delta} ({facts['relation']}); rounded up",
    )
    words = f"({stated:g}, {delta:g})-differential privacy, unit of privacy: {facts['unit']}, relation: "
    yield "statement", facts["statement"] == f"{words}{facts['relation']}.", "says the same figures"
    table, low = facts.get("k_table", {}), []
    if facts["relation"] != "replace-one" and facts["unit"] == "record":
        noise = min(event.get("noise_multiplier", 1.0) for event in facts["events"])
        for k in map(int, K_TABLE):
            grid = min(max((k**2 / (2 * noise**2) + 6 * k / noise) / 1500, 1e-3), 2e-2)
            if table[str(k)] < price(facts, facts["events"], k, grid).get_epsilon(delta) - 1e-6:
                low.append(k)
        yield "k_table", table["1"] == stated and not low, f"{len(table)} group sizes, none priced too low"
    charges, total = facts["ledger"]["charges"], facts["ledger"]["total_epsilon"]
    own = any(charge["events"] == facts["events"] for charge in charges)
    together = (
        epsilon if len(charges) == 1 else price(facts, [e for c in charges for e in c["events"]]).get_epsilon(delta)
    )
    yield (
        "all runs",
        own and (total is None or total >= together - 1e-7),
        f"{len(charges)} on overlapping images, together epsilon {total}",
    )
    points = [(e, d, accountant.get_delta(e)) for e, d in facts["curve"]]
    yield (
        "curve",
        len(points) >= 2 and all(d >= true * (1 - 1e-6) - 1e-13 for _, d, true in points),
        f"{len(points)} (epsilon, delta) points, none below the mechanism's",
    )
    mu, floor = positive(facts["mu"]["value"]), facts["mu"]["delta_floor"]
    yield (
        "mu",
        all(delta_of_mu(mu, e) >= true * (1 - 1e-6) - 1e-13 for e, _, true in points if true >= floor),
        f"Gaussian mu {mu} covers the curve down to delta {floor}",
    )
    for rate, found in facts["attack_success"].items():
        f, pairs = float(rate), [(e, d) for e, _, d in points]
        best = min(range(len(pairs)), key=lambda i: found_at_most(f, *pairs[i]))
        low, high = pairs[max(best - 1, 0)][0], pairs[min(best + 1, len(pairs) - 1)][0]
        near = [low + (high - low) * i / 100 for i in range(101)]
        bound = min(found_at_most(f, e, accountant.get_delta(e)) for e in near)
        yield (
            f"attack {rate}",
            f <= found <= 1 and found >= 0.999 * min(bound, 1),
            f"at most {found:.2%} of members found when {f:.1%} of others are accused wrongly",
        )


def check_page(facts, text):
    """The figures of PRIVACY.md, the page that is signed, as (name, passed, detail)."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines()]
    rows = {row[0]: row[1] for row in rows if len(row) == 2}
    near = all(math.isclose(float(rows[name]), facts[name], rel_tol=1e-4) for name in ("epsilon", "delta"))
    yield (
        "PRIVACY.md",
        near and facts["ledger"]["head"] in text,
        "says the figures and the ledger's head of privacy.json",
    )


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
        listed[name] = digest
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
    yield (
        "no extra file",
        not strange,
        f"{len(found)} files" if not strange else "not listed: " + ", ".join(strange[:3]),
    )
    missing = sorted(set(listed) - set(found))
    yield "no missing file", not missing, "all present" if not missing else "missing: " + ", ".join(missing[:3])
    bad = sorted(name for name in found if name in listed and found[name] != listed[name])
    yield "hashes", not bad, "all match SHA256SUMS" if not bad else "changed: " + ", ".join(bad[:3])
    stated = json.loads((folder / "privacy.json").read_text("utf-8"))["artefacts"]
    found.pop("privacy.json", None)
    yield "artefacts", stated == found, f"privacy.json names {len(stated)} files and their hashes"


def checks(folder):
    """All checks of a release folder; unreadable files and missing fields become failed checks, not tracebacks."""

    def facts():
        return json.loads((folder / "privacy.json").read_text("utf-8"))

    results = []
    for part, name in (
        (lambda: check_files(folder), "files"),
        (lambda: check_privacy(facts()), "privacy.json"),
        (lambda: check_page(facts(), (folder / "PRIVACY.md").read_text("utf-8")), "PRIVACY.md"),
    ):
        try:
            results.extend((title, bool(passed), detail) for title, passed, detail in part())
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
            results.append((name, False, f"cannot be checked: {type(error).__name__}: {str(error)[:120]}"))
    return results


if __name__ == "__main__":
    outcome = checks(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
    for title, passed, detail in outcome:
        print(f"{'ok  ' if passed else 'FAIL'}  {title:<16} {detail}")
    sys.exit(0 if all(passed for _, passed, _ in outcome) else 1)
