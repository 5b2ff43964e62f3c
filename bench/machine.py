"""What a result was measured on: versions and hardware in general terms, nothing that names the machine."""

import importlib.metadata
import os
import platform
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("betahead", "torch", "transformers", "trl", "accelerate", "peft", "datasets", "tokenizers")


def versions() -> dict[str, str | None]:
    """Python's and the packages' versions; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def command(module: str, words: Sequence[str]) -> str:
    """The command as anyone would repeat it: without the folder that the results were written to."""
    kept = [word for before, word in zip(["", *words], words, strict=False) if "--out" not in (before, word)]
    return shlex.join(["python", "-m", module, *kept])


def cpu_model() -> str:
    """What the processor calls itself, else its architecture."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", info.read_text(), re.MULTILINE) if info.is_file() else None
    return found[1].strip() if found else platform.machine()


def machine() -> dict[str, Any]:
    """Processor, cores that may be used, memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": cpu_model(), "cores": cores, "memory_gib": round(memory, 1), "system": platform.system()}
