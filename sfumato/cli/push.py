"""`sfumato push`: a finished release to a hub."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from ..options import Sharing
from .config import from_config
from .live import LiveLine
from .options import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..releases.parcel import Item


@from_config("push")
@options(sharing=(Sharing,))
def push(
    release: Annotated[Path, Argument(metavar="RELEASE", help="A finished release.")],
    sharing: dict,
) -> None:
    """Verify a finished release and send it to a hub: private, unless you say --public. The only
    verb that uses the network; log in first (`hf auth login`, or HF_TOKEN).

    \b
    sfumato push release --to ORG/NAME --dry-run
    sfumato push release --to ORG/NAME
    sfumato push release --to ORG/NAME --public --space ORG/NAME-verified
    """
    from ..verbs.push import push as send

    with LiveLine() as line:
        done = send(release, on_stage=line.stage, **sharing)
    seen = "public" if sharing.get("public") else "private"
    if not done.url:
        _list(done.items)
        print(f"a {seen} {done.kind}, {sharing['to']}: nothing was sent (--dry-run)")
        if done.space:
            _list(done.space)
            print(f"a {seen} Space, {sharing['space']}: nothing was sent (--dry-run)")
        return
    print(f"{done.url}: {len(done.items):,} files, {seen}; the hub holds what was verified")
    if done.space_url:
        print(f"{done.space_url}: {seen}; a private release needs the secret HF_TOKEN there")
    kind = " --repo-type dataset" if done.kind == "dataset" else ""
    print(f"anybody with access: hf download {quote(sharing['to'])}{kind} --local-dir release")
    print("then: sfumato verify release")


def _list(items: Sequence[Item]) -> None:
    """Every file that goes out: bytes, SHA-256, name."""
    for item in items:
        print(f"{item.size:>12,}  {item.sha256}  {item.name}")
    print(f"{sum(item.size for item in items):>12,}  bytes in {len(items):,} files")
