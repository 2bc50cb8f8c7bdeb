#!/usr/bin/env bash
# huggingface_hub 2.4.0: create_repo(..., private=True, exist_ok=True) on a repository that is there and public returns as if all
# was well, and the repository stays public; the commit that follows is public too. The answer does not say it.
# The docstring of `private` says so in its last sentence ("ignored if the repo already exists").
# Seen (the real client, a hub of two endpoints on this machine): the request asks for visibility "private", the hub answers 409 as it does
# for every name that is taken, the client returns a RepoUrl, and repo_info(...).private is False.
# Guess of whoever reads the call alone: exist_ok accepts a repository that is as was asked, or one is told that it is not.
# Why it matters: a script that pushes "privately" publishes, if anybody ever made that name public. Ask repo_info before the first byte.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check huggingface_hub==2.4.0
cd "$work"
HF_HOME="$work/home" "$work/venv/bin/python" -W ignore - <<'PY'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from huggingface_hub import HfApi

asked = []


class Hub(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def answer(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        place = f"http://127.0.0.1:{self.server.server_port}/datasets/me/scans"
        self.answer(409, {"error": "You already created this dataset repo", "url": place})

    def do_GET(self):
        self.answer(200, {"id": "me/scans", "private": False, "sha": "1" * 40, "siblings": [], "tags": []})


server = HTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
api = HfApi(endpoint=f"http://127.0.0.1:{server.server_port}", token="hf_of_a_test")
url = api.create_repo("me/scans", repo_type="dataset", private=True, exist_ok=True)
is_private = api.repo_info("me/scans", repo_type="dataset").private
print("asked for:", asked[0].get("visibility"), "| returned:", url.repo_id, "| private:", is_private)
if asked[0].get("visibility") != "private" or url.repo_id != "me/scans" or is_private is not False or len(asked) != 1:
    sys.exit("changed: a repository that is not as was asked is refused, or made so")
PY
