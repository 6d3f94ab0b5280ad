"""Progress in a notebook: a bar that is drawn in place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synthvlm.progress.display import SilentProgress
from synthvlm.progress.notebook import NotebookProgress, default_progress

pytest.importorskip("ipykernel", reason="the extra test brings it")


@pytest.fixture
def shell() -> Iterator[Any]:
    """IPython's shell, as it is in a terminal; what it displays is kept."""
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell

    # IPython's history would go into a database in the home folder.
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(history_length=0)
    shell.history_manager.enabled = False
    shell.display_pub = CapturingDisplayPublisher(shell=shell)
    yield shell
    InteractiveShell.clear_instance()


def test_a_bar_is_the_default_only_in_a_kernel(shell: Any) -> None:
    assert isinstance(default_progress(), SilentProgress)
    shell.kernel = object()
    assert isinstance(default_progress(), NotebookProgress)


def test_the_bar_is_drawn_in_place_and_texts_are_escaped(shell: Any) -> None:
    now = 0.0
    progress = NotebookProgress(lambda: now)
    progress.start("generate", 400, "candidates", done=100)
    progress.update_workers(2, 0.25, 3)
    progress.advance(10)  # at once: not drawn
    now = 10.0
    progress.advance(90)
    progress.note("<b>odd</b> \x1b[31m")
    progress.finish("generate", "400 candidates & more", ["<i>"])
    outputs = shell.display_pub.outputs
    assert [output["update"] for output in outputs] == [False, True, True, True]
    assert len({output["transient"]["display_id"] for output in outputs}) == 1
    first, moved, noted, finished = (output["data"]["text/html"] for output in outputs)
    assert '<progress max="400" value="100"></progress> 100/400 candidates' in first
    assert '<progress max="400" value="200"></progress> 200/400 candidates, ' in moved
    assert "2 workers, generator waits 25%, 3 failed" in moved
    assert "<div>&lt;b&gt;odd&lt;/b&gt; \\x1b[31m</div>" in noted
    assert "<progress" in noted
    assert "✓ <b>generate</b> 400 candidates &amp; more" in finished
    assert "&emsp;&lt;i&gt;" in finished
    assert "<progress" not in finished


CELL = """
from synthvlm import Pipeline, Recipe
Pipeline(Recipe.load("tiny", limit=3, overrides=["run.threads=1"]), {out!r}).run("curate")
"""


@pytest.mark.filterwarnings("default")  # of the kernel's libraries
def test_a_notebook_shows_progress_and_the_run(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    code = nbformat.v4.new_code_cell(CELL.format(out=str(tmp_path / "run")))
    notebook = nbformat.v4.new_notebook(cells=[code])
    nbclient.NotebookClient(notebook, timeout=120).execute()
    progress, run = notebook.cells[0].outputs
    assert progress.output_type == "display_data"
    assert "✓ <b>measure</b> 3 captions read" in progress.data["text/html"]
    assert run.output_type == "execute_result"
    assert "3 captions, " in run.data["text/html"]
