"""What curation reads besides its own files: sources, their original images, chat endpoints."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypedDict

from synthvlm.errors import RecipeError
from synthvlm.recipe import TINY, source_name

if TYPE_CHECKING:
    from contextlib import ExitStack

    from synthvlm.captions.readers.records import TableOptions
    from synthvlm.captions.readers.sources import OriginalImage
    from synthvlm.data import Caption
    from synthvlm.endpoints.client import EndpointClient
    from synthvlm.endpoints.connection import EndpointSettings
    from synthvlm.recipe import Recipe
    from synthvlm.recipe.sources import SourceSettings
    from synthvlm.run_folder.folder import RunFolder

__all__ = [
    "OriginalImages",
    "ReaderArguments",
    "content_digest",
    "endpoint_client",
    "is_written",
    "limited_captions",
    "normalizer",
    "reader_arguments",
    "source_captions",
    "source_path",
]


class ReaderArguments(TypedDict):
    """How all readers read a source."""

    format: str
    split: str
    subset: str | None
    revision: str | None
    table: TableOptions


def source_path(source: SourceSettings) -> str:
    """Path of a source; ``tiny`` is the bundled captions."""
    from synthvlm import tiny

    return str(tiny.captions_path()) if source.path == TINY else source.path


def is_written(source: SourceSettings) -> bool:
    """Whether a model writes the captions of a source."""
    return source.image_captioner is not None or source.concept_writer is not None


def reader_arguments(source: SourceSettings) -> ReaderArguments:
    """The arguments of all readers that say how a source is read."""
    from synthvlm.captions.readers.records import TableOptions

    return {
        "format": source.format,
        "split": source.split,
        "subset": source.subset,
        "revision": source.revision,
        "table": TableOptions(source.header, source.delimiter, source.quoting),
    }


def content_digest(source: SourceSettings) -> str:
    """A hash of the content of a source, which is read whole."""
    from synthvlm.captions.readers.sources import source_digest

    return source_digest(source_path(source), **reader_arguments(source))


def normalizer(recipe: Recipe) -> Callable[[str], str]:
    """The normalisation of captions that the recipe asks for."""
    from synthvlm.captions.readers.normalize import normalize

    return partial(
        normalize,
        fix_unicode=recipe.curation.fix_unicode,
        normalize_punctuation=recipe.curation.normalize_punctuation,
        remove_invisible=recipe.curation.remove_invisible,
    )


def source_captions(
    recipe: Recipe,
    source: SourceSettings,
    normalize: Callable[[str], str],
    say: Callable[[str], None],
) -> Iterator[Caption]:
    """The captions of a source, normalised, in its order.

    Args:
        recipe: The recipe.
        source: One of its sources.
        normalize: Makes ``text`` of ``text_raw``.
        say: Takes lines for people about how files are read, and what of them is probably wrong.

    Raises:
        CaptionSourceError: It cannot be read.
    """
    from synthvlm.captions.readers.sources import read_captions

    return read_captions(
        source_path(source),
        name=source_name(source),
        text_field=source.text_field,
        id_field=source.id_field,
        place=f"sources.{recipe.sources.index(source)}",
        say=say,
        normalize=normalize,
        **reader_arguments(source),
    )


def limited_captions(
    recipe: Recipe,
    read: Callable[[SourceSettings, int | None], Iterator[Caption]],
    say: Callable[[str], None],
) -> Iterator[Caption]:
    """The captions of all sources in order, up to the limit of the recipe.

    Of a source whose captions do not look like captions, a warning is said at its end.

    Args:
        recipe: The recipe.
        read: Reads the captions of a source, of which so many are wanted; None: all.
        say: Takes lines for people.
    """
    from synthvlm.captions.readers.appearance import Appearance
    from synthvlm.captions.readers.parts import kind_of_path
    from synthvlm.captions.readers.records import Fields

    left = recipe.limit
    for number, source in enumerate(recipe.sources):
        table = reader_arguments(source)["table"]
        appearance = Appearance(
            are_lines=kind_of_path(source_path(source), source.format, table) == "txt"
        )
        for caption in appearance.watched(islice(read(source, left), left)):
            left = left and left - 1
            yield caption
        if not is_written(source):
            name = f"source {source_name(source)!r}"
            appearance.warn(Fields(name, "caption", None, place=f"sources.{number}", say=say))
        if left == 0:
            return


class OriginalImages:
    """The encoded original images of captions, from their sources.

    Each source is streamed once more, as far as images are asked for; so ask for rows in
    ascending order.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Nothing is read yet."""
        self._streams = {
            source_name(source): _Stream(source, f"sources.{number}")
            for number, source in enumerate(recipe.sources)
            if source.has_images
        }

    def of(self, captions: Sequence[tuple[str, int]]) -> list[OriginalImage]:
        """The image of each caption, named by its source and row.

        Raises:
            CaptionSourceError: A source cannot be read, or has no such images.
        """
        from synthvlm.captions.readers.sources import OriginalImage

        for source, row in captions:
            if source in self._streams:
                self._streams[source].want(row)
        return [
            self._streams[source].take() if source in self._streams else OriginalImage(row, None)
            for source, row in captions
        ]


class _Stream:
    def __init__(self, source: SourceSettings, place: str) -> None:
        self._source, self._place = source, place
        # Formats such as COCO name images, whether or not they are at hand.
        is_asked = source.image_field or source.image_root or source.image_captioner
        self._missing_ok = is_asked is None
        self._wanted: deque[int] = deque()
        self._images: Iterator[OriginalImage] | None = None

    def want(self, row: int) -> None:
        self._wanted.append(row)

    def take(self) -> OriginalImage:
        from synthvlm.captions.readers.sources import read_images

        if self._images is None:
            self._images = read_images(
                source_path(self._source),
                rows=self._rows(),
                text_field="" if is_written(self._source) else self._source.text_field,
                image_field=self._source.image_field,
                image_root=self._source.image_root,
                place=self._place,
                missing_ok=self._missing_ok,
                **reader_arguments(self._source),
            )
        return next(self._images)

    def _rows(self) -> Iterator[int]:
        # The reader asks for the next row when it is asked for the next image, and so not before
        # the rows of the next shard are wanted.
        while self._wanted:
            yield self._wanted.popleft()


def endpoint_client(
    run: RunFolder, endpoint: EndpointSettings, model: str, where: str, resources: ExitStack
) -> EndpointClient:
    """A client that keeps every reply, in the run folder unless the endpoint names another.

    Args:
        run: The run folder.
        endpoint: The endpoint.
        model: The model's name there.
        where: Path in the recipe of what asks the endpoint, for messages.
        resources: The store of replies is entered into it.

    Raises:
        RecipeError: There is no local folder to keep replies in.
    """
    from synthvlm.endpoints.client import EndpointClient
    from synthvlm.endpoints.replies import ReplyStore

    folder = endpoint.replies or run.local_path("replies")
    if folder is None:
        raise RecipeError(
            f"{where}.endpoint.replies: name a local folder, for {run.url} is not on this machine "
            f"and replies that were paid for must be kept"
        )
    return EndpointClient(
        endpoint.connection(),
        model,
        max_tokens=endpoint.max_tokens,
        store=resources.enter_context(ReplyStore(folder)),
    )
