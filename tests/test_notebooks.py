"""The notebooks run from top to bottom, and are stored without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "experiments").glob("**/*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert not any(cell.outputs or cell.execution_count for cell in code)


def test_results_are_loaded_compared_and_plotted():
    path = ROOT / "experiments" / "tutorials" / "results.ipynb"
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    outputs = [each for cell in notebook.cells for each in cell.get("outputs", ())]
    texts = [each["data"]["text/plain"] for each in outputs if "data" in each]
    assert "quickstart: 5 methods x 2 seeds, 4 of 10 runs finished" in "".join(texts)
    assert sum("image/png" in each.get("data", {}) for each in outputs) == 3
