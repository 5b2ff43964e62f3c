"""Compiled, whole or block by block, a model has the loss and the gradients that it has uncompiled."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).parents[1] / "compiled_worker.py"


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_loss_and_every_gradient_are_those_of_the_model_uncompiled(backend: str) -> None:
    done = subprocess.run(
        [sys.executable, str(WORKER), backend], capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 5
    for way, off in found.items():
        # A key's bias and what it shifts alike for all have gradients that are rounding only.
        compared = {name: value for name, value in off.items() if not name.endswith("k_proj.bias")}
        assert len(compared) > 10 and max(compared.values()) <= 1e-6, (way, compared)
