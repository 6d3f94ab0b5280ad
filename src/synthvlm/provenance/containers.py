"""Puts an XMP packet into a PNG, JPEG or WebP file; the coded pixels are copied as they are."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping

__all__ = ["with_xmp"]

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_XMP = "XML:com.adobe.xmp"
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
#: Further parts of a packet that is too long for one segment.
_JPEG_MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"
#: A segment's length, which counts its own two bytes, has 16 bits.
_JPEG_MOST = 2**16 - 1 - 2 - len(_JPEG_XMP)
_APP0, _APP1, _SCAN, _END = 0xE0, 0xE1, 0xDA, 0xD9
#: Flags of a WebP file's header: what else is in it.
_HAS_ALPHA, _HAS_XMP = 0x10, 0x04


def with_xmp(image: bytes, format: str, packet: bytes, texts: Mapping[str, str | None]) -> bytes:
    """An encoded image with an XMP packet in place of those that it has.

    Args:
        image: The encoded image.
        format: ``png``, ``jpeg`` or ``webp``.
        packet: XMP in UTF-8.
        texts: Text chunks of a PNG by keyword, in place of its own of these keywords; None for
            none. Other formats have no such texts.

    Raises:
        ValueError: It is no whole image of that format, or the packet is too long for it.
    """
    try:
        if format == "png":
            return _png(image, packet, texts)
        if format == "jpeg":
            return _jpeg(image, packet)
        if format == "webp":
            return _webp(image, packet)
    except (struct.error, IndexError):
        raise ValueError(f"it is cut off, or no {format} file") from None
    raise ValueError(f"{format!r} is none of png, jpeg, webp")


def _png(image: bytes, packet: bytes, texts: Mapping[str, str | None]) -> bytes:
    if not image.startswith(_PNG):
        raise ValueError("it is no PNG file")
    replaced = {_PNG_XMP.encode(), *(keyword.encode("latin-1") for keyword in texts)}
    pieces = [_PNG]
    for kind, data, chunk in _png_chunks(image):
        if kind in _PNG_TEXTS and data.partition(b"\0")[0] in replaced:
            continue
        pieces.append(chunk)
        if kind == b"IHDR":  # before the pixels, so that readers of headers find it
            pieces.append(_png_text(_PNG_XMP, packet))
            pieces += [_png_text(name, text.encode()) for name, text in texts.items() if text]
    return b"".join(pieces)


def _png_chunks(image: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Kind, data (of texts, else nothing) and all bytes of each chunk, up to the last."""
    start, kind = len(_PNG), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", image, start)
        end = start + length + 12
        if end > len(image):
            raise ValueError("the PNG file is cut off")
        data = image[start + 8 : end - 4] if kind in _PNG_TEXTS else b""
        yield kind, data, image[start:end]
        start = end


def _png_text(keyword: str, text: bytes) -> bytes:
    # Not compressed; of no language.
    body = b"iTXt" + keyword.encode("latin-1") + b"\0\0\0\0\0" + text
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _jpeg(image: bytes, packet: bytes) -> bytes:
    if not image.startswith(b"\xff\xd8\xff"):
        raise ValueError("it is no JPEG file")
    if len(packet) > _JPEG_MOST:
        raise ValueError(f"{len(packet):,} bytes of XMP are more than a JPEG holds in one piece")
    segment = struct.pack(">BBH", 0xFF, _APP1, 2 + len(_JPEG_XMP) + len(packet))
    xmp = segment + _JPEG_XMP + packet
    pieces, is_placed = [image[:2]], False
    start = 2
    while True:
        if image[start] != 0xFF:
            raise ValueError("the JPEG file is damaged: a segment does not begin where it should")
        marker = image[start + 1]
        if marker == 0xFF:  # padding
            start += 1
            continue
        is_header = marker == _APP0 or (
            marker == _APP1 and image.startswith(b"Exif\0", start + 4)
        )  # which come first
        if not is_header and not is_placed:
            pieces.append(xmp)
            is_placed = True
        if marker in (_SCAN, _END):
            pieces.append(image[start:])
            return b"".join(pieces)
        (length,) = struct.unpack_from(">H", image, start + 2)
        end = start + 2 + length
        if not (marker == _APP1 and image.startswith((_JPEG_XMP, _JPEG_MORE_XMP), start + 4)):
            pieces.append(image[start:end])
        start = end


def _webp(image: bytes, packet: bytes) -> bytes:
    if not (image.startswith(b"RIFF") and image[8:12] == b"WEBP"):
        raise ValueError("it is no WebP file")
    pieces: list[bytes] = []
    header = b""
    for kind, data, chunk in _webp_chunks(image):
        if kind == b"VP8X":
            header = data
        elif kind != b"XMP ":
            header = header or _webp_header(kind, data)
            pieces.append(chunk)
    flags = bytes([header[0] | _HAS_XMP])
    pieces = [_webp_chunk(b"VP8X", flags + header[1:10]), *pieces, _webp_chunk(b"XMP ", packet)]
    body = b"".join([b"WEBP", *pieces])
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_chunks(image: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Kind, data and all bytes of each chunk."""
    (size,) = struct.unpack_from("<I", image, 4)
    start, last = 12, 8 + size
    if last > len(image):
        raise ValueError("the WebP file is cut off")
    while start < last:
        kind, length = struct.unpack_from("<4sI", image, start)
        end = start + 8 + length
        if end > last:
            raise ValueError("the WebP file is cut off")
        data = image[start + 8 : end]
        yield kind, data, _webp_chunk(kind, data)
        start = end + length % 2


def _webp_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _webp_header(kind: bytes, data: bytes) -> bytes:
    """The header that a file of one chunk does without: flags, width and height."""
    flags = 0
    if kind == b"VP8 ":
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", data, 6))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 1)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        flags = _HAS_ALPHA if bits >> 28 & 1 else 0
    else:
        raise ValueError("it is no WebP file of one image")
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return bytes([flags, 0, 0, 0]) + size
