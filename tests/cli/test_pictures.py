"""Pictures in a terminal: when, and that they are the right pixels."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from synthvlm.cli import pictures
from synthvlm.cli.pictures import Pictures, print_picture, says_sixel, sixels, terminal_pictures


def picture() -> Image.Image:
    """Three rows and four columns of different colours."""
    rows = [[(40 * x, 50 * y, 255 - 30 * x) for x in range(4)] for y in range(3)]
    return Image.fromarray(np.array(rows, np.uint8))


class Terminal:
    """A pseudo terminal that answers DA1 with a reply; nothing is answered without one."""

    def __init__(self, reply: bytes | None) -> None:
        self.ours, self.theirs = pty.openpty()
        self.asked = b""
        self._thread = threading.Thread(target=self._answer, args=(reply,))
        self._thread.start()

    def _answer(self, reply: bytes | None) -> None:
        while not self.asked.endswith(b"c"):
            self.asked += os.read(self.ours, 1)
        if reply is not None:
            os.write(self.ours, reply)

    def close(self) -> None:
        self._thread.join()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"\x1b[?62;4;22c", True),
        (b"\x1b[?4c", True),
        (b"typed before\x1b[?65;1;4c", True),
        (b"\x1b[?62;22;44c", False),
        (b"\x1b[?6c", False),
        (b"nonsensec", False),
        (b"\x1b[?62;4", False),
        (None, False),
    ],
)
def test_a_terminal_is_asked_for_sixels(reply: bytes | None, expected: bool) -> None:
    terminal = Terminal(reply)
    try:
        patience = 0.05 if reply is None or not reply.endswith(b"c") else 30.0
        assert says_sixel(terminal.theirs, patience) is expected
        assert terminal.asked == b"\x1b[c"
    finally:
        terminal.close()


def colors_of_blocks(printed: str) -> list[list[tuple[int, ...]]]:
    """The pixels of half blocks in true colours, row by row."""
    rows: list[list[tuple[int, ...]]] = []
    for line in printed.splitlines():
        cells = re.findall(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀", line)
        numbers = [list(map(int, cell)) for cell in cells]
        rows += [[tuple(cell[:3]) for cell in numbers], [tuple(cell[3:]) for cell in numbers]]
    return rows


def test_half_blocks_are_the_pixels(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_picture(picture(), "half blocks")
    pixels = [[tuple(pixel) for pixel in row] for row in np.asarray(picture()).tolist()]
    assert colors_of_blocks(capsys.readouterr().out) == [*pixels, [(0, 0, 0)] * 4]


def decoded(text: str) -> np.ndarray:
    """The pixels of sixels, in 0 .. 100; -1 where none is set."""
    match = re.fullmatch(r'\x1bP0;1q"1;1;(\d+);(\d+)(.*)\x1b\\', text, re.DOTALL)
    assert match is not None
    width, height = int(match[1]), int(match[2])
    pixels = np.full((-(-height // 6) * 6, width, 3), -1)
    palette: dict[int, tuple[int, ...]] = {}
    x = y = color = 0
    for part in re.finditer(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)([?-~])|[$-]", match[3]):
        if part[1]:
            palette[int(part[1])] = (int(part[2]), int(part[3]), int(part[4]))
        elif part[5]:
            color = int(part[5])
        elif part[6]:
            for _ in range(int(part[6])):
                for bit in range(6):
                    if (ord(part[7]) - 63) >> bit & 1:
                        pixels[y + bit, x] = palette[color]
                x += 1
        else:
            x, y = 0, y + 6 * (part[0] == "-")
    assert (pixels[height:] == -1).all()
    return pixels[:height]


def test_sixels_are_the_pixels() -> None:
    tall = picture().resize((8, 15), Image.Resampling.NEAREST)
    expected = np.asarray(tall).astype(float) * 100 / 255
    assert np.abs(decoded(sixels(tall)) - expected).max() <= 1.5


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"NO_COLOR": "1"}, None),
        ({"TERM": "dumb"}, None),
        ({"TERM": "xterm", "COLORTERM": ""}, None),  # 16 colours
        ({}, Pictures("half blocks", 20, 4)),
        ({"TERM": "foot"}, Pictures("sixels", 120, 6)),
        ({"TERM_PROGRAM": "WezTerm"}, Pictures("sixels", 120, 6)),
        ({"TERM_PROGRAM": "WezTerm", "TERM": "screen-256color"}, Pictures("half blocks", 20, 4)),
    ],
)
def test_what_a_terminal_shows(
    environment: dict[str, str], expected: Pictures | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_terminal(*_: object) -> int:
        raise OSError

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(os, "open", no_terminal)
    for name in ("NO_COLOR", "TERM_PROGRAM", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    defaults = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "90"}
    for name, value in (defaults | environment).items():
        monkeypatch.setenv(name, value)
    assert terminal_pictures() == expected


def test_output_that_cannot_hold_half_blocks_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Output(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Output(io.BytesIO(), encoding="latin-1"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("TERM_PROGRAM", raising=False)
    monkeypatch.setattr(pictures, "_has_sixels", lambda: False)
    assert terminal_pictures() is None


def test_nothing_is_shown_where_output_is_piped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert terminal_pictures() is None
