"""Captions that models write: of a source's images, or of a source's concepts.

Captions of images are committed in parts; replies of endpoints are stored one by one, so a kill
costs at most a part of a model that runs here. Captions of concepts are made again from the stored
replies of their endpoint, at no cost.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import count, islice
from typing import TYPE_CHECKING, NamedTuple

from synthvlm.data import Caption, file_stem, written_schema
from synthvlm.errors import TooManyFailuresError
from synthvlm.models.devices import resolve_device, resolve_dtype
from synthvlm.recipe import source_name
from synthvlm.run_folder.marker import written_stage
from synthvlm.stages.curation.resources import (
    endpoint_client,
    reader_arguments,
    source_captions,
    source_path,
)
from synthvlm.stages.fingerprints import written_fingerprint

if TYPE_CHECKING:
    from synthvlm.captions.readers.sources import OriginalImage
    from synthvlm.captions.writers.image_captions import ImageWriter
    from synthvlm.recipe import Recipe
    from synthvlm.recipe.sources import (
        ConceptWriterSettings,
        ImageCaptionerSettings,
        SourceSettings,
    )
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["stages_of", "written_captions"]

#: Images without a caption, one after another, after which a plain picture is tried.
_FAILED_IN_A_ROW = 8
#: Concepts without any caption, from the first on, after which the model is to blame.
_FAILED_CONCEPTS = 32


def written_captions(
    run: RunFolder,
    recipe: Recipe,
    source: SourceSettings,
    digest: str,
    most: int | None,
    normalize: Callable[[str], str],
    resources: ExitStack,
    say: Callable[[str], None],
) -> Iterator[Caption]:
    """The captions that a model writes for a source, written as they are asked for.

    A caption that could not be written has a problem; a later pass tries it again.

    Args:
        run: Where they are kept.
        recipe: The recipe.
        source: A source with a writer.
        digest: Its ``content_digest``.
        most: How many captions are wanted at most; None for all.
        normalize: Makes ``text`` of what the model wrote.
        resources: What must be closed after use is entered into it.
        say: Takes lines for people about how a list of concepts is read.

    Raises:
        CaptionSourceError: The source cannot be read.
        ModelError: The model cannot be used.
        SynthVLMError: The endpoint cannot be used, or its budget is used up.
        TooManyFailuresError: The model writes nothing, whatever it is given.
    """
    if source.image_captioner is not None:
        rows = _of_images(run, recipe, source, digest, source.image_captioner, most, resources)
    else:
        assert source.concept_writer is not None
        concepts = source_captions(recipe, source, str.strip, say)
        rows = _of_concepts(run, source, source.concept_writer, concepts, most, resources)
    name = source_name(source)
    for row, text, problem in rows:
        yield Caption(f"{name}-{row}", name, row, text, normalize(text), problem)


def stages_of(recipe: Recipe) -> list[str]:
    """Names of the stages, and folders, that hold what models wrote of images."""
    return [_stage(source) for source in recipe.sources if source.image_captioner is not None]


def _stage(source: SourceSettings) -> str:
    return written_stage(file_stem(source_name(source))[:8])


class WrittenRow(NamedTuple):
    """Number of a row, what was written for it ("" if there is a problem), and the problem."""

    row: int
    text: str
    problem: str | None


def _of_concepts(
    run: RunFolder,
    source: SourceSettings,
    settings: ConceptWriterSettings,
    all_concepts: Iterator[Caption],
    most: int | None,
    resources: ExitStack,
) -> Iterator[WrittenRow]:
    from synthvlm.captions.writers.concept_writer import ConceptWriter

    each = settings.captions_per_concept
    concept_count = None if most is None else math.ceil(most / each)
    concepts = [concept.text for concept in islice(all_concepts, concept_count)]
    where = f"sources.{source_name(source)}.concept_writer"
    writer = ConceptWriter(
        endpoint_client(run, settings.endpoint, settings.model, where, resources),
        concepts,
        each,
        prompt=settings.prompt,
        temperature=settings.temperature,
        seed=settings.endpoint.seed,
    )
    # The number is the same whether or not an earlier concept got all its captions.
    first = {concept: number * each for number, concept in enumerate(concepts)}
    has_succeeded = False
    # A concept without any caption is one row.
    for row_count, caption in enumerate(writer, 1):
        has_succeeded = has_succeeded or not caption.problem
        if row_count == _FAILED_CONCEPTS and not has_succeeded:
            raise TooManyFailuresError(
                f"{where}: none of the first {row_count} concepts got a caption; the last: "
                f"{caption.problem}; fix the cause and run again"
            )
        row = first[caption.concept] + caption.number
        yield WrittenRow(row, caption.text, caption.problem)


def _of_images(
    run: RunFolder,
    recipe: Recipe,
    source: SourceSettings,
    digest: str,
    settings: ImageCaptionerSettings,
    most: int | None,
    resources: ExitStack,
) -> Iterator[WrittenRow]:
    from synthvlm.captions.readers.sources import read_images

    content = written_fingerprint(recipe, source, digest)
    parts = _Parts(run, _stage(source), content, recipe.run.shard_size)
    images = read_images(
        source_path(source),
        rows=(row for row in count() if parts.lacks(row)),
        to_end=True,
        image_field=source.image_field,
        image_root=source.image_root,
        place=f"sources.{recipe.sources.index(source)}",
        **reader_arguments(source),
    )
    writer = _LazyWriter(run, recipe, source, settings, resources)
    for part in count():
        row_count = parts.size if most is None else min(parts.size, most - part * parts.size)
        if row_count <= 0:
            return
        rows = range(part * parts.size, part * parts.size + row_count)
        known = parts.read(part)
        missing = sum(parts.lacks(row) for row in rows)
        new = {row.row: row for row in writer.write(islice(images, missing))}
        if new:
            known |= new
            parts.commit(part, known)
        yield from (known[row] for row in rows if row in known)
        if rows[-1] not in known:
            return


class _LazyWriter:
    """Writes captions of original images; its model is loaded when the first image is there."""

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        source: SourceSettings,
        settings: ImageCaptionerSettings,
        resources: ExitStack,
    ) -> None:
        self._run, self._recipe, self._resources = run, recipe, resources
        self._where, self._settings = f"sources.{source_name(source)}.image_captioner", settings
        self._writer: ImageWriter | None = None
        self._failed_in_a_row = 0

    def write(self, images: Iterator[OriginalImage]) -> Iterator[WrittenRow]:
        """A row for each image, in their order."""
        settings = self._settings
        size = settings.batch_size
        if settings.endpoint is not None:
            # The slowest reply ends a batch, so let it be long.
            size = max(size, 8 * settings.endpoint.concurrency)
        while batch := list(islice(images, size)):
            good = [image.data for image in batch if image.data is not None]
            if good and self._writer is None:
                self._writer = self._load()
            written = self._writer.write(good) if self._writer and good else []
            for caption in written:
                self._failed_in_a_row = self._failed_in_a_row + 1 if caption.problem else 0
            if self._failed_in_a_row >= _FAILED_IN_A_ROW:
                self._try_plain_picture()
            captions = iter(written)
            for image in batch:
                if image.data is None:
                    problem = image.problem or "there is no image, or only a URL of one"
                    yield WrittenRow(image.row, "", problem)
                else:
                    caption = next(captions)
                    failure = caption.problem and f"row {image.row}: {caption.problem}"
                    yield WrittenRow(image.row, caption.text, failure)

    def _try_plain_picture(self) -> None:
        """Stop where not even a plain picture gets a caption; else the images are to blame."""
        assert self._writer is not None
        (caption,) = self._writer.write([_plain_picture()])
        if caption.problem:
            raise TooManyFailuresError(
                f"{self._where}: no image gets a caption, not even that of a red square: "
                f"{caption.problem}; fix the cause and run again"
            )
        self._failed_in_a_row = 0

    def _load(self) -> ImageWriter:
        from synthvlm.captions.writers.image_captions import EndpointCaptioner, ImageCaptioner

        settings, device = self._settings, resolve_device(self._recipe.run.device)
        if settings.endpoint is None:
            return ImageCaptioner(
                settings.model,
                device=device,
                dtype=resolve_dtype("auto", device),
                revision=settings.revision,
                max_new_tokens=settings.max_tokens,
                num_beams=settings.num_beams,
            )
        client = endpoint_client(
            self._run, settings.endpoint, settings.model, self._where, self._resources
        )
        return EndpointCaptioner(
            client,
            prompt=settings.prompt,
            max_tokens=settings.max_tokens,
            seed=settings.endpoint.seed,
        )


def _plain_picture() -> bytes:
    """A red square on white, as PNG."""
    from PIL import Image

    picture = Image.new("RGB", (224, 224), "white")
    picture.paste("red", (72, 72, 152, 152))
    sink = io.BytesIO()
    picture.save(sink, "png")
    return sink.getvalue()


class _Parts:
    """The committed captions of a source's images, ``size`` rows in a part."""

    def __init__(self, run: RunFolder, stage: str, content: str, size: int) -> None:
        self.size = size
        self._run, self._stage, self._content = run, stage, content
        markers = run.markers(stage)
        self._markers = {n: m for n, m in markers.items() if m.fingerprint == content}
        self._lacking = {n: frozenset(m.facts["failed"]) for n, m in self._markers.items()}

    def lacks(self, row: int) -> bool:
        """Whether there is no good caption of a row; as it was when the pass began."""
        part = row // self.size
        if part not in self._markers:
            return True
        beyond = row - part * self.size >= int(self._markers[part].facts["rows"])
        return beyond or row in self._lacking[part]

    def read(self, part: int) -> dict[int, WrittenRow]:
        """What is known of a part."""
        marker = self._markers.get(part)
        name = marker.file(self._stage) if marker is not None else None
        if name is None:
            return {}
        return {row["row"]: WrittenRow(**row) for row in self._run.read_table(name).to_pylist()}

    def commit(self, part: int, rows: Mapping[int, WrittenRow]) -> None:
        """Commit the rows of a part, the first ones that the source has."""
        import pyarrow as pa

        ordered = [rows[number] for number in sorted(rows)]
        table = pa.Table.from_pylist([row._asdict() for row in ordered], written_schema())
        file = self._run.write_table(self._stage, part, table)
        failed = [row.row for row in ordered if row.problem is not None]
        facts = {"rows": len(ordered), "failed": failed}
        self._run.commit(self._stage, part, self._content, [file], facts)
