"""Every format of a data set is trained on alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pair_files import llava, parquet, sample_pairs, webdataset
from random_llava import FEATURES, byte_tokenizer
from synthvlm.exporters.questions import question_of
from synthvlm.progress.display import SilentProgress
from synthvlm.training.recipe import DataSettings
from synthvlm.training.samples import mapped_samples, write_samples
from synthvlm.training.sources import DataFacts, find_source
from synthvlm.training.tokens import Encoder

PAIRS = sample_pairs(3)


def messages(folder: Path) -> Path:
    llava(folder, PAIRS)
    lines = []
    for pair in PAIRS:
        question = {"role": "user", "content": f"{question_of(pair.id)}\n<image>"}
        turns = [question, {"role": "assistant", "content": pair.caption}]
        record = {"id": pair.id, "messages": turns, "images": [f"images/{pair.id}.png"]}
        lines.append(json.dumps(record))
    (folder / "llava.json").unlink()
    (folder / "train.jsonl").write_text("\n".join(lines))
    (folder / "validation.jsonl").write_text("held out: never read")
    return folder


def conversations(folder: Path) -> Path:
    path = llava(folder, PAIRS)
    records = json.loads(path.read_text())
    for record in records:
        record["conversations"][0]["value"] = f"{question_of(record['id'])}\n<image>"
    path.write_text(json.dumps(records))
    return path


def samples(path: Path, out: Path) -> tuple[DataFacts, list[tuple[list[int], list[bool], bytes]]]:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    out.mkdir()
    sources = [find_source(DataSettings(path=str(path)))]
    encoder = Encoder(tokenizer, FEATURES, 400)
    facts = write_samples(sources, encoder, "v1", "</s>", out, 0.01, SilentProgress())
    rows = mapped_samples(out, facts.samples)
    images = [Path(row["image_file"]).read_bytes() for row in rows]
    ids = [(np.asarray(row["input_ids"]).tolist(), row["trained"].tolist()) for row in rows]
    return facts, [(*one, image) for one, image in zip(ids, images, strict=True)]


@pytest.mark.parametrize("format", ["parquet", "tar", "messages", "folder of tars"])
def test_the_same_pairs_give_the_same_samples(tmp_path: Path, format: str) -> None:
    expected_facts, expected = samples(conversations(tmp_path / "llava"), tmp_path / "expected")
    if format == "parquet":
        path = parquet(tmp_path / "pairs.parquet", PAIRS)
    elif format == "messages":
        path = messages(tmp_path / "messages")
    else:
        path = tmp_path / "shards"
        path.mkdir()
        shard = webdataset(path / "train-00000.tar", PAIRS)
        (path / "validation-00000.tar").write_bytes(shard.read_bytes())  # held out
        path = shard if format == "tar" else path
    facts, found = samples(path, tmp_path / "out")
    assert found == expected
    assert facts.digests != expected_facts.digests
    assert facts.images is not None
    assert expected_facts.images is not None
    assert facts.images.content == expected_facts.images.content
