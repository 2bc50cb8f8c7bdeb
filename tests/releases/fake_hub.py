"""A hub on this machine: as much of the protocol as the real client of the hub speaks here."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

ATTRIBUTES = b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"
TOKEN = "hf_of_the_test"
LARGE = (".parquet", ".safetensors", ".png")


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repository:
    def __init__(self, private: bool, sdk: str | None = None):
        self.private, self.sdk = private, sdk
        self.files: dict[str, bytes] = {".gitattributes": ATTRIBUTES}
        self.large: set[str] = set()
        self.commits = 0
        if sdk:
            self.files["README.md"] = b"---\nsdk: docker\n---\n"

    @property
    def sha(self) -> str:
        return f"{self.commits + 1:040x}"

    def entry(self, name: str) -> dict:
        data = self.files[name]
        found = {"type": "file", "path": name, "size": len(data), "oid": git_hash(data)}
        if name in self.large:
            found["lfs"] = {
                "oid": hashlib.sha256(data).hexdigest(),
                "size": len(data),
                "pointerSize": 130,
            }
        return found


class Hub:
    """Repositories by (kind, name), and every request as (method, path)."""

    def __init__(self):
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.objects: dict[str, bytes] = {}
        self.broken: dict[str, tuple[int, str]] = {}  # part of a path -> what is answered
        self.spoil = lambda name, data: data
        self.url = ""

    def sent(self) -> list[str]:
        return [path for method, path in self.requests if method != "GET"]


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, code=200, body=b"", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_any(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while length := int(self.rfile.readline(), 16):
                body += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        for part, (code, said) in self.hub.broken.items():
            if part in path:
                return self.answer(code, {"error": said}, X_Error_Message=said)
        if "/objects/put/" not in path and self.command != "HEAD":
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.answer(401, {"error": "Invalid username or password."})
        return self.route(path, body)

    do_GET = do_POST = do_PUT = do_HEAD = handle_any

    def route(self, path, body):
        hub = self.hub
        if path == "/api/repos/create":
            said = json.loads(body)
            kind = said.get("type", "model")
            key = kind, f"{said['organization']}/{said['name']}"
            made = {"url": f"{hub.url}/{'' if kind == 'model' else kind + 's/'}{key[1]}"}
            made |= {"name": key[1]}
            if key in hub.repositories:
                return self.answer(409, {"error": "You already created this repo"} | made)
            private = said.get("visibility") == "private"
            hub.repositories[key] = Repository(private, said.get("sdk"))
            return self.answer(200, made)
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if found := re.fullmatch(r"/objects/put/(\w+)", path):
            hub.objects[found[1]] = body
            return self.answer(200)
        if found := re.fullmatch(r"/(?:(dataset|space)s/)?(.+)\.git/info/lfs/objects/batch", path):
            objects = [
                {
                    "oid": o["oid"],
                    "size": o["size"],
                    "actions": {"upload": {"href": f"{hub.url}/objects/put/{o['oid']}"}},
                }
                for o in json.loads(body)["objects"]
            ]
            return self.answer(200, {"transfer": "basic", "objects": objects})
        rule = r"/api/(model|dataset|space)s/([^/]+/[^/]+)(?:/(\w+)(?:/(.*))?)?"
        if found := re.fullmatch(rule, path):
            kind, name, what, rest = found.groups()
            repository = hub.repositories.get((kind, name))
            if repository is None:
                return self.answer(404, {"error": "nothing here"}, X_Error_Code="RepoNotFound")
            return getattr(self, f"api_{what or 'revision'}")(kind, name, repository, body)
        if found := re.fullmatch(r"/(?:(dataset|space)s/)?([^/]+/[^/]+)/resolve/(\w+)/(.+)", path):
            kind, name, revision, file = found.groups()
            repository = hub.repositories[kind or "model", name]
            data = repository.files[file]
            etag = repository.entry(file).get("lfs", {}).get("oid") or git_hash(data)
            return self.answer(200, data, ETag=f'"{etag}"', X_Repo_Commit=repository.sha)
        raise AssertionError(f"the fake hub does not know {self.command} {path}")

    def api_revision(self, kind, name, repository, body):
        files = [{"rfilename": one} for one in sorted(repository.files)]
        about = {"id": name, "private": repository.private, "sha": repository.sha}
        self.answer(200, about | {"siblings": files, "tags": [], "modelId": name})

    def api_tree(self, kind, name, repository, body):
        folders = {f.rpartition("/")[0] for f in repository.files if "/" in f}
        listed = [{"type": "directory", "path": f, "oid": "0" * 40, "size": 0} for f in folders]
        self.answer(200, listed + [repository.entry(f) for f in sorted(repository.files)])

    def api_preupload(self, kind, name, repository, body):
        files = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": repository.entry(one["path"])["oid"]
                if one["path"] in repository.files
                else None,
            }
            for one in json.loads(body)["files"]
        ]
        self.answer(200, {"files": files})

    def api_commit(self, kind, name, repository, body):
        lines = [json.loads(line) for line in body.splitlines()]
        head = next(line["value"] for line in lines if line["key"] == "header")
        if head.get("parentCommit") not in (None, repository.sha):
            return self.answer(412, {"error": "the parent is another"})
        for line in lines:
            said = line["value"]
            if line["key"] == "file":
                data = base64.b64decode(said["content"])
            elif line["key"] == "lfsFile":
                data = self.hub.objects[said["oid"]]
                repository.large.add(said["path"])
            else:
                continue
            repository.files[said["path"]] = self.hub.spoil(said["path"], data)
        repository.commits += 1
        url = f"{self.hub.url}/{kind}s/{name}/commit/{repository.sha}"
        self.answer(200, {"commitUrl": url, "commitOid": repository.sha, "success": True})


@contextmanager
def running():
    hub = Hub()
    handler = type("Bound", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
