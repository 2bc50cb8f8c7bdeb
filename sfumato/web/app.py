"""The page's addresses: six screens of a project, what their forms do, and the pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from . import actions, files, jobs, screens, standing, words
from .forms import Wrong, parse
from .project import Changed, Project, all_projects, new_project, open_project
from .roots import Outside, Roots

HERE = Path(__file__).parent


class Studio:
    """One studio: the folder of its projects, and what it may open.

    Args:
        top: The folder of its projects.
        roots: Folders below which images may lie.
    """

    def __init__(self, top: Path, roots: Roots) -> None:
        self.top, self.roots = top, roots
        self.environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.globals["json"] = cast(Any, json.dumps)
        self.environment.globals["by_flags"] = cast(Any, words.by_flags)
        self.environment.globals["exact"] = cast(Any, words.exact)
        self._choices: dict[str, Any] = {}

    def choices(self) -> dict[str, Any]:
        """The bundled bases and the methods, as the verb `bases` lists them."""
        if not self._choices:
            job = jobs.latest(self.top, "choices")
            found = None if job is None else job.facts()
            if found is not None:
                self._choices = found
            elif job is None or job.state != jobs.RUNNING:
                self.ask_choices()
        return self._choices

    def ask_choices(self) -> None:
        """Asks for them, in a process of its own: it loads what models need."""
        self.top.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            jobs.start(self.top, "choices", ["bases", "--json"])
        except jobs.Busy:
            return

    def page(self, template: str, code: int = 200, **values: Any) -> HTMLResponse:
        """A template as an answer."""
        text = self.environment.get_template(template).render(**values)
        return HTMLResponse(text, code)

    def application(self) -> Starlette:
        """The page, without its guard."""
        routes = [
            Route("/", self.home),
            Route("/new", self.new, methods=["POST"]),
            Route("/paths", self.paths, methods=["POST"]),
            Route("/static/{name}", self.static),
            Route("/{project}/do/{action}", self.do, methods=["POST"]),
            Route("/{project}/status/{screen}", self.status),
            Route("/{project}/picture/{kind}/{number:int}", self.picture),
            Route("/{project}/page/{name}", self.document),
            Route("/{project}/{screen}", self.screen),
        ]
        handlers: dict[Any, Callable[..., Any]] = {
            HTTPException: self.wrong,
            Outside: self.wrong,
            Wrong: self.wrong,
            Changed: self.wrong,
            jobs.Busy: self.wrong,
            Exception: self.wrong,
        }
        return Starlette(routes=routes, exception_handlers=handlers)

    def wrong(self, request: Request, error: Exception) -> Response:
        """What did not work, in one sentence, and the way back; no path, no trace."""
        status, text = said_of(error)
        return self.page("error.html.j2", status, text=text, back=self.back(request))

    def back(self, request: Request) -> str | None:
        """The screen that a form was sent from, else the last one that the project has reached."""
        project = open_project(self.top, request.path_params.get("project", ""))
        if project is None:
            return None
        reached = standing.reached(project)
        came = request.headers.get("referer", "").rpartition("/")[2]
        return f"/{project.name}/{came if came in reached else reached[-1]}"

    def opened(self, request: Request) -> Project:
        """The project of an address; 404 for one that there is not."""
        found = open_project(self.top, request.path_params["project"])
        if found is None:
            raise HTTPException(404)
        return found

    def home(self, request: Request) -> Response:
        """All projects."""
        self.choices()
        found = [(one, standing.reached(one)[-1]) for one in all_projects(self.top)]
        return self.page("home.html.j2", projects=found, screens=screens.SCREENS)

    def new(self, request: Request) -> Response:
        """An empty project."""
        return RedirectResponse(f"/{new_project(self.top).name}/images", 303)

    def static(self, request: Request) -> Response:
        """A style sheet or the script."""
        return files.static(request.path_params["name"])

    async def paths(self, request: Request) -> Response:
        """Folders that begin as what was typed."""
        form = parse(await request.body())
        return JSONResponse(self.roots.complete(form.get("path", "")))

    def screen(self, request: Request) -> Response:
        """One screen; where the project is not there yet, the last one that it has reached."""
        project, name = self.opened(request), request.path_params["screen"]
        if name not in screens.SCREENS:
            raise HTTPException(404)
        reached = standing.reached(project)
        if name not in reached:
            return RedirectResponse(f"/{project.name}/{reached[-1]}", 303)
        values = screens.view(project, name, self.choices())
        values["now"] = screens.status(project, name)
        values["roots"], values["named"] = self.roots.roots, self.roots.named
        return self.page(f"{name}.html.j2", **values)

    def status(self, request: Request) -> Response:
        """Where everything stands, for a page that is open."""
        project, name = self.opened(request), request.path_params["screen"]
        if name not in screens.SCREENS:
            raise HTTPException(404)
        return JSONResponse(screens.status(project, name))

    async def do(self, request: Request) -> Response:
        """What a form asks for, then the screen that shows it."""
        project = self.opened(request)
        action = actions.ACTIONS.get(request.path_params["action"])
        if action is None:
            raise HTTPException(404)
        form = parse(await request.body())
        following = action(self, project, form)
        return RedirectResponse(f"/{project.name}/{following}", 303)

    def picture(self, request: Request) -> Response:
        """One picture of the project."""
        kind, number = request.path_params["kind"], request.path_params["number"]
        return files.picture(self.opened(request), kind, number)

    def document(self, request: Request) -> Response:
        """A page that a verb wrote."""
        return files.document(self.opened(request), request.path_params["name"])


def said_of(error: Exception) -> tuple[int, str]:
    """Status and sentence of whatever went wrong."""
    if isinstance(error, Changed):
        return 409, (
            "These answers were changed meanwhile, in another tab or studio: nothing was changed"
            " here. Go back, load the page again, and look."
        )
    if isinstance(error, jobs.Busy):
        return 409, "That was started already, perhaps in another tab: go back and load again."
    if isinstance(error, (Wrong, Outside)):
        return 400, str(error)
    if isinstance(error, HTTPException):
        return error.status_code, "There is no such page."
    return 500, (
        f"The page stumbled ({type(error).__name__}). Whether what you asked for has begun stands"
        " on its screen: load that again before you ask once more."
    )
