"""What is left of a merging that was cut off: put in its place, or left alone where all is done."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from betahead.runs.adapters import merge_policy
from betahead.runs.folder import RunFolder


@pytest.mark.parametrize("renamed", [False, True], ids=["between the renamings", "after them"])
def test_a_merging_that_is_all_written_is_ended_and_not_repeated(renamed: bool, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    whole = folder.policy if renamed else tmp_path / ".policy.merging"
    for place, name in ((whole, "model.safetensors"), (folder.adapter, "adapter_config.json")):
        place.mkdir()
        (place / name).write_text(name)
    # Nothing but whether to merge is read: there is no model to load.
    config = SimpleNamespace(model=SimpleNamespace(adapter=SimpleNamespace(merge=True)))
    merge_policy(cast("Any", config), folder)
    assert (folder.policy / "model.safetensors").read_text() == "model.safetensors"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "policy"]
