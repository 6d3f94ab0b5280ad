"""Runs for `verify` that cost nothing, and ways to spoil and mend them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fake_models import FakeGenerator, fake_scorers, run_with
from synthvlm import Recipe
from synthvlm.captions.rules.base import Measured, Subject
from synthvlm.checks import Verification, discard, verify
from synthvlm.run.kept_recipe import open_folder
from synthvlm.run_folder.marker import Marker, marker_name
from synthvlm.stages.generation.models import Models

CAPTIONS = [f"A red kite number {n} flies over the green hill, near the sea." for n in range(20)]
SETTINGS = [
    "run.shard_size=8",
    "run.threads=1",
    "curation.rules.special_char_ratio=null",
    "curation.rules.perplexity={model: org/fake, max: 5000}",
    "generation.candidates=3",
    "generation.adaptive={sample: 8}",
    "report.preview_share=1.0",
    "selection.top_fraction=0.8",
    "export.images_per_folder=6",
]


class Perplexity:
    """A rule with a model that costs nothing."""

    def measure(self, subjects: Sequence[Subject]) -> Measured:
        return Measured(np.array([float(len(s.text)) for s in subjects]), (None,) * len(subjects))


def use_free_rule(patch: pytest.MonkeyPatch) -> None:
    """Have `Perplexity` loaded whatever rule with a model a recipe names."""
    patch.setattr("synthvlm.stages.curation.model_measure.load_model_rule", lambda *_: Perplexity())


def do(out: Path | str, captions: Path, *changes: str) -> int:
    """Do a run; how many images that took."""
    generator = FakeGenerator()
    models = Models(generator, fake_scorers())
    recipe = Recipe.load("tiny", captions=[captions], overrides=[*SETTINGS, *changes])
    run_with(recipe, out, lambda _: models)
    return generator.generated


def checked(out: Path | str) -> Verification:
    return verify(*open_folder(str(out)))


def bad(out: Path | str) -> list[tuple[str, int | None, str, str]]:
    return [(f.stage, f.shard, f.file, f.kind) for f in checked(out).bad]


def mended(out: Path, captions: Path, whole: Path, *changes: str) -> int:
    """Discard what is damaged and run again: all must be as before; how many images that took."""
    run, recipe = open_folder(str(out))
    with run.held():
        discard(run, verify(run, recipe, is_held=True))
    generated = do(out, captions, *changes)
    after = checked(out)
    assert [f for f in after.findings if f.kind != "stray"] == []
    assert data_set(out) == data_set(whole)
    return generated


def data_set(out: Path) -> dict[str, bytes]:
    files = [p for p in (out / "dataset").rglob("*") if p.is_file()]
    return {str(p.relative_to(out)): p.read_bytes() for p in files}


def marker_of(out: Path, stage: str, shard: int) -> Marker:
    marker = Marker.from_json((out / marker_name(stage, shard)).read_bytes())
    assert marker is not None
    return marker


def flip(file: Path, bit: int | None = None) -> None:
    data = bytearray(file.read_bytes())
    bit = len(data) * 4 + 3 if bit is None else bit
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def winners(out: Path, shard: int) -> int:
    """Winners of a shard of which there is no other image: calibration keeps its best, too."""
    names = [
        marker_of(out, "generate", shard).file("pairs"),
        marker_of(out, "calibrate", 0).file("calibrate-pairs"),
    ]
    of_shard, calibrated = (
        {(row["caption_id"], row["index"]) for row in pq.read_table(out / str(name)).to_pylist()}
        for name in names
    )
    assert of_shard & calibrated
    return len(of_shard - calibrated)


def generated_candidates(out: Path, shard: int) -> int:
    name = marker_of(out, "generate", shard).file("candidates")
    rows = pq.read_table(out / str(name)).to_pylist()
    return sum(row["status"] == "ok" for row in rows)


def calibrated(out: Path, shard: int) -> int:
    """Candidates of a shard whose scores are known from the calibration."""
    sample = pq.read_table(out / str(marker_of(out, "calibrate", 0).file("calibrate")))
    keys = {(row["caption_id"], row["index"]) for row in sample.to_pylist()}
    name = marker_of(out, "generate", shard).file("candidates")
    rows = pq.read_table(out / str(name)).to_pylist()
    return sum(row["status"] == "ok" and (row["caption_id"], row["index"]) in keys for row in rows)
