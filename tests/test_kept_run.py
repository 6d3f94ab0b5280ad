"""A finished run folder of a release: there is nothing to do in it, then and later.

``tests/data/make_kept_run.py`` makes the folder. Its release did not mark images as synthetic: its
data set alone is exported again, once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import synthvlm
from later_release import NEW_SETTING, later_release, run_python
from synthvlm import Recipe, load_plugin
from synthvlm.checks.current import refuse_outdated
from synthvlm.checks.status import status
from synthvlm.checks.verify import verify
from synthvlm.components import plugins
from synthvlm.errors import RunFolderError
from synthvlm.pipeline import Pipeline
from synthvlm.progress.display import SilentProgress
from synthvlm.provenance.marks import SOURCE_TYPE
from synthvlm.run import Run
from synthvlm.run.kept_recipe import open_folder, resumed_recipe
from synthvlm.stages.generation.models import Models

DATA = Path(__file__).parent / "data"

ADVICE = """
a finished run folder is done again: users would lose what took them thousands of GPU hours.
See tests/components/test_pinned.py, which says what changed and what to do"""

UNUSED = """
import numpy as np
from synthvlm.captions.rules.base import TextRule
from synthvlm.scorers import Scorer, Scores

class Shout(TextRule):
    name = "shout"
    def measure(self, batch):
        return np.zeros(len(batch))

class Dullness(Scorer):
    name = "dullness"
    def score(self, images, captions):
        return Scores(np.zeros(len(captions)))
"""


@pytest.fixture(autouse=True)
def _where_captions_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder's recipe names its captions relative to the working directory."""
    monkeypatch.chdir(DATA)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A copy of the folder as its release left it."""
    return Path(shutil.copytree(DATA / "kept_run", tmp_path / "kept"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder, with its data set exported by this version."""
    folder = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(DATA / "kept_run", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(DATA)
        _finish(folder)
    shutil.rmtree(folder / "report")  # which is not kept
    return folder


@pytest.fixture
def run(exported: Path, tmp_path: Path) -> Path:
    """A copy of that."""
    return Path(shutil.copytree(exported, tmp_path / "run"))


@pytest.fixture
def forgotten() -> Iterator[None]:
    yield
    plugins.forget()


def _work(run: Path) -> dict[str, tuple[int, bytes]]:
    """Everything that a run makes, by name: the time of its writing, and its bytes."""
    not_pinned = {"events", "report", "recipe.yaml"}
    return {
        str(file.relative_to(run)): (file.stat().st_mtime_ns, file.read_bytes())
        for file in sorted(run.rglob("*"))
        if file.is_file() and file.relative_to(run).parts[0] not in not_pinned
    }


class NotesKept(SilentProgress):
    """Keeps the notes of a run."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def _no_models(recipe: Recipe) -> Models:
    raise AssertionError(f"the models are loaded: {ADVICE}")


def _finish(run: Path, *overrides: str) -> Run:
    """Run the folder's recipe again, to its end."""
    pipeline = Pipeline(resumed_recipe(run, overrides=overrides), run)
    pipeline._load_models = _no_models
    return pipeline.run()


def test_the_folder_holds_what_it_should(kept: Path) -> None:
    work = _work(kept)
    folders = {name.split("/")[0] for name in work}
    assert folders >= {"measures", "measures-perplexity", "captions", "candidates", "pairs"}
    _, recipe = open_folder(str(kept))
    assert recipe.sources[0].path == "kept_captions.jsonl"
    assert sum(len(data) for _, data in work.values()) < 400_000
    counts = [json.loads((kept / f"done/curate/{n:05d}.json").read_text())["facts"] for n in (0, 1)]
    assert counts == [
        {"captions": 3, "kept": 2, "duplicate": 1},
        {"captions": 3, "kept": 1, "char_rep_ratio": 1, "perplexity": 1},
    ]


EXPORT = ("dataset/", "done/export/", "done/dataset/", "export-parts/")


def test_its_data_set_alone_is_exported_again(kept: Path, exported: Path) -> None:
    before, after = _work(kept), _work(exported)
    work = [name for name in before if not name.startswith(EXPORT)]
    assert len(work) > 20
    assert {n: before[n][1] for n in work} == {
        n: data for n, (_, data) in after.items() if not n.startswith(EXPORT)
    }, ADVICE
    in_data_set = {name for name in before if name.startswith("dataset/")}
    assert in_data_set <= after.keys()  # later releases write further indexes
    assert before["dataset/llava.json"][1] == after["dataset/llava.json"][1]
    images = [name for name in in_data_set if name.endswith(".png")]
    assert len(images) == 3
    for name in images:
        old, new = (Image.open(folder / name) for folder in (kept, exported))
        assert np.array_equal(np.asarray(old), np.asarray(new))
        assert SOURCE_TYPE not in str(old.info)
        assert SOURCE_TYPE in str(new.info)


def test_it_is_said_why_its_data_set_is_exported_again(kept: Path) -> None:
    folder, recipe = open_folder(str(kept))
    now = status(folder, recipe)
    assert now.next == "export"
    reason = "exported its images without the mark that says they are synthetic"
    assert reason in now.text()
    findings = verify(folder, recipe).findings
    assert {(one.stage, one.kind) for one in findings} == {
        ("export", "stale"),
        ("dataset", "stale"),
    }
    assert reason in findings[0].problem
    with pytest.raises(RunFolderError, match=f"{reason}; bring it up to date: synthvlm export"):
        refuse_outdated(folder, recipe)
    card = kept / "dataset" / "README.md"
    card.write_text(f"{card.read_text()}\nWritten by a user.\n")
    notes = NotesKept()
    pipeline = Pipeline(recipe, kept, progress=notes)
    pipeline._load_models = _no_models
    pipeline.run(until="export")
    assert [note for note in notes.notes if reason in note] == notes.notes[-1:]
    assert card.read_text().endswith("\nWritten by a user.\n")


def test_there_is_nothing_to_do_in_it(run: Path) -> None:
    before = _work(run)
    summaries = {summary.stage: summary for summary in _finish(run).summaries}
    assert _work(run) == before, ADVICE
    for stage in ("measure", "curate", "generate", "select", "export"):
        assert summaries[stage].reused == summaries[stage].shards, f"{stage}: {ADVICE}"
    assert set(summaries["generate"].counts.values()) == {0}
    assert (run / "report" / "index.html").is_file()


def test_it_is_sound_and_current(run: Path) -> None:
    folder, recipe = open_folder(str(run))
    found = verify(folder, recipe)
    assert [(one.stage, one.kind, one.problem) for one in found.findings] == [], ADVICE
    assert found.notes == ()
    assert status(folder, recipe).next == "report"  # which is not kept


def test_its_images_can_be_made_again(run: Path) -> None:
    again = synthvlm.regenerate(run, "third", all=True)
    assert again.is_same, again.text()


def test_unused_plug_ins_change_nothing(run: Path, tmp_path: Path, forgotten: None) -> None:
    plugin = tmp_path / "unused.py"
    plugin.write_text(UNUSED)
    load_plugin(plugin)
    before = _work(run)
    _finish(run)
    assert _work(run) == before, ADVICE


def test_a_plug_in_that_is_used_adds_its_measures_alone(
    run: Path, tmp_path: Path, forgotten: None
) -> None:
    plugin = tmp_path / "unused.py"
    plugin.write_text(UNUSED)
    load_plugin(plugin)
    before = _work(run)
    _finish(run, "curation.rules.shout={max: 1}")  # no model is loaded, so no image made again
    after = _work(run)
    reused_folders = ("candidates", "pairs", "previews", "measures-perplexity", "selection")
    assert {n for n in before if n.startswith(reused_folders)} == {
        n for n in after if n.startswith(reused_folders)
    }
    assert all(before[name] == after[name] for name in before if name.startswith(reused_folders))
    assert {n for n in before if n.startswith("measures/")}.isdisjoint(after)


def test_settings_that_change_no_result_change_nothing(run: Path) -> None:
    before = _work(run)
    _finish(
        run,
        "run.batch_size=2",
        "report.gallery=3",
        "curation.rules.perplexity.batch_size=1",
        "generation.channels_last=true",
    )
    after = _work(run)
    card = {"dataset/README.md", "done/dataset/00000.json"}  # it shows every setting
    indexes = {"dataset/llava.json", "dataset/dataset_info.json"}
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert changed <= card | indexes


def test_captions_that_moved_are_the_same(run: Path, tmp_path: Path) -> None:
    moved = shutil.copy(DATA / "kept_captions.jsonl", tmp_path / "elsewhere.jsonl")
    before = _work(run)
    _finish(run, f"sources.0.path={moved}")
    after = _work(run)
    work = [name for name in before if not name.startswith(("dataset", "done/dataset"))]
    assert all(before[name] == after[name] for name in work), ADVICE


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return later_release(tmp_path_factory.mktemp("later"))


def test_a_later_release_with_new_settings_finds_nothing_to_do(
    run: Path, later: Path, tmp_path: Path
) -> None:
    plugin = tmp_path / "unused.py"
    plugin.write_text(UNUSED)
    before = _work(run)
    command = ["-m", "synthvlm", "run", "--out", run, "--plugin", plugin]
    done = run_python(command, later, DATA)
    assert done.returncode == 0, done.stderr
    # So it was that release: every section has the new setting.
    recipe = (run / "recipe.yaml").read_text()
    assert recipe.count(f"{NEW_SETTING}: false") > 10
    assert _work(run) == before, f"{ADVICE}\n{done.stdout}{done.stderr}"
    assert "made again" not in done.stdout + done.stderr
    verified = run_python(["-m", "synthvlm", "verify", run, "--json"], later, DATA)
    assert verified.returncode == 0, verified.stdout
    assert json.loads(verified.stdout)["findings"] == []


def test_a_later_release_with_new_settings_has_all_pinned_fingerprints(later: Path) -> None:
    script = "import json, pinned; print(json.dumps(pinned.hashes()))"
    done = run_python(["-c", script], later)
    assert done.returncode == 0, done.stderr
    pinned = json.loads((DATA.parent / "components" / "pinned.json").read_text("utf-8"))["hashes"]
    now = json.loads(done.stdout.splitlines()[-1])
    assert {name for name in pinned if now[name] != pinned[name]} == set(), ADVICE


def test_the_folder_of_a_later_release_is_refused_in_a_line(run: Path) -> None:
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("seed: 7", f"seed: 7\n{NEW_SETTING}: false"))
    done = run_python(["-m", "synthvlm", "run", "--out", run], cwd=DATA)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert f"{NEW_SETTING}: unknown key" in done.stderr
