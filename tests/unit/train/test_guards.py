import math
import re
from typing import Any

import pytest
import tiny
import torch

from betahead.errors import ConfigError
from betahead.train.guards import check_finite


def test_a_finite_end_passes_and_nothing_is_written() -> None:
    seen: list[dict[str, Any]] = []
    check_finite(tiny.qwen2(), {"train_loss": 0.6}, 3, seen.append)
    assert seen == []


def test_a_loss_or_a_weight_that_is_no_number_is_written_and_named() -> None:
    seen: list[dict[str, Any]] = []
    wanted = (
        "training must stay finite, but `train_loss` is nan at step 3; lower `train.learning_rate`, clip with "
        "`train.max_grad_norm`, or use `model.dtype: float32`."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        check_finite(tiny.qwen2(), {"train_loss": math.nan}, 3, seen.append)
    assert seen[0]["step"] == 3
    assert seen[0]["weights"] == []
    broken = tiny.qwen2()
    with torch.no_grad():
        broken.model.norm.weight[0] = math.inf
    with pytest.raises(ConfigError, match=r"^training must stay finite, but `model\.norm\.weight` is nan at step 5; "):
        check_finite(broken, {"train_loss": 0.6}, 5, seen.append)
    assert seen[1] == {"step": 5, "train_loss": 0.6, "weights": ["model.norm.weight"]}
