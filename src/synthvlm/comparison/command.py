"""``synthvlm compare``: from what a user named to what is printed and written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.checks.current import refuse_outdated_files
from synthvlm.comparison.model_comparison import ModelResults, has_results, read_results
from synthvlm.data_sets.data_set import DataSet, LlavaDataSet, TableDataSet
from synthvlm.errors import CaptionSourceError, RecipeError, RunFolderError

if TYPE_CHECKING:
    from synthvlm.comparison.data_set_comparison import DataSetComparison
    from synthvlm.comparison.settings import ComparisonSettings
    from synthvlm.progress.display import Progress

__all__ = ["Named", "braces", "compare_command", "open_inputs", "parse_input"]

_JSON, _PAGE, _BAD = "comparison.json", "report.html", "bad_records.jsonl"
#: Written and removed again, to see whether the folder can be written.
_WRITE_TEST = ".writable"

_LABEL = re.compile(r"([^=/\\:*?\[{]+)=(.+)", re.DOTALL)
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
#: Files of a folder that make it a data set, and their format.
_FOLDERS = (
    ("data/*.parquet", "parquet"),
    ("*.parquet", "parquet"),
    ("*.tar", "webdataset"),
)
#: What a data set can be, for messages.
_KINDS = (
    "a run folder, a LLaVA .json or .jsonl, WebDataset .tar, Parquet with images, or a folder of "
    "`synthvlm eval --out`"
)


def compare_command(
    inputs: Sequence[str],
    settings: ComparisonSettings,
    *,
    out: str | None = None,
    as_json: bool = False,
    progress: Progress,
) -> str:
    """Compare data sets, or results of models.

    Args:
        inputs: As for ``parse_input``.
        settings: How data sets are compared.
        out: Folder, local or an fsspec URL, for ``comparison.json``, and of data sets for
            ``report.html`` and ``bad_records.jsonl``; None writes nothing, and makes no maps.
        as_json: Plain values instead of tables.
        progress: Shows the work.

    Returns:
        What to print.

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
        return json.dumps(of_models.values()) if as_json else of_models.text()
    from synthvlm.comparison.data_set_comparison import compare_data_sets
    from synthvlm.comparison.page import text_of

    data_sets: list[DataSet] = [one for one in opened if not isinstance(one, ModelResults)]
    if not out:
        settings = replace(settings, map_points=0)
    comparison = compare_data_sets(data_sets, settings, progress)
    if out:
        _write(out, _files(comparison))
        progress.note(f"report: {out.rstrip('/')}/{_PAGE}")
    return json.dumps(comparison.values()) if as_json else text_of(comparison, out)


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


@dataclass(frozen=True, slots=True)
class Named:
    """An input as it was given.

    Attributes:
        label: What it is called in tables.
        path: Where it lies.
        images: The folder of its images, where one was named.
    """

    label: str
    path: str
    images: str | None = None


def parse_input(text: str) -> Named:
    """Read ``[LABEL=]PATH[::IMAGES]``; without a label, the last part of the path is one.

    Raises:
        RecipeError: A part is empty, or a URL.
    """
    label, path = "", text
    if not os.path.exists(text) and (labelled := _LABEL.fullmatch(text)):
        label, path = labelled[1].strip(), labelled[2]
    path, separator, images = path.partition("::")
    if not path or (separator and not images):
        raise RecipeError(f"{text!r}: expected [LABEL=]PATH[::IMAGES], e.g. coco=coco.json::images")
    if "://" in path and not os.path.exists(path):
        raise RecipeError(
            f"{path:.200}: a URL; data sets are read from local files: fetch it first"
        )
    return Named(label or _label_of(path), path, images or None)


def _label_of(path: str) -> str:
    parts = [part for part in re.split(r"[/\\]", path) if part not in ("", ".", "dataset")]
    if not parts:
        return Path(path).resolve().name or path
    name = parts[-1]
    if name == "llava.json" and len(parts) > 1:
        return parts[-2]
    return re.sub(r"\.(json|jsonl|tar|parquet)(\.(gz|bz2|xz|zst))?$", "", name) or name


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
        return _open(named)
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise CaptionSourceError(f"{named.path:.200}: {error.strerror}") from error


def _open(named: Named) -> DataSet | ModelResults:
    path = Path(named.path)
    if has_results(path):
        return read_results(named.label, path)
    refuse_outdated_files(named.path)
    if path.is_dir():
        return _of_folder(named, path)
    ending = re.sub(r"\.(gz|bz2|xz|zst)$", "", named.path.lower())
    if ending.endswith((".json", ".jsonl")):
        if not path.is_file():
            raise CaptionSourceError(f"{named.path}: no such file")
        return LlavaDataSet(named.label, named.path, named.images or _images_beside(path))
    for suffix, kind in ((".tar", "webdataset"), (".parquet", "parquet")):
        if ending.endswith(suffix):
            if named.images is not None:
                raise RecipeError(f"{named.path} holds its images itself: leave out ::IMAGES")
            return TableDataSet(named.label, named.path, kind, braces(named.path))
    there = "not recognised" if path.exists() else "no such file"
    raise CaptionSourceError(f"{named.path}: {there}; expected {_KINDS}")


def _of_folder(named: Named, path: Path) -> DataSet:
    """A run folder, or what is in its ``dataset/``."""
    from synthvlm.run_folder.folder import RECIPE_FILE

    is_run = (path / RECIPE_FILE).is_file()
    folder = path / "dataset" if is_run else path
    if is_run and not (folder / "README.md").is_file():
        raise CaptionSourceError(
            f"{named.path} is a run without a finished data set: `synthvlm export --out "
            f"{named.path}` makes it"
        )
    index = folder / "llava.json"
    if index.is_file():
        images = named.images or str(folder / "images")
        return LlavaDataSet(named.label, str(index), images)
    if tables := _tables_on_card(folder):
        return TableDataSet(named.label, named.path, "parquet", tables)
    for pattern, kind in _FOLDERS:
        if any(folder.glob(pattern)):
            return TableDataSet(named.label, named.path, kind, [str(folder / pattern)])
    raise CaptionSourceError(f"{named.path}: no data set in this folder; expected {_KINDS}")


def _tables_on_card(folder: Path) -> list[str]:
    """The Parquet files that the card of an exported data set names; none where it names none."""
    import yaml
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    card = folder / "README.md"
    text = card.read_text("utf-8-sig", "replace") if card.is_file() else ""
    header = REGEX_YAML_BLOCK.search(text)
    try:
        (config,) = yaml.safe_load(header[2] if header else "")["configs"]
        names = config["data_files"][0]["path"]
    except (yaml.YAMLError, LookupError, TypeError, ValueError):
        return []  # no card of ours
    known = isinstance(names, list) and all((folder / str(name)).is_file() for name in names)
    return [str(folder / str(name)) for name in names] if known else []


def _images_beside(path: Path) -> str:
    beside = path.parent / "images"
    return str(beside if beside.is_dir() else path.parent)


def braces(path: str) -> list[str]:
    """The paths that braces stand for: ``{a,b}``, and ``{000..012}`` with its leading zeros.

    Raises:
        RecipeError: A range runs backward.
    """
    parts = _BRACES.split(path)
    choices = []
    for number, part in enumerate(parts):
        if number % 2 == 0:
            choices.append([part])
        elif numbers := _RANGE.fullmatch(part):
            first, last = int(numbers[1]), int(numbers[2])
            if last < first:
                raise RecipeError(f"{path}: the range {{{part}}} runs backward")
            choices.append([f"{n:0{len(numbers[1])}}" for n in range(first, last + 1)])
        else:
            choices.append(part.split(","))
    return ["".join(one) for one in product(*choices)]
