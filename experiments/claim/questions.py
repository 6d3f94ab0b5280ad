"""Instruction samples and test questions: of easy-VQA, and of the world."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from synthvlm.evaluation.easy_vqa import easy_vqa_images, easy_vqa_records
from synthvlm.tiny.captions import is_held_out, sample_claim, sample_scene
from synthvlm.tiny.questions import TOPICS, Question, sample_question
from synthvlm.tiny.world import Scene, render

__all__ = ["INSTRUCTIONS", "make_questions"]

#: Instruction samples, half of them of easy-VQA.
INSTRUCTIONS = 500
#: Test questions of each topic of the world; relations, which tell arms apart best, have more.
PER_TOPIC = 150
RELATIONS = 600


def make_questions(folder: Path, *, seed: int = 2) -> None:
    """Write the instruction samples and the test files, with their images.

    - ``instructions.json``: LLaVA conversations in random order, half of them of easy-VQA's
      training set, half of drawings of the world.
    - ``world.json``: questions about drawings of held-out claims, a group for each topic.
    """
    rng = Random(seed)
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    easy = _easy_vqa(images, rng, INSTRUCTIONS // 2)
    world = [_world(images, f"train-{i}", rng, held_out=False) for i in range(INSTRUCTIONS // 2)]
    both = [*easy, *world]
    rng.shuffle(both)
    _write(folder / "instructions.json", [_conversation(entry) for entry in both])
    counts = {topic: RELATIONS if topic == "relation" else PER_TOPIC for topic in TOPICS}
    asked = [(topic, i) for topic, count in counts.items() for i in range(count)]
    _write(
        folder / "world.json",
        [_world(images, f"test-{t}-{i}", rng, held_out=True, topic=t) for t, i in asked],
    )


def _easy_vqa(images: Path, rng: Random, count: int) -> list[dict[str, Any]]:
    """Training questions at random."""
    records = rng.sample(easy_vqa_records("train"), count)
    for record in records:
        name = f"easy-train-{record['image']}"
        shutil.copyfile(Path(easy_vqa_images("train")) / record["image"], images / name)
        record["image"] = name
    return records


def _world(
    images: Path, id: str, rng: Random, *, held_out: bool, topic: Any = None
) -> dict[str, Any]:
    scene, question = _asked(rng, held_out=held_out, topic=topic)
    Image.fromarray(render([scene])[0]).save(images / f"world-{id}.png")
    return {"id": f"world-{id}", "image": f"world-{id}.png", **_told(question)}


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
