"""Check a release of sfumato: are its privacy figures true, and are its files the ones it names?

    pip install dp-accounting
    python verify_privacy.py [FOLDER]        (the default is the folder of this file)

Read:     SHA256SUMS, privacy.json, and the bytes of every file (not of .gitattributes and
          .cache/huggingface, which `hf download` leaves). Nothing is run, nothing fetched.
Checked:  that no file was changed, added or removed; that every figure of privacy.json (epsilon,
          curve, mu, attack success, total of all runs) is at least the price of the noise and the
          sampling that the same privacy.json lists.
Printed:  one line for each check, "ok" or "FAIL", and at the end PASS or FAIL with what was
          checked. Exit code 0 if all passed, 1 otherwise.
Not seen: whether the program really did what privacy.json says. Take this file from a source
          that you trust; the copy in a stranger's folder is the stranger's program.
"""

import hashlib
import json
import logging
import math
import re
import sys
from collections import Counter
from pathlib import Path

try:
    import dp_accounting
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant
except ModuleNotFoundError as missing:
    sys.exit(f"nothing was checked ({missing}): pip install dp-accounting")

# The noise is drawn as integers. Their law is that of rounded continuous noise up to a ratio whose
# cost, over a whole run, is less than this (docs/privacy.md).
DISCRETENESS = 2.0**-40
# What a neighbouring data set is: the words of privacy.json and those of dp_accounting.
RELATIONS = {
    "zero-out": "REPLACE_SPECIAL",
    "add-remove": "ADD_OR_REMOVE_ONE",
    "replace-one": "REPLACE_ONE",
}
# Not part of a release: the list of its hashes, and what a hub and its client add to a download.
BESIDE = re.compile(r"SHA256SUMS|\.gitattributes|\.cache/huggingface/.*")
# Stated epsilons are rounded up to three decimals; and machines differ a little.
ROUNDED_UP, TINY = 1e-3, 1e-7
# What unreadable files and missing or absurd fields raise; they become failed checks.
BAD = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError)


# Reading privacy.json.


def positive(value, most=sys.float_info.max):
    """The number, or ValueError when it is not a finite number in (0, most]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
        raise ValueError(f"{value!r} is not a number in (0, {most:g}]")
    return value


def load(folder):
    """Reads privacy.json.

    ValueError if two readers could read two things: a name twice, NaN or an infinity.
    """

    def each_name_once(pairs):
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a name stands twice in one object")
        return dict(pairs)

    facts = json.loads((folder / "privacy.json").read_bytes(), object_pairs_hook=each_name_once)
    json.dumps(facts, allow_nan=False)
    return facts


def times(event):
    """How often an event took place: "steps" of a sampled one, "count" of another, or once."""
    return event.get("steps", event.get("count", 1))


# Pricing events. An event is one of three, with noise in units of the sensitivity:
#   {"type": "poisson_gaussian", "noise_multiplier", "sampling_rate", "steps"}   DP-SGD
#   {"type": "gaussian", "noise_multiplier", "count"}     one noisy sum over all units
#   {"type": "laplace", "epsilon", "count"}               one noisy sum over all units


class Accountant(PLDAccountant):
    """dp_accounting's accountant of privacy loss distributions, with the cost of discreteness."""

    def get_epsilon(self, delta):
        """Epsilon at delta, with the price of integer noise."""
        return super().get_epsilon(delta * (1 - DISCRETENESS)) + DISCRETENESS

    def get_delta(self, epsilons):
        """Delta at each of a list, smallest first, with the price of integer noise."""
        less = [epsilon - DISCRETENESS for epsilon in epsilons]
        return super().get_delta(less) * (1 + DISCRETENESS)  # pyright: ignore[reportArgumentType]


def price(facts, events, renyi=False):
    """An accountant that has composed these events, on the grid and relation of privacy.json.

    `renyi`: the one that bounds runs, too, of which one was chosen after another's output.
    """
    grid = positive(facts["accountant"]["grid"], 2e-2)
    relation = getattr(dp_accounting.NeighboringRelation, RELATIONS[facts["relation"]])
    accountant = RdpAccountant(None, relation) if renyi else Accountant(relation, grid)
    mean_loss = 0.0
    for event in events:
        kind, count, rate = event["type"], positive(times(event), 1e6), 1
        if int(count) != count:
            raise ValueError(f"not a whole number of times: {event!r}")
        if kind == "laplace":
            noise = 1 / positive(event["epsilon"])
            priced = dp_accounting.LaplaceDpEvent(noise)
        elif kind in ("gaussian", "poisson_gaussian"):
            noise = positive(event["noise_multiplier"])
            priced = dp_accounting.GaussianDpEvent(noise)
        else:
            raise ValueError(f"unknown event {event!r}")
        if kind == "poisson_gaussian":
            rate = positive(event["sampling_rate"], 1)
            priced = dp_accounting.PoissonSampledDpEvent(rate, priced)
        # A forged certificate must not fill the memory: estimate the points that are needed.
        inverse = noise**-2
        mean_loss += count / 2 * min(rate**2 * math.expm1(min(inverse, 600)), rate * inverse)
        widest = max(mean_loss + 9 * math.sqrt(mean_loss), 30) / grid
        positive(max(widest, 3e3 * len(events)), 3e6)
        accountant.compose(priced, int(count))
    return accountant


def is_price(stated, found):
    """Whether a stated epsilon is what was found, rounded up."""
    return -TINY <= stated - found <= ROUNDED_UP + TINY


# The checks of privacy.json. Each yields (name, passed, detail).


def check_privacy(facts):
    """All that privacy.json alone shows."""
    events = facts["events"]
    positive(len(events), 1000)  # none would be a claim about nothing
    charges, selections = facts["ledger"]["charges"], facts.get("selections", [])
    lists = facts["curve"], facts["attack_success"], charges, selections
    positive(max(map(len, lists)), 1000)
    yield from check_events(facts["mechanism"], events)
    if facts["mechanism"]["sampling_rate"] is not None:  # something was trained
        yield from check_sums(facts["mechanism"], facts["public_facts"]["n_units"])
    delta, accountant = positive(facts["delta"], 0.5), price(facts, events)
    stated, found = facts["epsilon"], accountant.get_epsilon(delta)
    detail = f"{stated}, priced again {found:.6f} at delta {delta}"
    yield "epsilon", is_price(stated, found), detail
    yield from check_all_runs(facts, accountant)
    if "stopped" in facts:  # a run that ended early is charged for all its steps
        step, of = facts["stopped"]["step"], planned_steps(facts["mechanism"])
        early = positive(step) < positive(of) == facts["stopped"]["of"]
        yield "stopped", early, f"by the owner at step {step} of {of}; all steps are priced"
    if "base_vote" in facts or any("bases" in query for query in facts["mechanism"]["one_shot"]):
        yield check_base_vote(facts["base_vote"], facts)
    if "looks" in facts and facts["looks"]["exact"] is None:
        detail = "how many, and later choices among runs: not known, finished without the ledger"
        yield "looks", "later_choices" in facts, detail
    for choice in selections:
        yield check_selection(choice, facts)
    yield from check_curve(facts, accountant)
    yield from check_attacks(facts, accountant)


def planned_steps(mechanism):
    """Steps of training, or rounds of votes, that were planned; None for one noisy sum."""
    rounds = [query["rounds"] for query in mechanism["one_shot"] if "rounds" in query]
    return mechanism.get("steps") or (rounds[0] if rounds else None)


def check_events(mechanism, events):
    """The events are those of the mechanism: its training steps and its one-shot queries."""
    billed, queries = mechanism["billed_steps"] or 0, mechanism["one_shot"]
    training = "poisson_gaussian", mechanism["sampling_rate"], mechanism["noise_multiplier"]
    unpaid = Counter({training: billed})
    for query in queries:
        rate = query["sampling_rate"] if query["type"].startswith("poisson") else None
        count = positive(query.get("count", 1), 1e6)
        unpaid[query["type"], rate, query["noise"]] += math.ceil(count)
        # Noise in figures, where it stands there, is as much as is billed.
        least = query["noise"] * query.get("sensitivity", "rounds" in query)
        short = query.get("noise_stddev", 0) < least or query.get("rounds", 0) > count
        unpaid[query["name"], rate, "noise"] += short
    for event in events:
        noise = event.get("noise_multiplier", event.get("epsilon"))
        unpaid[event["type"], event.get("sampling_rate"), noise] -= int(times(event))
    passed = not any(unpaid.values()) and billed >= (mechanism["steps"] or 0)
    yield "events", passed, f"{billed} steps and {len(queries)} one-shot queries billed"


def check_sums(mechanism, n_units):
    """Training: the noise is as large as stated against the most that one unit adds to a sum."""
    # One unit can fill all the groups of tensors.
    groups = math.sqrt(mechanism["clip_groups"] or 0) * (mechanism["clip_norm_per_group"] or 0)
    grouped = dict.fromkeys(("per-group", "per-group-normalised"), groups)
    bounds = {"flat": mechanism["clip_norm"], "normalised": 1, **grouped}
    bound = positive(bounds.get(mechanism["clipping"]))
    if "rounding" in mechanism:
        # Sums are integers: what rounding may add to one unit counts, and the noise is for that.
        slack = positive(mechanism["rounding"]["slack"], 0.01)
        step = positive(mechanism["rounding"]["step"])
        least = bound * (1 + slack)
        bound = positive(mechanism["rounding"]["bound"]) * step
        whole = least * (1 - 1e-9) <= bound <= (least + step) * (1 + 1e-9)
        if not whole or step > slack * bound:
            raise ValueError("the grid of the sums does not fit the sensitivity")
    pairs = (
        (n_units * mechanism["sampling_rate"], mechanism["expected_batch_size"]),
        (mechanism["sensitivity"], bound),
        (mechanism["noise_stddev"], mechanism["noise_multiplier"] * bound),
    )
    passed = all(math.isclose(positive(stated), right, rel_tol=1e-6) for stated, right in pairs)
    yield "sums", passed, f"one adds {bound:.6g} at most"


def check_all_runs(facts, accountant):
    """This run is among those charged on the same images, and their total is not too low."""
    charges, total = facts["ledger"]["charges"], facts["ledger"]["total_epsilon"]
    stated, delta = facts["epsilon"], facts["delta"]
    least = accountant.get_epsilon(delta)
    if len(charges) != 1:
        events = [event for charge in charges for event in charge["events"]]
        least = price(facts, events).get_epsilon(delta)
        # Whether a run was chosen after an output of another is said since format 2.
        if facts["format"] != "sfumato-privacy/1" and facts["ledger"]["adaptive"]:
            known = facts["relation"] != "replace-one"  # which the Renyi accountant does not double
            least = max(least, price(facts, events, True).get_epsilon(delta)) if known else math.inf
    own = any(
        charge["events"] == facts["events"] and abs(charge["epsilon"] - stated) <= ROUNDED_UP + TINY
        for charge in charges
    )
    enough = own and (total is None or total >= least - TINY)
    yield "all runs", enough, f"{len(charges)} on overlapping images, together epsilon {total}"


def check_selection(choice, facts):
    """A choice among runs by noisy accuracies on held-out units, with a claim of its own."""
    events, delta = choice["events"], positive(choice["delta"], 0.5)
    found = price(facts | {"relation": choice["relation"]}, events).get_epsilon(delta)
    # One unit moves each run's accuracy by half a grid step at most.
    bound = positive(choice["grid"]) / 2 * math.sqrt(positive(choice["runs"], 1000))
    noisy = len(events) == 1
    noisy = noisy and choice["noise_stddev"] >= events[0]["noise_multiplier"] * bound * (1 - 1e-12)
    charges = facts["ledger"]["charges"]
    listed = not choice["composes"] or any(
        charge["run"] == choice["id"] and charge["events"] == events for charge in charges
    )
    detail = f"{choice['epsilon']}, priced again {found:.6f} at delta {delta}"
    return "selection", noisy and listed and is_price(choice["epsilon"], found), detail


def check_base_vote(said, facts):
    """The base is the candidate with most noisy votes, and one query pays for them."""
    asked = [query for query in facts["mechanism"]["one_shot"] if "bases" in query]
    candidates, told = said["candidates"], facts["conditions"]
    best = max(candidates, key=lambda candidate: candidate["share"])
    own = {best["base"]} == {said["chosen"], told["base"]} and best["digest"] == told["base_digest"]
    paid = len(asked) == 1 and asked[0]["bases"] == len(candidates) > 1 and times(asked[0]) == 1
    how = asked[0].get("rule", "the nearest picture") if asked else "nothing"
    return "base vote", paid and own, f"{best['base']} of {len(candidates)} bases, by votes: {how}"


def check_curve(facts, accountant):
    """No stated delta is too low, and mu covers the curve (Dong, Roth, Su; arXiv 1905.02383)."""
    epsilons, deltas = zip(*facts["curve"])
    lowest = list(accountant.get_delta(epsilons) * (1 - 1e-6) - 1e-13)
    passed = len(lowest) > 1 and all(stated >= least for stated, least in zip(deltas, lowest))
    yield "curve", passed, f"{len(lowest)} points, none too low"
    mu = positive(facts["mu"]["value"])
    floor = positive(facts["mu"]["delta_floor"], max(facts["delta"], 1e-9))
    # At 64 points of our own, too: the stated ones could all lie where the curve says nothing.
    last = accountant.get_epsilon(floor)
    own = [last * i / 63 for i in range(64)]
    least = list(zip(own, accountant.get_delta(own) * (1 - 1e-3) - 1e-13))
    least += [(e, low) for e, low in zip(epsilons, lowest) if low >= floor]
    covered = all(delta_of_mu(mu, e) >= low for e, low in least)
    yield "mu", covered, f"{mu} covers the curve down to delta {floor}"


def delta_of_mu(mu, epsilon):
    """The delta of a Gaussian mechanism with noise 1/mu of its sensitivity (arXiv 1905.02383)."""

    def normal_tail(x):
        return math.erfc(x / math.sqrt(2)) / 2

    first, second = normal_tail(epsilon / mu - mu / 2), normal_tail(epsilon / mu + mu / 2)
    return first - math.exp(min(epsilon, 700)) * second


def check_attacks(facts, accountant):
    """The share of members that an attacker finds at a false-positive rate is not understated.

    Bounds from the curve at 2001 points (Kairouz, Oh, Viswanath; arXiv 1311.0776).
    """
    epsilons = [facts["curve"][-1][0] * i / 2000 for i in range(2001)]
    curve = list(zip(epsilons, accountant.get_delta(epsilons)))
    for rate, stated in facts["attack_success"].items():
        f = float(rate)
        few_wrong = min(math.exp(min(e, 700)) * f + delta for e, delta in curve)
        few_missed = min(1 - math.exp(-e) * (1 - delta - f) for e, delta in curve)
        passed = f <= stated <= 1 and stated >= 0.999 * min(few_wrong, few_missed)
        yield f"attack {f:g}", passed, f"at most {stated:.2%} of members are found"


# The check of the files, and the program.


def check_files(folder):
    """Every file has its hash in SHA256SUMS and in privacy.json; none is missing, none extra."""
    lines = (folder / "SHA256SUMS").read_text("utf-8").splitlines()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if len(listed) < len(lines):
        raise ValueError("SHA256SUMS names a file twice")
    hashes, odd = {}, set()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            odd.add(name)
        elif path.is_file() and not BESIDE.fullmatch(name):
            hashes[name] = sha256(path)
    wrong = {
        "no extra file": set(hashes) - set(listed) | odd,
        "no missing file": set(listed) - set(hashes),
        "hashes": {name for name in set(hashes) & set(listed) if listed[name] != hashes[name]},
    }
    for title, names in wrong.items():
        yield title, not names, ", ".join(sorted(names)[:3]) or f"{len(hashes)} files"
    # privacy.json cannot hold its own hash.
    stated = load(folder)["artefacts"]
    complete = stated | {"privacy.json": hashes["privacy.json"]} == hashes
    yield "artefacts", complete, f"{len(stated)} in privacy.json"


def sha256(path):
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def checks(folder):
    """All checks of a release folder as (name, passed, detail); never a traceback."""
    results = []
    for name, part in (("files", check_files), ("privacy.json", check_privacy)):
        try:
            rows = part(folder) if part is check_files else part(load(folder))
            results.extend((title, bool(passed), detail) for title, passed, detail in rows)
        except BAD as error:
            reason = f"{type(error).__name__}: {str(error)[:120]}"
            results.append((name, False, f"cannot be checked: {reason}"))
    return [(title, passed, printable(detail)) for title, passed, detail in results]


def printable(text):
    """A stranger's file name may hold commands for the terminal: they must not hide a verdict."""
    return "".join(c if c.isprintable() else "?" for c in text)


def main():
    """Prints every check; the exit code is 0 if all pass, else 1."""
    if sys.argv[1:] in (["-h"], ["--help"]):
        return print(__doc__)
    logging.disable(logging.WARNING)  # the Renyi accountant's, of each order that it leaves out
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    results = checks(folder)
    for title, passed, detail in results:
        print(f"{'ok  ' if passed else 'FAIL'}  {title:<16} {detail}")
    print(verdict(folder, results))
    return 0 if all(passed for _, passed, _ in results) else 1


def verdict(folder, results):
    """The last line: PASS or FAIL, and what was checked."""
    failed = printable(", ".join(name for name, passed, _ in results if not passed))
    if failed:
        return f"FAIL: {failed} (of {len(results)} checks): do not rely on this release"
    facts = load(folder)
    claim = printable("epsilon {epsilon} at delta {delta}, unit {unit}, {relation}".format(**facts))
    what = "no file was changed, and the stated noise and sampling give"
    return f"PASS: {len(results)} checks: {what} {claim}"


if __name__ == "__main__":
    sys.exit(main())
