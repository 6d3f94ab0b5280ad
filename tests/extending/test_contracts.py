"""Components that break their contract are named in one line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from plugin_runs import Runs

import synthvlm
from synthvlm.captions.rules import RULES
from synthvlm.captions.rules.base import Measured, ModelRule, RuleSettings, Subject, TextRule
from synthvlm.captions.rules.batch import TextBatch
from synthvlm.captions.rules.method import measure
from synthvlm.errors import PluginError
from synthvlm.scorers.base import Scores, check_scores


def png(width: int, height: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(sink, "png")
    return sink.getvalue()


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


def scorer(body: str) -> str:
    """A plug-in of a scorer."""
    return method("Scorer", "score(self, images, captions)", body)


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
    code = scorer(body)
    assert run.line(code, SCORING, "run.batch_size=4") == line


def test_the_first_problem_is_told_where_too_many_failed(run: Runs) -> None:
    code = scorer(
        "return Scores(np.array([0.5 if 'apple' in c else np.nan for c in captions]))",
    )
    line = run.line(code, SCORING)
    assert line.startswith(
        "generate: 8 candidates failed, more than run.max_failed_share (0.01) allows; "
        "the first: scorer 'mine' gave nan; all reasons are in the column `problem` of "
    )
    assert {row["problem"] for row in run.rows()} == {"scorer 'mine' gave nan"}


def test_a_scorer_that_always_fails_is_asked_no_more(run: Runs) -> None:
    code = scorer(
        "return Scores(np.full(len(captions), np.inf))",
    )
    line = run.line(code, SCORING)
    assert line.startswith("no image can be made or scored, not even of 'A red apple")
    assert "scorer 'mine' gave inf; fix the cause and run again" in line


def test_one_failed_candidate_stops_nothing(run: Runs) -> None:
    code = scorer(
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
