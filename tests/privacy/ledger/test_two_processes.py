"""A ledger that one process has open twice while another process opens and closes it."""

from __future__ import annotations

import subprocess
import sys

from sfumato.privacy.ledger.ledger import Ledger

ELSEWHERE = """
import sys
from sfumato.privacy.ledger.ledger import Ledger
print(len(Ledger(sys.argv[1]).rows))
"""


def rows_elsewhere(place) -> int:
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(place)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_what_is_written_after_a_second_opening_stays(tmp_path):
    """A file that is opened and closed loses all locks that its process holds on it (POSIX): the
    other process would then take itself for the last one, and remove the -wal file under us.
    """
    place = tmp_path / "ledger.sqlite"
    first = Ledger(place)
    images = first.identify([b"a" * 32])
    first.set_cap(images, 8.0)
    second = Ledger(place)
    before = len(second.rows)
    assert rows_elsewhere(place) == before
    assert (tmp_path / "ledger.sqlite-wal").exists(), "removed under two ledgers in use"
    first.set_cap(images, 4.0)
    assert len(Ledger(place).rows) == rows_elsewhere(place) == before + 1
