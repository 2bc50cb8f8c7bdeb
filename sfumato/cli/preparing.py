"""Options of `plan` and `adapt` about the mechanism, the method and the training."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Annotated, Literal

from typer import Option

from ..errors import SfumatoError
from .options import PRIVACY, pairs

METHOD, PROBE, TRAINING = "Method", "Probe of --method saliency", "Training"
SPEED = "Time and memory (no effect on privacy)"


def preparing(
    *,
    delta: Annotated[
        float | None,
        Option(
            "--delta", rich_help_panel=PRIVACY, help="Default: the smaller of 1e-5 and n ** -1.5."
        ),
    ] = None,
    relation: Annotated[
        Literal["zero-out", "replace-one"] | None,
        Option(
            "--relation",
            rich_help_panel=PRIVACY,
            help="What neighbouring data sets are (default zero-out).",
        ),
    ] = None,
    histogram: Annotated[
        float | None,
        Option(
            "--histogram",
            metavar="SIGMA",
            rich_help_panel=PRIVACY,
            help="Pay for class shares: noise multiplier of a histogram.",
        ),
    ] = None,
    max_per_unit: Annotated[
        int | None,
        Option(
            "--max-per-unit",
            min=1,
            rich_help_panel=PRIVACY,
            help="Public bound on images a unit counts with.",
        ),
    ] = None,
    retry_reserve: Annotated[
        float | None,
        Option(
            "--retry-reserve",
            metavar="SHARE",
            rich_help_panel=PRIVACY,
            help="Steps paid on top, for --new-attempt.",
        ),
    ] = None,
    allow_large_delta: Annotated[
        bool,
        Option(
            "--allow-large-delta",
            rich_help_panel=PRIVACY,
            help="Accept delta >= 1/n; recorded in the release.",
        ),
    ] = False,
    allow_caption_prompts: Annotated[
        bool,
        Option(
            "--allow-caption-prompts",
            rich_help_panel=PRIVACY,
            help="Accept prompts that are, or hold, private captions; recorded.",
        ),
    ] = False,
    allow_doubtful_units: Annotated[
        bool,
        Option(
            "--allow-doubtful-units",
            rich_help_panel=PRIVACY,
            help=(
                "Values of --unit that may be spellings of one another are different units;"
                " recorded."
            ),
        ),
    ] = False,
    clip_norm: Annotated[
        float | None,
        Option("--clip-norm", rich_help_panel=PRIVACY, help="Clip of one unit (default 0.05)."),
    ] = None,
    clipping: Annotated[
        Literal["flat", "normalised", "per-group", "per-group-normalised"] | None,
        Option("--clipping", rich_help_panel=PRIVACY, help="Rule (default flat)."),
    ] = None,
    expected_batch_size: Annotated[
        int | None,
        Option(
            "--expected-batch-size",
            min=1,
            rich_help_panel=PRIVACY,
            help="Poisson mean of units per step.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        Option(
            "--steps", "--max-train-steps", min=1, rich_help_panel=PRIVACY, help="Noised steps."
        ),
    ] = None,
    noise_draws: Annotated[
        int | None,
        Option(
            "--noise-draws",
            min=1,
            rich_help_panel=PRIVACY,
            help="K diffusion draws per unit before its clip.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        Option(
            "--method", rich_help_panel=METHOD, help="See `sfumato methods` (default attention)."
        ),
    ] = None,
    base: Annotated[
        str | None,
        Option(
            "--base",
            "--pretrained-model-name-or-path",
            metavar="NAME|FOLDER",
            rich_help_panel=METHOD,
            help=(
                "Bundled base (see `sfumato bases`; default glyphs) or a StableDiffusionPipeline"
                " folder."
            ),
        ),
    ] = None,
    blocks: Annotated[
        str | None,
        Option(
            "--blocks",
            metavar="9-",
            rich_help_panel=METHOD,
            help="attention: range of attention blocks, from 1.",
        ),
    ] = None,
    rank: Annotated[
        int | None,
        Option(
            "--rank",
            min=1,
            rich_help_panel=METHOD,
            help="Of adapters (default: lora 8, saliency and loda 4).",
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        Option("--alpha", rich_help_panel=METHOD, help="Of adapters: alpha (default: the rank)."),
    ] = None,
    target_modules: Annotated[
        str | None,
        Option(
            "--target-modules",
            metavar="A,B,..",
            rich_help_panel=METHOD,
            help=(
                "Ends of module names, or attention, feed-forward, convolutions: what lora and loda"
                " adapt (default "
                "to_q,to_k,to_v,to_out.0; conv1,conv2), what saliency chooses from."
            ),
        ),
    ] = None,
    freeze_a: Annotated[
        bool,
        Option(
            "--freeze-a",
            rich_help_panel=METHOD,
            help="Adapters: train only the half that starts at zero.",
        ),
    ] = False,
    adapter_init: Annotated[
        Literal["gaussian", "orthonormal", "public"] | None,
        Option(
            "--adapter-init",
            rich_help_panel=METHOD,
            help="How the other half starts; public: --public-data.",
        ),
    ] = None,
    activation: Annotated[
        Literal["identity", "silu", "tanh", "gelu"] | None,
        Option(
            "--activation",
            rich_help_panel=METHOD,
            help="loda: between its halves (default identity: mergeable).",
        ),
    ] = None,
    keep: Annotated[
        str | None,
        Option(
            "--keep",
            metavar="0.3|38",
            rich_help_panel=METHOD,
            help="saliency: ratio or count that trains (0.3).",
        ),
    ] = None,
    choose: Annotated[
        Literal["private", "public", "random"] | None,
        Option(
            "--choose",
            rich_help_panel=METHOD,
            help="saliency: by a paid probe (default), --public-data, or chance.",
        ),
    ] = None,
    public_data: Annotated[
        str | None,
        Option(
            "--public-data",
            metavar="IMAGES",
            rich_help_panel=METHOD,
            help="Images that need no protection.",
        ),
    ] = None,
    granularity: Annotated[
        Literal["matrix", "layer", "block"] | None,
        Option(
            "--granularity",
            rich_help_panel=METHOD,
            help="saliency: what is chosen as one (default matrix).",
        ),
    ] = None,
    score: Annotated[
        Literal["votes", "squares"] | None,
        Option(
            "--score", rich_help_panel=PROBE, help="What a unit says (default votes for its best)."
        ),
    ] = None,
    votes: Annotated[
        int | None,
        Option(
            "--votes",
            min=1,
            rich_help_panel=PROBE,
            help="Votes of a unit (default: as many as train).",
        ),
    ] = None,
    probe_clip: Annotated[
        float | None,
        Option(
            "--probe-clip",
            rich_help_panel=PROBE,
            help="squares: clip to this norm (default: scale to norm 1).",
        ),
    ] = None,
    per_size: Annotated[
        bool,
        Option(
            "--per-size", rich_help_panel=PROBE, help="Divide norms by the root of a matrix's size."
        ),
    ] = False,
    probe_units: Annotated[
        int | None,
        Option(
            "--probe-units",
            min=1,
            rich_help_panel=PROBE,
            help="Poisson mean of units asked (default 4096, or all).",
        ),
    ] = None,
    probe_draws: Annotated[
        int | None,
        Option(
            "--probe-draws",
            min=1,
            rich_help_panel=PROBE,
            help="Draws averaged per unit (default 4).",
        ),
    ] = None,
    probe_share: Annotated[
        float | None,
        Option(
            "--probe-share",
            rich_help_panel=PROBE,
            help="Rise of training's sigma that it may cost (default 0.02).",
        ),
    ] = None,
    probe_noise: Annotated[
        float | None,
        Option(
            "--probe-noise", metavar="SIGMA", rich_help_panel=PROBE, help="Or its noise multiplier."
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        Option(
            "--prompt",
            metavar="TEXT|CLASS=TEXT",
            rich_help_panel=METHOD,
            help="Template with {class}, or one per class, repeated.",
        ),
    ] = None,
    init: Annotated[
        list[str] | None,
        Option(
            "--init",
            metavar="CLASS=TEXT",
            rich_help_panel=METHOD,
            help="Public look-alike a class's own token starts from; repeat.",
        ),
    ] = None,
    embedder: Annotated[
        bool | None,
        Option(
            "--embedder/--no-embedder",
            rich_help_panel=METHOD,
            help="A trainable token per class (default: for unknown words).",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, Option("--learning-rate", rich_help_panel=TRAINING, help="Of Adam.")
    ] = None,
    lr_warmup_steps: Annotated[
        int | None,
        Option("--lr-warmup-steps", min=0, rich_help_panel=TRAINING, help="Linear rise."),
    ] = None,
    ema_decay: Annotated[
        float | None,
        Option("--ema-decay", rich_help_panel=TRAINING, help="Average of the weights, per step."),
    ] = None,
    caption_dropout: Annotated[
        float | None,
        Option(
            "--caption-dropout",
            min=0,
            max=1,
            rich_help_panel=TRAINING,
            help="Share of empty prompts, for guidance above 1.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        Option(
            "--seed",
            rich_help_panel=TRAINING,
            help="Public: how adapters start. It never reaches the noise.",
        ),
    ] = None,
    micro_batch_size: Annotated[
        int | None,
        Option(
            "--micro-batch-size",
            min=1,
            rich_help_panel=SPEED,
            help="Units in one pass (default: what fits).",
        ),
    ] = None,
    memory_budget: Annotated[
        str | None,
        Option(
            "--memory-budget",
            rich_help_panel=SPEED,
            help=(
                "Memory for one pass, beside weights and optimiser: 800MB, 4GB (default 1GB). It"
                " decides the micro-batch."
            ),
        ),
    ] = None,
    mixed_precision: Annotated[
        Literal["no", "bf16"] | None,
        Option("--mixed-precision", rich_help_panel=SPEED, help="Default bf16."),
    ] = None,
    threads: Annotated[
        int | None, Option("--threads", min=1, rich_help_panel=SPEED, help="CPU threads.")
    ] = None,
    checkpointing_steps: Annotated[
        int | None,
        Option(
            "--checkpointing-steps", min=1, rich_help_panel=SPEED, help="Steps between checkpoints."
        ),
    ] = None,
    engine: Annotated[
        Literal["one-pass", "reference"] | None,
        Option(
            "--engine",
            rich_help_panel=SPEED,
            help="How gradients per unit are found (default one-pass).",
        ),
    ] = None,
) -> dict:
    """What was said about the plan, the method and the training, by option name."""
    given = dict(locals())
    # A flag that was not raised is as good as not given; --no-embedder says something.
    return {k: v for k, v in given.items() if v is not None and (v is not False or k == "embedder")}


SAME = (
    "delta",
    "relation",
    "histogram",
    "max_per_unit",
    "allow_large_delta",
    "allow_caption_prompts",
    "allow_doubtful_units",
    "clip_norm",
    "clipping",
    "expected_batch_size",
    "steps",
    "noise_draws",
    "method",
    "base",
    "embedder",
    "seed",
    "public_data",
)
METHOD_OPTIONS = (
    "blocks",
    "rank",
    "alpha",
    "target_modules",
    "freeze_a",
    "adapter_init",
    "activation",
    "keep",
    "choose",
    "granularity",
    "score",
    "votes",
    "probe_clip",
    "per_size",
    "probe_units",
    "probe_draws",
    "probe_share",
    "probe_noise",
)
RECIPE = {
    "learning_rate": "learning_rate",
    "lr_warmup_steps": "warmup_steps",
    "ema_decay": "ema_decay",
    "caption_dropout": "caption_dropout",
}
PERFORMANCE = {
    "micro_batch_size": "micro_batch",
    "memory_budget": "memory_budget",
    "mixed_precision": "precision",
    "threads": "threads",
    "checkpointing_steps": "checkpoint_steps",
    "engine": "engine",
}


def arguments(given: dict) -> dict:
    """Turn `preparing`'s options into arguments of `sfumato.planning.prepare.prepare`; SfumatoError
    where they do not fit together.
    """
    from ..methods import METHODS
    from ..training import Performance, Recipe

    said = {name: given[name] for name in SAME if name in given}
    chosen = {name: given[name] for name in METHOD_OPTIONS if name in given}
    if "target_modules" in chosen:
        chosen["target_modules"] = [name.strip() for name in chosen["target_modules"].split(",")]
    if "keep" in chosen:
        chosen["keep"] = ratio_or_count(chosen["keep"])
    method = given.get("method", "attention")
    if method in METHODS:
        known = [
            name for name in METHOD_OPTIONS if name in inspect.signature(METHODS[method]).parameters
        ]
        for name in chosen:
            if name not in known:
                taken = ", ".join(_flag(k) for k in known) or "none"
                raise SfumatoError(
                    f"{_flag(name)} does not go with --method {method}, whose own options are:"
                    f" {taken}"
                )
    if "prompt" in given:
        said["prompt"] = prompts(given["prompt"])
    if "init" in given:
        said["init"] = pairs("--init", given["init"])
    if "retry_reserve" in given:
        said["retry_fraction"] = given["retry_reserve"]
    recipe = {field: given[name] for name, field in RECIPE.items() if name in given}
    performance = {field: given[name] for name, field in PERFORMANCE.items() if name in given}
    if "precision" in performance:
        performance["precision"] = {"no": "float32", "bf16": "bfloat16"}[performance["precision"]]
    if "memory_budget" in performance:
        performance["memory_budget"] = size(performance["memory_budget"])
    return said | {
        "method_options": chosen,
        "recipe": Recipe(**recipe),
        "performance": Performance(**performance),
    }


def prompts(words: Sequence[str]) -> str | dict[str, str]:
    """One template with {class}, or a text per class."""
    if len(words) == 1 and ("=" not in words[0] or "{class}" in words[0].partition("=")[0]):
        if "{class}" not in words[0]:
            raise SfumatoError(
                f"--prompt {words[0]!r}: put {{class}} where the class goes, or write CLASS=TEXT"
                " for each"
            )
        return words[0]
    return pairs("--prompt", words)


def ratio_or_count(word: str) -> float | int:
    """0.3, 1.0 or 30% as a ratio, 38 as a count."""
    try:
        if word.endswith("%"):
            return float(word[:-1]) / 100
        return int(word) if word.isdigit() else float(word)
    except ValueError as error:
        raise SfumatoError(
            f"--keep {word}: write a ratio such as 0.3, or a count such as 38"
        ) from error


def size(words: str) -> int:
    """Bytes of "800MB", "4 GB", "1.5GiB" (1 GB is taken as 2^30 bytes); SfumatoError for anything
    else.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([MG])i?B?", words.strip(), re.IGNORECASE)
    count = float(found[1]) * 2 ** (20 if found[2] in "mM" else 30) if found else 0
    if count < 2**20:
        raise SfumatoError(f"--memory-budget {words!r}: give a size such as 800MB or 4GB")
    return int(count)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
