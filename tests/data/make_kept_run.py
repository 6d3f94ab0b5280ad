"""Make ``tests/data/kept_run/`` anew: a finished run folder of this release, kept as test data.

    python tests/data/make_kept_run.py

takes seconds on a CPU. Later releases must find nothing to do in it (``tests/test_kept_run.py``).
Make it anew only where a release is meant to redo finished work, and say so in CHANGELOG.md.

Six captions in two shards: one is a duplicate, one is rejected by a measure of its text, one by
the perplexity of the embedded language model. Two candidates each, all models embedded, one thread.
The report and the events, which hold times, are left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

from synthvlm import Pipeline, Recipe

DATA = Path(__file__).parent
FOLDER = DATA / "kept_run"
#: Beside the folder, and named relative to this one: so it is the same wherever the tests lie.
CAPTIONS = "kept_captions.jsonl"
TEXTS = {
    "first": "there is a small brown cross",
    "second": "There are two gray triangles.",
    "again": "there is a small brown cross",
    "digits": "4815162342 2342161584 4815162342 2342161584",
    "odd": "The sea is calm at dawn, and no ship is to be seen.",
    "third": "three green crosses in a row. the background is pink",
}
OVERRIDES = [
    "seed=7",
    "sources.0.name=kept",
    "curation.rules.perplexity={model: tiny, max: 100.0}",
    "generation.candidates=2",
    "generation.steps=2",
    "selection.top_fraction=0.7",
    "report.preview_share=1.0",
    "run.shard_size=3",
    "run.batch_size=4",
    "run.threads=1",
    "run.device=cpu",
]


def main() -> None:
    """Write the captions, run, and take out what holds times."""
    lines = [json.dumps({"id": id, "caption": text}) for id, text in TEXTS.items()]
    (DATA / CAPTIONS).write_text("\n".join(lines) + "\n")
    shutil.rmtree(FOLDER, ignore_errors=True)
    with contextlib.chdir(DATA):
        Pipeline(Recipe.load("tiny", captions=[CAPTIONS], overrides=OVERRIDES), FOLDER).run(
            "export"
        )
    shutil.rmtree(FOLDER / "events")


if __name__ == "__main__":
    main()
