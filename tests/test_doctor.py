from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthvlm import doctor
from synthvlm.doctor import Finding, diagnose, findings
from synthvlm.recipe import Recipe


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """No network; the names that were looked for on the hub."""
    asked: list[str] = []

    def problem(name: str, revision: str | None) -> str:
        asked.append(name)
        return "hub not reachable (OfflineModeIsEnabled)"

    monkeypatch.setattr(doctor, "_hub_problem", problem)
    return asked


def test_healthy_installation(no_hub: list[str]) -> None:
    found = {finding.what: finding for finding in findings()}
    for name in ("synthvlm", "torch", "diffusers", "transformers", "pyarrow", "device", "disk"):
        assert found[name].state == "ok", found[name]
    assert found["model stabilityai/stable-diffusion-xl-base-1.0"].state in ("ok", "missing")
    assert len(no_hub) <= 1, "asked again after the hub did not answer"


def test_every_model_that_a_recipe_runs_here_is_listed(tmp_path: Path) -> None:
    lora, safety = tmp_path / "lora", tmp_path / "safety"
    recipe = Recipe.load(
        "sdxl",
        captions=["captions.txt"],
        overrides=[
            f"generation.loras=[{{model: {lora}, revision: v2}}]",
            f"generation.safety.model={safety}",
            "curation.rules.judge={model: org/judge, min: 0.5}",
        ],
    )
    models = dict(doctor._models_of(recipe))
    assert {
        "stabilityai/stable-diffusion-xl-base-1.0",
        "stabilityai/stable-diffusion-xl-refiner-1.0",
        "openai/clip-vit-base-patch32",
        "Salesforce/blip-itm-base-coco",
        "org/judge",
        str(lora),
        str(safety),
    } == models.keys()
    assert models[str(lora)] == "v2"


def test_models_of_training_and_the_judge_are_listed(
    no_hub: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = {finding.what: finding for finding in findings()}
    assert found["model lmsys/vicuna-7b-v1.5"].state in ("ok", "missing")
    assert "model openai/clip-vit-large-patch14-336" in found
    assert found["judge of mm-vet"].state == "missing"
    assert "OPENAI_API_KEY" in found["judge of mm-vet"].detail


def test_a_long_name_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Finding("ok", "short", "fine"), Finding("missing", "model org/" + "x" * 40, "gone")]
    monkeypatch.setattr(doctor, "findings", lambda: iter(rows))
    lines: list[str] = []
    diagnose(lines.append)
    assert [line.split() for line in lines] == [
        ["ok", "short", "fine"],
        ["missing", "model", "org/" + "x" * 40],
        ["gone"],
    ]
    assert lines[0].index("fine") == lines[2].index("gone")


def test_a_cached_model_without_safetensors_is_not_ready(tmp_path: Path) -> None:
    from huggingface_hub import scan_cache_dir

    for name, file in (("a", "pytorch_model.bin"), ("b", "model.safetensors")):
        folder = tmp_path / f"models--org--{name}"
        (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
        (folder / "snapshots" / ("0" * 40) / file).touch()
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("0" * 40)
    cached = {
        repo.repo_id: doctor._has_safetensors(repo) for repo in scan_cache_dir(tmp_path).repos
    }
    assert cached == {"org/a": False, "org/b": True}


def test_models_of_endpoints_are_not_looked_for_here() -> None:
    recipe = Recipe.load(
        captions=["captions.txt"],
        overrides=[
            "generation={model: remote, endpoint: {url: 'http://127.0.0.1:9/v1'}}",
            "curation.rules.judge={model: j, min: 0.5, endpoint: {url: 'http://127.0.0.1:9/v1'}}",
        ],
    )
    assert list(doctor._models_of(recipe)) == []


def test_real_hub_lookup_without_network_is_a_line_and_no_error() -> None:
    problem = doctor._hub_problem("openai/clip-vit-base-patch32")
    assert problem is not None
    assert problem.startswith("hub not reachable (")
    assert "\n" not in problem


def test_missing_weights_of_the_embedded_models_are_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthvlm.tiny.clip_path", lambda: tmp_path)
    finding = doctor._embedded()
    assert finding.state == "broken"
    assert finding.detail.endswith("holds no weights: reinstall synthvlm")


def test_missing_library_is_broken_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    finding = next(f for f in doctor._libraries() if f.what == "diffusers")
    assert finding.state == "broken"
    assert finding.detail.endswith("pip install --force-reinstall diffusers")


def test_missing_extra_says_the_command(no_hub: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_EXTRAS", {"t5": ("no_such_module", "T5 text encoders")})
    finding = next(f for f in findings() if f.what == "extra t5")
    assert (finding.state, finding.detail) == (
        "missing",
        "T5 text encoders: pip install 'synthvlm[t5]'",
    )


@pytest.mark.parametrize(("state", "healthy"), [("ok", True), ("missing", True), ("broken", False)])
def test_only_what_is_broken_is_unhealthy(
    monkeypatch: pytest.MonkeyPatch, state: str, healthy: bool
) -> None:
    monkeypatch.setattr(doctor, "findings", lambda: iter([Finding(state, "thing", "detail")]))
    lines: list[str] = []
    assert diagnose(lines.append) is healthy
    assert len(lines) == 1
    assert "thing" in lines[0]


def test_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "synthvlm", "doctor"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith("ok       synthvlm ")
    assert done.returncode == ("BROKEN" in done.stdout)
