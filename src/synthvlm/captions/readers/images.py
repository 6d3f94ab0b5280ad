"""Original images: read from bytes or below an image folder, and decoded as untrusted input."""

from __future__ import annotations

import io
import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote

import numpy as np

from synthvlm.captions.readers.files import reason_of
from synthvlm.captions.readers.records import Fields, Record
from synthvlm.errors import CaptionSourceError, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "MAX_IMAGE_BYTES",
    "MAX_PIXELS",
    "MAX_SIDE_RATIO",
    "ImageFolder",
    "ImageProblem",
    "OriginalImage",
    "checked_bytes",
    "decode_image",
    "image_size",
    "read_bounded",
    "read_image",
    "read_image_file",
]

#: A larger file is a problem: it is not read into memory.
MAX_IMAGE_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class OriginalImage:
    """What a source holds as the original image of a row.

    Attributes:
        row: The row's number, as in ``Caption.row``.
        data: The encoded image as it is stored, never decoded; None where there is none (no
            value, or an http(s) URL) or there is a problem.
        problem: Why the image cannot be had, or None.
    """

    row: int
    data: bytes | None
    problem: str | None = None


class ImageProblem(Exception):
    """Why the image of a row cannot be had.

    Attributes:
        is_missing: Whether there is no such file.
    """

    is_missing = False


class _MissingImage(ImageProblem):
    is_missing = True


class ImageFolder:
    """Reads images below one folder, and nothing outside of it.

    ``..``, absolute paths elsewhere and symbolic links that lead out are refused.
    """

    def __init__(self, fs: Any, folder: str, url: str) -> None:
        """Take a folder on a file system.

        Args:
            fs: An fsspec file system.
            folder: The folder's path on it.
            url: The folder as a user would write it; values may start with it.
        """
        from fsspec.implementations.local import LocalFileSystem

        self._fs, self._folder, self._url = fs, folder, url
        self._is_local = isinstance(fs, LocalFileSystem)

    def check(self) -> None:
        """Raise CaptionSourceError if it is a local folder and not there."""
        if self._is_local and not os.path.isdir(self._folder):
            raise CaptionSourceError(f"{self._url}: there is no such folder of images")

    def read(self, value: object) -> bytes | None:
        """The encoded image that a field stands for; None where it stands for none.

        Args:
            value: A path, relative to the folder or inside it; bytes; ``{bytes, path}`` as
                Hugging Face data sets store images; None or "" for no image; an http(s) URL,
                which is left alone.

        Raises:
            ImageProblem: The image is missing, unreadable, empty, too large or elsewhere.
        """
        if isinstance(value, dict) and {"bytes", "path"} & value.keys():
            data = value.get("bytes")
            value = value.get("path") if data is None else data
        if value is None or value == "":
            return None
        if isinstance(value, bytes):
            return checked_bytes(value)
        if not isinstance(value, str):
            raise ImageProblem("the image is neither a path nor bytes")
        if value.lower().startswith(("http://", "https://")):
            return None
        return self._read_local(value) if self._is_local else self._read_remote(value)

    def _read_local(self, path: str) -> bytes:
        try:
            root = os.path.realpath(self._folder)
            real = os.path.realpath(os.path.join(root, path))
            if os.path.commonpath([root, real]) != root:
                raise _outside(path, self._url)
            return read_image(real, f"image {_shown(path)}")
        except (OSError, ValueError) as error:  # ValueError: NUL, lone surrogates
            raise _unreadable(path, error) from error

    def _read_remote(self, path: str) -> bytes:
        inside = path.removeprefix(self._url.rstrip("/") + "/")
        # Percent signs: a web server would decode them before it walks the path.
        parts = unquote(inside).replace("\\", "/").split("/")
        if "://" in inside or "::" in inside or parts[0] == "" or ".." in parts:
            raise _outside(path, self._url)
        full = posixpath.join(self._folder, inside)
        try:
            _check_size(self._fs.info(full)["size"])
            return checked_bytes(self._fs.cat_file(full))
        except ImageProblem:
            raise
        except Exception as error:  # each file system has errors of its own
            raise _unreadable(path, error) from error


def read_image(path: str, name: str = "it") -> bytes:
    """The bytes of a file of an image.

    Args:
        path: Of the file.
        name: What messages call it.

    Raises:
        OSError: It cannot be read.
        ImageProblem: It is empty, too large, or no regular file.
    """
    info = os.stat(path)
    # A pipe or device could block or never end.
    if not stat.S_ISREG(info.st_mode):
        raise ImageProblem(f"{name} is not a regular file")
    _check_size(info.st_size)
    with open(path, "rb") as file:
        # By its own size: a buffer of the limit's would be made anew for every image.
        return checked_bytes(file.read(info.st_size + 1))


def _check_size(size: int | None) -> None:
    if size is not None and size > MAX_IMAGE_BYTES:
        raise ImageProblem(f"the image has {size:,} bytes, the limit is {MAX_IMAGE_BYTES:,}")


def checked_bytes(data: bytes) -> bytes:
    """The bytes of an image as they are; raises ImageProblem if they are none, or too many."""
    if not data:
        raise ImageProblem("the image is empty")
    _check_size(len(data))
    return data


def _unreadable(path: str, error: Exception) -> ImageProblem:
    kind = _MissingImage if isinstance(error, FileNotFoundError) else ImageProblem
    return kind(f"image {_shown(path)} cannot be read: {reason_of(error)}")


def _outside(path: str, root: str) -> ImageProblem:
    return ImageProblem(f"image {_shown(path)} is outside of the image folder {root}")


def _shown(path: str) -> str:
    return repr(path if len(path) <= 200 else path[:200] + "...")


#: A buffer of the limit's size would be made anew for every image.
_PART_BYTES = 1 << 20


def read_image_file(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """The one row of an image file."""
    if fields.image is None:
        raise CaptionSourceError(
            f"{fields.path}: an image has no caption of its own; set image_captioner, which writes "
            f"one"
        )
    yield Record("", image=read_bounded(file) if fields.wants(0) else None)


def read_bounded(file: BinaryIO) -> bytes:
    """The bytes of an open file; of one that is too large, one byte more than may be."""
    parts, left = [], MAX_IMAGE_BYTES + 1
    while left and (part := file.read(min(left, _PART_BYTES))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


#: More pixels are taken for a decompression bomb (Pillow's own first limit).
MAX_PIXELS = 89_478_485

#: CLIP scales the shorter side to its input size, so a long strip would become a huge image.
MAX_SIDE_RATIO = 100

# Not all that Pillow opens: for EPS, say, it would start Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")


def decode_image(data: bytes) -> Image:
    """The image as RGB: upright, on white where transparent, the first frame of an animation.

    16-bit grey keeps its upper 8 bits (Pillow's own conversion clips at 255).

    Raises:
        ValueError: It is damaged, of no known format, larger than ``MAX_PIXELS``, longer than
            ``MAX_SIDE_RATIO`` times its width (or the other way round), or has 32-bit pixels,
            whose range is not known.
    """
    import warnings

    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata; bombs, which have a limit below
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                _check_pixels(image.size)
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                return _rgb(image)
    except UnidentifiedImageError as error:  # its own message holds an address in memory
        raise ValueError("the original image cannot be used: it is of no known format") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error ...
        raise ValueError(f"the original image cannot be used: {first_line(error)}") from error


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels as stored; the pixels are not decoded.

    Raises:
        ValueError: It is of no known format, or its header is damaged.
    """
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                return image.size
    except Exception as error:  # as above; the message of an unknown format holds an address
        raise ValueError("the image cannot be used: it is of no known format") from error


def _check_pixels(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels, the limit is {MAX_PIXELS:,} in all")
    if max(size) > MAX_SIDE_RATIO * min(size):
        raise ValueError(f"{width} x {height}: a side is over {MAX_SIDE_RATIO} times the other")


def _rgb(image: Image) -> Image:
    from PIL import Image as Images

    if image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (mode {image.mode})")
    if image.mode.startswith("I;16"):
        return Images.fromarray((np.array(image) >> 8).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    front = image.convert("RGBA")
    back = Images.new("RGBA", image.size, "white")
    return Images.alpha_composite(back, front).convert("RGB")
