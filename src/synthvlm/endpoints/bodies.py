"""The body of an HTTP response, read no further than a limit: it comes from a stranger."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2

__all__ = ["ACCEPTED_ENCODING", "MAX_BODY_BYTES", "UnusableBodyError", "read_body"]

#: A longer body, also one that is longer when it is decompressed, is no answer.
MAX_BODY_BYTES = 1 << 28

#: What requests ask for; compressors that decode all that came at once cannot be held to a limit.
ACCEPTED_ENCODING = "gzip"

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


class UnusableBodyError(Exception):
    """The body is too long, or encoded otherwise than asked."""


async def read_body(response: httpx2.Response) -> bytes:
    """The decoded body of a response that is open as a stream.

    Raises:
        UnusableBodyError: It is longer than ``MAX_BODY_BYTES``, damaged, or encoded otherwise than
            by ``ACCEPTED_ENCODING``.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "deflate"):
        raise UnusableBodyError(
            f"the answer is encoded as {encoding[:50]!r}, which nobody asked for"
        )
    decoder = None if encoding == "identity" else zlib.decompressobj(_GZIP_OR_ZLIB)
    body = bytearray()
    async for chunk in response.aiter_raw():
        if decoder is not None:
            try:
                chunk = decoder.decompress(chunk, MAX_BODY_BYTES + 1 - len(body))
            except zlib.error as error:
                raise UnusableBodyError(f"the answer is damaged: {error}") from error
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise UnusableBodyError(f"the answer is longer than {MAX_BODY_BYTES >> 20} MiB")
    return bytes(body)
