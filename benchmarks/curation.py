"""Caption rules side by side: SynthVLM and Data-Juicer 1.6.1, same captions, same single core.

Both measure all five model-free rules on every caption, held in memory, and judge them by the
thresholds of the paper. The two take turns; the best and the median turn are printed, in processor
time, so that other work on the machine counts for neither. Of Data-Juicer two ways are timed, its
operators one by one and with its operator fusion, in batches of 1,000 (its default); reading files
and its data-set layer are left out, in its favour.

    python3.11 -m venv ~/data-juicer && ~/data-juicer/bin/pip install -r benchmarks/data-juicer.txt
    python benchmarks/curation.py captions.txt --data-juicer-python ~/data-juicer/bin/python

Without ``--data-juicer-python`` only SynthVLM is timed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

#: In the order of the method. Both libraries take bounds as inclusive.
BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "alnum_ratio": (0.60, None),
    "char_rep_ratio": (None, 0.09373663),
    "flagged_words_ratio": (None, 0.0),
    "special_char_ratio": (0.16534802, 0.42023757),
    "word_rep_ratio": (None, 0.03085751),
}
#: Rules that Data-Juicer does not have in this form: only ours are timed, each alone.
PRIVACY_RULES = ("personal_data", "person_names")
BATCH = 1000
WAYS = ("one by one", "fused")


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captions", help="a file of captions, of any format that SynthVLM reads")
    parser.add_argument("--data-juicer-python", help="Python of the environment with Data-Juicer")
    parser.add_argument("--flagged-words", help='JSON {"en": [...]}; default: the built-in list')
    parser.add_argument("--repeats", type=int, default=7, help="turns of each (default 7)")
    parser.add_argument("--cpu", type=int, default=0, help="core that both run on (default 0)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = make_parser().parse_args(argv)
    if arguments.worker:
        serve_data_juicer(Path(arguments.captions))
        return 0
    use_one_core(arguments.cpu)
    return compare(arguments)


def use_one_core(cpu: int) -> None:
    """Pin this process and its children to one core and one thread; numpy comes later."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cpu})
    for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "ARROW"):
        os.environ[f"{library}_NUM_THREADS"] = "1"


def compare(arguments: argparse.Namespace) -> int:
    from synthvlm.captions.readers.normalize import normalize
    from synthvlm.captions.readers.sources import read_captions
    from synthvlm.captions.rules import METHOD_RULES, RULES
    from synthvlm.captions.rules.base import TextRule
    from synthvlm.captions.rules.method import (
        FlaggedWordsRatio,
        failed_rule,
        load_flagged_words,
        measure,
    )

    rows = list(read_captions(arguments.captions, name="benchmark", normalize=str))
    raw = [row.text_raw for row in rows if row.problem is None]
    texts = [normalize(text) for text in raw]
    words = load_flagged_words(arguments.flagged_words)
    method_rules = [
        FlaggedWordsRatio(words) if name.startswith("flagged") else RULES[name]()
        for name in METHOD_RULES
    ]
    rules = [rule for rule in method_rules if isinstance(rule, TextRule)]
    result: dict[str, Any] = {}

    def ours() -> None:
        result["measures"] = measure(texts, rules)
        result["failed"] = failed_rule(result["measures"], BOUNDS)

    print_machine()
    ascii_share = sum(map(str.isascii, texts)) / len(texts)
    mean = statistics.mean(map(len, texts))
    print(f"captions: {len(texts):,}, {mean:.1f} characters on average, {ascii_share:.1%} ASCII")
    turns = [timed(lambda: list(map(normalize, raw))) for _ in range(arguments.repeats)]
    print_rate("SynthVLM, normalisation", turns, len(raw))
    for name in PRIVACY_RULES:
        rule = RULES[name]()
        assert isinstance(rule, TextRule)
        turns = [timed(partial(measure, texts, [rule])) for _ in range(arguments.repeats)]
        print_rate(f"SynthVLM, {name}", turns, len(texts))
    ours()  # builds the tables
    if arguments.data_juicer_python is None:
        turns = [timed(ours) for _ in range(arguments.repeats)]
        print_rate("SynthVLM, five rules", turns, len(texts))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder, "job.json")
        job.write_text(json.dumps({"texts": texts, "words": sorted(words), "folder": folder}))
        seconds, theirs = take_turns(arguments, job, ours)
    return report(len(texts), seconds, result, theirs)


def take_turns(
    arguments: argparse.Namespace, job: Path, ours: Callable[[], None]
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each turn of each contender, and what Data-Juicer found."""
    command = [arguments.data_juicer_python, __file__, str(job), "--worker"]
    seconds: dict[str, list[float]] = {"SynthVLM": [], **{way: [] for way in WAYS}}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        for _ in range(arguments.repeats + 1):  # the first turn warms up
            seconds["SynthVLM"].append(timed(ours))
            for way in WAYS:
                seconds[way].append(float(ask(worker, way)))
        theirs = json.loads(ask(worker, "result"))
        worker.stdin.close()
    return {name: turns[1:] for name, turns in seconds.items()}, theirs


def ask(worker: subprocess.Popen[str], question: str) -> str:
    assert worker.stdin is not None
    assert worker.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        print(question, file=worker.stdin, flush=True)
    answer = worker.stdout.readline()
    if not answer:
        raise SystemExit("the Data-Juicer process ended; see its messages above")
    return answer


def report(
    count: int, seconds: dict[str, list[float]], result: dict[str, Any], theirs: dict[str, Any]
) -> int:
    """Print rates, ratios, and whether the two agree; the exit code says the latter."""
    import numpy as np

    print_rate("SynthVLM, five rules", seconds["SynthVLM"], count)
    for way in WAYS:
        print_rate(f"Data-Juicer {way}", seconds[way], count)
    ours = seconds["SynthVLM"]
    for way in WAYS:
        best = min(seconds[way]) / min(ours)
        median = statistics.median(seconds[way]) / statistics.median(ours)
        print(f"ratio to Data-Juicer {way}: {best:.1f}x (best turns), {median:.1f}x (medians)")
    largest = max(
        float(np.abs(values - np.array(theirs["measures"][name])).max())
        for name, values in result["measures"].items()
    )
    kept = result["failed"] == None  # noqa: E711 - elementwise
    differ = int((kept != np.array(theirs["kept"])).sum())
    print(f"kept: {int(kept.sum()):,}; verdicts that differ: {differ}; ", end="")
    print(f"largest difference of a measure: {largest:.1e}")
    return int(differ > 0)


def serve_data_juicer(job: Path) -> None:
    """Answer each line of standard input: a way to run, timed, or the result of the last one."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the library prints must not be taken for an answer
    from data_juicer.ops.filter.alphanumeric_filter import AlphanumericFilter
    from data_juicer.ops.filter.character_repetition_filter import CharacterRepetitionFilter
    from data_juicer.ops.filter.flagged_words_filter import FlaggedWordFilter
    from data_juicer.ops.filter.special_characters_filter import SpecialCharactersFilter
    from data_juicer.ops.filter.word_repetition_filter import WordRepetitionFilter
    from data_juicer.ops.op_fusion import fuse_operators
    from data_juicer.utils.constant import Fields

    spec = json.loads(job.read_text())
    Path(spec["folder"], "flagged_words.json").write_text(json.dumps({"en": spec["words"]}))
    operators = {
        "one by one": [
            AlphanumericFilter(min_ratio=BOUNDS["alnum_ratio"][0]),
            CharacterRepetitionFilter(rep_len=10, max_ratio=BOUNDS["char_rep_ratio"][1]),
            FlaggedWordFilter(max_ratio=0.0, flagged_words_dir=spec["folder"]),
            SpecialCharactersFilter(
                min_ratio=BOUNDS["special_char_ratio"][0],
                max_ratio=BOUNDS["special_char_ratio"][1],
            ),
            WordRepetitionFilter(rep_len=10, max_ratio=BOUNDS["word_rep_ratio"][1]),
        ]
    }
    for operator in operators["one by one"]:
        operator._op_cfg = {operator._name: {}}  # the library's loader sets it; fusion reads it
    operators["fused"] = fuse_operators(operators["one by one"])
    kept: list[bool] = []
    stats: list[dict[str, float]] = []

    def run(way: str) -> None:
        kept.clear()
        stats.clear()
        for start in range(0, len(spec["texts"]), BATCH):
            texts = spec["texts"][start : start + BATCH]
            samples: dict[str, Any] = {"text": texts, Fields.stats: [{} for _ in texts]}
            verdicts = []
            for operator in operators[way]:
                samples = operator.compute_stats_batched(samples)
                verdicts.append(list(operator.process_batched(samples)))
            kept.extend(bool(all(row)) for row in zip(*verdicts, strict=True))
            stats.extend(samples[Fields.stats])

    for line in sys.stdin:
        if line.strip() == "result":
            measures = {name: [row[name] for row in stats] for name in BOUNDS}
            print(json.dumps({"kept": kept, "measures": measures}), file=answers, flush=True)
        else:
            print(timed(partial(run, line.strip())), file=answers, flush=True)


def timed(work: Callable[[], object]) -> float:
    """Processor seconds that a call takes; on an idle core they are the elapsed ones."""
    start = time.process_time()
    work()
    return time.process_time() - start


def print_rate(what: str, seconds: list[float], count: int) -> None:
    best, median = count / min(seconds), count / statistics.median(seconds)
    print(f"{what + ':':30} {best:>10,.0f} captions/s best, {median:>10,.0f} median")


def print_machine() -> None:
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.split(": ")[1] for x in lines if x.startswith("model name")), model)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"machine: {model}, one of {os.cpu_count()} cores{load}; Python", end=" ")
    print(f"{platform.python_version()}, {platform.system()}")


if __name__ == "__main__":
    sys.exit(main())
