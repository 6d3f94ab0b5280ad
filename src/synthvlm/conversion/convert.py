"""``synthvlm convert``: read pairs as a stream, write each format, and last the card."""

from __future__ import annotations

import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.components.component import LoadContext
from synthvlm.components.contract import contract
from synthvlm.components.settings import Settings
from synthvlm.conversion.cards import foreign_card, run_card, titles
from synthvlm.conversion.place import Place
from synthvlm.conversion.sources import ForeignPairs, PairSource, SelectedRun
from synthvlm.data import fingerprint
from synthvlm.data_sets.run_pairs import RunPairs, open_pairs
from synthvlm.errors import CaptionSourceError, RecipeError, RunFolderError
from synthvlm.exporters import EXPORTERS, DataSetFacts, ExportedPair, Exporter, Split
from synthvlm.exporters.base import check_record
from synthvlm.exporters.written_files import describes
from synthvlm.recipe.export import ExportSettings
from synthvlm.recipe.problems import validated
from synthvlm.recipe.yaml_text import apply_change

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress

__all__ = ["convert"]

STAGE = "convert"
#: Settings of the export that decide of splits and marks.
_OF_RUNS = ("validation_share", "image_details", "c2pa")


class _Conversion(Settings):
    """The section ``export`` of a recipe, by itself."""

    export: ExportSettings


def convert(
    source: str,
    formats: Sequence[str],
    place: str,
    *,
    changes: Sequence[str] = (),
    max_failed_share: float = 0.01,
    progress: Progress,
) -> str:
    """Write the pairs of a run, or of any data set, in other formats to a new place.

    A run is not touched, and its images are marked as its own export marks them. Those of other
    data sets are copied byte by byte. The card comes last: a place that has one is whole. After a
    kill, the same call writes the place anew.

    Args:
        source: As for ``open_pairs``.
        formats: Names of exporters.
        place: A new or empty folder, local or at an fsspec URL.
        changes: Of the form ``export.KEY=VALUE``, as for a recipe.
        max_failed_share: Share of the records of a data set that may be no usable pairs.
        progress: Shows the work.

    Returns:
        What to print.

    Raises:
        SynthVLMError: With one line about what is wrong.
    """
    opened = open_pairs(source)
    settings = _settings(opened, formats, changes)
    _refuse_inside(place, opened.path)
    destination = Place(place)
    pairs: SelectedRun | ForeignPairs
    if isinstance(opened, RunPairs):
        pairs = SelectedRun(opened, opened.recipe.model_copy(update={"export": settings}))
    else:
        pairs = ForeignPairs(opened, settings.images_per_folder, max_failed_share, progress)
    identity = fingerprint(pairs.identity, settings.model_dump_json())
    with destination.claimed(pairs.path, identity, progress):
        progress.start(STAGE, pairs.count * len(settings.formats), "pairs")
        exporters = _exporters(settings)
        counts = {
            name: _write(name, exporter, pairs, destination, progress)
            for name, exporter in exporters.items()
        }
        splits = _agreed({n: each for n, each in counts.items() if each}, pairs.path)
        count = splits.total()
        _describe(exporters, pairs, settings, splits, destination)
        files, content = list(destination.described.files), destination.identity
        if isinstance(pairs, SelectedRun):
            card = run_card(pairs, files, content)
        else:
            card = foreign_card(pairs, settings, files, content, count)
        destination.write_card(card)
    details = [] if isinstance(pairs, SelectedRun) else list(_details(pairs))
    if destination.removed:
        details.append(f"removed of an attempt that was killed: {', '.join(destination.removed)}")
    progress.finish(STAGE, f"{count:,} pairs as {', '.join(settings.formats)}", details)
    return destination.url


def _settings(opened: object, formats: Sequence[str], changes: Sequence[str]) -> ExportSettings:
    export: dict[str, Any] = {}
    if isinstance(opened, RunPairs):
        export = opened.recipe.export.model_dump(mode="json")
        options = export.get("options", {})
        export["options"] = {name: options[name] for name in options if name in formats}
    values: dict[str, Any] = {"export": {**export, "formats": list(dict.fromkeys(formats))}}
    for change in changes:
        if not change.startswith("export."):
            raise RecipeError(
                f"--set {change}: a conversion has settings of export alone, such as "
                f"export.version=1.2.0"
            )
        apply_change(values, change)
    settings = validated(_Conversion, values, "convert").export
    for key in () if isinstance(opened, RunPairs) else _OF_RUNS:
        if getattr(settings, key) != ExportSettings.model_fields[key].default:
            raise RecipeError(
                f"export.{key} is for runs: pairs of other data sets stay in their split, and "
                f"their images as they are; leave it out"
            )
    return settings


def _refuse_inside(place: str, source: str) -> None:
    """Refuse a place within what is converted, or around it."""
    if "://" in source.removeprefix("file://"):
        inside = f"{place.rstrip('/')}/".startswith(f"{source.rstrip('/')}/")
    else:
        path, to = Path(source), Path(place.removeprefix("file://")).resolve()
        inside = "://" not in place and to.is_relative_to(path.resolve()) and not path.is_file()
    if inside:
        raise RunFolderError(f"{place} is inside {source}, which is converted: name another place")


def _exporters(settings: ExportSettings) -> dict[str, Exporter]:
    own = settings.exporters()
    return {name: EXPORTERS.load(name, own[name], LoadContext()) for name in own}


def _write(
    name: str, exporter: Exporter, pairs: PairSource, place: Place, progress: Progress
) -> Counter[Split]:
    """Write one format; returns its number of pairs of each split.

    What the exporter needs of each part until all are written waits in files: together they may be
    larger than the memory.
    """
    counts: Counter[Split] = Counter()

    def counted(part: Iterable[ExportedPair]) -> Iterator[ExportedPair]:
        for pair in part:
            counts[pair.split] += 1
            yield pair
            progress.advance(1)

    with tempfile.TemporaryDirectory(prefix="synthvlm-convert-") as folder:
        records = []
        for number, part in enumerate(pairs.parts()):
            stream = counted(part)
            with contract("exporter", name):
                kept = exporter.write_part(number, stream, place.write)
            check_record(name, kept)
            if describes(exporter) and not counts:
                break  # it has no pairs of its own
            deque(stream, maxlen=0)  # what it did not ask for
            records.append(Path(folder, str(number)))
            records[-1].write_bytes(kept)
        with contract("exporter", name):
            exporter.finish((record.read_bytes() for record in records), place.write_whole)
    return counts


def _agreed(counts: Mapping[str, Counter[Split]], path: str) -> Counter[Split]:
    if not counts:
        raise CaptionSourceError(
            f"{path}: no usable pair, or no format that holds pairs: nothing is converted"
        )
    first, *others = counts.values()
    if any(other != first for other in others):
        raise CaptionSourceError(
            f"{path} changed while it was converted ("
            + ", ".join(f"{name}: {splits.total():,} pairs" for name, splits in counts.items())
            + "): run the same command again"
        )
    return first


def _describe(
    exporters: Mapping[str, Exporter],
    pairs: SelectedRun | ForeignPairs,
    settings: ExportSettings,
    splits: Counter[Split],
    place: Place,
) -> None:
    """Write the formats that describe the files of the others."""
    describing = {name: exporter for name, exporter in exporters.items() if describes(exporter)}
    if not describing:
        return
    title, description, license = titles(pairs, settings, splits.total())
    facts = DataSetFacts(
        name=title,
        description=description,
        license=license,
        version=settings.version,
        identity=place.identity,
        splits=dict(splits.items()),
        scores=pairs.scorers,
        files=dict(place.described.files),
        image_folders=tuple(sorted(place.described.image_folders)),
    )
    for name, exporter in describing.items():
        with contract("exporter", name):
            exporter.describe(facts, place.write_whole)


def _details(pairs: ForeignPairs) -> Iterator[str]:
    yield from pairs.losses.lines()
    if pairs.numbered:
        yield f"{pairs.numbered:,} records share their id with another: they got a number"
    if pairs.shortened:
        yield f"{pairs.shortened:,} conversations have more turns: only the first answer is taken"
