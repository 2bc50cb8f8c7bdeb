"""The pages beside the files: dataset or model card, and the one-page statement."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from sfumato.pages import STYLE
from sfumato.pages.forecast import NOTHING
from sfumato.pages.glossary import linked
from sfumato.releases import figures
from sfumato.releases.contents import Contents, Example
from sfumato.releases.figures import RELATIONS, number, plain, unit_phrase
from sfumato.releases.statements import KEY_KEPT, public_inputs

CLASS_SHARES = {
    "prompts file": "a file of public prompts says how many pictures each prompt has",
    "uniform": "every class has the same share, whatever the private shares are",
    "declared": "the class shares were declared public by the operator",
    "noisy-histogram": (
        "the class shares come from a noisy histogram that the stated epsilon pays for"
    ),
}
TABLE = '<div class="scroll" tabindex="0" role="region" aria-label="figures"><table>\n'
EMPTY_HEAD = re.compile(r"<thead>\s*<tr>(?:\s*<th></th>)+\s*</tr>\s*</thead>\s*")
# Pipelines that draw in the nearest of their own sizes, unless they are told not to.
OWN_SIZES = {"PixArtSigmaPipeline", "SanaPipeline", "PRXPipeline"}
CARD_PIXELS = 160
CARD_SAMPLES = 4  # rows of a model's card
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10**12, "1M<n<10M"),
)


def readme(
    certificate: dict[str, Any],
    contents: Contents,
    *,
    title: str,
    licence: str,
    base_model: str | None = None,
) -> str:
    """README.md: a card with YAML front matter (dataset or model) and a two-line load example.

    `base_model`: the base's name on a hub, by the owner's word.
    """
    images = contents.kind == "images"
    return render(
        "dataset.md.j2" if images else "model.md.j2",
        **_context(certificate, contents),
        **({} if images else _opening(certificate, contents)),
        title=title,
        licence=licence,
        base_model=base_model,
        size=next(word for most, word in SIZES if contents.n <= most),
        data_files=_data_files(contents),
    )


def statement(
    certificate: dict[str, Any],
    contents: Contents,
    *,
    title: str,
    licence: str,
    signature: bool = True,
) -> str:
    """PRIVACY.md: the claim on one page in plain words, for signature.

    It states nothing that privacy.json does not. `signature`: with a table to sign in.
    """
    context = _context(certificate, contents)
    return render("privacy.md.j2", **context, title=title, signature=signature)


def signed_page(
    certificate: dict[str, Any], contents: Contents, *, title: str, licence: str
) -> str:
    """PRIVACY.html: the very text of PRIVACY.md, as a page that prints on one sheet."""
    text = statement(certificate, contents, title=title, licence=licence, signature=False)
    return render("privacy.html.j2", title=title, style=STYLE, body=_as_html(text))


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
    environment.filters["linked"] = linked
    known: dict[str, Any] = environment.globals  # pyright: ignore[reportAssignmentType]
    known["key_kept"], known["nothing"] = KEY_KEPT, NOTHING
    return environment


def _as_html(text: str) -> Markup:
    """Markdown in HTML; the first form of each word of the glossary is a link to its meaning."""
    from markdown_it import MarkdownIt

    known: set[str] = set()
    reader = MarkdownIt("commonmark", {"html": False, "xhtmlOut": True}).enable("table")

    def words(self, tokens, at, options, env) -> str:
        return linked(tokens[at].content, "report.html", known, note=known.add)

    reader.add_render_rule("text", words)
    reader.add_render_rule("table_open", lambda *_: TABLE)
    reader.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return Markup(EMPTY_HEAD.sub("", reader.render(text)))


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
    """The words that were trained, what is drawn, and whether the base comes with sfumato."""
    from sfumato.bases import bundled_bases

    prompts = certificate["public_facts"]["prompts"] or ()
    words = [word for word in contents.words if any(word in text for text in prompts)]
    with_words = (text for text in prompts if any(word in text for word in words))
    samples = contents.samples.get("adapted", []) if contents.drawn_by else []
    drawn = [one for one in samples if any(word in (one.prompt or "") for word in words)] or samples
    again = next(iter(drawn), None)
    return {
        "words": words,
        "started": certificate["public_facts"].get("token_starts") or {},
        "again": again,
        # of a square PNG, as its head says it; a pipeline may take another size for granted
        "side": int.from_bytes(again.image[16:20], "big") if again else None,
        "prompt": drawn[0].prompt if drawn else next(with_words, next(iter(prompts), "")),
        "call": _call(contents),
        "bundled": certificate["conditions"].get("base") in bundled_bases(),
        "rows": [
            (one.prompt, _image(one, "the adapted model"), _image(other, "the public base"))
            for one, other in zip(*(contents.samples.get(row, ()) for row in ("adapted", "base")))
        ][:CARD_SAMPLES],
    }


def _call(contents: Contents) -> list[tuple[str, object]]:
    """What a pipeline is told so that it draws as here: first how much guidance, 1 being none."""
    pipeline, guidance = contents.pipeline, (contents.drawn_by or {}).get("guidance", 1.0)
    if pipeline == "ZImagePipeline":  # counts from 0
        return [("guidance_scale", guidance - 1)]
    if pipeline == "QwenImagePipeline":
        return [("true_cfg_scale", guidance), ("negative_prompt", '""')]
    sizes = [("use_resolution_binning", False)] if pipeline in OWN_SIZES else []
    return [("guidance_scale", guidance), *sizes]


def _image(example: Example, drawn_by: str) -> str:
    """A picture of a model's card, in a cell of a table: small ones enlarged."""
    alt = escape(f"drawn by {drawn_by}: {example.prompt}, seed {example.seed}")
    text = " ".join(str(alt).split()).replace("|", "&#124;").replace("`", "&#96;")
    return f'<img src="{example.name}" width="{CARD_PIXELS}" alt="{text}"/>'


def _data_files(contents: Contents) -> list[str]:
    if contents.layout == "parquet":
        return ["data/train-*"]
    return ["train/**"] if contents.metadata != "metadata.jsonl" else ["train/**", "metadata.jsonl"]
