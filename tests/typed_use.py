"""Uses of the package as type checkers see them; mypy checks this file, and nothing runs it."""

from __future__ import annotations

from typing import Any, assert_type

import synthvlm
from synthvlm import Pipeline, Recipe, Run

recipe = Recipe.load("tiny", captions=["captions.jsonl"])
run = Pipeline(recipe, "runs/first").run()
assert_type(run, Run)
assert_type(synthvlm.open_run("runs/first"), Run)
assert_type(run.report, str | None)
assert_type(run.pairs[0], dict[str, Any])
assert_type(run.pairs[:2], list[dict[str, Any]])
assert_type(len(run.candidates), int)
assert_type(run.summaries[-1].counts["selected"], int)
assert_type(synthvlm.plan(recipe)["images"].value, float)
assert_type(synthvlm.preview(recipe, pairs=3).captions[0].why, str)
assert_type([caption.id for caption in synthvlm.read_captions(run, kept=False)], list[str])
assert_type(synthvlm.verify(run, discard=True).text(), str)
assert_type(synthvlm.regenerate(run, "a1", all=True).is_same, bool)
assert_type(synthvlm.status(run).next, str | None)
assert_type(synthvlm.diff(run, "data.json").is_same, bool)
assert_type(synthvlm.train("tiny-pretrain", "model", data=[run]).model, str)
assert_type(synthvlm.convert(run, ["messages"], "elsewhere"), str)
assert_type(synthvlm.rate(run, judge="tiny").pairs, int)
# An unknown name, and a word that a command does not have.
synthvlm.open_ran("runs/first")  # type: ignore[attr-defined]
synthvlm.plan(recipe, smaple=2)  # type: ignore[call-arg]
