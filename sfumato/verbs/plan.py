"""`plan`: what a run on the images in a folder would guarantee and cost; nothing is charged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Unpack

from ..compute.device import device_name, using
from ..compute.measure import Trial
from ..errors import SfumatoError
from ..methods import METHODS, Method
from ..methods.inversion.advisor import Forecast
from ..options import Execution, Reading, takes
from ..options.progress import listening
from ..planning.choosing import all_published, named, require_one_price, tasks_of
from ..planning.estimate import Estimate, estimate, fit_to_machine
from ..planning.forecast import NOTHING, Outlook, outlook
from ..planning.inputs import (
    Source,
    on_terms,
    prepare_as_asked,
    records_of,
    unlabelled_if_flat,
)
from ..planning.published import asks_yes, published
from ..planning.refusal import refusal
from ..planning.task import GROUPS, Task, task_of
from ..planning.timing import fixed_seconds, short_of_usual
from ..planning.told import Told, told
from ..planning.warnings import remarks_on
from ..privacy.curves import attack_success
from ..privacy.ledger.ledger import Ledger
from ..privacy.plan import Plan
from ..records import RecordSet, sizes_of
from ..releases.prices import GRID
from ..runs import budget
from .keywords import PlanOptions

BY_TYPE = "by its type, or DICOM's own window"
OF_A_PLAN = {name: kind for name, kind in GROUPS.items() if kind is not Execution}


@dataclass(frozen=True)
class PlanReport:
    """A plan, what it will take on this machine, and remarks for the reader.

    LOCAL: remarks and `pixels` follow from the images.

    Attributes:
        plan: The plan.
        estimate: Time and memory here, noise and signal.
        remarks: One line each.
        forecast: Of an inversion, what it will be worth.
        refused: Why the ledger would not let `adapt` run it; None if it would.
        outlook: In one of three words, whether it can learn anything.
        needs: Flags that `adapt` will ask for beside the options of this plan.
        public: (what, value) of everything that a release would make public, word for word.
        words: What the base is told of each class.
        asked_seconds: What `time` was, if the schedule was solved for it.
        formats: Stage -> number format of its products, as `adapt` would choose it here now.
        trials: Stage -> seconds of a few dummy rows in each format.
        values: How stored values become grey levels: as declared, or by the type of each picture.
        pixels: Sizes of the private images as they are, and of the pictures that come out.
        device: Where all this was measured, as `--device` calls it.
        odds: Share of the unused that is accused wrongly -> share of the used that any attack finds
            at most; None unless it was asked for.
    """

    plan: Plan
    estimate: Estimate
    remarks: tuple[str, ...]
    forecast: Forecast | None = None
    refused: str | None = None
    outlook: Outlook | None = None
    pixels: tuple[str, str] = ("", "")
    public: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ()
    words: tuple[Told, ...] = ()
    asked_seconds: float | None = None
    values: str = BY_TYPE
    formats: Mapping[str, str] = field(default_factory=dict[str, str])
    trials: Mapping[str, Trial] = field(default_factory=dict[str, Trial])
    device: str = ""
    odds: Mapping[str, float] | None = None

    @property
    def fixes(self) -> str | None:
        """The flags that fix a schedule which was solved for a time; None without one."""
        if self.asked_seconds is None:
            return None
        return METHODS[self.plan.method].schedule_flags(self.plan)


@takes(**OF_A_PLAN, method=tuple(METHODS.values()))
def plan(
    images: Source,
    *,
    method: str | Method = "attention",
    base: str | Path | None = None,
    public_data: Source | None = None,
    seed: int = 0,
    ledger: str | Path | None = None,
    odds: bool = False,
    on_stage: Callable[[str], None] = lambda line: None,
    **options: Unpack[PlanOptions],
) -> PlanReport:
    """Mechanism, noise, time, memory and expected signal, before a pixel is read for training.

    Args:
        images: The private images, as for `inspect`.
        method: Name of a method (`methods()`), or its options, such as `Lora(rank=4)`.
        base: A bundled base (`bases()`), or a folder in the diffusers format; required.
        public_data: Images that need no protection, for `choose="public"`, `adapter_init="public"`
            and `subspace="public"`.
        seed: Public: how adapters start. It never reaches the noise.
        ledger: As for `adapt`; it is looked at, never made.
        odds: Also price what an attacker could gain at most, as certificates state it.
        on_stage: Called with a line for every stage that begins, and for how far it is.
        options: Fields of the option classes, or whole objects; `epsilon` is required.

    Returns:
        The plan, time and memory here, remarks, and of an inversion what it will be worth.

    Raises:
        SfumatoError: A target that cannot be met, saying what would; options that contradict.
    """
    reading, _, task = task_of(method, base, seed, **options)
    if task.privacy.epsilon is None:
        raise SfumatoError("--epsilon is required: 1 is strong privacy, 10 is weak")
    with using(task.machine.device):
        found = _plan(images, reading, task, public_data, ledger, on_stage)
    if not odds:
        return found
    on_stage("pricing what an attacker could gain")
    made = found.plan
    gain = attack_success(made.events, made.relation, grid=made.grid or GRID)
    return replace(found, odds=gain)


def _plan(
    images: Source,
    reading: Reading,
    task: Task,
    public_data: Source | None,
    ledger: str | Path | None,
    on_stage: Callable[[str], None],
) -> PlanReport:
    """The report, on the device that is in use."""
    on_stage("reading the images")
    with listening(on_stage):
        records = records_of(images, unlabelled_if_flat(images, reading, task.method))
    on_stage("composing the plan and its noise")
    place, book, remarks = Path(ledger or budget.default_path()), None, ()
    if place.exists():
        book = budget.open_ledger(place)
        known = budget.standing(
            book,
            records.fingerprints,
            **records.marks,
            unit=records.unit_column or "record",
        )
        task = on_terms(task, known)
        remarks = (known.remark,) if known.remark else ()
    if not task.choosing.match:
        return _report(records, reading, task, public_data, (place, book), remarks, on_stage)
    reports: list[PlanReport] = []
    for one in tasks_of(task):
        name = Path(one.base).name
        on_stage(f"composing the plan on {name}")
        try:
            asked = (public_data, (place, book), remarks, on_stage)
            reports.append(_report(records, reading, one, *asked))
        except SfumatoError as error:
            raise named(error, name) from error
    return _of_all(reports)


def _of_all(reports: list[PlanReport]) -> PlanReport:
    """One report for a run that may go on with any of these plans."""
    require_one_price([report.plan for report in reports])
    slowest = max(reports, key=lambda report: report.estimate.seconds)
    most = max(report.estimate.peak_bytes for report in reports)
    return replace(
        slowest,
        estimate=replace(slowest.estimate, peak_bytes=most),
        remarks=tuple(dict.fromkeys(remark for report in reports for remark in report.remarks)),
        refused=next((report.refused for report in reports if report.refused), None),
        public=tuple(all_published([list(report.public) for report in reports])),
        needs=tuple(dict.fromkeys(need for report in reports for need in report.needs)),
    )


def _report(
    records: RecordSet,
    reading: Reading,
    task: Task,
    public_data: Source | None,
    of_ledger: tuple[Path, Ledger | None],
    remarks: tuple[str, ...],
    on_stage: Callable[[str], None],
) -> PlanReport:
    """The report of a run on one base."""
    place, book = of_ledger
    prepared = prepare_as_asked(
        records, task, public_data, None if book is None else place, on_stage
    )
    refused = None if book is None else refusal(book, records, prepared)
    if refused is not None:
        remarks = (f"adapt will refuse: {refused}", *remarks)
    remarks += remarks_on(prepared, records)
    if prepared.options.get("time") is not None and (less := short_of_usual(prepared.plan)):
        remarks += (f"so little time leaves less than there could be: {less}",)
    remarks += tuple(prepared.method.proposals(prepared))
    hope = prepared.method.forecast(prepared)
    side = prepared.base.resolution
    pixels = (sizes_of(records), f"{side}x{side}")
    public = tuple(published(prepared))
    found = outlook(prepared)
    needs = ["--anyway"] * (found.word == NOTHING and not task.privacy.anyway)
    needs += ["--yes-public"] * asks_yes(records, reading)
    on_stage("timing a step on dummy images")
    prepared = fit_to_machine(prepared, compared=True)  # once, for both measurements
    fixed = fixed_seconds(prepared) if prepared.timed is None else prepared.timed.fixed
    return PlanReport(
        prepared.plan,
        estimate(prepared, fixed),
        remarks,
        hope,
        refused,
        found,
        pixels,
        public,
        tuple(needs),
        told(prepared),
        prepared.options.get("time"),
        records.values.said or BY_TYPE,
        prepared.options["formats"],
        prepared.trials,
        device_name(),
    )
