"""Icon packs as private and public pictures: packs that no base was trained on, and those that all
were.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

# Reserved in recipes/packages.py: private data here, never seen by a base. Name -> (npm package,
# version, kept ending).
PRIVATE = {
    "maki": ("maki", "1.2.5", ""),
    "healthicons": ("healthicons", "1.2.13", ""),
    "healthicons-negative": ("healthicons", "1.2.13", "-negative"),
}
# What a name ends in where it is another drawing of the same subject, or another size.
OTHER_DRAWINGS = ("-11", "-15", "-24px", "-outline", "-negative", "-stroked", "-alt", "-alt1")


def fetch(package: str, version: str, cache: Path) -> dict:
    """icons.json of an npm package `@iconify-json/NAME`, kept in `cache`."""
    downloads = cache / "npm"
    downloads.mkdir(parents=True, exist_ok=True)
    archive = downloads / f"iconify-json-{package}-{version}.tgz"
    if not archive.exists():
        subprocess.run(
            ["npm", "pack", f"@iconify-json/{package}@{version}"], cwd=downloads, check=True
        )
    with tarfile.open(archive) as tar:
        return json.load(tar.extractfile("package/icons.json"))


def private_pack(name: str, cache: Path, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """(uint8 [n, 32, 32, 3], subjects) of a reserved pack: one drawing of each subject, in an order
    drawn from the seed.
    """
    from recipes.icons import draw, render

    store = cache / f"private-{name}-{seed}.npz"
    if store.exists():
        kept = np.load(store)
        return kept["pictures"], kept["subjects"].tolist()
    package, version, ending = PRIVATE[name]
    pack = fetch(package, version, cache)
    names = [n for n in sorted(pack["icons"]) if n.endswith(ending)]
    stems = [n.removesuffix(ending) for n in names]
    chosen = [
        (n, s)
        for n, s in zip(names, stems)
        if not s.endswith(OTHER_DRAWINGS) and any(c.isalpha() for c in s)
    ]
    order = np.random.default_rng(seed).permutation(len(chosen))
    pictures = np.stack([draw(render(pack, chosen[i][0]), 1.0, 0.5, 0.5) for i in order])
    subjects = [chosen[i][1].replace("-", " ") for i in order]
    np.savez_compressed(store, pictures=pictures, subjects=np.array(subjects))
    return pictures, subjects


def public_packs(cache: Path, each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(uint8 [n, 32, 32, 3], style int64 [n], style names): `each` icons of every style that the
    bases were trained on.
    """
    from recipes.icons import draw, load_icons

    icons, pictures, _ = load_icons(cache)
    names = [f"{icon.pack}, {icon.style}" for icon in icons]
    rng, chosen, style = np.random.default_rng(seed), [], []
    kinds = sorted({n for n in names if names.count(n) >= each})
    for number, kind in enumerate(kinds):
        own = np.array([i for i, n in enumerate(names) if n == kind])
        chosen += rng.permutation(own)[:each].tolist()
        style += [number] * each
    return np.stack([draw(pictures[i], 1.0, 0.5, 0.5) for i in chosen]), np.array(style), kinds


def of_each(style, each: int):
    """Places of the first `each` pictures of every style."""
    import numpy as np

    return np.concatenate([np.flatnonzero(style == k)[:each] for k in np.unique(style)])


def noise_for(epsilon: float, n: int, relation: str) -> float:
    """Noise multiplier of one Gaussian mechanism at delta = min(1e-5, n^-1.5)."""
    from sfumato.privacy import accounting, calibration

    return calibration.calibrate(
        (), 1.0, 1, epsilon, min(1e-5, n**-1.5), relation, accounting.PLANNING_GRID
    )
