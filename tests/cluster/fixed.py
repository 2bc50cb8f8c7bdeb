"""`python -m sfumato` with one key and salt, so that two runs can be compared byte by byte."""

from __future__ import annotations

import sys

import torch

import sfumato.privacy.ledger.secret
from sfumato.cli.shell import main
from sfumato.privacy import accounting
from sfumato.privacy.random.keys import RunKey

if __name__ == "__main__":
    torch.set_num_threads(1)
    accounting.CERTIFICATE_GRID = accounting.PLANNING_GRID = 1e-2
    RunKey.generate = classmethod(lambda cls: cls(bytes(range(32))))
    RunKey.fresh_salt = staticmethod(lambda: "00" * 16)
    sfumato.privacy.ledger.secret.fresh_key = lambda: bytes(32)
    sys.exit(main())
