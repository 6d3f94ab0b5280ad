"""What the shell offers when the tabulator key is pressed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from synthvlm.cli import app
from synthvlm.cli.completion import bash_completion
from synthvlm.recipe import Recipe
from synthvlm.recipe.listing import listed_settings

Offered = Callable[..., list[str]]


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Offered:
    """Completions of words as bash cuts them: ``=`` is one of its own."""

    def complete(*words: str) -> list[str]:
        monkeypatch.setenv("_SYNTHVLM_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "\n".join(["synthvlm", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        with pytest.raises(SystemExit) as ended, bash_completion():
            app(prog_name="synthvlm")
        assert ended.value.code == 0
        return capsys.readouterr().out.split()

    return complete


def test_commands_recipes_and_choices(offered: Offered) -> None:
    assert offered("regen") == ["regenerate"]
    assert offered("run", "sdxl-") == ["sdxl-base", "sdxl-lcm", "sdxl-lightning", "sdxl-turbo"]
    assert offered("plan", "--recipe", "flux2") == ["flux2-klein"]
    assert offered("train", "tiny-f") == ["tiny-finetune"]
    assert offered("recipes", "tiny") == ["tiny", "tiny-finetune", "tiny-pretrain"]
    assert offered("compare", "--scorer", "s") == ["ssim", "siglip"]
    assert offered("convert", "--format", "hug") == ["huggingface"]
    assert offered("run", "--formats", "llava,hug") == ["llava,huggingface"]
    assert "llava,llava" not in offered("run", "--formats", "llava,l")
    assert offered("run", "--format", "fl") == ["flickr"]
    assert offered("run", "--engine", "r") == ["ray"]


def test_keys_of_settings_and_then_their_values(offered: Offered) -> None:
    assert offered("run", "tiny", "--set", "generation.h") == [
        "generation.height=", "generation.height=64"
    ]  # fmt: skip
    # Those of the recipe that the command names, also by its option.
    assert "generation.height=1024" in offered("run", "sdxl", "--set", "generation.h")
    assert "generation.height=1024" in offered("run", "--recipe", "sdxl", "--set", "generation.h")
    keys = offered("run", "tiny", "--set", "curation.rules.perplexity.")
    assert keys
    assert all(key.startswith("curation.rules.perplexity.") for key in keys)
    assert "scoring.vqa.model" in offered("run", "--set", "scoring.vqa.")
    assert "optimisation.epochs=" in offered("train", "tiny-finetune", "--set", "optimisation.e")
    assert offered("tune", "--grid", "se") == []
    assert offered("run", "--set", "nothing.like.it") == []


def test_bash_replaces_what_follows_the_equals_sign(offered: Offered) -> None:
    assert offered("run", "tiny", "--set", "selection.method", "=") == ["top", "quotas", "coverage"]
    assert offered("run", "tiny", "--set", "selection.method", "=", "co") == ["coverage"]
    assert offered("run", "--set", "seed", "=", "3", "--set", "curation.dedup") == [
        "curation.deduplicate=", "curation.deduplicate=true", "curation.deduplicate=false"
    ]  # fmt: skip
    assert offered("run", "--engine", "=", "r") == ["ray"]


def test_it_works_in_bash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        app(["--show-completion", "bash"], prog_name="synthvlm")
    script = capsys.readouterr().out
    command = tmp_path / "synthvlm"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m synthvlm "$@"\n')
    command.chmod(0o755)
    words = "(synthvlm run tiny --set selection.method = q)"
    ask = f"COMP_WORDS={words}; COMP_CWORD=6; _synthvlm_completion {command}"
    text = f"{script}\n{ask}; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("quotas\n", "")


def test_every_setting_of_a_resolved_recipe_is_listed() -> None:
    recipe = Recipe.load(
        "tiny", overrides=["curation.near_duplicates={}", "generation.adaptive={}"]
    )
    keys = {setting.key for setting in listed_settings(Recipe)}

    def missing(values: dict[str, object], prefix: str = "") -> list[str]:
        found = []
        for name, value in values.items():
            key = prefix + name
            if isinstance(value, dict) and value:
                found += missing(value, f"{key}.")
            elif key not in keys:
                found.append(key)
        return found

    values = recipe.model_dump(mode="json")
    values["sources"] = {"0": values["sources"][0]}
    assert missing(values) == []
