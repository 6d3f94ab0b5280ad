"""The bundled caption file holds good captions of every kind, and dirt."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from experiments.tiny_models import bundled_captions
from synthvlm.tiny import captions_path
from synthvlm.tiny.captions import parse


@pytest.fixture(scope="module")
def captions() -> list[str]:
    with captions_path().open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    assert len({record["id"] for record in records}) == len(records)
    return [record["caption"] for record in records]


def test_the_script_makes_the_file(tmp_path: Path) -> None:
    out = tmp_path / "captions.jsonl"
    bundled_captions.main(["--out", str(out)])
    assert out.read_bytes() == captions_path().read_bytes()


def test_most_are_good_and_of_every_kind(captions: list[str]) -> None:
    claims = [claim for claim in map(parse, captions) if claim is not None]
    kinds = Counter(claim.kind for claim in claims)
    assert 150 <= len(captions) <= 170
    assert len(claims) >= 115
    assert min(kinds[kind] for kind in ("one", "count", "pair", "relation")) >= 25


def test_good_ones_pass_the_special_character_rule(captions: list[str]) -> None:
    good = [c for c in captions if parse(c) is not None]
    shares = [sum(not letter.isalpha() for letter in c) / len(c) for c in good]
    assert sum(0.16534802 <= share <= 0.42023757 for share in shares) >= 110


def test_there_is_dirt(captions: list[str]) -> None:
    repeated = [caption for caption, times in Counter(captions).items() if times > 1]
    assert repeated
    assert any("<b>" in caption for caption in captions)
    assert any("\U0001f600" in caption for caption in captions)
    assert any(len(caption) > 300 for caption in captions)
    ftfy = pytest.importorskip("ftfy")
    repaired = Counter(ftfy.fix_text(c, normalization="NFKC") for c in captions)
    assert len(repaired) < len(set(captions))
