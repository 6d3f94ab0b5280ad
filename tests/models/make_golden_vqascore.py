"""Write golden_vqascore.json with the code of VQAScore's authors (Apache-2.0).

    git clone https://github.com/linzhiqiu/t2v_metrics
    PYTHONPATH=src:tests python tests/models/make_golden_vqascore.py t2v_metrics

The functions of ``llava_model.py``, ``mm_utils.py`` and ``llava_arch.py`` are read from that
repository at the commit below, the last one with LLaVA-1.5, and run as they are on the small random
LLaVAs of ``random_llava.py``. Only the modules that they call (vision tower, projector, language
model) are those of ``transformers``.
"""

from __future__ import annotations

import ast
import copy
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from random_llava import YES_AND_NO, save_llava

COMMIT = "1bec3905a4ec23afc39d137d12d698a2a3fba55b"
FOLDER = "t2v_metrics/models/vqascore_models"
#: LLaVA-1.5's conversation, as ``llava_model.py`` writes it.
TEMPLATE = (
    "{{ bos_token }}A chat between a curious user and an artificial intelligence assistant. The "
    "assistant gives helpful, detailed, and polite answers to the user's questions."
    "{% for message in messages %} {{ message['role'].upper() }}: "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
#: Seed of a model, and the words that its tokenizer has as one token.
MODELS = [(0, ()), (1, YES_AND_NO), (2, YES_AND_NO)]
CAPTIONS = ["a red square", "two dogs in the snow", 'a sign that says "stop"', "\u732b", "a" * 80]


def pictures() -> list[Image.Image]:
    """A square picture for each caption."""
    generator = torch.Generator().manual_seed(7)
    pixels = torch.randint(256, (len(CAPTIONS), 4, 4, 3), dtype=torch.uint8, generator=generator)
    return [
        Image.fromarray(picture.numpy()).resize((24, 24), Image.Resampling.NEAREST)
        for picture in pixels
    ]


def definitions(repository: str, file: str, names: set[str], scope: dict[str, Any]) -> None:
    """Define some functions, classes and constants of a file of the repository."""
    text = subprocess.run(
        ["git", "-C", repository, "show", f"{COMMIT}:{file}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for node in ast.parse(text).body:
        found = {getattr(node, "name", None)}
        if isinstance(node, ast.Assign):
            found = {getattr(target, "id", None) for target in node.targets}
        if found & names:
            exec(compile(ast.Module([node], []), file, "exec"), scope)


class _Model:
    """The interface of LLaVA's own model classes, by the modules of ``transformers``."""

    def __init__(self, model: Any, prepare: Any) -> None:
        self._whole, self._prepare = model.eval(), prepare
        self.model, self.lm_head, self.device = model.model.language_model, model.lm_head, "cpu"

    def get_vision_tower(self) -> Any:
        return self._whole.model.vision_tower

    def get_model(self) -> Any:
        return self.model

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        # The last layer but one, without the class token, as LLaVA-1.5's tower gives it.
        layers = self.get_vision_tower()(images, output_hidden_states=True).hidden_states
        features: torch.Tensor = self._whole.model.multi_modal_projector(layers[-2][:, 1:])
        return features

    def prepare_inputs_labels_for_multimodal(self, *arguments: Any) -> Any:
        return self._prepare(self, *arguments)


def main(repository: str) -> None:
    """Score all captions by all models, and write the scores next to this file."""
    scope: dict[str, Any] = {"torch": torch, "copy": copy, "List": list, "Image": Image}
    scope |= {"VQAScoreModel": object, "LlavaMetaModel": object, "ABC": object}
    scope |= {"abstractmethod": lambda function: function}
    constants = {"HF_CACHE_DIR", "CONTEXT_LEN", "SYSTEM_MSG", "IGNORE_INDEX"}
    constants |= {"IMAGE_TOKEN_INDEX", "DEFAULT_IMAGE_TOKEN"}
    definitions(repository, "t2v_metrics/constants.py", constants, scope)
    functions = {"tokenizer_image_token", "expand2square"}
    definitions(repository, f"{FOLDER}/mm_utils.py", functions, scope)
    arch = f"{FOLDER}/llava/model/llava_arch.py"
    definitions(repository, arch, {"LlavaMetaForCausalLM"}, scope)
    own = {"format_question", "format_answer", "LLaVAModel"}
    own |= {"default_question_template", "default_answer_template"}
    definitions(repository, f"{FOLDER}/llava_model.py", own, scope)
    scores = [_scores(scope, seed, merges) for seed, merges in MODELS]
    text = json.dumps({"commit": COMMIT, "scores": scores}, indent=1)
    Path(__file__).with_name("golden_vqascore.json").write_text(text + "\n")


def _scores(scope: dict[str, Any], seed: int, merges: Any) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        save_llava(Path(folder), seed, TEMPLATE, merges)
        processor: Any = AutoProcessor.from_pretrained(folder, backend="pil")
        model = LlavaForConditionalGeneration.from_pretrained(folder)
    own = SimpleNamespace(
        tokenizer=processor.tokenizer,
        model=_Model(model, scope["LlavaMetaForCausalLM"].prepare_inputs_labels_for_multimodal),
        image_processor=processor.image_processor,
        image_loader=lambda image: image,
        image_aspect_ratio="pad",
        conversational_style="chat",
        device="cpu",
    )
    their = scope["LLaVAModel"]
    own.load_images = lambda images: their.load_images(own, images)
    # Padding is told from other tokens by its number, so one at a time is the plainest.
    return [
        float(their.forward(own, [picture], [caption])[0])
        for picture, caption in zip(pictures(), CAPTIONS, strict=True)
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
