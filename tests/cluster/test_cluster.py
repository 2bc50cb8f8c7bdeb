"""The scripts of docs/cluster.md on two hosts: started, one host killed, resumed, same result."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sfumato.releases import DRAFT
from sfumato.runs.attempts import model_digest
from tests.cluster.hosts import Hosts, missing, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(missing() is not None, reason=f"several hosts need {missing()}"),
]
ROOT = Path(__file__).parents[2]
ADAPT = (
    "--epsilon 2 --delta 1e-2 --method lora --expected-batch-size 8 --steps 24 --yes-public"
    " --anyway --micro-batch-size 1 --mixed-precision no --checkpointing-steps 2 --samples-every 0"
).split()
STEPS = 24


@pytest.fixture
def place():
    """A folder that every host sees; short, for the length of a socket's path."""
    folder = Path(tempfile.mkdtemp(prefix="hosts-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def scripts(place):
    """The scripts of docs/cluster.md; of their words only the module's name is another."""
    text = (ROOT / "docs" / "cluster.md").read_text("utf-8")
    found = dict(re.findall(r"<!-- (\w+\.sbatch) -->\n```bash\n(.*?)```", text, re.DOTALL))
    assert set(found) == {"adapt.sbatch", "synthesize.sbatch", "invert.sbatch"}
    for name, script in found.items():
        (place / name).write_text(script.replace("-m sfumato ", "-m tests.cluster.fixed "))
    return place


@pytest.fixture
def cluster(place, monkeypatch):
    """Two hosts, whose jobs find this package and a ledger."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SFUMATO_LEDGER", str(place / "book" / "ledger.sqlite"))
    (place / "slurm").mkdir()
    with Hosts(place / "slurm", 2) as hosts:
        yield hosts


def alone(*words, ledger: Path) -> None:
    """One process on this machine."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.fixed", *map(str, words)],
        env={**os.environ, "SFUMATO_LEDGER": str(ledger)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    """Contents of the files, by place."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob(pattern) if p.is_file()
    }


def certificate(release: Path) -> dict:
    """What a stranger reads, but for the run's random name, and rows and hash of its ledger."""
    found = json.loads((release / DRAFT).read_text("utf-8"))["certificate"]
    for part in (found["ledger"], *found["ledger"]["charges"]):
        part.pop("run")
    for name in ("head", "entries"):
        found["ledger"].pop(name)
    return found


def ended(hosts: Hosts, job: str, logs: Path) -> bool:
    """Whether the job has ended well."""
    state = hosts.state(job)
    said = [p.read_text()[-1500:] for p in logs.glob("job-*.log")]
    assert not {"FAILED", "CANCELLED", "TIMEOUT"} & set(state.split("+")), "\n".join(said)
    return state == "COMPLETED"


def test_a_killed_host_changes_nothing(cluster, scripts, place, tiny_images, tiny_base):
    for name, source in (("images", tiny_images), ("base", tiny_base)):
        shutil.copytree(source, place / name)
    words = [str(place / "images"), "--base", str(place / "base"), *ADAPT]
    run, logs = place / "run", place / "slurm"
    job = cluster.submit(place / "adapt.sbatch", str(run), *words)
    first = run / "checkpoints" / "step-000002.json"
    wait_for(first.exists, 300, "the first checkpoint")
    cluster.kill("h2")
    assert not (run / "model").exists()
    wait_for(lambda: "RUNNING" not in cluster.state(job), 120, "the end of the first start")
    cluster.start("h2")
    wait_for(lambda: cluster.said("sinfo", "-h", "-o", "%T") == "idle", 120, "the host's return")
    cluster.said("scontrol", "update", f"JobId={job}", "StartTime=now")
    wait_for(lambda: ended(cluster, job, logs), 400, "the end of the run")
    assert "Restarts=1" in cluster.said("scontrol", "show", "job", job)

    single, book = place / "single", place / "other" / "ledger.sqlite"
    alone("adapt", *words, "-o", single, ledger=book)
    assert model_digest(run / "model") == model_digest(single / "model")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == STEPS

    array = cluster.submit(
        place / "synthesize.sbatch", str(run), "6", str(place / "out"), flags=["--array=0-1"]
    )
    wait_for(lambda: ended(cluster, array, logs), 300, "the pictures")
    for shard in (0, 1):
        one, ours = place / f"one-{shard}", place / f"out-{shard}"
        alone("synthesize", single, "-n", 6, "--shard", f"{shard}/2", "-o", one, ledger=book)
        assert files(one, "*.png") == files(ours, "*.png") and len(files(ours, "*.png")) == 3
        plain, resumed = certificate(one), certificate(ours)
        assert (plain["ledger"].pop("replays"), resumed["ledger"].pop("replays")) == (0, 1)
        assert plain == resumed


def test_an_inversion_in_an_array(cluster, scripts, place, tiny_images, tiny_base):
    words = [
        "--base", str(tiny_base), "--epsilon", "4", "--delta", "1e-2", "--yes-public", "--anyway",
        "--prompt", "a {class} circle", "--dimensions", "4", "--inversion-steps", "2",
        "--inversion-draws", "1", "--micro-batch-size", "5", "--mixed-precision", "no",
    ]  # fmt: skip
    run = place / "run"
    cluster.submit(place / "invert.sbatch", str(run), str(tiny_images), "3", *words)
    wait_for((run / "model").exists, 500, "the inversion")
    alone(
        "adapt", tiny_images, "--method", "inversion", *words, "-o", place / "single",
        ledger=place / "other" / "ledger.sqlite",
    )  # fmt: skip
    assert model_digest(run / "model") == model_digest(place / "single" / "model")
