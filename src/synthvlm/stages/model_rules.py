"""From the recipe to the caption rules with models, and what each depends on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from synthvlm.data import MODEL_MEASURES, digest, fingerprint
from synthvlm.errors import RecipeError
from synthvlm.recipe_curation import JudgeBounds, PerplexityBounds
from synthvlm.stages.models import model_identity, resolve_device, resolve_dtype

if TYPE_CHECKING:
    from synthvlm.captions.model_rules import ModelRule
    from synthvlm.recipe import Recipe
    from synthvlm.store import RunFolder

__all__ = ["load_model_rule", "model_rule_fingerprint", "model_rules_on"]

#: Settings that change how a rule's work is done, or which captions it rejects, not what it
#: measures.
_NOT_MEASURED = {"min", "max", "batch_size", "endpoint"}


def model_rules_on(recipe: Recipe) -> list[str]:
    """The rules with models that are on, in the order in which they are applied."""
    return [name for name in MODEL_MEASURES if _settings(recipe, name) is not None]


def model_rule_fingerprint(recipe: Recipe, name: str) -> str:
    """What a rule's measure of a caption depends on, beside the caption."""
    settings = _settings(recipe, name)
    assert settings is not None
    values = settings.model_dump(mode="json", exclude=_NOT_MEASURED)
    values["model"] = _identity(settings)
    values["dtype"] = resolve_dtype("auto", recipe.run.device)
    if isinstance(settings, JudgeBounds):
        from synthvlm.captions.judge_prompt import DEFAULT_PROMPT, SYSTEM_MESSAGE

        values["prompt"] = (SYSTEM_MESSAGE, settings.prompt or DEFAULT_PROMPT)
    if isinstance(values.get("tokenizer"), str):
        values["tokenizer"] = _file_identity(values["tokenizer"])
    return fingerprint(name, sorted(values.items()))


def load_model_rule(run: RunFolder, recipe: Recipe, name: str) -> ModelRule:
    """Load a rule.

    Raises:
        ModelError: Its model cannot be found or loaded.
        MissingExtraError: A library is not installed.
    """
    device = resolve_device(recipe.run.device)
    rules = recipe.curation.rules
    if name == "perplexity":
        assert rules.perplexity is not None
        return _perplexity(rules.perplexity, device)
    assert rules.judge is not None
    return _judge(run, rules.judge, device)


def _settings(recipe: Recipe, name: str) -> PerplexityBounds | JudgeBounds | None:
    found: PerplexityBounds | JudgeBounds | None = getattr(recipe.curation.rules, name)
    return found


def _perplexity(settings: PerplexityBounds, device: str) -> ModelRule:
    from synthvlm.captions.perplexity import CausalLmPerplexity, KenlmPerplexity

    if settings.tokenizer is not None:
        return KenlmPerplexity(settings.model, settings.tokenizer)
    return CausalLmPerplexity(
        settings.model,
        device=device,
        dtype=resolve_dtype("auto", device),
        batch_size=settings.batch_size,
        revision=settings.revision,
    )


def _judge(run: RunFolder, settings: JudgeBounds, device: str) -> ModelRule:
    if settings.endpoint is None:
        from synthvlm.captions.local_judge import LocalJudge

        return LocalJudge(
            settings.model,
            prompt=settings.prompt,
            device=device,
            dtype=resolve_dtype("auto", device),
            batch_size=settings.batch_size,
            revision=settings.revision,
        )
    from synthvlm.captions.endpoint_judge import EndpointJudge
    from synthvlm.endpoints.client import EndpointClient
    from synthvlm.endpoints.replies import ReplyStore

    endpoint = settings.endpoint
    folder = endpoint.replies or run.local_path("replies")
    if folder is None:
        raise RecipeError(
            f"curation.rules.judge.endpoint.replies: name a local folder, for {run.url} is not on "
            f"this machine and replies that were paid for must be kept"
        )
    client = EndpointClient(
        endpoint.url,
        settings.model,
        api_key_env=endpoint.api_key,
        concurrency=endpoint.concurrency,
        timeout_s=endpoint.timeout_s,
        max_requests=endpoint.max_requests,
        max_total_tokens=endpoint.max_tokens,
        store=ReplyStore(folder),
    )
    return EndpointJudge(
        client, prompt=settings.prompt, max_tokens=settings.reply_tokens, seed=endpoint.seed
    )


def _identity(settings: PerplexityBounds | JudgeBounds) -> str:
    if isinstance(settings, JudgeBounds) and settings.endpoint is not None:
        return settings.model
    is_file = Path(settings.model).is_file()
    return _file_identity(settings.model) if is_file else model_identity(settings.model)


def _file_identity(path: str) -> str:
    file = Path(path)
    if not file.is_file():
        return path
    with file.open("rb") as stream:
        return digest(iter(lambda: stream.read(1 << 20), b""))
