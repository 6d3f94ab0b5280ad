"""What a plug-in made is its own, and is said to be: in candidates, card, report and selection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from plugin_runs import CAPTIONS, Runs
from typer.testing import CliRunner

import synthvlm
from synthvlm.cli import app
from synthvlm.recipe import Recipe
from synthvlm.stages.fingerprints import image_fingerprint

GENERATOR = """
class Mine(Generator):
    name = "{name}"
    version = "{version}"
    def generate(self, prompts, seeds):
        noise = np.random.default_rng([*seeds, {salt}])
        pixels = noise.integers(0, 256, (len(seeds), 3, 16, 16), np.uint8)
        return GeneratedImages(torch.from_numpy(pixels), (None,) * len(seeds))
"""


def test_no_generator_keeps_the_images_of_another(run: Runs) -> None:
    def generated(name: str, version: str, salt: int) -> str:
        code = GENERATOR.format(name=name, version=version, salt=salt)
        change = f"generation={{generator: {name}, candidates: 2}}"
        result = run(code, change, "run.batch_size=1", options=["--replace-images"])
        assert result.exit_code == 0, result.output
        return next(line for line in result.output.splitlines() if line.startswith("generate: "))

    assert generated("one", "1", 1).startswith("generate: 18 candidates generated")
    assert generated("one", "1", 1).startswith("generate: 0 candidates generated")
    first = {row["score"] for row in run.rows()}
    assert generated("two", "1", 2).startswith("generate: 18 candidates generated")
    assert not first & {row["score"] for row in run.rows()}
    assert generated("two", "2", 2).startswith("generate: 18 candidates generated")
    # What a version does not tell of, no one can know.
    assert generated("two", "2", 3).startswith("generate: 0 candidates generated")
    assert generated("one", "1", 1).startswith("generate: 18 candidates generated")
    assert {row["score"] for row in run.rows()} == first
    card = (run.out / "dataset" / "README.md").read_text()
    assert "| image generation | plug-in one | file 1 |" in card


def test_a_generator_of_a_plugin_depends_on_its_own_settings_alone(files: Path) -> None:
    synthvlm.load_plugin(files / "stripes.py")

    def identity(generation: dict[str, Any]) -> str:
        values = {"sources": [{"path": "x.txt"}], "generation": generation}
        return image_fingerprint(Recipe.from_values(values))

    stripes = {"generator": "stripes", "dtype": "float32"}
    assert identity(stripes) == identity({**stripes, "options": {"side": 64}})
    assert identity(stripes) != identity({**stripes, "options": {"side": 32}})
    # Not on the built-in generator's model, which a later release may replace.
    built_in = {"dtype": "float32", "model": "org/other"}
    assert identity(built_in) != identity({**built_in, "model": "org/another"})
    default = Recipe.from_values({"sources": [{"path": "x.txt"}], "generation": stripes})
    other = default.generation.model_copy(update={"model": "org/other", "steps": 99})
    assert image_fingerprint(default) == image_fingerprint(
        default.model_copy(update={"generation": other})
    )


def test_models_that_a_plugins_settings_name_are_on_the_card(run: Runs, tmp_path: Path) -> None:
    model = tmp_path / "weights"
    model.mkdir()
    (model / "README.md").write_text("---\nlicense: mit\n---\n")
    (model / "config.json").write_text("{}")
    code = """
from typing import Annotated
from synthvlm.components.settings import ModelName

class MineSettings(Settings):
    model: Annotated[str, ModelName()]

class Mine(Generator):
    name = "mine"
    label = "My generator"
    Settings = MineSettings
    def __init__(self, model):
        pass
    def generate(self, prompts, seeds):
        pixels = np.random.default_rng(seeds).integers(0, 256, (len(seeds), 3, 16, 16), np.uint8)
        return GeneratedImages(torch.from_numpy(pixels), (None,) * len(seeds))
"""
    change = f"generation={{generator: mine, candidates: 2, options: {{model: {model}}}}}"
    result = run(code, change)
    assert result.exit_code == 0, result.output
    card = (run.out / "dataset" / "README.md").read_text()
    assert "| image generation | plug-in mine | file " in card
    assert "| image generation | weights | default | mit |" in card
    page = (run.out / "report" / "index.html").read_text()
    assert "Generator <b>My generator</b> (plug-in mine, file " in page
    assert ", weights)" in page
    assert str(tmp_path) not in card
    # Its content counts, not its name.
    assert "generate: 0 candidates generated" in run(code, change).output
    (model / "config.json").write_text("[]")
    again = run(code, change, options=["--replace-images"])
    assert "generate: 18 candidates generated" in again.output


def test_a_run_without_clip(run: Runs) -> None:
    """The built-in generator, scored by SSIMScore alone."""
    changes = [
        "scoring={clip: null, ssim: {side: 32, model_input_side: 16}}",
        "generation={candidates: 2, steps: 1}",
    ]
    result = run("", *changes)
    assert result.exit_code == 0, result.output
    verified = CliRunner().invoke(app, ["verify", str(run.out)])
    assert verified.exit_code == 0, verified.output
    page = (run.out / "report" / "index.html").read_text()
    assert "Generator <b>tiny</b>, 1 steps" in page
    assert "Scored by <b>SSIMScore</b>." in page
    assert "CLIP" not in page
    files = sorted((run.out / "pairs").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert len(rows) == len(CAPTIONS)
    assert {(row["image_embedding"], row["text_embedding"]) for row in rows} == {(None, None)}
    assert "CLIPScore" not in (run.out / "dataset" / "README.md").read_text()


def test_the_score_of_a_plugin_is_a_field_of_quotas(run: Runs) -> None:
    """Nine pairs, of which the less colourful half and the others get the same number."""
    result = run(
        "",
        "selection={method: quotas, top_n: 4, "
        "options: {field: colourfulness_score, bins: 2, shares: equal}}",
    )
    assert result.exit_code == 0, result.output
    every = sorted(row["colourfulness_score"] for row in run.rows() if row["chosen"])
    table = pq.read_table(run.out / "selection.parquet")
    values = table["colourfulness_score"].to_pylist()
    # The score is this number alone: the best two of the upper half, and of the lower one.
    assert values == [every[8], every[7], every[3], every[2]]
