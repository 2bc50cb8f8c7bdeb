"""Check a release: `pip install dp-accounting && python verify_privacy.py [folder]`; exit code 0:
all passed. It hashes every file and prices privacy.json again, offline; whether the program really
did what privacy.json says, it cannot see.
"""

import hashlib
import json
import math
import sys
from collections import Counter
from pathlib import Path

import dp_accounting as dp
from dp_accounting.pld import PLDAccountant

# Noise is drawn as integers, whose law is that of rounded continuous noise but for a ratio: it
# costs less than this (docs/privacy.md).
DISCRETENESS = 2.0**-40
RELATIONS = {
    "zero-out": "REPLACE_SPECIAL",
    "add-remove": "ADD_OR_REMOVE_ONE",
    "replace-one": "REPLACE_ONE",
}


def positive(value, most=sys.float_info.max):
    """The number, or ValueError when it is not a finite number in (0, most]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
        raise ValueError(f"{value!r} is not a number in (0, {most:g}]")
    return value


def load(folder):
    """privacy.json; ValueError where two readers could read two things: a name that stands twice,
    NaN or an infinity.
    """

    def once(pairs):
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a name stands twice in one object")
        return dict(pairs)

    facts = json.loads((folder / "privacy.json").read_bytes(), object_pairs_hook=once)
    json.dumps(facts, allow_nan=False)
    return facts


class Accountant(PLDAccountant):
    """dp_accounting's PLD accountant with the cost of discreteness."""

    def get_epsilon(self, delta):
        return super().get_epsilon(delta * (1 - DISCRETENESS)) + DISCRETENESS

    def get_delta(self, epsilon):
        lower = (
            [e - DISCRETENESS for e in epsilon]
            if isinstance(epsilon, list)
            else epsilon - DISCRETENESS
        )
        return super().get_delta(lower) * (1 + DISCRETENESS)


def price(facts, events):
    """An accountant which has composed these events; noise is in units of the sensitivity."""
    grid, mean = positive(facts["accountant"]["grid"], 2e-2), 0.0
    accountant = Accountant(getattr(dp.NeighboringRelation, RELATIONS[facts["relation"]]), grid)
    for e in events:
        kind, count = e["type"], positive(e.get("steps", e.get("count", 1)), 1e6)
        if kind not in ("laplace", "gaussian", "poisson_gaussian") or int(count) != count:
            raise ValueError(f"unknown event {e!r}")
        noise = 1 / positive(e["epsilon"]) if kind == "laplace" else positive(e["noise_multiplier"])
        rate = positive(e["sampling_rate"], 1) if kind == "poisson_gaussian" else 1
        mean += count / 2 * min(rate**2 * math.expm1(min(noise**-2, 600)), rate * noise**-2)
        # about as many points as are needed: a forged certificate must not fill the memory
        positive(max((mean + 9 * math.sqrt(mean)) / grid, 30 / grid, 3e3 * len(events)), 3e6)
        one = dp.LaplaceDpEvent(noise) if kind == "laplace" else dp.GaussianDpEvent(noise)
        accountant.compose(
            dp.PoissonSampledDpEvent(rate, one) if kind[0] == "p" else one, int(count)
        )
    return accountant


def delta_of_mu(mu, epsilon):
    """delta of one Gaussian mechanism with separation mu (Dong, Roth, Su; arXiv 1905.02383)."""
    first, second = (
        math.erfc((epsilon / mu - half) / math.sqrt(2)) / 2 for half in (mu / 2, -mu / 2)
    )
    return first - math.exp(min(epsilon, 700)) * second


def check_privacy(facts):
    """What privacy.json alone shows, as (name, passed, detail); attacks as in Kairouz, Oh,
    Viswanath (arXiv 1311.0776).
    """
    m, events, stated = facts["mechanism"], facts["events"], facts["epsilon"]
    positive(len(events), 1000)  # none would be a claim about nothing
    lists = (
        facts["curve"],
        facts["attack_success"],
        facts["ledger"]["charges"],
        facts.get("selections", []),
    )
    positive(max(map(len, lists)), 1000)
    left = Counter(
        {("poisson_gaussian", m["sampling_rate"], m["noise_multiplier"]): m["billed_steps"] or 0}
    )
    left.update(
        (q["type"], q["sampling_rate"] if q["type"][0] == "p" else None, q["noise"])
        for q in m["one_shot"]
    )
    for e in events:
        noise = e.get("noise_multiplier", e.get("epsilon"))
        left[e["type"], e.get("sampling_rate"), noise] -= int(e.get("steps", e.get("count", 1)))
    same = not any(left.values()) and (m["billed_steps"] or 0) >= (m["steps"] or 0)
    yield (
        "events",
        same,
        (
            f"{m['billed_steps']} steps billed, {len(m['one_shot'])} one-shot queries; as in"
            " 'mechanism'"
        ),
    )
    if m["sampling_rate"] is not None:
        n, batch, rate = (
            facts["public_facts"]["n_units"],
            m["expected_batch_size"],
            m["sampling_rate"],
        )
        # one unit can fill them all
        groups = math.sqrt(m["clip_groups"] or 0) * (m["clip_norm_per_group"] or 0)
        bounds = {
            "flat": m["clip_norm"],
            "normalised": 1,
            "per-group": groups,
            "per-group-normalised": groups,
        }
        bound = positive(bounds.get(m["clipping"]))
        # sums of integers: what rounding may add to one unit is in the bound that the noise is for
        if "rounding" in m:
            r = m["rounding"]
            least, step = bound * (1 + positive(r["slack"], 0.01)), positive(r["step"])
            bound = positive(r["bound"]) * step
            if not (
                least * (1 - 1e-9) <= bound <= (least + step) * (1 + 1e-9)
                and step <= r["slack"] * bound
            ):
                raise ValueError("the grid of the sums does not fit the sensitivity")
        pairs = (
            (n * rate, batch),
            (m["sensitivity"], bound),
            (m["noise_stddev"], m["noise_multiplier"] * bound),
        )
        yield (
            "sums",
            all(math.isclose(positive(a), b, rel_tol=1e-6) for a, b in pairs),
            f"one adds {bound:.6g} at most",
        )
    delta, accountant = positive(facts["delta"], 0.5), price(facts, events)
    epsilon = accountant.get_epsilon(delta)
    yield (
        "epsilon",
        -1e-7 <= stated - epsilon <= 1e-3 + 1e-7,
        f"{stated}, priced again {epsilon:.6f} at delta {delta}",
    )
    charges, total = facts["ledger"]["charges"], facts["ledger"]["total_epsilon"]
    whole = (
        accountant
        if len(charges) == 1
        else price(facts, [e for charge in charges for e in charge["events"]])
    )
    own = any(c["events"] == events and abs(c["epsilon"] - stated) <= 1e-3 + 1e-7 for c in charges)
    enough = own and (total is None or total >= whole.get_epsilon(delta) - 1e-7)
    yield "all runs", enough, f"{len(charges)} on overlapping images, together epsilon {total}"
    if "looks" in facts and facts["looks"]["exact"] is None:
        yield (
            "looks",
            "later_choices" in facts,
            "how many, and later choices among runs: not known, finished without the ledger",
        )
    # by noisy accuracies on held-out units, which have a claim of their own
    for choice in facts.get("selections", []):
        own, limit = choice["events"], positive(choice["delta"], 0.5)
        found = price(facts | {"relation": choice["relation"]}, own).get_epsilon(limit)
        # each accuracy moves by a half at most
        bound = positive(choice["grid"]) / 2 * math.sqrt(positive(choice["runs"], 1000))
        noisy = len(own) == 1 and choice["noise_stddev"] >= own[0]["noise_multiplier"] * bound * (
            1 - 1e-12
        )
        listed = not choice["composes"] or any(
            c["run"] == choice["id"] and c["events"] == own for c in charges
        )
        right = noisy and listed and -1e-7 <= choice["epsilon"] - found <= 1e-3 + 1e-7
        yield "selection", right, f"{choice['epsilon']}, priced again {found:.6f} at delta {limit}"
    points = [(e, d, accountant.get_delta(e) * (1 - 1e-6) - 1e-13) for e, d in facts["curve"]]
    yield (
        "curve",
        len(points) > 1 and all(d >= low for _, d, low in points),
        f"{len(points)} points, none too low",
    )
    mu, floor = (
        positive(facts["mu"]["value"]),
        positive(facts["mu"]["delta_floor"], max(delta, 1e-9)),
    )
    # At points of our own, too: the stated ones could all lie where the curve says nothing.
    last = accountant.get_epsilon(floor)
    lows = [
        (last * i / 63, accountant.get_delta(last * i / 63) * (1 - 1e-3) - 1e-13) for i in range(64)
    ]
    lows += [(e, low) for e, _, low in points if low >= floor]
    yield (
        "mu",
        all(delta_of_mu(mu, e) >= low for e, low in lows),
        f"{mu} covers the curve down to delta {floor}",
    )
    fine = list(
        zip(es := [points[-1][0] * i / 2000 for i in range(2001)], accountant.get_delta(es))
    )
    for f, found in ((float(rate), found) for rate, found in facts["attack_success"].items()):
        bound = min(
            min(math.exp(min(e, 700)) * f + d, 1 - math.exp(-e) * (1 - d - f)) for e, d in fine
        )
        yield (
            f"attack {f:g}",
            f <= found <= 1 and found >= 0.999 * bound,
            f"at most {found:.2%} of members are found",
        )


def check_files(folder):
    """Hashes, and that nothing is missing or extra, one by one as (name, passed, detail)."""
    lines = (folder / "SHA256SUMS").read_text("utf-8").splitlines()
    listed, hashes, odd = (
        {name: digest for digest, _, name in (line.partition("  ") for line in lines)},
        {},
        set(),
    )
    if len(listed) < len(lines):
        raise ValueError("SHA256SUMS names a file twice")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            odd.add(name)
        elif path.is_file() and name != "SHA256SUMS":
            with path.open("rb") as stream:
                digest = hashlib.sha256()
                while block := stream.read(1 << 20):
                    digest.update(block)
            hashes[name] = digest.hexdigest()
    wrong = {
        "no extra file": set(hashes) - set(listed) | odd,
        "no missing file": set(listed) - set(hashes),
    }
    wrong["hashes"] = {name for name in hashes if listed.get(name, hashes[name]) != hashes[name]}
    for title, names in wrong.items():
        yield title, not names, ", ".join(sorted(names)[:3]) or f"{len(hashes)} files"
    stated = load(folder)["artefacts"]
    yield (
        "artefacts",
        stated | {"privacy.json": hashes["privacy.json"]} == hashes,
        f"{len(stated)} in privacy.json",
    )


def checks(folder):
    """All checks of a release folder; unreadable files and missing fields become failed checks, not
    tracebacks.
    """
    results = []
    for name in ("files", "privacy.json"):
        try:
            part = check_files(folder) if name == "files" else check_privacy(load(folder))
            results.extend((title, bool(passed), detail) for title, passed, detail in part)
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            RuntimeError,
        ) as error:
            results.append(
                (name, False, f"cannot be checked: {type(error).__name__}: {str(error)[:120]}")
            )
    # A stranger's file name may hold commands for the terminal: they must not paint over a verdict.
    return [
        (row[0], row[1], "".join(c if c.isprintable() else "?" for c in row[2])) for row in results
    ]


if __name__ == "__main__":
    outcome = checks(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
    print(
        *(
            f"{'ok  ' if passed else 'FAIL'}  {title:<16} {detail}"
            for title, passed, detail in outcome
        ),
        sep="\n",
    )
    sys.exit(not all(passed for _, passed, _ in outcome))
