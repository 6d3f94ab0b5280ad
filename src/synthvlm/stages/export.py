"""Export the selected pairs, in the order of the input, part by part."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.data import fingerprint
from synthvlm.exporters import EXPORTERS, ExportedPair, Exporter
from synthvlm.exporters.card import data_set_card
from synthvlm.stages.card_facts import card_facts
from synthvlm.stages.select import SELECTION_FILE
from synthvlm.stages.summary import StageSummary

if TYPE_CHECKING:
    from synthvlm.progress import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.store import Marker, RunFolder, StoredFile

__all__ = ["export"]

STAGE = "export"
#: Its only marker says that the data set is whole.
WHOLE = "dataset"
CARD_FILE = "README.md"
#: What exporters return of each part, for ``finish``.
PARTS_FOLDER = "export-parts"


@dataclass(frozen=True, slots=True)
class _Row:
    """A selected pair by name: its row of the selection, and where it stands in its shard."""

    caption_id: str
    index: int
    shard: int
    rank: int
    clip_score: float
    ssim_score: float
    score: float


def export(
    run: RunFolder,
    recipe: Recipe,
    captions: dict[int, Marker],
    generated: dict[int, Marker],
    progress: Progress,
) -> StageSummary:
    """Bring ``dataset/`` up to date with the selection.

    While it is being changed it has no card and no index: whoever finds those finds it whole.
    """
    began = time.monotonic()
    parts = _parts(run, recipe, generated)
    settings = recipe.export.model_dump(mode="json")
    wanted = {
        number: fingerprint(STAGE, settings, rows, _inputs(rows, captions, generated))
        for number, rows in enumerate(parts)
    }
    whole = fingerprint(WHOLE, sorted(wanted.items()), recipe.to_yaml(), settings)
    done = {n: m for n, m in run.markers(STAGE).items() if wanted.get(n) == m.fingerprint}
    final = run.markers(WHOLE).get(0)
    selected = sum(len(rows) for rows in parts)
    if final is not None and final.fingerprint == whole and len(done) == len(parts):
        seconds = time.monotonic() - began
        return StageSummary(STAGE, len(parts), len(parts), {"exported": selected}, seconds)
    progress.start(STAGE, selected, "pairs")
    if final is not None:
        for file in final.files:
            run.remove(file.path)
    exporters = _exporters(recipe)
    markers = {}
    for number, rows in enumerate(parts):
        if number in done:
            markers[number] = done[number]
        else:
            files = _write_part(run, exporters, number, rows, captions, generated)
            markers[number] = run.commit(STAGE, number, wanted[number], files)
        progress.advance(len(rows))
    files = _finish(run, recipe, exporters, markers, captions, generated)
    # Swept first: what the marker calls whole holds nothing else.
    run.sweep(STAGE, [PARTS_FOLDER], markers)
    _sweep_data_set(run, [*(file for marker in markers.values() for file in marker.files), *files])
    run.commit(WHOLE, 0, whole, files)
    seconds = time.monotonic() - began
    run.event("stage", stage=STAGE, seconds=round(seconds, 3), rows=selected)
    return StageSummary(STAGE, len(parts), len(done), {"exported": selected}, seconds)


def _exporters(recipe: Recipe) -> dict[str, Exporter]:
    arguments: dict[str, dict[str, Any]] = {"llava": {"instructions": recipe.export.instructions}}
    return {name: EXPORTERS[name](**arguments.get(name, {})) for name in recipe.export.formats}


def _parts(run: RunFolder, recipe: Recipe, generated: dict[int, Marker]) -> list[list[_Row]]:
    """The selected pairs in the order of the input, cut into parts."""
    selection = run.read_table(SELECTION_FILE).to_pylist()
    by_shard: dict[int, dict[str, _Row]] = {}
    for row in selection:
        by_shard.setdefault(row["shard"], {})[row["caption_id"]] = _Row(**row)
    ordered: list[_Row] = []
    for shard in sorted(by_shard):
        name = generated[shard].file("pairs")
        assert name is not None
        ids = run.read_table(name, ["caption_id"])["caption_id"].to_pylist()
        ordered += [by_shard[shard][id] for id in ids if id in by_shard[shard]]
    size = recipe.export.images_per_folder
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _inputs(
    rows: Sequence[_Row], captions: dict[int, Marker], generated: dict[int, Marker]
) -> list[str]:
    """Checksums of the files that a part is made of."""
    return [
        file.checksum
        for shard in sorted({row.shard for row in rows})
        for marker in (captions[shard], generated[shard])
        for file in marker.files
        if not file.path.startswith("previews/")
    ]


def _write_part(
    run: RunFolder,
    exporters: dict[str, Exporter],
    part: int,
    rows: Sequence[_Row],
    captions: dict[int, Marker],
    generated: dict[int, Marker],
) -> list[StoredFile]:
    files: list[StoredFile] = []

    def write(name: str, data: bytes) -> None:
        files.append(run.write(f"dataset/{name}", data))

    for name, exporter in exporters.items():
        kept = exporter.write_part(part, _pairs(run, rows, captions, generated), write)
        unique = uuid.uuid4().hex[:8]
        files.append(run.write(f"{PARTS_FOLDER}/{name}-{part:05d}-{unique}", kept))
    return files


def _pairs(
    run: RunFolder,
    rows: Sequence[_Row],
    captions: dict[int, Marker],
    generated: dict[int, Marker],
) -> Iterator[ExportedPair]:
    for shard in sorted({row.shard for row in rows}):
        wanted = {row.caption_id: row for row in rows if row.shard == shard}
        texts = _texts(run, captions[shard], wanted)
        seeds = _seeds(run, generated[shard], wanted)
        name = generated[shard].file("pairs")
        assert name is not None
        for pair in run.iter_rows(name, "caption_id", wanted):
            row = wanted[pair["caption_id"]]
            text, source = texts[row.caption_id]
            yield ExportedPair(
                id=row.caption_id,
                caption=text,
                image=pair["image"],
                format=pair["format"],
                width=pair["width"],
                height=pair["height"],
                source=source,
                rank=row.rank,
                clip_score=row.clip_score,
                ssim_score=row.ssim_score,
                score=row.score,
                seed=seeds[row.caption_id],
                index=row.index,
            )


def _texts(run: RunFolder, marker: Marker, wanted: dict[str, _Row]) -> dict[str, tuple[str, str]]:
    name = marker.file("captions")
    assert name is not None
    table = run.read_table(name, ["id", "text", "source"])
    return {
        row["id"]: (row["text"], row["source"]) for row in table.to_pylist() if row["id"] in wanted
    }


def _seeds(run: RunFolder, marker: Marker, wanted: dict[str, _Row]) -> dict[str, int]:
    name = marker.file("candidates")
    assert name is not None
    table = run.read_table(name, ["caption_id", "seed", "chosen"])
    return {
        row["caption_id"]: row["seed"]
        for row in table.to_pylist()
        if row["chosen"] and row["caption_id"] in wanted
    }


def _finish(
    run: RunFolder,
    recipe: Recipe,
    exporters: dict[str, Exporter],
    markers: dict[int, Marker],
    captions: dict[int, Marker],
    generated: dict[int, Marker],
) -> list[StoredFile]:
    files: list[StoredFile] = []

    def write(name: str, data: bytes) -> None:
        files.append(run.write(f"dataset/{name}", data))

    for name, exporter in exporters.items():
        kept = [
            next(f.path for f in marker.files if f.path.startswith(f"{PARTS_FOLDER}/{name}-"))
            for _, marker in sorted(markers.items())
        ]
        exporter.finish((run.read(path) for path in kept), write)
    facts = card_facts(run, recipe, captions, generated)
    write(CARD_FILE, data_set_card(facts).encode("utf-8"))
    return files


def _sweep_data_set(run: RunFolder, files: Sequence[StoredFile]) -> None:
    named = {file.path for file in files}
    for name in run.listing("dataset"):
        if name not in named:
            run.remove(name)
