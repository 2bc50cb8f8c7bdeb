#!/usr/bin/env bash
# dp-accounting 0.6.0: under REPLACE_ONE the two accountants mean different things by GaussianDpEvent(noise_multiplier). PLD takes the
# sensitivity as twice the clip; RDP takes the event as it stands.
# Seen (sigma 2, one step, delta 1e-5): PLD add/remove 1.993, PLD replace-one 4.377, RDP replace-one 2.166 (RDP add/remove 2.166).
# Guess: both double, or both refuse; RDP is at or above PLD everywhere, so it can serve as a check from above.
# Why it matters: "check PLD by RDP" is common advice, and under replace-one RDP says half the price. Whoever has only RDP there
# must halve the noise multiplier before composing.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check dp-accounting==0.6.0
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PY'
import sys
import dp_accounting
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

relation = dp_accounting.NeighboringRelation
cases = {
    "PLD add/remove": PLDAccountant(relation.ADD_OR_REMOVE_ONE),
    "PLD replace-one": PLDAccountant(relation.REPLACE_ONE),
    "RDP add/remove": RdpAccountant(neighboring_relation=relation.ADD_OR_REMOVE_ONE),
    "RDP replace-one": RdpAccountant(neighboring_relation=relation.REPLACE_ONE),
}
expected = (1.993, 4.377, 2.166, 2.166)
seen = []
for name, accountant in cases.items():
    accountant.compose(dp_accounting.GaussianDpEvent(2.0))
    seen.append(float(accountant.get_epsilon(1e-5)))
    print(f"{name}: {seen[-1]:.4f}")
if any(abs(a - b) > 0.002 for a, b in zip(seen, expected, strict=True)):
    sys.exit("changed: the accountants give other epsilons")
PY
