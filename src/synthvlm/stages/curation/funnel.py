"""The funnel of curation as lines for a terminal: per rule what came in, what was let pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from synthvlm.stages.curation.curate import reasons_in_order, reasons_on

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["funnel_lines"]


def funnel_lines(run: RunFolder, recipe: Recipe, counts: Mapping[str, int]) -> list[str]:
    """One line per step that is on or rejected something, and a heading.

    Args:
        run: Its log of events tells how fast each rule last measured.
        recipe: The recipe.
        counts: Of ``curate.totals``.
    """
    rejecting = {name for name in counts if name not in ("captions", "kept")}
    steps = reasons_in_order(rejecting.union(reasons_on(recipe)))
    width = max(map(len, ["rule", *steps]))
    lines = [f"{'rule':<{width}}  {'in':>12}  {'out':>12}  {'passed':>7}  {'captions/s':>11}"]
    rates = _rates(run)
    left = counts["captions"]
    for name in steps:
        out = left - counts.get(name, 0)
        share = f"{out / left:.1%}" if left else "-"
        rate = f"{rates[name]:,.0f}" if name in rates else "-"
        lines.append(f"{name:<{width}}  {left:>12,}  {out:>12,}  {share:>7}  {rate:>11}")
        left = out
    return lines


def _rates(run: RunFolder) -> dict[str, float]:
    """Captions per second of each rule, when it last measured."""
    run.flush_events()
    return {
        event["rule"]: event["captions"] / event["seconds"]
        for event in run.events()
        if event.get("event") == "rule" and event.get("seconds")
    }
