#!/usr/bin/env bash
# diffusers 0.42.1: FlowMatchEulerDiscreteScheduler.from_pretrained on the scheduler of a Sana folder, as diffusers' own training program
# for Sana does, forgets its shift. The folder holds a DPMSolverMultistepScheduler set to flows, which calls it flow_shift; the other class
# knows `shift`, keeps flow_shift as a setting that it does not read, and takes 1.
# Seen: flow_shift 3 is saved; the class that trains has shift 1 and trains at noise shares of 0.25, 0.5, 0.75 where the folder's own
# draws at 0.5, 0.75, 0.9. No warning at the default level of logging.
# Guess: a scheduler that is a compatible reader of a folder has the folder's noise schedule, or says that it has not.
# Why it matters: training times are not those that pictures are drawn by, and a recipe's noise schedule is not the one in its folder.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 diffusers==0.42.1
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PY'
import sys

from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

saved = DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0)
saved.save_pretrained("scheduler")
trains = FlowMatchEulerDiscreteScheduler.from_pretrained("scheduler")
known = trains.config.shift, trains.config.get("flow_shift")
print(f"saved: flow_shift 3; the class that trains has shift {known[0]:g}, and flow_shift {known[1]} among its settings")
saved.set_timesteps(4)
draws = [round(float(s), 2) for s in saved.sigmas[1:4]]
middle = [round(float(trains.sigmas[i]), 2) for i in (249, 499, 749)]
print(f"three quarters, half and a quarter of the way: trained at noise {middle}, drawn at {draws}")
if known != (1.0, 3.0) or middle == draws:
    sys.exit("changed: the shift is the folder's")
PY
