"""What is known of pipeline classes, and which prompts are cut off."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest

from random_pipelines import SAVERS
from synthvlm.generators.diffusers import DiffusersGenerator
from synthvlm.generators.prompt_encoding import PROMPT_FACTS

Folder = Callable[[str], Path]
Make = Callable[..., DiffusersGenerator]


@pytest.mark.parametrize("kind", PROMPT_FACTS)
def test_the_facts_are_those_of_the_installed_library(kind: str) -> None:
    facts, pipeline = PROMPT_FACTS[kind], getattr(diffusers, kind)
    accepted = inspect.signature(pipeline.__call__).parameters
    names = [name for name in facts.returned if name is not None]
    if facts.apart and facts.scale in accepted and "negative_prompt_embeds" in accepted:
        names += [f"negative_{name}" for name in names]
    assert set(names) <= accepted.keys()
    assert facts.scale in accepted
    # The last statement of encode_prompt names what it returns.
    source = inspect.getsource(pipeline.encode_prompt)
    returned = re.findall(r"\w+", source[source.rindex("return") + len("return") :])
    assert len(returned) == len(facts.returned)
    for name, ours in zip(returned, facts.returned, strict=True):
        assert name == ours or (ours is None and name.endswith("text_ids"))


@pytest.mark.parametrize("kind", PROMPT_FACTS)
def test_the_threshold_of_guidance_is_that_of_the_installed_library(kind: str) -> None:
    facts, pipeline = PROMPT_FACTS[kind], getattr(diffusers, kind)
    source = inspect.getsource(pipeline)
    if "guidance_scale > 1" in source or "cfg_scale > 1" in source:
        assert facts.above == 1.0
    elif "guidance_scale > 0" in source:
        assert facts.above == 0.0
    else:
        assert kind in ("SanaSprintPipeline", "Flux2Pipeline"), "guided by an embedding alone"


# Tokens of a prompt of n letters "a", a word each or one long one, as the tokenizers of
# random_pipelines split them: CLIP n + 2 (start and end), T5 n + 2 (space before, end after),
# language models by their templates.
LIMITS = [
    ("sd", {}, 75),
    ("sdxl", {}, 75),
    ("sdxl+refiner", {}, 75),
    ("sd3", {}, 254),  # 77 of the CLIPs, but 256 of the T5
    ("sd3", {"max_sequence_length": 512}, 510),
    ("sd3-without-t5", {}, 75),
    ("flux", {}, 510),
    ("flux-schnell", {"max_sequence_length": 256}, 254),
    ("chroma", {}, 510),
    ("pixart-sigma", {}, 298),
    ("sana-sprint", {"max_sequence_length": 100, "call": {"intermediate_timesteps": None}}, 98),
    ("z-image", {"max_sequence_length": 100}, 100 - len("Xuser\nX\nXassistant\n")),
    ("flux2-klein", {"max_sequence_length": 100}, 100 - len("Xuser\nX\nXassistant\n")),
    ("lumina2", {"call": {"system_prompt": "draw"}}, 256 - len("draw <Prompt Start> ")),
]


@pytest.mark.parametrize(("kind", "options", "letters"), LIMITS)
def test_a_prompt_that_is_cut_off_is_marked(
    make: Make, kind: str, options: dict[str, object], letters: int
) -> None:
    generator = make(kind, steps=10 if "+" in kind else 1, **options)
    prompts = ["a" * letters, "a" * (letters + 1)]
    assert generator.generate(prompts, [1, 2]).truncated == (False, True)


def test_the_limit_is_where_the_image_stops_to_change(make: Make) -> None:
    for kind, options, letters in LIMITS:
        if kind == "sdxl+refiner":
            continue
        generator = make(kind, steps=1, **options)
        seen = ["a" * letters + tail for tail in ("", "b", "cc")]
        images = generator.generate(seen, [1, 1, 1])
        assert images.truncated == (False, True, True), kind
        changed = (images.pixels[1].int() - images.pixels[2].int()).abs().max()
        if kind in ("sd", "sdxl", "pixart-sigma", "lumina2"):
            assert changed == 0, kind


def test_the_template_of_qwen_image_does_not_count(make: Make) -> None:
    generator = make("qwen-image", steps=1, max_sequence_length=600)
    pipeline = generator._pipeline
    template = len(pipeline.tokenizer(pipeline.prompt_template_encode.format(""))["input_ids"])
    letters = 600 + pipeline.prompt_template_encode_start_idx - template
    images = generator.generate(["a" * letters, "a" * (letters + 1)], [1, 2])
    assert images.truncated == (False, True)


@pytest.mark.parametrize("kind", ["qwen-image", "z-image"])  # their embeddings have no one length
def test_a_kept_prompt_does_not_remember_the_batch_it_was_encoded_in(make: Make, kind: str) -> None:
    generator = make(kind)
    generator.generate(["a", "a prompt of many more words than that"], [1, 2])
    later = generator.generate(["a", "another"], [3, 4])
    alone = make(kind).generate(["a"], [3])
    assert (later.pixels[0].int() - alone.pixels[0].int()).abs().max() <= 2


def test_tokens_are_counted_once_for_a_caption(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make("sdxl")
    counted: list[int] = []
    kind = type(generator._pipeline.tokenizer)
    original = kind.__call__

    def spy(self: object, text: list[str], *args: object, **kwargs: object) -> object:
        counted.append(len(text))
        return original(self, text, *args, **kwargs)

    monkeypatch.setattr(kind, "__call__", spy)
    generator.generate(["a"], [1])
    first = len(counted)
    assert generator.generate(["a", "a"], [2, 3]).truncated == (False, False)
    assert len(counted) == first > 0


def test_the_tokenizers_are_left_as_they_were(make: Make) -> None:
    generator = make("sdxl")
    pipeline = generator._pipeline
    before = (pipeline.tokenizer, pipeline.tokenizer_2, dict(pipeline.config))
    generator.generate(["a"], [1])
    assert (pipeline.tokenizer, pipeline.tokenizer_2) == before[:2]
    assert dict(pipeline.config) == before[2]


def test_every_class_of_the_table_has_a_random_pipeline(folder: Folder) -> None:
    made = {type_of(folder(name)) for name in SAVERS}
    assert PROMPT_FACTS.keys() - made == {"PixArtAlphaPipeline"}  # as Sigma, but for its limit


def type_of(path: Path) -> str:
    return str(diffusers.DiffusionPipeline.load_config(path)["_class_name"])
