"""Two programs check a release, and every way of spoiling one is seen."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sfumato.errors import SfumatoError
from sfumato.privacy import accounting
from sfumato.privacy import events as dp_events
from sfumato.releases import folder, verify, verify_privacy

ROOM = Path(folder.__file__).parent


def failed(path: Path) -> set[str]:
    return {name for name, _, _ in verify(path).failed}


def rewrite(path: Path, change) -> None:
    """Change privacy.json as a forger would: hashes follow."""
    claim = json.loads((path / "privacy.json").read_text())
    change(claim)
    old = hashlib.sha256((path / "privacy.json").read_bytes()).hexdigest()
    data = json.dumps(claim).encode()
    (path / "privacy.json").write_bytes(data)
    sums = (path / "SHA256SUMS").read_text().replace(old, hashlib.sha256(data).hexdigest())
    (path / "SHA256SUMS").write_text(sums)


def test_release_holds_exactly_its_files_and_verifies(finished):
    report = verify(finished)
    assert report.ok, report.failed
    assert {p.name for p in finished.iterdir()} == {
        "README.md",
        "PRIVACY.html",
        "PRIVACY.md",
        "SHA256SUMS",
        "croissant.json",
        "privacy.json",
        "report.html",
        "train",
        "verify_privacy.py",
    }
    assert (finished / "verify_privacy.py").read_bytes() == (
        ROOM / "verify_privacy.py"
    ).read_bytes()
    assert not list(finished.parent.glob(".*"))


def test_stand_alone_verifier_needs_no_sfumato(copy):
    run = [sys.executable, "-I", "-B", "verify_privacy.py"]
    good = subprocess.run(run, cwd=copy, capture_output=True, text=True, check=False)
    assert good.returncode == 0 and "FAIL" not in good.stdout, good.stdout + good.stderr
    facts = json.loads((copy / "privacy.json").read_text())
    last = good.stdout.splitlines()[-1]
    assert re.fullmatch(
        rf"PASS: \d+ checks: .* epsilon {facts['epsilon']} at delta 1e-05, unit record, zero-out",
        last,
    )
    rewrite(copy, lambda c: c.update(epsilon=c["epsilon"] - 0.002))
    bad = subprocess.run(run, cwd=copy, capture_output=True, text=True, check=False)
    assert bad.returncode == 1 and re.search(r"FAIL  epsilon ", bad.stdout)
    last = bad.stdout.splitlines()[-1]
    assert re.fullmatch(
        r"FAIL: epsilon, all runs \(of \d+ checks\): do not rely on this release", last
    )
    text = (ROOM / "verify_privacy.py").read_text()
    nodes = list(ast.walk(ast.parse(text)))
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    ours = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    assert ours == {"dp_accounting", "dp_accounting.pld", "dp_accounting.rdp"}


def test_stand_alone_verifier_without_its_library_says_what_to_install(copy):
    bare = [sys.executable, "-I", "-S", "-B", "verify_privacy.py"]  # no site-packages
    done = subprocess.run(bare, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stdout
    assert re.fullmatch(r"nothing was checked \(.*\): pip install dp-accounting\n", done.stderr)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_stand_alone_verifier_says_how_it_is_called(tmp_path, flag):
    run = [sys.executable, str(ROOM / "verify_privacy.py"), flag]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "python verify_privacy.py [FOLDER]" in done.stdout
    assert "FAIL:" not in done.stdout
    other = subprocess.run([*run[:-1], "--quiet"], capture_output=True, text=True, check=False)
    assert other.returncode == 1 and "FAIL:" in other.stdout  # no word of it passes a check


def test_stand_alone_verifier_can_be_read_at_one_sitting():
    """Without comments, docstrings and blank lines; and no function longer than a screen."""
    text = (ROOM / "verify_privacy.py").read_text()
    nodes = list(ast.walk(ast.parse(text)))
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef)]
    assert max(n.end_lineno - n.lineno + 1 for n in functions) <= 40
    said = [n for n in nodes if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    words = {line for n in said for line in range(n.lineno, n.end_lineno + 1)}
    lines = enumerate(text.splitlines(), 1)
    code = [s for i, s in lines if i not in words and s.strip() and s.strip()[0] != "#"]
    assert len(code) <= 260  # 245 before a base could be chosen by votes


def test_one_flipped_byte_fails(copy):
    path = copy / "train" / "cat" / "000004.png"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    assert failed(copy) == {"hashes", "artefacts"}


def test_extra_missing_and_linked_files_fail(copy):
    (copy / "notes.txt").write_text("x")
    assert failed(copy) == {"no extra file", "artefacts"}
    (copy / "notes.txt").unlink()
    (copy / "link.png").symlink_to(copy / "README.md")
    assert failed(copy) == {"no extra file"}
    (copy / "link.png").unlink()
    (copy / "PRIVACY.md").unlink()
    assert failed(copy) == {"no missing file", "artefacts", "PRIVACY.md", "figures of PRIVACY.md"}


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda c: c.update(epsilon=c["epsilon"] / 2), "epsilon"),
        (lambda c: c.update(delta=1e-4), "epsilon"),
        (lambda c: c["mechanism"].update(noise_multiplier=4.0), "events"),
        (lambda c: c["mechanism"].update(noise_stddev=0.9), "sums"),
        (lambda c: c["mechanism"].update(sensitivity=0.25, noise_stddev=0.5), "sums"),
        (lambda c: c["mechanism"].update(clipping="by-hand"), "privacy.json"),
        (lambda c: c["mechanism"].update(steps=61), "events"),
        (lambda c: c["mechanism"].update(one_shot=[]), "events"),
        (lambda c: c["public_facts"].update(n_units=2000), "sums"),
        (lambda c: c["curve"][10].__setitem__(1, c["curve"][10][1] / 2), "curve"),
        (lambda c: c["mu"].update(value=c["mu"]["value"] * 0.95), "mu"),
        (
            lambda c: c["attack_success"].update({"0.01": c["attack_success"]["0.01"] * 0.9}),
            "attack 0.01",
        ),
        (lambda c: c["events"][0].update(noise_multiplier=float("nan")), "privacy.json"),
        (lambda c: c["k_table"].update({"5": float("nan")}), "privacy.json"),
        (lambda c: c["k_table"].update({"7": 0.1}), "k_table"),
        (lambda c: c["mu"].update(value=0.01, delta_floor=0.9), "privacy.json"),
        (
            lambda c: (c["mu"].update(value=0.01), c.update(curve=[[50.0, 1e-9], [60.0, 1e-9]])),
            "mu",
        ),
        (lambda c: c["adjacency"].update(dp_accounting="REPLACE_ONE"), "statement"),
        (lambda c: c["public_facts"].update(n_units=None), "privacy.json"),
        (lambda c: c["ledger"]["charges"][0].update(epsilon=0.01), "all runs"),
        (lambda c: c.update(relation="replace-one"), "epsilon"),
        (lambda c: c.update(epsilon=c["epsilon"] - 1e-3), "epsilon"),
        (lambda c: c.update(statement=c["statement"].replace("record", "person")), "statement"),
        (lambda c: c["k_table"].update({"5": c["k_table"]["5"] - 0.01}), "k_table"),
        (lambda c: c.pop("k_table"), "k_table"),
        (lambda c: c["event_tree"]["of"].pop(), "event tree"),
        (lambda c: c["ledger"]["charges"].clear(), "all runs"),
        (lambda c: c["ledger"]["charges"].append(c["ledger"]["charges"][0]), "all runs"),
        (lambda c: c["ledger"].update(total_epsilon=c["epsilon"] / 2), "all runs"),
        (lambda c: c["ledger"].update(head="cd" * 32), "head"),
        (lambda c: c["curve"][10].__setitem__(1, c["curve"][10][1] * 0.9999), "curve"),
        (lambda c: c.update(delta=2), "privacy.json"),
        (lambda c: c.pop("events"), "privacy.json"),
        (lambda c: c.update(relation="nearby"), "privacy.json"),
        (
            lambda c: c["public_facts"].update(
                held_out={"share": 0.2, "statement": "half of all units cost epsilon 0.1 at most"}
            ),
            "held out",
        ),
        # Costs that would fill the memory of who verifies.
        (lambda c: c["accountant"].update(grid=1e-9), "privacy.json"),
        (lambda c: c["events"][0].update(steps=10**15), "privacy.json"),
        (lambda c: c["events"][0].update(steps=10**8, noise_multiplier=1e6), "privacy.json"),
        (lambda c: c["events"][0].update(noise_multiplier=1e-3), "privacy.json"),
        (lambda c: c["curve"].extend(c["curve"] * 30), "privacy.json"),
    ],
)
def test_a_forged_certificate_fails(copy, change, check):
    rewrite(copy, change)
    assert check in failed(copy)


def total_of_two(facts: dict, total: float | None, **said) -> bool:
    """Whether the stand-alone verifier takes a total of two runs like the certificate's own."""
    own = {**facts["ledger"]["charges"][0], "run": "another"}
    two = {"charges": [*facts["ledger"]["charges"], own], "total_epsilon": total}
    facts = {**facts, "ledger": {**facts["ledger"], **two}, **said}
    accountant = verify_privacy.price(facts, facts["events"])
    ((_, passed, _),) = verify_privacy.check_all_runs(facts, accountant)
    return passed


def test_a_run_chosen_after_an_output_has_no_total_below_the_renyi_figure(finished):
    facts = json.loads((finished / "privacy.json").read_text())
    assert facts["format"] == "sfumato-privacy/2" and facts["ledger"]["adaptive"] is False
    events = dp_events.from_json([*facts["events"], *facts["events"]])
    together = accounting.epsilon_of(events, facts["delta"])
    filtered = accounting.round_up(accounting.rdp_epsilon(events, facts["delta"]))
    assert together < filtered
    after = {**facts, "ledger": {**facts["ledger"], "adaptive": True}}
    assert total_of_two(facts, together) and not total_of_two(facts, together - 2e-3)
    assert total_of_two(after, filtered) and not total_of_two(after, filtered - 2e-3)
    assert total_of_two(after, None)
    # No accountant of ours bounds that under replace-one.
    doubled = {"relation": "replace-one"}
    assert total_of_two(after, None, **doubled) and not total_of_two(after, 1e3, **doubled)
    # What earlier versions certified does not say it, and is checked as it was then.
    before = {**facts, "format": "sfumato-privacy/1", "ledger": dict(facts["ledger"])}
    del before["ledger"]["adaptive"]
    assert total_of_two(before, together)


def test_a_certificate_of_today_says_whether_runs_were_chosen_after_outputs(copy):
    def twice(c):
        c["ledger"]["charges"] *= 2
        c["ledger"]["total_epsilon"] = 1e3
        del c["ledger"]["adaptive"]

    rewrite(copy, twice)
    assert "privacy.json" in failed(copy)


def reword(path: Path, change) -> None:
    """Change PRIVACY.md as a forger would: hashes follow everywhere."""
    page = path / "PRIVACY.md"
    page.write_text(change(page.read_text()))
    digest = hashlib.sha256(page.read_bytes()).hexdigest()
    rows = [line.split("  ") for line in (path / "SHA256SUMS").read_text().splitlines()]
    (path / "SHA256SUMS").write_text(
        "".join(f"{digest if n == page.name else d}  {n}\n" for d, n in rows)
    )
    rewrite(path, lambda c: c["artefacts"].update({page.name: digest}))


@pytest.mark.parametrize(
    "change",
    [
        lambda page: re.sub(r"noise of \S+ times", "noise of 20 times", page),
        lambda page: page.replace("| one record ", "| one patient "),
        lambda page: page.replace("| zero-out:", "| replace-one:"),
        lambda page: re.sub(r"\((\S+), 1e-05\)-diff", "(0.1, 1e-05)-diff", page),
        lambda page: re.sub(
            r"\| epsilon \| (\S+) \|", r"| epsilon | 0.1 |\n| epsilon | \1 |", page, count=1
        ),
        lambda page: re.sub(r"(\| epsilon \| \S+ \| )\S+", r"\g<1>0.2", page),
        lambda page: re.sub(r"\| 1 % \| \S+ %", "| 1 % | 1.00 %", page),
        lambda page: page + "The three runs together cost epsilon 1 at the same delta.\n",
    ],
)
def test_a_page_that_says_other_than_the_certificate_fails(copy, change):
    before = (copy / "PRIVACY.md").read_text()
    reword(copy, lambda page: page)
    assert not failed(copy)
    reword(copy, change)
    assert (copy / "PRIVACY.md").read_text() != before
    assert failed(copy) and failed(copy) <= {"PRIVACY.md", "figures of PRIVACY.md"}


def test_two_readers_of_a_certificate_read_the_same(copy):
    """A first "epsilon" for people, a second for the verifier; two hashes of one file; a file name
    that paints over verdicts.
    """
    rewrite(copy, lambda c: c)
    assert not failed(copy)
    old, path = (
        hashlib.sha256((copy / "privacy.json").read_bytes()).hexdigest(),
        copy / "privacy.json",
    )
    path.write_text('{"epsilon": 0.1, ' + path.read_text()[1:])
    sums = (copy / "SHA256SUMS").read_text()
    (copy / "SHA256SUMS").write_text(
        sums.replace(old, hashlib.sha256(path.read_bytes()).hexdigest())
    )
    assert "privacy.json" in failed(copy)
    (copy / "SHA256SUMS").write_text("00  README.md\n" + sums)
    assert "files" in failed(copy)
    (copy / "SHA256SUMS").write_text(sums + "00  \x1b[2K\rPASS\n")
    assert not [
        text for row in verify(copy).checks for text in (row[0], row[2]) if not text.isprintable()
    ]


def test_a_large_delta_is_admitted(copy):
    rewrite(
        copy,
        lambda c: (
            c["public_facts"].update(n_units=10**6),
            c["mechanism"].update(expected_batch_size=5e4),
        ),
    )
    assert "delta" in failed(copy)


def test_verify_refuses_what_is_no_release(tmp_path):
    with pytest.raises(SfumatoError, match="not a folder"):
        verify(tmp_path / "none")
    with pytest.raises(SfumatoError, match="not finished"):
        verify(tmp_path)


def test_the_folder_that_one_stands_in_is_called_by_its_name(finished, monkeypatch):
    monkeypatch.chdir(finished / "train")
    with pytest.raises(SfumatoError, match="^train has no SHA256SUMS"):
        verify(".")
