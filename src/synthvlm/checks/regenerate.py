"""Make candidates of a finished run again from their rows, and compare them with what was kept."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from synthvlm.checks.opened_run import opened_run
from synthvlm.checks.regenerated import Comparison, Regenerated, Regeneration
from synthvlm.data import Candidate, file_stem, fingerprint, score_column
from synthvlm.errors import RunFolderError, SynthVLMError
from synthvlm.progress.display import Progress, SilentProgress
from synthvlm.progress.terminal import printable

if TYPE_CHECKING:
    import numpy as np

    from synthvlm.recipe import Recipe
    from synthvlm.recipe.generation import ImageSettings
    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.stages.generation.batch_generator import ScoredImage
    from synthvlm.stages.generation.models import Models

__all__ = ["regenerate", "regenerate_command"]

#: Statuses of candidates that have an image.
_DRAWN = ("ok", "surplus", "unsafe")
_NEAREST = 3


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
        recipe: The one that the folder holds.
        id: The caption's id.
        index: Number of the candidate; by default the winner's.
        every: All candidates that were drawn.
        to: Folder or URL where each new image goes as PNG.
        progress: Takes notes.
        load_models: Gives the generator and the scorers; by default those of the recipe.

    Raises:
        RunFolderError: There is no such caption or candidate, or it was never drawn.
        ModelError: A model cannot be loaded.
    """
    from synthvlm.stages.generation.batch_generator import BatchGenerator, GenerationRequest
    from synthvlm.stages.generation.models import Models

    if index is not None and every:
        raise SynthVLMError("--index and --all exclude each other: leave one out")
    kept = _Kept(run, recipe, id)
    rows, skipped = _wanted(kept, index, every=every)
    batch_generator = BatchGenerator(
        recipe, progress or SilentProgress(), load_models or Models.load
    )
    made = []
    with closing(batch_generator):
        # The image of a row is made of its seed alone, so it does not matter what else is drawn.
        for row in rows:
            request = GenerationRequest(id, row.index, kept.text, row.seed)
            made.append(_compared(kept, row, batch_generator.generate([request]).result()[0], to))
    return Regeneration(id, kept.text, kept.shard, tuple(made), tuple(skipped))


class _Kept:
    """What the run folder has of a caption and its candidates."""

    def __init__(self, run: RunFolder, recipe: Recipe, id: str) -> None:
        from synthvlm.stages.generation.prompts import image_fingerprint

        self.run, self.recipe, self.id = run, recipe, id
        self.shard, caption = _caption(run, id)
        if not caption["kept"]:
            raise RunFolderError(_rejection(id, caption))
        self.text = str(caption["text"])
        self.fingerprint = fingerprint(image_fingerprint(recipe), id, self.text)
        self.marker: Marker = _generated(run, self.shard, id)
        self.rows = [Candidate.of_row(row) for row in self._rows("candidates")]
        self.rows.sort(key=lambda row: row.index)
        if not self.rows:
            raise RunFolderError(
                f"caption {id!r} has no candidates yet: run `synthvlm run --out "
                f"{shlex.quote(run.url)}` first"
            )
        self.pairs = {row["index"]: row for row in self._rows("pairs")}
        self.thumbnails = {row["index"]: row["thumbnail"] for row in self._rows("previews")}

    def _rows(self, folder: str) -> Iterator[dict[str, Any]]:
        name = self.marker.file(folder)
        if name is not None:
            yield from self.run.iter_rows(name, "caption_id", {self.id})

    def encoding(self) -> ImageSettings:
        """How winners of the shard are encoded."""
        from synthvlm.stages.generation.pixels import encoding_of

        return encoding_of(self.marker.facts.get("encoding")) or self.recipe.generation.image


def _caption(run: RunFolder, id: str) -> tuple[int, dict[str, Any]]:
    """The shard and the row of a caption; ids are read shard by shard."""
    close: list[str] = []
    for shard, marker in sorted(run.markers("curate").items()):
        name = marker.file("captions")
        if name is None:
            continue
        ids = run.read_table(name, ["id"])["id"].to_pylist()
        if id in ids:
            return shard, next(run.iter_rows(name, "id", {id}))
        close += difflib.get_close_matches(id, ids, _NEAREST)
    nearest = difflib.get_close_matches(id, close, _NEAREST)
    hint = f": the nearest are {', '.join(map(repr, nearest))}" if nearest else ""
    raise RunFolderError(f"{run.url} has no caption with the id {id!r}{hint}")


def _rejection(id: str, caption: dict[str, Any]) -> str:
    reason = caption["rejected_by"]
    line = f"caption {id!r} has no image: curation rejected it by {reason}"
    if caption["duplicate_of"] is not None:
        return f"{line} of {caption['duplicate_of']!r}; ask for that one"
    if caption["problem"] is not None:
        return f"{line}: {caption['problem']}"
    value = caption.get(reason)
    return line if value is None else f"{line} (its measure is {value:g})"


def _generated(run: RunFolder, shard: int, id: str) -> Marker:
    marker = run.marker("generate", shard)
    if marker is None:
        raise RunFolderError(
            f"shard {shard}, that of caption {id!r}, is not generated yet, or its files are lost: "
            f"run `synthvlm run --out {shlex.quote(run.url)}`, or `synthvlm verify`, first"
        )
    return marker


def _wanted(kept: _Kept, index: int | None, *, every: bool) -> tuple[list[Candidate], list[str]]:
    """The rows to draw again, and lines on those that never were."""
    rows = {row.index: row for row in kept.rows}
    if every:
        drawn = [row for row in kept.rows if row.status in _DRAWN]
        told = [f"candidate {r.index}: {_why_not(r)}" for r in kept.rows if r.status not in _DRAWN]
        return drawn, told
    if index is None:
        winners = [row for row in kept.rows if row.chosen]
        if not winners:
            states = ", ".join(f"{row.index} {row.status}" for row in kept.rows)
            raise RunFolderError(
                f"no candidate of caption {kept.id!r} is chosen ({states}): ask for one by --index"
            )
        return winners, []
    if index not in rows:
        raise RunFolderError(
            f"caption {kept.id!r} has no candidate {index}: its candidates are 0 to {max(rows)}"
        )
    if rows[index].status not in _DRAWN:
        raise RunFolderError(f"candidate {index} of caption {kept.id!r} {_why_not(rows[index])}")
    return [rows[index]], []


def _why_not(row: Candidate) -> str:
    if row.status == "skipped":
        return "was never drawn: its caption was done before"
    return f"has no image: it {row.status}" + (f" ({row.problem})" if row.problem else "")


def _compared(kept: _Kept, row: Candidate, image: ScoredImage, to: str | None) -> Regenerated:
    notes, scores = list(_notes(kept, row, image)), _scores(kept, row, image)
    if row.chosen and row.index not in kept.pairs:
        notes.append("its stored image is lost: `synthvlm verify` says more")
    told = partial(
        Regenerated, row.index, row.seed, row.status, row.chosen, tuple(notes), scores=scores
    )
    if image.problem is not None:
        return told(problem=image.problem)
    pair, thumbnail = kept.pairs.get(row.index), kept.thumbnails.get(row.index)
    if image.pixels is None:  # the image check rejects it, whose row may say so too
        unsafe = f"the image check rejects it: {image.unsafe}"
        return told(problem=None if row.status == "unsafe" else unsafe)
    pair, thumbnail = kept.pairs.get(row.index), kept.thumbnails.get(row.index)
    return told(
        image=None if pair is None else _beside(image.pixels, pair["image"], kept.encoding()),
        thumbnail=None if thumbnail is None else _beside_thumbnail(image.pixels, thumbnail),
        file=None if to is None else _write(to, kept.id, row.index, image.pixels),
    )


def _notes(kept: _Kept, row: Candidate, image: ScoredImage) -> Iterator[str]:
    if not (row.reproducible and image.reproducible):
        yield "its seed does not determine the image: another one is to be expected"
    if row.fingerprint != kept.fingerprint:
        yield "its row was made by another recipe, caption or models than those of now"
    if row.status == "unsafe":
        yield f"the image check rejected it ({row.problem}): its image is not written"
    if row.status == "surplus":
        yield "it does not count: its caption is done before"


def _scores(kept: _Kept, row: Candidate, image: ScoredImage) -> dict[str, tuple[float, float]]:
    from synthvlm.stages.generation.candidate_rows import row_of

    new = row_of(image, row.fingerprint, kept.recipe)
    pairs = {
        score_column(name): (row.scores[name], new.scores[name])
        for name in kept.recipe.scorers
        if name in row.scores and name in new.scores
    }
    if row.score is not None and new.score is not None:
        pairs["score"] = row.score, new.score
    return pairs


def _beside(pixels: np.ndarray, stored: bytes, settings: ImageSettings) -> Comparison:
    """A new image beside a stored one, encoded in the same way: what is lossy changes pixels."""
    from synthvlm.stages.generation.pixels import decode, encode

    encoding = settings.format if settings.format == "png" else (
        f"{settings.format}-{settings.quality or 95}"
    )  # fmt: skip
    return _difference(decode(encode(pixels, settings)), decode(stored), encoding)


def _beside_thumbnail(pixels: np.ndarray, stored: bytes) -> Comparison:
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


def regenerate_command(
    url: str,
    id: str,
    *,
    index: int | None,
    every: bool,
    to: str | None,
    as_json: bool,
    progress: Progress,
) -> tuple[str, bool]:
    """``synthvlm regenerate``: what to print, and whether it is the same within rounding.

    Raises:
        SynthVLMError: As ``regenerate``; or it is no run folder.
    """
    run, recipe = opened_run(url)
    found = regenerate(run, recipe, id, index=index, every=every, to=to, progress=progress)
    if as_json:
        return json.dumps(found.values()), found.is_same
    return "\n".join(map(printable, found.lines())), found.is_same
