"""The machine's part of a replay's fingerprint.

Everything beside data, code and library versions that decides the bits of a computation.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .device import HOST, describe
from .threads import threads

# Switches of the numerical libraries: another kernel, another order of summation. Where threads are
# put changes nothing, and how many there are is asked of torch.
SWITCHES = re.compile(
    r"(MKL|DNNL|ONEDNN|ATEN|OPENBLAS|BLIS|CUBLAS|CUDNN|OMP|KMP)_.*|NVIDIA_TF32_OVERRIDE|TORCH_ALLOW_TF32.*|NPY_(DIS|EN)ABLE_CPU_FEATURES"
)
PLACEMENT = {
    "OMP_NUM_THREADS",
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "OMP_WAIT_POLICY",
    "OMP_DISPLAY_ENV",
    "OMP_STACKSIZE",
    "MKL_VERBOSE",
}
# What a processor is, as the libraries ask it: they choose kernels by these, and block sizes by its
# caches.
PROCESSOR = (
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "cache size",
    "flags",
    "CPU implementer",
    "CPU part",
    "Features",
)


def numerics() -> dict[str, Any]:
    """Processor, device, platform, torch's build and switches, as JSON.

    Equal on two starts if both give the same bits.
    """
    return {
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "processor": _digest(processor()),
        "device": describe(),
        "platform": [platform.system(), platform.machine(), *platform.libc_ver()],
        "torch_build": _digest(torch.__config__.show()),
        "torch_switches": {
            "float32_matmul": torch.get_float32_matmul_precision(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "mkldnn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
            "flush_denormal": _flushes_denormals(),
        },
        "environment": {
            k: v
            for k, v in sorted(os.environ.items())
            if SWITCHES.fullmatch(k) and k not in PLACEMENT
        },
    }


def of_rank(asked: int | None) -> dict[str, Any]:
    """What decides one rank's numbers: `numerics`, and the threads of its operations.

    Args:
        asked: Threads that the run's options say; None for torch's choice, which follows each
            machine's cores and environment.
    """
    return {"threads": threads(asked), **numerics()}


def kind_of(found: Mapping[str, Any]) -> str:
    """The kind of device in what `numerics` said once, as `--device` calls it.

    The host where nothing was said of it: earlier versions computed nowhere else.
    """
    return str(found.get("device", HOST)).partition(":")[0]


def processor(place: Path = Path("/proc/cpuinfo")) -> str:
    """The first processor's description, without its clock.

    From /proc/cpuinfo on Linux; elsewhere from the platform module.
    """
    try:
        first = place.read_text("utf-8", "replace").strip().split("\n\n")[0]
    except OSError:
        return platform.processor()
    lines = (line.partition(":") for line in first.splitlines())
    return "\n".join(
        f"{name.strip()}: {value.strip()}" for name, _, value in lines if name.strip() in PROCESSOR
    )


def _flushes_denormals() -> bool:
    return (torch.tensor(1e-39) * 1.0).item() == 0.0


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
