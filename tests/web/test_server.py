"""The studio as a process: light, quick while a run trains, and silent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import httpx2
import psutil
import pytest

HEAVY = ("torch", "diffusers", "transformers", "scipy", "dp_accounting", "datasets", "sklearn")
MB = 2**20


def test_the_server_loads_nothing_that_computes():
    code = f"import sys, sfumato.web.serve; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def studio(tmp_path, tiny_images):
    """(Process, address, folder of projects)."""
    top = tmp_path / "projects"
    words = ["studio", str(tiny_images.parent), "--no-browser", "--projects", str(top)]
    process = subprocess.Popen(
        [sys.executable, "-m", "sfumato", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    lines = [process.stdout.readline() for _ in range(3)]
    yield process, re.search(r"http://\S+", "".join(lines))[0], top
    process.kill()
    process.wait()


@pytest.mark.slow
def test_it_is_light_quick_and_silent(studio, tiny_images):
    process, address, top = studio
    root = address.partition("/enter")[0]
    assert root.startswith("http://127.0.0.1:") and not root.endswith(":80")
    name = "a-private-word"
    with httpx2.Client(base_url=root, headers={"origin": root}, timeout=10) as browser:
        assert browser.get("/").status_code == 403
        assert browser.get(address).status_code == 200
        assert browser.get(address).status_code == 403  # once
        assert browser.get("/").status_code == 200
        assert browser.post("/new").status_code == 303
        form = {"images": str(tiny_images), "version": "0"}
        assert browser.post("/project-1/do/folder", data=form).status_code == 303
        browser.get(f"/project-1/picture/{name}/1")
        times = []
        for _ in range(300):
            begun = time.perf_counter()
            assert browser.get("/project-1/status/images").status_code == 200
            times.append(time.perf_counter() - begun)
        page = browser.get("/project-1/images")
        assert page.status_code == 200
        for path in ("/", "/project-1/images"):
            begun = time.perf_counter()
            browser.get(path)
            times.append(time.perf_counter() - begun)
    used = psutil.Process(process.pid).memory_info().rss
    times.sort()
    # the median: other work of this machine makes single answers late
    assert times[len(times) // 2] < 0.1 and used < 150 * MB, (times[-1], used / MB)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert out == "" and name not in err and str(tiny_images) not in err and "token" not in err


@pytest.mark.slow
def test_a_taken_port_and_a_root_that_is_none_are_said_in_one_line(studio, tmp_path):
    _, address, _ = studio
    port = re.search(r":(\d+)/", address)[1]
    for words, said in (
        (["--port", port], "cannot be used"),
        ([str(tmp_path / "nowhere")], "is no folder"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "sfumato", "studio", "--no-browser", *words]
            + ["--projects", str(tmp_path / "other")],
            capture_output=True,
            text=True,
        )
        assert done.returncode in (2, 14) and said in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1
