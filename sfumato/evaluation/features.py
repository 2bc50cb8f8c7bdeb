"""Feature extractors: any callable from uint8 images to float [N, d], with a name.

Distances bear that name.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from sfumato.compute.device import device, on_host, to_device
from sfumato.errors import SfumatoError
from sfumato.evaluation.classifiers import Classifier


@dataclass(frozen=True)
class Extractor:
    """A named feature extractor.

    `function` takes uint8 [N, R, R, 3] and returns float [N, d]; `name` appears in every figure
    computed with it.
    """

    name: str
    function: Callable[[np.ndarray], np.ndarray]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Features, float64 [N, d].

        SfumatoError when the function returns another shape or non-finite numbers.
        """
        features = np.asarray(self.function(images), dtype=np.float64)
        if features.ndim != 2 or len(features) != len(images):
            raise SfumatoError(
                f"extractor {self.name} must return [N, d] for {len(images)} images, got"
                f" {list(features.shape)}"
            )
        if not np.isfinite(features).all():
            raise SfumatoError(f"extractor {self.name} returned non-finite features")
        return features


def classifier_features(classifier: Classifier, name: str) -> Extractor:
    """Penultimate activations of a trained classifier.

    `name` should state what it was trained on ("cnn-mnist-test").
    """
    return Extractor(name, classifier.features)


def load_torchscript_extractor(
    path: str | Path,
    *,
    name: str | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    options: Mapping[str, object] | None = None,
    batch: int = 50,
) -> Extractor:
    """An extractor from a TorchScript file of the user's own (Inception, DINOv2, CLIP).

    The module gets [B, 3, R, R]: raw uint8 when `mean` and `std` are None (the Inception export
    behind most published FIDs, with `options={"return_features": True}`), otherwise float (x / 255
    - mean) / std. Only TorchScript archives are opened: a pickle could run code, and safetensors
    hold no network. It computes on the device in use. SfumatoError for anything else.

    Args:
        path: The file.
        name: The name of distances (default: the file's stem).
        size: Resample to size x size first (bicubic, antialiased).
        mean: Per channel.
        std: Per channel.
        options: Keyword arguments of the module.
        batch: Images at a time.
    """
    path = Path(path)
    if not path.is_file():
        raise SfumatoError(f"no extractor file at {path}")
    if not _is_torchscript(path):
        raise SfumatoError(
            f"{path.name} is not a TorchScript archive; export the network with"
            " torch.jit.trace(...).save"
        )
    if (mean is None) != (std is None):
        raise SfumatoError("give both mean and std, or neither")
    where = device()
    try:
        module = torch.jit.load(str(path), map_location=where).eval()
    except RuntimeError as error:
        raise SfumatoError(
            f"{path.name} cannot be loaded as TorchScript: {str(error).splitlines()[0]}"
        ) from error
    options = dict(options or {})

    @torch.inference_mode()
    def function(images: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(images), batch):
            part = np.ascontiguousarray(images[start : start + batch].transpose(0, 3, 1, 2))
            x = to_device(torch.from_numpy(part), where)
            if size is not None and x.shape[-1] != size:
                x = F.interpolate(
                    x.float(),
                    size=(size, size),
                    mode="bicubic",
                    antialias=True,
                    align_corners=False,
                )
                x = x.round().clamp(0, 255).to(torch.uint8)
            if mean is not None:
                middle, scale = (
                    to_device(torch.tensor(row), where).view(1, -1, 1, 1) for row in (mean, std)
                )
                x = (x.float() / 255 - middle) / scale
            out = module(x, **options)
            if not isinstance(out, torch.Tensor):
                raise SfumatoError(f"{path.name} must return one tensor, got {type(out).__name__}")
            parts.append(on_host(out, torch.float32).flatten(1).numpy())
        return np.concatenate(parts)

    return Extractor(name or path.stem, function)


def _is_torchscript(path: Path) -> bool:
    """TorchScript archives hold a code/ folder; plain torch.save archives do not."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = [Path(entry).parts[1:2] for entry in archive.namelist()]
    return ("code",) in names and ("constants.pkl",) in names
