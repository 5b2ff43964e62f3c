"""On CUDA with bitsandbytes: adapters on weights of four bits are trained, opened again and merged."""

import importlib.util
import json
from pathlib import Path

import pytest
import tiny_run
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from betahead.runs.opened import open_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or importlib.util.find_spec("bitsandbytes") is None,
        reason="needs a CUDA device and bitsandbytes",
    ),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize("merge", [False, True], ids=["kept", "merged"])
def test_four_bits_carry_an_adapter_that_learns(merge: bool, tmp_path: Path) -> None:
    adapter = f"model.adapter={{kind: qlora, rank: 2, merge: {str(merge).lower()}}}"
    run = tiny_run.finished_run(tmp_path, adapter, "train.use_cpu=false", "train.learning_rate=2.0e-2")
    steps = [json.loads(line) for line in run.metrics.read_text(encoding="utf-8").splitlines()]
    assert abs(steps[0]["margins/nats"]) < 1.0
    opened = open_run(run.path, device="cuda")
    if merge:
        whole, info = AutoModelForCausalLM.from_pretrained(run.policy, output_loading_info=True)
        assert not info["missing_keys"]
        assert not getattr(whole, "is_quantized", False)
    else:
        assert isinstance(opened.model.policy, PeftModel)
        assert opened.reference.adapters_off
        assert any(p.dtype == torch.uint8 for p in opened.model.policy.parameters())
