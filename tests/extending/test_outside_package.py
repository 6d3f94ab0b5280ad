"""The examples of docs/extending.md, as a user has them: installed, by --plugin, from Python."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from outside_package import Done, Environment, modules
from plugin_runs import CAPTIONS

from synthvlm.components.plugins import forget, load_plugin
from synthvlm.components.table import listed

ENGINE = "from synthvlm.engines import make_engine\n"
FILES = ("colourfulness", "digits", "stripes", "csv_format", "random_pairs")


def write_recipe(folder: Path, **changes: object) -> Path:
    """A recipe of plug-ins alone: no CLIP, no diffusion model."""
    (folder / "captions.txt").write_text("\n".join([*CAPTIONS, f"{CAPTIONS[0]} of 12345"]) + "\n")
    values = {
        "sources": [{"path": str(folder / "captions.txt")}],
        "curation": {"rules": {"digits": {"max": 4}}},
        "generation": {"generator": "stripes", "options": {"side": 32}, "candidates": 2},
        "scoring": {"clip": None, "ssim": None, "colourfulness": {"weight": 1.0}},
        "selection": {"method": "random_pairs", "top_n": 6},
        "export": {"formats": ["llava", "csv"]},
        "report": {"preview_share": 1.0},
        "run": {"shard_size": 4, "threads": 1},
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(values | changes))
    return file


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the page's package."""
    environment = Environment(tmp_path_factory.mktemp("outside") / "env")
    environment.install()
    return environment


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment without it."""
    return Environment(tmp_path_factory.mktemp("plain") / "env")


def plugins(folder: Path) -> list[str]:
    return [word for name in FILES for word in ("--plugin", str(folder / f"{name}.py"))]


def good(done: list[Done]) -> list[Done]:
    for one in done:
        assert one.code == 0, one.text
    return done


def rows(out: Path, folder: str = "candidates") -> list[dict[str, object]]:
    files = sorted((out / folder).glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def check_run(out: Path) -> None:
    """What a finished run of the recipe holds."""
    candidates = rows(out)
    assert len(candidates) == 2 * len(CAPTIONS)  # one caption has too many digits
    assert {row["status"] for row in candidates} == {"ok"}
    assert all(row["score"] == row["colourfulness_score"] for row in candidates)
    assert len({row["score"] for row in candidates}) == len(candidates)
    assert {row["image_embedding"] for row in rows(out, "pairs")} == {None}
    assert (out / "dataset" / "captions.csv").read_text().count("\n") == 1 + 6
    assert len(json.loads((out / "dataset" / "llava.json").read_text())) == 6


@pytest.mark.parametrize("name", sorted(modules()))
def test_no_example_is_long(name: str) -> None:
    code = [line for line in modules()[name].splitlines() if line.strip()]
    assert len(code) < 30


def test_an_installed_package(outside: Environment, tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path), tmp_path / "run"
    done = outside.synthvlm("run", recipe, "--out", out)
    assert done.code == 0, done.text
    assert "generate: 18 candidates generated" in done.text
    assert "digits                         10             9" in done.text
    check_run(out)
    card = (out / "dataset" / "README.md").read_text()
    assert "| image generation | plug-in stripes | synthvlm-extras 1 |" in card
    assert "| Colourfulness | plug-in colourfulness | synthvlm-extras 0.3.0 |" in card
    assert "Colourfulness: spread and mean of the opponent colours" in card
    assert "`digits` <= 4.0 (plug-in, synthvlm-extras 0.3.0)" in card
    assert "A table: `captions.csv` has" in card
    assert "tiny" not in card.split("## Captions")[0]
    page = (out / "report" / "index.html").read_text()
    assert "Generator <b>Stripes</b> (plug-in stripes, synthvlm-extras 1)" in page
    assert "Scored by <b>Colourfulness</b> (plug-in colourfulness, synthvlm-extras 0.3.0)." in page
    assert "<h2>Colourfulness</h2>" in page
    assert "20 steps" not in page

    id = str(rows(out, "pairs")[0]["caption_id"])
    again, verified, regenerated, listed, published, compared = good(
        outside.commands(
            ["run", recipe, "--out", out],
            ["verify", out],
            ["regenerate", out, "--id", id, "--all"],
            ["components", "--json"],
            ["publish", out, tmp_path / "published"],
            ["compare", out, "--scorer", "colourfulness", "--out", tmp_path / "compared"],
        )
    )
    assert "Colourfulness" in compared.out
    comparison = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    assert comparison["data_sets"][0]["colourfulness_score"]["mean"] > 0
    assert "generate: 0 candidates generated (up to date" in again.text
    assert "no damage" in verified.out.lower()
    assert "the same within rounding" in regenerated.out
    found = {(one["kind"], one["name"]): one for one in json.loads(listed.out)}
    assert found["scorer", "colourfulness"] == {
        "kind": "scorer",
        "name": "colourfulness",
        "label": "Colourfulness",
        "origin": "synthvlm-extras 0.3.0",
        "about": "How colourful an image is (Hasler and Süsstrunk 2003), 0 .. 1.",
        "problem": None,
    }
    assert found["generator", "diffusers"]["origin"] == "built in"
    assert "files sent" in published.text


def test_what_runs_are_planned_and_tuned_by(outside: Environment, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    grid = "generation.options.width=1,8"
    planned, tuned = good(
        outside.commands(
            ["plan", recipe, "--sample", "4"],
            ["tune", recipe, "--out", tmp_path / "tune", "--grid", grid, "--sample", "4"],
        )
    )
    assert re.search(r"captions kept +9 ", planned.out)
    assert "Colourfulness" in tuned.out
    assert re.search(r"^options.width +score +Colourfulness", tuned.out, re.M)
    assert "warning" not in tuned.text


@pytest.mark.long
def test_another_version_is_made_again(tmp_path: Path) -> None:
    """A package's new release is one of its components that have no version of their own."""
    environment = Environment(tmp_path / "env")
    environment.install()
    recipe, out = write_recipe(tmp_path), tmp_path / "run"
    good(environment.commands(["run", recipe, "--out", out]))
    environment.install("0.4.0")
    command = ["run", recipe, "--out", out]
    again, stale = good(environment.commands([*command, "--replace-images"], command))
    assert "18 images are made again: the scorer colourfulness changed" in again.text
    assert "generate: 18 candidates generated" in again.text
    assert "generate: 0 candidates generated" in stale.text


def test_files_and_worker_processes(plain: Environment, files: Path, tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path), tmp_path / "run"
    options = plugins(files)
    missing, first, again, verified, lost, refused = plain.commands(
        ["run", recipe, "--out", out],
        ["run", recipe, "--out", out, "--workers", "2", *options],
        ["run", "--out", out, *options],
        ["verify", out, *options],
        ["status", out],
        ["cost", out / "recipe.yaml", "--captioner", "x"],
    )
    good([first, again, verified])
    check_run(out)
    assert "generate: 0 candidates generated" in again.text
    for done in (missing, lost, refused):
        assert done.code == 1
        assert done.out == ""
        assert "Traceback" not in done.text
        for kind, name in (("scorer", "colourfulness"), ("rule", "digits"), ("exporter", "csv")):
            assert f"there is no {kind} {name!r}" in done.text
        assert "one of your own is added by --plugin FILE.py" in done.text


@pytest.mark.long
def test_ray_has_the_package_and_the_files(
    outside: Environment, files: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    text = (files / "colourfulness.py").read_text()
    own = tmp_path / "own.py"
    own.write_text(text.replace('name = "colourfulness"', 'name = "own"'))
    scoring = {"clip": None, "ssim": None, "colourfulness": {}, "own": {"weight": 2.0}}
    recipe, out = write_recipe(tmp_path, scoring=scoring), tmp_path / "run"
    command = ["run", recipe, "--out", out, "--engine", "ray", "--workers", "2", "--plugin", own]
    done = outside.synthvlm(*command)
    assert done.code == 0, done.text
    candidates = rows(out)
    assert len(candidates) == 2 * len(CAPTIONS)
    assert all(row["own_score"] == row["colourfulness_score"] for row in candidates)
    assert {row["status"] for row in candidates} == {"ok"}


def test_python(plain: Environment, files: Path) -> None:
    """The page's script, which registers a class and loads a file; and the same with processes."""
    write_recipe(files, curation={}, selection={}, export={"formats": ["llava"]})
    done = plain.python(files / "in_python.py", cwd=files)
    assert done.code == 0, done.text
    assert len(rows(files / "runs" / "mine")) == 2 * (len(CAPTIONS) + 1)
    script = (files / "in_python.py").read_text()
    changed = script.replace('"runs/mine")', '"runs/two", engine=make_engine("local", 2))')
    changed = changed.replace("import synthvlm\n", f"import synthvlm\n{ENGINE}", 1)
    assert changed.count("make_engine") == 2
    (files / "with_processes.py").write_text(changed)
    done = plain.python(files / "with_processes.py", cwd=files)
    assert done.code == 0, done.text
    scores = [
        {(row["caption_id"], row["index"]): row["score"] for row in rows(files / "runs" / name)}
        for name in ("mine", "two")
    ]
    assert scores[0] == scores[1]


def test_a_file_is_loaded_anew_where_it_changed(files: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    text = (files / "digits.py").read_text()
    try:
        for label in ("Digits", "Figures"):
            file.write_text(text.replace('"Digits"', f'"{label}"'))
            load_plugin(file)
            (found,) = [one for one in listed("rule") if one.name == "digits"]
            assert found.label == label
    finally:
        forget()
