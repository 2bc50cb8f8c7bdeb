"""All that is asked of a run, as one object made of option classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SfumatoError
from ..methods import METHODS, Attention, Method, PublicAnswers
from ..options import (
    Choosing,
    Execution,
    Machine,
    Options,
    Performance,
    Privacy,
    Prompting,
    Reading,
    Recipe,
    Schedule,
    declared,
    gather,
)
from ..options.gather import make

if TYPE_CHECKING:  # the command line asks for a base before torch is loaded
    from ..privacy.mechanisms.base_vote import BaseVote
    from .fit import Fit

GROUPS: dict[str, type[Options]] = {
    "reading": Reading,
    "privacy": Privacy,
    "choosing": Choosing,
    "schedule": Schedule,
    "prompting": Prompting,
    "recipe": Recipe,
    "performance": Performance,
    "execution": Execution,
    "machine": Machine,
}


USUAL = 32  # pixels a side of the bundled bases among which --match chooses


@dataclass(frozen=True)
class Task:
    """What a run is asked to do: a base, a method, and the classes of options.

    seed: public; how adapters start. It never reaches the noise. fit: of the base, as tried on
    public pictures. base_vote: among which bases the private images are to choose, one of which is
    `base`.
    """

    base: str
    method: Method = Attention()
    privacy: Privacy = Privacy()
    choosing: Choosing = Choosing()
    schedule: Schedule = Schedule()
    prompting: Prompting = Prompting()
    recipe: Recipe = Recipe()
    performance: Performance = Performance()
    machine: Machine = Machine()
    seed: int = 0
    public: PublicAnswers = PublicAnswers()
    fit: Fit | None = None
    base_vote: BaseVote | None = None


def require_base(base: str | Path | None) -> str:
    """The base that was named.

    Raises:
        SfumatoError: None was: what a base has never seen, no privacy budget teaches it, so there
            is no default for a user's own images.
    """
    if base is not None:
        return str(base)
    from ..bases import bundled_bases  # here: the command line asks before torch is loaded

    raise SfumatoError(
        "--base is required, a public model that knows your kind of picture: name a"
        f" pipeline folder, or a bundled one ({', '.join(bundled_bases())};"
        " `sfumato bases` shows what each has seen), or none to start from random numbers"
    )


def candidates_of(choosing: Choosing, base: str | Path | None = None) -> tuple[str, ...]:
    """The bases that `--match` chooses among.

    Raises:
        SfumatoError: Fewer than two, one twice, or a base that was named beside them.
    """
    if base is not None:
        raise SfumatoError(
            "--match chooses the base: leave --base out, or leave --match out and name the base"
        )
    if choosing.bases is None:
        from ..bases import base_info, bundled_bases

        return tuple(name for name in bundled_bases() if base_info(name).resolution == USUAL)
    names = tuple(choosing.bases)
    if len(names) < 2 or len(set(names)) < len(names):
        raise SfumatoError(
            "--bases: name at least two public bases, each once: with one there is nothing to"
            " choose"
        )
    return names


def task_of(
    method: str | Method = "attention",
    base: str | Path | None = None,
    seed: int = 0,
    **keywords: Any,
) -> tuple[Reading, Execution, Task]:
    """A verb's arguments as objects.

    Args:
        method: Name of a method, or its options.
        base: Name of a bundled base or a folder; required.
        seed: Public.
        keywords: Groups of options by name, and fields of groups and of the method.

    Raises:
        SfumatoError: No base, an unknown method or option, one given twice, or one that does not go
            with the method.
    """
    chosen = _method(method, keywords)
    own = {one.name for one in declared(type(chosen))} if isinstance(method, str) else set()
    verbs = ("method", "base", "public_data", "seed", *own)
    found = gather(GROUPS, {k: v for k, v in keywords.items() if k not in own}, verbs)
    privacy: Privacy = found["privacy"]
    bound = type(chosen).own_bound
    if bound and privacy.clip_norm is not None:
        if getattr(chosen, bound) not in (None, privacy.clip_norm):
            raise SfumatoError(f"{bound} and clip_norm mean the same here: give one of them")
        chosen = replace(chosen, **{bound: privacy.clip_norm})
        found["privacy"] = replace(privacy, clip_norm=None)
    reading, execution = found.pop("reading"), found.pop("execution")
    choosing: Choosing = found["choosing"]
    choosing.require_match()
    named = candidates_of(choosing, base)[0] if choosing.match else require_base(base)
    return reading, execution, Task(named, chosen, **found, seed=seed)


def _method(method: str | Method, keywords: Mapping[str, Any]) -> Method:
    if isinstance(method, Method):
        kind = type(method)
    elif method in METHODS:
        kind = METHODS[method]
    else:
        raise SfumatoError(
            f"--method {method}: choose {', '.join(METHODS)} (`sfumato methods` explains them)"
        )
    names = {one.name for one in declared(kind)}
    shared = {one.name for group in GROUPS.values() for one in declared(group)}
    others = {one.name: one for other in METHODS.values() for one in declared(other)}
    for name, value in keywords.items():
        if name in others and name not in names | shared and value is not None:
            taken = ", ".join(one.flag for one in declared(kind)) or "none"
            raise SfumatoError(
                f"{others[name].flag} does not go with --method {kind.name}, whose own options are:"
                f" {taken}"
            )
        if isinstance(method, Method) and name in names:
            raise SfumatoError(f"{name} is given twice: in {kind.__name__}(...) and as a keyword")
    if isinstance(method, Method):
        return method
    return make(kind, {name: keywords[name] for name in names & set(keywords)})
