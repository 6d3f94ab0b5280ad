"""The command line as a user meets it: fresh interpreters, exit codes, one line for an error."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import pytest
import typer

import synthvlm
from commands import run
from fake_models import FakeGenerator, use_fake_models
from synthvlm.captions.rules import METHOD_RULES
from synthvlm.cli import app
from synthvlm.cli.errors import explained

CAPTIONS = [
    "A small red circle above two large grey squares, on a white ground.",
    "A large blue star beside a tiny green triangle, on a black ground.",
    "Three yellow crosses in a row below a red moon, on a grey ground.",
]
FAKE_MODELS = ["--set", "generation.model=org/fake", "--set", "scoring.clip.model=org/fake"]


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    path = tmp_path / "captions.txt"
    path.write_text("\n".join(CAPTIONS) + "\n")
    return path


def synthvlm_command(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "synthvlm", *map(str, arguments)]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100", "TERM": "dumb"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, **options)  # type: ignore[call-overload, no-any-return]


def one_line(text: str) -> str:
    assert text.endswith("\n")
    assert text.count("\n") == 1
    return text[:-1]


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run", "--help"], ["doctor", "-h"]])
def test_help(arguments: list[str]) -> None:
    done = synthvlm_command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: synthvlm" in done.stdout.replace("python -m synthvlm", "synthvlm")


def test_help_lists_every_command() -> None:
    text = synthvlm_command("--help").stdout
    stages = ("run", "curate", "generate", "select", "export", "report")
    for name in (*stages, "plan", "tune", "recipes", "doctor"):
        assert re.search(rf"^│ {name} ", text, re.MULTILINE), name


def test_version() -> None:
    assert synthvlm_command("--version").stdout == f"synthvlm {synthvlm.__version__}\n"


@pytest.mark.parametrize(
    "code",
    [
        "import synthvlm",
        "import synthvlm.cli",
        "import sys; sys.argv = ['synthvlm', '--help']\n"
        "from synthvlm.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass",
    ],
)
def test_no_heavy_library_is_loaded_for_an_import_or_for_help(code: str) -> None:
    heavy = "'torch', 'diffusers', 'transformers', 'pyarrow', 'pydantic', 'numpy', 'fsspec', 'PIL'"
    check = f"\nimport sys; print('loaded:', sorted({{{heavy}}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code + check], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("loaded: []\n")


def test_recipe_and_pipeline_are_imported_without_torch() -> None:
    code = "import sys; from synthvlm import Pipeline, Recipe; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_attribute_of_the_package() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = synthvlm.nonsense  # type: ignore[attr-defined]


def test_recipes_are_listed_with_a_line_each() -> None:
    listing = synthvlm_command("recipes").stdout.removeprefix("Recipes for `synthvlm run`:\n")
    runs, trainings = listing.split("\n\nRecipes for `synthvlm train`:\n")
    for part, some in (
        (runs, {"flux-dev", "sd3", "sdxl", "sdxl-lightning", "tiny"}),
        (trainings, {"llava-7b-pretrain", "llava-13b-finetune", "tiny-pretrain"}),
    ):
        lines = part.splitlines()
        names = [line.split()[0] for line in lines]
        assert names == sorted(names)
        assert some <= set(names)
        assert len({line.index(line.split()[1]) for line in lines}) == 1, "one column"


def test_printed_recipe_can_be_edited_and_given_back(tmp_path: Path, captions: Path) -> None:
    printed = synthvlm_command("recipes", "sdxl").stdout
    assert printed.startswith("# ")
    recipe = tmp_path / "my.yaml"
    recipe.write_text(printed)
    done = synthvlm_command("curate", recipe, "--captions", captions, "--out", tmp_path / "run")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["recipes", "tinny"], "error: there is no built-in recipe 'tinny', did you mean 'tiny'?"),
        (["run", "sdlx", "--out", "x"], "error: there is no built-in recipe 'sdlx', did you mean"),
        (["run", "gone.yaml", "--out", "x"], "error: recipe gone.yaml does not exist"),
        (["run", "sdxl", "--out", "x"], "error: sdxl: sources: no captions are named"),
        (
            ["run", "tiny", "--out", "x", "--set", "generation.stesp=3"],
            "error: tiny: generation.stesp: unknown key, did you mean 'steps'?",
        ),
        (["run", "--out", "x", "--captions", "gone.txt"], "error: gone.txt: no such file"),
    ],
)
def test_error_is_one_line_on_standard_error(
    tmp_path: Path, arguments: list[str], line: str
) -> None:
    done = synthvlm_command(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert one_line(done.stderr).startswith(line)
    assert done.stdout == ""


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = synthvlm_command("run", "gone.yaml", "--out", tmp_path / "x", "--debug")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert done.stderr.endswith("RecipeError: recipe gone.yaml does not exist\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["run"],
        ["run", "--out"],
        ["run", "--out", "x", "--limit", "0"],
        ["run", "--out", "x", "--limit", "many"],
        ["run", "--out", "x", "--nonsense"],
        ["recipes", "tiny", "sdxl"],
    ],
)
def test_wrong_usage_is_exit_status_two(tmp_path: Path, arguments: list[str]) -> None:
    done = synthvlm_command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def break_pipeline() -> None:
    from synthvlm import Pipeline

    def fail(*_: object, **__: object) -> None:
        raise ValueError("two\nlines")

    Pipeline.run = fail  # type: ignore[method-assign, assignment]


def test_unforeseen_error_is_one_line_too(tmp_path: Path, captions: Path) -> None:
    command = ["run", "--captions", captions, "--out", tmp_path / "run"]
    result = run(command, tmp_path, break_pipeline)
    assert result.code == 1
    assert one_line(result.err).startswith("error: unexpected ValueError: two lines; ")
    assert "Traceback" in run([*command, "--debug"], tmp_path, break_pipeline).err


def test_whole_job_in_a_fresh_interpreter(
    tmp_path: Path, captions: Path, small_models: list[str]
) -> None:
    folder = tmp_path / "run"
    done = synthvlm_command("run", "--captions", captions, "--out", folder, *small_models)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    funnel = [line.split()[0] for line in lines if line.startswith("  ")]
    assert funnel[0] == "rule"
    ours = ["control_tokens", "personal_data", "person_names"]
    assert funnel[1:] == [*METHOD_RULES, *ours, "duplicate"]
    # A stage that takes long prints lines on the way as well.
    stages = [line.split(":")[0] for line in lines if not line.startswith("  ")]
    assert [stage for stage, _ in groupby(stages)] == [
        "measure",
        "curate",
        "generate",
        "select",
        "export",
        "report",
        "data set",
        "look at all pairs",
    ]
    assert "6 candidates generated" in done.stdout
    assert f"\nreport: {folder}/report/index.html (" in done.stdout
    assert done.stdout.isascii(), "a display where there is no terminal"
    assert (folder / "dataset" / "llava.json").is_file()
    assert (folder / "report" / "index.html").is_file()


@pytest.mark.parametrize(
    ("command", "made"),
    [
        ("curate", {"captions", "report/curation.html"}),
        ("generate", {"captions", "pairs"}),
        ("select", {"captions", "pairs", "selection.parquet"}),
        ("export", {"captions", "pairs", "selection.parquet", "dataset"}),
        ("report", {"captions", "pairs", "selection.parquet", "dataset", "report/index.html"}),
    ],
)
def test_a_command_does_the_stages_up_to_its_own(
    tmp_path: Path, captions: Path, command: str, made: set[str]
) -> None:
    folder = tmp_path / "run"
    arguments = [command, "--captions", captions, "--out", folder, *FAKE_MODELS]
    assert run(arguments, tmp_path, use_fake_models).code == 0
    reports = {"report/curation.html", "report/index.html"}
    everything = {"captions", "pairs", "selection.parquet", "dataset", *reports}
    assert {name for name in everything if (folder / name).exists()} == made


def test_the_same_folder_resumes_without_naming_anything_again(
    tmp_path: Path, captions: Path
) -> None:
    folder = tmp_path / "run"
    first = ["curate", "--captions", captions, "--out", folder, *FAKE_MODELS]
    assert run(first, tmp_path, use_fake_models).code == 0
    result = run(["run", "--out", folder], tmp_path, use_fake_models)
    assert result.code == 0
    assert "measure: 0 captions read (up to date, nothing to do)" in result.out
    assert "12 candidates generated" in result.out
    again = run(["run", "--out", folder], tmp_path, use_fake_models)
    assert again.out.count("(up to date, nothing to do)") == 5


@pytest.mark.parametrize("command", ["run", "curate", "generate", "select", "export", "report"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_new_folder_needs_a_recipe_or_captions(
    tmp_path: Path, command: str, is_there: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "typo"
    if is_there:
        folder.mkdir()
    line = f"error: {folder} holds no run yet: correct --out, or begin one with a recipe or"
    for more in ([], ["--limit", "3"], ["--set", "seed=1"]):
        with pytest.raises(SystemExit) as ended:
            app([command, "--out", str(folder), *more])
        assert ended.value.code == 1
        assert one_line(capsys.readouterr().err).startswith(line)
    assert folder.exists() == is_there
    assert not is_there or not any(folder.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "tiny", "--out", "memory://run"],
        ["curate", "--captions", "a.txt", "--out", "memory://run"],
        ["tune", "tiny", "--grid", "generation.steps=1,2", "--out", "memory://run"],
        ["publish", "run", "memory://run"],
        ["regenerate", "run", "--id", "a", "--to", "memory://run"],
        ["compare", "run", "other", "--out", "memory://run"],
    ],
)
def test_what_would_be_gone_when_the_command_ends_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        app(arguments)
    line = "error: memory://run is in the memory of this command, and gone when it ends: name"
    assert one_line(capsys.readouterr().err).startswith(line)


def test_images_are_replaced_by_agreement_only(tmp_path: Path, captions: Path) -> None:
    folder, other = tmp_path / "run", tmp_path / "other.txt"
    other.write_text("A white fish over a brown stone, near a boat.\n")
    command = ["run", "--out", folder, *FAKE_MODELS, "--captions"]
    assert run([*command, captions], tmp_path, use_fake_models).code == 0
    recipe = (folder / "recipe.yaml").read_bytes()
    refused = run([*command, other], tmp_path, use_fake_models)
    assert refused.code == 1
    assert "holds 3 images that would be lost: 3 captions changed" in one_line(refused.err)
    assert "--replace-images" in refused.err
    assert (folder / "recipe.yaml").read_bytes() == recipe
    assert run(["run", "--out", folder], tmp_path, use_fake_models).code == 0
    assert run([*command, other, "--replace-images"], tmp_path, use_fake_models).code == 0


def test_limit_and_several_sources(tmp_path: Path, captions: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"caption": "A white fish over a brown stone, near a boat."}\n' * 3)
    command = ["curate", "--captions", captions, "--captions", other, "--out", tmp_path / "run"]
    assert "measure: 4 captions read" in run([*command, "--limit", "4"], tmp_path).out
    result = run([*command, "--limit", "1000"], tmp_path)
    assert "measure: 6 captions read" in result.out
    assert "4 of 6 captions kept" in result.out
    result = run([*command[:3], "--captions", captions, "--out", tmp_path / "r2"], tmp_path)
    assert result.code == 1
    assert "two sources are named 'captions'" in one_line(result.err)


def send(number: int, times: int, *_: object) -> None:
    for _ in range(times):
        os.kill(os.getpid(), number)


def interrupt(number: int, times: int) -> None:
    use_fake_models()
    FakeGenerator.generate = partial(send, number, times)  # type: ignore[assignment, method-assign]


@pytest.mark.parametrize(
    ("number", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGTERM, 2)]
)
def test_interrupted_run_says_that_it_resumes(
    tmp_path: Path, captions: Path, number: int, times: int
) -> None:
    folder = tmp_path / "run"
    command = ["run", "--captions", captions, "--out", folder, *FAKE_MODELS]
    result = run(command, tmp_path, partial(interrupt, number, times))
    assert result.code == 128 + number
    assert one_line(result.err) == "interrupted; run the same command again to resume"
    assert not (folder / ".lock.json").exists()
    assert run(command, tmp_path, use_fake_models).code == 0


def lose_a_part_and_fail() -> None:
    def generate(*_: object) -> None:
        try:
            send(signal.SIGTERM, 1)
        finally:
            raise RuntimeError("connection closed by peer")

    use_fake_models()
    FakeGenerator.generate = generate  # type: ignore[assignment, method-assign]


def test_what_fails_because_of_sigterm_is_no_error_of_its_own(
    tmp_path: Path, captions: Path
) -> None:
    command = ["run", "--captions", captions, "--out", tmp_path / "run", *FAKE_MODELS]
    result = run(command, tmp_path, lose_a_part_and_fail)
    assert result.code == 128 + signal.SIGTERM
    assert one_line(result.err) == "interrupted; run the same command again to resume"


def ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    use_fake_models()
    original = FakeGenerator.generate

    def generate(self: FakeGenerator, prompts: Sequence[str], seeds: Sequence[int]) -> object:
        send(signal.SIGTERM, 1)
        return original(self, prompts, seeds)

    FakeGenerator.generate = generate  # type: ignore[assignment, method-assign]


def test_sigterm_that_is_ignored_stays_so(tmp_path: Path, captions: Path) -> None:
    command = ["run", "--captions", captions, "--out", tmp_path / "run", *FAKE_MODELS]
    assert run(command, tmp_path, ignore_sigterm).code == 0


def test_an_interruption_that_python_wrapped_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    class Field:
        def __set_name__(self, owner: type, name: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as ended, explained(debug=False):
        type("Defined", (), {"id": Field()})
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == "interrupted; run the same command again to resume\n"


def test_reader_that_stops_reading_gives_no_traceback(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "synthvlm", "recipes"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_terminal_gets_a_display(tmp_path: Path, captions: Path, encoding: str) -> None:
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "synthvlm", "curate", "--captions", str(captions)]
    environment = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": encoding}
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")],
        stdout=terminal,
        stderr=subprocess.PIPE,
        env=environment,
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            piece = os.read(controller, 4096)
        except OSError:  # Linux's way to say that the other end is closed.
            break
        if not piece:
            break
        shown += piece
    os.close(controller)
    assert process.wait() == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    text = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", shown.decode())
    sign = "✓ curate    " if encoding == "utf-8" else "curate: "
    assert f"{sign}3 of 3 captions kept" in text
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h"), "the cursor stays hidden"
