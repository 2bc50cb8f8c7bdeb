"""A page that fetches a release of sfumato and verifies it on this machine.

    python app.py                    the release that release.json names, from its hub
    python app.py FOLDER             a release that is here already; nothing is fetched

The verifier is the verify_privacy.py beside this file, never the copy inside the release. The
address is http://127.0.0.1:7860 (PORT and HOST in the environment name another).
"""

import html
import json
import mimetypes
import os
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import verify_privacy

HERE = Path(__file__).resolve().parent
PAGES = ("report.html", "PRIVACY.html", "README.md", "privacy.json", "SHA256SUMS")
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td{padding:.2rem .8rem .2rem 0;vertical-align:top}"
    ".ok{color:#176117}.FAIL{color:#a11}code{overflow-wrap:anywhere}"
)
# A page of a release is shown without scripts and without a way to anything else.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:"


class Release:
    """The release, where it lies, and what its last check found."""

    def __init__(self, folder: Path | None, about: dict[str, str]):
        self.folder, self.about = folder, about
        self.said = "fetching the release" if folder is None else "checking"
        self.checks: list[tuple[str, bool, str]] = []
        self.turn = threading.Lock()

    def check(self) -> None:
        """Fetches what is not here, then hashes every file and prices epsilon again."""
        with self.turn:
            try:
                if self.folder is None:
                    self.folder = fetched(self.about)
                self.said = "checking"
                self.checks = verify_privacy.checks(self.folder)
                self.said = verify_privacy.verdict(self.folder, self.checks)
            except Exception as error:
                self.checks, kind = [], type(error).__name__
                self.said = f"FAIL: the release cannot be fetched ({kind}); private ones need the"
                self.said += " secret HF_TOKEN"

    def files(self) -> set[str]:
        """Names that SHA256SUMS lists."""
        if self.folder is None:
            return set()
        lines = (self.folder / "SHA256SUMS").read_text("utf-8").splitlines()
        return {line.partition("  ")[2] for line in lines} | {"SHA256SUMS"}


def fetched(about: dict[str, str]) -> Path:
    """The release at the very commit that was pushed."""
    from huggingface_hub import snapshot_download

    place = tempfile.mkdtemp(prefix="release-")
    snapshot_download(
        about["repository"],
        repo_type=about["kind"],
        revision=about["revision"],
        local_dir=place,
    )
    return Path(place)


def page(release: Release) -> str:
    """What the last check found, as HTML."""
    rows = "".join(
        f'<tr><td class="{word}">{word}</td><td>{html.escape(name)}</td>'
        f"<td><code>{html.escape(detail)}</code></td></tr>"
        for name, passed, detail in release.checks
        for word in ["ok" if passed else "FAIL"]
    )
    listed = release.files() if release.checks else set()
    links = " ".join(
        f'<a href="/release/{quote(name)}">{name}</a>' for name in PAGES if name in listed
    )
    name = html.escape(release.about.get("repository") or str(release.folder))
    said = html.escape(release.said)
    word = said.partition(":")[0]
    waits = '<meta http-equiv="refresh" content="3">' if word not in ("PASS", "FAIL") else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{waits}'
        f"<title>Release {name}, verified</title><style>{STYLE}</style></head><body>"
        f"<h1>{name}</h1><p>Revision <code>{html.escape(release.about.get('revision', ''))}</code>."
        " The files were hashed and epsilon was priced again on this machine, by a verifier that"
        f' is not part of the release.</p><p id="verdict" class="{word}"><strong>{said}</strong>'
        f"</p><p>{links}</p>"
        '<form method="post" action="/verify"><button>Verify again</button></form>'
        f"<table><tbody>{rows}</tbody></table></body></html>"
    )


class Handler(BaseHTTPRequestHandler):
    """`/`, `/verify` and the listed files of the release below `/release/`."""

    release: Release

    def do_GET(self) -> None:
        """A page or a file."""
        path = unquote(urlsplit(self.path).path)
        if path == "/":
            self.send(page(self.release).encode(), "text/html; charset=utf-8")
            return
        name = path.removeprefix("/release/")
        folder = self.release.folder
        if path == name or folder is None or name not in self.release.files():
            self.send_error(404)
            return
        kind = mimetypes.guess_type(name)[0] or "text/plain"
        text = "; charset=utf-8" if kind.startswith("text/") or kind.endswith("json") else ""
        self.send((folder / name).read_bytes(), kind + text)

    def do_POST(self) -> None:
        """Verifies again."""
        if self.path != "/verify":
            self.send_error(404)
            return
        self.release.check()
        self.send_response(303)
        self.send_header("Location", "/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, body: bytes, kind: str) -> None:
        """One answer."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Who looked at a page is not written down."""


def main() -> None:
    """Checks in the background, and answers at once."""
    folder = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    about = {} if folder else json.loads((HERE / "release.json").read_text("utf-8"))
    Handler.release = Release(folder, about)
    threading.Thread(target=Handler.release.check, daemon=True).start()
    address = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "7860"))
    server = ThreadingHTTPServer(address, Handler)
    print(f"http://{address[0]}:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
