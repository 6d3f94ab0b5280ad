"""Every command that a figure of the docs was measured by runs, in small, and is named rightly."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
#: Parts of others, no commands.
PARTS = {"hand_written_loop", "loading_clock", "official_loop", "random_sdxl", "stub_models"}
PARTS |= {"card", "random_transformers"}
SCRIPTS = {file.stem for file in (ROOT / "benchmarks").glob("*.py")} - PARTS

#: Arguments of a small run; FOLDER has captions.txt. Data-Juicer's side of `curation` is not run:
#: it has an environment of its own (benchmarks/data-juicer.txt).
SMALL = {
    "adaptive": "--captions 9 --candidates 2 --sample 8 --threads 1 --figure FOLDER/figure.svg",
    "curation": "FOLDER/captions.txt --repeats 1",
    "curation_million": "FOLDER/captions.txt --captions 30",
    "data_sets": "--pairs 30 --folder FOLDER",
    "engines": "--captions 8 --sizes 2 4 --engines 'in this process' --folder FOLDER",
    "equality": "--limit 2 --threads 1",
    "explorer": "--folder FOLDER --pairs 300 --by-hand",
    "exports": "--pairs 60 --folder FOLDER",
    "generation": "--captions 2 --candidates 2 --turns 1 --json FOLDER/figures.json",
    "gpu": "--device cpu --small --seconds 9999 --batch-sizes 1 --captions 1 --steps 1 "
    "--json FOLDER/gpu.json",
    "image_overlap": "--tiles 1 --scenes 4 --copies 2 --others 14 --sets 'scenes of 2 things'",
    "model_hashing": "--mb 2 --folder FOLDER",
    "near_duplicates": "FOLDER/captions.txt --captions 50 --originals 10",
    "privacy": "--missed",
    "provenance": "--captions 1 --candidates 1 --side 16 --turns 1",
    "selection": "--folder FOLDER --pairs 300 --methods 'coverage, no near-duplicate images'",
    "scale": "--captions 20 40 --candidates 2 --steps curate --folder FOLDER",
    "tiny_selection": "--folder FOLDER --captions 8 --seeds 0",
    "tiny_choosing": "--captions 24 --candidates 2 --steps 3 --out FOLDER/choosing "
    "--sheet FOLDER/sheet.png",
    "tiny_verifier": "--captions 4 --candidates 2 --seeds 900000 --cache FOLDER "
    "--out FOLDER/verifier",
    "training_overhead": "--samples 32 --turns 1",
}
#: What the last lines of their output tell.
TELLS = {
    "adaptive": r"a run, calibrated on 8 captions \| \d\.\d\d \|",
    "curation": r"SynthVLM, five rules: +[\d,]+ captions/s best",
    "curation_million": r"30 captions: \d+\.\d s, peak memory \d+ MB",
    "data_sets": r"\| `diff a.parquet b.parquet` \| \d+\.\d \| \d+\.\d \| \d+ \|",
    "engines": r"in this process \| \d+\.\d\d \| \d+\.\d\d / \d+\.\d\d \| -?\d+\.\d \|",
    "equality": r"\| 8, 64 \| 0 \| 0 \| 0\.0e\+00 \| 0 \| 0 \| 0 \|",
    "explorer": r"(?s)300 pairs, .+\| first page \| [\d.,]+ \|.+\| words \| .+\| reading all \|",
    "exports": r"(?s)\| `datasets` \| 60 \|.+\| webdataset \| 60 \|.+\| 0\.1 \| 5 \| \d+\.\d+% \|",
    "generation": r"(?s)denoiser alone \| \d.+"
    + r"by hand: .+ winners that differ: 0, selected captions that differ: 0\n"
    + r"authors' loop: .+ winners that differ: 0, selected captions that differ: 0",
    "gpu": r"(?s)winners that differ: 0.+there is no GPU that could wait.+For the docs.+"
    + r"\| SDXL \| 1 \| [\d.]+ \|.+\| compiled \| failed: SystemExit: compiled for a GPU only.+"
    + r"\| SD3 medium \| 4 \| [\d.]+ \|.+\| FLUX.1-dev \| 4 \| [\d.]+ \|",
    "image_overlap": r"(?s)things: 4 references, 4 other.+aligned, default \| 0\.900 \|",
    "model_hashing": r"known +\d+\.\d{4} s",
    "near_duplicates": r"threshold 1\.00: 0 of 40 captions are dropped",
    "privacy": r"\| name \|",
    "provenance": r"(?s)\| webp \| [\d,]+ bytes \| \+[\d,]+ bytes, \d+\.\d\d ms \| not measured \|"
    + r".+1 marked for 2 formats in \d+\.\d ms: \d\.\d\d\d% of generation",
    "selection": r"\| 300 \| coverage, no near-duplicate images \| [\d.| ]+ \| 60 \| 100",
    "scale": r"\| 40 \| curate \|",
    "tiny_selection": r"\| coverage, no near-duplicates \| \d+\.\d \|",
    "tiny_choosing": r"(?s)\| all \(24\) \| \d+\.\d .+\| all \| \d\.\d{3} \|.+\d s an image",
    "tiny_verifier": r"questions written exactly: \d+\.\d % of captions",
    "training_overhead": r"bare loop \d+\.\d\d s, all of train\(\) \d+\.\d\d s",
}
#: A command as texts name it: up to its end, or the end of its line.
COMMAND = re.compile(
    r"python3? (?:benchmarks/(\w+)\.py|-m (experiments(?:\.\w+){2}))((?: [^\s`#|\"'{}]+)*)"
)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The commands have a process to themselves, and set it up; here it is shared."""
    from diffusers.utils import logging as diffusers_logging

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delenv("SYNTHVLM_CACHE", raising=False)
    environment = dict(os.environ)
    threads, verbosity = torch.get_num_threads(), diffusers_logging.get_verbosity()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    yield
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(threads)
    diffusers_logging.set_verbosity(verbosity)
    logging.disable(logging.NOTSET)
    if cores is not None:
        os.sched_setaffinity(0, cores)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With forty captions, no two nearly alike."""
    things = ("horse", "boat", "lamp", "bridge", "teapot", "ladder", "violin", "tractor")
    places = ("barn", "harbour", "kitchen", "castle", "orchard")
    lines = [
        f"a {thing} of {n} colours stands near the {place} of {m} {thing}s"
        for n, thing in enumerate(things)
        for m, place in enumerate(places)
    ]
    (tmp_path / "captions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def words(arguments: str, folder: Path) -> list[str]:
    return [word.replace("FOLDER", str(folder)) for word in shlex.split(arguments)]


def test_no_benchmark_is_left_out() -> None:
    assert {*SMALL, "cluster_simulation"} == SCRIPTS
    assert SMALL.keys() == TELLS.keys()


@pytest.mark.parametrize("name", SMALL)
def test_it_runs_in_small(name: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert not import_module(name).main(words(SMALL[name], folder))
    shown = capfd.readouterr().out
    assert re.search(TELLS[name], shown), shown


def test_the_stages_at_scale_and_a_cluster_simulated_from_them(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    captions, run = folder / "many.txt", folder / "run"
    import_module("scale").write_captions(2001, captions)
    # What `scale` does in a process of its own for each step.
    import_module("scale").main(["--step", "report", "llava", str(captions), str(run), "1"])
    assert len(list((run / "dataset" / "images").rglob("*.png"))) > 1900
    import_module("cluster_simulation").main([str(run), "--captions", "2000", "--gpus", "2"])
    shown = capfd.readouterr().out
    assert "spread of 3 measured shards" in shown
    assert re.search(r"\| 10,000 \| \d+\.\d \| \d+\.\d% \| \d+\.\d \|", shown), shown


def test_models_of_the_size_of_sdxl(tmp_path: Path) -> None:
    random_sdxl = import_module("random_sdxl")
    assert random_sdxl.check(tmp_path) == random_sdxl.PARAMETERS


def test_without_a_gpu_nothing_is_measured(capfd: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("would measure for minutes: there is a GPU")
    assert not import_module("gpu").main([])
    assert "not measured: no GPU" in capfd.readouterr().out


def test_the_share_of_time_that_a_gpu_waits() -> None:
    share = import_module("card").waiting_share
    kernels = [("conv", 10.0, 20.0), ("relu", 15.0, 18.0), ("conv", 30.0, 50.0)]
    loading = [("Memcpy HtoD", 0.0, 2.0), ("Memset", 3.0, 4.0), ("Memcpy DtoH", 48.0, 60.0)]
    assert share(kernels + loading) == pytest.approx(10 / 50)  # 20 to 30, of 10 to 60
    assert share(loading) is None
    assert share([("conv", 1.0, 2.0)]) == 0


def test_a_part_that_would_not_end_in_time_or_fails_is_said_to(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    measured = import_module("gpu").Measurements(seconds=50, file=tmp_path / "figures.json")
    assert measured.part("short", 40, lambda: {"images": 3}) == {"images": 3}
    assert measured.part("long", 60, lambda: {"images": 4}) is None
    assert measured.part("broken", 0, lambda: 1 / 0) is None
    assert json.loads((tmp_path / "figures.json").read_text("utf-8")) == {
        "short": {"images": 3},
        "long": (left := "not measured: 50 s are left, 60 are needed"),
        "broken": "failed: ZeroDivisionError: division by zero",
    }
    assert left in capfd.readouterr().out


@pytest.mark.parametrize(
    ("card", "peak"),
    [
        ("NVIDIA H200", 989.5),
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA L40S", 362.1),
        ("NVIDIA H20", None),
        ("CPU", None),
    ],
)
def test_the_peak_of_a_card_is_known_by_its_name(card: str, peak: float | None) -> None:
    assert import_module("card").peak_tflops(card) == peak


def commands() -> list[tuple[str, str, str]]:
    """File, module and arguments of each command that docs and scripts name."""
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for place in ("benchmarks", "experiments", "src/synthvlm/tiny/weights"):
        files += [file for file in (ROOT / place).rglob("*.*") if file.suffix in (".md", ".py")]
    found = []
    for file in files:
        for script, module, arguments in COMMAND.findall(file.read_text("utf-8")):
            found.append((str(file.relative_to(ROOT)), script or module, arguments))
    return found


def test_every_benchmark_is_named_somewhere_in_the_docs() -> None:
    named = {name for file, name, _ in commands() if file.startswith(("README", "docs"))}
    assert named >= SCRIPTS


def test_commands_in_the_docs_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    given = 0
    for file, name, arguments in commands():
        parser = import_module(name).make_parser()
        words = shlex.split(re.sub(r"[][]|\.\.\.", " ", arguments))
        if words:  # else it is named without what it is to be given
            assert is_taken(parser, words), f"{file}: {name} {words}: {capsys.readouterr().err}"
            given += 1
    assert given > 25


def is_taken(parser: argparse.ArgumentParser, words: list[str]) -> bool:
    try:
        parser.parse_args(words)
    except SystemExit as error:  # --help, too
        return error.code == 0
    return True
