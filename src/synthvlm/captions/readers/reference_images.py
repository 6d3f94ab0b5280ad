"""Images that a data set is compared with: pictures, tar shards, Parquet, folders of these."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from synthvlm.captions.readers.files import (
    READ_ERRORS,
    SourceFile,
    file_system,
    find_files,
    suffix_of,
)
from synthvlm.captions.readers.images import (
    ImageProblem,
    checked_bytes,
    read_bounded,
    read_image,
)
from synthvlm.captions.readers.parts import SUFFIXES, unreadable
from synthvlm.captions.readers.sources import read_images
from synthvlm.data import fingerprint
from synthvlm.errors import CaptionSourceError
from synthvlm.models.file_hashes import hash_of_files

__all__ = ["ReferenceImage", "check_references", "read_reference_images", "reference_digest"]

#: What holds reference images, by the ending of a file.
_KINDS = {
    **{ending: kind for ending, kind in SUFFIXES.items() if kind in ("images", "webdataset")},
    "parquet": "parquet",
    **dict.fromkeys(("avif", "bmp", "gif", "jp2", "tif", "tiff"), "images"),
}


@dataclass(frozen=True, slots=True)
class ReferenceImage:
    """One of them.

    Attributes:
        name: Its file, without secrets of a URL; of an archive or table ``FILE, row N`` from 0.
        data: Encoded, never decoded; None where it cannot be had.
        problem: Why it cannot be had; or None.
    """

    name: str
    data: bytes | None
    problem: str | None = None


def read_reference_images(
    paths: Sequence[str], image_field: str, place: str
) -> Iterator[ReferenceImage]:
    """Read the images of files, globs, fsspec URLs and folders, one at a time, in a fixed order.

    Of a folder, everything below it whose ending is that of a picture, ``.tar`` or ``.parquet``.

    Args:
        paths: What is read.
        image_field: Column of the images in Parquet files: bytes, or ``{bytes, path}``.
        place: The section of the recipe that names them, for messages.

    Raises:
        CaptionSourceError: A path is missing or unreadable, a folder holds no images, a file is of
            another kind, a table lacks the column, an archive is damaged.
        MissingExtraError: The file system needs a package that is not installed.
    """
    for file, kind in _files(paths, place):
        if kind == "images":
            yield _picture(file)
        else:
            yield from _rows(file, kind, image_field, place)


def check_references(paths: Sequence[str], image_field: str, place: str) -> None:
    """Find all files of reference images, and read the first image: the rest is read later.

    Args:
        paths: As in ``read_reference_images``.
        image_field: As there.
        place: As there.

    Raises:
        CaptionSourceError: As there, as far as it shows.
        MissingExtraError: As there.
    """
    deque(_files(paths, place), maxlen=0)
    next(read_reference_images(paths, image_field, place), None)


def reference_digest(paths: Sequence[str], place: str) -> str:
    """A hash of what the files of reference images hold, in their order, whatever their names.

    Args:
        paths: As in ``read_reference_images``.
        place: As there.

    Raises:
        CaptionSourceError: As there, as far as the files are not read for it.
    """
    files = [file for file, _ in _files(paths, place)]
    try:
        local = [str(file.fs_path) for file in files if file.is_local]
        remote = [file.digest(is_large=True) for file in files if not file.is_local]
        return fingerprint(hash_of_files(local), remote)
    except READ_ERRORS as error:
        raise CaptionSourceError(f"{place}: a reference image cannot be read: {error}") from error


def _files(paths: Sequence[str], place: str) -> Iterator[tuple[SourceFile, str]]:
    for path in paths:
        try:
            in_folder = _below(path)
            files = find_files(path) if in_folder is None else in_folder
        except CaptionSourceError as error:
            raise CaptionSourceError(f"{place}.images: {error}") from error
        for file in files:
            kind = _KINDS.get(suffix_of(file.path))
            if kind is None:
                raise CaptionSourceError(
                    f"{place}.images: {file.shown}: reference images are pictures, .tar shards, "
                    f".parquet files, or a folder of them: name one of these"
                )
            yield file, kind


def _below(path: str) -> list[SourceFile] | None:
    """The files of a folder that hold images, by their paths; None if it is none."""
    fs, fs_path = file_system(path)
    try:
        if fs.info(fs_path)["type"] != "directory":
            return None
        names = sorted(fs.find(fs_path))
    except Exception:  # each file system has errors of its own; `find_files` explains them
        return None
    is_url = "://" in path
    files = [
        SourceFile(fs.unstrip_protocol(name) if is_url else name, fs, name)
        for name in names
        if suffix_of(name) in _KINDS
    ]
    if not files:
        raise CaptionSourceError(f"{path}: there are no pictures, .tar or .parquet files in it")
    return files


def _picture(file: SourceFile) -> ReferenceImage:
    try:
        if file.is_local:
            return ReferenceImage(file.shown, read_image(file.fs_path))
        with file.open() as content:
            data = read_bounded(content)
        return ReferenceImage(file.shown, checked_bytes(data))
    except READ_ERRORS as error:
        return ReferenceImage(file.shown, None, str(unreadable(file.shown, error)))
    except ImageProblem as error:
        return ReferenceImage(file.shown, None, f"{file.shown}: {error}")


def _rows(file: SourceFile, kind: str, image_field: str, place: str) -> Iterator[ReferenceImage]:
    field = image_field if kind == "parquet" else None
    images = read_images(
        file.path, rows=count(), to_end=True, format=kind, image_field=field, place=place
    )
    for image in images:
        name = f"{file.shown}, row {image.row}"
        problem = image.problem and f"{file.shown}: {image.problem}"
        if image.data is None and problem is None:
            problem = f"{name}: it has no image"
        yield ReferenceImage(name, image.data, problem)
