"""``synthvlm captions``: the kept and the rejected captions of a run, to read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from synthvlm.run.kept_recipe import open_folder
from synthvlm.stages.curation.curated import CuratedCaptions, Query, bounds_in_words

if TYPE_CHECKING:
    from synthvlm.stages.curation.curated import CuratedCaption

__all__ = ["CaptionsToRead", "Query"]


class CaptionsToRead:
    """The captions of a run that a query asks for, read from its folder as they are iterated."""

    def __init__(self, url: str, query: Query, sample: int | None = None) -> None:
        """Look at the run; no caption is read yet.

        Args:
            url: The run folder.
            query: Which captions.
            sample: Only so many of them, chosen by a hash of their id.

        Raises:
            RunFolderError: It is not a run folder, nothing in it is curated, or the query asks for
                a step that it lacks.
        """
        self._folder = open_folder(url)
        self._query, self._sample = query, sample
        self._captions()

    def _captions(self) -> CuratedCaptions:
        return CuratedCaptions(*self._folder, self._query)

    def __iter__(self) -> Iterator[CuratedCaption]:
        """All of them, in the order of sources and rows."""
        captions = self._captions()
        yield from captions if self._sample is None else captions.sample(self._sample)

    def text(self) -> str:
        """A text for each, and their count."""
        return "\n".join(self.lines())

    def values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"captions": list(map(_values, self))}

    def lines(self) -> Iterator[str]:
        """What ``text`` consists of, while it is read."""
        captions = self._captions()
        for caption in captions if self._sample is None else captions.sample(self._sample):
            yield _text(caption, self._query.rule)
        chosen = ""
        if self._sample is not None and self._sample < captions.matches:
            chosen = f"; {self._sample:,} of them are shown, chosen by a hash of their id"
        yield f"{captions.matches:,} of {captions.captions:,} captions{chosen}"

    def json_lines(self) -> Iterator[str]:
        """A JSON object for each, while it is read."""
        return (json.dumps(_values(caption)) for caption in self)


def _text(caption: CuratedCaption, rule: str | None) -> str:
    verdict = "kept"
    if caption.rejected_by is not None:
        verdict = f"rejected by {caption.rejected_by}: {caption.reason}"
    measures = [
        f"{name} {measure.value:.4g}"
        + (f" ({bounds})" if (bounds := bounds_in_words(measure.bounds, 4)) else "")
        for name, measure in caption.measures.items()
        if rule in (None, name)
    ]
    lines = [f"{caption.id}  {verdict}", f"    {caption.text or '(no text)'}"]
    if measures:
        lines.append(f"    {', '.join(measures)}")
    # An id or a text must not look like a line of ours.
    return "\n".join(line.replace("\n", r"\n") for line in lines) + "\n"


def _values(caption: CuratedCaption) -> dict[str, Any]:
    values = asdict(caption)
    values["measures"] = {
        name: {"value": measure.value, "min": measure.bounds[0], "max": measure.bounds[1]}
        for name, measure in caption.measures.items()
    }
    return {**values, "kept": caption.rejected_by is None}
