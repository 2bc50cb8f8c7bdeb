"""How private images are read, the guarantee for them, and what is public about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from ..errors import SfumatoError
from . import parse
from .declare import Options, option
from .frames import parse_frames
from .values import Values, declared_values, parse_range, parse_window

Layout = Literal[
    "folders",
    "inner",
    "kohya",
    "flat",
    "table",
    "coco",
    "parquet",
    "arrow",
    "webdataset",
    "npz",
    "idx",
]


@dataclass(frozen=True)
class Reading(Options):
    """How the private images are read."""

    panel = "Reading"

    labels: str | None = option(None, "Column that holds the class.", metavar="COLUMN")
    classes: Sequence[str] | None = option(
        None,
        "Public list of classes (put a name with a comma in double quotes); default: those found.",
        metavar="A,B,..",
        parse=parse.names,
    )
    yes_public: bool | Sequence[str] = option(
        False,
        "Yes to all that `plan` lists as public, with class names found in the data. Recorded.",
    )
    caption_column: str | None = option(
        None,
        "Column that holds the captions; they train, unless --condition says otherwise.",
        flags=("--caption-column", "--captions"),
        metavar="COLUMN",
    )
    unit: str | None = option(
        None,
        "Column that identifies the protected patient or person; `folder`: the folder it lies in.",
        metavar="COLUMN",
    )
    max_bad: float = option(0.01, "Largest accepted share of unusable images.", least=0, most=1)
    unlabelled: bool = option(False, "No classes: read all images as one class.")
    value_range: str | Sequence[float] | None = option(
        None,
        "Stored values from black to white (default: as the type of the file says).",
        flags=("--range",),
        metavar="12bit|LO..HI",
        parse=parse_range,
    )
    window: str | Sequence[float] | None = option(
        None,
        "The same as a window: its centre and width in stored values (DICOM, NIfTI: after rescale),"
        " or a preset for CT such as lung, bone, brain, soft-tissue.",
        metavar="CENTRE/WIDTH|NAME",
        parse=parse_window,
    )
    invert: bool = option(False, "Low values are white, as in MONOCHROME1.")
    background: Literal["white", "black", "grey", "ignore"] = option(
        "white", "What transparency is laid on; ignore: take the colours as stored."
    )
    frames: str | int | None = option(
        None,
        "Which frames of a file become records: of DICOM, NIfTI and TIFF with several. All of one"
        " file are one unit (default: one, the middle; of TIFF the first page). plain: PNG, JPEG,"
        " WebP and BMP alone, for runs that earlier versions began.",
        metavar="first|middle|all|N|plain",
        parse=parse_frames,
    )
    layout: Layout | None = option(
        None,
        "How the images are kept, if not as `inspect` says; folders: each folder at the top is a"
        " class, inner: each that holds images, flat: no classes.",
    )
    objects: Literal["largest", "crops"] | None = option(
        None,
        "COCO: the class of an image is that of its largest object, or each object is a record (all"
        " of one image are one unit).",
    )
    split: str | None = option(
        None,
        "File of `sfumato split`: read only the training part (`evaluate`, `select`: only the"
        " held-out part).",
        metavar="FILE",
        path=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames is not None:
            object.__setattr__(self, "frames", parse_frames(self.frames))
        _ = self.values

    @property
    def values(self) -> Values:
        """How stored values become grey levels, as declared."""
        return declared_values(self.value_range, self.window, self.invert, self.background)

    def keywords(self) -> dict[str, Any]:
        """The same as keywords of `records.load_records`."""
        own = {"value_range", "window", "invert", "background"}
        said = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        return said | {"values": self.values}


def usual_delta(n_units: int) -> float:
    """The delta of a plan that names none: well below one over the number of units."""
    return min(1e-5, n_units**-1.5)


@dataclass(frozen=True)
class Privacy(Options):
    """The guarantee, and what bounds a unit."""

    panel = "Privacy"

    epsilon: float | None = option(
        None, "Privacy budget of the run: 1 is strong, 10 is weak.", above=0
    )
    delta: float | None = option(None, "Default: the smaller of 1e-5 and n ** -1.5.", above=0)
    relation: Literal["zero-out", "replace-one"] = option(
        "zero-out", "Adjacency: how neighbouring data sets differ."
    )
    histogram: float | None = option(
        None,
        "Spend budget on class shares: noise multiplier of their histogram.",
        metavar="SIGMA",
        above=0,
    )
    max_per_unit: int | None = option(None, "Public bound on the images counted per unit.", least=1)
    retry_fraction: float = option(
        0.0,
        "Share of extra steps paid in advance, for --new-attempt.",
        flags=("--retry-reserve",),
        metavar="SHARE",
        least=0,
    )
    clip_norm: float | None = option(
        None, "Clip norm of one unit (default 0.05; inversion: the public radius).", above=0
    )
    clipping: Literal["flat", "normalised", "per-group", "per-group-normalised"] = option(
        "flat", "Clipping rule."
    )
    allow_large_delta: bool = option(False, "Accept delta >= 1/n; recorded in the release.")
    allow_caption_prompts: bool = option(
        False, "Let prompts be, or contain, private captions: none is compared; recorded."
    )
    allow_doubtful_units: bool = option(
        False,
        "Confirm that similar values of --unit are different units; recorded.",
    )
    public_may_overlap: bool = option(
        False,
        "Public images, or the base's, may show units of yours, unprotected there; recorded.",
    )
    anyway: bool = option(
        False,
        "Run although the forecast is that nothing can be learned; recorded in the release.",
    )
    stand_in: str | None = option(
        None,
        "Public images like the private ones: the forecast tries the base on them.",
        metavar="FOLDER",
        path=True,
    )
    tuning: str | None = option(
        None, "How the settings were chosen, as stated in the certificate.", metavar="TEXT"
    )

    def __post_init__(self) -> None:
        if str(self.relation) == "add-remove":
            raise SfumatoError(
                "--relation add-remove would keep n secret, but plan and release publish n: use"
                " zero-out, which needs the same noise"
            )
        super().__post_init__()


@dataclass(frozen=True)
class Schedule(Options):
    """How many noised steps, on how many units."""

    panel = "Schedule"

    expected_batch_size: int | None = option(
        None,
        "Expected units per step under Poisson sampling (default: by data size and epsilon).",
        least=1,
    )
    steps: int | None = option(
        None,
        "Training steps (default: by data size and epsilon).",
        flags=("--steps", "--max-train-steps"),
        least=1,
    )
    noise_draws: int | None = option(
        None,
        "K noise-and-time draws per unit, averaged before the clip (default: 1 to 4).",
        least=1,
    )
    time: float | str | None = option(
        None,
        "Solve for steps, batch and draws so that the run takes about so long here: 20min, 1h.",
        metavar="TIME",
        parse=parse.duration,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.time is not None:
            if self.steps is not None:
                raise SfumatoError("--time solves for the steps: give --time or --steps, not both")
            object.__setattr__(self, "time", parse.duration(self.time))


@dataclass(frozen=True)
class Prompting(Options):
    """The public names and prompts of the classes, and their tokens."""

    panel = "Prompts and tokens"

    prompt: str | Mapping[str, str] | None = option(
        None,
        "Template with {class}, or CLASS=TEXT, repeated (default: the class name).",
        metavar="TEXT|CLASS=TEXT",
        parse=parse.prompts,
        repeated=True,
    )
    init: Mapping[str, str] | None = option(
        None,
        "Public words that the token of a class starts from; repeat per class.",
        metavar="CLASS=TEXT",
        parse=parse.inits,
        repeated=True,
    )
    embedder: bool | None = option(
        None, "Train a token per class (default: only for words that the base does not know)."
    )
    condition: Literal["classes", "captions"] | None = option(
        None,
        "What the base is told of a picture while it learns: its caption, or the prompt of its"
        " class (default: captions where --captions names their column).",
    )
    prompts_file: str | None = option(
        None,
        "Public prompts (CSV or JSON lines: prompt, label, count) for `synthesize --prompts`: their"
        " hash stands in the plan, so that they were written before training.",
        flags=("--prompts",),
        metavar="FILE",
        path=True,
    )
    placeholder: str | None = option(
        None,
        "inversion, embedding: name of the token (default <artwork>), numbered per class.",
        flags=("--placeholder-token",),
    )
    initializer: str | None = option(
        None,
        "inversion, embedding: public words that all tokens start from (the anchor).",
        flags=("--initializer-token",),
    )


@dataclass(frozen=True)
class Execution(Options):
    """What of an inversion or an evolution is done now, and what stays in the run folder."""

    panel = "Running in shards"

    shard: tuple[int, int] | None = option(
        None,
        "inversion: only every N-th chunk, from I; evolution: only every N-th picture of a round,"
        " beside the other shards. A last run with --resume adds up.",
        metavar="I/N",
        parse=parse.shard,
    )
    keep_inversions: bool = option(
        False, "Keep the private embeddings of single images in the run folder."
    )
    controls: bool = option(
        False, "Keep the exact mean and the token of one image in the run folder. PRIVATE."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shard is not None and not 0 <= self.shard[0] < self.shard[1]:
            raise SfumatoError(
                f"--shard {self.shard[0]}/{self.shard[1]}: write I/N with I from 0 to N-1, such as"
                " 0/4"
            )
