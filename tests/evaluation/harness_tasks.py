"""Small tasks for the real harnesses that need no network, and what they are called."""

from __future__ import annotations

import io
import json
from pathlib import Path

import datasets
from PIL import Image

from synthvlm.evaluation.benchmarks import Benchmark, Metric

#: Colours of images, None for questions of text alone.
COLOURS = ("red", "blue", None, "green", "white", None, "black")
QUESTIONS = [f"Is question {row} about red?" for row in range(len(COLOURS))]

YES_NO = Benchmark(
    "local", "Local", "lmms-eval", "local_yes_no", (Metric("exact_match", "accuracy"),)
)
CHOICE = Benchmark("choice", "Choice", "lm-eval", "local_choice", (Metric("acc", "accuracy"),))

#: Questions of each task of the group.
CHOICE_TASKS = {"local_choice_one": 8, "local_choice_two": 4}

_LMMS = """
task: local_yes_no
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: answer
generation_kwargs:
  max_new_tokens: 6
  temperature: 0
  do_sample: false
process_results: !function utils.score
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.5
"""
_UTILS = """
def visual(doc):
    return [] if doc["image"] is None else [doc["image"].convert("RGB")]


def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]


def score(doc, results):
    return {"exact_match": float(results[0] == doc["answer"])}
"""
_LM = """
task: {name}
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["A", "B", "C", "D"]
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""
_GROUP = """
group: local_choice
task: [local_choice_one, local_choice_two]
aggregate_metric_list:
  - metric: acc
    weight_by_size: true
metadata:
  version: 2
"""


def image(colour: str) -> Image.Image:
    return Image.new("RGB", (32, 32), colour)


def write_yes_no(folder: Path, answers: list[str]) -> Path:
    """A task for lmms-eval with these right answers."""
    folder.mkdir()
    rows = []
    for row, (colour, question) in enumerate(zip(COLOURS, QUESTIONS, strict=True)):
        stream = io.BytesIO()
        if colour is not None:
            image(colour).save(stream, "PNG")
        picture = None if colour is None else {"bytes": stream.getvalue(), "path": None}
        rows.append({"image": picture, "question": question, "answer": answers[row]})
    kinds = {name: datasets.Value("string") for name in ("question", "answer")}
    features = datasets.Features({"image": datasets.Image(), **kinds})
    table = datasets.Dataset.from_list(rows, features=features)
    table.to_parquet(str(folder / "questions.parquet"))
    (folder / "utils.py").write_text(_UTILS)
    (folder / "yes_no.yaml").write_text(_LMMS.format(data=folder / "questions.parquet"))
    return folder


def write_choice(folder: Path) -> Path:
    """A group of two tasks for lm-eval, built as MMLU is; its right answers are all letters."""
    folder.mkdir()
    for name, count in CHOICE_TASKS.items():
        rows = [{"question": f"{row} of {name}:", "answer": row % 4} for row in range(count)]
        data = folder / f"{name}.parquet"
        datasets.Dataset.from_list(rows).to_parquet(str(data))
        (folder / f"{name}.yaml").write_text(_LM.format(name=name, data=data))
    (folder / "group.yaml").write_text(_GROUP)
    return folder


def cleaned(result: Path, folders: dict[str, str]) -> str:
    """A result file to be recorded: without this machine's paths, times and hardware."""
    values = json.loads(result.read_text())
    times = ("start_time", "end_time", "date", "total_evaluation_time_seconds")
    for name in (*times, "pretty_env_info", "configs", "model_name_sanitized"):
        values.pop(name, None)
    text = json.dumps(values, indent=1) + "\n"
    for folder, name in folders.items():
        text = text.replace(folder, name)
    return text
