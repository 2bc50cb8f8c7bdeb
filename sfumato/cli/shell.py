"""What surrounds every verb: silence of foreign libraries, and errors as one line each."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches

from ..errors import MachineError, SfumatoError

INTERNAL_ERROR, INTERRUPTED_ELSEWHERE, BROKEN_PIPE = 70, 130, 141
INTERRUPTED = "interrupted from the keyboard"

QUIET = {
    "HF_HUB_OFFLINE": "1",  # nothing is fetched at run time
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}

# How often an idle thread of libgomp polls before it sleeps. Its own 300,000 keep a processor for
# milliseconds, from the very thread that it waits for where other processes want one too.
SPIN = ("GOMP_SPINCOUNT", "3000")
SPINNING = {SPIN[0], "OMP_WAIT_POLICY"}  # a user's own word on it

ONLINE = "push"  # the only verb that talks to a network

GPU = "say where with --device: auto (a GPU where there is one), cpu, cuda or cuda:N"
# Familiar flags that are not options here, and why. Two of them would mean something else under the
# same name.
EXPLAINED = {
    "--max-grad-norm": (
        "elsewhere it clips the gradient of a whole batch; here each unit is clipped by itself: use"
        " --clip-norm"
    ),
    "--train-batch-size": (
        "elsewhere it counts images per device: use --expected-batch-size (the global Poisson mean)"
        " and --micro-batch-size (units in one forward pass)"
    ),
    "--resolution": (
        "images are resized to the base's size: choose another --base, or other sizes with"
        " --buckets WIDTHxHEIGHT,.."
    ),
    "--gradient-accumulation-steps": (
        "--micro-batch-size splits a logical step and changes no result: use that"
    ),
    "--num-train-epochs": "Poisson sampling has steps and no epochs: use --steps",
    "--train-data-dir": "name the images first: sfumato adapt PATH",
    "--dataset-name": "name the images first, as a local folder or file: sfumato adapt PATH",
    "--resume-from-checkpoint": "the newest complete checkpoint is used: give --resume",
    "--random-flip": "there is no augmentation: leave it out",
    "--report-to": "training figures are private and stay in the run folder: leave it out",
    "--push-to-hub": (
        "nothing is sent on the way: finish with `sfumato release`, then `sfumato push RELEASE"
        " --to ORG/NAME`"
    ),
    "--noise-multiplier": "the noise is computed from --epsilon and --delta: give these",
    "--lr": "use --learning-rate",
    "--dry-run": "use `sfumato plan`, which spends nothing",
    "--batch-size": "use --expected-batch-size (the global Poisson mean)",
    "--gpu": GPU,
    "--cuda": GPU,
    "--device": "this verb computes nothing: leave it out",
    "--fp16": "use --mixed-precision bf16, which needs no loss scaling",
    "--caption-extension": "name the column: --captions txt, or that of a table",
    "--num-images": "use -n",
    "--output": "this verb makes no folder: leave it out",
    "--ledger": "this verb asks no ledger: leave it out",
    "--epochs": "Poisson sampling has steps and no epochs: use --steps",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; docs/cli.md lists them."""
    if argv is None:
        argv = sys.argv[1:]
    debug, words = _normalise(argv)
    _silence(debug, online=words[:1] == [ONLINE])
    _share_processors()
    try:  # the imports take a second or more
        from typer import Exit, TyperException

        from .app import command
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, INTERRUPTED_ELSEWHERE, debug)
    try:
        code = command()(args=words, prog_name="sfumato", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except Exit as stop:
        return stop.exit_code
    except SfumatoError as error:
        return _fail(str(error), error.exit_code, debug)
    except TyperException as error:
        return _fail(_usage(error, words), 2, False)
    except BrokenPipeError:
        # The reader went away (`sfumato ... | head`); the interpreter must not try to flush into it
        # again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        return _fail(_refused(error), MachineError.exit_code, debug)
    except MemoryError:
        return _fail(
            "out of memory: close other programs, or give a smaller --memory-budget",
            MachineError.exit_code,
            debug,
        )
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, INTERRUPTED_ELSEWHERE, debug)
    except Exception as error:
        # An exception's text can quote pixels or captions, so only its kind is shown.
        advice = "" if debug else "; --debug shows where (its traceback may contain private data)"
        return _fail(
            f"internal error of type {type(error).__name__}{advice}", INTERNAL_ERROR, debug
        )


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        import traceback

        print("sfumato: this traceback may contain private data: do not share it", file=sys.stderr)
        traceback.print_exc()
    print("sfumato: " + " ".join(message.split()), file=sys.stderr)
    return code


def _refused(error: OSError) -> str:
    """What the system says, in its own words only: a file name may itself be private."""
    said = error.strerror or type(error).__name__
    if "usable temporary directory" in said:
        return "no writable folder for temporary files: set TMPDIR to one"
    full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    return f"the operating system refused: {said}" + "; free some space or use another disk" * full


def _usage(error, given: Sequence[str]) -> str:
    """One line for a usage error, with the reason where a familiar flag has another name here."""
    flag = getattr(error, "option_name", None)
    if flag in EXPLAINED:
        return f"{flag} is not an option: {EXPLAINED[flag]}"
    context = getattr(error, "ctx", None)
    own = [word for word in given[:1] if word.isalpha()]  # a flag without its value has no context
    path = context.command_path if context is not None else " ".join(["sfumato", *own])
    # a bare `sfumato` has shown the help page
    words = error.format_message().strip().rstrip(".") or "no verb given"
    words = words.replace(": Value error, ", ": ", 1)  # the parser's own wrapping of a choice
    if context is not None and flag is not None and hasattr(error, "possibilities"):
        known = [name for one in context.command.get_params(context) for name in one.opts]
        words = f"No such option: {flag}{_near(flag, known)}"
    verbs = list(getattr(context and context.command, "commands", ()))
    word = next(iter(given[len(path.split()) - 1 :]), "-")
    if verbs and word not in verbs and not word.startswith("-"):
        near = _near(word, verbs)
        if not near and os.path.exists(word):
            near = " (to look at images: sfumato inspect FOLDER)"
        words = f"No such verb: {word!r}{near}"
    return f"{words}; see `{path} --help`"


def _near(word: str, known: Sequence[str]) -> str:
    """What somebody may have meant: a beginning first, then a likeness."""
    begun = [name for name in known if name.startswith(word)]
    found = begun[:3] or get_close_matches(word, known, 3)
    return f" (did you mean {' or '.join(found)}?)" if found else ""


def _normalise(argv: Sequence[str]) -> tuple[bool, list[str]]:
    """Takes --debug out, and reads `--learning_rate` as `--learning-rate`.

    (diffusers' scripts write underscores.)
    """
    words, debug = [], False
    for i, word in enumerate(argv):
        if word == "--":
            return debug, words + list(argv[i:])
        if word == "--debug":
            debug = True
            continue
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            word = name.replace("_", "-") + equals + value
        words.append(word)
    return debug, words


def _silence(debug: bool, online: bool) -> None:
    """Before the heavy imports: offline, no foreign progress bars, no warnings that quote input."""
    for name, value in QUIET.items():
        if not (online and name == "HF_HUB_OFFLINE"):
            os.environ.setdefault(name, value)
    if not debug:
        import logging

        warnings.simplefilter("ignore")
        logging.getLogger("absl").setLevel(logging.ERROR)


def _share_processors() -> None:
    """Before torch is loaded, whose OpenMP reads it once."""
    if not SPINNING & set(os.environ):
        os.environ.update([SPIN])
