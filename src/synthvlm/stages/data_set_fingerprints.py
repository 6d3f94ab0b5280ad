"""What the selection and the data set depend on; see ``fingerprints`` for all before them.

The hashed strings and the order of values are fixed, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from synthvlm.components.settings import chosen_values, identity_values
from synthvlm.data import fingerprint
from synthvlm.exporters import EXPORTERS
from synthvlm.models.model_files import identify
from synthvlm.recipe.yaml_text import without_url_secrets
from synthvlm.selectors import SELECTORS
from synthvlm.stages.image_marks import what_marks_depend_on
from synthvlm.stages.image_overlap import references_fingerprint
from synthvlm.stages.selection_columns import input_folders

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker
    from synthvlm.run_folder.marks import Marks
    from synthvlm.stages.selected_pairs import SelectedPairs

__all__ = [
    "data_set_fingerprint",
    "part_fingerprints",
    "selection_fingerprint",
    "whole_fingerprint",
]

#: Version of the records of exported parts; parts with older records are written again.
_RECORDS = "checksums"


def selection_fingerprint(
    recipe: Recipe,
    captions: Mapping[int, Marker],
    generated: Mapping[int, Marker],
    marks: Marks,
) -> str:
    """What the selection depends on.

    Its settings, the candidates of all shards, the other tables that its method reads, the content
    of reference images, and marks.

    Args:
        recipe: The recipe.
        captions: Markers of the stage curate.
        generated: Markers of the stage generate.
        marks: The marks of pairs.

    Raises:
        CaptionSourceError: Reference images cannot be read.
    """
    settings, folders = recipe.selection, input_folders(recipe)
    more: list[object] = []
    if "pairs" in folders:
        more.append(_checksums(generated, "pairs"))
    if "captions" in folders:
        present = {shard: captions[shard] for shard in generated if shard in captions}
        concepts = recipe.curation.concepts
        more += [_checksums(present, "captions"), None if concepts is None else concepts.concepts]
    if settings.image_overlap is not None:
        more.append(references_fingerprint(settings.image_overlap))
    return fingerprint(
        "select",
        identity_values(settings, identify),
        SELECTORS.identity(settings.method, settings.selector, identify),
        _checksums(generated, "candidates"),
        *more,
        *([] if recipe.target is None else [recipe.target.pairs]),
        *marks.identity,
    )


def _checksums(markers: Mapping[int, Marker], folder: str) -> list[tuple[int, str]]:
    return [
        (shard, file.checksum)
        for shard in sorted(markers)
        for file in markers[shard].files
        if file.folder == folder
    ]


def part_fingerprints(recipe: Recipe, selected: SelectedPairs) -> dict[int, str]:
    """What each part depends on: its pairs, the files they come from, their marks, the settings."""
    formats = [
        EXPORTERS.identity(name, settings, identify)
        for name, settings in recipe.export.exporters().items()
    ]
    same = "export", _RECORDS, formats, what_marks_depend_on(recipe)
    return {
        number: fingerprint(*same, part.to_pydict(), selected.inputs(part))
        for number, part in enumerate(selected.parts())
    }


def whole_fingerprint(recipe: Recipe, parts: Mapping[int, str]) -> str:
    """What the data set as a whole depends on: its parts, and for its card the recipe.

    The card shows every setting; one that is new in a release is no reason to write it again.
    """
    # As the recipe of the folder has them: the secrets of URLs are not written to it.
    chosen = without_url_secrets(chosen_values(recipe))
    return fingerprint("dataset", _RECORDS, sorted(parts.items()), chosen)


def data_set_fingerprint(
    recipe: Recipe,
    parts: Mapping[int, str],
    counts: Mapping[str, int],
    captions: Mapping[int, Marker],
    generated: Mapping[int, Marker],
    marks: Marks,
) -> str:
    """What the data set and all that its card says depend on.

    Args:
        recipe: The recipe.
        parts: Of ``part_fingerprints``.
        counts: Captions read, kept, and rejected by each rule.
        captions: The shards of captions.
        generated: The shards of candidates, whose scores and statuses the card sums up.
        marks: The marks of pairs.
    """
    whole = whole_fingerprint(recipe, parts)
    selection = selection_fingerprint(recipe, captions, generated, marks)
    return fingerprint(whole, sorted(counts.items()), selection)
