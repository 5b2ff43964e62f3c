"""What a run ran on: versions of the packages that decide its numbers, and the hardware."""

import importlib.metadata
import os
import platform
import resource
import sys
from typing import Any

import torch

PACKAGES = (
    "betahead",
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "datasets",
    "tokenizers",
    "safetensors",
    "numpy",
    "pyarrow",
    "pydantic",
)


def version_of(package: str) -> str | None:
    """The installed version, None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def software() -> dict[str, Any]:
    """Python, operating system and package versions."""
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "cuda": torch.version.cuda,
    }


def hardware() -> dict[str, Any]:
    """Processors, memory (GiB) and accelerators, without anything that names the machine."""
    return {
        "cpus": usable_cpus(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "device": device_kind(),
        "gpus": [gpu(index) for index in range(torch.cuda.device_count())],
    }


def peak_gib() -> float:
    """The most memory that this process has held so far, GiB: its accelerators' where it has used one, else its own."""
    on_gpus = sum(torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count()))
    if on_gpus > 0:
        return on_gpus / 2**30
    # In KiB, but on macOS in bytes.
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return resident / (2**30 if sys.platform == "darwin" else 2**20)


def usable_cpus() -> int:
    """Processors that this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device_kind() -> str:
    """Where training would run: `cuda`, `mps` or `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def gpu(index: int) -> dict[str, Any]:
    """Model and memory (GiB) of a CUDA device."""
    properties = torch.cuda.get_device_properties(index)
    return {"name": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)}
