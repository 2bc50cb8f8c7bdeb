"""`sfumato adapt`: the private training run, with its progress line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from ..errors import SfumatoError
from ..methods import METHODS
from ..options import Execution, Machine, Reading, Start
from ..planning.task import GROUPS, require_base
from .config import from_config, in_use
from .live import LiveLine, asking
from .options import (
    AllowFileSystem,
    Images,
    Ledger,
    Output,
    options,
)

if TYPE_CHECKING:
    from ..privacy.plan import Plan

OF_A_PLAN = (
    Start,
    *(kind for kind in GROUPS.values() if kind not in (Reading, Execution, Machine)),
    *METHODS.values(),
)


@from_config("adapt", but={"asked": "resume", "machine": "resume"})
@options(reading=(Reading,), asked=OF_A_PLAN, execution=(Execution,), machine=(Machine,))
def adapt(
    images: Images,
    output: Output,
    reading: dict,
    asked: dict,
    execution: dict,
    machine: dict,
    ledger: Ledger = None,
    allow_file_system: AllowFileSystem = False,
    resume: Annotated[
        bool,
        Option("--resume", help="Continue the run in -o: the same random draws, at no extra cost."),
    ] = False,
    new_attempt: Annotated[
        bool,
        Option(
            "--new-attempt", help="With --resume: fresh random draws, paid from --retry-reserve."
        ),
    ] = False,
    finish_here: Annotated[
        bool,
        Option(
            "--finish-here",
            help="With --resume: end at the last checkpoint, its model is the answer.",
        ),
    ] = False,
) -> None:
    """Adapt a public base to private images. Everything private stays in the run folder.

    \b
    sfumato adapt ./scans --epsilon 4 --base ./base --yes-public -o run
    sfumato adapt ./scans --epsilon 4 --classes benign,malignant --base ./base --method lora -o run
    sfumato adapt ./scans --epsilon 4 --base ./base --method saliency --keep 0.3 -o run
    sfumato adapt ./scans --epsilon 4 --match --bases glyphs,letters -o run
    sfumato adapt ./scans --epsilon 4 --base ./base --method loda --activation silu -o run
    sfumato adapt ./scans --epsilon 4 --base ./base --captions report --prompts prompts.csv -o run
    sfumato adapt ./artwork --epsilon 1 --base icons --method inversion -o run
    sfumato adapt ./scans --epsilon 1 --base ./base --method evolution --yes-public -o run
    sfumato adapt ./scans -o run --resume
    sfumato adapt ./scans -o run --resume --finish-here
    torchrun --nproc-per-node 2 -m sfumato adapt ./scans --epsilon 4 --base ./base -o run
    """
    # Before the seconds that loading takes: a typing mistake should not cost them.
    if output.exists() and not resume:
        raise SfumatoError(
            f"{output} already exists: name a new run folder, or continue that run with --resume"
        )
    if asked.get("epsilon") is None and not resume:
        raise SfumatoError("--epsilon is required: 1 is strong privacy, 10 is weak")
    if finish_here and not resume:
        raise SfumatoError(
            "--finish-here requires --resume: it ends a run that has begun at its last checkpoint"
        )
    if finish_here and new_attempt:
        raise SfumatoError("--new-attempt trains on and --finish-here does not: give one of them")
    if finish_here and asked:  # else a run that was to end would train on
        flag = next(iter(asked)).replace("_", "-")
        raise SfumatoError(
            f"--{flag} does not go with --resume: the run keeps its own plan and options"
        )
    if not resume and not asked.get("match"):
        require_base(asked.get("base"))

    from .. import verbs
    from ..compute import ranks

    ranks.start()  # before a word is printed: it says which process may
    with LiveLine(quiet=ranks.rank() != 0) as line:
        told = {"progress": line.step, "on_stage": line.stage}
        place = {"ledger": ledger, "allow_file_system": allow_file_system}
        if finish_here:
            run = verbs.resume(
                images, output, finish_here=True, **place, **told, **reading, **execution, **machine
            )
        else:
            run = verbs.adapt(
                images,
                output=output,
                resume=resume,
                new_attempt=new_attempt,
                confirm=asking(line),
                **place,
                **told,
                **reading,
                **asked,
                **execution,
                **machine,
            )
    if (shard := execution.get("shard")) is not None:
        print(
            f"{run.folder}: shard {shard[0]}/{shard[1]} is done. When all shards are, run:"
            f" sfumato adapt {quote(str(images))} -o {quote(str(run.folder))} --resume"
        )
    elif ranks.rank() == 0:
        print(
            f"{run.folder}: finished at epsilon {run.plan.epsilon:.3f}, delta {run.plan.delta:.3g}."
            " This folder is PRIVATE: keep it on this machine."
        )
        for line in next_commands(run.plan, run.folder, *in_use()):
            print(line)


def next_commands(
    plan: Plan, folder: Path, project: Mapping[str, Any] | None = None, config: str = ""
) -> list[str]:
    """What to do with a finished run, a line each: first what its method is for.

    `project`, `config`: what a config says of it, and the flag that names the file; its words are
    not said again.
    """
    from ..bases import LORA_FILE

    kind, said = METHODS[plan.method], project or {}
    named = Path(said["run"]).resolve() == Path(folder).resolve() if "run" in said else False
    place = config if named else f" {quote(str(folder))}"
    said = said if named else {}  # the places of a config are those of its own run
    tuned = kind.hands_over == "pictures" and (Path(folder) / "model" / LORA_FILE).is_file()
    product = "LoRA" if tuned else kind.hands_over
    model = "" if "model" in said else f" -o {product.lower()}"
    export = f"sfumato export{place}{model}"
    # as many pictures as there were units, within reason; of a token some to look at
    count = 100 if kind.learns_tokens else max(100, min(10_000, int(float(f"{plan.n_units:.1g}"))))
    if plan.voting is not None:
        count = plan.voting.candidates  # as they are; further ones are variations of them
    number = "" if "number" in said else f" -n {count}"
    release = "" if "release" in said else " -o release"
    synthesize = f"sfumato synthesize{place}{number}{release}"
    if product == "pictures":
        lines = [f"next: {synthesize}"]
    elif kind.learns_tokens:
        lines = [f"next: {export}", f"and, for pictures with it: {synthesize}"]
    else:
        lines = [f"next: {synthesize}", f"or, for the {product} itself: {export}"]
    audit = f"optional, before that: sfumato audit{place} (certificates state the result)"
    return [*lines, audit]
