"""Run docs/tutorials/notebook.ipynb and keep what its cells show: python docs/run_notebook.py."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("tutorials") / "notebook.ipynb"


def main() -> None:
    """Run it in an empty folder; its path and warnings of libraries are not kept."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATASETS_CACHE"] = f"{folder}/cache"
        NotebookClient(notebook, resources={"metadata": {"path": folder}}).execute()
        for cell in notebook.cells:
            cell.metadata.clear()
            if cell.cell_type == "code":
                shown = [output for output in cell.outputs if output.get("name") != "stderr"]
                cell.outputs = shown
        text = nbformat.writes(notebook).replace(f"{folder}/", "")
    NOTEBOOK.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
