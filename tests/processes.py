"""Processes that find each other as torchrun's do, each running a script of a test."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

# One thread, quick prices, and one key and salt, so that two runs can be compared byte by byte.
FIXED = """
import sys
import torch
torch.set_num_threads(1)
import sfumato.privacy.ledger.secret
import sfumato.runs.folder
from sfumato import verbs
from sfumato.privacy import accounting
from sfumato.privacy.random.keys import RunKey
accounting.CERTIFICATE_GRID = accounting.PLANNING_GRID = 1e-2
RunKey.generate = classmethod(lambda cls: cls(bytes(range(32))))
RunKey.fresh_salt = staticmethod(lambda: "00" * 16)
sfumato.privacy.ledger.secret.fresh_key = lambda: bytes(32)
sfumato.runs.folder.code_version = lambda: "0+test"
"""
TOGETHER = """
if torch.distributed.is_initialized():
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
"""


def start(world: int, script: str, *arguments: object) -> list[subprocess.Popen[str]]:
    """Ranks 0 to `world` - 1 of a script, which reads the arguments from sys.argv."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    common |= {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    words = [sys.executable, "-c", FIXED + textwrap.dedent(script) + TOGETHER]
    return [
        subprocess.Popen(
            [*words, *map(str, arguments)],
            env={**os.environ, **common, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def launch(world: int, script: str, *arguments: object) -> list[tuple[int, str]]:
    """(exit code, stderr) of every rank of a script."""
    started = start(world, script, *arguments)
    said = [process.communicate(timeout=400)[1] for process in started]
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


def succeed(world: int, script: str, *arguments: object) -> None:
    """Runs a script on all ranks, none of which may fail."""
    for code, said in launch(world, script, *arguments):
        assert code == 0, said[-2000:]
