"""``synthvlm doctor``: checks this installation, and says what to install."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from synthvlm.components.settings import named_models
from synthvlm.errors import first_line
from synthvlm.models.devices import usable_cores
from synthvlm.recipe import RECIPES, TINY, Recipe
from synthvlm.safe_text import printable
from synthvlm.training.recipe import TRAINING_RECIPES, TrainingRecipe

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo

__all__ = ["Finding", "diagnose", "findings"]

#: For each extra, a module that shows whether it is installed, and what the extra is for.
_EXTRAS = {
    "t5": ("sentencepiece", "T5 text encoders (SD3, FLUX); tokenizer of the first SigLIP"),
    "lora": ("peft", "LoRAs (generation.loras)"),
    "quantization": ("torchao", "8-bit weights (generation.quantization)"),
    "huggingface": ("datasets", "captions from data sets of the hub"),
    "perplexity": ("kenlm", "the caption rule `perplexity` by KenLM"),
    "metrics": ("prometheus_client", "--metrics: an endpoint for Prometheus"),
    "ray": ("ray", "--engine ray: generation on a cluster"),
    "s3": ("s3fs", "run folders and captions on s3://"),
    "gcs": ("gcsfs", "run folders and captions on gs://"),
    "training": ("trl", "synthvlm train"),
    "c2pa": ("c2pa", "signed C2PA manifests in exported images (export.c2pa)"),
    "easy-vqa": ("easy_vqa", "the benchmark easy-VQA of synthvlm eval"),
    "compare": ("openTSNE", "maps of embeddings in synthvlm compare"),
    "endpoint": ("httpx2", "an LLM judge behind an endpoint"),
}
_HUB_TIMEOUT_S = 3.0
_WHAT_WIDTH = 30


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: ``ok``, ``missing`` (and optional) or ``broken``."""

    state: str
    what: str
    detail: str


def diagnose(show: Callable[[str], None] = print) -> bool:
    """Show all findings; returns False if something is broken."""
    signs = {"ok": "ok     ", "missing": "missing", "broken": "BROKEN "}
    healthy = True
    for finding in findings():
        sign, what = signs[finding.state], finding.what
        if len(what) > _WHAT_WIDTH:  # it has a line of its own
            show(printable(f"{sign}  {what}"))
            sign, what = " " * len(sign), ""
        show(printable(f"{sign}  {what:<{_WHAT_WIDTH}}  {finding.detail}"))
        healthy = healthy and finding.state != "broken"
    return healthy


def findings() -> Iterator[Finding]:
    """Check the interpreter, the device, memory, disk, extras and models, one by one."""
    yield Finding("ok", "synthvlm", f"{version('synthvlm')} on Python {platform.python_version()}")
    yield from _libraries()
    yield _device()
    yield from _capacity()
    for extra, (module, purpose) in _EXTRAS.items():
        if importlib.util.find_spec(module) is not None:
            yield Finding("ok", f"extra {extra}", purpose)
        else:
            advice = f"{purpose}: pip install 'synthvlm[{extra}]'"
            yield Finding("missing", f"extra {extra}", advice)
    yield _embedded()
    yield from _judges()
    yield from _hub_models()


def _libraries() -> Iterator[Finding]:
    for name in ("torch", "diffusers", "transformers", "pyarrow"):
        try:
            __import__(name)
        except (ImportError, RuntimeError) as error:
            yield Finding(
                "broken", name, f"{first_line(error)}: pip install --force-reinstall {name}"
            )
        else:
            yield Finding("ok", name, version(name))
    if importlib.util.find_spec("torchvision") is not None:
        yield Finding(
            "ok", "torchvision", "not needed; uninstall it if importing CLIP or SDXL fails"
        )


def _device() -> Finding:
    try:
        import torch
    except (ImportError, RuntimeError) as error:
        return Finding("broken", "device", first_line(error))
    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        count = torch.cuda.device_count()
        return Finding(
            "ok", "device", f"{count} x {facts.name}, {facts.total_memory / 2**30:.0f} GiB"
        )
    if torch.backends.mps.is_available():
        return Finding("ok", "device", "Apple GPU (mps)")
    return Finding(
        "ok",
        "device",
        f"CPU, {usable_cores()} cores: enough for the recipe tiny; SDXL and SD3 need a GPU",
    )


def _capacity() -> Iterator[Finding]:
    if sys.platform == "linux":
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        yield Finding("ok", "memory", f"{pages / 2**30:.0f} GiB")
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Finding("ok", "disk", f"{free:.0f} GiB free here; 100,000 SDXL PNGs take about 150 GiB")


def _embedded() -> Finding:
    from synthvlm.models.model_files import clip_path, pipeline_path

    for path in (Path(pipeline_path(TINY)), Path(clip_path(TINY))):
        if not any(path.rglob("*.safetensors")):
            return Finding("broken", "model tiny", f"{path} holds no weights: reinstall synthvlm")
    return Finding("ok", "model tiny", "shipped with the package")


def _judges() -> Iterator[Finding]:
    from synthvlm.evaluation.benchmarks import PAPER
    from synthvlm.evaluation.harness import judge_problem

    for benchmark in PAPER:
        if benchmark.needs_judge:
            problem = judge_problem(benchmark)
            detail = problem or "its API key is set; synthvlm eval --benchmarks uses it"
            yield Finding("missing" if problem else "ok", f"judge of {benchmark.name}", detail)


def _hub_models() -> Iterator[Finding]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cached = {repo.repo_id for repo in scan_cache_dir().repos if _has_safetensors(repo)}
    except CacheNotFound:
        cached = set()
    recipes = [Recipe.load(recipe, captions=["captions.txt"]) for recipe in RECIPES.lines()]
    models = dict.fromkeys(
        [model for recipe in recipes for model in _models_of(recipe)] + list(_training_models())
    )
    reachable = True
    for name, revision in models:
        if name in cached:
            yield Finding("ok", f"model {name}", "in the local cache")
            continue
        problem = _hub_problem(name, revision) if reachable else "hub not reachable"
        if problem is None:
            yield Finding("ok", f"model {name}", "on the hub, downloaded at first use")
        else:
            reachable = "not reachable" not in problem
            yield Finding("missing", f"model {name}", problem)


def _has_safetensors(repo: CachedRepoInfo) -> bool:
    """Whether a model of the local cache has weights that are loaded here."""
    files = (file.file_name for revision in repo.revisions for file in revision.files)
    return any(name.endswith(".safetensors") for name in files)


def _training_models() -> Iterator[tuple[str, str | None]]:
    """The models that the built-in training recipes start from, with their revisions."""
    for name in TRAINING_RECIPES.lines():
        model = TrainingRecipe.load(name, data=["run"]).model
        for part, revision in (
            (model.vision_tower, model.vision_tower_revision),
            (model.language_model, model.language_model_revision),
        ):
            if part != TINY:
                yield part, revision


def _models_of(recipe: Recipe) -> Iterator[tuple[str, str | None]]:
    """The models that a recipe runs here, with their revisions; without those of endpoints."""
    generation, curation = recipe.generation, recipe.curation
    sections = [
        generation.generator_settings,
        generation.refiner,
        *generation.loras,
        generation.safety,
        generation.faces,
        *recipe.scorers.values(),
        *curation.rules.values(),
        curation.alignment,
    ]
    for settings in sections:
        if settings is None or getattr(settings, "endpoint", None) is not None:
            continue
        for name, revision, _ in named_models(settings):
            if name != TINY:
                yield name, revision


def _hub_problem(name: str, revision: str | None = None) -> str | None:
    """Why a model cannot be downloaded from the hub; None if it can."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        info = HfApi().model_info(name, revision=revision, timeout=_HUB_TIMEOUT_S)
    except GatedRepoError:
        return "gated: accept its licence on the hub, then run `hf auth login`"
    except RepositoryNotFoundError:
        return "not on the hub, or private: run `hf auth login`"
    except Exception as error:
        return f"hub not reachable ({type(error).__name__}): copy the model here, name its folder"
    files = [sibling.rfilename for sibling in info.siblings or []]
    if not any(file.endswith(".safetensors") for file in files):
        return (
            f"no safetensors in its {revision or 'main'} revision: `hf download {name} --local-dir "
            f"FOLDER` and `synthvlm convert-weights FOLDER NEW` make them; name NEW in the recipe. "
            f"Or set its revision to a converted one (refs/pr/N, by the hub's converter)"
        )
    return None
