"""A generator or scorer that fails whatever it is given stops the run at once; captions do not."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_generation import CAPTIONS, Generator, generate

from fake_models import SIDE, FakeClip, use_models
from synthvlm.errors import GenerationError, TooManyFailuresError
from synthvlm.generators.base import GeneratedImages
from synthvlm.generators.endpoint import EndpointGenerator
from synthvlm.run_folder.folder import RunFolder
from synthvlm.scorers.base import Scores

ALL_MAY_FAIL = "run.max_failed_share=1.0"


class Failing(Generator):
    """Counts what it is asked for, and fails as ``fails`` says, each time with another text."""

    def __init__(self, fails: Any) -> None:
        super().__init__()
        self.fails_for = fails
        self.asked: list[int] = []

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        self.asked.append(len(prompts))
        if any(self.fails_for(self, prompt) for prompt in prompts):
            raise GenerationError(f"out of paint at {sum(self.asked)}")
        return super().generate(prompts, seeds)


class Nan(Generator):
    """Its images hold NaN, as those of a model that overflows in half precision."""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        images = super().generate(prompts, seeds)
        return replace(images, problems=("the image holds NaN or infinity",) * len(prompts))


class NanClip(FakeClip):
    """A scorer that cannot score."""

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        scores = super().score(images, captions)
        return replace(scores, values=np.full(len(captions), np.nan))


class Black(Generator):
    """All its images are black."""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        images = super().generate(prompts, seeds)
        images.pixels[:] = 0
        return images


class Cramped(FakeClip):
    """A scorer that never has the memory."""

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def test_a_generator_that_always_fails_is_asked_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_models(monkeypatch, generator := Failing(lambda *_: True))
    with pytest.raises(TooManyFailuresError, match=r"not even of 'A red apple .*out of paint"):
        generate(tmp_path / "run", ALL_MAY_FAIL, "run.shard_size=1000", "run.batch_size=8")
    # A batch, an image of it alone, and four of the plain caption.
    assert generator.asked == [8, 1, 1, 1, 1, 1]
    assert not RunFolder(tmp_path / "run").markers("generate")


@pytest.mark.parametrize(
    ("generator", "clip", "problem"),
    [
        (Nan(), None, "the image holds NaN or infinity"),
        (Black(), None, "the image is black"),
        (Generator(), NanClip(), "scorer 'clip' gave nan"),
        (Generator(), Cramped(), "there is no memory to score it: CUDA out of memory"),
        (Generator(most=0), None, "no memory for 1 images"),
    ],
)
def test_nothing_is_generated_after_a_first_batch_that_failed_whole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    generator: Generator,
    clip: FakeClip | None,
    problem: str,
) -> None:
    use_models(monkeypatch, generator, clip)
    with pytest.raises(TooManyFailuresError, match=problem):
        generate(tmp_path / "run", ALL_MAY_FAIL, "run.batch_size=8")
    assert generator.generated in (0, 8 + 4)
    generator.generated = 0
    adaptive = "generation.adaptive={sample: 8}"
    with pytest.raises(TooManyFailuresError, match=problem):
        generate(tmp_path / "adaptive", ALL_MAY_FAIL, "run.batch_size=8", adaptive)
    assert generator.generated in (0, 8 + 4)


@pytest.mark.parametrize("size", [1, 8])
def test_a_generator_that_breaks_half_way_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    use_models(monkeypatch, generator := Failing(lambda self, _: self.generated >= 64))
    with pytest.raises(TooManyFailuresError, match="out of paint"):
        generate(tmp_path / "run", "run.shard_size=1000", f"run.batch_size={size}")
    assert sum(generator.asked) <= 64 + 8 + 4 + 2 * size
    markers = RunFolder(tmp_path / "run").markers("generate")
    facts = markers[0].facts
    assert facts["candidates"] - facts["failed"] - facts["pending"] == 64


@pytest.mark.parametrize("bad", [1, 12])
@pytest.mark.parametrize("size", [1, 8])
def test_captions_that_fail_do_not_stop_a_run_and_may_fail_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, bad: int
) -> None:
    """The first ones of the data set, and one after another."""
    refused = set(CAPTIONS[:bad])
    use_models(monkeypatch, generator := Failing(lambda _, prompt: prompt in refused))
    changes = [ALL_MAY_FAIL, f"run.batch_size={size}"]
    for _ in range(2):
        rows = generate(tmp_path / "run", *changes)
        found = {n: rows[f"captions-{n}", 0]["status"] for n in range(40)}
        assert found == {n: "failed" if n < bad else "ok" for n in range(40)}
    assert generator.generated <= 4 * (40 - bad) + 2 * (bad + 1)


@dataclass
class Reply:
    data: bytes
    problem: str | None


class Refusing:
    """A server that answers each request with an error."""

    asked = 0

    def generate_all(
        self, requests: Iterable[tuple[Hashable, str, Mapping[str, Any]]]
    ) -> Iterator[tuple[Hashable, Reply]]:
        for key, _, _ in requests:
            self.asked += 1
            yield key, Reply(b"", "500 the model is not loaded")


def test_an_endpoint_that_refuses_everything_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Refusing()
    use_models(monkeypatch, EndpointGenerator(server, width=SIDE, height=SIDE))
    with pytest.raises(TooManyFailuresError, match="500 the model is not loaded"):
        generate(tmp_path / "run", ALL_MAY_FAIL, "run.shard_size=1000", "run.batch_size=8")
    assert server.asked == 8 + 4
