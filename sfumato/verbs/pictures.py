"""Whether what a verb was given as synthetic pictures has any."""

from __future__ import annotations

from pathlib import Path

from ..errors import SfumatoError
from ..releases.verify import is_run

PICTURES = ("train", "data")  # of a folder of `synthesize`, by its form
WEIGHTS = ("*.safetensors", "model_index.json", "model/model_index.json")


def require_pictures(release: str | Path) -> None:
    """Stops a verb that judges pictures at a folder that has a model; before a look is recorded.

    Args:
        release: What was given as a release.

    Raises:
        SfumatoError: It is a released model (an adapter, a token, a pipeline), or a run folder.
    """
    folder = Path(release)
    if any((folder / name).is_dir() for name in PICTURES):
        return
    cure = "draw one with `sfumato synthesize` first, and name that folder"
    if is_run(folder):
        raise SfumatoError(f"{folder} is a run folder, which has no picture set: {cure}")
    if any(found for pattern in WEIGHTS for found in folder.glob(pattern)):
        raise SfumatoError(
            f"{folder} is a model (an adapter, a token or a pipeline), which has no picture set:"
            f" {cure}"
        )
