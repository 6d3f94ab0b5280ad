"""Components that break their contract are named in one line; what they made is never another's."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from outside_package import write_modules
from PIL import Image
from typer.testing import CliRunner, Result

import synthvlm
from synthvlm.captions.rules import RULES
from synthvlm.captions.rules.base import Measured, ModelRule, RuleSettings, Subject, TextRule
from synthvlm.captions.rules.batch import TextBatch
from synthvlm.captions.rules.method import measure
from synthvlm.cli import app
from synthvlm.components.plugins import forget
from synthvlm.errors import PluginError
from synthvlm.recipe import Recipe
from synthvlm.scorers.base import Scores, check_scores
from synthvlm.stages.fingerprints import image_fingerprint

CAPTIONS = [f"a small wooden barn number {n} on a hill" for n in range(9)]


@pytest.fixture(autouse=True)
def no_plugins() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python files of docs/extending.md."""
    folder = tmp_path_factory.mktemp("files")
    write_modules(folder)
    return folder


def png(width: int, height: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(sink, "png")
    return sink.getvalue()


class Runs:
    """Runs of small recipes whose generator is a plug-in, with a file of further ones."""

    def __init__(self, folder: Path, files: Path) -> None:
        self.folder, self._files = folder, files
        self.out = folder / "run"

    def __call__(self, code: str = "", *changes: str, options: Sequence[str] = ()) -> Result:
        captions, mine = self.folder / "captions.txt", self.folder / "mine.py"
        captions.write_text("\n".join(CAPTIONS) + "\n")
        words = ["run", "tiny", "--captions", str(captions), "--out", str(self.out), *options]
        for name in ("stripes", "colourfulness"):
            words += ["--plugin", str(self._files / f"{name}.py")]
        if code:
            mine.write_text(HEAD + textwrap.dedent(code))
            words += ["--plugin", str(mine)]
        settings = {
            "generation": "{generator: stripes, candidates: 2}",
            "scoring": "{clip: null, ssim: null, colourfulness: {}}",
            "export.formats": "[llava]",
            "run.shard_size": "4",
            "run.threads": "1",
            "run.device": "cpu",
        }
        settings |= dict(change.split("=", 1) for change in changes)
        for key, value in settings.items():
            words += ["--set", f"{key}={value}"]
        try:
            return CliRunner().invoke(app, words)
        finally:
            forget()

    def line(self, code: str, *changes: str) -> str:
        """The one line with which a run ends."""
        result = self(code, *changes)
        assert result.exit_code == 1, result.output
        assert "Traceback" not in result.output
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        return line.removeprefix("error: ")

    def rows(self) -> list[dict[str, Any]]:
        files = sorted((self.out / "candidates").glob("*.parquet"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]


HEAD = """
import numpy as np
import torch
from synthvlm.captions.rules.base import Measured, ModelRule, TextRule
from synthvlm.components.settings import Settings
from synthvlm.exporters import Exporter
from synthvlm.generators import GeneratedImages, Generator
from synthvlm.scorers import Scorer, Scores
from synthvlm.selectors import Selector
"""


@pytest.fixture
def run(tmp_path: Path, files: Path) -> Runs:
    return Runs(tmp_path, files)


SCORING = "scoring={clip: null, ssim: null, mine: {}}"
CURATION = "curation.rules={mine: {max: 4}}"


def method(base: str, signature: str, body: str) -> str:
    """A plug-in of one method."""
    return f"""
class Mine({base}):
    name = "mine"
    def {signature}:
        {body}
"""


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (
            "return Scores(np.zeros((len(captions), 1)))",
            "scorer 'mine': its values have shape (4, 1), not shape (4,)",
        ),
        ("return 0.5", "scorer 'mine': its values have no array, not shape (4,)"),
        (
            "return Scores(np.array(['good'] * len(captions)))",
            "scorer 'mine': its values are of type <U4, no numbers",
        ),
        ("raise KeyError('weights')", "scorer 'mine' failed: KeyError: 'weights'"),
        (
            "return Scores(np.zeros(len(captions)), np.ones((len(captions), 2)))",
            "scorer 'mine': embeddings are not of unit length",
        ),
        (
            "return Scores(np.zeros(len(captions)), truncated=(True,))",
            "scorer 'mine': truncated has 1 entries, not 4",
        ),
    ],
)
def test_a_scorer(run: Runs, body: str, line: str) -> None:
    code = method("Scorer", "score(self, images, captions)", body)
    assert run.line(code, SCORING, "run.batch_size=4") == line


def test_the_first_problem_is_told_where_too_many_failed(run: Runs) -> None:
    code = method(
        "Scorer",
        "score(self, images, captions)",
        "return Scores(np.array([0.5 if 'apple' in c else np.nan for c in captions]))",
    )
    line = run.line(code, SCORING)
    assert line.startswith(
        "generate: 8 candidates failed, more than run.max_failed_share (0.01) allows; "
        "the first: scorer 'mine' gave nan; all reasons are in the column `problem` of "
    )
    assert {row["problem"] for row in run.rows()} == {"scorer 'mine' gave nan"}


def test_a_scorer_that_always_fails_is_asked_no_more(run: Runs) -> None:
    code = method(
        "Scorer",
        "score(self, images, captions)",
        "return Scores(np.full(len(captions), np.inf))",
    )
    line = run.line(code, SCORING)
    assert line.startswith("no image can be made or scored, not even of 'A red apple")
    assert "scorer 'mine' gave inf; fix the cause and run again" in line


def test_one_failed_candidate_stops_nothing(run: Runs) -> None:
    code = method(
        "Scorer",
        "score(self, images, captions)",
        "return Scores(np.array([np.nan if '3' in c else float(i) for i, c in "
        "enumerate(captions)]))",
    )
    result = run(code, SCORING, "run.max_failed_share=0.2")
    assert result.exit_code == 0, result.output
    failed = [row for row in run.rows() if row["status"] == "failed"]
    assert [row["problem"] for row in failed] == ["scorer 'mine' gave nan"] * 2


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (
            "return GeneratedImages(torch.zeros(1, 3, 8, 8), (None,))",
            "generator 'mine': its pixels are torch.float32, shape (1, 3, 8, 8), not uint8, "
            "shape (8, 3, height, width)",
        ),
        (
            "return torch.zeros(8, 3, 8, 8)",
            "generator 'mine': its pixels are no array, shape (), not uint8, "
            "shape (8, 3, height, width)",
        ),
        ("return self.pipe(prompts)", "generator 'mine' failed: AttributeError: 'Mine' object"),
    ],
)
def test_a_generator(run: Runs, body: str, line: str) -> None:
    code = method("Generator", "generate(self, prompts, seeds)", body)
    assert run.line(code, "generation={generator: mine}").startswith(line)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("return np.zeros(2)", "rule 'mine': its measures have shape (2,), not shape (4,)"),
        ("return [0.0] * len(batch)", "rule 'mine': its measures have no array, not shape (4,)"),
        (
            "return np.full(len(batch), np.nan)",
            "rule 'mine': it measured NaN: each text needs a number",
        ),
        (
            "return np.array(list(batch.texts))",
            "rule 'mine': its measures are of type <U38, no numbers",
        ),
        ("raise ValueError", "rule 'mine' failed: ValueError: ValueError"),
    ],
)
def test_a_text_rule(run: Runs, body: str, line: str) -> None:
    assert run.line(method("TextRule", "measure(self, batch)", body), CURATION) == line


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (
            "return Measured(np.zeros(2), (None, None))",
            "rule 'mine': its measures have shape (2,), not shape (4,)",
        ),
        (
            "return Measured(np.zeros(len(subjects)), ())",
            "rule 'mine': it returned 0 problems for 4 captions",
        ),
        ("return np.zeros(len(subjects))", "rule 'mine': it returned ndarray, not Measured"),
        ("raise OSError('gone')", "rule 'mine' failed: OSError: gone"),
    ],
)
def test_a_model_rule(run: Runs, body: str, line: str) -> None:
    assert run.line(method("ModelRule", "measure(self, subjects)", body), CURATION) == line


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("return [0, 1]", "selector 'mine': it returned no array of row numbers"),
        ("return np.array([0, 99])", "selector 'mine': it returned rows beyond the 9 pairs"),
        ("return np.array([1, 1])", "selector 'mine': it returned a row twice"),
        ("return pairs['nothing']", "selector 'mine' failed: KeyError: "),
    ],
)
def test_a_selector(run: Runs, body: str, line: str) -> None:
    code = method("Selector", "select(self, pairs, count)", body)
    assert run.line(code, "selection={method: mine}").startswith(line)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise RuntimeError('no room')", "exporter 'mine' failed: RuntimeError: no room"),
        ("return 'text'", "exporter 'mine': write_part returned str, not bytes"),
    ],
)
def test_an_exporter(run: Runs, body: str, line: str) -> None:
    code = method("Exporter", "write_part(self, part, pairs, write)", body)
    assert run.line(code, "export.formats=[llava, mine]") == line
    assert not (run.out / "dataset" / "README.md").exists()


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("class Mine(Scorer):\n    pass", "scorer Mine: its name is None; give it one of lower"),
        ("class Mine(Scorer):\n    name = 'My-Score'", "scorer Mine: its name is 'My-Score'; gi"),
        ("class Mine(Scorer):\n    name = 'clip'", "there is a scorer 'clip' already: give"),
        (
            "class Mine(Scorer):\n    name = 'mine'\n    Settings = Settings",
            "scorer 'mine': its Settings must be a subclass of ScorerSettings",
        ),
        ("x = 1", "--plugin MINE: defines no component: no class in it is a subclass of"),
        ("import nothing_there", "--plugin MINE: ModuleNotFoundError: No module named"),
        (
            "class Mine(Scorer):\n    name = 'mine'\n    def __init__(self):\n"
            "        raise OSError('no weights')",
            "scorer 'mine' failed: OSError: no weights",
        ),
    ],
)
def test_what_cannot_be_loaded(run: Runs, code: str, line: str) -> None:
    changes = [SCORING] if "weights" in code else []
    assert run.line(code, *changes).replace(str(run.folder / "mine.py"), "MINE").startswith(line)


def test_a_class_without_a_version_is_not_registered() -> None:
    class Mine(TextRule):
        name = "mine"

    with pytest.raises(PluginError, match="rule 'mine' has no version, so its results cannot be"):
        synthvlm.register(Mine)
    with pytest.raises(PluginError, match="is no component: make it a subclass of one of"):
        synthvlm.register(RuleSettings)  # type: ignore[arg-type]


def test_an_example_of_a_rule_with_a_model(files: Path) -> None:
    """Its captions have images; those of the other tests have none."""

    synthvlm.load_plugin(files / "original_side.py")
    rule: ModelRule = RULES["original_side"]()  # type: ignore[assignment]
    measured = rule.measure([Subject("a", png(20, 30)), Subject("b", b"no image")])
    assert isinstance(measured, Measured)
    assert measured.values[0] == 20
    assert np.isnan(measured.values[1])
    assert measured.problems[0] is None
    assert (measured.problems[1] or "").startswith("no image: ")


def test_what_rules_measure_goes_in_one_piece() -> None:
    """Bounded batches of texts, ASCII or not: each is checked by itself."""

    class Lengths(TextRule):
        name = "lengths"

        def measure(self, batch: TextBatch) -> Any:
            return np.array(list(map(len, batch.texts)))  # whole numbers are numbers

    texts = ["a", "bé", "ccc"]
    assert measure(texts, [Lengths()])["lengths"].tolist() == [1.0, 2.0, 3.0]


def test_embeddings_of_images_without_a_score_do_not_count() -> None:
    vectors = np.array([[1.0, 0.0], [np.nan, np.nan]], np.float32)
    check_scores("mine", Scores(np.array([0.5, np.nan]), vectors, vectors), 2)


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
