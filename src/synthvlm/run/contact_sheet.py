"""A run as HTML for notebooks: its counts, and a small contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from synthvlm.report.gallery import picture
from synthvlm.run.shards import pair_shards
from synthvlm.safe_text import for_html

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["contact_sheet"]

_PAIRS = 12
_SIDE = 144
_CAPTION_CHARACTERS = 120


def contact_sheet(run: RunFolder, recipe: Recipe, report: str | None) -> str:
    """The counts of a run and its best selected pairs, or some pairs before the selection.

    It loads nothing from elsewhere: the images are in it, at most 144 pixels wide and high.
    """
    lines = [f"<p><b>{for_html(run.url)}</b>: {', '.join(_counts(run))}</p>"]
    cards = [_card(row) for row in _pairs(run, recipe)]
    if cards:
        style = "display:flex;flex-wrap:wrap;gap:8px;align-items:flex-start"
        lines.append(f'<div style="{style}">{"".join(cards)}</div>')
    if report is not None:
        lines.append(f"<p>report: <code>{for_html(report)}</code></p>")
    return f"<div>{''.join(lines)}</div>"


def _counts(run: RunFolder) -> Iterator[str]:
    captions = [marker.facts for marker in run.markers("curate").values()]
    if not captions:
        yield "no captions yet"
        return
    yield f"{sum(int(facts['captions']) for facts in captions):,} captions"
    yield f"{sum(int(facts['kept']) for facts in captions):,} kept"
    generated = run.markers("generate").values()
    if generated:
        yield f"{sum(int(marker.facts['candidates']) for marker in generated):,} candidates"
    selection = run.marker("select", 0)
    if selection is not None:
        yield f"{selection.facts['selected']:,} of {selection.facts['pairs']:,} pairs selected"


def _pairs(run: RunFolder, recipe: Recipe) -> list[dict[str, Any]]:
    """The pairs of the sheet: the best selected ones, in their order, or else the first ones."""
    import pyarrow.compute as pc

    shards = pair_shards(run, recipe)
    selection = run.marker("select", 0)
    if selection is None:
        first: list[dict[str, Any]] = []
        for shard in shards:
            first += shard.rows(range(min(_PAIRS - len(first), shard.count())))
        return first
    ranked = run.read_table(selection.files[0].path, ["rank", "caption_id", "shard"])
    best = ranked.filter(pc.less_equal(ranked["rank"], _PAIRS))
    numbers = set(best["shard"].to_pylist())
    rows = []
    for shard in shards:
        if shard.number in numbers:
            (ids,) = shard.parts(["id"])
            rows += shard.rows(pc.indices_nonzero(pc.is_in(ids["id"], best["caption_id"])))
    return sorted((row for row in rows if row["rank"] is not None), key=itemgetter("rank"))


def _card(row: Mapping[str, Any]) -> str:
    text = row["caption"]
    if len(text) > _CAPTION_CHARACTERS:
        text = f"{text[:_CAPTION_CHARACTERS]} ..."
    rank = "" if row["rank"] is None else f"{row['rank']:,}: "
    return (
        f'<figure style="margin:0;width:{_SIDE}px">{_image(row["image"])}'
        f'<figcaption dir="auto" style="font-size:11px;overflow-wrap:anywhere">'
        f"{for_html(text)}<br>{rank}{row['score']:.3f}</figcaption></figure>"
    )


def _image(data: bytes) -> str:
    small = picture(data, _SIDE)
    if small is None:
        return "(the image is damaged)"
    smooth = "image-rendering:pixelated;" if small.pixelated else ""
    return f'<img src="{small.src}" alt="" style="{smooth}width:{_SIDE}px;height:auto">'
