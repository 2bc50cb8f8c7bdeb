"""`report.html`: one file for a browser, offline.

Samples, the plan, epsilon and what an attacker could gain.
"""

from __future__ import annotations

import math
import re
from typing import Any

from sfumato import pages
from sfumato.pages import glossary
from sfumato.pages.odds import found_at_most
from sfumato.releases.beside import ROWS, outcome
from sfumato.releases.cards import CLASS_SHARES
from sfumato.releases.cards import render as render_template
from sfumato.releases.contents import Contents
from sfumato.releases.figures import RELATIONS, number, tables, unit_phrase
from sfumato.releases.origins import NO_MODEL
from sfumato.releases.shown import by_class, controls_drawn, samples
from sfumato.releases.statements import public_inputs

ROW, CELL = 20, 64
HOW_CHOSEN = {
    "private": (
        "A noisy probe of the private images ranked the candidates once; its cost is part of"
        " epsilon, so the scores may be shown."
    ),
    "public": "Public images ranked the candidates; this cost nothing.",
    "random": "The choice was drawn from the public seed.",
    "all": "All candidates train.",
}
WIDTH, HEIGHT, LEFT, BOTTOM = 440, 300, 52, 40


def render(
    certificate: dict[str, Any],
    contents: Contents,
    *,
    title: str,
    metrics: list[dict[str, Any]],
    controls: dict[str, Any] | None = None,
) -> str:
    """The page as HTML.

    `metrics` are figures on public data only: rows {name, value, public_data}; `controls` from
    `check_beside`.
    """
    drawn = controls_drawn(controls, contents)
    return render_template(
        "report.html.j2",
        c=certificate,
        m=certificate["mechanism"],
        facts=certificate["public_facts"],
        contents=contents,
        title=title,
        metrics=metrics,
        unit=unit_phrase(certificate).replace("`", ""),
        relation=RELATIONS[certificate["relation"]],
        shares=CLASS_SHARES.get(
            certificate["synthesis"].get("class_shares", "uniform"), CLASS_SHARES["declared"]
        ),
        style=pages.STYLE,
        shown=by_class(contents),
        samples=None if controls else samples(contents),
        words=glossary.definitions(glossary.released()),
        plan=plan_rows(certificate),
        tables=tables(certificate),
        inputs=public_inputs(certificate),
        curve=curve_chart(certificate),
        gain=gain_chart(certificate),
        network=network(certificate.get("selection")),
        how=HOW_CHOSEN.get((certificate.get("selection") or {}).get("how", "")),
        expected=controls and controls["expected"],
        beside=controls and beside_rows(controls),
        outcome=controls and outcome(controls["rows"]),
        drawn=drawn,
    )


def beside_rows(controls: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(name in words, distance from the anchor, cosine with it) of the token and its controls."""
    return [
        (ROWS[name], row["from_anchor"], row["cosine_with_anchor"])
        for name, row in controls["rows"].items()
    ]


def plan_rows(certificate: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(name, value, remark) of the plan, in the order of the loop.

    What a method does not use is left out.
    """
    m, facts = certificate["mechanism"], certificate["public_facts"]
    clipped, shares = "together", ""
    if m["clip_groups"]:
        clipped = f"in {m['clip_groups']} groups"
        shares = (
            f": {number(m['clip_norm_per_group'], 4)} for each group, sensitivity"
            f" {number(m.get('clip_bound') or m['sensitivity'], 4)} in total"
        )
    rows = [
        (
            "Base model",
            certificate["conditions"]["base"],
            "random numbers: no public model was used"
            if certificate["conditions"]["base_data"] == NO_MODEL
            else "public; the guarantee is conditional on it" + _voted(certificate),
        ),
        ("Method", m["method"], None if facts["rank"] is None else f"rank {facts['rank']}"),
        (
            ("Candidates", facts["trainable"], "a noisy sum of votes for each, in every round")
            if any("rounds" in query for query in m["one_shot"])
            else ("Trained numbers", facts["trainable"], f"all clipped {clipped}, all noised")
        ),
        (
            "Slots in the data" if certificate["unit"] == "record" else "Units in the data",
            facts["n_units"],
            "declared public",
        ),
        ("Sampling rate", m["sampling_rate"], "each unit, each step, independently"),
        ("Expected batch", m["expected_batch_size"], "a constant; also the divisor"),
        (
            "Steps",
            m["billed_steps"] or None,
            (
                None
                if m["billed_steps"] == m["steps"]
                else f"{m['steps']} planned, the rest is billed for restarts"
            ),
        ),
        ("Draws per unit", m["draws_per_record"], "averaged before the clip"),
        ("Clip norm", m["clip_norm"], m["clipping"] + shares),
        ("Noise multiplier", m["noise_multiplier"], "standard deviation in units of the clip norm"),
        *(
            (query["name"].capitalize(), query["noise"], "included in epsilon")
            for query in m["one_shot"]
        ),
    ]
    return [
        (name, number(value, 6), remark or "") for name, value, remark in rows if value is not None
    ]


def _voted(certificate: dict[str, Any]) -> str:
    """How the private images chose the base, where they did."""
    said = certificate.get("base_vote")
    if said is None:
        return ""
    shares = ", ".join(f"{c['base']} {100 * c['share']:.1f} %" for c in said["candidates"])
    return f"; chosen by the units' noisy votes ({shares})"


def curve_chart(certificate: dict[str, Any]) -> dict[str, Any]:
    """Delta against epsilon on a logarithmic scale: path, ticks and the point, in SVG units."""
    points = [(e, d) for e, d in certificate["curve"] if d > 0]
    right, low = max(max(e for e, _ in points), certificate["epsilon"]) * 1.02, -9.0
    x = _scale(0, right, LEFT, WIDTH - 12)
    y = _scale(low, 0, HEIGHT - BOTTOM, 12)
    line = [(x(e), y(max(math.log10(d), low))) for e, d in points]
    shown = points[:: max(1, len(points) // 10)]
    return {
        "path": _path(line),
        "points": [(number(e), rounded_up(d)) for e, d in shown],
        "x": [(x(v), f"{v:g}") for v in _ticks(right)],
        "y": [(y(p), "1" if p == 0 else f"1e{p}") for p in range(0, -10, -3)],
        "at": (x(certificate["epsilon"]), y(max(math.log10(certificate["delta"]), low))),
    }


def rounded_up(delta: float) -> str:
    """Two digits of a delta, never printed smaller than it is."""
    scale = 10.0 ** (math.floor(math.log10(delta)) - 1)
    return f"{min(1.0, math.ceil(delta / scale - 1e-9) * scale):.2g}"


def gain_chart(certificate: dict[str, Any]) -> dict[str, Any]:
    """The most members found against others accused wrongly (0 to 1), from the curve's points."""
    x, y = _scale(0, 1, LEFT, WIDTH - 12), _scale(0, 1, HEIGHT - BOTTOM, 12)
    rates = [(i / 60) ** 2 for i in range(61)]
    line = [
        (
            x(f),
            y(min(found_at_most(f, e, d) for e, d in certificate["curve"])),
        )
        for f in rates
    ]
    ticks = [(v / 4, f"{25 * v} %") for v in range(5)]
    return {
        "path": _path(line),
        "area": _path([*line, (x(1), y(1)), (x(0), y(0))]) + " Z",
        "guess": _path([(x(0), y(0)), (x(1), y(1))]),
        "x": [(x(v), text) for v, text in ticks],
        "y": [(y(v), text) for v, text in ticks],
    }


def network(selection: dict[str, Any] | None) -> dict[str, Any] | None:
    """The candidates as an image: one row per layer in the model's order, one cell per matrix.

    In SVG units. Cells are (x, y, width, opacity by score, chosen, title); rows (y, name); heads
    (x, name).
    """
    if not selection:
        return None
    scores = selection["scores"] or [0.0] * len(selection["groups"])
    low, high = min(scores), max(scores)
    rows: dict[str, int] = {}
    columns: dict[str, int] = {}
    cells = []
    for group, score in zip(selection["groups"], scores):
        named = re.fullmatch(r"(.*?)\.?(to_out\.0|net\.0\.proj|net\.2|attn\d|\w+\.\d+|\w+)", group)
        if named is None:
            raise ValueError(f"{group!r} is no name of a group")
        layer, column = named.groups()
        y, x = rows.setdefault(layer or group, len(rows)), columns.setdefault(column, len(columns))
        shade = 0.08 + 0.92 * (score - low) / (high - low) if high > low else 0.3
        title = group if selection["scores"] is None else f"{group}: {score:.6g}"
        cells.append(
            (x * CELL, y * ROW, CELL - 4, round(shade, 3), group in selection["selected"], title)
        )
    return {
        "cells": cells,
        "rows": [(y * ROW, name) for name, y in rows.items()],
        "heads": [(x * CELL, name) for name, x in columns.items()],
        "width": len(columns) * CELL,
        "height": len(rows) * ROW,
        "scores": selection["scores"] is not None,
        "table": [
            (group, number(score, 4), "yes" if group in selection["selected"] else "no")
            for group, score in zip(selection["groups"], scores)
        ],
        "kept": len(selection["selected"]),
        "of": len(selection["groups"]),
    }


def _scale(low: float, high: float, start: float, end: float):
    return lambda value: round(start + (value - low) / (high - low) * (end - start), 1)


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{a:g} {b:g}" for a, b in points)


def _ticks(most: float) -> list[float]:
    """Four to seven round values from 0 to at most `most`."""
    step = 10 ** math.floor(math.log10(most))
    step = next(s for s in (step * 0.2, step * 0.5, step, step * 2) if most / s <= 6.5)
    return [round(i * step, 10) for i in range(int(most / step) + 1)]
