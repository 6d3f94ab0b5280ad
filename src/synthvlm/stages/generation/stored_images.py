"""The images that a run folder holds, and which of them a run would lose.

An image is lost where no caption of its shard has its fingerprint any more: another model, seed or
scorer, another text, or a caption that is gone. It is not lost where the rules reject its caption,
or where the caption lies beyond ``limit``: then it is kept for later.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from synthvlm.data import Candidate, Pair, Preview
from synthvlm.errors import RunFolderError
from synthvlm.stages.curation.measure import captions_changed
from synthvlm.stages.curation.resources import is_written, normalizer, source_captions
from synthvlm.stages.fingerprints import combined_fingerprint, image_dependencies
from synthvlm.stages.generation.prompts import STAGE, ShardCaptions

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.data import Caption
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.stages.generation.candidate_plan import Key

__all__ = [
    "CANDIDATE_FOLDERS",
    "PAIR_FOLDERS",
    "LostImages",
    "PreviousShard",
    "changed_dependencies",
    "refuse_lost_images",
]

#: Where candidates and pairs are: those of kept captions, and those of captions that the rules
#: reject or that lie beyond ``limit``.
CANDIDATE_FOLDERS = ("candidates", "unused-candidates")
PAIR_FOLDERS = ("pairs", "unused-pairs")


@dataclass(frozen=True, slots=True)
class PreviousShard:
    """Candidates, winners and thumbnails by key, how winners were encoded, what images were of."""

    candidates: Mapping[Key, Candidate]
    pairs: Mapping[Key, Pair]
    previews: Mapping[Key, Preview]
    encoding: object
    depends: object

    @classmethod
    def read(cls, run: RunFolder, marker: Marker | None) -> PreviousShard:
        """Read what a shard's marker names; nothing where there is none."""
        if marker is None:
            return cls({}, {}, {}, None, None)

        def rows(*folders: str) -> Iterator[dict[str, Any]]:
            for folder in folders:
                name = marker.file(folder)
                yield from _rows(run.read_table(name)) if name else ()

        candidates = [Candidate.of_row(row) for row in rows(*CANDIDATE_FOLDERS)]
        pairs = [Pair(**row) for row in rows(*PAIR_FOLDERS)]
        previews = [Preview(**row) for row in rows("previews")]
        return cls(
            {(c.caption_id, c.index): c for c in candidates},
            {(p.caption_id, p.index): p for p in pairs},
            {(p.caption_id, p.index): p for p in previews},
            marker.facts.get("encoding"),
            marker.facts.get("depends"),
        )

    def unused(
        self,
        captions: ShardCaptions,
        used: Container[str],
        now: Mapping[str, str],
        encoding: object,
    ) -> tuple[list[Candidate], list[Pair]]:
        """Candidates and images of captions that the rules reject or the limit leaves out.

        They are kept for when the captions come back.

        Args:
            captions: All of the shard.
            used: Ids of those of which images are generated.
            now: What every image depends on, as ``image_dependencies`` gives it.
            encoding: How winners are encoded now.
        """
        if self.depends != now:
            return [], []
        shared = combined_fingerprint(now)
        rows = {
            key: row
            for key, row in self.candidates.items()
            if row.caption_id not in used and captions.has(row.caption_id, row.fingerprint, shared)
        }
        is_same = self.encoding == encoding
        pairs = [pair for key, pair in self.pairs.items() if is_same and key in rows]
        return list(rows.values()), pairs


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a table; an embedding is an array, for as a list it is a thousand objects."""
    import pyarrow as pa

    columns = {
        name: (value.values.to_numpy() if value.is_valid else None for value in table[name])
        if pa.types.is_list(table.schema.field(name).type)
        else table[name].to_pylist()
        for name in table.column_names
    }
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


class LostImages:
    """Counts the images that a run would lose, and why."""

    def __init__(self, run: RunFolder, recipe: Recipe, now: Mapping[str, str]) -> None:
        """Count none yet.

        Args:
            run: The run folder.
            recipe: The recipe.
            now: What every image depends on, as ``image_dependencies`` gives it.
        """
        self._run, self._recipe, self._now = run, recipe, now
        self._shared = combined_fingerprint(now)
        self._count, self._captions = 0, 0
        self._reasons: dict[str, None] = {}
        self._first = ""

    def add_changed(self, shard: int, marker: Marker) -> bool:
        """Count a shard's images if what all of them depend on has changed; whether it has."""
        reasons = changed_dependencies(marker, self._now)
        if not reasons:
            return False
        images = list(self._stored(marker))
        # The marker's facts, which have no checksum, may be damaged: rows have the last word.
        curated = self._run.marker("curate", shard)
        if curated is not None and images:
            texts = ShardCaptions.read(self._run, self._recipe, shard, curated).texts
            captions = ShardCaptions(texts)
            if any(captions.has(id, image, self._shared) for id, image in images):
                return False
        if images:
            self._count += len(images)
            self._reasons |= dict.fromkeys(reasons)
        return True

    def add(self, marker: Marker, captions: ShardCaptions) -> None:
        """Count a shard's images whose captions changed or are gone."""
        for id, image in self._stored(marker):
            if not captions.has(id, image, self._shared):
                self._first = self._first or id
                self._count += 1
                self._captions += 1

    def refuse(self) -> None:
        """Refuse to go on if an image would be lost.

        Raises:
            RunFolderError: With their number and the reason.
        """
        if not self._count:
            return
        reasons = list(self._reasons)
        if self._captions:
            reasons.append(
                f"{self._captions:,} captions changed or are gone, first {self._first!r}"
            )
        raise RunFolderError(
            f"{self._run.url} holds {self._count:,} images that would be lost: "
            f"{'; '.join(reasons)}; put that back or name another --out, or agree with "
            f"--replace-images (in Python replace_images=True)"
        )

    def _stored(self, marker: Marker) -> Iterator[tuple[str, str]]:
        """Caption and fingerprint of each image of a shard."""
        for folder in CANDIDATE_FOLDERS:
            name = marker.file(folder)
            if name is not None:
                table = self._run.read_table(name, ["caption_id", "fingerprint", "chosen"])
                for row in table.filter(table["chosen"]).to_pylist():
                    yield row["caption_id"], row["fingerprint"]


def changed_dependencies(marker: Marker, now: Mapping[str, str]) -> list[str]:
    """Why all images of a shard are generated again; nothing where they are not."""
    before = marker.facts.get("depends")
    if before is None:
        # Markers of `verify --discard` have no facts at all: their rows are looked at one by one.
        old = "the folder is of an earlier version of synthvlm"
        return [old] if "candidates" in marker.facts else []
    changed = {part for part in {*before, *now} if before.get(part) != now.get(part)}
    return [f"{part} changed" for part in sorted(changed)]


def refuse_lost_images(run: RunFolder, recipe: Recipe, digests: Sequence[str]) -> None:
    """Refuse, before anything in the folder changes, a recipe with which images would be lost.

    Sources that changed are read once more. Captions that a model writes are not known yet; the
    stage of generation looks at those.

    Args:
        run: The run folder.
        recipe: The recipe, with ``dtype`` as the folder has it.
        digests: ``content_digest`` of each source.

    Raises:
        CaptionSourceError: A source is missing or not what it should be.
        RunFolderError: Images would be lost.
    """
    size, limit = recipe.run.shard_size, recipe.limit
    stored = {
        shard: marker
        for shard, marker in run.markers(STAGE).items()
        if limit is None or shard * size < limit
    }
    if not stored:
        return
    lost = LostImages(run, recipe, image_dependencies(recipe))
    stored = {n: marker for n, marker in stored.items() if not lost.add_changed(n, marker)}
    lost.refuse()
    if any(map(is_written, recipe.sources)) or not captions_changed(run, recipe, digests):
        return
    # Whole shards: captions beyond the limit are not gone.
    end = None if limit is None else -(-limit // size) * size
    captions = islice(_captions(recipe), end)
    for shard in range(max(stored, default=-1) + 1):
        batch = {caption.id: caption.text for caption in islice(captions, size)}
        if not batch:
            break
        if shard in stored:
            lost.add(stored[shard], ShardCaptions(batch))
    lost.refuse()


def _captions(recipe: Recipe) -> Iterator[Caption]:
    for source in recipe.sources:
        # What is to be said of a file is said when its captions are measured.
        yield from source_captions(recipe, source, normalizer(recipe), lambda line: None)
