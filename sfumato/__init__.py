"""Differentially private adaptation of diffusion models: private images in, a release out.

The verbs of the command line are functions here, and their options are classes:

    import sfumato

    sfumato.plan("./scans", epsilon=4, method="lora", rank=4)
    run = sfumato.adapt("./scans", output="run", epsilon=4, method=sfumato.Lora(rank=4))
    sfumato.synthesize(run, 10_000, "release")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .errors import CheckFailed, Interrupted, SfumatoError

if TYPE_CHECKING:
    from .auditing.verb import audit
    from .methods import (
        Attention,
        Embedding,
        Evolution,
        Full,
        Inversion,
        Loda,
        Lora,
        Saliency,
    )
    from .options import (
        Choosing,
        Execution,
        Judging,
        Machine,
        Matching,
        Performance,
        Privacy,
        Project,
        Prompting,
        Reading,
        Recipe,
        Sampling,
        Schedule,
        Selecting,
        Sharing,
        Signing,
    )
    from .planning.config import Config
    from .verbs.adapt import adapt
    from .verbs.compare import compare
    from .verbs.describing import describe_base
    from .verbs.evaluate import evaluate
    from .verbs.export import export
    from .verbs.inspect import inspect
    from .verbs.ledger import ledger
    from .verbs.match import match
    from .verbs.nearest import audit_pictures
    from .verbs.plan import plan
    from .verbs.push import push
    from .verbs.release import release, verify
    from .verbs.resume import resume
    from .verbs.select import select
    from .verbs.split import split
    from .verbs.start import start
    from .verbs.synthesize import synthesize

# Name -> its module. Verbs load torch and diffusers; a plain `import sfumato` stays instant.
_HOMES = {
    "adapt": "verbs.adapt",
    "audit": "auditing.verb",
    "audit_pictures": "verbs.nearest",
    "compare": "verbs.compare",
    "describe_base": "verbs.describing",
    "evaluate": "verbs.evaluate",
    "export": "verbs.export",
    "inspect": "verbs.inspect",
    "ledger": "verbs.ledger",
    "plan": "verbs.plan",
    "push": "verbs.push",
    "release": "verbs.release",
    "resume": "verbs.resume",
    "split": "verbs.split",
    "match": "verbs.match",
    "select": "verbs.select",
    "start": "verbs.start",
    "synthesize": "verbs.synthesize",
    "verify": "verbs.release",
    "Attention": "methods",
    "Config": "planning.config",
    "Embedding": "methods",
    "Evolution": "methods",
    "Full": "methods",
    "Inversion": "methods",
    "Loda": "methods",
    "Lora": "methods",
    "Saliency": "methods",
    "Choosing": "options",
    "Execution": "options",
    "Judging": "options",
    "Machine": "options",
    "Performance": "options",
    "Project": "options",
    "Privacy": "options",
    "Prompting": "options",
    "Reading": "options",
    "Recipe": "options",
    "Sampling": "options",
    "Schedule": "options",
    "Matching": "options",
    "Selecting": "options",
    "Sharing": "options",
    "Signing": "options",
}

__all__ = [
    "Attention",
    "CheckFailed",
    "Config",
    "Embedding",
    "Evolution",
    "Choosing",
    "Execution",
    "Full",
    "Interrupted",
    "Inversion",
    "Judging",
    "Loda",
    "Lora",
    "Machine",
    "Performance",
    "Privacy",
    "Project",
    "Prompting",
    "Reading",
    "Recipe",
    "Saliency",
    "Sampling",
    "Schedule",
    "Matching",
    "Selecting",
    "SfumatoError",
    "Sharing",
    "Signing",
    "adapt",
    "audit",
    "audit_pictures",
    "compare",
    "describe_base",
    "evaluate",
    "export",
    "inspect",
    "ledger",
    "plan",
    "push",
    "release",
    "resume",
    "match",
    "select",
    "split",
    "start",
    "synthesize",
    "verify",
]


if not TYPE_CHECKING:  # a checker would take every name for one that there is

    def __getattr__(name: str):
        if name in _HOMES:
            return getattr(import_module(f".{_HOMES[name]}", __name__), name)
        raise AttributeError(f"module 'sfumato' has no attribute {name!r}")
