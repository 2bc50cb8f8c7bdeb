#!/usr/bin/env bash
# mlcroissant 1.1.1: a table of relative paths joined to a local folder of pictures on the file property "fullpath" validates, yields
# every row, and the picture of every row is None. Read alone, "fullpath" gives exactly the paths that stand in the table.
# Seen (three PNGs in train/<label>/ and a metadata.jsonl that names them so): fullpath alone train/cat/000.png and so on; joined on it, three rows
# with labels and no picture; joined on "filename", with the folder cut off by a regex: three pictures of 4x4.
# Guess: equal values join; or a join that matches no row is an error.
# Why it matters: a data set of pictures with labels beside them passes the validator and is empty for whoever loads it. Join on unique
# file names, and read every record back through the library before publishing.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check mlcroissant==1.1.1 pillow==13.0.0
cd "$work"
"$work/venv/bin/python" -W ignore - 2> log <<'PY'
import json
import sys
from pathlib import Path

import mlcroissant
from PIL import Image

CONTEXT = {"@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/"}
CONTEXT |= {"cr": "http://mlcommons.org/croissant/", "dct": "http://purl.org/dc/terms/"}
CONTEXT |= {"conformsTo": "dct:conformsTo", "dataType": {"@id": "cr:dataType", "@type": "@vocab"}}
WORDS = "column extract field fileProperty fileSet includes recordSet references regex source transform"
CONTEXT |= {word: f"cr:{word}" for word in WORDS.split()}
LABELS = ("cat", "dog", "cat")
names = [f"train/{label}/{i:03d}.png" for i, label in enumerate(LABELS)]
for name in names:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(name)
rows = [{"file_name": name, "label": label} for name, label in zip(names, LABELS)]
Path("metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def field(name, kind, files, extract, **more):
    source = {"fileSet": {"@id": files}, "extract": extract, **more}
    return {"@type": "cr:Field", "@id": f"rows/{name}", "name": name, "dataType": kind, "source": source}


def records(fields):
    sets = [("images", "image/png", "train/*/*.png"), ("table", "application/jsonlines", "metadata.jsonl")]
    used = json.dumps(fields)
    document = {"@context": CONTEXT, "@type": "sc:Dataset", "name": "pictures", "description": "three pictures"}
    document |= {"license": "CC0", "url": "https://example.org", "datePublished": "2026-01-01"}
    document |= {"conformsTo": "http://mlcommons.org/croissant/1.1"}
    document["distribution"] = [
        {"@type": "cr:FileSet", "@id": name, "name": name, "encodingFormat": form, "includes": found}
        for name, form, found in sets
        if f'"{name}"' in used
    ]
    document["recordSet"] = [{"@type": "cr:RecordSet", "@id": "rows", "name": "rows", "field": fields}]
    Path("croissant.json").write_text(json.dumps(document))
    return list(mlcroissant.Dataset(jsonld="croissant.json").records("rows"))


def joined(file_property, **more):
    file = field("file", "sc:Text", "table", {"column": "file_name"}, **more)
    file["references"] = {"fileSet": {"@id": "images"}, "extract": {"fileProperty": file_property}}
    picture = field("image", "sc:ImageObject", "images", {"fileProperty": "content"})
    found = records([file, picture, field("label", "sc:Text", "table", {"column": "label"})])
    return [row["rows/image"] and row["rows/image"].size for row in found]


alone = records([field("path", "sc:Text", "images", {"fileProperty": "fullpath"})])
alone = sorted(row["rows/path"].decode() for row in alone)
by_path = joined("fullpath")
by_name = joined("filename", transform={"regex": ".*/([^/]*)$"})
print("fullpath alone:", alone, "| joined on it:", by_path, "| joined on filename:", by_name)
if alone != sorted(names) or by_path != [None] * 3 or by_name != [(4, 4)] * 3:
    sys.exit("changed: a join on paths finds its pictures, or is refused")
PY
