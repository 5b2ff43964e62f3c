"""The notebook runs from its first cell to its last, and is committed with what it showed."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "beta_per_prompt.ipynb"
LENGTH = "STEPS, TOKENS = 60, 60_000"


def shown(notebook: Any) -> list[dict[str, Any]]:
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def test_every_cell_runs_in_a_short_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = [cell for cell in notebook.cells if LENGTH in cell.source]
    cell.source = cell.source.replace(LENGTH, "STEPS, TOKENS = 4, 6_000")
    monkeypatch.setenv("PYTHONPATH", f"{NOTEBOOK.parent}:{NOTEBOOK.parents[1] / 'src'}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    done = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = [set(output.get("data", ())) for output in shown(done)]
    assert sum("image/svg+xml" in kind for kind in kinds) == 2
    assert not [output for output in shown(done) if output["output_type"] == "error"]


def test_it_is_committed_with_its_output_and_without_a_trace_of_where_it_ran() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    assert len(text) < 200_000
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert sum("image/svg+xml" in output.get("data", ()) for output in shown(notebook)) == 2
    assert [output for output in shown(notebook) if output["output_type"] in {"stream", "error"}] == []
    assert "/home/" not in text and "/tmp/" not in text
    assert json.loads(text)["metadata"]["language_info"] == {"name": "python"}
