"""Images from an endpoint, through the pipeline."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from fakes.endpoint import Draw, FakeEndpoint, ImageAnswer, Status
from synthvlm import Pipeline, Recipe
from synthvlm.errors import RecipeError, SynthVLMError

CAPTIONS = [f"a large red circle above {n} small blue squares" for n in range(6)]


def run(
    out: Path, server: FakeEndpoint, *changes: str, until: str = "export", **endpoint: Any
) -> None:
    out.parent.mkdir(exist_ok=True)
    file = out.parent / "captions.txt"
    file.write_text("\n".join(CAPTIONS) + "\n")
    settings = json.dumps({"url": server.base_url, "concurrency": 4, **endpoint})
    base = [
        "generation={model: fake-image, height: 32, width: 32, candidates: 2}",
        f"generation.endpoint={settings}",
        "scoring.ssim={side: 32, model_input_side: 16}",
        "curation.rules.special_char_ratio=null",
        "run.shard_size=3",
        "run.threads=1",
    ]
    recipe = Recipe.load("tiny", captions=[file], overrides=[*base, *changes])
    Pipeline(recipe, out).run(until)


def rows(out: Path, folder: str = "candidates") -> list[dict[str, Any]]:
    files = sorted((out / folder).glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_the_same_rows_as_from_any_generator(tmp_path: Path) -> None:
    with FakeEndpoint() as server:
        run(tmp_path / "run", server, extra={"num_inference_steps": 30})
        asked = len(server.received)
        assert asked == len(CAPTIONS) * 2
        assert server.most_concurrent <= 4
        assert all(r.body["num_inference_steps"] == 30 for r in server.received)
        assert all(row["status"] == "ok" and row["reproducible"] for row in rows(tmp_path / "run"))
        assert len(rows(tmp_path / "run", "pairs")) == len(CAPTIONS)
        run(tmp_path / "run", server, extra={"num_inference_steps": 30}, timeout_s=10)
        assert len(server.received) == asked
        card = (tmp_path / "run" / "dataset" / "README.md").read_text()
        assert "fake-image" in card


def test_without_seeds_the_rows_say_so(tmp_path: Path) -> None:
    with FakeEndpoint() as server:
        run(tmp_path / "run", server, send_seed=False)
        assert not any(row["reproducible"] for row in rows(tmp_path / "run"))
        assert not any("seed" in request.body for request in server.received)
        card = (tmp_path / "run" / "dataset" / "README.md").read_text()
        assert "cannot be" in card


def test_a_server_that_dies_costs_nothing_that_was_drawn(tmp_path: Path) -> None:
    lock = threading.Lock()
    left = [5]

    def answer(body: dict[str, Any]) -> ImageAnswer:
        with lock:
            left[0] -= 1
            return Draw() if left[0] >= 0 else Status(401, "the server went away")

    with FakeEndpoint(image=answer) as server:
        with pytest.raises(SynthVLMError, match="went away"):
            run(tmp_path / "run", server, until="generate")
        before = len(server.received)
        left[0] = 1000
        run(tmp_path / "run", server, until="generate")
        # What was generated before is not paid for again, beside winners that are regenerated.
        assert len(server.received) - before <= len(CAPTIONS) * 2 - 5 + 3
        assert all(row["status"] == "ok" for row in rows(tmp_path / "run"))
    with FakeEndpoint() as server:
        run(tmp_path / "undisturbed", server, until="generate")
    assert rows(tmp_path / "run") == rows(tmp_path / "undisturbed")


def test_a_refused_image_is_a_failure_of_its_own(tmp_path: Path) -> None:
    refused = Status(400, "not that", error_code="content_policy_violation")

    def answer(body: dict[str, Any]) -> ImageAnswer:
        return refused if "above 2 " in body["prompt"] else Draw()

    with FakeEndpoint(image=answer) as server:
        run(tmp_path / "run", server, "run.max_failed_share=0.2", until="generate")
        failed = [row for row in rows(tmp_path / "run") if row["status"] == "failed"]
        assert len(failed) == 2
        assert all("refused by the content policy" in row["problem"] for row in failed)


def test_what_an_endpoint_cannot_do_is_refused() -> None:
    endpoint = "generation.endpoint={url: 'http://localhost:1/v1'}"
    for change, message in (
        ("generation.steps=50", "steps is of no use with an endpoint"),
        ("generation.endpoint.url='http://u:p@h/v1'", "no user, password"),
        ("generation.endpoint.extra={a: .nan}", "extra cannot be sent"),
    ):
        with pytest.raises(RecipeError, match=message):
            Recipe.load("tiny", overrides=["generation={model: m}", endpoint, change])
