"""Captions that are piped in: standard input in place of a source."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synthvlm.errors import CaptionSourceError
from synthvlm.recipe.recipe import Recipe
from synthvlm.recipe.sources import STDIN

__all__ = ["captions_piped_in"]


@contextmanager
def captions_piped_in(recipe: Recipe) -> Iterator[tuple[Recipe, Path | None]]:
    """The recipe with standard input as a file, where a source of it is ``-``.

    The file is gone when the context ends; a run keeps a copy.

    Raises:
        CaptionSourceError: Nothing is piped in.
    """
    if all(source.path != STDIN for source in recipe.sources):
        yield recipe, None
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise CaptionSourceError(
            "nothing is piped in for --captions -: cat FILE | synthvlm ..., or --captions FILE"
        )
    with tempfile.TemporaryDirectory(prefix="synthvlm-") as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        if not path.stat().st_size:
            raise CaptionSourceError("standard input is empty: it holds no captions")
        sources = []
        for source in recipe.sources:
            if source.path == STDIN:
                format = _format_of(path) if source.format == "auto" else source.format
                is_table = source.delimiter is not None or not source.header
                if format == "txt" and (is_table or source.text_field != "caption"):
                    format = "tsv"
                source = source.model_copy(update={"path": str(path), "format": format})
            sources.append(source)
        yield recipe.model_copy(update={"sources": sources}), path


def _format_of(path: Path) -> str:
    """The format of captions without a name, by how they begin."""
    from synthvlm.captions.readers.files import READ_ERRORS, find_files

    try:
        with find_files(str(path))[0].open() as file:
            start = file.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()
    except READ_ERRORS:
        return "txt"
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith((b"{", b"[")):
        return "json"
    first = start.splitlines()[0] if start else b""
    cells = [cell.strip(b' "') for cell in re.split(rb"[,;|\t]", first)]
    if len(cells) > 1 and b"caption" in cells:
        return "tsv" if b"\t" in first else "csv"
    return "txt"
