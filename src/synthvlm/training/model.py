"""The model that is trained: a LLaVA checkpoint, or one put together from its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from synthvlm.data_sets.conversations import IMAGE_MARK
from synthvlm.errors import ModelError
from synthvlm.models.model_files import (
    clip_path,
    language_path,
    model_identity,
    vision_language_path,
)
from synthvlm.models.pretrained import PilImageProcessor, architectures, load_pretrained
from synthvlm.training.tokens import chat_template

if TYPE_CHECKING:
    from synthvlm.training.recipe import LoraSettings, ModelSettings

__all__ = [
    "Assembled",
    "add_lora",
    "assemble",
    "choose_trained",
    "model_identities",
    "trained_weights",
]

_LLAVA = "LlavaForConditionalGeneration"
PROJECTOR = "multi_modal_projector"
_PAD = "<pad>"


@dataclass(frozen=True, slots=True)
class Assembled:
    """A model and its processor (``LlavaForConditionalGeneration``, ``LlavaProcessor``)."""

    model: Any
    processor: Any

    @property
    def image_features(self) -> int:
        """Tokens that stand for one image: patches of the vision tower."""
        vision = self.model.config.vision_config
        return int((vision.image_size // vision.patch_size) ** 2)

    @property
    def image_id(self) -> int:
        """Id of the token that stands for an image."""
        return int(self.model.config.image_token_id)


def assemble(
    settings: ModelSettings, image: Literal["crop", "pad"], seed: int, dtype: str = "float32"
) -> Assembled:
    """Load the model, on the CPU.

    Args:
        settings: Where it or its parts are.
        image: How images become square: resized and cropped, or padded with CLIP's mean colour.
        seed: Of a new projector's weights, which are float32.
        dtype: Of the others, ``float32`` or ``bfloat16``.

    Raises:
        ModelError: A part cannot be found, is damaged, or is of another kind.
    """
    if settings.start is not None:
        model, tokenizer, image_processor = _load_llava(settings, dtype)
    else:
        model, tokenizer, image_processor = _join_parts(settings, seed, dtype)
    vision = model.config.vision_config
    from transformers import LlavaProcessor

    processor = LlavaProcessor(
        image_processor=_image_processor(image_processor, image, vision.image_size),
        tokenizer=tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy=model.config.vision_feature_select_strategy,
        num_additional_image_tokens=1,
        chat_template=chat_template(tokenizer),
    )
    model.config.image_seq_length = (vision.image_size // vision.patch_size) ** 2
    return Assembled(model, processor)


def model_identities(settings: ModelSettings) -> dict[str, str]:
    """What each model is that a training starts from, by its setting; see ``model_identity``.

    One that is not on this machine, or is gone, is its name.

    Raises:
        ModelError: A file cannot be read.
    """
    if settings.start is not None:
        try:
            paths = {"start": vision_language_path(settings.start)}
        except ModelError:  # a training without a model: there is nothing to load
            return {"model.start": settings.start}
    else:
        paths = {
            "vision_tower": clip_path(settings.vision_tower),
            "language_model": language_path(settings.language_model),
        }
    return {f"model.{name}": model_identity(path) for name, path in paths.items()}


def _load_llava(settings: ModelSettings, dtype: str) -> tuple[Any, Any, Any]:
    from transformers import AutoTokenizer, LlavaForConditionalGeneration

    start, revision = vision_language_path(str(settings.start)), settings.start_revision
    if _LLAVA not in architectures("LLaVA", start, revision):
        raise ModelError(f"{start} is no LLaVA checkpoint: its config.json does not name {_LLAVA}")
    classes = [LlavaForConditionalGeneration, AutoTokenizer, PilImageProcessor]
    model, tokenizer, images = load_pretrained(classes, "LLaVA", start, "cpu", dtype, revision)
    if model.config.vision_feature_select_strategy != "default":
        raise ModelError(f"{start}: only vision_feature_select_strategy 'default' is known")
    _check_tokenizer(tokenizer, start)
    if tokenizer.convert_tokens_to_ids(IMAGE_MARK) != model.config.image_token_id:
        raise ModelError(f"{start}: its tokenizer and its config.json differ in the token <image>")
    return model, tokenizer, images


def _join_parts(settings: ModelSettings, seed: int, dtype: str) -> tuple[Any, Any, Any]:
    """A LLaVA of a vision tower, a language model and a new projector."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        CLIPVisionModel,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    tower, words = clip_path(settings.vision_tower), language_path(settings.language_model)
    vision, images = load_pretrained(
        [CLIPVisionModel, PilImageProcessor],
        "vision",
        tower,
        "cpu",
        dtype,
        settings.vision_tower_revision,
    )
    language, tokenizer = load_pretrained(
        [AutoModelForCausalLM, AutoTokenizer],
        "language",
        words,
        "cpu",
        dtype,
        settings.language_model_revision,
    )
    _check_tokenizer(tokenizer, words)
    _add_tokens(language, tokenizer)
    config = LlavaConfig(
        vision_config=vision.config,
        text_config=language.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_MARK),
        projector_hidden_act=settings.projector_hidden_act,
        vision_feature_select_strategy="default",
        vision_feature_layer=settings.vision_feature_layer,
        tie_word_embeddings=language.config.tie_word_embeddings,
    )
    with torch.device("meta"):  # its own weights would be random, and as large as the model
        model: Any = LlavaForConditionalGeneration(config)
    model.model.vision_tower = vision
    model.model.language_model = language.model
    model.lm_head = language.lm_head
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.model.multi_modal_projector = LlavaMultiModalProjector(config)
    model.generation_config = language.generation_config
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), tokenizer, images


def _check_tokenizer(tokenizer: Any, name: str) -> None:
    if not tokenizer.is_fast:
        raise ModelError(f"{name}: its tokenizer has no offsets (it is none of `tokenizers`)")
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{name}: its tokenizer has no end of text (eos_token)")


def _add_tokens(language: Any, tokenizer: Any) -> None:
    """The image's token, and one to pad with; their new rows are the mean of the others."""
    import torch
    from transformers import AddedToken

    if not (hasattr(language, "model") and hasattr(language, "lm_head")):
        raise ModelError(f"{type(language).__name__}: only Llama-like language models are known")
    tokenizer.add_tokens(
        [AddedToken(IMAGE_MARK, special=True, normalized=False)], special_tokens=True
    )
    if tokenizer.pad_token_id is None:
        tokenizer.add_special_tokens({"pad_token": _PAD})
    tables = {id(table): table for table in _embedding_tables(language)}.values()
    before = language.get_input_embeddings().num_embeddings
    if len(tokenizer) > before:
        means = [table.weight.detach().mean(0) for table in tables]
        language.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with torch.no_grad():
            for table, mean in zip(_embedding_tables(language), means, strict=False):
                table.weight[before:] = mean
    language.config.pad_token_id = tokenizer.pad_token_id
    language.config.vocab_size = language.get_input_embeddings().num_embeddings


def _embedding_tables(language: Any) -> list[Any]:
    tables = [language.get_input_embeddings()]
    head = language.get_output_embeddings()
    if head.weight is not tables[0].weight:
        tables.append(head)
    return tables


def _image_processor(source: Any, image: Literal["crop", "pad"], side: int) -> Any:
    from transformers import CLIPImageProcessorPil
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    cls = LlavaImageProcessorPil if image == "pad" else CLIPImageProcessorPil
    options = {"do_pad": True} if image == "pad" else {}
    return cls(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=source.image_mean,
        image_std=source.image_std,
        resample=source.resample,
        **options,
    )


def choose_trained(model: Any, stage: Literal["pretrain", "finetune"]) -> None:
    """Let the projector alone require gradients, or the language model too; never the tower."""
    model.requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(True)
    if stage == "finetune":
        model.model.language_model.requires_grad_(True)
        model.lm_head.requires_grad_(True)


def add_lora(model: Any, settings: LoraSettings, seed: int) -> Any:
    """Low-rank adapters on the language model's linear layers; the projector is trained whole."""
    import torch
    from peft import LoraConfig, get_peft_model

    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and ".language_model." in f".{name}"
    ]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=names,
        modules_to_save=[PROJECTOR],
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def trained_weights(model: Any) -> dict[str, Any]:
    """The weights that require gradients, by name; tied ones once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
