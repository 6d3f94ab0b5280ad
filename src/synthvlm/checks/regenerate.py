"""``synthvlm regenerate``: makes candidates again from their rows and compares them."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from synthvlm.checks.regenerated import Comparison, Regenerated, Regeneration
from synthvlm.data import WITH_IMAGE, Candidate, file_stem, score_column
from synthvlm.errors import RunFolderError, SynthVLMError
from synthvlm.progress.display import Progress
from synthvlm.progress.notebook import default_progress
from synthvlm.scorers import SCORERS

if TYPE_CHECKING:
    import numpy as np

    from synthvlm.recipe import Recipe
    from synthvlm.recipe.generation import ImageSettings
    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.stages.generation.models import Models
    from synthvlm.stages.generation.requests import ScoredImage

__all__ = ["regenerate"]

#: Statuses of candidates that had an image.
_GENERATED = (*WITH_IMAGE, "surplus", "unsafe")
#: Number of similar ids that are suggested for an unknown one.
_SUGGESTIONS = 3


def regenerate(
    run: RunFolder,
    recipe: Recipe,
    id: str,
    *,
    index: int | None = None,
    every: bool = False,
    to: str | None = None,
    progress: Progress | None = None,
    load_models: Callable[[Recipe], Models] | None = None,
) -> Regeneration:
    """Make the image of a caption's winner, of one candidate, or of all of them again.

    Args:
        run: The run folder.
        recipe: The recipe that the folder holds.
        id: The caption's id.
        index: Number of the candidate; by default that of the winner.
        every: Make all candidates again that were generated.
        to: Folder or URL to which each new image is written as PNG.
        progress: Shows notes of the generator.
        load_models: Loads the generator and the scorers; by default those of the recipe.

    Raises:
        RunFolderError: There is no such caption or candidate, or it was never generated.
        ModelError: A model cannot be loaded.
    """
    from synthvlm.stages.generation.batch_generator import BatchGenerator
    from synthvlm.stages.generation.models import Models
    from synthvlm.stages.generation.requests import GenerationRequest

    if index is not None and every:
        raise SynthVLMError("--index and --all cannot be used together")
    stored = _StoredCaption(run, recipe, id)
    rows, skipped = _rows_to_generate(stored, index, every=every)
    batch_generator = BatchGenerator(
        recipe, progress or default_progress(), load_models or Models.load
    )
    results = []
    with closing(batch_generator):
        # An image depends on its seed alone, not on the others in its batch.
        for row in rows:
            request = GenerationRequest(id, row.index, stored.text, row.seed, stored.questions())
            image = batch_generator.generate([request]).result()[0]
            if image.pixels is not None and row.scores.keys() - recipe.first_scorers.keys():
                image = batch_generator.score_finalists([image]).result()[0]
            results.append(_compared(stored, row, image, to))
    return Regeneration(id, stored.text, stored.shard, tuple(results), tuple(skipped))


class _StoredCaption:
    """What the run folder holds of a caption and its candidates."""

    def __init__(self, run: RunFolder, recipe: Recipe, id: str) -> None:
        from synthvlm.stages.fingerprints import candidate_fingerprint, image_fingerprint

        self.run, self.recipe, self.id = run, recipe, id
        self.shard, caption = _caption(run, id)
        if not caption["kept"]:
            raise RunFolderError(_rejection(id, caption))
        self.text = str(caption["text"])
        self.fingerprint = candidate_fingerprint(image_fingerprint(recipe), id, self.text)
        self.marker: Marker = _generated(run, self.shard, id)
        self.rows = [Candidate.of_row(row) for row in self._rows("candidates")]
        self.rows.sort(key=lambda row: row.index)
        if not self.rows:
            raise RunFolderError(
                f"caption {id!r} has no candidates yet: first run `synthvlm run --out "
                f"{shlex.quote(run.url)}`"
            )
        self.pairs = {row["index"]: row for row in self._rows("pairs")}
        self.thumbnails = {row["index"]: row["thumbnail"] for row in self._rows("previews")}

    def _rows(self, folder: str) -> Iterator[dict[str, Any]]:
        name = self.marker.file(folder)
        if name is not None:
            yield from self.run.iter_rows(name, "caption_id", {self.id})

    def questions(self) -> Mapping[str, Sequence[str]]:
        """The questions about the caption, by the names of the scorers that ask any."""
        from synthvlm.stages.generation.requests import Prompt
        from synthvlm.stages.questions import with_questions

        prompt = Prompt(self.id, self.text, self.fingerprint)
        return with_questions(self.run, self.recipe, self.shard, [prompt])[0].questions

    def encoding(self) -> ImageSettings:
        """How winners of the shard are encoded."""
        from synthvlm.stages.generation.pixels import encoding_of

        return encoding_of(self.marker.facts.get("encoding")) or self.recipe.generation.image


def _caption(run: RunFolder, id: str) -> tuple[int, dict[str, Any]]:
    """The shard and the row of a caption."""
    similar: list[str] = []
    for shard, marker in sorted(run.markers("curate").items()):
        name = marker.file("captions")
        if name is None:
            continue
        ids = run.read_table(name, ["id"])["id"].to_pylist()
        if id in ids:
            return shard, next(run.iter_rows(name, "id", {id}))
        similar += difflib.get_close_matches(id, ids, _SUGGESTIONS)
    similar = difflib.get_close_matches(id, similar, _SUGGESTIONS)
    hint = f" (similar ids: {', '.join(map(repr, similar))})" if similar else ""
    raise RunFolderError(f"{run.url} has no caption with the id {id!r}{hint}")


def _rejection(id: str, caption: dict[str, Any]) -> str:
    reason = caption["rejected_by"]
    line = f"caption {id!r} has no image: curation rejected it ({reason})"
    if caption["duplicate_of"] is not None:
        return f"{line}; it is a duplicate of {caption['duplicate_of']!r}, use that id"
    if caption["problem"] is not None:
        return f"{line}: {caption['problem']}"
    value = caption.get(reason)
    return line if value is None else f"{line}: its measure is {value:g}"


def _generated(run: RunFolder, shard: int, id: str) -> Marker:
    marker = run.marker("generate", shard)
    if marker is None:
        raise RunFolderError(
            f"the shard of caption {id!r} ({shard}) is not generated yet, or its files are lost: "
            f"first run `synthvlm run --out {shlex.quote(run.url)}`, or `synthvlm verify`"
        )
    return marker


def _rows_to_generate(
    stored: _StoredCaption, index: int | None, *, every: bool
) -> tuple[list[Candidate], list[str]]:
    """The rows to generate again, and one line for each that never was generated."""
    rows = {row.index: row for row in stored.rows}
    if every:
        generated = [row for row in stored.rows if row.status in _GENERATED]
        others = [row for row in stored.rows if row.status not in _GENERATED]
        return generated, [f"candidate {row.index}: {_why_not(row)}" for row in others]
    if index is None:
        winners = [row for row in stored.rows if row.chosen]
        if not winners:
            states = ", ".join(f"{row.index} {row.status}" for row in stored.rows)
            raise RunFolderError(
                f"caption {stored.id!r} has no winner (candidates: {states}): choose one by --index"
            )
        return winners, []
    if index not in rows:
        raise RunFolderError(
            f"caption {stored.id!r} has no candidate {index}: its candidates are 0 to {max(rows)}"
        )
    if rows[index].status not in _GENERATED:
        raise RunFolderError(f"candidate {index} of caption {stored.id!r} {_why_not(rows[index])}")
    return [rows[index]], []


def _why_not(row: Candidate) -> str:
    if row.status == "skipped":
        return "was never generated: its caption was done before"
    return f"has no image: it {row.status}" + (f" ({row.problem})" if row.problem else "")


def _compared(
    stored: _StoredCaption, row: Candidate, image: ScoredImage, to: str | None
) -> Regenerated:
    notes, scores = list(_notes(stored, row, image)), _scores(stored, row, image)
    if row.chosen and row.index not in stored.pairs:
        notes.append("its stored image is lost; see `synthvlm verify`")
    result = partial(
        Regenerated, row.index, row.seed, row.status, row.chosen, tuple(notes), scores=scores
    )
    if image.problem is not None:
        return result(problem=image.problem)
    if image.pixels is None:  # rejected by the safety check, now and perhaps also in its row
        unsafe = f"the safety check rejects it: {image.unsafe}"
        return result(problem=None if row.status == "unsafe" else unsafe)
    pair, thumbnail = stored.pairs.get(row.index), stored.thumbnails.get(row.index)
    return result(
        image=None if pair is None else _compare(image.pixels, pair["image"], stored.encoding()),
        thumbnail=None if thumbnail is None else _compare_thumbnail(image.pixels, thumbnail),
        file=None if to is None else _write(to, stored.id, row.index, image.pixels),
    )


def _notes(stored: _StoredCaption, row: Candidate, image: ScoredImage) -> Iterator[str]:
    if not (row.reproducible and image.reproducible):
        yield "its seed does not determine the image, so a different one is expected"
    if row.fingerprint != stored.fingerprint:
        yield "its row was made with another recipe, caption or models than the current ones"
    if row.status == "unsafe":
        yield f"the safety check rejected it ({row.problem}), so its image is not written"
    if row.status == "rejected":
        yield f"it was rejected: {row.problem}"
    if row.status == "surplus":
        yield "it does not count, because its caption was done before"
    for name, remark in image.remarks.items():
        yield f"{SCORERS.label(name)}, not fulfilled: {'; '.join(remark.splitlines())}"


def _scores(
    stored: _StoredCaption, row: Candidate, image: ScoredImage
) -> dict[str, tuple[float, float]]:
    from synthvlm.stages.generation.candidate_plan import row_of

    new = row_of(image, row.fingerprint, stored.recipe)
    pairs = {
        score_column(name): (row.scores[name], new.scores[name])
        for name in stored.recipe.scorers
        if name in row.scores and name in new.scores
    }
    if row.score is not None and new.score is not None:
        pairs["score"] = row.score, new.score
    return pairs


def _compare(pixels: np.ndarray, stored: bytes, settings: ImageSettings) -> Comparison:
    """Compare a new image with a stored one, after the same encoding: it may be lossy."""
    from synthvlm.stages.generation.pixels import decode, encode

    encoding = settings.format if settings.format == "png" else (
        f"{settings.format}-{settings.quality or 95}"
    )  # fmt: skip
    return _difference(decode(encode(pixels, settings)), decode(stored), encoding)


def _compare_thumbnail(pixels: np.ndarray, stored: bytes) -> Comparison:
    from synthvlm.stages.generation.pixels import decode, thumbnail

    return _difference(decode(thumbnail(pixels)), decode(stored), "webp-80")


def _difference(new: np.ndarray, stored: np.ndarray, encoding: str) -> Comparison:
    import numpy as np

    if new.shape != stored.shape:
        return Comparison(False, None, 255.0, 1.0, encoding)
    difference = np.abs(new.astype(np.int16) - stored.astype(np.int16)).max(axis=2)
    largest = int(difference.max())
    share = float((difference > 0).mean())
    return Comparison(largest == 0, largest, float(difference.mean()), share, encoding)


def _write(to: str, id: str, index: int, pixels: np.ndarray) -> str:
    from synthvlm.recipe.generation import ImageSettings
    from synthvlm.run_folder.storage import Storage
    from synthvlm.stages.generation.pixels import encode

    folder, name = Storage(to), f"{file_stem(id)}-{index}.png"
    folder.make()
    folder.write(name, encode(pixels, ImageSettings()))
    return folder.path(name)
