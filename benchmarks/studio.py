"""The studio's page while a run that it started trains: how quick it answers, and what it keeps.

    python benchmarks/studio.py                  # 1,000 steps of a tiny base, a few minutes
    python benchmarks/studio.py --steps 50       # for a look at the program

Everything goes through the page: a studio is started, a client enters by the one-time address and
fills in the forms. Only the steps of the plan are put in place of those that a time would give.
Then it reads all pages in turns: at rest, while the run trains, and at rest again. One JSON line
each: milliseconds of an answer (median, 95 of 100, longest), answers, resident MB of the server and
its seconds of CPU; last what the run itself was.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlencode

import psutil

PAUSE = 0.1  # seconds between two requests, of which an open page makes one in 1.5 seconds
REST = 120  # requests of a phase at rest
MB = 2**20
SCREENS = ("images", "promise", "plan", "run")


class Client:
    """Reads pages and fills in forms, as the browser that opened the address does.

    Args:
        address: The one-time address.
        top: The folder of the projects.
    """

    def __init__(self, address: str, top: Path) -> None:
        self.host, _, self.entrance = address.removeprefix("http://").partition("/")
        self.top, self.cookie = top, ""
        _, headers, _ = self.ask("GET", f"/{self.entrance}")
        self.cookie = headers["set-cookie"].split(";")[0]

    def ask(self, verb: str, path: str, /, **form: object) -> tuple[int, Any, bytes]:
        """One request: (status, headers, body)."""
        link = http.client.HTTPConnection(self.host, timeout=60)
        headers = {"cookie": self.cookie}
        if verb == "POST":
            headers |= {"origin": f"http://{self.host}"}
            headers |= {"content-type": "application/x-www-form-urlencoded"}
        link.request(verb, path, urlencode(form) if form else None, headers)
        answer = link.getresponse()
        body = answer.read()
        link.close()
        return answer.status, answer.headers, body

    def do(self, what: str, /, **form: object) -> None:
        """A form of the one project, with the version of the answers that it shows."""
        names = [p.name for p in (self.top / "project-1").glob("answers-*.json")]
        version = max((int(name[8:14]) for name in names), default=0)
        status, _, body = self.ask("POST", f"/project-1/do/{what}", version=version, **form)
        assert status == 303, (what, status, body)

    def wait(self, name: str) -> Path:
        """Until the job of that name has ended; its folder."""
        folder = self.top / "project-1" / "jobs" / f"{name}-1"
        while not (folder / "ended").exists():
            time.sleep(0.2)
        assert (folder / "ended").read_text() == "0", (folder / "stderr").read_text()
        return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        made = "from sfumato.bases import tiny; import sys; from pathlib import Path\n"
        made += "tiny.make_tiny_base(Path(sys.argv[1]) / 'base')\n"
        made += "tiny.make_tiny_images(Path(sys.argv[1]) / 'images')"
        subprocess.run([sys.executable, "-c", made, folder], check=True)
        with started(place) as process:
            try:
                measure(process, place, args)
            finally:
                process.terminate()


def started(place: Path) -> subprocess.Popen[str]:
    """A studio that may open `place` alone, with a home and a ledger of its own."""
    words = ["studio", str(place), "--no-browser", "--projects", str(place / "projects")]
    own = {"HOME": str(place), "SFUMATO_LEDGER": str(place / "ledger.sqlite")}
    return subprocess.Popen(
        [sys.executable, "-m", "sfumato", *words],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | own | {"PYTHONUNBUFFERED": "1"},
    )


def measure(process: subprocess.Popen[str], place: Path, args: argparse.Namespace) -> None:
    assert process.stdout is not None
    said = "".join(process.stdout.readline() for _ in range(3))
    found = re.search(r"http://\S+", said)
    assert found is not None, said
    client = Client(found[0], place / "projects")
    server = psutil.Process(process.pid)
    start_project(client, place, args)
    paths = ["/", *(f"/project-1/{name}" for name in SCREENS), "/project-1/status/run"]
    show(server, "rest, before the run", [timed(client, paths[i % 6]) for i in range(REST)])
    client.do("run", public="yes", anyway="yes")
    begun, answers, steps = time.monotonic(), list[tuple[str, float]](), set[int]()
    paths += ["/project-1/picture/sample/{step}"]
    while not (client.top / "project-1/jobs/adapt-1/ended").exists():
        path, sheets = paths[len(answers) % len(paths)], sheets_of(client)
        if "{" in path:
            path = f"/project-1/picture/sample/{int(sheets[-1].stem[5:])}" if sheets else "/"
        answers.append(timed(client, path))
        steps.add(int(json.loads(client.ask("GET", "/project-1/status/run")[2])["pace"]["step"]))
        time.sleep(PAUSE)
    seconds = time.monotonic() - begun
    client.wait("adapt")
    show(server, "while the run trains", answers)
    show(server, "rest, after the run", [timed(client, paths[i % 6]) for i in range(REST)])
    body = {"phase": "the run", "steps": args.steps, "seconds": round(seconds, 1)}
    body |= {"steps_seen": len(steps - {0}), "sheets": len(sheets_of(client))}
    print(json.dumps(body | {"processors": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}))


def sheets_of(client: Client) -> list[Path]:
    return sorted((client.top / "project-1/run/samples").glob("step-*.png"))


def start_project(client: Client, place: Path, args: argparse.Namespace) -> None:
    """Up to the plan, whose steps are then those that were asked for."""
    client.ask("POST", "/new")
    client.do("folder", images=place / "images")
    client.wait("look")
    client.do("answers", what="classes", unit="image")
    client.do("promise", epsilon=8, delta="1e-3")
    client.do("plan", base="own", folder=place / "base", method="attention", time="")
    out = client.wait("plan-attention") / "stdout"
    fixes = f"--steps {args.steps} --expected-batch-size {args.batch} --samples-every 100"
    needs = {"needs": ["--yes-public", "--anyway"]}
    out.write_text(json.dumps(json.loads(out.read_text()) | {"fixes": fixes} | needs))
    while (client.top / "jobs").is_dir() and not (client.top / "jobs/choices-1/ended").exists():
        time.sleep(0.2)  # the bundled models are listed


def timed(client: Client, path: str) -> tuple[str, float]:
    begun = time.perf_counter()
    status, _, body = client.ask("GET", path)
    assert status == 200 and body, (path, status)
    kind = re.sub(r"/\d+$", "", path.removeprefix("/project-1/")) or "/"
    return kind, 1000 * (time.perf_counter() - begun)


def show(server: psutil.Process, phase: str, answers: list[tuple[str, float]]) -> None:
    """A line for each page and one for all."""
    used, spent = server.memory_info().rss / MB, sum(server.cpu_times()[:2])
    for kind in [*dict.fromkeys(name for name, _ in answers), "all"]:
        own = [ms for name, ms in answers if kind in (name, "all")]
        late = quantiles(own, n=20)[-1] if len(own) > 1 else own[0]
        row = {"phase": phase, "page": kind, "answers": len(own), "median_ms": median(own)}
        row |= {"p95_ms": late, "longest_ms": max(own)}
        row = {k: round(v, 1) if isinstance(v, float) else v for k, v in row.items()}
        if kind == "all":
            row |= {"server_mb": round(used, 1), "server_cpu_seconds": round(spent, 1)}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
