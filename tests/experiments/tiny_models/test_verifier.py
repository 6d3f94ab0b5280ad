"""What the verifier is taught, and that it is asked in training as it is asked later."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.tiny_models.autoencoder_model import to_tensor
from experiments.tiny_models.verifier_candidates import Candidates
from experiments.tiny_models.verifier_model import Trainer, build
from experiments.tiny_models.verifier_pictures import CELLS, Pictures, draw_pictures, malformed
from experiments.tiny_models.verifier_questions import draw_questions, draw_told, draw_writings
from synthvlm.scorers.vqa import DEFAULT_PROMPT
from synthvlm.tiny.atomic_questions import answers, atomic_questions
from synthvlm.tiny.captions import holds, is_held_out, parse, sample_claim, sample_scene
from synthvlm.tiny.checker import check
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


def test_malformed_patches_are_told_from_proper_ones() -> None:
    rng = Random(3)
    pictures = draw_pictures(40, rng)
    spoilt = (pictures.cells == len(CELLS) - 1).any(dim=1).tolist()
    assert not any(spoilt[n] for n in range(40) if not pictures.faulty[n])
    assert sum(spoilt) > 0.7 * sum(pictures.faulty) > 0


def test_candidates_have_the_checkers_verdict(tmp_path: Path) -> None:
    file = tmp_path / "pool.npz"
    pictures = Candidates(file, 24, seed=5).draw(60, Random(1))
    images = ((pictures.pixels.permute(0, 2, 3, 1) + 1) * 127.5).round().numpy().astype(np.uint8)
    assert {True, False} == set(pictures.faulty)
    for image, claim, scene, faulty in zip(
        images, pictures.claims, pictures.scenes, pictures.faulty, strict=True
    ):
        assert not is_held_out(claim)
        assert (scene is None) == faulty
        assert check(image, claim) == (scene is not None and holds(claim, scene))
    again = Candidates(file, 24, seed=5).draw(60, Random(1))  # as it was stored
    assert torch.equal(again.pixels, pictures.pixels)
    with pytest.raises(SystemExit, match="24 images, not 25"):
        Candidates(file, 25, seed=5)


def test_what_is_asked_has_the_answer_that_the_picture_gives() -> None:
    rng = Random(4)
    claims = [sample_claim(rng) for _ in range(150)]
    claims = [claim for claim in claims if not is_held_out(claim)]
    scenes: list[Scene | None] = [sample_scene(claim, rng) for claim in claims]
    scenes[::3] = [malformed(scene, rng) for scene in scenes[::3] if scene is not None]
    faulty = [n % 3 == 0 for n in range(len(claims))]
    none = torch.zeros(0)
    asked = draw_questions(Pictures(none, claims, scenes, faulty, none), 4, rng)
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


def test_of_a_malformed_candidate_only_its_caption_is_asked() -> None:
    claim = parse("a red star")
    assert claim is not None
    none = torch.zeros(0)
    (questions,) = draw_questions(Pictures(none, [claim], [None], [True], none), 4, Random(1))
    ((question, answer),) = questions
    assert parse(question.split('"')[1]) == claim
    assert answer == "No"


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
