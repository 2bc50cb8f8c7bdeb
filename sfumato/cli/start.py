"""`sfumato start`: six questions to the owner of a folder, and the config that remembers them."""

from __future__ import annotations

import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from ..errors import SfumatoError
from ..options import Reading
from .config import FILE
from .listings import table_of_bases
from .options import METHOD, PRIVACY, Images, options

if TYPE_CHECKING:
    from ..records import Summary
    from ..verbs.questions import Question
    from ..verbs.start import Started


@options(reading=(Reading,))
def start(
    images: Images,
    reading: dict,
    what: Annotated[
        str | None,
        Option("--what", metavar="classes|style", help="Labelled classes, or one style."),
    ] = None,
    base: Annotated[
        str | None,
        Option(
            "--base",
            "--pretrained-model-name-or-path",
            metavar="NAME|FOLDER",
            rich_help_panel=METHOD,
            help="Bundled base (see `sfumato bases`) or the folder of a diffusers pipeline.",
        ),
    ] = None,
    epsilon: Annotated[
        float | None,
        Option(
            "--epsilon", rich_help_panel=PRIVACY, help="Privacy budget: 1 is strong, 10 is weak."
        ),
    ] = None,
    time: Annotated[
        str | None,
        Option("--time", metavar="TIME", help="How long training may take: 20min, 1h."),
    ] = None,
    number: Annotated[
        int | None, Option("-n", "--number", help="How many images to draw at the end.")
    ] = None,
    results: Annotated[
        str | None,
        Option("--results", metavar="FOLDER", help="Where run, release and model are made."),
    ] = None,
    test: Annotated[
        Path | None, Option("--test", help="Held-out real images, if there are any.")
    ] = None,
    config: Annotated[Path, Option("--config", metavar="FILE", help="The file to write.")] = Path(
        FILE
    ),
    yes: Annotated[
        bool, Option("--yes", help="Ask nothing: take the defaults for what no flag answers.")
    ] = False,
    force: Annotated[bool, Option("--force", help="Replace a config that is there.")] = False,
) -> None:
    """Six questions about a folder of private images. The answers go into ./sfumato.toml, which the
    other verbs read. Charges nothing and publishes nothing.

    \b
    sfumato start ./scans
    sfumato start ./scans --yes --base icons --epsilon 4 --unit patient_id
    sfumato start ./drawings --yes --what style --base ./stable-diffusion
    """
    person = None if yes else Terminal()
    if person is not None and not person.there:
        asked = {"--what": what, "--unit": reading.get("unit"), "--base": base}
        asked |= {"--number": number} if what == "style" else {"--time": time}
        asked |= {"--epsilon": epsilon, "--results": results}
        missing = [flag for flag, value in asked.items() if value is None]
        if missing:
            from ..records.diagnosis import as_flags

            said = as_flags(Reading(**reading))
            raise SfumatoError(
                f"`start` asks a person, and this is no terminal: answer {', '.join(missing)} as"
                f" flags, or take the defaults: sfumato start {quote(str(images))}"
                f"{said and ' ' + said} --yes --base {quote(base or 'icons')}"
                f" --epsilon {epsilon or 4:g}"
            )
    from ..verbs.start import start as begin

    made = begin(
        images,
        what=what,
        base=base,
        epsilon=epsilon,
        time=time,
        number=number,
        results=results,
        test=test,
        config=config,
        force=force,
        person=person or Reader(),
        **reading,
    )
    for line in closing(made):
        print(line)


class Reader:
    """Shows what was found, and takes the defaults."""

    asked = False

    def see(self, found: Summary) -> None:
        """Prints it."""
        for line in found.lines():
            if not line.startswith("next: "):  # that is said at the end
                print(line)
        print("These figures are exact and no epsilon covers them: keep them on this machine.")

    def answer(self, question: Question) -> Any:
        """The default, said aloud."""
        from ..verbs.start import Nobody

        found = Nobody().answer(question)
        print(f"{question.flag[2:]} {question.default} ({question.text})")
        return found


class Terminal(Reader):
    """Asks whoever sits there."""

    asked = True

    def __init__(self) -> None:
        self.there = sys.stdin.isatty() and sys.stderr.isatty()

    def answer(self, question: Question) -> Any:
        """Asks until the answer is one."""
        print(f"\n{question.text}", file=sys.stderr)
        if question.flag == "--base":
            print("\n".join(table_of_bases()), file=sys.stderr)
        for line in question.lines:
            print(f"  {line}", file=sys.stderr)
        default = "" if question.default is None else f" [{question.default}]"
        while True:
            print(f"{question.flag[2:]}{default}: ", end="", file=sys.stderr, flush=True)
            typed = sys.stdin.readline()
            if not typed:
                raise SfumatoError("the answers ended before the last question: nothing is written")
            text = typed.strip() or question.default
            if text is None:
                print("  this one has no default: an answer is needed", file=sys.stderr)
                continue
            try:
                return question.accept(text)
            except SfumatoError as error:
                print(f"  {error}", file=sys.stderr)


def closing(made: Started) -> list[str]:
    """What was written, what will be public, and what to do next."""
    config, found = made.config, made.found
    reading, project = config.table("reading"), config.table("project")
    token = reading.get("unlabelled", False)
    asks = not token and "classes" not in reading and reading.get("yes_public") is None
    words = reading.get("classes", tuple(found.class_counts))
    classes = "no class names" if token else "the class names " + ", ".join(words)
    more = "" if str(config.path) == FILE else f" --config {quote(str(config.path))}"
    mend = f"mend that (sfumato inspect {quote(found.source)} shows where), then "
    last = (
        f"sfumato export{more}, sfumato release {quote(str(project['model']))}"
        if token
        else f"sfumato synthesize{more}, sfumato release{more}"
    )
    seen = f"{made.sheet}: what the model will see, by class; it is PRIVATE"
    return [
        *([seen] if made.sheet else []),
        f"{config.path}: written; it is PRIVATE, and the verbs read it",
        f"a release will publish the number of units ({found.n_units:,}), the unit"
        f" ({reading.get('unit', 'record')}), {classes}, the base, prompts and settings; `plan`"
        " lists all of it, word for word" + ", and `adapt` asks for a yes before the charge" * asks,
        *(f"`plan` and `adapt` would stop: {why}" for why in found.stops),
        f"nothing is charged yet; next: {mend * bool(found.stops)}sfumato plan{more}",
        f"then: sfumato adapt{more}, {last}",
    ]
