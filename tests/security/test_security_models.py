"""Models of strangers: no pickle is loaded, no code of a model folder runs, no junk is believed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from synthvlm.captions.model_rules.image_text import ClipSimilarity, ImageTextMatching
from synthvlm.captions.model_rules.judges import LocalJudge
from synthvlm.captions.model_rules.name_tagger import NameTagger
from synthvlm.captions.model_rules.perplexity import CausalLmPerplexity
from synthvlm.captions.writers.image_captions import ImageCaptioner
from synthvlm.errors import ModelError
from synthvlm.generators.pipelines import fuse_loras, load_pipeline
from synthvlm.generators.settings import Lora
from synthvlm.scorers.clip import ClipScorer
from synthvlm.scorers.face_check import FaceCheck
from synthvlm.scorers.image_checks import load_image_check

Load = Callable[[str], object]

#: What loads a model of transformers, and the class and type that its folder says it is of.
TRANSFORMERS: dict[str, tuple[Load, str, str]] = {
    "CLIPScore": (ClipScorer, "CLIPModel", "clip"),
    "CLIP similarity": (ClipSimilarity, "CLIPModel", "clip"),
    "image-text matching": (ImageTextMatching, "BlipForImageTextRetrieval", "blip"),
    "captioner": (ImageCaptioner, "BlipForConditionalGeneration", "blip"),
    "judge": (LocalJudge, "LlamaForCausalLM", "llama"),
    "perplexity": (CausalLmPerplexity, "LlamaForCausalLM", "llama"),
    "names": (NameTagger, "BertForTokenClassification", "bert"),
    "safety checker": (load_image_check, "StableDiffusionSafetyChecker", "clip"),
    "image check": (
        lambda model: load_image_check(model, labels=["nsfw"]),
        "ViTForImageClassification",
        "vit",
    ),
    "face check": (FaceCheck, "YolosForObjectDetection", "yolos"),
}
PICKLES = (
    "pytorch_model.bin",
    "model.ckpt",
    "model.pkl",
    "model.pt",
    "diffusion_pytorch_model.bin",
)


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.witness),)


def plant_pickles(folder: Path, witness: Path, form: str) -> None:
    for name in PICKLES:
        if form == "plain":
            (folder / name).write_bytes(pickle.dumps(Bomb(witness)))
        else:
            torch.save({"weight": Bomb(witness)}, folder / name)


def plant_code(folder: Path, witness: Path, *names: str) -> None:
    for name in names:
        (folder / f"{name}.py").write_text(
            f"import os\nos.mkdir({str(witness)!r})\nclass Evil:\n    pass\n"
        )


def refusal(load: Callable[[], object]) -> str:
    with pytest.raises(ModelError) as caught:
        load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_bomb_goes_off(tmp_path: Path) -> None:
    plant_pickles(tmp_path, tmp_path / "witness", "plain")
    plant_pickles(tmp_path, tmp_path / "witness", "plain")
    pickle.loads((tmp_path / PICKLES[0]).read_bytes())
    assert (tmp_path / "witness").is_dir()
    (tmp_path / "witness").rmdir()
    plant_pickles(tmp_path, tmp_path / "witness", "torch")
    torch.load(tmp_path / PICKLES[0], weights_only=False)
    assert (tmp_path / "witness").is_dir()


@pytest.mark.parametrize("form", ["plain", "torch"])
@pytest.mark.parametrize("what", TRANSFORMERS)
def test_pickled_weights_are_refused(tmp_path: Path, what: str, form: str) -> None:
    load, kind, family = TRANSFORMERS[what]
    folder, witness = tmp_path / "model", tmp_path / "witness"
    folder.mkdir()
    config = {"model_type": family, "architectures": [kind]}
    (folder / "config.json").write_text(json.dumps(config))
    plant_pickles(folder, witness, form)
    message = refusal(lambda: load(str(folder)))
    assert str(folder) in message
    assert "weights must be safetensors: `synthvlm convert-weights` makes them" in message
    assert not witness.exists()


@pytest.mark.parametrize("family", ["own", "evil"])
@pytest.mark.parametrize("what", TRANSFORMERS)
def test_code_of_a_model_folder_does_not_run(tmp_path: Path, what: str, family: str) -> None:
    load, kind, own = TRANSFORMERS[what]
    folder, witness = tmp_path / "model", tmp_path / "witness"
    folder.mkdir()
    classes = (
        "AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForTokenClassification",
        "AutoModelForImageClassification", "AutoTokenizer", "AutoProcessor", "AutoImageProcessor",
        "AutoModelForImageTextToText", "AutoModelForVision2Seq",
    )  # fmt: skip
    code = dict.fromkeys(classes, "evil.Evil")
    config = {
        "model_type": own if family == "own" else "evil",
        "architectures": [kind],
        "auto_map": code,
        "trust_remote_code": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokens = {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens))
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).write_text(json.dumps({"auto_map": code, "image_processor_type": "Evil"}))
    plant_code(folder, witness, "evil", "modeling", "configuration", "tokenization", "setup")
    refusal(lambda: load(str(folder)))
    assert not witness.exists()


def pipeline(model: Path) -> object:
    return load_pipeline(str(model), dtype="float32")


@pytest.fixture
def sd(tmp_path: Path, sd_folder: Path) -> Path:
    shutil.copytree(sd_folder, tmp_path / "model")
    return tmp_path / "model"


def renamed(model: Path, **values: Any) -> None:
    path = model / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("form", ["plain", "torch"])
def test_a_pipeline_of_pickles_is_refused(sd: Path, tmp_path: Path, form: str) -> None:
    for weights in list(sd.rglob("*.safetensors")):
        weights.unlink()
        plant_pickles(weights.parent, tmp_path / "witness", form)
    message = refusal(lambda: pipeline(sd))
    assert "weights must be safetensors: `synthvlm convert-weights` makes them" in message
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize(
    "index",
    [
        {"_class_name": ["evil", "Evil"]},
        {"_class_name": "Evil"},
        {"unet": ["evil", "Evil"]},
        {"unet": ["evil_installed", "Evil"]},
        {"unet": ["subprocess", "Popen"]},
        {"unet": ["os", "system"]},
        {"text_encoder": ["transformers", "AutoModel"]},
        {"tokenizer": ["transformers", "AutoTokenizer"]},
    ],
)
def test_code_of_a_pipeline_folder_does_not_run(
    sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: dict[str, Any]
) -> None:
    witness = tmp_path / "witness"
    for folder in (sd, sd / "unet", sd / "text_encoder", sd / "tokenizer"):
        plant_code(folder, witness, "evil", "pipeline", "my_pipeline")
    # Importable, but no library of models: merely to import it would be to run it.
    plant_code(tmp_path, witness, "evil_installed")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("text_encoder/config.json", "tokenizer/tokenizer_config.json"):
        values = json.loads((sd / name).read_text())
        code = {"AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
        (sd / name).write_text(json.dumps(values | {"auto_map": code}))
    renamed(sd, **index)
    refusal(lambda: pipeline(sd))
    assert not witness.exists()


def test_a_pipeline_file_beside_a_plain_pipeline_does_not_run(sd: Path, tmp_path: Path) -> None:
    plant_code(sd, tmp_path / "witness", "pipeline", "StableDiffusionPipeline")
    assert type(pipeline(sd)).__module__.startswith("diffusers.")
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize("form", ["plain", "torch", "weights"])
@pytest.mark.parametrize("name", ["pytorch_lora_weights.bin", "lora.pt", "lora.ckpt", "lora"])
def test_a_pickled_lora_is_refused(sd_folder: Path, tmp_path: Path, form: str, name: str) -> None:
    pytest.importorskip("peft")
    witness, path = tmp_path / "witness", tmp_path / name
    if form == "plain":
        path.write_bytes(pickle.dumps(Bomb(witness)))
    elif form == "torch":
        torch.save({"x": Bomb(witness)}, path)
    else:  # of tensors alone, which a careful unpickler would take
        key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_"
        torch.save({f"{key}A.weight": torch.ones(1, 8), f"{key}B.weight": torch.ones(8, 1)}, path)
    drawing = load_pipeline(str(sd_folder), dtype="float32")
    for lora in (Lora(str(path)), Lora(str(tmp_path), name)):
        message = refusal(lambda lora=lora: fuse_loras(drawing, [lora]))  # type: ignore[misc]
        assert "weights must be safetensors" in message
    assert not witness.exists()


KENLM = """
import sys
from synthvlm.captions.model_rules.perplexity import KenlmPerplexity
from synthvlm.errors import ModelError
for model, tokenizer in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        KenlmPerplexity(model, tokenizer)
    except ModelError as error:
        print(error)
"""
ARPA = (
    b"\\data\\\nngram 1=3\nngram 2=1\n\n\\1-grams:\n-1\t<unk>\t0\n-1\t<s>\t0\n-1\t</s>\t0\n\n"
    b"\\2-grams:\n-1\t<s> </s>\n\n\\end\\\n"
)


def test_language_models_of_junk_are_one_line(tmp_path: Path) -> None:
    pytest.importorskip("kenlm")
    pytest.importorskip("sentencepiece")
    good = tmp_path / "good.arpa"
    good.write_bytes(ARPA)
    junk = {
        "empty": b"",
        "noise": bytes(range(256)) * 40,
        "html": b"<html>404</html>\n",
        "pickle": pickle.dumps(Bomb(tmp_path / "witness")),
        "arpa-cut": ARPA[:40],
        "arpa-lies": ARPA.replace(b"ngram 1=3", b"ngram 1=9"),
        "binary-cut": b"mmap lm http://kheafield.com/code format version 5\n\0" + bytes(20),
    }
    arguments: list[str] = []
    for name, content in junk.items():
        (tmp_path / name).write_bytes(content)
        arguments += [str(tmp_path / name), str(good), str(good), str(tmp_path / name)]
    # In a process of its own: these are libraries of C++.
    command = [sys.executable, "-c", KENLM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(junk)
    for name, models, tokenizers in zip(junk, lines[::2], lines[1::2], strict=True):
        assert models.startswith(f"{tmp_path / name} is no KenLM model: ")
        assert tokenizers.startswith(f"{tmp_path / name} is no SentencePiece model: ")
    assert not (tmp_path / "witness").exists()
