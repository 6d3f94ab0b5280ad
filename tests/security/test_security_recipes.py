"""Recipes of strangers: nothing in one runs, and none takes the memory or the time of a machine."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from commands import run
from fake_models import use_fake_models
from synthvlm.errors import RecipeError, SynthVLMError
from synthvlm.recipe import Recipe
from synthvlm.run.kept_recipe import earlier_recipe
from synthvlm.run_folder.folder import RunFolder


def laughs(first: str, each: str, levels: int = 9) -> str:
    """Anchors of which each holds the one before nine times."""
    lines = [f"  l0: &l0 {first}\n"]
    for level in range(1, levels + 1):
        held = ", ".join([f"*l{level - 1}"] * 9)
        lines.append(f"  l{level}: &l{level} {each.replace('HELD', held)}\n")
    return "laughs:\n" + "".join(lines)


BOMBS = {
    "where settings are expected": laughs("[ha]", "[HELD]") + "generation: *l9\n",
    "unknown": laughs("[ha]", "[HELD]"),
    "as free settings": laughs("[ha]", "[HELD]") + "generation: {call: {a: *l9}}\n",
    "merged": laughs("{a: 1}", "{<<: [HELD]}"),
    "as a key": laughs("[ha]", "[HELD]") + "? *l9\n: 1\n",
    "in itself": "generation: &a {call: {b: *a}}\n",
    "list in itself": "sources: &a [*a]\n",
    "hexadecimal": f"seed: 0x{'f' * 6000}\n",
    "hexadecimal, no limit": f"generation: {{steps: 0x{'f' * 6000}}}\n",
    "sexagesimal": f"seed: 1{':10' * 5000}\n",
    "decimal": f"seed: {'9' * 100_000}\n",
    "deep": f"sources: {'[' * 20_000}\n",
    "binary": f"seed: !!binary {'A' * 100_000}\n",
}

LOAD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
from synthvlm.errors import RecipeError
from synthvlm.recipe import Recipe
for path in sys.argv[1:]:
    try:
        Recipe.load(path)
    except RecipeError as error:
        assert len(str(error)) < 4000, len(str(error))
        print("refused")
    else:
        print("loaded", path)
"""


def test_bombs_are_refused_at_once(tmp_path: Path) -> None:
    paths = []
    for number, text in enumerate(BOMBS.values()):
        paths.append(tmp_path / f"{number}.yaml")
        paths[-1].write_text(text)
    # In a process of its own, which may use 5 seconds and 2 GiB for all of them.
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *map(str, paths)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["refused"] * len(BOMBS)


def test_anchors_that_are_no_bomb_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("seed: &s 7\nlimit: *s\nsources: [{path: tiny}]\n")
    assert (Recipe.load(path).seed, Recipe.load(path).limit) == (7, 7)


TAGS = [
    "!!python/object/apply:os.mkdir ['WITNESS']",
    "!!python/object/new:os.mkdir ['WITNESS']",
    "!!python/name:os.mkdir ''",
    "!!python/module:antigravity ''",
    "!!python/object:synthvlm.recipe.Recipe {}",
    "!<tag:yaml.org,2002:python/object/apply:os.mkdir> ['WITNESS']",
    "!include /etc/passwd",
    "!ENV HOME",
]


@pytest.mark.parametrize("tag", TAGS)
def test_no_tag_runs_or_reads_anything(tmp_path: Path, tag: str) -> None:
    witness = tmp_path / "witness"
    text = f"seed: {tag.replace('WITNESS', str(witness))}\n"
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path, captions=["a.txt"])
    with pytest.raises(RecipeError, match="not valid YAML"):
        Recipe.load("tiny", overrides=[f"seed={tag.replace('WITNESS', str(witness))}"])
    folder = RunFolder(tmp_path / "run")
    folder.prepare()
    folder.write("recipe.yaml", text.encode())
    with pytest.raises(SynthVLMError, match="damaged"):
        earlier_recipe(folder)
    assert "\n" not in str(caught.value)
    assert not witness.exists()


@pytest.mark.parametrize(
    "line",
    [
        "trust_remote_code: true",
        "generation: {trust_remote_code: true}",
        "generation: {call: {trust_remote_code: true}}",
        "generation: {custom_pipeline: ./evil}",
        "scoring: {clip: {trust_remote_code: true}}",
        "curation: {rules: {judge: {min: 1, model: m, trust_remote_code: true}}}",
        "__class__: {}",
        "seed: 1\nseed: 2",
        "limit: 1" + "\n" + laughs("[ha]", "[HELD]"),
    ],
)
def test_the_recipe_of_a_strange_run_folder(tmp_path: Path, line: str) -> None:
    sentence = "A small red circle above three large grey squares, on a white ground.\n"
    (tmp_path / "c.txt").write_text(sentence)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(f"sources: [{{path: {tmp_path}/c.txt}}]\n{line}\n")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    result = run(["run", "--out", folder], tmp_path, use_fake_models)
    if "call" in line:  # free settings of the pipeline's call: told when it is known
        assert "trust_remote_code" in Recipe.load(folder / "recipe.yaml").generation.call
        return
    assert result.code == 1
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err
    assert {path.name for path in folder.iterdir()} == {"recipe.yaml"}
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 30


@pytest.mark.parametrize("mark", ["\u202e", "\u2066", "\u200f", "\u2028", "\x1b", "\x85", "\ufeff"])
def test_a_written_recipe_shows_what_it_holds(mark: str) -> None:
    recipe = Recipe.load(
        "tiny", overrides=[f"generation.negative_prompt={mark!a}".replace("'", '"')]
    )
    assert recipe.generation.negative_prompt == mark
    text = recipe.to_yaml()
    assert mark not in text
    assert 'negative_prompt: "\\' in text
