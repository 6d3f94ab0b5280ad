"""Publishing to folders: local ones, other file systems, an object store; damaged runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import yaml
from exported_run import Notes, content, export, send

from object_store import object_store
from synthvlm.checks.verify import verify
from synthvlm.errors import MissingExtraError, RunFolderError
from synthvlm.publishing import PublishingError
from synthvlm.run.kept_recipe import open_folder
from synthvlm.run_folder.folder import RunFolder

RECORD = ".synthvlm-published.json"


def refusal(out: Path | str, target: str | Path, **options: object) -> str:
    with pytest.raises(PublishingError) as caught:
        send(out, target, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def stored(url: str) -> dict[str, bytes]:
    """The files below a URL that are not hidden."""
    fs, root = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    return {
        path.removeprefix(root).strip("/"): fs.cat_file(path)
        for path in fs.find(root)
        if "/." not in path
    }


@pytest.fixture(params=["local", "memory", "s3"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path / "published" / "pairs")
    elif request.param == "memory":
        yield "memory://published/pairs"
        fsspec.filesystem("memory").rm("/published", recursive=True)
    else:
        with object_store() as store:
            yield store.url("pairs")


def test_all_arrives_once_and_what_is_lost_again(out: Path, target: str) -> None:
    there = content(out / "dataset")
    notes = Notes()
    done = send(out, target, progress=notes)
    assert stored(target) == there
    assert (done.files, done.sent, done.removed, done.url) == (13, 13, 0, target)
    assert (done.sent_bytes, notes.counted) == (sum(map(len, there.values())), 13)
    assert send(out, target).sent == 0
    lost = next(name for name in there if name.startswith("images/00001/"))
    fs, root = fsspec.core.url_to_fs(target)
    fs.rm_file(f"{root}/{lost}")
    assert send(out, target, dry_run=True).sent == 2
    assert lost not in stored(target)
    assert send(out, target).sent == 2  # with the card
    assert stored(target) == there


def test_another_data_set_replaces_all_of_an_older_one(
    out: Path, target: str, tmp_path: Path
) -> None:
    send(out, target)
    fs, root = fsspec.core.url_to_fs(target)
    fs.pipe_file(f"{root}/LICENSE", b"mine")
    export(out, "export.images_per_folder=5", "export.formats=[huggingface]")
    done = send(out, target)
    assert stored(target) == {**content(out / "dataset"), "LICENSE": b"mine"}
    assert (done.files, done.sent, done.removed) == (3, 3, 10)


def test_a_run_on_an_object_store_is_published_from_there(exported: Path, tmp_path: Path) -> None:
    with object_store() as store:
        url = store.url()
        fs, root = fsspec.core.url_to_fs(url)
        fs.put(str(exported), root, recursive=True)
        send(url, tmp_path / "published")
        assert content(tmp_path / "published") == content(exported / "dataset")


def test_a_store_that_fails_now_and_then(exported: Path) -> None:
    with object_store(fail_every=6, seed=3) as store:
        send(exported, url := store.url("pairs"))
        assert store.failures > 0
        store.fail_every = None
        assert stored(url) == content(exported / "dataset")


def test_an_interrupted_copy_has_no_card_and_goes_on(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthvlm.publishing.publication._BATCH_FILES", 4)

    class Interrupted(Notes):
        def advance(self, amount: int) -> None:
            raise KeyboardInterrupt

    to = tmp_path / "published"
    with pytest.raises(KeyboardInterrupt):
        send(out, to, progress=Interrupted())
    assert len(content(to)) == 4
    assert send(out, to).sent == 9
    with_card = content(to)
    # Published again over itself: the card is away while anything is sent.
    (to / "llava.json").unlink()
    with pytest.raises(KeyboardInterrupt):
        send(out, to, progress=Interrupted(), dry_run=True)
    assert "README.md" in content(to)
    shutil.rmtree(to / "data")
    with pytest.raises(KeyboardInterrupt):
        send(out, to, progress=Interrupted())
    assert "README.md" not in content(to)
    send(out, to)
    assert content(to) == with_card


@pytest.mark.parametrize("name", ["images", "data", "llava.json", "README.md"])
@pytest.mark.parametrize("harm", ["changed", "cut off", "lost"])
def test_a_damaged_file_stops_it(out: Path, tmp_path: Path, name: str, harm: str) -> None:
    path = out / "dataset" / name
    path = next(p for p in sorted(path.rglob("*")) if p.is_file()) if path.is_dir() else path
    data = path.read_bytes()
    if harm == "lost":
        path.unlink()
    else:
        # The end of a card is the user's to change.
        at = len(data) // 2 if name == "README.md" else len(data) - 1
        rest = b"" if harm == "cut off" else bytes([data[at] ^ 1]) + data[at + 1 :]
        path.write_bytes(data[:at] + rest)
    said = refusal(out, tmp_path / "published")
    if name == "README.md" and harm == "lost":
        assert f"{out} has no finished data set: finish it with `synthvlm export" in said
    else:
        assert path.name in said
        expected = (
            f"`synthvlm export --out {out}` writes" if name == "README.md" else "run `synthvlm"
        )
        assert expected in said
    assert not (tmp_path / "published" / "README.md").exists()


def test_an_edited_card_is_kept_published_and_no_damage(out: Path, tmp_path: Path) -> None:
    path, to = out / "dataset" / "README.md", tmp_path / "published"
    export(out)  # the captions' path is another one than that of the copied run
    send(out, to)
    exported = path.read_text("utf-8")
    edited = exported.replace("tags:\n", "license: cc0-1.0\ntags:\n- mine\n")
    edited = f"{edited}\n## Citation\n\nMe.\n"
    path.write_text(edited, "utf-8")
    # Nothing to do: nothing is written, and verify finds nothing.
    export(out)
    assert path.read_text("utf-8") == edited
    run, recipe = open_folder(str(out))
    assert not verify(run, recipe).findings
    assert send(out, to).sent == 1
    assert (to / "README.md").read_text("utf-8") == edited
    assert send(out, to).sent == 0
    # Another data set: what it says is new, and what the user wrote stays.
    export(out, "export.formats=[huggingface]")
    again = path.read_text("utf-8")
    assert again != edited
    assert again.endswith("\n## Citation\n\nMe.\n")
    assert "llava.json" not in again
    header = yaml.safe_load(again.split("---\n")[1])
    assert (header["license"], header["tags"][0]) == ("cc0-1.0", "mine")
    assert not (out / "card.md").exists()


def test_a_kill_in_the_middle_of_an_export_does_not_lose_what_a_user_wrote(out: Path) -> None:
    path = out / "dataset" / "README.md"
    path.write_text(path.read_text("utf-8") + "\nMine.\n", "utf-8")
    path.rename(out / "card.md")  # as it is while the data set has no card
    export(out)
    assert path.read_text("utf-8").endswith("\nMine.\n")
    assert not (out / "card.md").exists()


def test_a_lost_record_stops_it(out: Path, tmp_path: Path) -> None:
    sorted((out / "export-parts").glob("files-00001-*"))[0].unlink()
    assert "records of its export are missing): run `synthvlm verify" in refusal(
        out, tmp_path / "published"
    )


def test_a_part_that_names_no_record_stops_it(out: Path, tmp_path: Path) -> None:
    run = RunFolder(out)
    part = run.markers("export")[1]
    files = [file for file in part.files if not file.path.startswith("export-parts/files-")]
    assert len(files) < len(part.files)
    run.commit("export", 1, part.fingerprint, files, part.facts)
    assert "records of its export are missing): run `synthvlm verify" in refusal(
        out, tmp_path / "published"
    )


@pytest.mark.parametrize("name", ["../../stolen", "/tmp/stolen", "a/../../../stolen", "./x"])
def test_names_do_not_lead_out_of_the_target(out: Path, tmp_path: Path, name: str) -> None:
    run = RunFolder(out)
    whole = run.markers("dataset")[0]
    files = {name: 3, **whole.facts["files"]}
    run.commit("dataset", 0, whole.fingerprint, facts={"files": files})
    assert f"its export names {name!r}" in refusal(out, tmp_path / "published")


def test_what_is_no_finished_run(tmp_path: Path, out: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match="is not a run folder"):
        send(tmp_path / "empty", tmp_path / "published")
    shutil.rmtree(out / "done" / "dataset")
    assert "has no finished data set" in refusal(out, tmp_path / "published")


def test_a_run_that_changes_meanwhile(out: Path, tmp_path: Path) -> None:
    class Changing(Notes):
        def advance(self, amount: int) -> None:
            marker = out / "done" / "dataset" / "00000.json"
            marker.write_text(marker.read_text().replace('"fingerprint": "', '"fingerprint": "0'))

    assert "changed while it was published" in refusal(
        out, tmp_path / "published", progress=Changing()
    )
    assert not (tmp_path / "published" / "README.md").exists()


def test_folders_of_others_are_left_alone(out: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "it contains 'notes.txt'; name a new or empty folder" in refusal(out, tmp_path / "mine")
    assert "it is a file; name a folder" in refusal(out, tmp_path / "mine" / "notes.txt")
    for inside in (out, out / "dataset", out / "elsewhere", f"file://{out}/x"):
        assert "it is inside the run folder" in refusal(out, inside)
    send(out, tmp_path / "published")
    (tmp_path / "published" / "data" / "train-extra.parquet").write_bytes(b"mine")
    assert "data/train-extra.parquet exists there" in refusal(out, tmp_path / "published")


def test_options_of_the_hub_are_no_options_of_a_folder(out: Path, tmp_path: Path) -> None:
    assert "--private is for the hub only" in refusal(out, tmp_path / "x", private=True)
    assert "--message is for the hub only" in refusal(out, tmp_path / "x", message="hello")


def test_file_systems_that_are_not_there(out: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"^gs://b/x .*pip install 'synthvlm\[gcs\]'$"):
        send(out, "gs://b/x")
    assert "Protocol not known: nowhere" in refusal(out, "nowhere://x")


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("my-org/name", ["hf://datasets/my-org/name", "./my-org/name"]),
        ("my-org/name/", ["hf://datasets/my-org/name", "./my-org/name/"]),
        ("my-org/name@v1", ["hf://datasets/my-org/name@v1", "./my-org/name@v1"]),
        ("datasets/my-org/name", ["hf://datasets/my-org/name", "./datasets/my-org/name"]),
        ("https://huggingface.co/datasets/my-org/name", ["hf://datasets/my-org/name"]),
        ("~/name", []),
    ],
)
def test_what_may_mean_the_hub_is_no_folder(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, named: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = refusal(exported, target)
    for one in named:
        assert f"`synthvlm publish {exported} {one}`" in text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_beside_others_is_one(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "copies").mkdir()
    for target in ("copies/first", "./new/second", "third"):
        send(exported, target)
        assert (tmp_path / target / "README.md").is_file()
