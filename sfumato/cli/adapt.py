"""`sfumato adapt`: the private training run, with its live line."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from ..errors import SfumatoError
from . import inverting
from . import options as shared
from . import preparing as training
from .live import LiveLine
from .options import PRIVACY, AllowFileSystem, Images, Ledger, Output, options


@options(reading=shared.reading, preparing=training.preparing, tokens=inverting.tokens)
def adapt(
    images: Images,
    output: Output,
    reading: dict,
    preparing: dict,
    tokens: dict,
    epsilon: Annotated[
        float | None,
        Option("--epsilon", rich_help_panel=PRIVACY, help="The promise: 1 is strong, 10 is weak."),
    ] = None,
    ledger: Ledger = None,
    allow_file_system: AllowFileSystem = False,
    resume: Annotated[
        bool, Option("--resume", help="Continue the run in -o as a free replay of the same draws.")
    ] = False,
    new_attempt: Annotated[
        bool,
        Option(
            "--new-attempt",
            help="With --resume: fresh draws, paid from the plan's --retry-reserve.",
        ),
    ] = False,
    shard: Annotated[
        str | None,
        Option(
            "--shard",
            metavar="I/N",
            help="Inversion: only every N-th chunk, from I; a last --resume adds up.",
        ),
    ] = None,
    keep_inversions: Annotated[
        bool,
        Option(
            "--keep-inversions",
            help="Leave the private embeddings of single images in the run folder.",
        ),
    ] = False,
    controls: Annotated[
        bool,
        Option(
            "--controls",
            help=(
                "Inversion: leave the exact mean and one image's token in the run folder. PRIVATE."
            ),
        ),
    ] = False,
) -> None:
    """Adapt a public base to private images; everything private stays in the run folder.

    \b
    sfumato adapt ./scans --epsilon 4 -o run
    sfumato adapt ./scans --epsilon 4 --method lora --rank 4 --base ./stable-diffusion -o run
    sfumato adapt ./scans --epsilon 4 --method saliency --keep 0.3 -o run
    sfumato adapt ./scans --epsilon 4 --method loda --target-modules convolutions -o run
    sfumato adapt ./artwork --epsilon 1 --method inversion -o run
    sfumato adapt ./scans -o run --resume
    torchrun --nproc-per-node 2 -m sfumato adapt ./scans --epsilon 4 -o run
    """
    if new_attempt and not resume:
        raise SfumatoError(
            "--new-attempt goes with --resume: it continues a run with fresh, paid draws"
        )
    said = [*(["epsilon"] if epsilon is not None else []), *preparing, *tokens]
    if resume and said:
        flag = "--" + said[0].replace("_", "-")
        raise SfumatoError(
            f"{flag} does not go with --resume: the run keeps its own plan and options"
        )
    if epsilon is None and not resume:
        raise SfumatoError("--epsilon is required: it is the promise; 1 is strong, 10 is weak")
    # Before the seconds that loading takes: a typing mistake should not cost them.
    if output.exists() and not resume:
        raise SfumatoError(f"{output} exists: name a new run folder, or continue it with --resume")

    from .. import verbs
    from ..compute import fingerprint, ranks
    from .synthesize import shard_of

    ranks.start(fingerprint.numerics)  # before a word is printed: it says which process may
    with LiveLine(quiet=ranks.rank() != 0) as line:
        run = verbs.adapt(
            images,
            output=output,
            epsilon=epsilon,
            resume=resume,
            new_attempt=new_attempt,
            ledger=ledger,
            allow_file_system=allow_file_system,
            shard=None if shard is None else shard_of(shard),
            keep_inversions=keep_inversions,
            controls=controls,
            progress=line.step,
            on_stage=line.stage,
            **reading,
            **({} if resume else inverting.with_tokens(training.arguments(preparing), tokens)),
        )
    if shard is not None:
        print(
            f"{run.folder}: shard {shard} is inverted. When all are: sfumato adapt {images} -o"
            f" {run.folder} --resume"
        )
    elif ranks.rank() == 0:
        print(
            f"{run.folder}: epsilon {run.plan.epsilon:.3f}, delta {run.plan.delta:.3g}. The folder"
            " is PRIVATE."
        )
        print(f"next: sfumato synthesize {run.folder} -n 10000 -o release")
        print(f"before it, where the certificate is to state an audit: sfumato audit {run.folder}")
