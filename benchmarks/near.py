"""Near-copies: what is found, what is called one and is none, and what a search of a large set
takes. One JSON line each.

    python benchmarks/near.py recall FOLDER     # pictures of any size that are all different
    python benchmarks/near.py digits            # the bundled ones, for `recall` and false alarms
    python benchmarks/near.py phantoms          # drawn by the recipe from random numbers
    python benchmarks/near.py hashes FOLDER     # the hashes of ImageHash beside it
    python benchmarks/near.py base NAME         # how many digits, phantoms look like its pictures
    python benchmarks/near.py files FOLDER      # read, described and searched, as `inspect` does
    python benchmarks/near.py size [N]          # N bundled digits, one process

A folder may hold copies already: false alarms are counted where all pictures are known to differ
(digits of different writers, phantoms of different random numbers), in halves of the same set.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from sfumato.bases import bundled_bases
from sfumato.records import bounded, bundled_digits, load_records, near_copies
from sfumato.records.looks import Looks, load_known, looks_of, mirrored, unit
from sfumato.records.near import CLEAR, STRICT, Tally, search, search_known

ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
LARGEST = 1024  # pixels on a side of the pictures that are changed
SEED = 0


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def scaled(image: Image.Image, by: float) -> Image.Image:
    size = tuple(max(8, round(side * by)) for side in image.size)
    return image.resize(size, Image.Resampling.BICUBIC)


def cropped(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """Without `share` of the width and of the height, taken off at random sides."""
    off = [max(1, round(side * share)) for side in image.size]
    left, top = (int(rng.integers(0, most + 1)) for most in off)
    right, low = image.width - (off[0] - left), image.height - (off[1] - top)
    return image.crop((left, top, right, low))


def changes(rng: np.random.Generator) -> dict[str, Callable[[Image.Image], Image.Image]]:
    flip = Image.Transpose.FLIP_LEFT_RIGHT
    return {
        "JPEG 75": lambda i: jpeg(i, 75),
        "JPEG 40": lambda i: jpeg(i, 40),
        "half the side": lambda i: scaled(i, 0.5),
        "1.5 times the side": lambda i: scaled(i, 1.5),
        "brightness +20 %": lambda i: ImageEnhance.Brightness(i).enhance(1.2),
        "brightness -20 %": lambda i: ImageEnhance.Brightness(i).enhance(0.8),
        "contrast +20 %": lambda i: ImageEnhance.Contrast(i).enhance(1.2),
        "2 % cropped": lambda i: cropped(i, 0.02, rng),
        "5 % cropped": lambda i: cropped(i, 0.05, rng),
        "10 % cropped": lambda i: cropped(i, 0.1, rng),
        "mirrored": lambda i: i.transpose(flip),
        "mirrored, half the side, JPEG 75": lambda i: jpeg(scaled(i.transpose(flip), 0.5), 75),
    }


def pictures_of(folder: Path, most: int) -> list[Image.Image]:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS)
    rng = np.random.default_rng(SEED)
    out = []
    for at in sorted(rng.permutation(len(files))[:most]):
        image = Image.open(files[at]).convert("RGBA")
        image.thumbnail((LARGEST, LARGEST))
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image)
        if min(image.size) >= 8:
            out.append(ground.convert("RGB"))
    return out


def phantoms(n: int) -> list[Image.Image]:
    from recipes import rendered

    rng = np.random.default_rng(SEED)
    return [Image.fromarray(rendered.phantom(rng)[0]) for _ in range(n)]


def digits(n: int) -> list[Image.Image]:
    return [Image.fromarray(a).convert("RGB") for a in bundled_digits("test").array[:n]]


def looks(images: list[Image.Image]) -> Looks:
    return looks_of((np.asarray(image) for image in images), len(images))


def likeness(one: Looks, other: Looks) -> np.ndarray:
    """Best correlation of each picture with its own copy, as `search` would have it."""
    best = np.zeros(len(one), np.float32)
    for view in range(max(one.views, other.views)):
        ours, theirs = (x.small[:, min(view, x.views - 1)] for x in (one, other))
        for turned in (theirs, mirrored(theirs)):
            best = np.maximum(best, (unit(ours) * unit(turned)).sum(1))
    return best


def recall(name: str, images: list[Image.Image]) -> Iterator[dict]:
    known = looks(images)
    tally = Tally(np.arange(len(known)), within=True)
    for pairs in search(known):
        tally.add(pairs)
    said = {"set": name, "pictures": len(images), "plain": int(known.plain.sum())}
    judged = {"alike": round(tally.alike, 4), "strict": tally.strict}
    found = {f">= {CLEAR}": tally.clear[0].mean(), f">= {STRICT}": tally.clear[1].mean()}
    yield said | judged | {"have a near-copy": {k: round(v, 5) for k, v in found.items()}}
    for what, change in changes(np.random.default_rng(SEED)).items():
        close = likeness(known, looks([change(image) for image in images]))[~known.plain]
        shares = {
            f">= {floor}": round(float((close >= floor).mean()), 4) for floor in (CLEAR, STRICT)
        }
        yield said | {"change": what, "found": shares}


def hashes(name: str, images: list[Image.Image]) -> Iterator[dict]:
    """The 64-bit hashes of ImageHash: which share of copies differs in at most 6 and 10 bits."""
    import imagehash

    plain = looks(images).plain
    kept = [image for image, flat in zip(images, plain) if not flat]
    copies = {
        what: changes(np.random.default_rng(SEED))[what]
        for what in ("JPEG 75", "half the side", "2 % cropped")
    }
    for kind in ("phash", "dhash", "whash", "average_hash"):
        made = getattr(imagehash, kind)
        own = np.array([made(image).hash.reshape(-1) for image in kept])
        for what, change in copies.items():
            other = np.array([made(change(image)).hash.reshape(-1) for image in kept])
            apart = (own != other).sum(1)
            shares = {f"<= {most}": round(float((apart <= most).mean()), 4) for most in (6, 10)}
            yield {
                "set": name,
                "pictures": len(kept),
                "hash": kind,
                "change": what,
                "found": shares,
            }
        packed = np.packbits(own, axis=1).view(">u8").astype(np.uint64).reshape(-1)
        close = [np.sort(np.bitwise_count(packed ^ one))[1] for one in packed]
        near = {f"<= {most}": round(float(np.mean(np.array(close) <= most)), 4) for most in (6, 10)}
        yield {"set": name, "pictures": len(kept), "hash": kind, "have a near-copy": near}


def base(name: str, most: int) -> Iterator[dict]:
    known = load_known(bundled_bases()[name])
    if known is None:
        raise SystemExit(f"{name} has no list of its pictures")
    for what, images in (("digits", digits(10_000)), ("phantoms", phantoms(most))):
        own = looks(images)
        tally = Tally(np.arange(len(own)), within=False)
        for pairs in search_known(own, known):
            tally.add(pairs)
        found = dict(zip((f">= {CLEAR}", f">= {STRICT}"), tally.clear.mean(1).round(5).tolist()))
        judged = {"alike": round(tally.alike, 4), "strict": tally.strict}
        yield {"base": name, "hashes": len(known), "set": what} | judged | {"found": found}


def files(folder: Path) -> Iterator[dict]:
    """CPU seconds of this process and of the one that decodes."""

    def spent() -> float:
        own, other = (
            resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        return own.ru_utime + own.ru_stime + other.ru_utime + other.ru_stime

    started = spent()
    records = load_records(folder, unlabelled=True)
    bounded._ONE.stop()  # ended children are counted
    read, before = spent(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = near_copies(records)
    bounded._ONE.stop()
    ended, peak = spent(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield {
        "files": records.n,
        "CPU seconds to index": round(read - started, 1),
        "CPU seconds to read again, describe and search": round(ended - read, 1),
        "MiB before": before // 1024,
        "MiB at the peak": peak // 1024,
        "strict": found.strict,
        "copies": found.copies,
    }


def size(n: int) -> Iterator[dict]:
    array = bundled_digits("train").array
    repeated = np.arange(n) % len(array)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    known = looks_of((array[at] for at in repeated), n)
    described = time.process_time()
    tally = Tally(np.arange(n), within=True)
    for pairs in search(known):
        tally.add(pairs)
    ended, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield {
        "pictures": n,
        "CPU seconds to describe": round(described - started, 1),
        "CPU seconds to search": round(ended - described, 1),
        "MiB before": before // 1024,
        "MiB at the peak": peak // 1024,
        "alike": round(tally.alike, 4),
        "have a near-copy": {
            str(f): round(v, 5) for f, v in zip((CLEAR, STRICT), tally.clear.mean(1))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", choices=["recall", "digits", "phantoms", "hashes", "base", "files", "size"]
    )
    parser.add_argument("source", nargs="?", help="a folder, a base; for size: how many")
    parser.add_argument("--most", type=int, default=3000, help="pictures of a folder")
    args = parser.parse_args()
    if args.what == "size":
        lines = size(int(args.source or 60_000))
    elif args.what == "base":
        lines = base(args.source or "icons", args.most)
    elif args.what == "files":
        lines = files(Path(args.source))
    elif args.what == "digits":
        lines = recall("digits", digits(10_000))
    elif args.what == "phantoms":
        lines = recall("phantoms", phantoms(args.most))
    else:
        if args.source is None:
            parser.error("name a folder of pictures")
        run = {"recall": recall, "hashes": hashes}[args.what]
        lines = run(Path(args.source).name, pictures_of(Path(args.source), args.most))
    for line in lines:
        json.dump(line, sys.stdout)
        print(flush=True)


if __name__ == "__main__":
    main()
