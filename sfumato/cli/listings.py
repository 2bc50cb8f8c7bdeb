"""`sfumato methods` and `sfumato bases`: what there is, one line each."""

from __future__ import annotations


def methods() -> None:
    """The methods, one line each.

    \b
    sfumato methods
    """
    from .. import verbs

    show(verbs.methods())


def bases() -> None:
    """The bundled public bases, one line each. Any StableDiffusionPipeline folder serves as well.

    \b
    sfumato bases
    """
    from .. import verbs

    show(verbs.bases())


def show(found: dict[str, str]) -> None:
    """Name and line, aligned."""
    width = max((len(name) for name in found), default=0)
    for name, line in found.items():
        print(f"{name:<{width}}  {line}")
