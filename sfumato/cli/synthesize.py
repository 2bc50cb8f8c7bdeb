"""`sfumato synthesize` and `sfumato export`: what may leave the run folder."""

from __future__ import annotations

import math
from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

from typer import Argument, Option

from ..errors import SfumatoError
from ..options import Counted, Machine, Sampling, Signing, gather, listening, parse
from .config import from_config
from .live import LiveLine
from .options import Ledger, Output, options

RunFolder = Annotated[Path, Argument(metavar="RUN", help="Run folder of `sfumato adapt`.")]

KeepKey = Annotated[
    bool,
    Option(
        "--keep-key",
        help=(
            "Do not erase the run's secret key. Whoever has the key can remove the noise from the"
            " adapted weights."
        ),
    ),
]

DROPOUT = "caption_dropout"
UNGUIDED = (
    "--guidance-scale above 1 leads away from the empty prompt, which this run never trained"
    " (`adapt --caption-dropout 0.1` would have): pictures may look like the base's"
)


@from_config("synthesize")
@options(sampling=(Sampling,), more=(Signing, Machine))
def synthesize(
    run: RunFolder,
    output: Output,
    sampling: dict,
    more: dict,
    n: Annotated[
        int | None,
        Option(
            "-n",
            "--number",
            min=1,
            help="How many images (default: as --prompts asks).",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        Option(
            "--prompts",
            metavar="FILE",
            help=(
                "Public prompts, CSV or JSON lines: prompt and, if wanted, label and count. The"
                " certificate says whether the plan had named them (`adapt --prompts`)."
            ),
        ),
    ] = None,
    shard: Annotated[
        str, Option("--shard", metavar="I/N", help="Only every N-th image, from I (0 to N-1).")
    ] = "0/1",
    class_shares: Annotated[
        list[str] | None,
        Option(
            "--class-shares",
            metavar="A=.5,B=.5",
            help=(
                "Class shares that you declare; public, scaled to sum to 1 (default: uniform, or"
                " the paid histogram)."
            ),
        ),
    ] = None,
    form: Annotated[
        Literal["imagefolder", "parquet"], Option("--form", help="Layout of the data set.")
    ] = "imagefolder",
    controls: Annotated[
        bool,
        Option(
            "--controls/--no-controls",
            help="For the report, a few images of the public base beside the first ones; after an"
            " inversion, ten per public control.",
        ),
    ] = True,
    ledger: Ledger = None,
    keep_key: KeepKey = False,
) -> None:
    """Draw labelled synthetic images from an adapted model. No private image is opened.

    \b
    sfumato synthesize run -n 10000 -o release
    sfumato synthesize run -n 100000 -o part-3 --shard 3/8 --form parquet
    sfumato synthesize run -n 5000 -o release --class-shares benign=.8,malignant=.2
    sfumato synthesize run -o release --prompts prompts.csv
    sfumato synthesize run -n 5000 -o release --c2pa-certificate chain.pem --c2pa-key key.pem
    """
    part, shares = parse.shard(shard), None if class_shares is None else shares_of(class_shares)
    drawn = Sampling(**sampling)
    _ = gather({"signing": Signing, "machine": Machine}, more)["signing"].pair  # asked early
    if output.exists():
        raise SfumatoError(f"{output} already exists: name a new folder (nothing is overwritten)")

    from .. import verbs
    from ..runs.folder import Run

    if n is None and prompts is None:
        raise SfumatoError("-n is required without --prompts: how many images")
    done, wanted = 0, None if n is None else len(range(part[0], n, part[1]))
    with LiveLine() as line, listening(line.stage):

        def progress(more: int) -> None:
            nonlocal done
            done += more
            if wanted is None:
                line.stage(f"{done:,} images")
            else:
                line.stage(Counted("images", done, wanted))

        line.stage("opening the model")

        if drawn.guidance_scale > 1 and not Run.open(run, ledger).options["recipe"][DROPOUT]:
            line.stage(f"note: {UNGUIDED}")
        folder = verbs.synthesize(
            run,
            n,
            output,
            prompts=prompts,
            sampling=drawn,
            class_shares=shares,
            form=form,
            shard=part,
            controls=controls,
            ledger=ledger,
            keep_key=keep_key,
            progress=progress,
            **more,
        )
    print(f"{folder}: {done:,} images")
    print(f"next: sfumato release {quote(str(folder))}")
    held = "" if (run / "split.json").exists() else " --test ./held-out"
    places = f"{quote(str(run))} {quote(str(folder))}"
    print(f"or, to judge it first: sfumato evaluate {places}{held}")


@from_config("export")
@options(machine=(Machine,))
def export(
    run: RunFolder,
    output: Output,
    machine: dict,
    samples: Annotated[
        bool,
        Option(
            "--samples/--no-samples",
            help=(
                "Draw a few pictures with the model and with its public base, for report and card"
                " (free; at most about five minutes)."
            ),
        ),
    ] = True,
    ledger: Ledger = None,
    keep_key: KeepKey = False,
) -> None:
    """Write the adapted model itself (pipeline, LoRA or token) as diffusers loads it, and a few
    samples beside those of its public base.

    \b
    sfumato export run -o model-release
    sfumato release model-release
    """
    from .. import verbs

    with LiveLine() as line:
        line.stage("writing the model")
        folder = verbs.export(
            run,
            output,
            ledger=ledger,
            keep_key=keep_key,
            samples=samples,
            progress=line.say,
            **machine,
        )
    print(f"{folder}: {_what(folder)}")
    print(f"next: sfumato release {quote(str(output))}")


def _what(made: Path) -> str:
    """What was exported, as its user will call it."""
    names = {path.name for path in made.iterdir()}
    if (made / "model" / "model_index.json").exists():
        return "the adapted model, a whole pipeline"
    if names & {"pytorch_lora_weights.safetensors", "loda_weights.safetensors"}:
        return "the adapters" + ", and tokens beside them" * any(
            name.startswith("learned_embeds") for name in names
        )
    return "the token"


def shares_of(words: list[str]) -> dict[str, float]:
    """The text a=.5,b=.5 as class shares: finite, not negative, not all zero."""
    found = {}
    for name, text in parse.pairs(
        "--class-shares", [part for word in words for part in word.split(",")]
    ).items():
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = math.nan
        if not (math.isfinite(found[name]) and found[name] >= 0):
            raise SfumatoError(
                f"--class-shares {name}={text}: a share must be a number of at least 0"
            )
    if sum(found.values()) <= 0:
        raise SfumatoError("--class-shares are all 0: give at least one class a share above 0")
    return found
