"""Generators go on where they were asked, through a file."""

import random
from pathlib import Path

import numpy as np
import torch

from betahead.train.randomness import random_states, restore_random_states
from betahead.train.state_tree import read_tree, write_tree


def drawn() -> list[float]:
    normal = float(np.random.standard_normal())  # keeps a second one for the next call
    return [random.random(), random.gauss(0.0, 1.0), normal, float(np.random.rand()), float(torch.randn(()))]


def test_what_is_drawn_after_restoring_is_what_was_drawn_before(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    drawn()
    write_tree(tmp_path / "rank-0.safetensors", random_states(cpu))
    wanted = [drawn() for _ in range(3)]
    restore_random_states(read_tree(tmp_path / "rank-0.safetensors"), cpu)
    assert [drawn() for _ in range(3)] == wanted
