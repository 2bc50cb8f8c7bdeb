"""A base, its pictures as latents, and inverters: what the programs about tokens share."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import measure


class Bench:
    """A base, its pictures as latents, and inverters over them."""

    def __init__(self, said, base=None):
        from sfumato.bases import load_base
        from sfumato.privacy.random.keys import RunKey

        self.said, self.base, self.key = (
            said,
            base or load_base(said.base),
            RunKey(bytes(range(32))),
        )

    def latents(self, pictures):
        """uint8 [n, 32, 32, 3] -> LatentData of one class, one unit a picture."""
        import numpy as np
        import torch

        from sfumato.training import LatentData

        parts = [self.base.encode(pictures[i : i + 256]) for i in range(0, len(pictures), 256)]
        mean, std = (torch.cat(p).half().numpy() for p in zip(*parts))
        n = len(pictures)
        return LatentData(mean, std, np.zeros(n, np.int64), np.arange(n), np.arange(n + 1))

    def private(self, n: int):
        from packs import private_pack

        return private_pack(self.said.pack, self.said.cache)[0][:n]

    def inverter(self, geometry, recipe):
        from sfumato.methods.inversion.batch import Inverter

        return Inverter(self.base, [self.said.prompt], ["<artwork>"], geometry, recipe)

    def whole_space(self, radius: float | None = None):
        """Where images are inverted; a radius other than the library's for the usual script, which
        knows none.
        """
        from sfumato.methods.inversion.geometry import start_anchor, whole_space

        space = whole_space(self.base, start_anchor(self.base, [None], 1), 1)
        return space if radius is None else replace(space, radius=radius)

    def words(self):
        """All axes around the vocabulary's mean, with the radius of a run that has no public
        images.
        """
        from sfumato.methods.inversion.geometry import from_vocabulary

        return from_vocabulary(self.base, [None], 1, None)

    def embeddings(self, data, geometry, recipe, rows: int = 64):
        """Embeddings float64 [n, D] of all pictures; kept in `--embeddings`, where other programs
        find them.
        """
        import numpy as np

        from sfumato.methods.inversion.batch import chunks

        n = len(data.label)
        parts = [data.mean, data.std, *(t.numpy() for t in (geometry.anchor, geometry.basis))]
        said = (self.base.digest, self.said.prompt, geometry.radius, recipe, measure.commit())
        name = hashlib.sha256(
            repr(said).encode() + b"".join(np.ascontiguousarray(p).tobytes() for p in parts)
        ).hexdigest()
        kept = self.said.embeddings and self.said.embeddings / f"{name[:16]}.npy"
        if kept and kept.exists():
            z = np.load(kept)
        else:
            inverter, rows = self.inverter(geometry, recipe), min(rows, n)
            z = np.concatenate(
                [inverter.invert(data, c, self.key)[0] for c in chunks(np.arange(n), rows)]
            )[:n]
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, z)
        return z.astype(np.float64) @ geometry.basis.numpy().T + geometry.anchor.numpy()
