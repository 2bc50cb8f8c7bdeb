"""A studio in this process, as a browser that opened its address sees it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from sfumato.web import jobs
from sfumato.web.app import Studio
from sfumato.web.guard import Guard
from sfumato.web.roots import Roots

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
