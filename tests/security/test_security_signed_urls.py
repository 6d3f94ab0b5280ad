"""Signed URLs of captions: their signatures reach no file and no terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from commands import Result, run
from fake_models import use_fake_models
from synthvlm.data import Caption
from synthvlm.recipe import Recipe, source_name
from synthvlm.stages.fingerprints import content_fingerprint

SIGNATURES = ("5ecretA1b2C3", "5ecretD4e5F6")
TEXTS = [f"A small red circle above {n} large grey squares, on a white ground." for n in range(4)]


class Signed(BaseHTTPRequestHandler):
    """Serves captions to those who have a signature."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        query = parse_qs(urlsplit(self.path).query)
        allowed = query.get("X-Amz-Signature", [""])[0] in SIGNATURES
        content = "\n".join(TEXTS).encode() if allowed else b"no"
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"1"')
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Signed)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/data/captions.txt?versionId=7"
    server.shutdown()
    server.server_close()


def signed(base: str, signature: str = SIGNATURES[0]) -> str:
    return f"{base}&X-Amz-Credential=5ecretId/2026/s3&X-Amz-Signature={signature}"


def test_the_signature_is_nowhere_and_another_one_resumes(base: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = [
        "generation.model=org/fake", "scoring.clip.model=org/fake", "generation.candidates=1",
        "run.threads=1", *(f"curation.rules.{rule}=null" for rule in ("word_rep_ratio",)),
    ]  # fmt: skip
    changes = [part for change in settings for part in ("--set", change)]

    def command(name: str, *arguments: str) -> Result:
        return run([name, *arguments, "--out", out], tmp_path, use_fake_models)

    first = command("run", "tiny", "--captions", signed(base), *changes)
    assert (first.code, first.err) == (0, "")
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    removed = f"{base}&X-Amz-Credential=REMOVED&X-Amz-Signature=REMOVED"
    assert recipe["sources"][0]["path"] == removed
    unsigned = command("curate")
    assert unsigned.code == 1
    assert "--captions 'URL'" in unsigned.err
    refused = command("curate", "--captions", signed(base, "5ecretWrong"), "--debug")
    assert refused.code == 1
    assert "Traceback" in refused.err
    again = command("curate", "--captions", signed(base, SIGNATURES[1]))
    assert (again.code, again.err) == (0, "")
    assert "measure: 0 captions read (up to date, nothing to do)" in again.out
    status = run(["status", out, "--json"], tmp_path)
    published = run(["publish", out, tmp_path / "published"], tmp_path)
    assert (published.code, published.err) == (0, ""), "the data set is current without it"
    results = (first, unsigned, refused, again, status, published)
    shown = [part.encode() for result in results for part in (result.out, result.err)]
    for content in [*shown, *(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())]:
        assert b"5ecret" not in content


def test_a_name_and_ids_do_not_depend_on_the_signature(base: str) -> None:
    recipes = [Recipe.load("tiny", captions=[signed(base, one)]) for one in SIGNATURES]
    assert {source_name(recipe.sources[0]) for recipe in recipes} == {"captions"}
    assert len({content_fingerprint(recipe) for recipe in recipes}) == 1
    assert "5ecret" not in recipes[0].published().to_yaml() + recipes[0].to_yaml()
    # The recipe in memory, and one that is changed, still has it.
    assert recipes[0].changed(limit=1).sources[0].path == signed(base)


def test_problems_of_rows_do_not_hold_it(base: str) -> None:
    from synthvlm.captions.readers.sources import read_captions

    captions: list[Caption] = list(
        read_captions(signed(base), name="web", format="jsonl", normalize=str)
    )
    assert len(captions) == len(TEXTS)
    assert not [c.problem for c in captions if c.problem is None or "5ecret" in c.problem]
