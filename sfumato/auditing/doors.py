"""M7: what was charged or made by a run is not accepted as public, and the reverse.

On a dummy pipeline.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import verbs
from ..bases import weight_files
from ..bases.tiny import make_tiny_base, make_tiny_images
from ..errors import SfumatoError
from ..methods import Lora
from .finding import Finding, Notes
from .taint import OPTIONS

START: dict[str, Any] = {"method": Lora(rank=2, adapter_init="public")}


def closed(seed: int) -> Finding:
    """M7: public and private images cannot change sides.

    After one whole run on images P that started from public images R, and for another run on images
    Q: P as public images, one image of P among those of R, the run's folder and a copy of its
    weights as a base, and R as private images are refused, and nothing is charged for it; R may be
    public again.
    """
    notes = Notes()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        base = make_tiny_base(folder / "base")
        p, q, r = (make_tiny_images(folder / name, seed=seed + i) for i, name in enumerate("pqr"))
        ledger = folder / "ledger.sqlite"
        run = verbs.adapt(
            p,
            output=folder / "run",
            base=str(base),
            ledger=ledger,
            public_data=r,
            **OPTIONS | START,
        )
        charged = len(run.ledger.ledger.chain.of("CHARGE"))
        copy = shutil.copytree(base, folder / "copy")
        weights = next(run.model.glob("*.safetensors"))
        shutil.copy(weights, weight_files(copy)[0].with_name("of-a-run.safetensors"))
        mixed = shutil.copytree(r, folder / "mixed")
        shutil.copy(next(p.rglob("*.png")), next(mixed.rglob("*.png")).with_name("another.png"))

        own: dict[str, Any] = {"ledger": ledger, "base": base}

        def plan(**more: Any) -> Callable[[], object]:
            return lambda: verbs.plan(q, **OPTIONS | own | more)

        doors = {
            "charged images are taken as public": plan(public_data=p, **START),
            "a charged image is taken as public among others": plan(public_data=mixed, **START),
            "a run folder is taken as public": plan(public_data=run.folder, **START),
            "a run's folder is taken as a base": plan(base=run.folder),
            "weights that a run did not export are taken as a base": plan(base=copy),
            "public images are charged": lambda: verbs.adapt(
                r, output=folder / "second", base=str(base), ledger=ledger, **OPTIONS
            ),
        }
        for what, door in doors.items():
            notes.numbers += 1
            notes.expect(not _opens(door), what)
        notes.expect(
            len(run.ledger.ledger.chain.of("CHARGE")) == charged, "a refusal is charged for"
        )
        notes.expect(
            _opens(plan(public_data=r, **START)),
            "public images of an earlier run are not public any more",
        )
    return notes.finding(
        "M7", "public doors on a tiny base", sees="one charged image that comes in as public"
    )


def _opens(door: Callable[[], object]) -> bool:
    try:
        door()
    except SfumatoError:
        return False
    return True
