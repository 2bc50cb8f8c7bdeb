"""Who may talk to the page: the browser that opened the one-time address, and nobody else.

The page listens on this machine alone, but other users, and every site that is open in the owner's
browser, can reach that port. So a request needs the cookie that the token was exchanged for, names
this very host, and comes from this very page.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

ENTER = "/enter"
MOST_BYTES = 65_536  # of a form: longer ones are refused
MOST_PATH = 512
METHODS = ("GET", "HEAD", "POST")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",  # under no-referrer a browser's forms have no origin
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=()",
    b"cache-control": b"no-store",
}
REFUSED = b"refused\n"
USED = (
    b"This address was used already, or is none of this studio's. Go back to the tab that it"
    b" opened, or start `sfumato studio` again for a new one.\n"
)
WELCOME = (
    b'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>sfumato studio</title>'
    b'<link rel="icon" href="/static/icon.svg">'
    b'<meta http-equiv="refresh" content="0;url=/"></head><body><p><a href="/">Open the studio</a>'
    b"</p></body></html>\n"
)


class Guard:
    """Asks every request, before the page sees it.

    Args:
        app: The page.
        port: Where it listens.
        token: The one-time token of the address.
        entered: Called when it was used.
    """

    def __init__(
        self, app: App, port: int, token: str, entered: Callable[[], None] = lambda: None
    ) -> None:
        self.app, self.port = app, port
        self.cookie = f"sfumato-{port}"  # cookies know no ports: two studios must not share one
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._token: str | None = token
        self._entered = entered
        self._session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = _headers(scope)
        refused = self._refused(scope, headers)
        if refused is not None:
            await _answer(send, refused, REFUSED)
        elif scope["path"] == ENTER:
            await self._enter(scope, send)
        elif not self._known(headers):
            await _answer(send, 403, USED)
        else:
            await self.app(scope, _limited(receive), _dressed(send))

    def _refused(self, scope: Message, headers: dict[str, list[str]]) -> int | None:
        """The status of a request that nobody may make; None for others."""
        method, host = scope["method"], headers.get("host", [])
        if len(host) != 1 or host[0].lower() not in self.hosts:
            return 421
        if method not in METHODS:
            return 405
        if len(scope.get("raw_path") or b"") > MOST_PATH:
            return 414
        own = f"http://{host[0].lower()}"
        origins = headers.get("origin", [])
        if any(origin != own for origin in origins) or (method == "POST" and len(origins) != 1):
            return 403
        site = headers.get("sec-fetch-site", ["none"])
        if site not in (["none"], ["same-origin"]) and scope["path"] != ENTER:
            return 403
        length = headers.get("content-length", ["0"])
        if len(length) != 1 or not length[0].isdecimal():
            return 400
        return 413 if int(length[0]) > MOST_BYTES else None

    async def _enter(self, scope: Message, send: Send) -> None:
        """Exchanges the token for the cookie, once."""
        given: bytes = scope["query_string"]
        if (
            scope["method"] != "GET"
            or self._token is None
            or not hmac.compare_digest(given, f"token={self._token}".encode())
        ):
            await _answer(send, 403, USED)
            return
        self._token = None
        self._entered()
        cookie = f"{self.cookie}={self._session}; HttpOnly; SameSite=Strict; Path=/"
        more = [(b"set-cookie", cookie.encode()), (b"content-type", b"text/html; charset=utf-8")]
        # A page that leads on, and no redirect: a cookie of this kind does not follow one that
        # began elsewhere.
        await _answer(send, 200, WELCOME, more)

    def _known(self, headers: dict[str, list[str]]) -> bool:
        for line in headers.get("cookie", []):
            try:
                found = SimpleCookie(line).get(self.cookie)
            except CookieError:
                continue
            if found is not None and hmac.compare_digest(
                found.value.encode("utf-8", "replace"), self._session.encode()
            ):
                return True
        return False


def _headers(scope: Message) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _limited(receive: Receive) -> Receive:
    """Ends a body that grows too long without having said so."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MOST_BYTES:
            return {"type": "http.disconnect"}
        return message

    return limited


def _dressed(send: Send) -> Send:
    """Every answer has the headers; a page may set its own policy and caching."""

    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = list(message.get("headers", []))
            names = {name.lower() for name, _ in own}
            message["headers"] = own + [(n, v) for n, v in HEADERS.items() if n not in names]
        await send(message)

    return dressed


async def _answer(
    send: Send, status: int, body: bytes, more: list[tuple[bytes, bytes]] | None = None
) -> None:
    headers = more or [(b"content-type", b"text/plain; charset=utf-8")]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    await _dressed(send)(start | {"headers": [*headers, (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
