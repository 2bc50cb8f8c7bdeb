"""The pages beside the files: dataset or model card, the one-page statement, Croissant metadata."""

from __future__ import annotations

import datetime
import json
from functools import cache
from pathlib import Path
from typing import Any

from sfumato.releases import figures
from sfumato.releases.contents import Contents
from sfumato.releases.figures import RELATIONS, number, plain, unit_phrase
from sfumato.releases.statements import KEY_KEPT, public_inputs

CLASS_SHARES = {
    "uniform": "every class has the same share, whatever the private shares are",
    "declared": "the class shares were declared public by the operator",
    "noisy-histogram": (
        "the class shares come from a noisy histogram that the stated epsilon pays for"
    ),
}
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10**12, "1M<n<10M"),
)


def readme(certificate: dict[str, Any], contents: Contents, *, title: str, licence: str) -> str:
    """README.md: a card with YAML front matter (dataset or model) and a two-line load example."""
    images = contents.kind == "images"
    return render(
        "dataset.md.j2" if images else "model.md.j2",
        **_context(certificate, contents),
        **({} if images else _opening(certificate, contents)),
        title=title,
        licence=licence,
        size=next(word for most, word in SIZES if contents.n <= most),
        data_files=_data_files(contents),
    )


def statement(certificate: dict[str, Any], contents: Contents, *, title: str, licence: str) -> str:
    """PRIVACY.md: the claim on one page in plain words, for signature.

    It states nothing that privacy.json does not.
    """
    return render("privacy.md.j2", **_context(certificate, contents), title=title)


def croissant(certificate: dict[str, Any], contents: Contents, *, title: str, licence: str) -> str:
    """croissant.json: Croissant 1.1 with the RAI fields for synthetic data, as plain JSON-LD."""
    parquet = contents.layout == "parquet"
    images = {
        "@type": "cr:FileSet",
        "@id": "images",
        "name": "images",
        "description": (
            "Synthetic images"
            + (" in parquet shards" if parquet else ", one PNG each, in a folder for each class")
        ),
        "encodingFormat": "application/x-parquet" if parquet else "image/png",
        "includes": "data/*.parquet" if parquet else "train/*/*.png",
    }
    distribution = (
        [images]
        if parquet
        else [
            images,
            {
                "@type": "cr:FileSet",
                "@id": "metadata",
                "name": "metadata",
                "description": "Label, public prompt and seed of each image",
                "encodingFormat": "application/jsonl",
                "includes": contents.metadata,
            },
        ]
    )
    source = "images" if parquet else "metadata"
    fields = [
        _field("label", "sc:Text", source),
        _field("prompt", "sc:Text", source),
        _field("seed", "sc:Integer", source),
    ]
    picture = {
        "fileSet": {"@id": "images"},
        "extract": {"column": "image"} if parquet else {"fileProperty": "content"},
    }
    fields.insert(
        0,
        {
            "@type": "cr:Field",
            "@id": "train/image",
            "name": "image",
            "dataType": "sc:ImageObject",
            "source": picture,
        },
    )
    document = {
        "@context": {
            "@language": "en",
            "@vocab": "https://schema.org/",
            "sc": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/",
            "rai": "http://mlcommons.org/croissant/RAI/",
            "dct": "http://purl.org/dc/terms/",
            "conformsTo": "dct:conformsTo",
            "column": "cr:column",
            "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
            "extract": "cr:extract",
            "field": "cr:field",
            "fileProperty": "cr:fileProperty",
            "fileSet": "cr:fileSet",
            "includes": "cr:includes",
            "recordSet": "cr:recordSet",
            "source": "cr:source",
        },
        "@type": "sc:Dataset",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.1",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": title,
        "description": (
            f"{contents.n} synthetic images, {len(contents.per_class)} classes."
            f" {certificate['statement']}"
        ),
        "license": licence,
        "datePublished": datetime.date.today().isoformat(),
        "distribution": distribution,
        "recordSet": [{"@type": "cr:RecordSet", "@id": "train", "name": "train", "field": fields}],
        "rai:hasSyntheticData": True,
        "rai:dataCollection": (
            "Drawn from a diffusion model adapted to private images under differential privacy."
        ),
        "rai:personalSensitiveInformation": (
            "The images are synthetic; what they tell about one unit is bounded by epsilon ="
            f" {certificate['epsilon']:g} at delta = {certificate['delta']:g}. See privacy.json."
        ),
        "rai:dataLimitations": certificate["conditions"]["not_covered"],
        "rai:dataUseCases": [
            "training and testing of image models",
            "exploration before access to the private data is granted",
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def render(template: str, **values: Any) -> str:
    """One template of this room; a name that is not given is an error, and HTML is escaped."""
    return _environment().get_template(template).render(**values)


@cache
def _environment():
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=lambda name: bool(name) and ".html" in name,
    )
    environment.filters["number"] = number
    environment.filters["quoted"] = lambda text: json.dumps(str(text), ensure_ascii=False)
    environment.filters["plain"] = plain
    environment.filters["markdown"] = figures.markdown
    environment.filters["html"] = figures.html
    known: dict[str, Any] = environment.globals  # pyright: ignore[reportAssignmentType]
    known["key_kept"] = KEY_KEPT
    return environment


def _context(certificate: dict[str, Any], contents: Contents) -> dict[str, Any]:
    return {
        "c": certificate,
        "m": certificate["mechanism"],
        "facts": certificate["public_facts"],
        "contents": contents,
        "unit": unit_phrase(certificate),
        "relation": RELATIONS[certificate["relation"]],
        "shares": CLASS_SHARES.get(
            certificate["synthesis"].get("class_shares", "uniform"), CLASS_SHARES["declared"]
        ),
        "tables": figures.tables(certificate),
        "inputs": public_inputs(certificate),
    }


def _opening(certificate: dict, contents: Contents) -> dict:
    """The words that were trained, a prompt, and whether the base comes with sfumato."""
    from sfumato.bases import bundled_bases

    prompts = certificate["public_facts"]["prompts"] or ()
    words = [word for word in contents.words if any(word in text for text in prompts)]
    with_words = (text for text in prompts if any(word in text for word in words))
    return {
        "words": words,
        "prompt": next(with_words, next(iter(prompts), "")),
        "bundled": certificate["conditions"].get("base") in bundled_bases(),
    }


def _data_files(contents: Contents) -> list[str]:
    if contents.layout == "parquet":
        return ["data/train-*"]
    return ["train/**"] if contents.metadata != "metadata.jsonl" else ["train/**", "metadata.jsonl"]


def _field(name: str, kind: str, source: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"train/{name}",
        "name": name,
        "dataType": kind,
        "source": {"fileSet": {"@id": source}, "extract": {"column": name}},
    }
