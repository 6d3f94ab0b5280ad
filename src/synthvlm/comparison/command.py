"""``synthvlm compare``: from what a user named to what is printed and written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.checks.current import refuse_outdated_files
from synthvlm.comparison.model_comparison import (
    ModelComparison,
    ModelResults,
    has_results,
    read_results,
)
from synthvlm.data_sets.inputs import KINDS, Named, open_data_set, parse_input
from synthvlm.errors import CaptionSourceError, RecipeError, RunFolderError

if TYPE_CHECKING:
    from synthvlm.comparison.data_set_comparison import DataSetComparison
    from synthvlm.comparison.settings import ComparisonSettings
    from synthvlm.data_sets.pairs import DataSet
    from synthvlm.progress.display import Progress

__all__ = ["compare", "compare_command", "open_inputs"]

_JSON, _PAGE, _BAD = "comparison.json", "report.html", "bad_records.jsonl"
#: Written and removed again, to see whether the folder can be written.
_WRITE_TEST = ".writable"

#: What can be compared, for messages.
_KINDS = f"{KINDS}, or a folder of `synthvlm eval --out`"


def compare_command(
    inputs: Sequence[str],
    settings: ComparisonSettings,
    *,
    out: str | None = None,
    as_json: bool = False,
    progress: Progress,
) -> str:
    """What ``synthvlm compare`` prints; see ``compare``."""
    compared = compare(inputs, settings, out=out, progress=progress)
    if as_json:
        return json.dumps(compared.values())
    if isinstance(compared, ModelComparison):
        return compared.text()
    from synthvlm.comparison.page import text_of

    return text_of(compared, out)


def compare(
    inputs: Sequence[str],
    settings: ComparisonSettings,
    *,
    out: str | None = None,
    progress: Progress,
) -> DataSetComparison | ModelComparison:
    """Compare data sets, or results of models.

    Args:
        inputs: As for ``parse_input``.
        settings: How data sets are compared.
        out: Folder, local or an fsspec URL, for ``comparison.json``, and of data sets for
            ``report.html`` and ``bad_records.jsonl``; None writes nothing, and makes no maps.
        progress: Shows the work.

    Raises:
        RecipeError: The inputs cannot be compared.
        CaptionSourceError: An input is missing, unreadable or empty.
        ModelError: A scorer's model cannot be loaded.
        PluginError: A scorer of a user fails.
        RunFolderError: The folder cannot be written.
    """
    opened = open_inputs(inputs)
    _check_writable(out)
    models = [one for one in opened if isinstance(one, ModelResults)]
    if models:
        from synthvlm.comparison.model_comparison import compare_models

        of_models = compare_models(models)
        _write(out, {_JSON: _pretty(of_models.values())})
        return of_models
    from synthvlm.comparison.data_set_comparison import compare_data_sets

    data_sets: list[DataSet] = [one for one in opened if not isinstance(one, ModelResults)]
    if not out:
        settings = replace(settings, map_points=0)
    comparison = compare_data_sets(data_sets, settings, progress)
    if out:
        _write(out, _files(comparison))
        progress.note(f"report: {out.rstrip('/')}/{_PAGE}")
    return comparison


def _files(comparison: DataSetComparison) -> dict[str, str]:
    from synthvlm.comparison.page import render

    bad = [
        {"data_set": one.label, "where": bad.where, "fault": bad.fault, "problem": bad.problem}
        for one in comparison.data_sets
        for bad in one.bad
    ]
    lines = "".join(json.dumps(row) + "\n" for row in bad)
    # By the first one the folder is a comparison's, whatever comes between.
    return {_JSON: _pretty(comparison.values()), _BAD: lines, _PAGE: render(comparison)}


def _pretty(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, indent=2) + "\n"


def _check_writable(out: str | None) -> None:
    """Fail before hours of work where the folder cannot be written."""
    from synthvlm.run_folder.folder import RunFolder

    if out is not None:
        folder = RunFolder(out)
        if not folder.exists(_JSON):
            for name in (_PAGE, _BAD):
                if folder.exists(name):
                    raise RunFolderError(
                        f"{out} holds a {name} that is of no comparison: take another --out"
                    )
        folder.write(_WRITE_TEST, b"")
        folder.remove(_WRITE_TEST)


def _write(out: str | None, files: dict[str, str]) -> None:
    from synthvlm.run_folder.folder import RunFolder

    if out is None:
        return
    folder = RunFolder(out)
    for name, text in files.items():
        folder.write(name, text.encode("utf-8", "replace"))


def open_inputs(texts: Sequence[str]) -> list[DataSet] | list[ModelResults]:
    """Recognise the inputs by what they are.

    Args:
        texts: As for ``parse_input``.

    Raises:
        RecipeError: Fewer than one input, equal labels, or data sets mixed with models.
        CaptionSourceError: A path is not there, or nothing that is known.
    """
    named = [parse_input(text) for text in texts]
    if not named:
        raise RecipeError(f"nothing to compare: name {_KINDS}")
    labels = [one.label for one in named]
    for label in labels:
        if labels.count(label) > 1:
            raise RecipeError(
                f"two inputs are called {label!r}: give them names, as in first={named[0].path}"
            )
    opened = [_opened(one) for one in named]
    models = [one for one in opened if isinstance(one, ModelResults)]
    if not models:
        return [one for one in opened if not isinstance(one, ModelResults)]
    if len(models) < len(opened):
        other = next(one for one in opened if not isinstance(one, ModelResults))
        raise RecipeError(
            f"{models[0].label} holds results of a model and {other.label} is a data set: compare "
            f"like with like"
        )
    return models


def _opened(named: Named) -> DataSet | ModelResults:
    try:
        has_some = has_results(Path(named.path))
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise CaptionSourceError(f"{named.path:.200}: {error.strerror}") from error
    if has_some:
        return read_results(named.label, Path(named.path))
    refuse_outdated_files(named.path)
    return open_data_set(named)
