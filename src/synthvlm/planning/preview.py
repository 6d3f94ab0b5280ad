"""``synthvlm preview``: a few captions through every stage, to look at before a run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from synthvlm.errors import RecipeError, RunFolderError
from synthvlm.pipeline import Pipeline
from synthvlm.planning.clock import StageClock
from synthvlm.planning.contact_sheet import contact_sheet as draw_contact_sheet
from synthvlm.planning.previewed import PreviewedCaption, read_previewed
from synthvlm.planning.sample_captions import (
    TERMS_CHECKED,
    WHOLE_SET,
    curate_sample,
    read_pool,
    sample_sources,
)
from synthvlm.progress.notebook import default_progress
from synthvlm.report import write_curation_report, write_report
from synthvlm.rights import check_terms
from synthvlm.run_folder.folder import RunFolder

if TYPE_CHECKING:
    from synthvlm.data import Caption
    from synthvlm.planning.sample_captions import CaptionPool
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.stages.curation.curated import CuratedCaption

__all__ = ["Preview", "preview"]

#: Captions among which they are chosen, where the recipe has no limit: read in about a second.
_READ = 100_000
#: Captions that are chosen at least, for rules that keep few; and how many a pair.
_CHOSEN, _CHOSEN_PER_PAIR = 400, 40
#: Captions that are curated first, for each pair.
_CURATED_PER_PAIR = 4
_HIDDEN = ("measure", "curate", "select")
#: Rejected captions that are printed.
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Preview:
    """A few captions that went through every stage.

    Attributes:
        captions: The kept ones, in the order of their sources.
        rejected: Those that a rule rejected.
        notes: Which captions these are, and what of the recipe is left out.
        folder: The run that is kept; None where none is.
        reports: Its two HTML reports.
    """

    captions: tuple[PreviewedCaption, ...]
    rejected: tuple[CuratedCaption, ...]
    notes: tuple[str, ...]
    folder: str | None = None
    reports: tuple[str, ...] = ()

    def head(self) -> str:
        """The counts, the notes, and the rejected captions with their reasons."""
        read = len(self.captions) + len(self.rejected)
        lines = [f"{read:,} captions curated, {len(self.captions):,} kept", *self.notes]
        if self.rejected:
            lines += ["", "rejected:"]
        for caption in self.rejected[:_SHOWN]:
            lines.append(f"  {_line(caption.id)}  {caption.rejected_by}: {_line(caption.reason)}")
            lines.append(f"      {_line(caption.text) or '(no text)'}")
        if len(self.rejected) > _SHOWN:
            first = "give --keep FOLDER, then: " if self.folder is None else ""
            named = "FOLDER" if self.folder is None else shlex.quote(self.folder)
            more = f"{len(self.rejected) - _SHOWN:,} more"
            lines.append(f"  and {more}: {first}synthvlm captions {named} --rejected")
        return "\n".join(lines)

    def about(self, number: int) -> str:
        """A caption, why its winner won, and whether it is selected."""
        caption = self.captions[number]
        lines = [f"{number + 1}. {_line(caption.text)}  ({_line(caption.id)})"]
        return "\n".join([*lines, *(f"   {_line(line)}" for line in caption.text_lines())])

    def end(self) -> str:
        """How many are selected, and what is kept."""
        selected = sum(caption.rank is not None for caption in self.captions)
        lines = [f"{selected:,} of {len(self.captions):,} captions are selected"]
        if self.folder is not None:
            lines += [f"kept: {self.folder}", *(f"report: {name}" for name in self.reports)]
        return "\n".join(lines)

    def text(self) -> str:
        """All of it, without pictures."""
        about = map(self.about, range(len(self.captions)))
        return "\n\n".join([self.head(), *about, self.end()])

    def values(self) -> dict[str, Any]:
        """Plain values for JSON, without pictures."""
        captions = []
        for caption in self.captions:
            values = asdict(caption)
            del values["pictures"]
            captions.append(values)
        return {
            "captions": captions,
            "rejected": [
                {"id": one.id, "text": one.text, "rejected_by": one.rejected_by, "why": one.reason}
                for one in self.rejected
            ],
            "notes": list(self.notes),
            "folder": self.folder,
            "reports": list(self.reports),
        }

    def _repr_png_(self) -> bytes:
        return draw_contact_sheet(self.captions)


def preview(
    recipe: Recipe,
    *,
    pairs: int = 10,
    keep: str | Path | None = None,
    contact_sheet: str | Path | None = None,
    progress: Progress | None = None,
) -> Preview:
    """Take a few captions of a recipe through curation, generation, scores and selection.

    They are chosen by a hash with the seed of the recipe, and curated until as many are kept as
    asked for. Nothing is left behind unless it is asked for. A notebook shows the candidates as a
    picture.

    Args:
        recipe: The whole run's.
        pairs: Kept captions to generate images for.
        keep: A new folder, or URL, of the run that was made, with both reports.
        contact_sheet: A file for all candidates as one PNG.
        progress: Shows the work.

    Raises:
        RecipeError: No caption is kept, no image can be generated, or a model writes the captions.
        RunFolderError: The folder or the file cannot be written.
        SynthVLMError: What a run would raise.
    """
    progress = progress or default_progress()
    sheet = None if contact_sheet is None else _checked_file(Path(contact_sheet))
    for note in check_terms(recipe):
        progress.note(note)
    shown = StageClock(progress, hidden=_HIDDEN)
    with _home(keep) as home:
        pool = _pool(recipe, pairs, shown)
        captions = _enough_captions(recipe, pool, pairs, shown)
        recipe_here = _without_whole_set(recipe, pairs)
        sources = sample_sources(recipe_here, captions, home)
        recipe_here = recipe_here.model_copy(update={"sources": sources, "limit": None})
        run = Pipeline(recipe_here, home.url, progress=shown).run("select")
        kept_captions, rejected = read_previewed(run)
        rows = [row for caption in kept_captions for row in caption.candidates]
        if not any(row.status == "ok" for row in rows):
            problem = next((row.problem for row in rows if row.problem is not None), "no candidate")
            raise RecipeError(f"none of {len(rows)} images is of use: {problem}")
        result = Preview(tuple(kept_captions), tuple(rejected), tuple(_notes(recipe, pool)))
        if keep is not None:
            with home.held(note=progress.note):
                page = write_curation_report(home, run.recipe, home.markers("curate"))
                write_report(home, run.recipe, shown)
            reports = (run.report or "", page)
            result = replace(result, folder=home.path(""), reports=reports)
        if sheet is not None:
            _write(sheet, result)
    return result


@contextmanager
def _home(keep: str | Path | None) -> Iterator[RunFolder]:
    if keep is None:
        with TemporaryDirectory(prefix="synthvlm-preview-") as folder:
            yield RunFolder(folder)
        return
    home = RunFolder(keep)
    if home.listing(""):
        raise RunFolderError(f"{home.url} is not empty: --keep names a new folder")
    yield home


def _checked_file(file: Path) -> Path:
    if file.suffix.lower() != ".png":
        raise RunFolderError(f"{file}: a contact sheet is a PNG: name a file that ends with .png")
    if file.is_dir() or not file.parent.is_dir():
        problem = "a folder" if file.is_dir() else f"in {file.parent}, which is no folder"
        raise RunFolderError(f"the contact sheet {file} is {problem}: name a file")
    return file


def _write(file: Path, result: Preview) -> None:
    try:
        file.write_bytes(draw_contact_sheet(result.captions))
    except OSError as error:
        raise RunFolderError(f"cannot write {file}: {error.strerror or error}") from error


def _pool(recipe: Recipe, pairs: int, progress: Progress) -> CaptionPool:
    limit = _READ if recipe.limit is None else recipe.limit
    size = max(_CHOSEN, _CHOSEN_PER_PAIR * pairs)
    return read_pool(recipe.model_copy(update={"limit": limit}), size, progress, recipe.seed)


def _enough_captions(
    recipe: Recipe, pool: CaptionPool, pairs: int, progress: Progress
) -> Sequence[Caption]:
    """The first captions of the pool of which curation keeps as many as there are to be pairs.

    Raises:
        RecipeError: It keeps none of the pool.
    """
    ends = sorted({min(_CURATED_PER_PAIR * pairs, len(pool.sample)), len(pool.sample)})
    kept_ids: set[str] = set()
    start = 0
    for end in ends:
        with TemporaryDirectory(prefix="synthvlm-preview-") as folder:
            curated = curate_sample(recipe, pool.sample[start:end], RunFolder(folder), progress)
        kept_ids |= {caption.id for caption in curated.kept_captions}
        start = end
        if len(kept_ids) >= pairs:
            break
    if not kept_ids:
        curated.check_not_empty()
    count = 0
    for number, caption in enumerate(pool.sample[:start], start=1):
        count += caption.id in kept_ids
        if count == pairs:
            return pool.sample[:number]
    return pool.sample[:start]


def _without_whole_set(recipe: Recipe, pairs: int) -> Recipe:
    """The recipe without what only a whole run can show; every loser leaves a thumbnail.

    Failing images do not stop it: how many fail is a result.
    """
    selection = recipe.selection.model_copy(update={"top_n": None})
    if selection.method != "top":
        selection = selection.model_copy(update={"method": "top", "options": {}})
    return recipe.model_copy(
        update={
            **TERMS_CHECKED,
            "target": None,
            "curation": recipe.curation.model_copy(update=dict.fromkeys(WHOLE_SET)),
            "generation": recipe.generation.model_copy(update={"adaptive": None}),
            "selection": selection,
            "report": recipe.report.model_copy(update={"preview_share": 1.0, "gallery": pairs}),
            "run": recipe.run.model_copy(update={"max_failed_share": 1.0}),
        }
    )


def _notes(recipe: Recipe, pool: CaptionPool) -> list[str]:
    """Which captions these are, and what the preview leaves out of the recipe."""
    all_of = f"{pool.read:,} captions"
    if recipe.limit is None and pool.read == _READ:
        all_of = f"the first {all_of} (--limit reads more)"
    notes = [f"captions: chosen from {all_of}, by a hash with the seed {recipe.seed}"]
    if pool.losses.count:
        notes.append(
            f"{pool.losses.count:,} captions cannot be read; the first: {pool.losses.first}"
        )
    left_out = [
        f"curation.{name}" for name in WHOLE_SET if getattr(recipe.curation, name) is not None
    ]
    if recipe.generation.adaptive is not None:
        left_out.append("generation.adaptive")
    if recipe.target is not None:
        left_out.append("target")
    if recipe.selection.top_n is not None:
        left_out.append("selection.top_n")
    if recipe.selection.method != "top":
        left_out.append(f"selection.method={recipe.selection.method}")
    if left_out:
        notes.append(f"left out, for a few captions do not show it: {', '.join(left_out)}")
    return notes


def _line(text: str | None) -> str:
    """A text on one line: none of a caption may look like a line of ours."""
    return (text or "").replace("\n", r"\n")
