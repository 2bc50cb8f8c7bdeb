"""Requests that nobody may make: all refused, nothing leaked, nothing started, nothing charged."""

from __future__ import annotations

import asyncio
import json

import pytest

from sfumato.web import jobs
from sfumato.web.guard import MOST_BYTES

from .conftest import ORIGIN, PORT, TOKEN

MARK = "zz-marker-in-a-private-name"
EVIL = "http://evil.example"
FORM = {"origin": ORIGIN, "content-type": "application/x-www-form-urlencoded"}
P = "/project-1"


def form(text: str) -> dict:
    return {"content": text, "headers": FORM}


# name -> (method, path, keywords of the request, whether the cookie goes with it, status)
REQUESTS = {
    "no cookie": ("GET", "/", {}, False, 403),
    "no cookie, a picture": ("GET", f"{P}/picture/sheet/1", {}, False, 403),
    "no cookie, an action": ("POST", f"{P}/do/run", form("version=1&public=yes"), False, 403),
    "no cookie, a style sheet": ("GET", "/static/studio.css", {}, False, 403),
    "token used before": ("GET", f"/enter?token={TOKEN}", {}, False, 403),
    "another token": ("GET", "/enter?token=guess", {}, False, 403),
    "token twice": ("GET", f"/enter?token={TOKEN}&token={TOKEN}", {}, False, 403),
    "token by POST": ("POST", f"/enter?token={TOKEN}", form(""), False, 403),
    "cookie of another": ("GET", "/", {"headers": {"cookie": f"sfumato-{PORT}=x"}}, False, 403),
    "cookie of another port": ("GET", "/", {"headers": {"cookie": "sfumato-1=x"}}, False, 403),
    "broken cookie": ("GET", "/", {"headers": {"cookie": "=;;;\x7f"}}, False, 403),
    "another host": ("GET", "/", {"headers": {"host": "evil.example"}}, True, 421),
    "host that leads here": ("GET", "/", {"headers": {"host": f"evil.example:{PORT}"}}, True, 421),
    "another port": ("GET", "/", {"headers": {"host": "127.0.0.1:80"}}, True, 421),
    "origin of a site": ("POST", "/new", {"headers": FORM | {"origin": EVIL}}, True, 403),
    "origin null": ("POST", "/new", {"headers": FORM | {"origin": "null"}}, True, 403),
    "origin of another port": (
        "POST",
        "/new",
        {"headers": FORM | {"origin": "http://127.0.0.1:1"}},
        True,
        403,
    ),
    "no origin": ("POST", "/new", {}, True, 403),
    "picture for a site": (
        "GET",
        f"{P}/picture/sheet/1",
        {"headers": {"sec-fetch-site": "cross-site"}},
        True,
        403,
    ),
    "page for a neighbour": (
        "GET",
        f"{P}/images",
        {"headers": {"sec-fetch-site": "same-site"}},
        True,
        403,
    ),
    "read with an origin": ("GET", f"{P}/images", {"headers": {"origin": EVIL}}, True, 403),
    "method PUT": ("PUT", f"{P}/do/run", {"headers": FORM}, True, 405),
    "method OPTIONS": ("OPTIONS", f"{P}/images", {"headers": {"origin": EVIL}}, True, 405),
    "an action by GET": ("GET", f"{P}/do/run", {}, True, 405),
    "long address": ("GET", "/" + "x" * 2000, {}, True, 414),
    "large form": ("POST", f"{P}/do/folder", form("images=" + "x" * MOST_BYTES), True, 413),
    "many fields": ("POST", f"{P}/do/folder", form("&".join(["a=1"] * 500)), True, 400),
    "a field twice": ("POST", f"{P}/do/folder", form("images=/&images=/&version=0"), True, 400),
    "no form": ("POST", f"{P}/do/folder", form("\xff"), True, 400),
    "unknown project": ("GET", "/project-99/images", {}, True, 404),
    "project that climbs": ("GET", "/..%2f..%2fetc/images", {}, True, 404),
    "screen that climbs": ("GET", f"{P}/..%2f..%2fPRIVATE", {}, True, 404),
    "page that climbs": ("GET", f"{P}/page/..%2f..%2fanswers", {}, True, 404),
    "unknown page": ("GET", f"{P}/page/plan.json", {}, True, 404),
    "picture that is none": ("GET", f"{P}/picture/drawn/-1", {}, True, 404),
    "picture of no kind": ("GET", f"{P}/picture/secret/1", {}, True, 404),
    "thumbnails nobody made": ("GET", f"{P}/picture/sheet/1", {}, True, 404),
    "a file of the package": ("GET", "/static/..%2fapp.py", {}, True, 404),
    "unknown action": ("POST", f"{P}/do/shell", form("version=0"), True, 404),
    "folder outside": ("POST", f"{P}/do/folder", form("images=/etc&version=0"), True, 400),
    "folder that climbs": (
        "POST",
        f"{P}/do/folder",
        form("images=..%2f..%2f..%2f..%2fetc&version=0"),
        True,
        400,
    ),
    "folder with a null": ("POST", f"{P}/do/folder", form("images=%2ftmp%00&version=0"), True, 400),
    "link that leads out": ("POST", f"{P}/do/folder", form("images=out&version=0"), True, 400),
    "run without a plan": ("POST", f"{P}/do/run", form("version=0&public=yes"), True, 400),
    "resume without a run": ("POST", f"{P}/do/resume", form("version=0"), True, 400),
    "release without a model": ("POST", f"{P}/do/release", form("title=x"), True, 400),
    "send what is not verified": ("POST", f"{P}/do/push", form("to=a/b&send=yes"), True, 400),
    "sign nothing": ("POST", f"{P}/do/sign", form("name=x&read=yes"), True, 400),
    "epsilon infinite": ("POST", f"{P}/do/promise", form("epsilon=inf&version=0"), True, 400),
    "epsilon no number": ("POST", f"{P}/do/promise", form("epsilon=nan&version=0"), True, 400),
    "a flag as a cap": ("POST", f"{P}/do/cap", form("cap=--ledger"), True, 400),
}


@pytest.fixture
def studio(make, tmp_path, monkeypatch):
    """A project in a studio whose root holds one private folder, beside a link that leads out."""
    root = tmp_path / "root"
    (root / MARK).mkdir(parents=True)
    (root / "out").symlink_to("/etc")
    browser = make(root).enter()
    assert browser.project() == "project-1"
    begun: list[str] = []
    for way in ("start", "instead"):
        monkeypatch.setattr(jobs, way, lambda project, name, argv: begun.append(name))
    yield browser, begun


@pytest.mark.parametrize("name", REQUESTS)
def test_refused(name, studio, ledger_of_the_test):
    browser, begun = studio
    method, path, said, with_cookie, status = REQUESTS[name]
    if not with_cookie:
        browser.client.cookies.clear()
    before = sorted(p.name for p in browser.studio.top.rglob("*"))
    answer = browser.client.request(method, path, follow_redirects=False, **said)
    assert answer.status_code == status, answer.text
    assert MARK not in answer.text and "root:" not in answer.text and "/etc" not in answer.text
    assert str(browser.studio.top) not in answer.text
    assert not begun and not ledger_of_the_test.exists()
    assert sorted(p.name for p in browser.studio.top.rglob("*")) == before
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "set-cookie" not in answer.headers


def test_there_are_thirty_of_them():
    assert len(REQUESTS) >= 30


def test_the_same_requests_of_the_page_itself_are_served(studio):
    """Else the table above could refuse everything."""
    browser, begun = studio
    # under no-referrer a browser sends the page's own forms without an origin
    assert browser.get("/").headers["referrer-policy"] == "same-origin"
    assert browser.get("/").status_code == browser.get(f"{P}/images").status_code == 200
    assert browser.client.get("/", headers={"sec-fetch-site": "same-origin"}).status_code == 200
    assert browser.post(f"{P}/do/folder", images=MARK).status_code == 200 and begun == ["look"]


def test_a_body_that_does_not_say_how_long_it_is(studio):
    browser, begun = studio

    def parts():
        for _ in range(200):
            yield b"x" * 1000

    headers = FORM | {"transfer-encoding": "chunked"}
    answer = browser.client.post(f"{P}/do/folder", content=parts(), headers=headers)
    assert answer.status_code >= 400 and not begun


def test_two_tabs_change_the_same_answers(studio):
    browser, begun = studio
    assert browser.post(f"{P}/do/folder", images=MARK, version=0).status_code == 200
    late = browser.post(f"{P}/do/folder", images=MARK, version=0)
    assert late.status_code == 409 and begun == ["look"] and "another tab" in late.text


def test_two_studios_change_the_same_answers(studio, make):
    browser, _ = studio
    other = make(*browser.studio.roots.roots, top=browser.studio.top).enter()
    assert other.post(f"{P}/do/folder", images=MARK, version=0).status_code == 200
    assert browser.post(f"{P}/do/folder", images=MARK, version=0).status_code == 409


def test_completion_shows_folders_below_the_roots_alone(studio):
    browser, _ = studio
    root = browser.studio.roots.roots[0]

    def complete(text: str) -> list[str]:
        headers = {"origin": ORIGIN}
        return browser.client.post("/paths", data={"path": text}, headers=headers).json()

    assert complete(f"{root}/z") == [f"{root}/{MARK}"]
    assert complete("") == complete("/") == complete(str(root.parent)) == [str(root)]
    for outside in ("/etc/", "/etc/p", f"{root}/out/", f"{root}/../", "/root/.s"):
        assert complete(outside) in ([], [f"{root}/{MARK}", f"{root}/out"]), outside


def test_a_job_that_runs_is_not_started_again(tmp_path, monkeypatch):
    project = tmp_path / "project-1"
    (project / "jobs" / "adapt-1").mkdir(parents=True)
    asked = project / "jobs" / "adapt-1" / "asked.json"
    monkeypatch.setattr(jobs.Job, "state", property(lambda self: jobs.RUNNING))
    asked.write_text(json.dumps({"argv": ["adapt"], "started": 0}))
    with pytest.raises(jobs.Busy):
        jobs.start(project, "adapt", ["adapt"])


def test_of_two_that_start_at_once_one_does(tmp_path, monkeypatch):
    """A folder that another studio has just made, before it wrote into it."""
    project = tmp_path / "project-1"
    (project / "jobs" / "adapt-1").mkdir(parents=True)
    monkeypatch.setattr(jobs.subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    with pytest.raises(jobs.Busy):
        jobs.start(project, "adapt", ["adapt"])


def test_a_token_of_bytes_that_are_no_text_is_refused(make):
    """A browser sends none, but whoever reaches the port may; nothing may stumble over it."""
    answers: list = []

    async def send(message):
        answers.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/enter", "query_string": b"token=\xff"}
    scope |= {"headers": [(b"host", f"127.0.0.1:{PORT}".encode())], "raw_path": b"/enter"}
    asyncio.run(make().guard(scope, receive, send))
    assert answers[0]["status"] == 403
