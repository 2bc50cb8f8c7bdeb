"""The table of the 72 bad inputs: what comes in, and what must come of it, in the words and exit
codes that a user sees.

`read`: it counts like any other. `zero: RULE`: its slot stays in n and weighs nothing. `refuse
CODE: WORDS`: one line, before any charge. Other rows say in a word what was observed.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import warnings
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from sfumato import verbs
from sfumato.bases import load_base
from sfumato.cli import main
from sfumato.errors import Interrupted, SfumatoError
from sfumato.methods import Lora, dpsgd
from sfumato.methods.prompts import choose_prompts
from sfumato.options import Performance
from sfumato.planning.inputs import prepare_as_asked
from sfumato.planning.task import task_of
from sfumato.privacy.ledger import chain
from sfumato.records import describe, load_records
from sfumato.records.decode import decode
from sfumato.runs import budget
from sfumato.runs.prepared import original_base

ROOT = Path(__file__).resolve().parents[1]
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 255, (20, 24, 3), np.uint8)
DAMAGED, FOREIGN = "truncated or damaged", "not a picture in a format that is read"
SETTINGS = {
    "epsilon": 2.0,
    "delta": 1e-2,
    "method": Lora(rank=2),
    "expected_batch_size": 4,
    "steps": 3,
    "performance": Performance(micro_batch=8, checkpoint_steps=1, precision="float32"),
}


@pytest.fixture
def kit(tmp_path, tiny_base, tiny_images, monkeypatch, capsys, ledger_of_the_test):
    """What a row may use: a folder of its own, a base, pictures, and the owner's ledger."""
    return SimpleNamespace(
        tmp=tmp_path,
        base=tiny_base,
        images=tiny_images,
        patch=monkeypatch,
        said=capsys,
        book=ledger_of_the_test,
    )


# What comes in.


def encoded(form: str = "PNG", pixels=PIXELS, mode: str | None = None, **options) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(out, form, **options)
    return out.getvalue()


def fresh() -> bytes:
    return encoded(pixels=RNG.integers(0, 255, (16, 16, 3), np.uint8))


def declared(
    width: int, height: int, rows: bytes | None = None, depth: bytes = b"\x08\x02"
) -> bytes:
    """A PNG whose header says how large it is; with `rows` its data say so too."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = chunk(b"IHDR", struct.pack(">II", width, height) + depth + bytes(3))
    body = chunk(b"IDAT", zlib.compress(rows if rows is not None else bytes(1000), 9))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def with_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8825)[1] = "N"
    return encoded("JPEG", exif=exif)


def polyglot() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("ward7.txt", "secret")
    return encoded("JPEG") + out.getvalue()


def animation(form: str) -> bytes:
    more = {"lossless": True} if form == "WEBP" else {}
    return encoded(
        form, save_all=True, append_images=[Image.fromarray(255 - PIXELS)], duration=50, **more
    )


def scans(count: int) -> bytes:
    data = encoded("JPEG", progressive=True)
    at = data.index(b"\xff\xda")
    return data[:at] + data[at:-2] * count + data[-2:]


def noted(size: int) -> bytes:
    note = PngImagePlugin.PngInfo()
    note.add_text("x", "y" * size, zip=True)
    return encoded(pnginfo=note)


def cut(data: bytes, percent: int) -> bytes:
    return data[: len(data) * percent // 100]


def folder_of(root: Path, **extra: bytes) -> Path:
    """Two classes of four good pictures each; `extra` files go into the first."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(4):
            (root / name / f"{number}.png").write_bytes(fresh())
    for name, data in extra.items():
        (root / "a" / name).write_bytes(data)
    return root


ROWS = "".join(f"{c}/{i}.png,{c}\n" for c in "ab" for i in range(4))
TABLE = "file_name,label\n" + ROWS


# What is observed.


def outcome(action) -> str:
    """`refuse CODE: WORDS` where the action is refused, else what it returns."""
    try:
        return action()
    except SfumatoError as error:
        assert "\n" not in str(error)
        return f"refuse {error.exit_code}: {error}"


def picture(data: bytes):
    def act(kit) -> str:
        records = load_records(folder_of(kit.tmp / "d", **{"x.png": data}), max_bad=0.5)
        assert records.n == 9, "the slot stays in n"
        good = records.load([4], 16)[1].all()
        assert good == records.usable[4] and records.usable.sum() == 8 + good
        return "read" if good else f"zero: {', '.join(records.facts.bad)}"

    return act


def each(*acts):
    """Rows that stand for several inputs: all must end alike."""

    def act(kit) -> str:
        found = set()
        for number, one in enumerate(acts):
            part = kit.tmp / str(number)
            part.mkdir()
            found.add(one(SimpleNamespace(**vars(kit) | {"tmp": part})))
        return " | ".join(sorted(found))

    return act


def loads(make, **options):
    """`make(folder)` writes the source and may return its path; what load_records says of it."""

    def act(kit) -> str:
        made = make(kit.tmp / "d") or kit.tmp / "d"

        def load() -> str:
            records = load_records(made, **{"max_bad": 0.5, **options})
            lost = records.n - int(records.usable.sum())
            return f"read {records.n}" + (
                f", zero {lost}: {', '.join(records.facts.bad)}" if lost else ""
            )

        return outcome(load)

    return act


def table(text: str, encoding: str = "utf-8", **options):
    return loads(
        lambda root: (folder_of(root) / "metadata.csv").write_bytes(text.encode(encoding)) and root,
        **options,
    )


def named(*names: str):
    """Good pictures under odd names: all are read, each once, and no name is shown as it is."""

    def act(kit) -> str:
        records = load_records(folder_of(kit.tmp / "d", **{name: fresh() for name in names}))
        assert records.usable.all() and len(set(records.fingerprints)) == records.n
        assert not any(name in repr(records) + "".join(describe(records).lines()) for name in names)
        return f"read {records.n}"

    return act


def archive(suffix: str, fill):
    def make(root: Path) -> Path:
        root.mkdir(parents=True)
        place = root / f"x{suffix}"
        fill(place)
        return place

    return loads(make, unlabelled=True, max_bad=1)


def zipped(*names: str):
    def fill(place: Path) -> None:
        with zipfile.ZipFile(place, "w") as file:
            for name in names:
                file.writestr(name, b"x")

    return archive(".zip", fill)


def tarred(kind: bytes, name: str, target: str = ""):
    def fill(place: Path) -> None:
        with tarfile.open(place, "w") as file:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            file.addfile(member)

    return archive(".tar", fill)


def arrays(doubled: bool = False, **fields):
    def make(root: Path) -> Path:
        root.mkdir()
        np.savez(root / "x.npz", **fields)
        if doubled:
            with warnings.catch_warnings(), zipfile.ZipFile(root / "x.npz", "a") as file:
                warnings.simplefilter("ignore")
                file.writestr("images.npy", b"x")
        return root / "x.npz"

    return loads(make, max_bad=1)


def cli(*words, code_only: bool = False):
    """The command line's own exit code and line; `{tmp}`, `{base}`, `{images}` are filled in."""

    def act(kit) -> str:
        code = main(
            [str(word).format(tmp=kit.tmp, base=kit.base, images=kit.images) for word in words]
        )
        err = kit.said.readouterr().err
        lines = [
            line
            for line in err.strip().splitlines()
            if not line.endswith(" ...") and line[:6] != "note: "
        ]
        if code == 0:
            return "runs"
        assert len(lines) == 1 and "Traceback" not in err
        return f"refuse {code}: {lines[0].removeprefix('sfumato: ')}"

    return act


ADAPT = (
    "adapt",
    "{images}",
    "--base",
    "{base}",
    "--epsilon",
    "4",
    "--anyway",
    "--yes-public",
    "-o",
    "{tmp}/run",
)


def base(harm):
    """A copy of the tiny base with `harm(folder)` done to it."""

    def act(kit) -> str:
        folder = shutil.copytree(kit.base, kit.tmp / "base")
        harm(folder)
        return outcome(lambda: load_base(folder) and "read")

    return act


WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def header(change):
    """Another header, with the data as they are."""

    def harm(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        size = int.from_bytes(data[:8], "little")
        text = change(json.loads(data[8 : 8 + size]))
        text = text if isinstance(text, bytes) else json.dumps(text).encode()
        (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])

    return base(harm)


def overlap(entries: dict) -> dict:
    first, second = [name for name in entries if name != "__metadata__"][:2]
    entries[second]["data_offsets"] = entries[first]["data_offsets"]
    return entries


def doubled(entries: dict) -> bytes:
    name = next(name for name in entries if name != "__metadata__")
    return (
        json.dumps(entries)[:-1].encode()
        + f", {json.dumps(name)}: {json.dumps(entries[name])}}}".encode()
    )


def tensors(change):
    def harm(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        state = load_file(folder / WEIGHTS)
        change(state)
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})

    return base(harm)


def config(folder: Path, name: str, **fields) -> None:
    place = folder / name
    place.write_text(json.dumps(json.loads(place.read_text()) | fields))


# Rows that need more than one of these.


def one_file(kit) -> str:
    (kit.tmp / "d" / "a").mkdir(parents=True)
    (kit.tmp / "d" / "a" / "x.png").write_bytes(encoded())
    found = outcome(lambda: str(verbs.plan(kit.tmp / "d", base=str(kit.base), epsilon=4.0)))
    assert found.startswith("refuse 10"), "its class would give it away"
    report = verbs.plan(kit.tmp / "d", classes=["a"], base=str(kit.base), epsilon=4.0)
    assert report.plan.n_units == 1 and "cannot teach a model" in report.outlook.sentence
    return "runs, with a warning"


def identical(kit) -> str:
    root = folder_of(kit.tmp / "d")
    for path in root.glob("*/*.png"):
        path.write_bytes(encoded())
    records = load_records(root)
    assert records.n == records.n_units == 8 and records.usable.all()
    assert "all records are identical" in describe(records).warnings
    return "read 8, with a hint"


def same_picture(kit) -> str:
    records = load_records(folder_of(kit.tmp / "d", **{"x.png": encoded(), "y.png": encoded()}))
    assert len(set(records.unit)) == records.n == 10 and describe(records).exact_duplicates == 1
    return "read 10, with a hint"


def same_person(kit) -> str:
    from sfumato.releases import CertificateFacts, LedgerFacts, build_privacy_json

    plan = verbs.plan(kit.images, base=str(kit.base), epsilon=4.0, delta=1e-2).plan
    ledger = LedgerFacts(head="ab" * 32, entries=1, attempts=1, replays=0)
    known = CertificateFacts(plan=plan.to_json(), ledger=ledger, run_key_id="0", code_version="0")
    facts = build_privacy_json(known)
    promise = facts["statement"] + json.dumps(facts["mechanism"]) + json.dumps(facts["k_table"])
    assert "person" not in promise and "unit of privacy: record" in facts["statement"]
    assert facts["k_table"]["10"] > facts["k_table"]["5"] > facts["epsilon"]
    return "runs, with a table for k records"


def upright(kit) -> str:
    for turn in range(1, 9):
        pixels, exif = decode(with_exif(turn))
        assert exif and pixels.shape == ((24, 20, 3) if turn > 4 else (20, 24, 3))
    return each(*(picture(with_exif(turn)) for turn in range(1, 9)))(kit)


def heic(kit) -> str:
    data = b"\x00\x00\x00\x18ftypheic" + bytes(200)
    folder = folder_of(kit.tmp / "d", **{"x.heic": data, "y.heic": data, "z.avif": data})
    records = load_records(folder, max_bad=0.5)
    lines = verbs.inspect(folder).lines()
    assert sum("damaged: replace it" in line for line in lines) == 1
    return f"zero {records.n - int(records.usable.sum())}, one hint"


def changes_while_read(kit) -> str:
    root = folder_of(kit.tmp / "d")
    records = load_records(root)
    (root / "a" / "0.png").write_bytes(encoded())
    (root / "a" / "1.png").unlink()
    (root / "a" / "2.png").chmod(0)
    images, good = records.load(range(8), 16)
    assert not images[:2].any() and images[3:].any()
    return f"zero {int((~good[:2]).sum())} of those changed, read {int(good[3:].sum())} others"


def shown_escaped(name: str):
    def act(kit) -> str:
        (folder_of(kit.tmp / "d") / name).mkdir()
        for words, code in ((["inspect"], 0), (["plan", "--base", "icons", "--epsilon", "1"], 10)):
            assert main([words[0], str(kit.tmp / "d"), *words[1:]]) == code
            shown = "".join(kit.said.readouterr())
            assert name not in shown and repr(name)[1:-1] in shown
        return named(name + ".png")(SimpleNamespace(tmp=kit.tmp / "named"))

    return act


def links(kit) -> str:
    root = folder_of(kit.tmp / "d")
    (kit.tmp / "out.png").write_bytes(encoded())
    (root / "a" / "link.png").symlink_to(kit.tmp / "out.png")
    # inside a folder, a hard link is just a file
    os.link(root / "a" / "0.png", root / "a" / "hard.png")
    records = load_records(root)
    assert records.n == 9 and records.facts.ignored == {"symbolic link out of the folder": 1}
    return tarred(tarfile.SYMTYPE, "x.png", "/etc/passwd")(SimpleNamespace(tmp=kit.tmp / "t"))


def bombs(kit) -> str:
    def packed(root: Path) -> Path:
        root.mkdir()
        with zipfile.ZipFile(root / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
            with file.open("images.npy", "w") as member:
                for _ in range(300):
                    member.write(bytes(2**20))
        return root / "x.npz"

    def many(root: Path) -> Path:
        root.mkdir()
        with zipfile.ZipFile(root / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
            for number in range(3):
                file.writestr(f"{number}.npy", bytes(120 * 2**20))
        return root / "x.npz"

    def idx(root: Path) -> Path:
        root.mkdir()
        for name, head in (
            ("train-images-idx3-ubyte", b"\0\0\x08\x03" + struct.pack(">3I", 1_000_000, 28, 28)),
            ("train-labels-idx1-ubyte", b"\0\0\x08\x01" + struct.pack(">I", 10)),
        ):
            with gzip.open(root / f"{name}.gz", "wb") as stream:
                stream.write(head + bytes(1000))
        return root / "train-images-idx3-ubyte.gz"

    return each(loads(packed), loads(many), loads(idx))(kit)


def million(kit) -> str:
    """A million records as arrays, and an archive of as many members, which is not even opened."""
    for name, head, body in (
        ("train-images-idx3-ubyte", b"\0\0\x08\x03" + struct.pack(">3I", 10**6, 8, 8), 64 * 10**6),
        ("train-labels-idx1-ubyte", b"\0\0\x08\x01" + struct.pack(">I", 10**6), 10**6),
    ):
        with open(kit.tmp / name, "wb") as stream:
            stream.write(head)
            stream.truncate(len(head) + body)
    records = load_records(kit.tmp)
    return f"read {records.n}"


def formula(kit) -> str:
    root = folder_of(kit.tmp / "d")
    (root / "metadata.csv").write_text(TABLE.replace(",b", ",=1+1").replace(",a", ",@x"))
    assert load_records(root).classes == ("=1+1", "@x")
    # A release has no CSV: what a spreadsheet would run is a JSON string there.
    return "read 8"


def quoted(kit) -> str:
    root = folder_of(kit.tmp / "d")
    (root / "metadata.csv").write_text(TABLE.replace(",b", ',"b, ""x""\ny"'))
    records = load_records(root)
    assert records.classes == ("a", 'b, "x"\ny')
    assert (
        "\n" not in choose_prompts(load_base(kit.base), records.classes, embedder=False).prompts[1]
    )
    return f"read {records.n}"


def prompts(text: str):
    def act(kit) -> str:
        def run() -> str:
            opened = load_base(kit.base)
            chosen = choose_prompts(opened, ["a"], prompt={"a": text}, embedder=False)
            opened.condition(chosen.prompts)
            return f"read as {chosen.prompts[0]!r}"

        return outcome(run)

    return act


def private_caption(kit) -> str:
    root = folder_of(kit.tmp / "d")
    (root / "metadata.csv").write_text(
        "file_name,label,text\n"
        + ROWS.replace(",a", ",a,A  picture of a cross").replace(",b", ",b,x")
    )
    records = load_records(root, caption_column="text")
    said = {
        "delta": 1e-2,
        "base": str(kit.base),
        "prompt": {"a": "a picture of a cross", "b": "a square"},
        "embedder": False,
    }
    allowed = prepare_as_asked(records, task_of(**said, epsilon=4.0, allow_caption_prompts=True)[2])
    assert any("caption" in words for words in allowed.options["statements"]["opt_ins"])
    return outcome(lambda: str(prepare_as_asked(records, task_of(**said, epsilon=4.0)[2])))


def lone_class(kit) -> str:
    root = folder_of(kit.tmp / "d")
    (root / "metadata.csv").write_text(TABLE.replace("a/3.png,a", "a/3.png,rare"))
    declared_ = load_records(root, classes=["a", "b", "rare"])
    assert declared_.usable.all() and any(
        "'rare' has one record" in w for w in describe(declared_).warnings
    )
    records = load_records(root)
    assert records.few == {"rare": 1} and "rare" not in records.classes and records.usable.all()
    assert any("set apart" in w for w in describe(records).warnings)
    return outcome(lambda: str(verbs.plan(root, base=str(kit.base), epsilon=4.0)))


def adapter_for_another(kit) -> str:
    run = verbs.adapt(
        kit.images,
        anyway=True,
        yes_public=True,
        output=kit.tmp / "run",
        base=str(kit.base),
        **SETTINGS,
    )
    from safetensors.torch import load_file, save_file

    place = run.model / "pytorch_lora_weights.safetensors"
    state = load_file(place)
    save_file(
        {name.replace("down_blocks.1", "down_blocks.7"): value for name, value in state.items()},
        place,
    )
    return outcome(lambda: str(verbs.synthesize(run, 2, kit.tmp / "out")))


def other_base(kit) -> str:
    copy = shutil.copytree(kit.base, kit.tmp / "base")
    plan = verbs.plan(kit.images, base=str(copy), epsilon=4.0, delta=1e-2).plan
    config(copy, "unet/config.json", note="x")
    return outcome(lambda: str(original_base(plan, {"performance": {"precision": "auto"}})))


def full_disk(kit) -> str:
    """The cache of latents does not fit: after the charge, which stays."""

    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    kit.patch.setattr("sfumato.training.data.reserve", full)
    told = outcome(
        lambda: str(
            verbs.adapt(
                kit.images,
                anyway=True,
                yes_public=True,
                output=kit.tmp / "run",
                base=str(kit.base),
                **SETTINGS,
            )
        )
    )
    assert [row.kind for row in budget.existing_ledger(kit.book).rows].count("CHARGE") == 1
    assert (
        verbs.plan(kit.images, base=str(kit.base), epsilon=2.0)
        .remarks[0]
        .startswith("these images have cost epsilon")
    )
    return told


def no_output(kit) -> str:
    told = cli(*(word.replace("{tmp}", "/proc/sfumato") for word in ADAPT), "--delta", "1e-2")(kit)
    assert not kit.book.exists() or "CHARGE" not in [
        row.kind for row in budget.existing_ledger(kit.book).rows
    ]
    return told


def read_only_data(kit) -> str:
    root = shutil.copytree(kit.images, kit.tmp / "d")
    for path in [*root.rglob("*"), root]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    before = {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}
    verbs.adapt(
        root, anyway=True, yes_public=True, output=kit.tmp / "run", base=str(kit.base), **SETTINGS
    )
    assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before
    return "runs, and writes nothing there"


def stranger(uid: int | None):
    """The command line without a home folder, in an empty folder; as a user that nobody knows if we
    may.
    """

    def act(kit) -> str:
        here = Path(tempfile.mkdtemp()) / "here"
        shutil.copytree(kit.images, here / "d")
        here.chmod(0o777)
        here.parent.chmod(0o755)
        # Where nobody else may enter the interpreter's folders, at least nobody knows the user.
        parts = {
            *here.parents,
            *Path(sys.executable).resolve().parents,
            *Path(sys.executable).parents,
            *ROOT.parents,
            Path(sys.prefix),
        }
        user = (
            uid
            if os.geteuid() == 0 and all(part.stat().st_mode & 0o001 for part in parts)
            else None
        )
        unknown = "import pwd; pwd.getpwuid = {}.__getitem__; " if uid is not None else ""
        code = (
            f"{unknown}import sys; from sfumato.cli import main; from sfumato.runs import budget;"
            " from pathlib import Path;print(budget.default_path(Path('run')));"
            " sys.exit(main(['inspect', 'd']))"
        )
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-B", "-c", code],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            user=user,
        )
        assert done.returncode == 0, done.stderr
        assert "24 records, 24 usable" in done.stdout and sorted(
            p.name for p in here.iterdir()
        ) == ["d"]
        if uid is not None:
            assert done.stdout.splitlines()[0] == str(here / "ledger.sqlite"), (
                "the ledger lies beside the run"
            )
        shutil.rmtree(here.parent)
        return "runs, and leaves nothing"

    return act


def two_runs(kit) -> str:
    prepared = {"base": str(kit.base), **SETTINGS}
    book = budget.open_ledger(kit.book)
    budget.set_cap(book, load_records(kit.images).fingerprints, 2.5)
    verbs.adapt(kit.images, anyway=True, yes_public=True, output=kit.tmp / "one", **prepared)
    told = outcome(
        lambda: str(
            verbs.adapt(
                kit.images, anyway=True, yes_public=True, output=kit.tmp / "two", **prepared
            )
        )
    )
    assert not (kit.tmp / "two").exists()
    return told


def harmed_ledger(kit) -> str:
    book = budget.open_ledger(kit.book)
    prints = load_records(kit.images).fingerprints
    budget.set_cap(book, prints, 8)
    book.close()
    old = {path: path.read_bytes() for path in kit.book.parent.iterdir()}
    book = budget.open_ledger(kit.book)
    budget.set_cap(book, prints, 7)
    facts = {
        "head": book.head,
        "entries": len(book.rows),
        "run": None,
        "charges": [],
        "cap": 7,
        "data_sets": 1,
    }
    facts = {"events": [], "ledger": facts}
    (kit.tmp / "privacy.json").write_text(json.dumps(facts))
    book.close()
    new, found = kit.book.read_bytes(), set()
    at = new.index(b'"epsilon":7.0') + 10
    for data in (new[: len(new) // 2], new[:at] + bytes([new[at] ^ 1]) + new[at + 1 :]):
        kit.book.write_bytes(data)
        found.add(cli("ledger", "show")(kit)[:9])
    for path, data in old.items():
        path.write_bytes(data)
    found.add(cli("ledger", "show", "--against", "{tmp}/privacy.json")(kit)[:9])
    return " | ".join(found)


def clock_set_back(kit) -> str:
    book = budget.open_ledger(kit.book)
    prints = load_records(kit.images).fingerprints
    budget.set_cap(book, prints, 8)

    class Earlier(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime(1999, 1, 1, tzinfo=UTC)

    kit.patch.setattr(chain, "datetime", Earlier)
    budget.set_cap(book, prints, 7)
    book.close()
    rows = budget.existing_ledger(kit.book).rows
    assert rows[-1].written < rows[0].written and [row.seq for row in rows] == list(
        range(len(rows))
    )
    return f"runs, cap {budget.standing(budget.open_ledger(kit.book), prints).cap:g}"


def stopped(kit) -> str:
    def progress(now, plan) -> None:
        if now.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    told = outcome(
        lambda: str(
            verbs.adapt(
                kit.images,
                anyway=True,
                yes_public=True,
                output=kit.tmp / "run",
                base=str(kit.base),
                progress=progress,
                **SETTINGS,
            )
        )
    )
    assert verbs.adapt(kit.images, output=kit.tmp / "run", resume=True).model.exists()
    return told


def device_error(kit) -> str:
    import torch

    real = dpsgd.train

    def train(*words, state, **more) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    kit.patch.setattr(dpsgd, "train", train)
    told = outcome(
        lambda: str(
            verbs.adapt(
                kit.images,
                anyway=True,
                yes_public=True,
                output=kit.tmp / "run",
                base=str(kit.base),
                **SETTINGS,
            )
        )
    )
    kit.patch.setattr(dpsgd, "train", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        verbs.adapt(kit.images, output=kit.tmp / "run", resume=True)
    kit.patch.setattr(dpsgd, "train", real)
    assert verbs.adapt(kit.images, output=kit.tmp / "run", resume=True).model.exists()
    assert issubclass(Interrupted, SfumatoError)
    return told


GREY16 = PIXELS[..., 0].astype(np.uint16) * 257
WHOLE = "refuse 11: .*not a whole safetensors file"
WIDE = "file_name,label," + ",".join(f"c{i}" for i in range(10**6)) + "\n"

TABLE_OF_INPUTS = [
    (
        "BI01",
        "no files",
        cli("plan", "{tmp}", "--base", "icons", "--epsilon", "1"),
        "refuse 10: the folder holds no images",
    ),
    ("BI02", "one file", one_file, "runs, with a warning"),
    ("BI03", "all identical", identical, "read 8, with a hint"),
    ("BI04", "same picture, two names", same_picture, "read 10, with a hint"),
    ("BI05", "same person twice, no column", same_person, "runs, with a table for k records"),
    ("BI06", "1x1", picture(encoded(pixels=PIXELS[:1, :1])), "zero: too small"),
    (
        "BI07",
        "1x20000",
        picture(encoded(pixels=np.zeros((1, 20_000, 3), np.uint8))),
        "zero: aspect ratio",
    ),
    (
        "BI08",
        "30000x30000, a small file",
        picture(declared(30_000, 30_000, bytes(3751 * 30_000), b"\x01\x00")),
        "zero: too large",
    ),
    ("BI09", "declared size larger than data", picture(declared(200, 200)), f"zero: {DAMAGED}"),
    (
        "BI10",
        "cut JPEG",
        each(
            *(picture(cut(encoded("JPEG"), share)) for share in (50, 99)),
            picture(encoded("JPEG", progressive=True)[:-40]),
        ),
        f"zero: ({DAMAGED}|{FOREIGN})",
    ),
    ("BI11", "zero bytes", picture(b""), "zero: empty file"),
    ("BI12", "text renamed .png", picture(b"no picture at all"), f"zero: {FOREIGN}"),
    ("BI13", "polyglot zip + jpg", picture(polyglot()), "read"),
    ("BI14", "animations", each(picture(animation("WEBP")), picture(animation("PNG"))), "read"),
    ("BI15", "EXIF orientations with GPS", upright, "read"),
    ("BI16", "CMYK JPEG", picture(encoded("JPEG", mode="CMYK")), "read"),
    ("BI17", "16-bit PNG", picture(encoded(pixels=GREY16)), "read"),
    (
        "BI18",
        "alpha, palette with transparency",
        each(
            picture(encoded(pixels=np.dstack([PIXELS, PIXELS[..., 0]]))),
            picture(encoded(mode="P", transparency=1)),
        ),
        "read",
    ),
    ("BI19", "1-bit", picture(encoded(mode="1")), "read"),
    ("BI20", "greyscale", picture(encoded(pixels=PIXELS[..., 0])), "read"),
    (
        "BI21",
        "float TIFF",
        picture(encoded("TIFF", pixels=PIXELS[..., 0].astype(np.float32))),
        "zero: floats outside 0..1",
    ),
    ("BI22", "broken ICC profile", picture(encoded(icc_profile=b"not a profile")), "read"),
    (
        "BI23",
        "JPEG2000",
        picture(b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(200)),
        f"zero: {FOREIGN}",
    ),
    ("BI24", "HEIC, AVIF", heic, "zero 3, one hint"),
    (
        "BI25",
        "SVG",
        picture(
            b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
        ),
        f"zero: {FOREIGN}",
    ),
    (
        "BI26",
        "PSD, EPS, FITS, PDF",
        each(
            *(
                picture(mark + bytes(300))
                for mark in (b"8BPS\0\x01", b"%!PS-Adobe", b"SIMPLE  =", b"%PDF-1.7")
            )
        ),
        f"zero: {FOREIGN}",
    ),
    (
        "BI27",
        "file changes while read",
        changes_while_read,
        "zero 2 of those changed, read 5 others",
    ),
    (
        "BI28",
        "NaN in an array",
        arrays(
            images=np.where(np.arange(4)[:, None, None] == 2, np.nan, np.full((4, 16, 16), 0.5)),
            labels=[0, 1, 0, 1],
        ),
        "read 4, zero 1: not finite",
    ),
    (
        "BA01",
        "NFC/NFD twin names",
        named(*(unicodedata.normalize(form, "café.png") for form in ("NFC", "NFD"))),
        "read 10",
    ),
    ("BA02", "emoji name", named("\N{GRINNING FACE}.png"), "read 9"),
    ("BA03", "right-to-left override", shown_escaped("a\N{RIGHT-TO-LEFT OVERRIDE}gnp"), "read 9"),
    ("BA04", "newline in name", shown_escaped("new\nline"), "read 9"),
    ("BA05", "255-byte name", named("n" * 251 + ".png"), "read 9"),
    ("BA06", "leading dash", named("-rf.png"), "read 9"),
    (
        "BA07",
        "`..` member",
        each(
            *(
                table(f"file_name,label\na/0.png,a\n{name},b\n")
                for name in ("../x.png", "a/../../x.png")
            )
        ),
        "refuse 10: .*outside its folder",
    ),
    (
        "BA08",
        "absolute member",
        table("file_name,label\na/0.png,a\n/etc/passwd,b\n"),
        "refuse 10: .*outside its folder",
    ),
    # beside pictures such a member is a missing file: tests/records/test_archives.py
    ("BA09", "symlink out", links, "refuse 10: no records found"),
    (
        "BA10",
        "hard link member",
        tarred(tarfile.LNKTYPE, "x.png", "/etc/passwd"),
        "refuse 10: no records found",
    ),
    ("BA11", "zip bomb", bombs, "refuse 10: .*grows more than"),
    ("BA12", "a million entries", million, "read 1000000"),
    (
        "BA13",
        "duplicate member names",
        arrays(doubled=True, images=np.zeros((4, 9, 9), np.uint8), labels=[0, 1, 0, 1]),
        "refuse 10: ",
    ),
    ("BA14", "case-only twins", named("X.PNG", "x.png"), "read 10"),
    (
        "BT01",
        "missing label",
        table(TABLE.replace("a/3.png,a", "a/3.png,")),
        "read 8, zero 1: missing label",
    ),
    (
        "BT02",
        "class outside the declared list",
        table(TABLE.replace("a/3.png,a", "a/3.png,z"), classes=["a", "b"]),
        "read 8, zero 1: label not in the class list",
    ),
    ("BT03", "comma, quote, newline in label", quoted, "read 8"),
    ("BT04", "byte-order mark", table("\ufeff" + TABLE), "read 8"),
    (
        "BT05",
        "latin-1 table",
        table(TABLE.replace(",b", ",b\xe9"), "latin-1"),
        "refuse 10: .*looks like latin-1",
    ),
    ("BT06", "cell starts with = + - @", formula, "read 8"),
    (
        "BT07",
        "row with a million columns",
        each(table(WIDE + ROWS), table("file_name,label\na/0.png" + ",x" * 10**6 + "\n")),
        "refuse 10: .*(columns|cells)",
    ),
    (
        "BT08",
        "prompt of 100 kB, control characters",
        each(prompts("long words " * 10_000), prompts("a\x1b[2J b"), prompts("a\nb")),
        "refuse 2: .*(longer than|control characters)",
    ),
    (
        "BT09",
        "prompt equals a private caption",
        private_caption,
        "refuse 2: 1 of the prompts or --init texts are, or contain, captions",
    ),
    ("BT10", "class used once", lone_class, "refuse 10: 1 of the 3 classes found in the data"),
    (
        "BM01",
        "pickled weights",
        base(lambda folder: (folder / WEIGHTS).rename((folder / WEIGHTS).with_suffix(".bin"))),
        "refuse 11: .*is a pickle",
    ),
    (
        "BM02",
        "header of 2^63",
        base(
            lambda folder: (folder / WEIGHTS).write_bytes((2**63).to_bytes(8, "little") + bytes(99))
        ),
        WHOLE,
    ),
    ("BM03", "overlapping offsets", header(overlap), WHOLE),
    ("BM04", "duplicate keys", header(doubled), WHOLE),
    (
        "BM05",
        "truncated tail",
        base(lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])),
        WHOLE,
    ),
    (
        "BM06",
        "wrong dtype or shape",
        each(
            tensors(
                lambda state: state.update(
                    {"conv_in.weight": state["conv_in.weight"][:, :2].contiguous()}
                )
            ),
            tensors(lambda state: state.update({"conv_in.weight": state["conv_in.weight"].char()})),
        ),
        "refuse 11: ",
    ),
    (
        "BM07",
        "NaN weights",
        tensors(lambda state: state["conv_in.weight"].view(-1)[:1].fill_(float("nan"))),
        "refuse 11: .*not finite",
    ),
    (
        "BM08",
        "config asks for code",
        each(
            *(
                base(lambda folder, word=word: config(folder, "unet/config.json", **{word: True}))
                for word in ("auto_map", "custom_pipelines", "trust_remote_code")
            ),
            base(lambda folder: config(folder, "model_index.json", unet=["mine", "UNet"])),
        ),
        "refuse 11: .*(code of its own|does not know)",
    ),
    (
        "BM09",
        "LoRA for another base",
        adapter_for_another,
        "refuse 13: .*is not the model that the ledger knows",
    ),
    ("BM10", "wrong base hash", other_base, "refuse 11: .*its hash differs"),
    ("BE01", "disk full", full_disk, "refuse 14: .*No space left on device"),
    ("BE02", "read-only output", no_output, "refuse 14: cannot make the run folder"),
    ("BE03", "read-only data", read_only_data, "runs, and writes nothing there"),
    ("BE04", "no HOME", stranger(None), "runs, and leaves nothing"),
    ("BE05", "random uid, non-root", stranger(54321), "runs, and leaves nothing"),
    ("BE06", "two runs, one ledger", two_runs, "refuse 12: the cap on these images"),
    ("BE07", "ledger: a flipped bit, cut, an older copy", harmed_ledger, "refuse 13"),
    ("BE08", "clock set back", clock_set_back, "runs, cap 7"),
    ("BE09", "SIGTERM", stopped, "refuse 75: stopped at step [12] of 3; continue with --resume"),
    ("BE10", "device error in a step", device_error, "refuse 75: the device failed"),
    # Not in the table of the specification, and of the same kinds.
    (
        "BI10 10 %",
        "JPEG cut in its header",
        picture(cut(encoded("JPEG"), 10)),
        f"zero: ({DAMAGED}|{FOREIGN})",
    ),
    ("BI14 GIF", "GIF", picture(encoded("GIF")), "read"),
    ("BI17 TIFF", "16-bit TIFF", picture(encoded("TIFF", pixels=GREY16)), "read"),
    (
        "BI28 pickle",
        "pickled arrays",
        arrays(images=np.array([{}, {}], dtype=object), labels=[0, 1]),
        "refuse 10: .*pickled objects",
    ),
    ("BI scans", "200 scans in a JPEG", picture(scans(200)), "zero: too large"),
    (
        "BI chunk",
        "a text of 200 MB in a PNG",
        picture(noted(200_000_000)),
        f"(read|zero: {DAMAGED}|zero: {FOREIGN})",
    ),
    (
        "BA08 elsewhere",
        "absolute member of another machine",
        each(
            *(
                table(f"file_name,label\na/0.png,a\n{name},b\n")
                for name in ("\\\\server\\x.png", "C:\\x.png", "/nowhere/x.png")
            )
        ),
        "read 2, zero 1: missing file",
    ),
    ("BA07 zip", "`..` in an archive", zipped("../x.png"), "refuse 10: .*a file outside itself"),
    ("BT08 empty", "prompt empty", prompts(""), "read as ''"),
    (
        "BM08 width",
        "a config of a billion layers",
        base(lambda folder: config(folder, "unet/config.json", layers_per_block=10**9)),
        "refuse 11: .*layers_per_block that no such model has",
    ),
]


@pytest.mark.parametrize(
    ("name", "what", "act", "expected"), TABLE_OF_INPUTS, ids=[row[0] for row in TABLE_OF_INPUTS]
)
def test_bad_input(kit, name, what, act, expected):
    found = act(kit)
    if " | " in found:
        assert all(re.match(expected, part) for part in found.split(" | ")), found
    assert re.match(
        expected + ("" if expected.startswith("refuse") else "$"), found.split(" | ")[0]
    ), f"{what}: {found}"


def test_all_72_are_in_the_table():
    wanted = [
        f"{kind}{i:02d}"
        for kind, n in (("BI", 28), ("BA", 14), ("BT", 10), ("BM", 10), ("BE", 10))
        for i in range(1, n + 1)
    ]
    assert [row[0] for row in TABLE_OF_INPUTS][:72] == wanted and len(wanted) == 72


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux")
def test_the_whole_table_stays_small():
    import resource

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 * 2**20, "more than 2 GB"
