"""croissant.json: what a loader of data sets reads first (Croissant 1.1, RAI 1.0).

The format: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html. The fields that say
where the data come from and what they are good for are those that NeurIPS asks of a data set.
"""

from __future__ import annotations

import datetime
import json
from typing import Any

from sfumato.releases.contents import Contents

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "prov": "http://www.w3.org/ns/prov#",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "column": "cr:column",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "includes": "cr:includes",
    "jsonPath": "cr:jsonPath",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "source": "cr:source",
    "transform": "cr:transform",
}
SYNTHETIC = "https://schema.org/TrainedAlgorithmicMediaDigitalSource"
NAME = ".*/([^/]*)$"  # of a file, without its folders: a number that is unique in the release
BIASES = (
    "The images have the biases of the private images and of the public base model; nothing was"
    " done about either.",
    "What is rare among the private images is rarer here, or missing: noise and clipping cost small"
    " groups most.",
    "The shares of the classes are those under synthesis in privacy.json, not the private ones.",
)
IMPACT = (
    "Meant to replace private images where these may not be shared. A decision about people should"
    " not rest on a model that saw only these images: test it on real ones first."
)
USES = (
    "training and testing of image models",
    "exploration before access to the private data is granted",
)


def render(certificate: dict[str, Any], contents: Contents, *, title: str, licence: str) -> str:
    """The file's text: plain JSON-LD that mlcroissant validates and reads.

    Args:
        certificate: As in privacy.json; nothing is stated that it does not state.
        contents: The images of the release.
        title: Of the data set.
        licence: Of the data set.

    Returns:
        JSON, with a line break at its end.
    """
    parquet = contents.layout == "parquet"
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.1",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": title,
        "description": (
            f"{contents.n} synthetic images, {_classes(len(contents.per_class))}."
            f" {certificate['statement']}"
        ),
        "license": licence,
        "datePublished": datetime.date.today().isoformat(),
        "digitalSourceType": SYNTHETIC,
        "distribution": _shards() if parquet else _files(contents),
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "train",
                "name": "train",
                "field": _fields_of_shards() if parquet else _fields_of_files(),
            }
        ],
        **_responsible(certificate),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _responsible(certificate: dict[str, Any]) -> dict[str, Any]:
    """What a reader should know before use, and where the images come from."""
    base = certificate["conditions"].get("base") or "a public diffusion model"
    return {
        "rai:hasSyntheticData": True,
        "rai:dataCollection": (
            "Drawn from a diffusion model adapted to private images under differential privacy."
        ),
        "rai:dataCollectionType": "Synthetic data",
        "rai:personalSensitiveInformation": (
            "The images are synthetic; what they tell about one unit is bounded by epsilon ="
            f" {certificate['epsilon']:g} at delta = {certificate['delta']:g}. See privacy.json."
        ),
        "rai:dataLimitations": certificate["conditions"]["not_covered"],
        "rai:dataBiases": list(BIASES),
        "rai:dataUseCases": list(USES),
        "rai:dataSocialImpact": IMPACT,
        "prov:wasDerivedFrom": [
            {"@type": "prov:Entity", "name": "private images, which are not published"},
            {"@type": "prov:Entity", "name": f"the public base model: {base}"},
        ],
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "name": "private adaptation, then synthesis",
            "description": (
                f"sfumato, method {certificate['mechanism']['method']};"
                " privacy.json has every setting"
            ),
        },
    }


def _files(contents: Contents) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileSet",
            "@id": "images",
            "name": "images",
            "description": "Synthetic images, one PNG each, in a folder for each class",
            "encodingFormat": "image/png",
            "includes": "train/*/*.png",
        },
        {
            "@type": "cr:FileSet",
            "@id": "metadata",
            "name": "metadata",
            "description": "Label, public prompt and seed of each image",
            "encodingFormat": "application/jsonlines",
            "includes": contents.metadata,
        },
    ]


def _fields_of_files() -> list[dict[str, Any]]:
    """The table's columns, and each row's picture by the name of its file.

    mlcroissant 1.1.1 finds no picture by its path (findings/), and says nothing.
    """
    name = {
        **_field("file", "sc:Text", "metadata", {"column": "file_name"}),
        "references": {"fileSet": {"@id": "images"}, "extract": {"fileProperty": "filename"}},
    }
    name["source"]["transform"] = {"regex": NAME}
    return [
        name,
        _field("image", "sc:ImageObject", "images", {"fileProperty": "content"}),
        *_words("metadata"),
    ]


def _shards() -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileSet",
            "@id": "images",
            "name": "images",
            "description": "Synthetic images in parquet shards",
            "encodingFormat": "application/x-parquet",
            "includes": "data/*.parquet",
        }
    ]


def _fields_of_shards() -> list[dict[str, Any]]:
    picture = _field("image", "sc:ImageObject", "images", {"column": "image"})
    picture["source"]["transform"] = {"jsonPath": "bytes"}
    return [picture, *_words("images")]


def _words(source: str) -> list[dict[str, Any]]:
    return [
        _field("label", "sc:Text", source, {"column": "label"}),
        _field("prompt", "sc:Text", source, {"column": "prompt"}),
        _field("seed", "sc:Integer", source, {"column": "seed"}),
    ]


def _field(name: str, kind: str, source: str, extract: dict[str, str]) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"train/{name}",
        "name": name,
        "dataType": kind,
        "source": {"fileSet": {"@id": source}, "extract": extract},
    }


def _classes(count: int) -> str:
    return "one class" if count == 1 else f"{count} classes"
