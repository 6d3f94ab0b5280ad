"""``synthvlm compare``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from synthvlm.comparison.inputs import open_inputs
from synthvlm.comparison.model_comparison import ModelResults
from synthvlm.errors import RecipeError, RunFolderError
from synthvlm.progress.terminal import printable

if TYPE_CHECKING:
    from synthvlm.comparison.data_set_comparison import DataSetComparison
    from synthvlm.comparison.data_sets import DataSet
    from synthvlm.progress.display import Progress

__all__ = ["DEFAULT_CLIP", "compare_command", "parse_sample"]

#: As in the paper.
DEFAULT_CLIP = "openai/clip-vit-base-patch32"

_JSON, _PAGE, _BAD = "comparison.json", "report.html", "bad_records.jsonl"
_TRIED = ".writable"


def parse_sample(text: str) -> int | None:
    """Pairs to score, a number of at least 2; None for ``all``.

    Raises:
        RecipeError: It is neither.
    """
    if text == "all":
        return None
    if not text.isascii() or not text.isdecimal() or int(text[:9]) < 2:
        raise RecipeError(f"--sample {text}: expected a number of pairs, at least 2, or all")
    return int(text[:9])


def compare_command(
    inputs: Sequence[str],
    *,
    out: str | None = None,
    sample: int | None = 1000,
    clip: str = DEFAULT_CLIP,
    revision: str | None = None,
    device: str = "auto",
    mapped: int = 1000,
    seed: int = 0,
    as_json: bool = False,
    progress: Progress,
) -> str:
    """Compare data sets, or results of models.

    Args:
        inputs: As for ``comparison.inputs.parse_input``.
        out: Folder, local or an fsspec URL, for ``comparison.json``, and of data sets for
            ``report.html`` and ``bad_records.jsonl``; None writes nothing, and makes no maps.
        sample: Of data sets, pairs of each to score; None for all.
        clip: Hub id or folder of a CLIP model, or ``tiny``.
        revision: Of the CLIP model on the hub.
        device: Torch device, or ``auto``.
        mapped: Pairs of each data set on the maps; 0 for no maps.
        seed: Of the maps.
        as_json: Plain values instead of tables.
        progress: Shows the work.

    Returns:
        What to print.

    Raises:
        RecipeError: The inputs cannot be compared.
        CaptionSourceError: An input is missing, unreadable or empty.
        ModelError: The CLIP model cannot be loaded.
        RunFolderError: The folder cannot be written.
    """
    opened = open_inputs(inputs)
    _check_writable(out)
    models = [one for one in opened if isinstance(one, ModelResults)]
    if models:
        from synthvlm.comparison.model_comparison import compare_models

        found = compare_models(models)
        _write(out, {_JSON: _pretty(found.values())})
        return json.dumps(found.values()) if as_json else printable(found.text())
    from synthvlm.comparison.data_set_comparison import compare_data_sets
    from synthvlm.comparison.page import text_of

    data_sets: list[DataSet] = [one for one in opened if not isinstance(one, ModelResults)]
    compared = compare_data_sets(
        data_sets,
        sample=sample,
        clip=clip,
        revision=revision,
        device=device,
        mapped=mapped if out else 0,
        seed=seed,
        progress=progress,
    )
    if out:
        _write(out, _files(compared))
        progress.note(f"report: {out.rstrip('/')}/{_PAGE}")
    return json.dumps(compared.values()) if as_json else printable(text_of(compared, out))


def _files(compared: DataSetComparison) -> dict[str, str]:
    from synthvlm.comparison.page import render

    bad = [
        {"data_set": one.label, "where": bad.where, "fault": bad.fault, "problem": bad.problem}
        for one in compared.data_sets
        for bad in one.bad
    ]
    lines = "".join(json.dumps(row) + "\n" for row in bad)
    # By the first one the folder is a comparison's, whatever comes between.
    return {_JSON: _pretty(compared.values()), _BAD: lines, _PAGE: render(compared)}


def _pretty(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, indent=2) + "\n"


def _check_writable(out: str | None) -> None:
    """Say what cannot be written before hours of work."""
    from synthvlm.run_folder.folder import RunFolder

    if out is not None:
        folder = RunFolder(out)
        if not folder.exists(_JSON):
            for name in (_PAGE, _BAD):
                if folder.exists(name):
                    raise RunFolderError(
                        f"{out} holds a {name} that is of no comparison: take another --out"
                    )
        folder.write(_TRIED, b"")
        folder.remove(_TRIED)


def _write(out: str | None, files: dict[str, str]) -> None:
    from synthvlm.run_folder.folder import RunFolder

    if out is None:
        return
    folder = RunFolder(out)
    for name, text in files.items():
        folder.write(name, text.encode("utf-8", "replace"))
