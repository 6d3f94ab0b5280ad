"""A run folder written by hand, and its report parsed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from synthvlm.captions.rules import RULES
from synthvlm.captions.rules.base import TextRule
from synthvlm.data import (
    Candidate,
    Pair,
    Preview,
    candidate_table,
    caption_schema,
    measure_schema,
    pair_schema,
    preview_schema,
)
from synthvlm.progress.display import SilentProgress
from synthvlm.recipe import Recipe
from synthvlm.report import write_report
from synthvlm.run_folder.folder import RunFolder, table_bytes
from synthvlm.scorers import SCORERS
from synthvlm.selectors.selection import select_pairs
from synthvlm.selectors.top import TopSelector

TEXT_RULES = [name for name in RULES.names() if issubclass(RULES[name], TextRule)]
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """The elements of a page, their attributes, and the text of each."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._by_id: dict[str, list[str]] = {}
        self._open: list[tuple[str, str | None]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.elements.append((tag, values))
        if tag not in VOID:
            self._open.append((tag, values.get("id")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] in ("script", "style"):
            return
        self.text += data
        for _, id in self._open:
            if id is not None:
                self._by_id.setdefault(id, []).append(data)

    def section(self, id: str) -> str:
        """The text below an element, blanks made single."""
        return " ".join(" ".join(self._by_id.get(id, [])).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def ids(self) -> set[str]:
        return {attrs["id"] for _, attrs in self.elements if attrs.get("id")}  # type: ignore[misc]


def image_bytes(color: str = "red", side: int = 8, format: str = "png") -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (side, side), color).save(sink, format)
    return sink.getvalue()


def caption(id: str, text: str = "a red ball", reason: str | None = None, **more: Any) -> dict:
    """A row of ``captions/``."""
    row = dict.fromkeys(caption_schema(RULES.names()).names)
    row.update({"id": id, "source": "test", "row": 0, "text_raw": text, "text": text})
    row.update(dict.fromkeys(TEXT_RULES, 0.25))
    row.update({"kept": reason is None, "rejected_by": reason, **more})
    return row


def candidate(id: str, index: int, clip: float | None, ssim: float | None = 0.5, **more: Any):
    """A row of ``candidates/``; without a CLIPScore a failed one."""
    values: dict[str, Any] = {"seed": 7, "status": "ok", "fingerprint": "f"}
    if clip is None or ssim is None:
        values |= {"status": "failed", "problem": "the image is black"}
    else:
        values |= {"scores": {"clip": clip, "ssim": ssim}, "score": clip + 0.5 * ssim}
    return Candidate(id, index, **(values | more))


def pair(id: str, index: int, image: bytes | None = None) -> Pair:
    """A row of ``pairs/``."""
    return Pair(id, index, image or image_bytes(), "png", 8, 8, [0.0] * 4, [0.0] * 4)


def rows_table(records: Sequence[Any], schema: pa.Schema) -> pa.Table:
    columns = {name: [getattr(r, name) for r in records] for name in schema.names}
    return pa.Table.from_pydict(columns, schema)


@dataclass
class Builder:
    """Writes a run folder stage by stage, and its report."""

    root: Path
    overrides: tuple[str, ...] = ()
    tables: list[tuple[int, pa.Table]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.run = RunFolder(self.root)
        self.run.prepare()
        self.recipe = Recipe.load("tiny", overrides=["report.gallery=6", *self.overrides])

    def measured(self, shard: int, rows: Sequence[dict[str, Any]]) -> None:
        schema = measure_schema(TEXT_RULES)
        table = pa.Table.from_pylist([{n: row[n] for n in schema.names} for row in rows], schema)
        file = self.run.write_table("measures", shard, table)
        self.run.commit("measure", shard, "m", [file], {"captions": table.num_rows})

    def curated(self, shard: int, rows: Sequence[dict[str, Any]]) -> None:
        self.measured(shard, rows)
        table = pa.Table.from_pylist(list(rows), caption_schema(RULES.names()))
        self.run.commit("curate", shard, "c", [self.run.write_table("captions", shard, table)])

    def generated(
        self,
        shard: int,
        candidates: Sequence[Candidate],
        pairs: Sequence[Pair] = (),
        previews: Sequence[Preview] = (),
    ) -> None:
        files = []
        for folder, records, schema in (
            ("pairs", pairs, pair_schema()),
            ("previews", previews, preview_schema()),
        ):
            if records:
                files.append(self.run.write_table(folder, shard, rows_table(records, schema)))
        table = candidate_table(candidates, SCORERS.names())
        if candidates:
            files.append(self.run.write_table("candidates", shard, table))
        self.run.commit("generate", shard, "g", files)
        self.tables.append((shard, table))

    def selected(self, **settings: Any) -> None:
        total, _, selection = select_pairs(
            self.tables, selector=TopSelector(), scorers=SCORERS.names(), **settings
        )
        file = self.run.write("selection.parquet", table_bytes(selection))
        facts = {"pairs": total, "selected": selection.num_rows}
        self.run.commit("select", 0, "s", [file], facts)

    def page(self) -> Page:
        write_report(self.run, self.recipe, SilentProgress())
        return Page(self.run.read("report/index.html").decode("utf-8"))
