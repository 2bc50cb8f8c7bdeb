"""`python -m sfumato.auditing`: the checks of the package on dummy models, all or some by name."""

from __future__ import annotations

import argparse
import os
import sys

# Before the heavy imports: nothing is fetched, and no foreign progress bars.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
}


def main(argv: list[str] | None = None) -> int:
    """Print one row for each finding; the exit code is 0 if all passed and 15 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m sfumato.auditing", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", metavar="CHECK", help="names of checks (default: all; see --list)"
    )
    parser.add_argument("--list", action="store_true", help="name the checks and end")
    parser.add_argument("--quick", action="store_true", help="fewer models")
    parser.add_argument("--stop", action="store_true", help="end at the first failure")
    parser.add_argument("--fresh", action="store_true", help="a seed of the moment; it is printed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--more", type=int, default=0, help="further random neighbours for each model of M1"
    )
    chosen = parser.parse_args(argv)

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from .checks import CHECKS, Settings, run_checks
    from .report import FAILED, fresh_seed, print_row, summary

    if chosen.list:
        for name, check in CHECKS.items():
            print(f"{name:8}{(check.__doc__ or '').strip()}")
        return 0
    unknown = [name for name in chosen.only or () if name not in CHECKS]
    if unknown:
        parser.error(f"unknown check {unknown[0]}: choose {', '.join(CHECKS)}")
    seed = fresh_seed() if chosen.fresh else chosen.seed
    settings = Settings(seed=seed, quick=chosen.quick, more=chosen.more)
    findings = run_checks(chosen.only, settings, stop=chosen.stop, on_finding=print_row)
    for line in summary(findings, settings):
        print(line)
    return 0 if all(finding.passed for finding in findings) else FAILED


if __name__ == "__main__":
    sys.exit(main())
