"""Which scorers a comparison has: those of the paper, others of the table, and plug-ins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import commands
from pair_files import TINY_SETTINGS, parquet, sample_pairs
from synthvlm.comparison.command import compare_command
from synthvlm.comparison.settings import ComparisonSettings, choose_scorers
from synthvlm.errors import RecipeError
from synthvlm.progress.display import SilentProgress
from synthvlm.report.published import differences

BRIGHTNESS = '''
import numpy as np
from synthvlm.scorers import Scorer, ScorerSettings, Scores


class BrightnessSettings(ScorerSettings):
    scale: float = 1.0


class Brightness(Scorer):
    """Mean of all pixels; of captions with the word "number 3" there is none."""

    name = "brightness"
    label = "Brightness"
    about = "mean of all pixels, 0 .. 1"
    Settings = BrightnessSettings

    def __init__(self, *, scale=1.0):
        self._scale = scale

    def score(self, images, captions):
        values = images.numpy().mean(axis=(1, 2, 3), dtype=np.float64) / 255 * self._scale
        values[["number 3." in caption for caption in captions]] = np.nan
        return Scores(values)
'''


@pytest.fixture
def brightness(tmp_path: Path) -> Path:
    path = tmp_path / "brightness.py"
    path.write_text(BRIGHTNESS)
    return path


def compare(folder: Path, *arguments: str | Path) -> commands.Result:
    return commands.run(["compare", *arguments], folder)


def comparison_of(path: Path, settings: ComparisonSettings) -> dict[str, Any]:
    text = compare_command([str(path)], settings, as_json=True, progress=SilentProgress())
    values = json.loads(text)
    assert isinstance(values, dict)
    return values


def test_the_scorers_of_the_paper_are_on_by_default() -> None:
    scorers = choose_scorers()
    assert [(name, own.weight) for name, own in scorers.items()] == [("clip", 1.0), ("ssim", 0.5)]
    settings = ComparisonSettings(scorers)
    assert settings.clip is not None
    assert settings.clip.model == "openai/clip-vit-base-patch32"
    assert settings.ssim is not None
    assert (settings.ssim.side, settings.ssim.model_input_side) == (768, 336)
    assert settings.is_comparable


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("scoring.clip.model=tiny", "CLIPScores are by tiny"),
        ("scoring.clip.prefix=''", "CLIPScores are with the prefix ''"),
        ("scoring.ssim.side=400", "SSIMScores are at 400 pixels through 336"),
    ],
)
def test_other_settings_are_not_comparable_with_published_figures(
    change: str, difference: str
) -> None:
    settings = ComparisonSettings(choose_scorers(changes=[change]))
    assert not settings.is_comparable
    (note,) = differences(settings.clip, settings.ssim)
    assert note.startswith(difference)


@pytest.mark.parametrize("setting", ["minimum", "only_best"])
def test_settings_of_the_choice_are_refused(setting: str) -> None:
    with pytest.raises(RecipeError, match=rf"scoring.ssim.{setting} is for runs"):
        choose_scorers(changes=[f"scoring.ssim.{setting}=1"])


def test_a_scorer_that_asks_questions_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"scoring.questions is for runs, which have questions"):
        choose_scorers(["clip", "questions"])


def test_other_weights_leave_the_figures_comparable_and_a_missing_scorer_does_not() -> None:
    assert ComparisonSettings(choose_scorers(changes=["scoring.ssim.weight=2"])).is_comparable
    assert not ComparisonSettings(choose_scorers(["ssim"])).is_comparable


@pytest.mark.parametrize(
    ("names", "changes", "expected"),
    [
        (["ssim"], [], ["ssim"]),
        (["ssim", "clip"], [], ["clip", "ssim"]),
        ([], ["scoring.clip=null"], ["ssim"]),
        ([], ["scoring={ssim: {weight: 1}}"], ["clip", "ssim"]),
        (["ssim"], ["scoring.clip.weight=1"], ["clip", "ssim"]),
    ],
)
def test_scorers_are_chosen_by_name_and_as_in_a_recipe(
    names: list[str], changes: list[str], expected: list[str]
) -> None:
    scorers = choose_scorers(names, changes)
    assert list(scorers) == expected
    if "clip" in scorers:
        # Not a recipe's default, which is the embedded model.
        assert scorers["clip"].model == "openai/clip-vit-base-patch32"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (["clipp"], [], "compare: scoring.clipp: there is no scorer 'clipp', did you mean 'clip'"),
        ([], ["scoring.ssim.sid=3"], "compare: scoring.ssim.sid: unknown key, did you mean 'side'"),
        ([], ["scoring.ssim.side=1"], "compare: scoring.ssim.side: input should be greater"),
        ([], ["generation.steps=3"], "compare: generation: unknown key"),
        ([], ["scoring=3"], "compare: scoring: expected settings"),
        (["ssim"], ["scoring.ssim=null"], "all weights are 0, or no scorer is on"),
        ([], ["scoring.clip.weight=0", "scoring.ssim.weight=0"], "all weights are 0"),
        ([], ["ssim"], "--set ssim: expected KEY=VALUE"),
    ],
)
def test_scorers_that_cannot_be_are_one_line(
    names: list[str], changes: list[str], message: str
) -> None:
    with pytest.raises(RecipeError) as error:
        choose_scorers(names, changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", [{"clip": "tiny"}, {"revision": "main"}])
def test_a_clip_model_without_the_scorer_clip_is_refused(model: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match="name a model of the scorer clip, which is off"):
        choose_scorers(["ssim"], **model)


def test_without_clip_there_are_neither_maps_nor_tokens(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", sample_pairs(9))
    out = tmp_path / "out"
    settings = ComparisonSettings(choose_scorers(["ssim"]))
    text = compare_command([str(path)], settings, out=str(out), progress=SilentProgress())
    assert "CLIPScore" not in text
    assert "caption, tokens" not in text
    assert "no map: it needs a scorer with embeddings of images and captions, such as clip" in text
    assert "no numbers of tokens: they are CLIP's" in text
    assert "weighted score: 0.5 SSIMScore" in text
    values = json.loads((out / "comparison.json").read_text())
    assert values["scoring"].keys() == {"ssim"}
    assert "clip" not in values
    assert not values["comparable_with_published"]
    (data_set,) = values["data_sets"]
    assert "clip_score" not in data_set
    assert data_set["tokens"] is None
    whole = comparison_of(path, TINY_SETTINGS)["data_sets"][0]
    assert data_set["ssim_score"] == whole["ssim_score"]
    page = (out / "report.html").read_text("utf-8")
    assert "CLIP" not in page.split("<main")[1].replace("they are CLIP", "")
    assert "<circle" not in page


def test_a_plug_in_of_a_file_is_a_column_everywhere(tmp_path: Path, brightness: Path) -> None:
    pairs = sample_pairs(6)
    path = parquet(tmp_path / "x.parquet", pairs)
    out = tmp_path / "out"
    done = compare(
        tmp_path, path, "--plugin", brightness, "--clip", "tiny", "--out", out, "--map", "0",
        "--set", "scoring.brightness.weight=2", "--set", "scoring.brightness.scale=0.5",
    )  # fmt: skip
    assert done.code == 0, done.err
    header = next(line for line in done.out.splitlines() if "Brightness" in line)
    columns = ["CLIPScore", "SSIMScore", "768/336", "Brightness", "weighted", "score", "pairs"]
    assert header.split() == columns
    assert "weighted score: CLIPScore + 0.5 SSIMScore + 2 Brightness; CLIP: tiny" in done.out
    assert "Brightness: mean of all pixels" in done.out
    published = next(line for line in done.out.splitlines() if line.startswith("SynthVLM-100K"))
    assert published.split()[1:] == ["0.36", "0.86", "-", "-", "published"]
    values = json.loads((out / "comparison.json").read_text())
    assert values["scoring"]["brightness"] == {"weight": 2.0, "scale": 0.5}
    (data_set,) = values["data_sets"]
    scored = [pair for pair in pairs if "number 3." not in pair.caption]
    (tmp_path / "image").mkdir()
    means = []
    for pair in scored:
        file = tmp_path / "image" / pair.id
        file.write_bytes(pair.image)
        with Image.open(file) as image:
            means.append(np.asarray(image.convert("RGB")).mean() / 255 / 2)
    assert data_set["brightness_score"]["mean"] == pytest.approx(np.mean(means))
    parts = [data_set[f"{name}_score"]["mean"] for name in ("clip", "ssim", "brightness")]
    assert data_set["score"]["mean"] == pytest.approx(np.dot(parts, [1, 0.5, 2]))
    page = (out / "report.html").read_text("utf-8")
    assert '<th scope="col">Brightness</th>' in page
    assert page.count("<span>Brightness 0.") == len(scored)


def test_a_pair_without_a_score_is_a_bad_record(tmp_path: Path, brightness: Path) -> None:
    path = parquet(tmp_path / "x.parquet", sample_pairs(6))
    done = compare(
        tmp_path, path, "--plugin", brightness, "--scorer", "brightness", "--scorer", "ssim"
    )
    assert done.code == 0, done.err
    assert "1 no score" in done.out
    assert "no score: scorer 'brightness' gave nan" in done.out
    assert "5 of 6" in done.out


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('no such thing')", "scorer 'bad' failed: ValueError: no such thing"),
        ("return 3", "scorer 'bad': its values have no array, not shape"),
    ],
)
def test_a_plug_in_that_fails_is_one_line(tmp_path: Path, body: str, message: str) -> None:
    plugin = tmp_path / "bad.py"
    plugin.write_text(
        "from synthvlm.scorers import Scorer\n\n\nclass Bad(Scorer):\n    name = 'bad'\n\n"
        f"    def score(self, images, captions):\n        {body}\n"
    )
    path = parquet(tmp_path / "x.parquet", sample_pairs(2))
    done = compare(tmp_path, path, "--plugin", plugin, "--scorer", "bad")
    assert done.code == 1
    assert message in done.err
    assert "Traceback" not in done.err


def test_scores_that_a_data_set_carries_are_left_alone(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", sample_pairs(4))
    plain = comparison_of(path, replace(TINY_SETTINGS, map_points=0))["data_sets"]
    table = pq.read_table(path)
    for name in ("clip_score", "ssim_score", "aesthetic_score", "score"):
        table = table.append_column(name, pa.array([9.0] * 4))
    pq.write_table(table, path)
    assert comparison_of(path, replace(TINY_SETTINGS, map_points=0))["data_sets"] == plain
