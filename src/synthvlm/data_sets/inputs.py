"""From what a user names to a data set: recognised by its files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, get_args

from synthvlm.captions.readers.files import find_files
from synthvlm.data_sets.conversation_tables import ConversationTables, text_column
from synthvlm.data_sets.conversations import holds_messages
from synthvlm.data_sets.pairs import Split, SplitFile
from synthvlm.data_sets.readers import ConversationDataSet, TableDataSet
from synthvlm.errors import CaptionSourceError, RecipeError

__all__ = ["KINDS", "KnownDataSet", "Named", "braces", "images_of", "open_data_set", "parse_input"]

_LABEL = re.compile(r"([^=/\\:*?\[{]+)=(.+)", re.DOTALL)
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_COMPRESSION = r"(\.(gz|bz2|xz|zst))?$"
Format = Literal["parquet", "webdataset"]
#: Files of a folder that make it a data set.
_TABLES = (
    # Shards before tables beside them: img2dataset writes one of each shard's captions alone.
    *("data/*.parquet", "*.tar", "*.parquet"),
    *("messages/*.parquet", "webdataset/*.tar"),
)
#: JSON files of a folder that make it one: those of each split, and the folder of their images.
_TALKS: tuple[tuple[dict[str, Split], str], ...] = (
    ({"llava.json": "train", "llava-validation.json": "validation"}, "images"),
    ({"train.jsonl": "train", "validation.jsonl": "validation"}, ""),
)
#: Names of files that are held out, where others are not.
_HELD_OUT = re.compile(r"(.*[-_.])?(validation|valid|val|dev|test)[-_.]")
#: What a data set can be, for messages.
KINDS = (
    "a run folder, a .json or .jsonl of LLaVA conversations or messages, WebDataset .tar, Parquet "
    "with images"
)


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
    return re.sub(rf"\.(json|jsonl|tar|parquet){_COMPRESSION}", "", name) or name


#: What a data set is recognised as.
KnownDataSet = ConversationDataSet | TableDataSet | ConversationTables


def open_data_set(named: Named, *, with_facts: bool = False) -> KnownDataSet:
    """Recognise a data set by its name and its files; whether a run's is current is not checked.

    Args:
        named: What a user named.
        with_facts: Whether ``Entry.facts`` are asked for: in a folder of several formats, the one
            that holds them is then read.

    Raises:
        CaptionSourceError: It is not there, or nothing that is known.
        RecipeError: It holds its images itself, and a folder of images is named.
    """
    try:
        return _open(named, with_facts)
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise CaptionSourceError(f"{named.path:.200}: {error.strerror}") from error


def _open(named: Named, with_facts: bool) -> KnownDataSet:
    path = Path(named.path)
    if path.is_dir():
        return _of_folder(named, path, with_facts)
    ending = re.sub(_COMPRESSION, "", named.path.lower())
    if ending.endswith((".json", ".jsonl")):
        if not path.is_file():
            raise CaptionSourceError(f"{named.path}: no such file")
        images = named.images or images_of(path)
        return ConversationDataSet(named.label, named.path, images)
    formats: tuple[tuple[str, Format], ...] = (
        (".tar", "webdataset"),
        (".parquet", "parquet"),
    )
    for suffix, kind in formats:
        if ending.endswith(suffix):
            if named.images is not None:
                raise RecipeError(f"{named.path} holds its images itself: leave out ::IMAGES")
            return _of_tables(named, kind, _named_files(named.path), with_facts)
    there = "not recognised" if path.exists() else "no such file"
    raise CaptionSourceError(f"{named.path}: {there}; expected {KINDS}")


def images_of(path: Path) -> str:
    """The folder that images of a JSON file are relative to, where none is named.

    Of LLaVA conversations, ``images/`` beside the file if it is there; else the file's own.
    """
    beside = path.parent / "images"
    return str(path.parent if not beside.is_dir() or holds_messages(str(path)) else beside)


def _of_folder(named: Named, path: Path, with_facts: bool) -> KnownDataSet:
    """A run folder, or what is in its ``dataset/``."""
    from synthvlm.run_folder.folder import RECIPE_FILE

    is_run = (path / RECIPE_FILE).is_file()
    folder = path / "dataset" if is_run else path
    if is_run and not (folder / "README.md").is_file():
        raise CaptionSourceError(
            f"{named.path} is a run without a finished data set: `synthvlm export --out "
            f"{named.path}` makes it"
        )
    tables = _tables_in(named, folder, with_facts) if with_facts else None
    data_set = tables or _talks_in(named, folder) or _tables_in(named, folder, with_facts)
    if data_set is not None:
        return data_set
    raise CaptionSourceError(f"{named.path}: no data set in this folder; expected {KINDS}")


def _talks_in(named: Named, folder: Path) -> KnownDataSet | None:
    for names, images in _TALKS:
        files = [
            SplitFile(str(folder / name), split)
            for name, split in names.items()
            if (folder / name).is_file()
        ]
        if files:
            there = named.images or str(folder / images)
            return ConversationDataSet(named.label, named.path, there, files)
    return None


def _tables_in(named: Named, folder: Path, with_facts: bool) -> KnownDataSet | None:
    names = _named_on_card(folder)
    patterns = ((pattern, sorted(folder.glob(pattern))) for pattern in _TABLES)
    there = next(((pattern, paths) for pattern, paths in patterns if paths), None)
    if not names and there is not None:
        names = _by_split(list(map(str, there[1])))
    if not names:
        return None
    kind: Format = "webdataset" if names[0].path.endswith(".tar") else "parquet"
    return _of_tables(named, kind, names, with_facts)


def _named_files(path: str) -> list[SplitFile]:
    """The files of globs and braces; as they were named, where none of them is held out."""
    named = braces(path)
    files = _by_split([file.path for one in named for file in find_files(one)])
    return files if any(file.split != "train" for file in files) else list(map(SplitFile, named))


def _by_split(paths: Sequence[str]) -> list[SplitFile]:
    """Files, those last that are held out by their names; if all are, none is."""
    is_held_out = [_HELD_OUT.match(Path(path).name) is not None for path in paths]
    if all(is_held_out):
        return list(map(SplitFile, paths))
    rest, held_out = (
        [path for path, is_one in zip(paths, is_held_out, strict=True) if is_one == side]
        for side in (False, True)
    )
    return [*map(SplitFile, rest), *(SplitFile(path, "validation") for path in held_out)]


def _of_tables(
    named: Named,
    kind: Format,
    files: Sequence[SplitFile],
    with_facts: bool,
) -> KnownDataSet:
    if kind == "parquet" and text_column(files[0].path) in ("messages", "conversations"):
        return ConversationTables(named.label, named.path, files)
    return TableDataSet(named.label, named.path, kind, files, with_facts=with_facts)


def _named_on_card(folder: Path) -> list[SplitFile]:
    """The files that the card of an exported data set names; none where it names none."""
    import yaml
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    card = folder / "README.md"
    text = card.read_text("utf-8-sig", "replace") if card.is_file() else ""
    header = REGEX_YAML_BLOCK.search(text)
    try:
        # The first of several is the one that `datasets` reads by default.
        config = yaml.safe_load(header[2] if header else "")["configs"][0]
        splits = {one["split"]: one["path"] for one in config["data_files"]}
    except (yaml.YAMLError, LookupError, TypeError, ValueError):
        return []  # no card of ours
    files: list[SplitFile] = []
    for split in get_args(Split):
        names = splits.pop(split, [])
        if not isinstance(names, list) or not all(_is_inside(folder, str(n)) for n in names):
            return []
        files += [SplitFile(str(folder / str(name)), split) for name in names]
    return [] if splits else files


def _is_inside(folder: Path, name: str) -> bool:
    """Whether a card names a file of its data set: it is untrusted."""
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts and (folder / path).is_file()


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
