"""What all tests share: no network, and small random models."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before any library of Hugging Face is imported; processes that tests start inherit it.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes are named by their number: compressed ones differ between processes, names may not."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session", autouse=True)
def hash_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where hashes of models are kept: not among the user's caches."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("SYNTHVLM_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion pipeline with random weights."""
    from random_models import save_sd

    return save_sd(tmp_path_factory.mktemp("models") / "sd")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model with random weights."""
    from random_models import save_clip

    return save_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="session")
def small_models(sd_folder: Path, clip_folder: Path) -> list[str]:
    """Arguments of the command line that name the random models, and make little work."""
    settings = [
        f"generation.model={sd_folder}",
        f"scoring.clip.model={clip_folder}",
        "generation.steps=1",
        "generation.height=32",
        "generation.width=32",
        "generation.candidates=2",
        "scoring.ssim.side=32",
        "scoring.ssim.model_input_side=16",
        "run.shard_size=4",
        "run.threads=1",
    ]
    return [part for setting in settings for part in ("--set", setting)]


@pytest.fixture(scope="session")
def exported_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kept run, exported by this version: three pairs. Not to be changed: copy it."""
    from synthvlm.pipeline import Pipeline
    from synthvlm.run.kept_recipe import resumed_recipe

    data = Path(__file__).parent / "data"
    run = Path(shutil.copytree(data / "kept_run", tmp_path_factory.mktemp("exported") / "run"))
    shutil.copy(data / "kept_captions.jsonl", run)
    change = f"sources.0.path={run}/kept_captions.jsonl"
    Pipeline(resumed_recipe(run, overrides=[change]), run).run("export")
    return run
