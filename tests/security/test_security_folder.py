"""Run folders in which somebody else can write: nothing outside is read, written or deleted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import Result, run
from fake_models import use_fake_models
from synthvlm.errors import RunFolderError
from synthvlm.run_folder.folder import RunFolder

GOOD = [f"A small red circle above {n} large grey squares, on a white ground." for n in range(6)]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    for name in ("precious.txt", "00000.json", "deep/precious.parquet", ".half.draft"):
        (folder / name).write_text("precious")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.prepare()
    folder.write("recipe.yaml", b"seed: 1\n")
    return folder


def assert_untouched(outside: Path) -> None:
    found = {str(p.relative_to(outside)): p.read_text() for p in outside.rglob("*") if p.is_file()}
    names = ("precious.txt", "00000.json", "deep/precious.parquet", ".half.draft")
    assert found == dict.fromkeys(names, "precious")


HOSTILE_NAMES = [
    "../outside/precious.txt",
    "measures/../../outside/precious.txt",
    "ABSOLUTE",
    "file://ABSOLUTE",
    "measures/\0",
    "a\0b",
    "",
    ".",
    "..",
    "./measures/x",
    "measures//x",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_marker_that_names_files_outside_counts_for_nothing(
    store: RunFolder, outside: Path, name: str
) -> None:
    name = name.replace("ABSOLUTE", str(outside / "precious.txt"))
    files = [{"path": name, "size": len("precious"), "checksum": "x"}]
    marker = {"fingerprint": "f", "files": files, "facts": {}}
    store.write("done/measure/00000.json", json.dumps(marker).encode())
    assert store.markers("measure") == {}
    assert store.marker("measure", 0) is None
    store.sweep("measure", ["measures"], {})
    assert not store.exists("done/measure/00000.json")
    assert_untouched(outside)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"fingerprint": "f", "files": ' + b"[" * 100_000,
        b'{"fingerprint": "f", "files": [], "facts": 5}',
        b'{"fingerprint": "f", "files": [{"path": 5, "size": 1, "checksum": ""}], "facts": {}}',
        b'{"fingerprint": "f", "files": [[]], "facts": {}}',
        b"\xff\xfe",
        b"",
    ],
)
def test_a_marker_of_any_content_counts_for_nothing(store: RunFolder, content: bytes) -> None:
    store.write("done/measure/00000.json", content)
    assert store.markers("measure") == {}


def test_events_of_any_content_are_passed_over(store: RunFolder) -> None:
    lines = [b"[" * 100_000, b"\xff", b"{}", b"5", b'{"time": {}}', b'{"time": 1, "event": "x"}']
    store.write("events/a.jsonl", b"\n".join(lines))
    assert store.events() == [{"time": 1, "event": "x"}]


@pytest.mark.parametrize("name", HOSTILE_NAMES[:5])
def test_no_name_leads_out(store: RunFolder, outside: Path, name: str) -> None:
    name = name.replace("ABSOLUTE", str(outside / "precious.txt"))
    actions: list[Callable[[], object]] = [
        lambda: store.read(name),
        lambda: store.write(name, b"x"),
        lambda: store.remove(name),
        lambda: store.exists(name),
        lambda: store.listing(name),
        lambda: store.read_table(name),
    ]
    for action in actions:
        with pytest.raises(RunFolderError) as caught:
            action()
        assert "leads out of" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert_untouched(outside)


@pytest.mark.parametrize("folder", ["measures", "done", "done/measure"])
@pytest.mark.parametrize("target", ["outside", "outside/deep", "."])
def test_a_linked_folder_is_not_swept_or_written(
    store: RunFolder, outside: Path, tmp_path: Path, folder: str, target: str
) -> None:
    link = tmp_path / "run" / folder
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / target)
    with store.held():
        pass
    for action in (
        lambda: store.sweep("measure", ["measures"], {}),
        lambda: store.write(f"{folder}/x", b"x"),
        lambda: store.read(f"{folder}/precious.txt"),
        lambda: store.remove(f"{folder}/precious.txt"),
        lambda: store.listing(folder),
    ):
        with pytest.raises(RunFolderError, match="by a symbolic link: remove the link"):
            action()
    assert_untouched(outside)


def test_linked_files(store: RunFolder, outside: Path, tmp_path: Path) -> None:
    precious = outside / "precious.txt"
    (tmp_path / "run" / "measures").mkdir()
    for name in ("a.parquet", "b.parquet"):
        (tmp_path / "run" / "measures" / name).symlink_to(precious)
    with pytest.raises(RunFolderError, match="by a symbolic link"):
        store.read("measures/a.parquet")
    with pytest.raises(RunFolderError, match="by a symbolic link"):
        store.read_table("measures/a.parquet")
    store.write("measures/a.parquet", b"mine")  # in the place of the link, not through it
    assert not (tmp_path / "run" / "measures" / "a.parquet").is_symlink()
    store.sweep("measure", ["measures"], {})
    assert list((tmp_path / "run" / "measures").iterdir()) == []
    assert_untouched(outside)


def test_links_that_lead_in_circles(store: RunFolder, tmp_path: Path) -> None:
    loop = tmp_path / "run" / "measures"
    loop.mkdir()
    (loop / "again").symlink_to(loop)
    (loop / "self").symlink_to("self")
    assert {name for name in store.listing("measures") if name.count("/") > 1} == set()
    with store.held():
        store.sweep("measure", ["measures"], {})


def test_a_run_may_lie_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    store = RunFolder(tmp_path / "run")
    store.prepare()
    store.write("measures/x", b"x")
    assert (tmp_path / "disk" / "measures" / "x").read_bytes() == b"x"


def synthvlm(folder: Path, *extra: str) -> Result:
    captions = folder / "c.txt"
    captions.write_text("\n".join(GOOD) + "\n")
    settings = [
        "generation.model=org/fake", "scoring.clip.model=org/fake", "generation.candidates=2",
        "selection.top_fraction=1.0", "run.shard_size=4", "run.threads=1", *extra,
    ]  # fmt: skip
    sets = [part for setting in settings for part in ("--set", setting)]
    command = ["run", "tiny", "--captions", captions, "--out", folder / "run", *sets]
    return run(command, folder, use_fake_models)


@pytest.mark.parametrize("part", ["dataset", "dataset/images", "dataset/images/00000", "pairs"])
def test_a_whole_run_leaves_what_links_lead_to(tmp_path: Path, outside: Path, part: str) -> None:
    assert synthvlm(tmp_path).code == 0
    linked = tmp_path / "run" / part
    shutil.rmtree(linked)
    linked.symlink_to(outside)
    result = synthvlm(tmp_path, "generation.image.format=webp")
    assert result.code == 1
    assert result.err.startswith("error: ")
    assert "by a symbolic link: remove the link" in result.err
    assert result.err.count("\n") == 1
    assert_untouched(outside)
    linked.unlink()
    assert synthvlm(tmp_path, "generation.image.format=webp").code == 0


def test_exported_images_are_not_written_through_links(tmp_path: Path, outside: Path) -> None:
    assert synthvlm(tmp_path).code == 0
    images = sorted((tmp_path / "run/dataset/images/00000").iterdir())
    for image in images:
        image.unlink()
        image.symlink_to(outside / "precious.txt")
    shutil.rmtree(tmp_path / "run/done/export")
    shutil.rmtree(tmp_path / "run/done/dataset")
    synthvlm(tmp_path)
    assert_untouched(outside)


def test_a_format_of_a_strange_pair_makes_no_path(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert synthvlm(tmp_path).code == 0
    markers = sorted((tmp_path / "run/done/generate").glob("*.json"))
    for path in markers:
        marker = json.loads(path.read_text())
        for file in marker["files"]:
            if file["path"].startswith("pairs/"):
                place = tmp_path / "run" / file["path"]
                table = pq.read_table(place)
                evil = pa.array(["/../../../../../evil"] * len(table))
                index = table.schema.get_field_index("format")
                pq.write_table(table.set_column(index, table.field(index), evil), place)
                file["size"], file["checksum"] = place.stat().st_size, "new"
        path.write_text(json.dumps(marker))
    result = synthvlm(tmp_path)
    assert not list(tmp_path.rglob("evil*"))
    assert result.code == 1
    assert result.err.startswith("error: ")
