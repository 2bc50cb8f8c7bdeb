"""Pictures of committed results: `python benchmarks/plots.py` draws results/*.jsonl into
results/*.png.

ratios.png (one draw per record) and draws.png (several) show every method's time and peak memory
over the non-private step of the same run; scaling.png shows seconds and bytes as one size grows.
protocol.png shows accuracy over epsilon, samples.png pictures of every class for every epsilon,
both from the lines of results.py.
"""

from __future__ import annotations

import argparse
import json
import math
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import NullLocator  # noqa: E402

RESULTS = Path(__file__).parent / "results"
OURS, BASE = "sfumato", "non-private"
# Colours that stay apart for colour-blind readers (Okabe and Ito), and a mark each.
STYLE = {
    BASE: ("#555555", "|"),
    OURS: ("#0072B2", "D"),
    "reference": ("#999999", "s"),
    "opacus hooks": ("#E69F00", "o"),
    "opacus ghost": ("#D55E00", "^"),
    "torch.func vmap": ("#009E73", "v"),
    "opake": ("#CC79A7", "P"),
}
PANELS = (
    ("ratio_time", "time", (0.8, 1, 1.2, 1.5, 2, 3, 5, 10, 20)),
    ("ratio_memory", "peak memory", (0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 20)),
)
LEAST = 0.25  # what needs less memory than this is drawn at the edge, with its number
AXES = {
    "records": "records in a batch",
    "tokens": "tokens",
    "rank": "LoRA rank",
    "draws": "noise draws K",
    "width": "width",
}

# Colour and mark of every row of results.py
ROWS = {
    "synthetic": ("#0072B2", "o"),
    "synthetic+public": ("#009E73", "^"),
    "public_only": ("#D55E00", "v"),
    "real": ("#555555", "s"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        help="folder of engine*.jsonl (but -quick, of another machine), scaling*.jsonl and"
        " protocol*.jsonl",
    )
    folder = parser.parse_args().results
    plt.rcParams.update(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
        }
    )
    rows = quietest(
        [
            r
            for r in read(folder, "engine")
            if r["dtype"] == "float32" and r["allocator"] != "default"
        ]
    )
    for name, chosen in (
        ("ratios", [r for r in rows if r["K"] == 1]),
        ("draws", [r for r in rows if r["K"] > 1]),
    ):
        if chosen:
            ratios(chosen, folder / f"{name}.png")
    points = read(folder, "scaling")
    if points:
        scaling(points, folder / "scaling.png")
    measured = read(folder, "protocol")
    if measured:
        protocol(measured, folder / "protocol.png")
        # A run that was judged twice has one picture.
        samples(
            list({row["sample"]: row for row in reversed(measured) if row.get("sample")}.values())[
                ::-1
            ],
            folder,
        )


def read(folder: Path, stem: str) -> list[dict[str, Any]]:
    # small rows of another machine do not stand between those of one
    files = [f for f in sorted(folder.glob(f"{stem}*.jsonl")) if not f.stem.endswith("-quick")]
    return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]


def quietest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of a configuration measured more than once, the row whose two non-private sides agree
    best.
    """
    best: dict[tuple, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda r: abs(math.log(r["ratio_same_twice"])), reverse=True):
        best[row["model"], row["trainable"], row["K"]] = row
    return list(best.values())


def caption(rows: list[dict[str, Any]]) -> str:
    """The machine that measured: one sentence, from the first row."""
    row = rows[0]
    where = row["processor"] if row["device"] == "CPU" else row["device"]
    return (
        f"{where}, {row['threads']} thread(s), {row['clock']} time, torch"
        f" {row['versions']['torch']}"
    )


def ratios(rows: list[dict[str, Any]], file: Path) -> None:
    """One line per configuration: a bar for sfumato, a mark for every other method; hollow where it
    is not ranked.
    """
    rows = sorted(rows, key=lambda r: (kind(r["trainable"]), r["model"], r["trainable"], r["K"]))
    figure, panels = plt.subplots(
        1, 2, figsize=(9.5, 1.5 + 0.27 * len(rows)), sharey=True, layout="constrained"
    )
    places = spread(rows)
    for panel, (key, title, ticks) in zip(panels, PANELS):
        panel.axvline(1.0, color="#555555", linewidth=1, zorder=1)
        for row, y in zip(rows, places):
            if key in row["ours"]:
                value = row["ours"][key]
                panel.barh(
                    y, value - 1.0, left=1.0, height=0.6, color=STYLE[OURS][0], alpha=0.85, zorder=2
                )
            for name, peer in row["peers"].items():
                if key in peer and name in STYLE:
                    colour, mark = STYLE[name]
                    face = "none" if "error" in peer else colour
                    x = max(peer[key], LEAST)
                    panel.plot(
                        x, y, mark, color=colour, markerfacecolor=face, markersize=5, zorder=3
                    )
                    if x > peer[key]:
                        panel.annotate(
                            f"{peer[key]:.2f}",
                            (x, y),
                            (5, -2.5),
                            textcoords="offset points",
                            fontsize=6.5,
                        )
            goal = row["bars"]["goal_time" if key == "ratio_time" else "goal_memory"]
            panel.plot([goal, goal], [y - 0.42, y + 0.42], color="black", linewidth=1.2, zorder=4)
        panel.set_xscale("log")
        low, high = panel.get_xlim()
        ticks = [t for t in ticks if low <= t <= high]
        panel.set_xticks(ticks, [f"{t:g}" for t in ticks])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(axis="x", color="#e6e6e6", linewidth=0.7)
        panel.set_title(f"{title}, over the non-private step", fontsize=10)
    several = any(row["K"] > 1 for row in rows)
    labels = [
        f"{r['model']}  {r['trainable']}" + (f"  K={r['K']}" if several else "") for r in rows
    ]
    panels[0].set_yticks(places, labels)
    panels[0].set_ylim(max(places) + 0.8, -0.8)
    legend(figure, rows)
    figure.supxlabel(
        f"{caption(rows)}; black tick: goal; hollow: another mechanism, or wrong", fontsize=7.5
    )
    figure.savefig(file, dpi=100)
    plt.close(figure)


def kind(trainable: str) -> int:
    return 0 if trainable.startswith("lora") else 1 if trainable == "attention" else 2


def spread(rows: list[dict[str, Any]]) -> list[float]:
    """Heights of the lines, with a gap between trainable sets."""
    return [i + 0.7 * kind(row["trainable"]) for i, row in enumerate(rows)]


def legend(figure, rows: list[dict[str, Any]]) -> None:
    names = [OURS, *dict.fromkeys(name for row in rows for name in row["peers"] if name in STYLE)]
    handles = [plt.Rectangle((0, 0), 1, 1, color=STYLE[OURS][0], alpha=0.85)]
    handles += [
        plt.Line2D([], [], color=STYLE[n][0], marker=STYLE[n][1], linestyle="", markersize=5)
        for n in names[1:]
    ]
    figure.legend(
        handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=8
    )


def scaling(points: list[dict[str, Any]], file: Path) -> None:
    """A column per axis: seconds above, peak bytes below, both on logarithmic scales."""
    axes = [axis for axis in AXES if any(p["axis"] == axis for p in points)]
    size = (max(2.5 * len(axes), 5), 4.6)
    figure, grid = plt.subplots(2, len(axes), figsize=size, squeeze=False, layout="constrained")
    for column, axis in enumerate(axes):
        mine = sorted((p for p in points if p["axis"] == axis), key=lambda p: p["value"])
        for panel, key, scale in (
            (grid[0, column], "seconds", 1.0),
            (grid[1, column], "peak_bytes", 1e-6),
        ):
            for name in (BASE, "opacus hooks", OURS):
                found = [
                    (p["value"], p["found"][name]) for p in mine if key in p["found"].get(name, {})
                ]
                values = [f[key] if key == "peak_bytes" else min(f[key]) for _, f in found]
                colour, mark = STYLE[name]
                line = (
                    {"linestyle": "--", "marker": "."}
                    if name == BASE
                    else {"marker": mark, "markersize": 4}
                )
                xs, ys = [x for x, _ in found], [value * scale for value in values]
                panel.plot(xs, ys, color=colour, label=name, linewidth=1.4, **line)
            panel.set_xscale("log", base=2)
            panel.set_yscale("log")
            panel.set_xticks([p["value"] for p in mine], [str(p["value"]) for p in mine])
            low, high = panel.get_ylim()
            middle, half = (low * high) ** 0.5, max((high / low) ** 0.5, 2.2)
            # so that a small difference does not look large
            panel.set_ylim(middle / half, middle * half)
            ticks = [m * 10.0**e for e in range(-4, 7) for m in (1, 2, 5)]
            ticks = [t for t in ticks if middle / half <= t <= middle * half]
            panel.set_yticks(ticks, [f"{t:g}" for t in ticks])
            panel.yaxis.set_minor_locator(NullLocator())
            panel.xaxis.set_minor_locator(NullLocator())
            panel.grid(color="#e6e6e6", linewidth=0.7)
        grid[0, column].set_title(mine[0]["what"].replace(", ", ",\n", 1), fontsize=8)
        grid[1, column].set_xlabel(AXES[axis])
    grid[0, 0].set_ylabel("seconds of a step")
    grid[1, 0].set_ylabel("peak memory, MB")
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False)
    figure.supxlabel(caption(points), fontsize=7.5)
    figure.savefig(file, dpi=100)
    plt.close(figure)


def told(row: dict[str, Any]) -> tuple[str, ...]:
    """What is private, base, method and classifiers (with their steps) of a line of results.py:
    only equal ones share a curve.
    """
    settings = row["settings"]
    judges = ", ".join(f"{name} ({steps})" for name, steps in settings["classifiers"].items())
    return settings["data"], f"base {Path(settings['base']).name}", settings["method_name"], judges


def protocol(rows: list[dict[str, Any]], file: Path) -> None:
    """A panel per data set, base and method: a dot per run, a line through the means of equal rows
    and classifiers, of one copy of the base and one delta, moved or not.
    """
    kinds = list(dict.fromkeys(told(row)[:3] for row in rows))
    judges = list(dict.fromkeys(told(row)[3] for row in rows))
    size = (3.6 * len(kinds), 3.8)
    figure, panels = plt.subplots(1, len(kinds), figsize=size, squeeze=False, layout="constrained")
    for panel, kind in zip(panels[0], kinds):
        own = [row for row in rows if told(row)[:3] == kind]
        for (name, (colour, mark)), judged in product(ROWS.items(), judges):
            same = [row for row in own if told(row)[3] == judged and name in row["mean"]]
            found = [(row["settings"]["epsilon"], row["mean"][name]["all"]) for row in same]
            if found:
                # Filled and drawn through: the first kind of classifiers; hollow and dashed:
                # others.
                look = {
                    "color": colour,
                    "markerfacecolor": colour if judged == judges[0] else "white",
                }
                panel.plot(*zip(*found), mark, markersize=4.5, label=f"{name}: {judged}", **look)
                for alike in {terms(row) for row in same}:
                    panel.plot(
                        *zip(*means_of([row for row in same if terms(row) == alike], name)),
                        color=colour,
                        linewidth=1.2,
                        linestyle="-" if judged == judges[0] else "--",
                    )
        # One scale for all panels of a data set.
        reached = [
            row["mean"][name]["all"]
            for row in rows
            if told(row)[0] == kind[0]
            for name in row["mean"]
        ]
        panel.set_ylim(min(reached) - 0.5, max(reached) + 0.5)
        epsilons = sorted({row["settings"]["epsilon"] for row in own})
        panel.set_xscale("log")
        panel.set_xticks(epsilons, [f"{e:g}" for e in epsilons])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(color="#e6e6e6", linewidth=0.7)
        panel.set_title("{}, {}, {}".format(*kind), fontsize=8.5)
        panel.set_xlabel("epsilon")
    panels[0, 0].set_ylabel("accuracy on the real test set, %")
    drawn = {
        label: handle for p in panels[0] for handle, label in zip(*p.get_legend_handles_labels())
    }
    figure.legend(
        drawn.values(),
        drawn.keys(),
        loc="outside upper center",
        ncols=2,
        frameon=False,
        fontsize=7.5,
    )
    figure.supxlabel(
        "a dot is one adaptation: the mean of its classifiers (with their steps) and their seeds",
        fontsize=7.5,
    )
    figure.savefig(file, dpi=100)
    plt.close(figure)


def terms(row: dict[str, Any]) -> tuple[str, float, int]:
    """What runs over several epsilons have in common: base, delta, and whether pictures moved."""
    settings = row["settings"]
    return settings["base_digest"], settings["delta"], settings.get("class_moments", 0)


def means_of(rows: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """Mean accuracy at each epsilon."""
    found = [(row["settings"]["epsilon"], row["mean"][name]["all"]) for row in rows]
    return [(e, mean(y for x, y in found if x == e)) for e in sorted({x for x, _ in found})]


def samples(rows: list[dict[str, Any]], folder: Path) -> None:
    """samples.png: the first pictures of each class of every run, a column per epsilon, a line per
    kind of run.
    """
    if not rows:
        return
    kinds = list(dict.fromkeys(told(row)[:3] for row in rows))  # however they were judged
    epsilons = sorted({row["settings"]["epsilon"] for row in rows})
    size = (3.2 * len(epsilons), 3.4 * len(kinds))
    figure, grid = plt.subplots(
        len(kinds), len(epsilons), figsize=size, squeeze=False, layout="constrained"
    )
    for line, kind in zip(grid, kinds):
        for panel, epsilon in zip(line, epsilons):
            panel.axis("off")
            # The first of several runs: the choice looks at no figure.
            own = [r for r in rows if told(r)[:3] == kind and r["settings"]["epsilon"] == epsilon]
            if own:
                panel.imshow(plt.imread(folder / own[0]["sample"]), interpolation="nearest")
                panel.set_title("{}, {}, {}".format(*kind) + f", epsilon {epsilon:g}", fontsize=8)
    figure.savefig(folder / "samples.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
