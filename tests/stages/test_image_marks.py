"""Exported images say that they are synthetic, and how they were made."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from fake_models import run_with
from synthvlm.data import file_stem
from synthvlm.errors import RunFolderError
from synthvlm.provenance.marks import SOURCE_TYPE
from synthvlm.recipe import Recipe
from synthvlm.run.kept_recipe import open_folder
from synthvlm.run_folder.folder import RunFolder
from synthvlm.stages.fingerprints import image_fingerprint
from synthvlm.stages.image_marks import ImageMarks

MODEL = "org/fake"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marks")
    captions = folder / "captions.txt"
    words = ("red", "blue", "green", "black")
    captions.write_text("".join(f"a {word} horse beside a small wooden barn\n" for word in words))
    changes = [
        f"generation.model={MODEL}",
        "generation.revision=v1",
        "generation.candidates=2",
        "scoring.clip.model=org/fake",
        "selection.top_fraction=1.0",
        "export.images_per_folder=3",
        "run.threads=1",
    ]
    recipe = Recipe.load("tiny", captions=[captions], overrides=changes)
    run_with(recipe, folder / "run", until="export")
    return folder / "run"


def images(run: Path) -> dict[str, bytes]:
    """Exported images by the names of their files."""
    return {path.name: path.read_bytes() for path in (run / "dataset" / "images").rglob("*.png")}


def test_every_format_has_the_marked_images_with_their_details(finished: Path) -> None:
    recipe = open_folder(str(finished))[1]
    in_files = images(finished)
    in_tables = {
        row["image"]["path"]: (row["image"]["bytes"], row["seed"])
        for table in sorted((finished / "dataset" / "data").iterdir())
        for row in pq.read_table(table).to_pylist()
    }
    assert len(in_files) == 4
    assert {name: data for name, (data, _) in in_tables.items()} == in_files
    for image, seed in in_tables.values():
        info = Image.open(io.BytesIO(image)).info
        assert SOURCE_TYPE in info["XML:com.adobe.xmp"]
        assert "org/fake@v1" in info["XML:com.adobe.xmp"]
        assert {name: info[name] for name in ("Model", "Seed", "Run fingerprint")} == {
            "Model": f"{MODEL}@v1",
            "Seed": str(seed),
            "Run fingerprint": image_fingerprint(recipe),
        }
    card = (finished / "dataset" / "README.md").read_text()
    section = card[card.index("## Summary of training content") :]
    assert f"run fingerprint ({image_fingerprint(recipe)})" in section
    # The images of the run itself are as they were generated.
    (pairs,) = (finished / "pairs").iterdir()
    for pair in pq.read_table(pairs).to_pylist():
        assert b"xmp" not in pair["image"]
        assert in_files[f"{file_stem(pair['caption_id'])}.png"].endswith(pair["image"][33:])


def test_the_details_can_be_switched_off_and_on_again(finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    recipe = open_folder(str(out))[1]
    before = images(out)
    run_with(recipe.changed(overrides=["export.image_details=false"]), out, until="export")
    assert images(out).keys() == before.keys()
    for image in images(out).values():
        assert SOURCE_TYPE.encode() in image
        assert b"Model" not in image
        assert b"fake" not in image
    card = (out / "dataset" / "README.md").read_text()
    assert json.loads((out / "done/export/00000.json").read_text())["facts"] == {"marks": 1}
    assert "image_details: false" in card
    run_with(recipe, out, until="export")
    assert images(out) == before


def test_a_damaged_image_is_named_and_not_exported(finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    (pairs,) = (out / "pairs").iterdir()
    table = pq.read_table(pairs)
    rows = table.to_pylist()
    rows[1]["image"] = rows[1]["image"][:60]
    pq.write_table(table.from_pylist(rows, table.schema), pairs)
    marker = out / "done/generate/00000.json"  # of the same size, so that it is not missed
    facts = json.loads(marker.read_text())
    for file in facts["files"]:
        if file["path"].startswith("pairs/"):
            file["size"] = pairs.stat().st_size
    marker.write_text(json.dumps(facts))
    shutil.rmtree(out / "dataset")
    with pytest.raises(
        RunFolderError,
        match=r"shard 0: the image of caption '.+' cannot be "
        r"exported: the PNG file is cut off; have it made again: synthvlm verify \S+ --discard",
    ):
        run_with(open_folder(str(out))[1], out, until="export")


def test_a_run_of_an_early_version_has_no_run_fingerprint(finished: Path) -> None:
    run = RunFolder(finished)
    marker = run.markers("generate")[0]
    recipe = open_folder(str(finished))[1]
    early = type(marker)(**{**{n: getattr(marker, n) for n in marker.__slots__}, "facts": {}})
    (pairs,) = (finished / "pairs").iterdir()
    image = pq.read_table(pairs)["image"][0].as_py()
    result = ImageMarks(recipe).marked(image, "png", 5, early)
    info = Image.open(io.BytesIO(result)).info
    assert info["Seed"] == "5"
    assert "Run fingerprint" not in info
