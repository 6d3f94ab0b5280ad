"""API keys come from the environment, and are nowhere else: not in files, not on the terminal."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from commands import Result, run
from fake_models import use_fake_models
from fakes.endpoint import Answer, Body, FakeEndpoint, Say, Status
from synthvlm.endpoints.connection import ApiKey, Connection
from synthvlm.errors import RecipeError
from synthvlm.recipe import Recipe

KEY = "sk-proj-7Gh2kQ9vLmX4pR8tZ1nB5wYc3"
TOKEN = "hf_QwErTyUiOpAsDfGhJkLzXcVbNm123456"
GOOD = [f"A small red circle above {n} large grey squares, on a white ground." for n in range(6)]


def with_secrets(fake: bool = True) -> None:
    if fake:
        use_fake_models()
    # What is tried again is so at once.
    Connection.__init__.__kwdefaults__["backoff_s"] = 0.001
    os.environ["MY_KEY" if fake else "OPENAI_API_KEY"] = KEY
    os.environ["HF_TOKEN"] = os.environ["HUGGING_FACE_HUB_TOKEN"] = TOKEN


def with_key(key: str) -> None:
    os.environ["OPENAI_API_KEY"] = key


def everything(folder: Path, *results: Result) -> bytes:
    """All that is in a folder's files and that the commands said."""
    texts = [part.encode() for result in results for part in (result.out, result.err)]
    return b"\n".join([*texts, *(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file())])


def assert_no_secret(content: bytes) -> None:
    for secret in (KEY, TOKEN):
        for length in (len(secret), 14):  # a part of it would do for a guess
            assert secret[:length].encode() not in content
        assert secret[-14:].encode() not in content


ECHO = f"Incorrect key. Your header was: Authorization: Bearer {KEY}"
#: Answers that a server may give to those who sent it a key.
ECHOES: dict[str, Answer] = {
    "refused": Status(401, ECHO),
    "bad request": Status(400, ECHO),
    "broken": Status(500, ECHO),
    "a page": Body(f"<html>{ECHO}</html>".encode()),
    "a reply": Say(f"{ECHO} stands here."),
    "a verdict": Say(f"Yes, for {ECHO}"),
    "a reason": Say("Yes", finish_reason=KEY),
    "a code": Status(400, "no", error_code=KEY, error_param=KEY),
}


@pytest.mark.parametrize("answer", ECHOES)
def test_a_server_that_echoes_the_key(tmp_path: Path, answer: str) -> None:
    (tmp_path / "c.txt").write_text("\n".join(GOOD) + "\n")
    (tmp_path / "concepts.txt").write_text("dog\ncat\n")
    with FakeEndpoint(ECHOES[answer], image=Status(401, ECHO), api_key=KEY) as server:
        endpoint: dict[str, Any] = {"url": server.base_url, "api_key_env": "MY_KEY"}
        writer = {"model": "m", "endpoint": endpoint, "captions_per_concept": 1}
        sources = [
            {"path": str(tmp_path / "c.txt")},
            {"path": str(tmp_path / "concepts.txt"), "concept_writer": writer},
        ]
        judge = {"min": 1, "model": "m", "endpoint": endpoint}
        changes = [
            "generation.model=org/fake", "scoring.clip.model=org/fake", "generation.candidates=2",
            "run.shard_size=16", "run.threads=1", "run.max_failed_share=1.0",
            f"curation.rules.judge={json.dumps(judge)}",
        ]  # fmt: skip
        results = []
        for given, *debug in ((sources,), (sources[:1], "--debug")):
            settings = [
                part
                for change in [*changes, f"sources={json.dumps(given)}"]
                for part in ("--set", change)
            ]
            command = ["run", "tiny", "--out", tmp_path / "run", *settings, *debug]
            results.append(run(command, tmp_path, with_secrets))
        assert any(f"Bearer {KEY}" in str(r.headers) for r in server.received), "the key was sent"
    assert (tmp_path / "run" / "recipe.yaml").read_text().count("MY_KEY") >= 1
    shown = everything(tmp_path, *results)
    assert_no_secret(shown)
    if answer in ("refused", "bad request", "a reply"):
        assert b"[API key]" in shown


def test_an_image_server_that_echoes_the_key(tmp_path: Path, clip_folder: Path) -> None:
    (tmp_path / "c.txt").write_text(GOOD[0] + "\n")
    for number, image in enumerate((Status(401, ECHO), Status(400, ECHO), Body(ECHO.encode()))):
        with FakeEndpoint(image=image, api_key=KEY) as server:
            changes = [
                f"generation.endpoint={{url: '{server.base_url}'}}",
                "generation.model=m",
                f"scoring.clip.model={clip_folder}",
                "generation.candidates=1",
                "generation.height=32",
                "generation.width=32",
                "run.threads=1",
            ]
            recipe = tmp_path / f"{number}.yaml"
            recipe.write_text(f"sources: [{{path: {tmp_path}/c.txt}}]\n")
            settings = [part for change in changes for part in ("--set", change)]
            command = ["run", recipe, "--out", tmp_path / f"run{number}", *settings, "--debug"]
            result = run(command, tmp_path, partial(with_secrets, False))
            assert server.received, result.err
            assert server.received[0].headers["Authorization"] == f"Bearer {KEY}"
        shown = everything(tmp_path, result)
        assert_no_secret(shown)


def test_a_short_key_of_a_local_server_changes_no_reply() -> None:
    said = b'{"text": "none of the EMPTY cups"}'
    for word in ("none", "EMPTY", ""):
        assert ApiKey(word).masked_bytes(said) == said
    odd = 'key"with\\odd/characters'
    assert odd.encode() not in ApiKey(odd).masked_bytes(f"x {odd} y".encode())
    assert json.loads(ApiKey(odd).masked_bytes(json.dumps([odd]).encode())) == ["[API key]"]


SECRET = "s3cr3t-passw0rd"


@pytest.mark.parametrize(
    "change",
    [
        f"sources.0.path=https://user:{SECRET}@example.org/c.jsonl",
        f"sources.0.path=ftp://{SECRET}@example.org/c.jsonl",
        f"sources.0.path=simplecache::https://user:{SECRET}@example.org/c.jsonl",
        f"sources.0.path=s3://AKIA:{SECRET}@bucket/c.jsonl",
        f"sources.0.image_root=https://user:{SECRET}@example.org/images",
        f"curation.rules.benchmark_overlap={{files: ['https://u:{SECRET}@example.org/b.tsv']}}",
        f"curation.rules.judge={{min: 1, model: m, endpoint: {{url: 'http://u:{SECRET}@h/v1'}}}}",
        f"curation.rules.judge={{min: 1, model: m, endpoint: {{url: 'http://h/v1?key={SECRET}'}}}}",
        f"curation.rules.judge={{min: 1, model: m, endpoint: {{url: 'http://h/v1#{SECRET}'}}}}",
        f"curation.rules.judge={{min: 1, model: m, endpoint: {{url: 'http://[{SECRET}'}}}}",
        f"generation.endpoint={{url: 'http://u:{SECRET}@h/v1'}}",
        f"generation.endpoint={{url: 'http://h/v1', api_key_env: {SECRET}}}",
    ],
)
def test_secrets_in_a_recipe_are_refused_and_not_repeated(tmp_path: Path, change: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.load("tiny", overrides=[change])
    assert SECRET not in str(caught.value)
    result = run(["run", "tiny", "--out", tmp_path / "run", "--set", change], tmp_path)
    assert result.code == 1
    assert SECRET not in result.out + result.err
    assert not (tmp_path / "run").exists()


def test_an_at_sign_in_a_path_is_none() -> None:
    for path in ("s3://bucket/a@b.jsonl", "data/me@home/c.txt", "hf://datasets/o/n@main/c.jsonl"):
        assert Recipe.load("tiny", captions=[path]).sources[0].path == path


@pytest.mark.parametrize("key", [f"{KEY} \x1b", f"{KEY}é", f"{KEY}\nX: y"])
def test_a_key_that_cannot_be_sent_is_not_shown(tmp_path: Path, key: str) -> None:
    (tmp_path / "c.txt").write_text(GOOD[0] + "\n")
    judge = {"min": 1, "model": "m", "endpoint": {"url": "http://127.0.0.1:9/v1"}}
    command = ["run", "tiny", "--captions", tmp_path / "c.txt", "--out", tmp_path / "run",
               "--set", f"curation.rules.judge={json.dumps(judge)}"]  # fmt: skip
    result = run(command, tmp_path, partial(with_key, key))
    assert result.code == 1
    assert "OPENAI_API_KEY" in result.err
    assert_no_secret(everything(tmp_path, result))
