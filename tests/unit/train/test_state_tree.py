"""State goes into a file and comes back to the last bit, and nothing in the file can be run."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import resumed
import torch

from betahead.errors import ConfigError, DataError
from betahead.train.state_tree import read_tree, write_tree


def back(tree: Any, folder: Path) -> Any:
    write_tree(folder / "state.safetensors", tree)
    return read_tree(folder / "state.safetensors")


def test_tensors_numbers_texts_and_containers_come_back_as_they_were(tmp_path: Path) -> None:
    tree = {
        "state": {0: {"step": torch.tensor(3.0), "mean": torch.randn(2, 3)}, 7: {}},
        "halves": torch.randn(4).bfloat16(),
        "flags": torch.tensor([True, False]),
        "betas": (0.9, 0.999),
        "rows": [1, None, "ε", -0.0, float("inf"), 0.1 + 0.2],
        "array": np.arange(5, dtype=np.uint32),
        "empty": torch.zeros(0, 4),
    }
    found = back(tree, tmp_path)
    assert resumed.differences(tree, found) == []
    assert isinstance(found["betas"], tuple)
    assert isinstance(found["array"], np.ndarray)
    assert str(found["rows"][3]) == "-0.0"


def test_numbers_of_numpy_come_back_as_those_of_python(tmp_path: Path) -> None:
    found = back({"loss": np.float64(1.5), "step": np.int64(3)}, tmp_path)
    assert resumed.differences({"loss": 1.5, "step": 3}, found) == []


def test_no_number_stays_no_number(tmp_path: Path) -> None:
    assert str(back({"loss": float("nan"), "sums": torch.tensor([torch.nan])}, tmp_path)["loss"]) == "nan"


def test_views_of_one_tensor_and_turned_ones_come_back(tmp_path: Path) -> None:
    base = torch.randn(4, 6)
    tree = {"row": base[1], "column": base[:, 2], "turned": base.T, "all": base, "again": base}
    assert resumed.differences(tree, back(tree, tmp_path)) == []


def test_an_ordered_dict_comes_back_in_its_order(tmp_path: Path) -> None:
    assert list(back(OrderedDict([("b", 1), ("a", 2)]), tmp_path)) == ["b", "a"]


def test_what_is_no_plain_state_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        write_tree(tmp_path / "x.safetensors", {"state": [{"projector": object()}]}, key="optim")
    assert str(caught.value) == (
        "`optim.state[0].projector` must be made of tensors, numbers and texts to be kept in a checkpoint, but is a "
        "object instead; use another optimizer or schedule, or `save_only_model`."
    )
    with pytest.raises(ConfigError) as caught:
        write_tree(tmp_path / "x.safetensors", {(1, 2): 3}, key="optim")
    assert str(caught.value) == (
        "`optim` must have texts or whole numbers as keys to be kept in a checkpoint, but has (1, 2) instead; use "
        "another optimizer or schedule, or `save_only_model`."
    )


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"x" * 64])
def test_a_file_that_is_something_else_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_tree(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"`{path}` must hold the state of a training, but cannot be read (")
    assert sentence.endswith("); resume from another checkpoint.")


def test_others_may_read_the_file(tmp_path: Path) -> None:
    write_tree(tmp_path / "state.safetensors", {})
    assert (tmp_path / "state.safetensors").stat().st_mode & 0o777 == 0o644
