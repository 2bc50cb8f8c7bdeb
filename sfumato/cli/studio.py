"""`sfumato studio`: everything from folder to signed statement, on a page of this machine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ..errors import MachineError


def studio(
    roots: Annotated[
        list[Path] | None,
        Argument(
            metavar="[FOLDER]...",
            help="Folders below which images may be chosen (default: your home folder).",
        ),
    ] = None,
    port: Annotated[int, Option("--port", min=0, max=65535, help="0: a free one.")] = 0,
    browser: Annotated[
        bool, Option("--browser/--no-browser", help="Open the page, or only print its address.")
    ] = True,
    projects: Annotated[
        Path | None,
        Option("--projects", metavar="DIR", help="All projects (default: ~/sfumato-studio)."),
    ] = None,
) -> None:
    """Open a local page that leads from a folder of images to a signed statement. It listens on
    this machine alone, uploads nothing, and runs the same verbs.

    \b
    sfumato studio
    sfumato studio ./scans --no-browser --port 8080
    """
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise MachineError(
            f"{' and '.join(missing)} not installed: pip install 'sfumato[studio]', then again"
        )
    from ..web.serve import serve

    serve(roots or [], port=port, browser=browser, projects=projects)
