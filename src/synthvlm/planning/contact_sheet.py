"""All candidates of a preview as one picture, and those of a caption as a strip."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from synthvlm.safe_text import printable

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

    from synthvlm.planning.previewed import PreviewedCaption

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

__all__ = ["contact_sheet", "strip"]

_TILE, _GAP, _MARGIN, _PER_LINE = 160, 8, 16, 6
_BORDER = 3
_LINE, _FONT_SIZE, _TEXT_LINES, _CHARACTERS = 20, 15, 3, 1000
_PAPER, _INK, _FAINT, _WINNER, _EMPTY = "#f0f0f0", "#1a1a1a", "#666666", "#0a7d33", "#dddddd"


def contact_sheet(captions: Sequence[PreviewedCaption]) -> bytes:
    """Captions with all their candidates, the winners framed, as a PNG.

    Characters that Pillow's own font lacks are boxes in it; the texts are in the preview.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_FONT_SIZE)
    most = max((len(caption.candidates) for caption in captions), default=1)
    columns = max(4, min(most, _PER_LINE))
    width = 2 * _MARGIN + columns * (_TILE + _GAP) - _GAP
    texts = [
        _wrapped(f"{number}. {caption.text}", font, width - 2 * _MARGIN)
        for number, caption in enumerate(captions, start=1)
    ]
    heights = [
        _height(caption, columns, len(lines))
        for caption, lines in zip(captions, texts, strict=True)
    ]
    sheet = Image.new("RGB", (width, 2 * _MARGIN + sum(heights)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN
    for caption, lines, height in zip(captions, texts, heights, strict=True):
        _draw_caption(sheet, draw, font, caption, lines, top, columns)
        top += height
    sink = io.BytesIO()
    sheet.save(sink, "PNG")
    return sink.getvalue()


def strip(caption: PreviewedCaption, side: int, most: int) -> Image.Image | None:
    """The candidates of a caption side by side, the winner framed; None where there is no image.

    Args:
        caption: The caption.
        side: Width and height of each in pixels.
        most: The winner and as many others as make this number.
    """
    from PIL import Image

    rows = [row for row in caption.candidates if row.index in caption.pictures]
    shown = {row.index for row in sorted(rows, key=lambda row: not row.chosen)[:most]}
    rows = [row for row in rows if row.index in shown]
    if not rows:
        return None
    gap = max(1, side // 12)
    image = Image.new("RGB", (len(rows) * (side + gap) - gap, side), "#000000")
    for place, row in enumerate(rows):
        tile = _tile(caption.pictures[row.index], side, max(1, side // 32) if row.chosen else 0)
        image.paste(tile, (place * (side + gap), 0))
    return image


def _height(caption: PreviewedCaption, columns: int, lines: int) -> int:
    rows = -(-max(1, len(caption.candidates)) // columns)
    return (lines + 1) * _LINE + rows * (_TILE + _LINE + _GAP) + 2 * _GAP


def _draw_caption(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    font: Font,
    caption: PreviewedCaption,
    lines: Sequence[str],
    top: int,
    columns: int,
) -> None:
    for line in lines:
        draw.text((_MARGIN, top), line, _INK, font)
        top += _LINE
    about = f"{caption.selection} ({caption.id})"
    (line, *_) = _wrapped(about, font, sheet.width - 2 * _MARGIN)
    draw.text((_MARGIN, top), line, _FAINT, font)
    top += _LINE + _GAP // 2
    for place, row in enumerate(caption.candidates):
        x = _MARGIN + place % columns * (_TILE + _GAP)
        y = top + place // columns * (_TILE + _LINE + _GAP)
        picture = caption.pictures.get(row.index)
        if picture is None:
            draw.rectangle((x, y, x + _TILE - 1, y + _TILE - 1), _EMPTY)
        else:
            sheet.paste(_tile(picture, _TILE, _BORDER if row.chosen else 0), (x, y))
        score = row.status if row.score is None else f"{row.score:.3f}"
        label = f"{row.index}: {score}{'  winner' if row.chosen else ''}"
        draw.text((x, y + _TILE + 1), label, _WINNER if row.chosen else _FAINT, font)


def _tile(data: bytes, side: int, border: int) -> Image.Image:
    """An image in the middle of a square, with a frame that is ``border`` pixels wide."""
    from PIL import Image, ImageOps

    inner = side - 2 * border
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    # Pixels of the smallest images are shown as they are.
    is_small = inner >= 2 * max(image.size)
    how = Image.Resampling.NEAREST if is_small else Image.Resampling.LANCZOS
    return ImageOps.expand(ImageOps.pad(image, (inner, inner), how, _PAPER), border, _WINNER)


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    """The first lines of a text, none wider than ``width`` pixels."""
    lines = [""]
    for word in printable(text)[:_CHARACTERS].split():
        while word:
            line = f"{lines[-1]} {word}".strip()
            if font.getlength(line) <= width:
                lines[-1], word = line, ""
            elif lines[-1]:
                lines.append("")
            else:
                fits = 1
                while font.getlength(word[: fits + 1]) <= width:
                    fits += 1
                lines[-1], word = word[:fits], word[fits:]
                lines.append("")
        if len(lines) > _TEXT_LINES:
            return [*lines[: _TEXT_LINES - 1], f"{lines[_TEXT_LINES - 1][:-4]} ..."]
    return lines if lines[-1] or len(lines) == 1 else lines[:-1]
