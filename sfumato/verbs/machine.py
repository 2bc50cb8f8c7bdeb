"""The device of a verb: its option, and what is in use while the verb runs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ..compute.device import using
from ..compute.threads import use_threads
from ..options import Machine, gather

F = TypeVar("F", bound=Callable[..., Any])


def computes(verb: F) -> F:
    """Lets a verb compute on the device that its option `device` names.

    Args:
        verb: A function that takes the options that are left as keywords.

    Returns:
        A function that takes `device`, or a `Machine` as `machine`, beside the verb's own.
    """

    @functools.wraps(verb)
    def run(*args: Any, **keywords: Any) -> Any:
        said = {name: keywords.pop(name) for name in ("device", "machine") if name in keywords}
        machine: Machine = gather({"machine": Machine}, said)["machine"]
        use_threads(None)
        with using(machine.device):
            return verb(*args, **keywords)

    return cast(F, run)
