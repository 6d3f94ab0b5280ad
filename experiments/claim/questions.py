"""Instruction samples and test questions: of easy-VQA, and of the world."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Literal

from PIL import Image

from experiments.tiny_models.language_rows import facts
from synthvlm.evaluation.easy_vqa import easy_vqa_images, easy_vqa_records
from synthvlm.tiny.captions import is_held_out, sample_claim, sample_scene
from synthvlm.tiny.questions import TOPICS, Question, sample_question
from synthvlm.tiny.world import Scene, render

__all__ = ["INSTRUCTIONS", "make_questions"]

#: Most instruction samples that are used.
INSTRUCTIONS = 2_000
#: Test questions of each group of easy-VQA, and of each topic of the world.
PER_GROUP = 500
PER_TOPIC = 150
PROBES = 500


def make_questions(folder: Path, *, seed: int = 2) -> None:
    """Write the instruction samples and the test files, with their images.

    - ``instructions.json``: LLaVA conversations in random order, half of them of easy-VQA's
      training set, half of drawings of the world; a prefix of it is a smaller set.
    - ``easy-vqa.json``: questions of easy-VQA's test set, in groups.
    - ``world.json``: questions about drawings of held-out claims, a group for each topic.
    - ``text.json``: the same kind of questions about facts in words, without an image.
    """
    rng = Random(seed)
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    easy = _easy_vqa(images, "train", rng, {None: INSTRUCTIONS // 2})
    world = [_world(images, f"train-{i}", rng, held_out=False) for i in range(INSTRUCTIONS // 2)]
    both = [*easy, *world]
    rng.shuffle(both)
    _write(folder / "instructions.json", [_conversation(entry) for entry in both])
    groups = dict.fromkeys(("colour", "shape", "yes-no"), PER_GROUP)
    _write(folder / "easy-vqa.json", _easy_vqa(images, "test", rng, groups))
    asked = [(topic, i) for topic in TOPICS for i in range(PER_TOPIC)]
    _write(
        folder / "world.json",
        [_world(images, f"test-{t}-{i}", rng, held_out=True, topic=t) for t, i in asked],
    )
    _write(folder / "text.json", [_text(f"text-{i}", rng) for i in range(PROBES)])


def _easy_vqa(
    images: Path, split: Literal["train", "test"], rng: Random, counts: Mapping[Any, int]
) -> list[dict[str, Any]]:
    """Questions of a split at random: so many of each group, or of all together (None)."""
    records = easy_vqa_records(split)
    rng.shuffle(records)
    left, chosen = dict(counts), []
    for record in records:
        group = None if None in left else record["group"]
        if left[group] == 0:
            continue
        left[group] -= 1
        name = f"easy-{split}-{record['image']}"
        shutil.copyfile(Path(easy_vqa_images(split)) / record["image"], images / name)
        chosen.append({**record, "image": name})
    return chosen


def _world(
    images: Path, id: str, rng: Random, *, held_out: bool, topic: Any = None
) -> dict[str, Any]:
    scene, question = _asked(rng, held_out=held_out, topic=topic)
    Image.fromarray(render([scene])[0]).save(images / f"world-{id}.png")
    return {"id": f"world-{id}", "image": f"world-{id}.png", **_told(question)}


def _text(id: str, rng: Random) -> dict[str, Any]:
    scene, question = _asked(rng, held_out=True)
    told = _told(question)
    return {"id": id, **told, "question": f"{facts(scene, rng)}\n{question.text}"}


def _asked(rng: Random, *, held_out: bool, topic: Any = None) -> tuple[Scene, Question]:
    while True:
        claim = sample_claim(rng)
        scene = sample_scene(claim, rng)
        question = sample_question(scene, rng, topic)
        if is_held_out(claim) == held_out and question is not None:
            return scene, question


def _told(question: Question) -> dict[str, str]:
    return {"question": question.text, "answer": question.answer, "group": question.topic}


def _conversation(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": entry["id"],
        "image": entry["image"],
        "conversations": [
            {"from": "human", "value": f"<image>\n{entry['question']}"},
            {"from": "gpt", "value": entry["answer"]},
        ],
    }


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(entries, indent=0), encoding="utf-8")
