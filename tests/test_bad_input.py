"""Bad input: one clear line (what, where, what to do), and after mending the same command ends."""

from __future__ import annotations

import html
import json
import os
import pickle
import re
import resource
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from commands import Result, run
from fake_models import use_fake_models
from synthvlm.run_folder.folder import RunFolder

NOBODY = 65534
GOOD = [f"A small red circle above {n} large grey squares, on a white ground." for n in range(50)]
SETTINGS = [
    "generation.model=org/fake",
    "scoring.clip.model=org/fake",
    "generation.candidates=2",
    "selection.top_fraction=1.0",
    "run.shard_size=16",
    "run.threads=1",
]
FAKE_MODELS = [part for change in SETTINGS for part in ("--set", change)]


def rows(captions: list[str]) -> list[dict[str, object]]:
    return [{"id": f"id-{n}", "caption": caption} for n, caption in enumerate(captions)]


def jsonl(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def synthvlm(folder: Path, captions: Path, *extra: str) -> Result:
    """Everything, with fake models, from the captions to ``folder/run``."""
    command = ["run", "tiny", "--captions", captions, "--out", folder / "run", *FAKE_MODELS, *extra]
    return run(command, folder, use_fake_models)


def refusal(result: Result) -> str:
    """The one line of a refused command."""
    assert result.code == 1, result
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert result.err.endswith("\n")
    return result.err.removeprefix("error: ")[:-1]


def exported(folder: Path) -> list[dict[str, str]]:
    found = json.loads((folder / "run" / "dataset" / "llava.json").read_text("utf-8"))
    return [
        {"id": e["id"], "image": e["image"], "caption": e["conversations"][1]["value"]}
        for e in found
    ]


def assert_finishes(result: Result) -> None:
    assert (result.code, result.err) == (0, ""), result


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("c.txt", None, "{path}: no such file"),
        ("c.txt", b"", "{path}: the file holds no captions"),
        ("c.jsonl", b"", "{path}: the file holds no captions"),
        ("c.json", b"", "{path}, line 1, column 1: invalid JSON: "),
        ("c.json", b"[]", "{path}: the file holds no captions"),
        ("c.json", b'"x"', "{path}: expected a JSON list of objects"),
        ("c.json", b"[\n" * 36 + b"{nonsense", "{path}, line 37, column 10: invalid JSON: "),
        ("c.csv", b"", "{path}: the file holds no captions"),
        ("c.csv", b"id,text\n1,x\n", "{path}: there is no column 'caption', only 'id', 'text'"),
        ("c.csv", b"id,captoin\n1,x\n", "did you mean 'captoin'?"),
        ("c.parquet", b"nonsense", "{path}: not a usable Parquet file: "),
        ("c.docx", b"x", "{path}: cannot tell the format of captions from the ending '.docx'; set"),
        ("c.txt.gz", b"nonsense", "{path}: cannot be read: "),
        ("c.txt", "utf-16", "{path} is UTF-16; save the file as UTF-8"),
    ],
)
def test_unusable_caption_file(
    tmp_path: Path, name: str, content: bytes | str | None, line: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes("\ufeffx".encode("utf-16-le") if isinstance(content, str) else content)
    assert line.format(path=path) in refusal(synthvlm(tmp_path, path))
    good = jsonl(tmp_path / "good.jsonl", rows(GOOD[:3]))
    assert_finishes(synthvlm(tmp_path, good))


def test_directory_is_no_caption_file(tmp_path: Path) -> None:
    assert "is a directory; name its caption files" in refusal(synthvlm(tmp_path, tmp_path))


def test_wrong_field_in_every_row(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "c.jsonl", [{"text": caption} for caption in GOOD])
    line = refusal(synthvlm(tmp_path, path))
    assert line.startswith("50 of 50 captions are unreadable, more than run.max_failed_share")
    assert "line 1: there is no field 'caption' (found: 'text')" in line
    assert_finishes(synthvlm(tmp_path, path, "--set", "sources.0.text_field=text"))


def test_one_bad_line_is_recorded_and_skipped(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in rows(GOOD)]
    lines[36] = '{"id": "id-36", "caption": '
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(lines) + "\n")
    result = synthvlm(tmp_path, path)
    assert_finishes(result)
    assert "warning: 1 unreadable captions; the first: c: line 37: invalid JSON" in result.out
    assert len(exported(tmp_path)) == 49
    store = RunFolder(tmp_path / "run")
    marker = store.markers("curate")[2]
    row = store.read_table(marker.file("captions") or "").to_pylist()[36 - 32]
    assert row["rejected_by"] == "unreadable"
    assert row["problem"].startswith("line 37: invalid JSON")


def test_too_many_bad_lines_stop_the_run_until_they_are_mended(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in rows(GOOD)]
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join([*lines[:36], "{", "[]", *lines[38:]]) + "\n")
    line = refusal(synthvlm(tmp_path, path))
    assert line.startswith("2 of 50 captions are unreadable, more than run.max_failed_share (0.01)")
    assert "the first: c: line 37: invalid JSON" in line
    path.write_text("\n".join(lines) + "\n")
    assert_finishes(synthvlm(tmp_path, path))
    assert len(exported(tmp_path)) == 50


def test_caption_of_a_megabyte(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "c.jsonl", rows([*GOOD[:20], "red circle " * 95_000]))
    result = synthvlm(tmp_path, path)
    assert_finishes(result)
    assert "line 21: the caption has 1,045,000 characters, the limit is 100,000" in result.out
    assert len(exported(tmp_path)) == 20


def test_equal_ids_name_both_rows(tmp_path: Path) -> None:
    records = rows(GOOD)
    records[40]["id"] = "id-3"
    path = jsonl(tmp_path / "c.jsonl", records)
    line = refusal(synthvlm(tmp_path, path))
    assert "'id-3': row 3 of source 'c' and row 40 of source 'c'" in line
    path = jsonl(tmp_path / "c.jsonl", rows(GOOD))
    assert_finishes(synthvlm(tmp_path, path))


def test_equal_ids_of_two_sources_name_both(tmp_path: Path) -> None:
    first = jsonl(tmp_path / "first.jsonl", rows(GOOD[:3]))
    second = jsonl(tmp_path / "second.jsonl", rows(GOOD[3:5]))
    line = refusal(synthvlm(tmp_path, first, "--captions", str(second)))
    assert "'id-0': row 0 of source 'first' and row 0 of source 'second' (and 1 more)" in line


EVIL_IDS = ["../../evil", "/evil", "..", ".", "a/b\\c", "C:\\evil", "\0", "x" * 5000, "-rf", "💥"]


def test_ids_never_become_file_names(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    records = [{"id": id, "caption": GOOD[n]} for n, id in enumerate(EVIL_IDS)]
    path = jsonl(work / "c.jsonl", records)
    assert_finishes(synthvlm(work, path, "--set", "report.preview_share=1.0"))
    assert {entry["id"] for entry in exported(work)} == set(EVIL_IDS)
    images = [p.name for p in (work / "run" / "dataset" / "images").rglob("*") if p.is_file()]
    assert len(images) == len(EVIL_IDS)
    assert all(re.fullmatch(r"[0-9a-f]{32}\.png", name) for name in images)
    assert list(tmp_path.iterdir()) == [work]
    assert {p.name for p in work.iterdir()} == {"c.jsonl", "run", "command.out", "command.err"}
    assert not Path("/evil").exists()


ODD_CAPTIONS = [
    "<script>alert('boo')</script> A red circle",
    '"><img src=x onerror=alert(1)> A blue star',
    "A green square &amp; a moon & 5 < 6",
    "A red heart ❤️ and a painter 👩🏽‍🎨 by the sea",
    "Nothing \0 in between",
    "A right-to-left \u202e override and a \u2028 separator",
    "{{ 7 * 7 }} {% raw %} ${x} A yellow cross",
    "</script><!-- A grey ring",
    "Two lines\nand a tab\there",
]


def test_odd_captions_are_escaped_in_the_report_and_whole_in_the_data_set(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "c.jsonl", rows(ODD_CAPTIONS))
    off = [f"curation.rules.{name}=null" for name in RULES]
    off += [
        f"curation.{step}=false"
        for step in ("fix_unicode", "normalize_punctuation", "remove_invisible")
    ]
    extra = [part for change in [*off, "report.preview_share=1.0"] for part in ("--set", change)]
    assert_finishes(synthvlm(tmp_path, path, *extra))
    # Normalising makes one blank of white space, and nothing of NUL; the rest stays.
    texts = {" ".join(caption.replace("\0", "").split()) for caption in ODD_CAPTIONS}
    assert {entry["caption"] for entry in exported(tmp_path)} == texts
    page = (tmp_path / "run" / "report" / "index.html").read_text("utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "</script><!--" not in page
    assert "7 * 7" in page
    text = html.unescape(page)
    for caption in (ODD_CAPTIONS[0], ODD_CAPTIONS[1], ODD_CAPTIONS[2], ODD_CAPTIONS[3]):
        assert caption in text


RULES = (
    "alnum_ratio",
    "char_rep_ratio",
    "flagged_words_ratio",
    "special_char_ratio",
    "word_rep_ratio",
)


def test_recipe_with_a_typo(tmp_path: Path) -> None:
    captions = jsonl(tmp_path / "c.jsonl", rows(GOOD[:3]))
    recipe = tmp_path / "my.yaml"
    command = ["run", recipe, "--captions", captions, "--out", tmp_path / "run", *FAKE_MODELS]
    recipe.write_text("curation:\n  rules:\n    alnum_rate: null\n")
    line = refusal(run(command, tmp_path, use_fake_models))
    assert line == (
        f"{recipe}: curation.rules.alnum_rate: there is no rule 'alnum_rate', did you mean "
        f"'alnum_ratio'?; one of your own is added by --plugin FILE.py"
    )
    assert not (tmp_path / "run").exists()
    recipe.write_text("curation:\n  rules:\n    alnum_ratio: null\n")
    assert_finishes(run(command, tmp_path, use_fake_models))


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.witness),)


def without_weights(folder: Path) -> list[Path]:
    weights = list(folder.rglob("*.safetensors"))
    for file in weights:
        file.unlink()
    return weights


@pytest.mark.parametrize("what", ["generation", "scoring.clip"])
@pytest.mark.parametrize("state", ["no weights", "pickled weights", "cut off", "empty", "gone"])
def test_unusable_model_folder(
    tmp_path: Path,
    small_models: list[str],
    sd_folder: Path,
    clip_folder: Path,
    what: str,
    state: str,
) -> None:
    captions = jsonl(tmp_path / "c.jsonl", rows(GOOD[:3]))
    model, witness = tmp_path / "model", tmp_path / "witness"
    shutil.copytree(sd_folder if what == "generation" else clip_folder, model)
    if state == "cut off":
        for file in model.rglob("*.safetensors"):
            file.write_bytes(file.read_bytes()[:1000])
    elif state in ("empty", "gone"):
        shutil.rmtree(model)
        if state == "empty":
            model.mkdir()
    else:
        for file in without_weights(model):
            names = {"diffusion_pytorch_model": "diffusion_pytorch_model.bin"}
            if state == "pickled weights":
                target = file.with_name(names.get(file.stem, "pytorch_model.bin"))
                target.write_bytes(pickle.dumps(Bomb(witness)))
    command = ["run", "tiny", "--captions", captions, "--out", tmp_path / "run", *small_models]
    line = refusal(run([*command, "--set", f"{what}.model={model}"], tmp_path))
    assert str(model) in line
    if state not in ("empty", "gone"):
        assert "weights must be safetensors" in line
    assert not witness.exists(), "a pickle was loaded"
    assert_finishes(run(command, tmp_path))


def test_model_of_the_other_kind(
    tmp_path: Path, small_models: list[str], sd_folder: Path, clip_folder: Path
) -> None:
    captions = jsonl(tmp_path / "c.jsonl", rows(GOOD[:3]))
    command = ["run", "tiny", "--captions", captions, "--out", tmp_path / "run", *small_models]
    line = refusal(run([*command, "--set", f"generation.model={clip_folder}"], tmp_path))
    assert line == f"{clip_folder} holds no model_index.json: not a diffusers pipeline"
    line = refusal(run([*command, "--set", f"scoring.clip.model={sd_folder}"], tmp_path))
    assert line == f"{sd_folder} holds no config.json: not a CLIP model"


@pytest.mark.parametrize("command", ["run", "curate", "report"])
def test_folder_that_is_not_a_run(tmp_path: Path, command: str) -> None:
    captions = jsonl(tmp_path / "c.jsonl", rows(GOOD[:3]))
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"x")
    line = refusal(run([command, "--captions", captions, "--out", folder], tmp_path))
    assert line == (
        f"{folder} is not a run folder: it contains 'holiday.jpg' but no recipe.yaml; "
        f"name a new or empty folder"
    )
    assert [p.name for p in folder.iterdir()] == ["holiday.jpg"]


def test_run_folder_that_is_a_file(tmp_path: Path) -> None:
    captions = jsonl(tmp_path / "c.jsonl", rows(GOOD[:3]))
    line = refusal(run(["run", "--captions", captions, "--out", captions], tmp_path))
    assert line == f"{captions} is a file: name a new folder for the run"
    line = refusal(run(["run", "--captions", captions, "--out", captions / "x"], tmp_path))
    assert "part of the path is a file" in line


@pytest.mark.parametrize(
    "content", [None, b"", b"[]", b"\xff\xfe", b"seed: [", b"seed: x", b"sead: 1", "cut off"]
)
def test_a_run_whose_recipe_is_damaged_goes_on_by_what_the_refusal_advises(
    tmp_path: Path, content: bytes | str | None
) -> None:
    captions = jsonl(tmp_path / "c.jsonl", rows(GOOD[:3]))
    folder = tmp_path / "run"
    assert_finishes(synthvlm(tmp_path, captions, "--set", "run.shard_size=2"))
    recipe = folder / "recipe.yaml"
    whole = recipe.read_bytes()
    if content is None:
        recipe.unlink()
    else:
        cut_off = whole[: whole.index(b"selection:")]
        recipe.write_bytes(content if isinstance(content, bytes) else cut_off)
    lines = {
        refusal(run([*command], tmp_path, use_fake_models))
        for command in (
            ["run", "--out", folder],
            ["status", folder],
            ["verify", folder],
            ["publish", folder, tmp_path / "published"],
            ["regenerate", folder, "--id", "a"],
        )
    }
    (line,) = lines
    assert line.startswith(f"{recipe} is missing, empty or damaged: ")
    options = ["--captions", captions, *FAKE_MODELS]
    advised = shlex.split(line.rpartition(": synthvlm ")[2].replace("RECIPE", "tiny"))
    # Without an option of the run, what is missing is named, and images are not lost.
    line = refusal(run([*advised, *options], tmp_path, use_fake_models))
    assert line == f"the shards of {folder} hold 2 captions, not 16: add --set run.shard_size=2"
    result = run(
        [*advised, *options, *shlex.split(line.rpartition("add ")[2])], tmp_path, use_fake_models
    )
    assert_finishes(result)
    assert "recipe.yaml was lost or damaged: the recipe given now takes its place" in result.out
    assert "generate: 0 candidates generated" in result.out
    assert "export: 3 pairs exported (up to date, nothing to do)" in result.out
    assert recipe.read_bytes() == whole


def test_damaged_table_of_an_earlier_run(tmp_path: Path) -> None:
    captions = jsonl(tmp_path / "c.jsonl", rows(GOOD[:3]))
    assert_finishes(synthvlm(tmp_path, captions))
    whole = (tmp_path / "run" / "dataset" / "llava.json").read_bytes()
    (table,) = (tmp_path / "run" / "pairs").iterdir()
    table.write_bytes(b"x" * table.stat().st_size)  # As long as its marker says.
    line = refusal(synthvlm(tmp_path, captions, "--set", "export.images_per_folder=2"))
    assert line.startswith(f"{table} is damaged (")
    assert line.endswith("): delete it and run again")
    table.unlink()
    assert_finishes(synthvlm(tmp_path, captions))
    assert (tmp_path / "run" / "dataset" / "llava.json").read_bytes() == whole


def limit_file_size(size: int) -> None:
    use_fake_models()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("size", [1000, 4000, 20_000])
def test_file_size_limit(tmp_path: Path, size: int) -> None:
    captions = jsonl(tmp_path / "c.jsonl", rows(GOOD))
    command = ["run", "tiny", "--captions", captions, "--out", tmp_path / "run", *FAKE_MODELS]
    line = refusal(run(command, tmp_path, partial(limit_file_size, size)))
    assert line.startswith(f"cannot write {tmp_path / 'run'}")
    assert "the file-size limit is reached; raise it (ulimit -f) and run again" in line
    assert not [p for p in (tmp_path / "run").rglob(".*") if p.is_file()], "a draft is left"
    assert_finishes(synthvlm(tmp_path, captions))
    assert len(exported(tmp_path)) == 50


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 168 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=168k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(tmp_path: Path, small_disk: Path) -> None:
    captions = jsonl(tmp_path / "c.jsonl", rows(GOOD))
    out = small_disk / "run"
    command = ["run", "tiny", "--captions", captions, "--out", out, *FAKE_MODELS]
    line = refusal(run(command, tmp_path, use_fake_models))
    assert line.startswith(f"cannot write {out}/")
    assert line.endswith("free some and run again (finished work is kept)")
    finished = len(RunFolder(out).markers("generate"))
    assert finished > 0
    remount = ["mount", "-o", "remount,size=8m", str(small_disk)]
    subprocess.run(remount, check=True)
    result = run(command, tmp_path, use_fake_models)
    assert_finishes(result)
    assert f"{finished} of 4 shards reused" in result.out


def become_nobody() -> None:
    """Give root's rights up, which no permission stops."""
    use_fake_models()
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that everybody may enter and read (pytest's own are private)."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def test_no_permission_to_write(public_folder: Path, tmp_path: Path) -> None:
    captions = jsonl(public_folder / "c.jsonl", rows(GOOD[:3]))
    parent = public_folder / "parent"
    parent.mkdir(mode=0o555)
    command = ["run", "tiny", "--captions", captions, "--out", parent / "run", *FAKE_MODELS]
    line = refusal(run(command, tmp_path, become_nobody))
    assert line.startswith(f"cannot open {parent / 'run'}: permission denied; choose a folder")
    parent.chmod(0o777)
    assert_finishes(run(command, tmp_path, become_nobody))


def test_no_permission_to_write_in_a_run(public_folder: Path, tmp_path: Path) -> None:
    captions = jsonl(public_folder / "c.jsonl", rows(GOOD[:3]))
    public_folder.chmod(0o777)
    out = public_folder / "run"
    command = ["run", "tiny", "--captions", captions, "--out", out, *FAKE_MODELS]
    assert_finishes(run(["curate", *command[1:]], tmp_path, become_nobody))
    (out / "candidates").mkdir(mode=0o555)
    line = refusal(run(command, tmp_path, become_nobody))
    assert line.startswith(f"cannot write {out / 'candidates'}/part-00000-")
    assert "permission denied" in line
    (out / "candidates").chmod(0o777)
    assert_finishes(run(command, tmp_path, become_nobody))


def test_no_permission_to_read(public_folder: Path, tmp_path: Path) -> None:
    captions = jsonl(public_folder / "c.jsonl", rows(GOOD[:3]))
    captions.chmod(0)
    public_folder.chmod(0o777)
    out = public_folder / "run"
    command = ["run", "tiny", "--captions", captions, "--out", out, *FAKE_MODELS]
    line = refusal(run(command, tmp_path, become_nobody))
    assert line == f"{captions}: cannot be read: Permission denied"
    captions.chmod(0o644)
    recipe = public_folder / "my.yaml"
    recipe.write_text("seed: 1\n")
    recipe.chmod(0)
    command[1] = str(recipe)
    line = refusal(run(command, tmp_path, become_nobody))
    assert line == f"recipe {recipe} cannot be read: Permission denied"
    recipe.chmod(0o644)
    assert_finishes(run(command, tmp_path, become_nobody))


def test_recipe_and_captions_in_a_folder_that_may_only_be_read(
    public_folder: Path, tmp_path: Path
) -> None:
    captions = jsonl(public_folder / "c.jsonl", rows(GOOD[:3]))
    recipe = public_folder / "my.yaml"
    recipe.write_text("seed: 1\n")
    public_folder.chmod(0o555)
    out = Path(tempfile.mkdtemp())
    out.chmod(0o777)
    command = ["run", recipe, "--captions", captions, "--out", out, *FAKE_MODELS]
    try:
        assert_finishes(run(command, tmp_path, become_nobody))
    finally:
        shutil.rmtree(out)
