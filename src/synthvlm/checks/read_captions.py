"""``synthvlm captions``: the kept and the rejected captions of a run, to read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from synthvlm.run.kept_recipe import open_folder
from synthvlm.stages.curation.curated import CuratedCaptions, Query, bounds_in_words

if TYPE_CHECKING:
    from synthvlm.stages.curation.curated import CuratedCaption

__all__ = ["captions_command"]


def captions_command(
    url: str,
    *,
    kept: bool | None = None,
    rule: str | None = None,
    near_bound: bool = False,
    search: str | None = None,
    sample: int | None = None,
    as_json: bool = False,
) -> Iterator[str]:
    """The captions of a run to which all of this applies: a text for each, then their count.

    Args:
        url: The run folder.
        kept: As the attributes of ``Query``; so are ``rule``, ``near_bound`` and ``search``.
        rule: See there.
        near_bound: See there.
        search: See there.
        sample: Only so many of them, chosen by a hash of their id.
        as_json: A JSON object on one line for each, and no count.

    Raises:
        RunFolderError: It is not a run folder, nothing in it is curated, or the query asks for a
            step that it lacks.
    """
    run, recipe = open_folder(url)
    captions = CuratedCaptions(run, recipe, Query(kept, rule, near_bound, search))
    for caption in captions if sample is None else captions.sample(sample):
        yield _json(caption) if as_json else _text(caption, rule)
    if not as_json:
        chosen = ""
        if sample is not None and sample < captions.matches:
            chosen = f"; {sample:,} of them are shown, chosen by a hash of their id"
        yield f"{captions.matches:,} of {captions.captions:,} captions{chosen}"


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


def _json(caption: CuratedCaption) -> str:
    values = asdict(caption)
    values["measures"] = {
        name: {"value": measure.value, "min": measure.bounds[0], "max": measure.bounds[1]}
        for name, measure in caption.measures.items()
    }
    return json.dumps({**values, "kept": caption.rejected_by is None})
