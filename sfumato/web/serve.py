"""The studio's server: on this machine alone, at a port and a token of its own."""

from __future__ import annotations

import secrets
import socket
import tempfile
import webbrowser
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import uvicorn

from ..errors import MachineError, SfumatoError
from .app import Studio
from .guard import ENTER, Guard
from .roots import Roots

LOCAL = "127.0.0.1"
FOLDER = "sfumato-studio"
LEADS_ON = '<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={}">\n'


def serve(
    roots: Sequence[Path],
    *,
    port: int = 0,
    browser: bool = True,
    projects: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serves the page until it is stopped; what it started goes on.

    Args:
        roots: Folders below which images may lie; none: the home folder.
        port: 0 for a free one.
        browser: Open the page.
        projects: The folder of all projects.
        say: Called with lines for the terminal.

    Raises:
        SfumatoError: A root that is no folder.
        MachineError: The port is taken, there is no home folder, or none can be made for projects.
    """
    top, opened = _top(projects), Roots(list(roots) or [_home()], bool(roots))
    for root in opened.roots:
        if not root.is_dir():
            raise SfumatoError(f"{root} is no folder: name one that holds images")
    try:
        top.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"cannot make {top} ({error.strerror}): name another folder with --projects"
        ) from None
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((LOCAL, port))
            listening.listen()  # who comes before the first answer waits, and is not turned away
        except OSError as error:
            raise MachineError(
                f"port {port} cannot be used ({error.strerror}): leave --port out for a free one"
            ) from None
        number = listening.getsockname()[1]
        token = secrets.token_urlsafe(32)
        studio = Studio(top, opened)
        studio.ask_choices()
        address = f"http://{LOCAL}:{number}{ENTER}?token={token}"
        say(f"projects lie in {top} (PRIVATE)")
        say(f"open once, on this machine: {address}")
        say("Ctrl-C ends the page; what runs goes on")
        file = _file(address) if browser else None
        if file is not None:
            webbrowser.open(file.as_uri())
        try:
            # No access log, and no traces: addresses and errors could name what is private.
            config = uvicorn.Config(
                Guard(studio.application(), number, token, partial(_remove, file)),
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                date_header=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                limit_concurrency=64,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=2,
                h11_max_incomplete_event_size=32_768,
            )
            uvicorn.Server(config).run([listening])
        finally:
            _remove(file)


def _file(address: str) -> Path:
    """A file that leads to the page and that its owner alone can read, until it was used.

    A browser is told to open it, and not the address, which other users would see in the list of
    processes.
    """
    handle, name = tempfile.mkstemp(suffix=".html", prefix="sfumato-studio-")
    with open(handle, "w", encoding="utf-8") as file:
        file.write(LEADS_ON.format(address))
    return Path(name)


def _remove(file: Path | None) -> None:
    if file is not None:
        file.unlink(missing_ok=True)


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise MachineError(
            "there is no home folder: name the folder of the images, sfumato studio FOLDER"
        ) from None


def _top(projects: Path | None) -> Path:
    return (projects or _home() / FOLDER).expanduser().resolve()
