"""`push`: what verifies goes out, nothing else does, and what lies on the hub is what was verified.
The client is the real one; the hub is on this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

import sfumato
from sfumato.cli import main
from sfumato.errors import CheckFailed, MachineError, SfumatoError
from sfumato.releases import fitting_certificate, verify, verify_privacy, write_release
from sfumato.releases import hub as client

from . import fake_hub

AT = {"to": "me/scans"}


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", fake_hub.TOKEN)
    with fake_hub.running() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def on(hub, name="me/scans", kind="dataset") -> dict[str, str]:
    files = hub.repositories[kind, name].files
    return {
        file: hashlib.sha256(data).hexdigest()
        for file, data in files.items()
        if file != ".gitattributes"
    }


def test_every_file_goes_up_private_and_comes_back_to_verify(finished, hub, tmp_path):
    done = sfumato.push(finished, **AT)
    repository = hub.repositories["dataset", "me/scans"]
    assert repository.private and repository.commits == 1
    assert on(hub) == hashes(finished) == {item.name: item.sha256 for item in done.items}
    assert done.url == f"{hub.url}/datasets/me/scans/tree/{repository.sha}"
    # Client and command as a stranger uses them: what the download adds is no part of the release.
    back = tmp_path / "back"
    huggingface_hub.snapshot_download(
        "me/scans", repo_type="dataset", local_dir=back, endpoint=hub.url
    )
    assert {".gitattributes"} < set(hashes(back)) - set(hashes(finished))
    assert verify(back).ok
    with pytest.raises(SfumatoError, match=r"does not hold \(ledger\)"):
        fitting_certificate(back, SfumatoError)  # its files fit; the ledger of this test has no run
    (back / ".cache" / "notes.txt").write_text("ward 7")
    assert not verify(back).ok


def test_a_dry_run_lists_every_byte_and_asks_nobody(finished, tmp_path):
    """In a process of its own without network, token or the hub's client."""
    (tmp_path / "huggingface_hub").mkdir()
    (tmp_path / "huggingface_hub" / "__init__.py").write_text("raise SystemExit('asked')")
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env |= {"PYTHONPATH": f"{tmp_path}:{Path(sfumato.__file__).parents[1]}", "HOME": str(tmp_path)}
    words = ["push", str(finished), "--to", "me/scans", "--space", "me/check", "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-m", "sfumato", *words],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    release, _, space = done.stdout.partition("a private dataset, me/scans: nothing was sent")
    rows = [line.split() for line in release.splitlines() if "bytes in" not in line]
    assert {name: digest for _, digest, name in rows} == hashes(finished)
    sizes = sum(int(size.replace(",", "")) for size, _, _ in rows)
    assert f"{sizes:,}  bytes in {len(rows)} files" in release
    assert "app.py" in space and "a private Space, me/check: nothing was sent" in space


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "PRIVACY.md").write_text("no promise"),
        lambda folder: (folder / "notes.txt").write_text("ward 7"),
        lambda folder: (folder / "train" / "cat" / "000000.png").unlink(),
    ],
    ids=["changed", "added", "removed"],
)
def test_what_does_not_verify_is_not_sent(copy, hub, spoil):
    spoil(copy)
    with pytest.raises(SfumatoError) as told:
        sfumato.push(copy, **AT)
    assert isinstance(told.value, CheckFailed) and "does not verify" in str(told.value)
    assert not hub.requests


def forge(folder: Path, name: str, data: bytes) -> None:
    """A file with hashes in the right places: the verifier alone lets it pass."""
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    facts = json.loads((folder / "privacy.json").read_text("utf-8"))
    facts["artefacts"][name] = hashlib.sha256(data).hexdigest()
    (folder / "privacy.json").write_text(json.dumps(facts))
    named = {
        file: digest for file, digest in sorted(hashes(folder).items()) if file != "SHA256SUMS"
    }
    text = "".join(f"{digest}  {file}\n" for file, digest in named.items())
    (folder / "SHA256SUMS").write_text(text)


@pytest.mark.parametrize(
    "name, like",
    [
        ("patients.csv", None),
        ("train/cat/private.jpg", None),
        ("synthesis.json", None),
        ("train/cat/000000.png", "train/cat/000000.png"),
    ],
)
def test_a_file_that_is_on_no_list_is_not_sent_though_all_hashes_fit(copy, hub, name, like):
    data = b"{}" if like is None else (copy / like).read_bytes() + b"ward 7"
    forge(copy, name, data)
    assert all(passed for title, passed, _ in verify_privacy.checks(copy) if "attack" not in title)
    with pytest.raises(SfumatoError):
        sfumato.push(copy, **AT)
    assert not hub.requests


def test_a_public_repository_that_was_there_gets_nothing_unless_public_is_said(finished, hub):
    hub.repositories["dataset", "me/scans"] = fake_hub.Repository(private=False)
    with pytest.raises(SfumatoError, match="is public, and --public was not given"):
        sfumato.push(finished, **AT)
    assert on(hub) == {} and hub.sent() == ["/api/repos/create"]
    sfumato.push(finished, **AT, public=True)
    assert on(hub) == hashes(finished)
    hub.repositories["dataset", "me/more"] = fake_hub.Repository(private=True)
    with pytest.raises(SfumatoError, match="is private, and stays so"):
        sfumato.push(finished, to="me/more", public=True)


def test_public_is_public_only_when_said(finished, hub):
    sfumato.push(finished, **AT, public=True)
    assert not hub.repositories["dataset", "me/scans"].private


@pytest.mark.parametrize(
    "name, data, said",
    [
        ("notes.txt", b"older", "holds notes.txt, which is no file of this release"),
        ("README.md", b"older", "holds another README.md"),
        ("train/cat/000000.png", b"older", "holds another train/cat/000000.png"),
    ],
)
def test_a_repository_that_holds_anything_else_is_left_alone(finished, hub, name, data, said):
    repository = hub.repositories["dataset", "me/scans"] = fake_hub.Repository(private=True)
    repository.files[name] = data
    with pytest.raises(SfumatoError, match=said):
        sfumato.push(finished, **AT)
    assert repository.commits == 0


def test_a_push_that_broke_off_goes_on_where_it_was(finished, hub, monkeypatch, capsys):
    monkeypatch.setattr(client, "AT_ONCE", 10)
    hub.broken["/commit/"] = (503, "out of order")
    assert main(["push", str(finished), "--to", "me/scans"]) == MachineError.exit_code
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("sfumato: 127.0.0.1") and "out of order" in said and "push again" in said
    hub.broken.clear()
    repository = hub.repositories["dataset", "me/scans"]
    repository.files["README.md"] = (finished / "README.md").read_bytes()
    assert main(["push", str(finished), "--to", "me/scans"]) == 0
    assert on(hub) == hashes(finished) and repository.commits == 3
    before = len(hub.sent())
    assert main(["push", str(finished), "--to", "me/scans"]) == 0
    assert hub.sent()[before:] == ["/api/repos/create"] and repository.commits == 3


def test_the_files_that_name_all_others_come_last(finished, hub, monkeypatch):
    monkeypatch.setattr(client, "AT_ONCE", 10)
    hub.spoil = lambda name, data: b"" if name == "train/dog/000001.png" else data
    with pytest.raises(SfumatoError, match="holds another train/dog/000001.png"):
        sfumato.push(finished, **AT)
    assert list(hub.repositories["dataset", "me/scans"].files)[-1] == "SHA256SUMS"


def test_a_file_that_changes_on_the_way_is_refused(copy, hub, monkeypatch):
    real = client._operation

    def late(item):
        if item.name == "README.md":
            item.source.write_text("other words")
        return real(item)

    monkeypatch.setattr(client, "_operation", late)
    with pytest.raises(SfumatoError, match="README.md was changed while it was sent"):
        sfumato.push(copy, **AT)
    assert hub.repositories["dataset", "me/scans"].commits == 0


@pytest.mark.parametrize(
    "code, said, cure",
    [(401, "Invalid username", "hf auth login"), (403, "no right", "HF_TOKEN"), (500, "", "again")],
)
def test_a_hub_that_refuses_is_one_line(finished, hub, capsys, monkeypatch, code, said, cure):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.broken["/api/"] = (code, said)
    assert main(["push", str(finished), "--to", "me/scans"]) == MachineError.exit_code
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"(code {code}" in line and said in line and cure in line
    assert fake_hub.TOKEN not in line


def test_no_network_no_token_and_offline_are_one_line_each(finished, hub, capsys, monkeypatch):
    words = ["push", str(finished), "--to", "me/scans"]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(words) == MachineError.exit_code
    assert "127.0.0.1:9 does not answer (ConnectError)" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(words) == MachineError.exit_code
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("words", [[], ["--to", "scans"], ["--to", "a/b/c"], ["--to", "a b/c"]])
def test_a_repository_is_named_as_on_the_hub(finished, capsys, words):
    assert main(["push", str(finished), *words]) == 2
    assert "give ORG/NAME" in capsys.readouterr().err


def test_a_draft_is_not_sent(kit, tmp_path, hub):
    with pytest.raises(SfumatoError, match="run `sfumato release` on it first"):
        sfumato.push(kit.images(tmp_path / "s"), **AT)
    assert not hub.requests


def test_a_run_folder_is_private_and_nobody_is_told_to_release_it(tmp_path, hub, capsys):
    """Also one that looks finished: what is in a run folder never goes out."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "plan.json").write_text("{}")
    for words in (["push", str(run), "--to", "me/x", "--dry-run"], ["verify", str(run)]):
        for _ in range(2):
            assert main([*words, "--no-config"] if words[0] == "push" else words) == 2
            told = capsys.readouterr().err
            assert "is a run folder: it is PRIVATE and never leaves" in told
            assert "sfumato synthesize" in told and "run `sfumato release` on it" not in told
            (run / "SHA256SUMS").write_text("")
        (run / "SHA256SUMS").unlink()
    assert not hub.requests


def test_a_model_goes_to_a_model_repository(kit, tmp_path, hub):
    from safetensors.torch import save_file
    from torch import zeros

    (tmp_path / "s").mkdir()
    save_file({"unet.a.weight": zeros(2, 2)}, tmp_path / "s" / "pytorch_lora_weights.safetensors")
    said = kit.facts(settings=None, artefacts="model")
    out = write_release(tmp_path / "s", tmp_path / "release", **said)
    assert sfumato.push(out, **AT).kind == "model"
    assert on(hub, kind="model") == hashes(out)


def test_a_space_fetches_the_very_commit_and_holds_nothing_of_the_release(finished, hub):
    done = sfumato.push(finished, **AT, space="me/check")
    space = hub.repositories["space", "me/check"]
    assert space.private and space.sdk == "docker" and done.space_url.endswith(space.sha)
    about = json.loads(space.files["release.json"])
    sent = hub.repositories["dataset", "me/scans"]
    assert about == {"repository": "me/scans", "kind": "dataset", "revision": sent.sha}
    own = Path(verify_privacy.__file__).read_bytes()
    assert space.files["verify_privacy.py"] == own
    shared = {"verify_privacy.py"}
    held = set(on(hub, "me/check", "space").values())
    assert not held & {d for name, d in hashes(finished).items() if name not in shared}
    assert set(space.files) == {
        *("app.py", "Dockerfile", "README.md", "release.json", "requirements.txt"),
        *("verify_privacy.py", ".gitattributes"),
    }


def test_a_space_of_another_kind_is_left_alone(finished, hub):
    space = fake_hub.Repository(private=True, sdk="docker")
    space.files["train.py"] = b"print()"
    hub.repositories["space", "me/check"] = space
    with pytest.raises(SfumatoError, match="holds train.py"):
        sfumato.push(finished, **AT, space="me/check")
    assert space.commits == 0


def test_a_copy_is_complete(copy, hub):
    shutil.rmtree(copy / "train" / "dog")
    with pytest.raises(CheckFailed):
        sfumato.push(copy, **AT)
