#!/usr/bin/env bash
# opacus 1.6.0, torch 2.13.0: inside torch.utils.checkpoint(use_reentrant=False), which torch recommends, a layer gets no per-record
# gradient; inside use_reentrant=True, which it advises against, all are right. backward() says nothing in the first case; only the
# optimiser's step does. Ghost clipping answers "Parameter tying is not supported", though no parameter is tied.
# Seen: exactly that, for a Linear and its ReLU in the checkpoint, between two other layers. (A layer that ends the checkpoint is right: torch
# stops the second forward before its hook.)
# Guess: both work, or both are refused where the hooks are laid.
# Why it matters: enable_gradient_checkpointing() is how a diffusion UNet is made to fit, and diffusers and transformers pass
# use_reentrant=False. The layer is hooked twice in a step, and the forward counter never comes back to zero.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 opacus==1.6.0
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PY'
import copy
import sys
import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from torch.utils.checkpoint import checkpoint


class Model(torch.nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.a, self.b, self.c = torch.nn.Linear(4, 5), torch.nn.Linear(5, 5), torch.nn.Linear(5, 1)
        self.reentrant = reentrant

    def forward(self, x):
        x = self.a(x)
        x = self.block(x) if self.reentrant is None else checkpoint(self.block, x, use_reentrant=self.reentrant)
        return self.c(x)[:, 0]

    def block(self, x):
        return self.b(x).relu()


torch.manual_seed(0)
x, start = torch.randn(3, 4), Model(None).state_dict()
seen, message, middle = {}, "", {}
for reentrant in (None, True, False):
    model = Model(reentrant)
    model.load_state_dict(start)
    hooked = GradSampleModule(copy.deepcopy(model), loss_reduction="sum")
    hooked(x).pow(2).sum().backward()
    middle[reentrant] = hooked._module.b.weight.grad_sample
    seen[reentrant] = [name for name, p in hooked._module.named_parameters() if p.grad_sample is None]
    fast = GradSampleModuleFastGradientClipping(model, max_grad_norm=1.0, use_ghost_clipping=True, loss_reduction="sum")
    try:
        fast(x).pow(2).sum().backward()
    except NotImplementedError as error:
        message = str(error) if reentrant is False else "too early"
    print(f"use_reentrant={reentrant}: without a per-record gradient: {seen[reentrant]}; ghost: {message or 'right'}")
right = torch.allclose(middle[None], middle[True])
if seen != {None: [], True: [], False: ["b.weight", "b.bias"]} or "tying" not in message or not right:
    sys.exit("changed: checkpointed layers are handled in another way")
PY
