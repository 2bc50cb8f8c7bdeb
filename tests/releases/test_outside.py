"""A release of each form, made by the verbs, opened by what the outside world has: Pillow,
`datasets`, a reader of XMP and of C2PA, mlcroissant, diffusers, a browser, and a hub.
"""

from __future__ import annotations

import functools
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import mlcroissant
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import sfumato
from sfumato import verbs
from sfumato.methods import Attention, Embedding, Lora
from sfumato.options import Sampling, Signing
from sfumato.releases import space
from sfumato.releases.marking import PACKET, SOURCE_TYPE

from . import authority

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PICTURES = {"folder": "imagefolder", "shards": "parquet", "signed": "imagefolder"}
MODELS = {"lora": Lora(rank=2), "token": Embedding(), "pipeline": Attention()}
N = 12
PROPERTY = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
end_to_end = pytest.mark.end_to_end
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def place(tiny_base, tiny_images, tmp_path_factory):
    """Name -> release, each by `adapt`, `synthesize` or `export`, and `release`."""
    top = tmp_path_factory.mktemp("outside")
    base = shutil.copytree(tiny_base, top / "base")
    owner = authority.make(top)
    found = {"base": base, "root": owner.root}
    for name, method in MODELS.items():
        run = verbs.adapt(
            tiny_images,
            anyway=True,
            yes_public=True,
            output=top / f"run-{name}",
            ledger=top / "ledger.sqlite",
            epsilon=8.0,
            delta=1e-2,
            base=str(base),
            method=method,
            steps=2,
        )
        if name == "lora":
            for form, layout in PICTURES.items():
                signing = Signing(str(owner.chain), str(owner.key))
                verbs.synthesize(
                    run,
                    N,
                    top / form,
                    form=layout,
                    sampling=Sampling(steps=1),
                    signing=signing if form == "signed" else None,
                    keep_key=True,
                )
        verbs.export(run, top / name, keep_key=True)
    for name in (*PICTURES, *MODELS):
        about = {"title": f"Shapes, {name}", "licence": "cc-by-4.0"}
        base_model = {} if name in PICTURES else {"base_model": "me/tiny"}
        found[name] = verbs.release(
            top / name,
            top / f"{name}-release",
            ledger=top / "ledger.sqlite",
            **about,
            **base_model,
        )
    return found


def cells(folder: Path) -> list[dict]:
    """Every row as `datasets` reads it, in a process of its own with a cache of its own."""
    code = (
        "import sys, json, hashlib, datasets; sha = hashlib.sha256;"
        "rows = datasets.load_dataset(sys.argv[1], split='train',"
        " cache_dir=sys.argv[2]);"
        "print(json.dumps([{'pixels': sha(row['image'].convert('RGB').tobytes()).hexdigest(),"
        " **{k: v for k, v in row.items() if k != 'image'}} for row in rows]))"
    )
    cache = folder.parent / f"cache-{folder.name}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(cache)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@end_to_end
@pytest.mark.parametrize("form", PICTURES)
def test_datasets_reads_image_label_prompt_and_seed(place, form):
    rows = sorted(cells(place[form]), key=lambda row: row["seed"])
    assert len(rows) == N and all(set(row) == {"pixels", "label", "prompt", "seed"} for row in rows)
    assert {row["label"] for row in rows} == {"circle", "cross", "square"}
    assert all(row["label"] in row["prompt"] for row in rows)
    # The same seeds draw the same pictures, whatever holds them.
    other = sorted(cells(place["folder"]), key=lambda row: row["seed"])
    assert [row["pixels"] for row in rows] == [row["pixels"] for row in other]


def pngs(folder: Path) -> list[bytes]:
    import pyarrow.parquet as pq

    found = [path.read_bytes() for path in sorted(folder.rglob("*.png"))]
    for shard in folder.rglob("*.parquet"):
        found += [one["bytes"] for one in pq.read_table(shard)["image"].to_pylist()]
    return found


@end_to_end
@pytest.mark.parametrize("form", [*PICTURES, *MODELS])
def test_pillow_opens_every_picture_and_finds_the_one_packet(place, form):
    found = pngs(place[form])
    assert len(found) >= N
    for data in found:
        image = Image.open(io.BytesIO(data))
        image.load()
        assert image.info["xmp"].decode("utf-8") == PACKET
        body = PACKET[PACKET.index("?>") + 2 : PACKET.rindex("<?")]
        (said,) = [e.text for e in ElementTree.fromstring(body).iter(PROPERTY)]
        assert said == SOURCE_TYPE


@end_to_end
def test_a_reader_of_c2pa_trusts_every_signed_picture(place):
    import c2pa

    trust = {"trust_anchors": place["root"].read_text()}
    context = c2pa.Context(c2pa.Settings.from_dict({"trust": trust}))
    found = pngs(place["signed"])
    assert len(found) == N
    for data in found:
        reader = c2pa.Reader("image/png", io.BytesIO(data), context=context)
        assert reader.get_validation_state() == "Trusted"


@end_to_end
@pytest.mark.parametrize("form", PICTURES)
def test_croissant_reads_every_record(place, form, monkeypatch):
    monkeypatch.chdir(place[form])
    dataset = mlcroissant.Dataset(jsonld="croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    rows = list(dataset.records("train"))
    assert len(rows) == N and all(row["train/image"] is not None for row in rows)


@end_to_end
@pytest.mark.parametrize("form", MODELS)
def test_a_card_says_what_a_hub_asks_and_diffusers_opens_the_model(place, form):
    folder = place[form]
    front = yaml.safe_load((folder / "README.md").read_text("utf-8").split("---")[1])
    assert front["base_model"] == "me/tiny"
    assert front["base_model_relation"] == ("finetune" if form == "pipeline" else "adapter")
    assert front["instance_prompt"] and front["pipeline_tag"] == "text-to-image"
    assert len(front["widget"]) == 4
    for one in front["widget"]:
        assert Image.open(folder / one["output"]["url"]).size == (16, 16)
        assert one["text"]
    from diffusers import StableDiffusionPipeline

    own = folder / "model" if form == "pipeline" else place["base"]
    pipe = StableDiffusionPipeline.from_pretrained(own, dtype=torch.float32)
    if form == "lora":
        pipe.load_lora_weights(folder, weight_name="pytorch_lora_weights.safetensors")
    for token in folder.glob("learned_embeds*.safetensors"):
        pipe.load_textual_inversion(str(token))
    pipe.set_progress_bar_config(disable=True)
    image = pipe(front["instance_prompt"], num_inference_steps=1).images[0]
    assert image.size == (16, 16)


@contextmanager
def served(folder: Path):
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = functools.partial(quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def browse(url: str, profile: Path) -> str:
    """The page as Chromium has it after loading."""
    done = subprocess.run(
        [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *(f"--user-data-dir={profile}", "--virtual-time-budget=2000", url),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@end_to_end
@needs_chromium
@pytest.mark.parametrize("form", [*PICTURES, *MODELS])
def test_a_browser_shows_report_and_statement(place, form, tmp_path):
    with served(place[form]) as url:
        for page, word in (("report.html", "epsilon"), ("PRIVACY.html", "epsilon")):
            dom = browse(f"{url}/{page}", tmp_path / "profile")
            assert word in dom and f"Shapes, {form}" in dom


@contextmanager
def running_space(folder: Path, *words: str, **env: str):
    """The Space's program as its container starts it, on a free port; yields its address."""
    done = subprocess.Popen(
        [sys.executable, "app.py", *words],
        cwd=folder,
        env={**os.environ, "PORT": "0", "HOST": "127.0.0.1", **env},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert done.stdout is not None
        yield done.stdout.readline().strip()
    finally:
        done.terminate()
        done.wait()


def lay_out(items, folder: Path) -> Path:
    folder.mkdir()
    for item in items:
        (folder / item.name).write_bytes(item.source)
    return folder


def verdict(url: str, word: str) -> str:
    """The page, once it says `word` or gives up."""
    import time
    import urllib.request

    for _ in range(200):
        page = urllib.request.urlopen(url).read().decode()
        if re.search(r'id="verdict" class="(PASS|FAIL)"', page):
            assert f'class="{word}"' in page, page
            return page
        time.sleep(0.1)
    raise AssertionError(page)


def test_the_space_verifies_a_folder_and_shows_only_what_is_listed(finished, copy, tmp_path):
    import urllib.error
    import urllib.request

    folder = lay_out(space.space_items("me/scans", "dataset", "0" * 40), tmp_path / "space")
    (copy / "notes.txt").write_text("ward 7")
    with running_space(folder, str(finished)) as url:
        page = verdict(url, "PASS")
        assert "epsilon" in page and 'class="FAIL"' not in page
        got = urllib.request.urlopen(f"{url}/release/report.html")
        assert got.read() == (finished / "report.html").read_bytes()
        assert "default-src 'none'" in got.headers["Content-Security-Policy"]
        for path in ("/release/../space/app.py", "/app.py", "/release/", "/release/nothing"):
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(url + path)
    with running_space(folder, str(copy)) as url:
        page = verdict(url, "FAIL")
        assert "no extra file" in page
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{url}/release/notes.txt")


@end_to_end
@needs_chromium
def test_a_space_fetches_what_was_pushed_and_a_browser_sees_the_verdict(
    place, tmp_path, monkeypatch
):
    from huggingface_hub import constants

    from . import fake_hub

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", fake_hub.TOKEN)
    with fake_hub.running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        sfumato.push(place["folder"], to="me/shapes", space="me/check")
        folder = tmp_path / "space"
        folder.mkdir()
        for name, data in hub.repositories["space", "me/check"].files.items():
            (folder / name).write_bytes(data)
        env = {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_ENDPOINT": hub.url}
        with running_space(folder, HF_TOKEN=fake_hub.TOKEN, **env) as url:
            verdict(url, "PASS")
            dom = browse(url, tmp_path / "profile")
            assert 'class="PASS"' in dom and "me/shapes" in dom and "report.html" in dom
            assert "epsilon" in browse(f"{url}/release/report.html", tmp_path / "profile")


def test_the_mark_and_the_pixels_in_the_shards_are_those_of_the_folder(kit, tmp_path):
    """Quick: every byte of a picture in parquet is checked as a file's is."""
    from sfumato.errors import SfumatoError
    from sfumato.releases import marked_png
    from sfumato.releases.contents import inspect_source
    from sfumato.synthesis.dataset import _Parquet

    image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    plain = marked_png(image)
    for number, data in enumerate(
        (plain, plain + b"ward 7", plain.replace(b"trained", b"patient"))
    ):
        top = tmp_path / str(number)
        top.mkdir()
        writer = _Parquet(top, 3, (0, 1))
        for i in range(3):
            writer.add(i, data if i == 1 else plain, "cat", "a picture of a cat", 0, i)
        writer.close()
        if number == 0:
            found = inspect_source(top, "images", classes=kit.classes)
            assert found.marked and found.n == 3
            continue
        with pytest.raises(SfumatoError, match="synthetic pictures alone|bytes after its end"):
            inspect_source(top, "images", classes=kit.classes)
