"""Export the selected pairs, in the order of the input, part by part."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import orjson

from synthvlm.components.component import LoadContext
from synthvlm.components.contract import contract
from synthvlm.data import fingerprint
from synthvlm.exporters import EXPORTERS, DataSetFacts, Exporter
from synthvlm.exporters.base import check_record
from synthvlm.exporters.card import TITLE, about, data_set_card
from synthvlm.exporters.configurations import configurations
from synthvlm.exporters.edited_card import card_facts_of, merged_card
from synthvlm.exporters.written_files import DescribedFiles, WrittenFiles, describes
from synthvlm.rights import terms_in_use
from synthvlm.run_folder.marks import read_marks
from synthvlm.stages.card_facts import card_facts, selected_by
from synthvlm.stages.curation.curate import totals
from synthvlm.stages.data_set_fingerprints import (
    data_set_fingerprint,
    part_fingerprints,
)
from synthvlm.stages.data_set_folder import (
    CARD_FILE,
    KEPT_CARD,
    DataSetFolder,
    FilesPresent,
    files_with_card,
    folders_of,
    keep_card,
    present_card,
)
from synthvlm.stages.image_marks import MARKS, UNMARKED, is_unmarked
from synthvlm.stages.selected_pairs import SelectedPairs
from synthvlm.stages.summary import StageSummary

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder, StoredFile
    from synthvlm.run_folder.marks import Marks

__all__ = ["FILES", "PARTS_FOLDER", "export", "is_current_data_set", "part_record_file"]

STAGE = "export"
#: Its only marker means that the data set is whole.
WHOLE = "dataset"
#: What exporters return of each part, for ``finish``; and which files each part has.
PARTS_FOLDER = "export-parts"
#: Names, sizes and checksums of a part's files in ``dataset/``. Not in the marker: together they
#: are millions.
FILES = "files"
#: Where a format describes the files of others, what it needs of those of a part.
DESCRIBED = "described"


def export(
    run: RunFolder,
    recipe: Recipe,
    captions: dict[int, Marker],
    generated: dict[int, Marker],
    progress: Progress,
) -> StageSummary:
    """Bring ``dataset/`` up to date with the selection, and remove what is not part of it.

    While it is being changed it has no card and no index: a data set that has them is whole.

    Raises:
        RecipeError: A caption holds a control token, by which a trainer would go wrong.
    """
    began = time.monotonic()
    selected = SelectedPairs(run, recipe, captions, generated)
    folder = DataSetFolder(run)
    expected_parts = part_fingerprints(recipe, selected)
    terms, marks = _terms(recipe), read_marks(run)
    present = FilesPresent(folder)
    card = present_card(run)
    earlier = run.markers(STAGE)
    done = {
        number: marker
        for number, marker in earlier.items()
        if expected_parts.get(number) == marker.fingerprint and present.has(_files(run, marker))
    }
    final = run.marker(WHOLE, 0)
    counts = {"exported": len(selected)}
    if (
        final is not None
        and is_current_data_set(recipe, expected_parts, captions, generated, marks, final)
        and final.facts.get("terms", terms) == terms
        and len(done) == len(expected_parts)
        and present.has(files_with_card(final, card))
    ):
        removed = _sweep(run, folder, done, final.facts["files"]) if present.has_others() else []
        if run.exists(KEPT_CARD):
            run.remove(KEPT_CARD)  # of an export that was killed when all else was done
        seconds = time.monotonic() - began
        return StageSummary(STAGE, len(done), len(done), counts, seconds, removed=removed)
    selected.refuse_control_tokens()
    selected.refuse_empty_split()
    if any(map(is_unmarked, earlier.values())):
        progress.note(f"note: the data set is exported again: {UNMARKED}")
    edited = keep_card(run, card, final)
    progress.start(STAGE, len(selected), "pairs")
    folder.remove(CARD_FILE)
    for name in () if final is None else final.facts["files"]:
        folder.remove(name)
    exporters = _exporters(recipe)
    markers = dict(done)
    for number, part in enumerate(selected.parts()):
        if number not in done:
            markers[number] = _write_part(
                run, folder, exporters, number, selected, part, expected_parts[number]
            )
        progress.advance(part.num_rows)
    # Swept first: a data set with a card has no file that belongs to no part.
    run.sweep(STAGE, [PARTS_FOLDER], markers)
    removed = _sweep(run, folder, markers)
    identity = _identity(markers)
    new_card = _card(run, recipe, captions, generated, markers, identity)
    merged = new_card
    if edited is not None:
        merged = merged_card(new_card, edited, None if final is None else final.facts.get("card"))
    facts = partial(_facts, recipe, selected, identity)
    files = _finish(run, folder, exporters, markers, facts, merged)
    expected = data_set_fingerprint(
        recipe, expected_parts, totals(captions), captions, generated, marks
    )
    whole_facts = {"files": files, "terms": terms, "card": card_facts_of(new_card)}
    run.commit(WHOLE, 0, expected, facts=whole_facts)
    run.remove(KEPT_CARD)
    seconds = time.monotonic() - began
    run.event("stage", stage=STAGE, seconds=round(seconds, 3), rows=len(selected))
    shards, written = len(markers), sorted(files)
    return StageSummary(STAGE, shards, len(done), counts, seconds, written=written, removed=removed)


def is_current_data_set(
    recipe: Recipe,
    parts: Mapping[int, str],
    captions: dict[int, Marker],
    generated: dict[int, Marker],
    marks: Marks,
    final: Marker,
) -> bool:
    """Whether a finished data set and its card are those of the recipe and of earlier stages.

    Args:
        recipe: The recipe.
        parts: Expected fingerprints of the parts.
        captions: Markers of the stage curate.
        generated: Markers of the stage generate.
        marks: The marks of pairs.
        final: The marker of the finished data set.
    """
    expected = data_set_fingerprint(recipe, parts, totals(captions), captions, generated, marks)
    return final.fingerprint == expected


def _terms(recipe: Recipe) -> list[list[str | None]]:
    """What the card says of whose terms; a model's own card may change in its folder."""
    used = terms_in_use(recipe)
    return [
        [one.part, one.shown_name, one.licence.title if one.licence else one.stated_licence]
        for one in used
    ]


def _card(
    run: RunFolder,
    recipe: Recipe,
    captions: dict[int, Marker],
    generated: dict[int, Marker],
    markers: Mapping[int, Marker],
    identity: str,
) -> str:
    """The card of the data set that the markers of its parts name, as no user has edited it."""
    names = (name for _, part in sorted(markers.items()) for name in _files(run, part))
    data_files = configurations(recipe.export.formats, names)
    facts = card_facts(run, recipe, captions, generated, data_files=data_files, identity=identity)
    return data_set_card(facts)


def _identity(markers: Mapping[int, Marker]) -> str:
    """A hash of the files of all parts."""
    parts = [marker for _, marker in sorted(markers.items())]
    return fingerprint(
        [file.checksum for part in parts for file in part.files if _is_record(file, FILES)]
    )


def _facts(
    recipe: Recipe, selected: SelectedPairs, identity: str, described: DescribedFiles
) -> DataSetFacts:
    """What a format that describes the others says of the data set."""
    return DataSetFacts(
        name=TITLE,
        description=about(len(selected), selected_by(recipe)),
        license=recipe.export.license,
        version=recipe.export.version,
        identity=identity,
        splits={split: count for split, count in selected.splits.items() if count},
        scores=tuple(recipe.scorers),
        files=described.files,
        image_folders=tuple(sorted(described.image_folders)),
    )


def _exporters(recipe: Recipe) -> dict[str, Exporter]:
    settings = recipe.export.exporters()
    return {name: EXPORTERS.load(name, settings[name], LoadContext()) for name in settings}


def _write_part(
    run: RunFolder,
    folder: DataSetFolder,
    exporters: Mapping[str, Exporter],
    number: int,
    selected: SelectedPairs,
    part: pa.Table,
    part_fingerprint: str,
) -> Marker:
    described = any(map(describes, exporters.values()))
    write = WrittenFiles(folder.write, described=described)
    stored = []

    def record(kind: str, data: bytes) -> None:
        unique = uuid.uuid4().hex[:8]
        stored.append(run.write(f"{_record_prefix(kind)}{number:05d}-{unique}", data))

    for name, exporter in exporters.items():
        with contract("exporter", name):
            data = exporter.write_part(number, selected.pairs(part), write)
        check_record(name, data)
        record(name, data)
    record(FILES, orjson.dumps(write.files))
    if write.described is not None:
        record(DESCRIBED, write.described.record())
    folder.sync()
    return run.commit(STAGE, number, part_fingerprint, stored, facts=MARKS)


def _finish(
    run: RunFolder,
    folder: DataSetFolder,
    exporters: Mapping[str, Exporter],
    markers: Mapping[int, Marker],
    facts: Callable[[DescribedFiles], DataSetFacts],
    card: str,
) -> dict[str, tuple[int, str]]:
    """Write the files on all parts: the indexes, what describes them, and last the card."""
    describing = {name: exporter for name, exporter in exporters.items() if describes(exporter)}
    write = WrittenFiles(folder.write_whole, described=bool(describing))

    def records(kind: str) -> Iterator[bytes]:
        return (_read_record(run, marker, kind) for _, marker in sorted(markers.items()))

    for name, exporter in exporters.items():
        with contract("exporter", name):
            exporter.finish(records(name), write)
    if write.described is not None:
        for record in records(DESCRIBED):
            write.described.add(record)
        whole = facts(write.described)
        for name, exporter in describing.items():
            with contract("exporter", name):
                exporter.describe(whole, write)
    write(CARD_FILE, [card.encode("utf-8")])
    return write.files


def part_record_file(marker: Marker, kind: str) -> str | None:
    """Path of the record of a part.

    Args:
        marker: Of the part.
        kind: Name of the exporter that returned it, or ``FILES``.

    Returns:
        None where there is none.
    """
    return next((file.path for file in marker.files if _is_record(file, kind)), None)


def _is_record(file: StoredFile, kind: str) -> bool:
    return file.path.startswith(_record_prefix(kind))


def _read_record(run: RunFolder, marker: Marker, kind: str) -> bytes:
    name = part_record_file(marker, kind)
    assert name is not None
    return run.read(name)


def _record_prefix(kind: str) -> str:
    """The beginning of the names of a kind of records."""
    return f"{PARTS_FOLDER}/{kind}-"


def _files(run: RunFolder, marker: Marker) -> dict[str, tuple[int, str]]:
    """Names, sizes and checksums of the files of a part."""
    files: dict[str, tuple[int, str]] = orjson.loads(_read_record(run, marker, FILES))
    return files


def _sweep(
    run: RunFolder,
    folder: DataSetFolder,
    markers: Mapping[int, Marker],
    whole: Iterable[str] = (),
) -> list[str]:
    """Remove from the data set what is not part of it, a folder at a time; returns the names.

    Args:
        run: The run folder.
        folder: The data set.
        markers: Of its parts.
        whole: Files on the data set as a whole.
    """
    removed: list[str] = []
    parts: dict[str, list[int]] = {}
    for number, marker in markers.items():
        for within in folders_of(_files(run, marker)):
            parts.setdefault(within, []).append(number)
    for within, present in folder.contents():
        unknown = set(present).difference(whole)
        for number in parts.get(within, ()):
            unknown.difference_update(_files(run, markers[number]))
        for name in sorted(unknown):
            folder.remove(name)
            removed.append(name)
    return removed
