"""Commands for harnesses, and what their real result files say."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from harness_tasks import CHOICE, YES_NO

from synthvlm.errors import EvaluationError
from synthvlm.evaluation import harness
from synthvlm.evaluation.benchmarks import PAPER, choose_benchmarks
from synthvlm.evaluation.evaluated_model import EvaluatedModel
from synthvlm.evaluation.evaluation import Evaluation
from synthvlm.evaluation.harness import (
    HARNESS_PYTHON,
    HarnessFailure,
    harness_command,
    harness_python,
    harness_versions,
    judge_problem,
    login_note,
    make_environment,
    read_result,
    run_harness,
)
from synthvlm.evaluation.settings import EvaluationSettings
from synthvlm.progress.display import SilentProgress

RECORDED = Path(__file__).parent / "recorded"
MODEL = EvaluatedModel("org/model", "x", "cuda", "bfloat16", "v1")
BY_NAME = {one.name: one for one in PAPER}


def test_the_commands_are_as_the_harnesses_take_them() -> None:
    command = harness_command("python", BY_NAME["pope"], MODEL, Path("out"), batch_size=4, limit=9)
    assert command[:2] == ["python", "-P"]
    assert command[2].endswith("lmms_adapter.py")
    assert command[3:] == [
        *("eval", "--model", "synthvlm"),
        *("--model_args", "pretrained=org/model,dtype=bfloat16,revision=v1,device=cuda"),
        *("--tasks", "pope", "--batch_size", "4", "--output_path", "out", "--limit", "9"),
    ]
    assert harness_command("python", BY_NAME["mmlu"], MODEL, Path("out")) == [
        *("python", "-m", "lm_eval", "run", "--model", "hf-multimodal", "--device", "cuda"),
        *("--model_args", "pretrained=org/model,dtype=bfloat16,revision=v1"),
        *("--tasks", "mmlu", "--batch_size", "8", "--output_path", "out", "--num_fewshot", "5"),
    ]
    with pytest.raises(EvaluationError, match="no model with , or = in its name"):
        harness_command("python", BY_NAME["mmlu"], replace(MODEL, path="a,b=c"), Path())


def test_the_papers_ten_figures_are_there_and_no_others_are_published() -> None:
    assert list(BY_NAME) == [
        *("scienceqa", "scienceqa-img", "mm-vet", "vizwiz", "vqav2", "gqa", "mmbench", "mme"),
        *("pope", "mmlu"),
    ]
    assert [one.name for one in PAPER if one.needs_judge] == ["mm-vet"]
    assert [one.name for one in PAPER if one.harness == "lm-eval"] == ["mmlu"]
    assert dict(BY_NAME["mmlu"].metrics[0].published) == {"SynthVLM-7B": 41.2, "LLaVA-7B": 36.3}


def test_names_are_chosen_in_the_papers_order() -> None:
    assert choose_benchmarks("paper") == (False, list(PAPER))
    assert choose_benchmarks("pope, easy-vqa,gqa") == (True, [BY_NAME["gqa"], BY_NAME["pope"]])
    assert choose_benchmarks("") == (False, [])
    with pytest.raises(EvaluationError, match="no benchmark 'mmmu': choose of paper, easy-vqa"):
        choose_benchmarks("pope,mmmu")


def test_a_judge_needs_a_key() -> None:
    assert judge_problem(BY_NAME["mm-vet"], {}) is not None
    assert judge_problem(BY_NAME["mm-vet"], {"OPENAI_API_KEY": "a key"}) is None
    assert judge_problem(BY_NAME["pope"], {}) is None


def test_a_recorded_result_of_lmms_eval_is_read(tmp_path: Path) -> None:
    """Recorded from lmms-eval 0.7.3: 5 of 7 answers right (see harness_tasks.py)."""
    (tmp_path / "MODEL").mkdir()
    shutil.copy(RECORDED / "lmms_eval.json", tmp_path / "MODEL" / "20260101_000000_results.json")
    # Tasks leave files of such names, too.
    (tmp_path / "mmbench_results.json").write_text('{"overall_acc": 1.0}')
    found = read_result(YES_NO, tmp_path)
    accuracy = found.values["exact_match"]
    assert accuracy.value == pytest.approx(500 / 7)
    # The standard error of a sample's mean, 100 * sqrt(p (1 - p) / (n - 1)), times 1.96.
    half = 196 * (5 / 7 * 2 / 7 / 6) ** 0.5
    assert accuracy.low == pytest.approx(500 / 7 - half, abs=0.01)
    assert accuracy.high == 100.0
    assert (found.questions, found.version) == (7, "1.5")


def test_a_recorded_result_of_a_group_of_lm_eval_is_read(tmp_path: Path) -> None:
    """Recorded from lm-eval 0.4.13: a group of 8 and 4 questions, built as MMLU is."""
    shutil.copy(RECORDED / "lm_eval.json", tmp_path / "results_2026.json")
    told = json.loads((RECORDED / "lm_eval.json").read_text())["results"]
    found = read_result(CHOICE, tmp_path)
    parts = [told[name]["acc,none"] for name in ("local_choice_one", "local_choice_two")]
    assert found.values["acc"].value == pytest.approx(100 * (8 * parts[0] + 4 * parts[1]) / 12)
    assert (found.questions, found.version) == (12, "2")


def test_recorded_results_name_no_path_of_a_machine() -> None:
    for file in RECORDED.glob("*.json"):
        assert "/tmp" not in file.read_text()
        assert "/home" not in file.read_text()


def test_no_result_and_half_a_result_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(HarnessFailure, match="left no result of local_yes_no"):
        read_result(YES_NO, tmp_path)
    (tmp_path / "results.json").write_text('{"results": {"local_yes_no": {"alias": "x"}}}')
    with pytest.raises(HarnessFailure, match="lacks a figure of local_yes_no"):
        read_result(YES_NO, tmp_path)
    (tmp_path / "results.json").write_text('{"results": {"local_yes_no": {"exact_match": NaN}}}')
    with pytest.raises(HarnessFailure, match="exact_match is nan"):
        read_result(YES_NO, tmp_path)
    (tmp_path / "results.json").write_text('{"results": {')
    with pytest.raises(HarnessFailure, match="no whole result file"):
        read_result(YES_NO, tmp_path)


def test_a_harness_that_fails_says_why_and_where_the_rest_is(tmp_path: Path) -> None:
    fails = [sys.executable, "-c", "print('loading'); raise OSError('no such data set')"]
    with pytest.raises(HarnessFailure, match=r"OSError: no such data set \(its log: ") as raised:
        run_harness(fails, tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert "loading" in (tmp_path / "out" / "harness.log").read_text()
    with pytest.raises(HarnessFailure, match="cannot start /no/python"):
        run_harness(["/no/python"], tmp_path / "out")


def test_a_harness_is_asked_nothing_and_has_the_key_for_its_judge_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    code = "import os, sys; print([sys.stdin.read(), os.environ.get('OPENAI_API_KEY')])"
    command = [sys.executable, "-c", code]
    run_harness(command, tmp_path)
    assert (tmp_path / "harness.log").read_text() == "['', None]\n"
    run_harness(command, tmp_path, with_key=True)
    assert (tmp_path / "harness.log").read_text() == "['', 'a key']\n"


def test_a_result_of_an_earlier_model_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    """It was killed before it said what made it; then a harness ends well and leaves nothing."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    out = tmp_path / "out"
    (out / "local").mkdir(parents=True)
    shutil.copy(RECORDED / "lmms_eval.json", out / "local" / "1_results.json")
    name = f"org/m; touch {tmp_path}/a; $(touch {tmp_path}/b) `touch {tmp_path}/c`"
    model = EvaluatedModel(name, "x", "cpu", "float32", None)
    evaluation = Evaluation(model, out, EvaluationSettings(batch_size=1), SilentProgress())
    result, problem = evaluation.run_benchmark(str(python), YES_NO, {})
    assert result is None
    assert "the harness left no result of local_yes_no" in problem
    # No shell saw the name.
    assert f"pretrained={name}," in (out / "local" / "harness.log").read_text()
    assert not [one for one in "abc" if (tmp_path / one).exists()]


def test_the_python_that_is_given_is_taken(tmp_path: Path) -> None:
    environment = {HARNESS_PYTHON: "of the variable", "XDG_CACHE_HOME": str(tmp_path)}
    assert harness_python("given", environment) == "given"
    assert harness_python(None, environment) == "of the variable"
    made = tmp_path / "synthvlm" / "harness"
    made.mkdir(parents=True)
    (made / "complete").touch()
    del environment[HARNESS_PYTHON]
    assert harness_python(None, environment) == str(made / "bin" / "python")


def test_an_environment_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    # Port 9 of this machine answers nobody.
    offline = {**os.environ, "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"}
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        offline.pop(name, None)
    with pytest.raises(
        EvaluationError, match=f"no harness: .* --harness-python, or {HARNESS_PYTHON}"
    ) as raised:
        make_environment(tmp_path / "harness", offline)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "harness" / "complete").exists()


def test_what_pip_fetches_is_pinned_by_hash() -> None:
    for step in harness._STEPS:
        assert {"--require-hashes", "--no-deps"} <= set(step)
        text = Path(step[-1]).read_text()
        pins = re.split(r"\n(?=[a-z])", text)[1:]  # the first is a comment
        for pin in pins:
            assert re.match(r"[\w.-]+==\S+.*--hash=sha256:[0-9a-f]{64}", pin, re.DOTALL), pin
    assert {"lm-eval==0.4.13", "lmms-eval==0.7.3"} <= set(text.split())


def test_what_needs_a_login_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the tasks of lmms-eval 0.7.3 say it (`token: True`): all but VizWiz."""
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    _, paper = choose_benchmarks("paper")
    line = login_note(paper)
    assert line is not None
    assert "scienceqa, scienceqa-img, mm-vet, vqav2, gqa, mmbench, mme, pope; there is none" in line
    assert login_note([one for one in paper if one.name in ("vizwiz", "mmlu")]) is None
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert login_note(paper) is None


def test_a_python_without_harnesses_is_one_line() -> None:
    with pytest.raises(EvaluationError, match="No module named 'lm_eval'") as raised:
        harness_versions(sys.executable)
    assert "\n" not in str(raised.value)
    with pytest.raises(EvaluationError, match="cannot start /no/python"):
        harness_versions("/no/python")
