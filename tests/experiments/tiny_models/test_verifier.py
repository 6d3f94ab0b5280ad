"""What the verifier is taught, and that it is asked in training as it is asked later."""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random

import numpy as np
import torch
from PIL import Image

from experiments.tiny_models.autoencoder_model import to_tensor
from experiments.tiny_models.verifier_model import Trainer, build
from experiments.tiny_models.verifier_pictures import Pictures, compare, malformed
from experiments.tiny_models.verifier_questions import draw_questions, draw_told, draw_writings
from synthvlm.scorers.vqa import DEFAULT_PROMPT
from synthvlm.tiny.atomic_questions import answers, atomic_questions
from synthvlm.tiny.captions import holds, is_held_out, parse, sample_claim, sample_scene
from synthvlm.tiny.world import BACKGROUNDS, Scene, Thing, render

STAR, CIRCLE = Thing("star", "red", 18, 32, 11), Thing("circle", "blue", 46, 32, 11)
SCENE = Scene((STAR, CIRCLE), "mint")


def test_questions_in_one_row_are_answered_as_alone() -> None:
    assembled = build()
    trainer = Trainer(assembled).eval()
    image = render([SCENE])[0]
    questions = ["Is there a red star?", DEFAULT_PROMPT.format(caption="a blue circle")]
    with torch.inference_mode():
        asked = [[(question, "Yes") for question in questions]]
        found = trainer.answer_losses(trainer.look(to_tensor(image[None])), asked)
        for question, margin in zip(questions, found.margins, strict=True):
            content = [
                {"type": "image", "image": Image.fromarray(image)},
                {"type": "text", "text": question},
            ]
            batch = assembled.processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                processor_kwargs={"return_tensors": "pt"},
            )
            logits = assembled.model(**batch).logits[0, -1]
            yes, no = assembled.processor.tokenizer.convert_tokens_to_ids(["Yes", "No"])
            assert torch.isclose(logits[yes] - logits[no], margin, atol=1e-3)


def test_pictures_are_compared_with_what_was_drawn() -> None:
    moved = replace(STAR, x=18.7, y=31.6, radius=10.7)
    bent, stained = replace(STAR, wobble=1.8), replace(CIRCLE, stain="yellow")
    shown = [
        Scene((moved, CIRCLE), "mint"),
        Scene((bent, CIRCLE), "mint"),
        Scene((STAR, stained), "mint"),
        Scene((STAR, CIRCLE, Thing("cross", "black", 32, 54, 8)), "mint"),
    ]
    seen, faulty = compare(render(shown).astype(np.float32), [SCENE] * len(shown))
    assert faulty == [False, True, True, True]
    assert seen[3] is None
    malformed = [[t.malformed for t in scene.things] for scene in seen[:3] if scene is not None]
    assert malformed == [[False, False], [True, False], [False, True]]
    spotted = render([SCENE, SCENE]).astype(np.float32)
    spotted[0, 52:, 20:40, 1] -= 60
    spotted[1, 60:, 20:27, 1] -= 60  # 28 pixels: neither even nor a blotch
    (blotched, unclear), faulty = compare(spotted, [SCENE, SCENE])
    assert faulty == [True, None]
    assert blotched is not None
    assert blotched.stain is not None
    assert unclear is None


def test_what_is_asked_has_the_answer_that_the_picture_gives() -> None:
    rng = Random(4)
    claims = [sample_claim(rng) for _ in range(150)]
    claims = [claim for claim in claims if not is_held_out(claim)]
    scenes: list[Scene | None] = [sample_scene(claim, rng) for claim in claims]
    scenes[::3] = [malformed(scene, rng) for scene in scenes[::3] if scene is not None]
    faulty: list[bool | None] = [n % 3 == 0 for n in range(len(claims))]
    none = torch.zeros(0)
    asked = draw_questions(Pictures(none, claims, scenes, faulty, none, none), 4, rng)
    for questions, claim, scene in zip(asked, claims, scenes, strict=True):
        assert scene is not None
        known = dict(zip(atomic_questions(claim), answers(claim, scene), strict=True))
        for question, answer in questions:
            yes = answer == "Yes"
            said = parse(question.split('"')[1]) if '"' in question else None
            if said is not None:
                assert yes == holds(said, scene)
                assert not is_held_out(said)
            elif question in known:
                assert yes == known[question]
    assert {answer for questions in asked for _, answer in questions} == {"Yes", "No"}
    own = [answer == "Yes" for questions in asked for _, answer in questions[:1]]
    assert own == [not f for f in faulty]


def test_of_a_picture_that_nobody_can_judge_only_another_caption_is_asked() -> None:
    claim = parse("a red star")
    assert claim is not None
    none = torch.zeros(0)
    pictures = Pictures(none, [claim, claim], [None, None], [True, None], none, none)
    rng = Random(1)
    for _ in range(20):
        (spoilt,), (unclear,) = draw_questions(pictures, 4, rng)
        assert parse(spoilt[0].split('"')[1]) == claim
        assert spoilt[1] == unclear[1] == "No"


def test_what_is_written_are_the_questions_of_the_caption() -> None:
    for caption, questions in draw_writings(20, Random(2)):
        claim = parse(caption)
        assert claim is not None
        assert not is_held_out(claim)
        assert questions.split("\n") == atomic_questions(claim)


def test_pictures_told_in_words_are_asked_the_same() -> None:
    texts, asked = draw_told(12, 6, Random(5))
    for text, questions in zip(texts, asked, strict=True):
        background = next(b for b in BACKGROUNDS if set(b.split()) <= set(re.split(r"\W+", text)))
        for question, answer in questions:
            if question.startswith("Is the background "):
                assert answer == ("Yes" if background in question else "No")
