"""Generation when things go wrong, or change, half way: nothing is lost, and nothing wrong wins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from test_generation import (
    ADAPTIVE,
    Censor,
    Generator,
    Unseeded,
    essence,
    generate,
)

from fake_models import FakeClip, use_models
from synthvlm.errors import GenerationError, SynthVLMError, TooManyFailuresError
from synthvlm.generators.base import GeneratedImages
from synthvlm.run_folder.folder import RunFolder
from synthvlm.scorers.base import Scores

ONE_BY_ONE = "run.batch_size=1"


class Budget(Generator):
    """Ends the run when its budget is used up, as an endpoint does."""

    left = 10**9

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        if self.left < len(prompts):
            raise SynthVLMError("the budget is used up")
        self.left -= len(prompts)
        return super().generate(prompts, seeds)


def pairs(out: Path) -> dict[str, int]:
    files = sorted((out / "pairs").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return {row["caption_id"]: row["index"] for row in rows}


def censored(monkeypatch: pytest.MonkeyPatch, generator: Generator) -> None:
    use_models(monkeypatch, generator, None, Censor())


def test_an_end_while_winners_are_drawn_again_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_models(monkeypatch, generator := Budget())
    out = tmp_path / "run"
    generate(out, captions=16)
    more = ["generation.candidates=8", "generation.image.format=webp", ONE_BY_ONE]
    generator.left = 16 * 4 + 3  # the new candidates, and few of the winners
    with pytest.raises(SynthVLMError, match="budget"):
        generate(out, *more, captions=16)
    generator.left = 10**9
    rows = generate(out, *more, captions=16)
    assert len(pairs(out)) == 16
    assert essence(rows) == essence(generate(tmp_path / "fresh", *more, captions=16))


def test_a_calibrated_run_that_ends_early_loses_no_pair_and_pays_for_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adaptive = ["generation.adaptive={sample: 8, keep_gain: 0.9}", ONE_BY_ONE]
    use_models(monkeypatch, probe := Generator())
    expected = essence(generate(tmp_path / "probe", *adaptive, captions=16))
    use_models(monkeypatch, generator := Budget())
    for budget in [10, 15, 12] + [9] * 20:
        generator.left = budget
        try:
            rows = generate(tmp_path / "run", *adaptive, captions=16)
            break
        except SynthVLMError:
            continue
    assert essence(rows) == expected
    assert len(pairs(tmp_path / "run")) == 16
    # Beside what a whole run generates, winners whose pixels an unfinished shard did not keep.
    assert generator.generated <= probe.generated + 16


def test_an_unsafe_candidate_stays_unsafe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    censored(monkeypatch, Generator())
    for changes in (["generation.adaptive={threshold: 1.2}"],
                    ["generation.adaptive={threshold: 0.5}"], []):  # fmt: skip
        rows = generate(tmp_path / "run", *changes)
        rejected = [row for row in rows.values() if row["problem"] is not None]
        assert rejected
        assert {row["status"] for row in rejected} == {"unsafe"}
    assert essence(rows) == essence(generate(tmp_path / "fresh"))


def test_no_picture_of_an_unsafe_candidate_is_kept_from_before_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_models(monkeypatch, Generator())
    generate(tmp_path / "run", "report.preview_share=1.0")
    censored(monkeypatch, Generator())
    changes = ["report.preview_share=1.0", "generation.safety.model=org/check"]
    rows = generate(tmp_path / "run", *changes, replace_images=True)
    shown = {
        (row["caption_id"], row["index"])
        for file in (tmp_path / "run" / "previews").glob("*.parquet")
        for row in pq.read_table(file).to_pylist()
    }
    unsafe = {key for key, row in rows.items() if row["status"] == "unsafe"}
    assert unsafe
    assert not unsafe & shown


def test_a_winner_that_cannot_be_drawn_again_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_models(monkeypatch, Generator())
    first = generate(tmp_path / "run", ADAPTIVE)
    use_models(monkeypatch, Generator(fails=frozenset({3})))
    changes = [ADAPTIVE, "generation.image.format=webp", "run.max_failed_share=1.0"]
    rows = generate(tmp_path / "run", *changes)
    failed = {key for key, row in rows.items() if row["status"] == "failed"}
    assert {key for key, row in first.items() if row["chosen"]} & failed
    assert len(pairs(tmp_path / "run")) >= 38
    for id, index in pairs(tmp_path / "run").items():
        assert rows[id, index]["status"] == "ok"
    # Another image than before, a rejected one too, is no crash either.
    use_models(monkeypatch, Unseeded())
    generate(tmp_path / "other", ADAPTIVE)
    generate(tmp_path / "other", ADAPTIVE, "generation.image.format=webp")
    assert len(pairs(tmp_path / "other")) == 40
    use_models(monkeypatch, Generator())
    generate(tmp_path / "third")
    censored(monkeypatch, Generator())
    rows = generate(tmp_path / "third", "generation.image.format=webp")
    assert any(row["status"] == "unsafe" for row in rows.values())
    assert all(rows[id, n]["status"] == "ok" for id, n in pairs(tmp_path / "third").items())


def test_what_was_drawn_is_committed_before_a_run_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bad(Generator):
        def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
            if any(f"number {n} flies" in prompt for prompt in prompts for n in range(8)):
                raise GenerationError("no kites today")
            return super().generate(prompts, seeds)

    use_models(monkeypatch, generator := Bad())
    with pytest.raises(TooManyFailuresError):
        generate(tmp_path / "run")
    markers = RunFolder(tmp_path / "run").markers("generate").values()
    committed = sum(m.facts["candidates"] - m.facts["failed"] for m in markers)
    # Beside them the plain caption, which tells that the captions are to blame: once for each.
    assert 0 < committed < generator.generated <= committed + 8


def test_an_interruption_keeps_what_was_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Generator):
        def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
            if self.generated >= 24:
                raise KeyboardInterrupt
            return super().generate(prompts, seeds)

    use_models(monkeypatch, Interrupted())
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "run")
    use_models(monkeypatch, generator := Generator())
    rows = generate(tmp_path / "run")
    assert generator.generated <= 160 - 24 + 16
    assert essence(rows) == essence(generate(tmp_path / "fresh"))


def test_out_of_memory_while_scoring_is_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(FakeClip):
        most = 3

        def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
            if len(images) > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return super().score(images, captions)

    use_models(monkeypatch, generator := Generator(), Small())
    rows = generate(tmp_path / "run", "run.batch_size=8")
    assert max(generator.batches[-5:]) < 8
    use_models(monkeypatch, Generator())
    assert essence(rows) == essence(generate(tmp_path / "plain"))
