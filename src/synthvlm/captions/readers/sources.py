"""Caption sources: files, archives and data sets of captions, read as a stream.

A source is one file or a glob of files, local or on any fsspec file system, compressed or not
(``.gz``, ``.bz2``, ``.xz``, ``.zst``), or a Hugging Face data set. The formats:

=============== =================================================================================
``txt``         a caption a line
``jsonl``       a JSON object a line
``json``        a list of objects, an object with such a list, and other shapes (``read_json``)
``csv``         comma-separated and quoted, with a header
``tsv``         tab-separated, with a header; quoted only where that is evident
``flickr``      Flickr8k, Flickr30k: ``IMAGE#N<TAB>CAPTION`` a line, or their tables
``cc3m``        ``CAPTION<TAB>URL`` a line
``cc12m``       ``URL<TAB>CAPTION`` a line
``parquet``     columns
``coco``        COCO captions, an annotation a row
``llava``       a list of LLaVA conversations; the caption is the first answer
``webdataset``  ``.tar`` shards, a sample a row: the caption is its ``.txt``, or a field of its
                ``.json``; a field of the ``.json`` may be its id, or its key, named ``__key__``
``images``      image files without captions, a file a row
``huggingface`` the id of a data set on the hub, or a folder that ``datasets`` can load
=============== =================================================================================

``auto`` goes by the ending of each file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from synthvlm.captions.readers.arrow_tables import hub_digest
from synthvlm.captions.readers.files import READ_ERRORS, find_files
from synthvlm.captions.readers.images import ImageFolder, ImageProblem, OriginalImage
from synthvlm.captions.readers.objects import advice_inside, is_null, is_utf8, usable_id
from synthvlm.captions.readers.parts import (
    HUGGINGFACE,
    Part,
    find_parts,
    folder_at,
    form_facts,
    kind_of_path,
    place_of,
    unreadable,
)
from synthvlm.captions.readers.records import (
    AS_USUAL,
    DEFAULT_TEXT,
    NO_IMAGE,
    Fields,
    LinesOfFiles,
    Record,
    TableOptions,
    kind_of,
)
from synthvlm.data import Caption, fingerprint
from synthvlm.errors import CaptionSourceError

__all__ = ["MAX_CAPTION_CHARS", "OriginalImage", "read_captions", "read_images", "source_digest"]

#: A longer caption is a problem row: it cannot be one.
MAX_CAPTION_CHARS = 100_000

#: What a problem row keeps of a caption that is too long.
_EXCERPT_CHARS = 1_000


def read_captions(
    path: str | os.PathLike[str],
    *,
    name: str,
    format: str = "auto",
    text_field: str = DEFAULT_TEXT,
    id_field: str | None = "id",
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    table: TableOptions = AS_USUAL,
    place: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    normalize: Callable[[str], str],
) -> Iterator[Caption]:
    """Read the captions of one source in order, in constant memory.

    Nothing is skipped but LLaVA conversations without an image, where others have one; they are
    counted in a note, and their row numbers stay free. A row that cannot be used (invalid JSON or
    CSV, a missing field, a caption that is not text, invalid UTF-8, NUL in CSV, more than
    ``MAX_CAPTION_CHARS`` characters) is a caption with an empty text and a
    ``problem`` that names its place; of a caption that is too long, ``text_raw`` holds the first
    1,000 characters. A blank line, or an empty list of captions, is a row with an empty text, which
    the rules reject. The newline that ends a file is no row. A list of captions is a row for each,
    with ids ``<id>-0``, ``<id>-1``...

    Args:
        path: A local path or fsspec URL, which may be a glob (files are read in the order of
            their paths), or for ``huggingface`` a folder or hub id.
        name: Name of the source; the n-th row (from zero, counted over all files) without an id
            gets ``<name>-<n>``.
        format: A format of this module, or ``auto``.
        text_field: Column or key of the caption; of no use to ``txt`` and ``llava``. One inside
            of another is ``row.caption``, or ``sentences.raw`` of each object of a list.
        id_field: Column or key of the id: a text, or what stands for one exactly (``usable_id``).
            ``id`` may be missing, and rows where it cannot serve are numbered; any other name must
            exist and serve. None: all rows are numbered.
        split: Split of a Hugging Face data set.
        subset: Its subset (configuration), if it has several.
        revision: Branch, tag or commit on the hub.
        table: What is known of tables in text files.
        place: The source's place in a recipe, for advice in messages.
        say: Takes lines for people: how files are read where that is not as usual, and what of
            them is probably wrong.
        normalize: Makes ``text`` of ``text_raw``.

    Raises:
        CaptionSourceError: A file is missing, unreadable, a directory, of unknown format, damaged
            (then the message says where), lacks a column; a glob matches nothing; no captions.
            Raised at once or, where the file must be read to know, while iterating.
        MissingExtraError: ``datasets`` or what the file system needs is not installed.
    """
    fields = Fields("", text_field, id_field, table=table, place=place, say=say)
    parts = find_parts(os.fspath(path), format, split, subset, revision, place, table)
    return _captions(parts, fields, os.fspath(path), name, normalize)


def read_images(
    path: str | os.PathLike[str],
    *,
    rows: Iterable[int],
    to_end: bool = False,
    format: str = "auto",
    text_field: str = "",
    image_field: str | None = None,
    image_root: str | os.PathLike[str] | None = None,
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    table: TableOptions = AS_USUAL,
    place: str | None = None,
    missing_ok: bool = False,
) -> Iterator[OriginalImage]:
    """Read the encoded original images of some rows of a source, one result per wanted row.

    Streams the source again, up to the last row that is wanted. A row without an image, or with
    an http(s) URL for one, which is never fetched, has no data; one whose image is missing,
    unreadable, larger than 256 MiB or outside of the image folder has a problem.

    Args:
        path: As in ``read_captions``.
        rows: Row numbers (``Caption.row``), ascending.
        to_end: Rows beyond the end of the source are no error: the images end there.
        format: As in ``read_captions``.
        text_field: As in ``read_captions``, so that rows count as there: those of a list of
            captions have one image. "": an image, or object, is a row.
        image_field: Column or key of the image: a path, bytes, or ``{bytes, path}``. ``coco``: a
            field of the image's entry (default ``file_name``); ``llava``: default ``image``;
            ``webdataset``: extensions (default ``jpg;jpeg;png;webp``, the first that is there).
            A field that is named must exist.
        image_root: The folder, local or an fsspec URL, that paths are relative to and may not
            leave; by default that of the source file (or data set).
        split: As in ``read_captions``.
        subset: As in ``read_captions``.
        revision: As in ``read_captions``.
        table: As in ``read_captions``.
        place: As in ``read_captions``.
        missing_ok: A row whose image file does not exist has no image; else that is a problem.

    Raises:
        CaptionSourceError: As ``read_captions``; also: the format has no images, no field is
            named where one must be, there is no such folder, or the source has too few rows.
        ValueError: The rows do not ascend.
    """
    source = os.fspath(path)
    parts = find_parts(source, format, split, subset, revision, place, table)
    fields = [
        replace(_image_fields(part, text_field, image_field, place), table=table) for part in parts
    ]
    folder = None if image_root is None else folder_at(os.fspath(image_root))
    if folder is not None:
        folder.check()
    return _images(parts, fields, folder, source, rows, to_end, missing_ok)


def source_digest(
    path: str | os.PathLike[str],
    *,
    format: str = "auto",
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    table: TableOptions = AS_USUAL,
) -> str:
    """A hash of what a source holds, original images in files of their own aside.

    Of the bytes of a local file; those of WebDataset shards, images and data set folders are read
    once while the file stays. For remote files of what the file system reports (``ukey``, size,
    ETag, time of change), and of the bytes where that tells no versions apart; for the hub of id
    and commit. Of a glob, of all its files in order. How a text file is written counts where it is
    not as usual, so that what an earlier version read of it does not count.

    Args:
        path: As in ``read_captions``.
        format: As in ``read_captions``.
        split: As in ``read_captions``.
        subset: As in ``read_captions``.
        revision: As in ``read_captions``.
        table: As in ``read_captions``.

    Raises:
        CaptionSourceError: A file is missing, unreadable or a directory, a glob matches nothing,
            or the hub cannot tell the commit.
    """
    path = os.fspath(path)
    if format == HUGGINGFACE:
        return hub_digest(path, split, subset, revision)
    digests = []
    for file in find_files(path):
        kind = kind_of_path(file.path, format, table)
        try:
            digest = file.digest(is_large=kind in ("webdataset", "images"))
            facts = form_facts(file, kind, table)
            digests.append(fingerprint(digest, facts) if facts else digest)
        except READ_ERRORS as error:
            raise unreadable(file.path, error) from error
    return digests[0] if len(digests) == 1 else fingerprint(digests)


def _captions(
    parts: list[Part], fields: Fields, path: str, name: str, normalize: Callable[[str], str]
) -> Iterator[Caption]:
    row = 0
    lines = LinesOfFiles(fields.say, path)
    for part in parts:
        start = row
        file = part.path if len(parts) > 1 else None
        place = partial(place_of, unit=part.unit, file=file)
        asked = replace(fields, path=part.path, say=partial(lines.add, part.path))
        left_out = 0
        try:
            for record in part.read(asked):
                _, text, given, problem, _, _ = record
                # The common case first: millions of rows come through here.
                if (
                    problem is None
                    and type(text) is str
                    and (given is None or type(given) is str)
                    and len(text) <= MAX_CAPTION_CHARS
                    and (text.isascii() or is_utf8(text))
                    and (given is None or given.isascii() or is_utf8(given))
                ):
                    yield Caption(given or f"{name}-{row}", name, row, text, normalize(text))
                elif text is NO_IMAGE:
                    left_out += 1
                else:
                    yield _odd_caption(record, fields, name, row, place, normalize)
                row += 1
        except READ_ERRORS as error:
            raise unreadable(part.path, error, row - start) from error
        except GeneratorExit:
            row += 1  # the last one that was taken
            raise
        finally:
            if left_out:
                asked.note(
                    f"{left_out:,} of {row - start:,} conversations have no image and are left out"
                )
    lines.end()
    if not row:
        what = "the file holds" if len(parts) == 1 else f"the {len(parts)} files hold"
        raise CaptionSourceError(f"{path}: {what} no captions")


def _odd_caption(
    record: Record,
    fields: Fields,
    name: str,
    row: int,
    place: Callable[[Record], str],
    normalize: Callable[[str], str],
) -> Caption:
    """A caption with another id than a text, or with a problem."""
    text, given, problem = record.text, record.id, record.problem
    identity = usable_id(given)
    if identity is None and not is_null(given) and problem is None:
        if fields.id == "id":
            fields.say(
                f"note: {place(record)}: {kind_of(given)} in 'id' cannot be an id: such rows are "
                f"numbered"
            )
        else:
            problem = f"{fields.id!r} must hold a text or an integer, not {kind_of(given)}"
            problem += fields.advice("id_field", None, "; to number the rows: ")
    identity = identity or f"{name}-{row}"
    raw = text if isinstance(text, str) else ""
    if problem is None and not isinstance(text, str):
        problem = f"{fields.text!r} must be a string, not {kind_of(text)}"
        problem += advice_inside(text, fields)
    if not is_utf8(raw):
        problem = f"the caption holds {_not_text(raw)}"
        raw = raw.encode("utf-8", "replace").decode("utf-8")
    if len(raw) > MAX_CAPTION_CHARS:
        problem = f"the caption has {len(raw):,} characters, the limit is {MAX_CAPTION_CHARS:,}"
        raw = raw[:_EXCERPT_CHARS]
    if problem is not None:
        where = f"{place(record)}: {problem}"
        return Caption(identity, name, row, raw, "", where, record.size)
    return Caption(identity, name, row, raw, normalize(raw))


def _not_text(text: str) -> str:
    """What a text holds that is no character: bytes that are not UTF-8 are carried so, too."""
    is_byte = any("\udc80" <= character <= "\udcff" for character in text)
    return "invalid UTF-8" if is_byte else "half of a surrogate pair (a character that was cut)"


def _image_fields(
    part: Part, text_field: str, image_field: str | None, place: str | None
) -> Fields:
    if part.image_field == "":
        raise CaptionSourceError(f"{part.path}: this format has no original images")
    field = image_field or part.image_field
    fields = Fields(part.path, text_field, "id", field, image_field is not None, place=place)
    if field is None:
        raise fields.no_image_field()
    return fields


class _RowCursor:
    """The next wanted row, from an ascending stream of row numbers."""

    def __init__(self, rows: Iterable[int]) -> None:
        self._rows = iter(rows)
        self.row: int | None = None
        self.start = 0
        self.advance()

    def advance(self) -> None:
        last, self.row = -1 if self.row is None else self.row, next(self._rows, None)
        if self.row is not None and self.row <= last:
            raise ValueError(f"wanted rows must ascend from 0; {self.row} comes after {last}")

    def may_need(self, number: int) -> bool:
        """Whether a row of the part that begins with row ``start`` may be needed."""
        return self.row is not None and self.row <= self.start + number


def _images(
    parts: list[Part],
    fields: list[Fields],
    folder: ImageFolder | None,
    path: str,
    rows: Iterable[int],
    to_end: bool,
    missing_ok: bool,
) -> Iterator[OriginalImage]:
    cursor = _RowCursor(rows)
    row = 0
    for part, asked in zip(parts, fields, strict=True):
        if cursor.row is None:
            return
        cursor.start = row
        file = part.path if len(parts) > 1 else None
        place = partial(place_of, unit=part.unit, file=file)
        images = folder or part.folder()
        try:
            for record in part.read(replace(asked, wants=cursor.may_need)):
                if row == cursor.row:
                    yield _image(record, row, place, images, missing_ok)
                    cursor.advance()
                    if cursor.row is None:
                        return
                row += 1
        except READ_ERRORS as error:
            raise unreadable(part.path, error, row - cursor.start) from error
    if to_end and not row:
        raise CaptionSourceError(f"{path}: there are no images")
    if cursor.row is not None and not to_end:
        raise CaptionSourceError(
            f"{path}: there is no row {cursor.row}, only {row} rows; was the source changed?"
        )


def _image(
    record: Record,
    row: int,
    place: Callable[[Record], str],
    folder: ImageFolder,
    missing_ok: bool,
) -> OriginalImage:
    problem = record.problem
    if problem is None:
        try:
            return OriginalImage(row, folder.read(record.image))
        except ImageProblem as error:
            if missing_ok and error.is_missing:
                return OriginalImage(row, None)
            problem = str(error)
    return OriginalImage(row, None, f"{place(record)}: {problem}")
