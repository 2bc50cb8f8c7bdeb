"""`push`: a finished release to a hub, verified first, and a Space that verifies it there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from ..options import Sharing, gather, takes
from ..releases.hub import send
from ..releases.parcel import Item, pack
from ..releases.space import space_items
from .keywords import PushOptions

NOT_SENT = "0" * 40  # in the place of a revision that there is not yet


@dataclass(frozen=True)
class Pushed:
    """What went to a hub, or would go.

    Attributes:
        kind: "dataset" or "model".
        items: Every file of the release, with size and digest.
        space: Those of the Space; nothing without one.
        url: Of the release at its commit; empty after a dry run.
        space_url: Of the Space, likewise.
    """

    kind: str
    items: tuple[Item, ...]
    space: tuple[Item, ...] = ()
    url: str = ""
    space_url: str = ""


@takes(sharing=Sharing)
def push(
    release: str | Path,
    *,
    on_stage: Callable[[str], None] = lambda stage: None,
    **options: Unpack[PushOptions],
) -> Pushed:
    """Verifies a finished release, and sends it to a repository of its own on a hub.

    The only verb that uses the network: the hub is that of `HF_ENDPOINT` (default huggingface.co),
    with the token of `hf auth login` or `HF_TOKEN`. Nothing goes out but the files of the release,
    each checked against the allow-list and its digest. A push that broke off goes on where it was.

    Args:
        release: A folder of `release`.
        on_stage: Called with a line for every stage.
        options: Fields of `Sharing`, or a whole object.

    Returns:
        What was sent.

    Raises:
        CheckFailed: The release does not verify.
        SfumatoError: No repository is named, or it holds other files.
        MachineError: The hub refuses or does not answer.
    """
    how: Sharing = gather({"sharing": Sharing}, options, ("release", "on_stage"))["sharing"]
    name = how.require_names()
    on_stage("verifying the release")
    parcel = pack(Path(release))
    if how.dry_run:
        space = space_items(name, parcel.kind, NOT_SENT) if how.space else ()
        return Pushed(parcel.kind, parcel.items, space)

    def sending(done: int, of: int) -> None:
        on_stage(f"sending: {done:,} of {of:,} files are there")

    url = send(parcel.items, name, parcel.kind, public=how.public, progress=sending)
    if how.space is None:
        return Pushed(parcel.kind, parcel.items, url=url)
    on_stage("sending the Space")
    space = space_items(name, parcel.kind, url.rpartition("/")[2])
    space_url = send(space, how.space, "space", public=how.public)
    return Pushed(parcel.kind, parcel.items, space, url, space_url)
