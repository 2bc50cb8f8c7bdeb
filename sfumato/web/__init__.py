"""The page of `sfumato studio`: from a folder to a signed statement in the owner's own browser.

It shows what verbs find and starts them, each in a process of its own. It opens no private file,
computes no figure of a run and holds no promise: the ledger, the run folder and the verbs do that.
What it knows lies on the disk, so that a page, or the whole studio, may close at any time.
"""

from __future__ import annotations

__all__: list[str] = []
