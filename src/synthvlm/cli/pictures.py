"""Pictures in a terminal: as sixels where it says that it shows them, else as half blocks."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Pictures", "print_picture", "says_sixel", "sixels", "terminal_pictures"]

#: Terminals that show sixels: they need not be asked.
_SIXEL_TERMS = ("foot", "mlterm", "contour")
_SIXEL_PROGRAMS = ("WezTerm", "iTerm.app", "mintty")
#: The attribute of a terminal that shows sixels, in its reply to DA1.
_SIXEL = "4"
_DA1, _REPLY_S, _LONGEST_REPLY = b"\x1b[c", 1.0, 256
_COLORS = 128
_BLOCK = "▀"
#: Width of a picture in columns of half blocks, and in pixels of sixels.
_BLOCK_SIDE, _SIXEL_SIDE, _SIXEL_COLUMNS = 20, 120, 13


class Pictures(NamedTuple):
    """How a terminal shows pictures.

    Attributes:
        form: As what.
        side: Width and height of a picture in its pixels: two of half blocks are a character.
        per_line: Pictures side by side.
    """

    form: Literal["sixels", "half blocks"]
    side: int
    per_line: int


def terminal_pictures() -> Pictures | None:
    """How standard output shows pictures; None where it is no terminal, or shows few colours."""
    from rich.console import Console

    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return None
    console = Console()
    # Rich knows which terminals have how many colours.
    if console.is_dumb_terminal or console.color_system not in ("truecolor", "256"):
        return None
    if _has_sixels():
        return Pictures("sixels", _SIXEL_SIDE, max(1, console.width // _SIXEL_COLUMNS))
    try:
        _BLOCK.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return None
    return Pictures("half blocks", _BLOCK_SIDE, max(1, console.width // (_BLOCK_SIDE + 1)))


def print_picture(image: Image.Image, form: Literal["sixels", "half blocks"]) -> None:
    """Print an RGB image to standard output."""
    if form == "sixels":
        sys.stdout.write(f"{sixels(image)}\n")
        sys.stdout.flush()
        return
    import numpy as np
    from rich.color import Color
    from rich.console import Console
    from rich.segment import Segment, Segments
    from rich.style import Style

    pixels = np.asarray(image)
    if len(pixels) % 2:
        pixels = np.pad(pixels, ((0, 1), (0, 0), (0, 0)))
    segments = []
    for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        for above, below in zip(upper, lower, strict=True):
            style = Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below))
            segments.append(Segment(_BLOCK, style))
        segments.append(Segment.line())
    Console().print(Segments(segments), end="")


def sixels(image: Image.Image) -> str:
    """An RGB image as DEC sixel graphics of at most 128 colours."""
    import numpy as np
    from PIL import Image as Pillow

    indexed = image.quantize(_COLORS, dither=Pillow.Dither.NONE)
    palette = np.array(indexed.getpalette(), np.int64).reshape(-1, 3)
    pixels = np.asarray(indexed)
    parts = [f'\x1bP0;1q"1;1;{image.width};{image.height}']
    for color in np.unique(pixels):
        red, green, blue = (round(value * 100 / 255) for value in palette[color].tolist())
        parts.append(f"#{color};2;{red};{green};{blue}")
    for top in range(0, image.height, 6):
        band = pixels[top : top + 6]
        weights = 1 << np.arange(len(band))
        for color in np.unique(band):
            sums = ((band == color) * weights[:, None]).sum(axis=0)
            runs = "".join(f"!{len(list(run))}{chr(63 + n)}" for n, run in groupby(sums.tolist()))
            parts.append(f"#{color}{runs}$")
        parts.append("-")
    return "".join([*parts, "\x1b\\"])


def _has_sixels() -> bool:
    term = os.environ.get("TERM", "")
    if term.startswith(_SIXEL_TERMS):
        return True
    # A multiplexer passes on the variables of the terminal that it began in.
    is_direct = not term.startswith(("screen", "tmux"))
    if is_direct and os.environ.get("TERM_PROGRAM") in _SIXEL_PROGRAMS:
        return True
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return says_sixel(terminal)
    finally:
        os.close(terminal)


def says_sixel(terminal: int, patience_s: float = _REPLY_S) -> bool:
    """Ask a terminal for its attributes (DA1); False where it does not answer in time.

    Args:
        terminal: Its file descriptor, to read and to write.
        patience_s: Seconds to wait for the answer.
    """
    reply = b""
    with suppress(OSError), _unbuffered(terminal) as is_asked:
        if not is_asked:
            return False
        os.write(terminal, _DA1)
        end = time.monotonic() + patience_s
        while not reply.endswith(b"c") and len(reply) < _LONGEST_REPLY:
            ready, _, _ = select.select([terminal], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return False
            reply += os.read(terminal, 1)
    _, _, attributes = reply.decode("ascii", "replace").rpartition("\x1b[?")
    return _SIXEL in attributes.removesuffix("c").split(";")


@contextmanager
def _unbuffered(terminal: int) -> Iterator[bool]:
    """Take what is typed at once and unseen; False where the terminal is another process's."""
    try:
        import termios
        import tty
    except ImportError:  # Windows
        yield False
        return
    with suppress(OSError):
        if os.tcgetpgrp(terminal) != os.getpgrp():
            yield False  # a process in the background would be stopped
            return
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        yield True
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
