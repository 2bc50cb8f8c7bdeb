"""A studio in this process, as a browser that opened its address sees it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from sfumato.web import commands, jobs
from sfumato.web.app import Studio
from sfumato.web.guard import Guard
from sfumato.web.roots import Roots

from .answers import LOOKED, PLANNED, done, opened
from .marks import MARK, mark_all

PORT, TOKEN = 49152, "once-and-only-once"
ORIGIN = f"http://127.0.0.1:{PORT}"


@dataclass
class Answer:
    """One answer as it left the page, redirects and refusals too."""

    method: str
    path: str
    status: int = 0
    text: bytes = b""  # headers and body


class Watched:
    """Keeps every answer of an application."""

    def __init__(self, app, answers: list[Answer]) -> None:
        self.app, self.answers = app, answers

    async def __call__(self, scope, receive, send) -> None:
        answer = Answer(scope.get("method", ""), scope.get("path", ""))
        self.answers.append(answer)

        async def kept(message) -> None:
            answer.status = message.get("status", answer.status)
            answer.text += b"".join(b"%s: %s\n" % pair for pair in message.get("headers", ()))
            answer.text += message.get("body", b"")
            await send(message)

        await self.app(scope, receive, kept)


class Browser:
    """Opens pages and fills in forms; follows where they lead."""

    def __init__(self, studio: Studio, guard: Guard) -> None:
        self.studio, self.guard = studio, guard
        self.answers: list[Answer] = []
        watched = Watched(guard, self.answers)
        self.client = TestClient(watched, ORIGIN, raise_server_exceptions=False)

    def enter(self):
        answer = self.client.get(f"/enter?token={TOKEN}")
        assert answer.status_code == 200
        return self

    def get(self, path: str):
        return self.client.get(path)

    def post(self, path: str, /, **form: object):
        """A form as the page has it, with the version of the answers that it shows."""
        if "/do/" in path and "version" not in form:
            form["version"] = self.version(path.split("/")[1])
        said = {name: str(value) for name, value in form.items() if value is not None}
        return self.client.post(path, data=said, headers={"origin": ORIGIN})

    def version(self, project: str) -> int:
        folder = self.studio.top / project
        names = [int(m[1]) for p in folder.iterdir() if (m := re.match(r"answers-(\d+)", p.name))]
        return max(names, default=0)

    def project(self) -> str:
        answer = self.post("/new")
        assert answer.status_code == 200, answer.text
        return str(answer.url).rsplit("/", 2)[1]

    def wait(self, project: str, name: str, seconds: float = 200) -> jobs.Job:
        """Until the newest job of that name has ended."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            job = jobs.latest(self.studio.top / project, name)
            if job is not None and job.state != jobs.RUNNING:
                return job
            time.sleep(0.1)
        raise AssertionError(f"{name} goes on")


@pytest.fixture
def make(tmp_path):
    """Studios on one folder of projects, each with a browser."""

    def make(*roots: Path, top: Path = tmp_path / "projects") -> Browser:
        top.mkdir(exist_ok=True)
        studio = Studio(top, Roots([*roots] or [tmp_path]))
        # no test needs the seconds that listing takes
        studio._choices = {"bases": {}, "methods": {}}
        return Browser(studio, Guard(studio.application(), PORT, TOKEN))

    return make


@pytest.fixture
def marked(tmp_path, tiny_images):
    """A folder in whose file names, captions, tags and pixels stands a marker."""
    root = mark_all(tiny_images, tmp_path / "images")
    (root / "cross" / f"{MARK}-bad.png").write_bytes(MARK.encode())
    return root


@pytest.fixture
def planned(make, marked, monkeypatch):
    """A project whose plan is made, and what would be started."""
    browser = make().enter()
    project = browser.project()
    begun: list[tuple[str, list[str]]] = []
    for way in ("start", "instead"):
        monkeypatch.setattr(jobs, way, lambda place, name, argv: begun.append((name, argv)))
    browser.post(f"/{project}/do/folder", images=marked)
    done(browser, project, "look", commands.look(opened(browser, project)), LOOKED)
    assert browser.post(f"/{project}/do/answers", what="classes", unit="image").status_code == 200
    browser.post(f"/{project}/do/promise", epsilon=4)
    browser.studio._choices = {"bases": {"icons": {"says": "x", "image": "", "parameters": ""}}}
    page = browser.post(f"/{project}/do/plan", base="icons", method="lora", time="5min")
    assert page.status_code == 200, page.text
    done(browser, project, "plan-lora", begun[-1][1], PLANNED)
    return browser, project, begun
