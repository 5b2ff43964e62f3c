"""Finished runs to explore, each opened once."""

import pytest
import tiny_run

from betahead.explore.explorer import Explorer
from betahead.runs.opened import open_run

_RUNS = {
    "learned": (),
    "adapter": ("model.adapter={kind: lora, rank: 2}", "train.learning_rate=0.05"),
    "fixed": ("beta={kind: fixed, beta: 0.3}",),
    "batch": ("beta={kind: beta_dpo}",),
}


@pytest.fixture(scope="session")
def explorer_of(tmp_path_factory):
    """An explorer of the run of that name."""
    made = {}

    def explorer(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = Explorer(open_run(tiny_run.finished_run(folder, *_RUNS[name]).path, device="cpu"))
        return made[name]

    return explorer
