"""Shared fixtures: tiny models built from configs, and one seed for everything."""

import os
from collections.abc import Generator

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from jaxtyping import config, install_import_hook

# Shapes are checked while tests run and never at run time: the hook breaks torch.compile, plain annotations do not.
install_import_hook(
    [
        "betahead.types",
        "betahead.scores",
        "betahead.losses",
        "betahead.beta",
        "betahead.forward",
        "betahead.reference",
        "betahead.stats",
    ],
    "shape_check.shapes_checked",
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Tiny tensors are slower on several threads, and the order of a sum must not depend on the machine's cores.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def unchecked() -> Generator[None]:
    """Types are not checked, as in a user's own process: what refuses a value then is the package."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
