"""The whole command: a question file, a small random LLaVA, one table."""

from __future__ import annotations

import json
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from random_llava import save_llava
from synthvlm.comparison.model_comparison import read_results
from synthvlm.errors import EvaluationError, ModelError
from synthvlm.estimates import Estimate
from synthvlm.evaluation.benchmarks import PAPER
from synthvlm.evaluation.evaluation import Evaluation, evaluate_command
from synthvlm.evaluation.harness import HARNESS_PYTHON, HarnessResult
from synthvlm.evaluation.results import Results, harness_rows
from synthvlm.evaluation.settings import EvaluationSettings
from synthvlm.models.model_files import language_path
from synthvlm.models.vlm import VisionLanguageModel
from synthvlm.progress.display import SilentProgress

BY_NAME = {one.name: one for one in PAPER}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `synthvlm train` leaves it: the model in a folder of its own."""
    folder = tmp_path_factory.mktemp("evaluate") / "trained"
    save_llava(folder / "model")
    return folder


@pytest.fixture
def questions(tmp_path: Path, trained: Path) -> Path:
    """Four questions, of which the model gets the first and the third right; one bad record."""
    picture = Image.new("RGB", (32, 32), "red")
    picture.save(tmp_path / "red.png")
    model = VisionLanguageModel(str(trained / "model"), device="cpu")
    answers = model.answer([picture, None], ["see?", "know?"], max_new_tokens=4)
    records = [
        {"image": "red.png", "question": "see?", "answer": answers[0], "group": "seen"},
        {"image": "red.png", "question": "see?", "answer": "wrong", "group": "seen"},
        {"question": "know?", "answer": answers[1], "group": "text"},
        {"question": "know?", "answer": "yes", "group": "text"},
        {"question": "know?"},
    ]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(records))
    return path


def _evaluate(model: Path, **options: Any) -> tuple[str, bool]:
    out, as_json = options.pop("out", None), options.pop("as_json", False)
    options = {"suffix": "", "max_new_tokens": 4, "device": "cpu", **options}
    settings = EvaluationSettings(**options)
    return evaluate_command(
        str(model), settings, out=out, as_json=as_json, progress=SilentProgress()
    )


def test_a_question_file_becomes_one_table(trained: Path, questions: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = {"questions": str(questions), "images": str(tmp_path), "out": str(out)}
    text, is_whole = _evaluate(trained, blind=True, **options)
    assert is_whole
    rows = [line.split() for line in text.splitlines() if line.startswith("mine ")]
    # Half of each group is right; Wilson's interval of 2 of 4 is 15.0 to 85.0.
    assert rows[0][:7] == ["mine", "all", "50.0", "15.0", "to", "85.0", "4"]
    assert [row[1:3] for row in rows[1:]] == [["seen", "50.0"], ["text", "50.0"]]
    assert "1 bad records were left out:" in text
    assert f"{questions}, record 5: it has no answer" in text
    values = json.loads((out / "results.json").read_text())
    assert values["model"]["name"] == str(trained)
    assert values["groups"]["mine"][0]["accuracy"]["value"] == 0.5
    assert values["groups"]["mine"][0]["blind"]["value"] == 0.25  # without its image: text alone
    assert "| mine | all | 50.0 | 15.0 to 85.0 | 4 |" in (out / "results.md").read_text()
    assert (out / "mine" / "blind-answers.jsonl").is_file()
    # What `synthvlm compare` reads of it.
    figure = read_results("ours", out).figures["mine", "all"]
    assert (figure.estimate.value, figure.questions) == (50.0, 4)
    assert figure.scores == {"1": 100.0, "2": 0.0, "3": 100.0, "4": 0.0}
    before = (out / "results.json").read_bytes()
    assert json.loads(_evaluate(trained, blind=True, as_json=True, **options)[0]) == values
    assert (out / "results.json").read_bytes() == before


def test_the_same_folder_is_not_for_another_model(
    trained: Path, questions: Path, tmp_path: Path
) -> None:
    options = {"questions": str(questions), "images": str(tmp_path), "out": str(tmp_path / "out")}
    _evaluate(trained, **options)
    moved = Path(shutil.copytree(trained, tmp_path / "moved"))
    assert _evaluate(moved, **options)[1]  # the same model is the same wherever it lies
    with pytest.raises(EvaluationError, match="another model: give"):
        _evaluate(save_llava(tmp_path / "other", seed=1), **options)
    (moved / "model" / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(EvaluationError, match="another model: give"):
        _evaluate(moved, **options)


def test_results_of_other_benchmarks_stay_in_the_folder(
    trained: Path, questions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = {"images": str(tmp_path), "out": str(out), "limit": 6}
    _evaluate(trained, questions=str(questions), **options)
    first = json.loads((out / "results.json").read_text())
    first["versions"]["synthvlm"] = "0.0"
    (out / "results.json").write_text(json.dumps(first))
    text, is_whole = _evaluate(trained, benchmarks="easy-vqa", **options)
    assert is_whole
    assert "mine " in text
    assert "measured earlier, with synthvlm 0.0" in text
    both = json.loads((out / "results.json").read_text())
    assert [row["benchmark"] for row in both["rows"]][:4] == ["mine"] * 3 + ["easy-vqa"]
    assert both["rows"][0]["ours"] == first["rows"][0]["ours"]
    assert both["groups"]["mine"] == first["groups"]["mine"]
    assert both["bad"] == first["bad"]
    assert "| mine |" in (out / "results.md").read_text()
    # What is run again is there once.
    _evaluate(trained, questions=str(questions), **options)
    again = json.loads((out / "results.json").read_text())
    assert again["bad"] == first["bad"]
    assert len(again["rows"]) == len(both["rows"])
    before = (out / "results.json").read_bytes()
    other = save_llava(tmp_path / "other", seed=1)
    with pytest.raises(EvaluationError, match="holds results of an evaluation with another model"):
        _evaluate(other, benchmarks="easy-vqa", **options)
    with pytest.raises(EvaluationError, match="holds results of an evaluation with another limit"):
        _evaluate(trained, benchmarks="easy-vqa", **{**options, "limit": 7})
    assert (out / "results.json").read_bytes() == before
    (out / "results.json").write_text("{")
    with pytest.raises(EvaluationError, match=r"results\.json is damaged: remove it"):
        _evaluate(trained, benchmarks="easy-vqa", **options)


def test_a_wrong_model_leaves_nothing_that_keeps_the_right_one_out(
    trained: Path, questions: Path, tmp_path: Path
) -> None:
    options = {"questions": str(questions), "images": str(tmp_path), "out": str(tmp_path / "out")}
    with pytest.raises(ModelError, match="of the kind llama, which answers no questions"):
        _evaluate(Path(language_path("tiny")), **options)
    assert _evaluate(trained, **options)[1]


def test_a_folder_of_something_else_is_left_alone(
    trained: Path, questions: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "results.json").write_text("mine")
    options = {"questions": str(questions), "images": str(tmp_path)}
    with pytest.raises(EvaluationError, match="is not empty, and no evaluation"):
        _evaluate(trained, out=str(tmp_path / "thesis"), **options)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["results.json"]
    with pytest.raises(EvaluationError, match="a URL; a folder of results is local"):
        _evaluate(trained, out="s3://some/results", **options)
    with pytest.raises(EvaluationError, match=r"cannot write to .*mine\.json: File exists"):
        _evaluate(trained, out=str(questions), **options)


def test_a_folder_in_which_nothing_could_be_asked_yet_is_gone_on_with(
    trained: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    options = {"questions": str(questions), "images": str(tmp_path), "out": str(out)}
    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "run_local", stopped)
        with pytest.raises(KeyboardInterrupt):
            _evaluate(trained, **options)
    (out / "mine").mkdir()
    assert _evaluate(trained, **options)[1]
    (out / ".synthvlm-eval").unlink()
    with pytest.raises(EvaluationError, match="is not empty, and no evaluation"):
        _evaluate(trained, **options)


@pytest.mark.parametrize("limit", [0, 500, 1500])
def test_full_disk_is_one_line_and_the_same_command_goes_on(
    trained: Path, questions: Path, tmp_path: Path, limit: int
) -> None:
    """Files may not grow beyond some size: of the answers' head, the answers, the results."""
    options = {"questions": str(questions), "images": str(tmp_path), "out": str(tmp_path / "out")}
    whole = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, whole[1]))
    try:
        with pytest.raises(
            EvaluationError, match=r"cannot write to .*out: File too large"
        ) as error:
            _evaluate(trained, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, whole)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "results.json").exists()
    assert _evaluate(trained, **options)[1]


def test_groups_and_names_of_strangers_stay_in_their_cells(trained: Path, tmp_path: Path) -> None:
    questions = tmp_path / os.fsdecode(b"mine-\xff.json")  # a name that is no UTF-8
    questions.write_text(
        json.dumps(
            [
                {"question": "a?", "answer": "x", "group": "one\n| mine | all | 100.0 |\x1b[2J"},
                {"question": "b?", "answer": "x"},
                {"id": "y\nmine  all  100.0", "question": "c?"},
            ]
        )
    )
    text, _ = _evaluate(trained, questions=str(questions), out=str(tmp_path / "out"))
    table = (tmp_path / "out" / "results.md").read_text("utf-8")
    for page in (text, table):
        assert len([line for line in page.splitlines() if "mine" in line[:6]]) == 2
        assert "(id y mine all 100.0)" in page
    assert "\x1b" not in table
    assert "mine-\\udcff" in table


def test_easy_vqa_runs_by_name(trained: Path, tmp_path: Path) -> None:
    text, is_whole = _evaluate(trained, benchmarks="easy-vqa", limit=6, out=str(tmp_path))
    assert is_whole
    assert "only the first 6 questions" in text
    header = text.splitlines()[0]
    assert header.index("majority") < header.index("question only")
    assert len((tmp_path / "easy-vqa" / "answers.jsonl").read_text().splitlines()) == 7


def test_what_cannot_be_run_is_said_before_a_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="nothing to evaluate"):
        _evaluate(tmp_path / "absent")
    with pytest.raises(EvaluationError, match="no benchmark 'x'"):
        _evaluate(tmp_path / "absent", benchmarks="x")
    with pytest.raises(EvaluationError, match="cannot start /no/python"):
        _evaluate(tmp_path / "absent", benchmarks="paper", harness_python="/no/python")
    (tmp_path / "easy-vqa.json").write_text('[{"question": "?", "answer": "x"}]')
    clash = {"benchmarks": "easy-vqa", "questions": str(tmp_path / "easy-vqa.json")}
    with pytest.raises(EvaluationError, match="the name of a benchmark: rename it"):
        _evaluate(tmp_path / "absent", **clash)
    (tmp_path / "easy-vqa.json").rename(tmp_path / "mine.json")
    with pytest.raises(ModelError, match="absent"):
        _evaluate(tmp_path / "absent", questions=str(tmp_path / "mine.json"))


@pytest.mark.skipif(
    HARNESS_PYTHON not in os.environ, reason=f"{HARNESS_PYTHON} names no python with harnesses"
)
def test_a_benchmark_without_its_judge_is_named_as_not_run(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    text, is_whole = _evaluate(trained, benchmarks="mm-vet", out=str(tmp_path))
    assert not is_whole
    assert "not run: its judge model needs an API key" in text
    assert "lmms-eval " in text


def test_ours_stands_beside_what_was_published() -> None:
    pope = HarnessResult(
        {"pope_f1_score": Estimate(80.123, 79.0, 81.0), "pope_accuracy": Estimate(79, None, None)},
        9_000,
        "0.0",
    )
    rows = harness_rows(BY_NAME["pope"], pope)
    rows += harness_rows(BY_NAME["mmlu"], HarnessResult({"acc": Estimate(40.0, 39, 41)}, 100, "2"))
    rows += harness_rows(BY_NAME["mm-vet"], None, "its judge | is away")
    model = {"name": "m", "dtype": "float32", "device": "cpu"}
    results = Results(model, {"lm-eval": "0"}, None, tuple(rows), {}, ())
    assert not results.is_whole
    table = [
        [cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")]
        for line in results.markdown().splitlines()
        if line.startswith("|")
    ]
    columns = [dict(zip(table[0], row, strict=True)) for row in table[2:]]
    assert columns[0] == {
        "benchmark": "POPE",
        "figure": "F1",
        "ours": "80.1",
        "95 % interval": "79.0 to 81.0",
        "questions": "9,000",
        "LLaVA-1.5-7B (published)": "85.9",
        "LLaVA-1.5-13B (published)": "85.9",
        "SynthVLM-7B (published)": "",
        "LLaVA-7B (published)": "",
        "note": "\\[1\\]",
    }
    assert columns[2]["SynthVLM-7B (published)"] == "41.2"
    assert columns[3]["ours"] == "not run"
    assert "- \\[2\\] not run: its judge \\| is away" in results.markdown()
    assert "majority" not in results.text()
