"""Other formats of a run, and of data sets that no run made."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pair_files import Made, conversation, llava, parquet, sample_pairs, webdataset
from synthvlm.comparison.difference import difference
from synthvlm.conversion.convert import convert
from synthvlm.conversion.place import RECORD, Place
from synthvlm.data_sets.inputs import open_data_set, parse_input
from synthvlm.data_sets.pairs import LoadedPair
from synthvlm.errors import (
    CaptionSourceError,
    RecipeError,
    RunFolderError,
    SynthVLMError,
    TooManyFailuresError,
)
from synthvlm.exporters.llava import LlavaExporter
from synthvlm.progress.display import SilentProgress

BOTH = ["llava", "huggingface"]


class Lines(SilentProgress):
    """What a user is shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def finish(self, stage: str, line: str, details: object = ()) -> None:
        self.lines += [line, *details]  # type: ignore[misc]

    def note(self, line: str) -> None:
        self.lines.append(line)


def converted(source: Path | str, to: Path, *formats: str, share: float = 0.0) -> list[str]:
    shown = Lines()
    convert(str(source), formats or ["llava"], str(to), max_failed_share=share, progress=shown)
    return shown.lines


def pairs_of(path: Path) -> list[tuple[str, str, bytes]]:
    pairs = open_data_set(parse_input(str(path)), with_facts=True).pairs()
    return [
        (one.entry.id, one.entry.caption, one.image) for one in pairs if isinstance(one, LoadedPair)
    ]


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_run_in_another_format_has_its_own_pairs_and_card(
    exported_run: Path, tmp_path: Path
) -> None:
    before = content(exported_run)
    to = tmp_path / "new"
    converted(exported_run, to, *BOTH)
    assert content(exported_run) == before
    exported = exported_run / "dataset"
    assert (to / "llava.json").read_bytes() == (exported / "llava.json").read_bytes()
    assert content(to / "images") == content(exported / "images")  # the marks, too
    ours, theirs = (pq.read_table(folder / "data").to_pylist() for folder in (to, exported))
    assert ours == theirs
    only = tmp_path / "only"
    convert(
        f"{exported_run}/dataset",  # stands for the run
        ["huggingface"],
        only.as_uri(),
        changes=["export.version='2.0'"],
        progress=SilentProgress(),
    )
    card = (only / "README.md").read_text()
    assert "# Synthetic image-caption pairs" in card
    assert "llava.json" not in card.split("## Use")[1].split("## ")[0]
    header = yaml.safe_load(card.split("---")[1])
    assert header["version"] == "2.0"
    assert sorted(path.name for path in only.iterdir()) == [RECORD, "README.md", "data"]
    loaded = datasets.load_dataset(str(only), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["caption"] == [row["caption"] for row in theirs]


@pytest.mark.parametrize("format", ["llava", "parquet", "tar", "messages"])
def test_every_format_in_every_format_out(tmp_path: Path, format: str) -> None:
    pairs = sample_pairs(5)
    if format == "llava":
        source = llava(tmp_path / "in", pairs)
    elif format == "parquet":
        source = parquet(tmp_path / "in.parquet", pairs, text="text")
    elif format == "tar":
        source = webdataset(tmp_path / "in.tar", pairs)
    else:
        llava(tmp_path / "in", pairs)
        source = tmp_path / "in/train.jsonl"
        rows = [
            {
                "id": pair.id,
                "messages": [
                    {"role": "user", "content": "What?"},
                    {"role": "assistant", "content": pair.caption},
                ],
                "images": [f"images/{pair.id}.png"],
            }
            for pair in pairs
        ]
        source.write_text("\n".join(map(json.dumps, rows)))
    converted(source, tmp_path / "out", *BOTH)
    expected = [(pair.id, pair.caption, pair.image) for pair in pairs]
    assert pairs_of(tmp_path / "out/llava.json") == expected
    assert pairs_of(tmp_path / "out/data/train-00000-000.parquet") == expected
    row = pq.read_table(tmp_path / "out/data").to_pylist()[0]
    assert {row[name] for name in ("rank", "score", "seed", "index")} == {None}
    card = (tmp_path / "out/README.md").read_text()
    assert "**not made by this conversion**" in card
    assert "No card was found" in card


def test_what_a_run_recorded_is_taken_along(exported_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(exported_run / "dataset", tmp_path / "copy")
    converted(copy, tmp_path / "out", "huggingface")
    old, new = (pq.read_table(folder / "data").to_pylist() for folder in (copy, tmp_path / "out"))
    assert old == new
    card = (tmp_path / "out/README.md").read_text()
    assert "It was made by a run of SynthVLM." in card
    assert "# Synthetic image-caption pairs" in card.split("## Origin")[1]


def test_all_formats_of_a_run_and_back(exported_run: Path, tmp_path: Path) -> None:
    formats = ["huggingface", "messages", "webdataset", "llava", "croissant"]
    converted(exported_run, tmp_path / "all", *formats)
    expected = pairs_of(exported_run / "dataset")
    rows = pq.read_table(exported_run / "dataset/data").to_pylist()
    described = json.loads((tmp_path / "all/croissant.json").read_text())
    names = {one.get("contentUrl") for one in described["distribution"]}
    assert {"data/train-00000-000.parquet", "llava.json"} <= names
    for name in formats[:3]:
        converted(exported_run, tmp_path / name, name)
        assert pairs_of(tmp_path / name) == expected
    converted(tmp_path / "webdataset", tmp_path / "back", "huggingface")
    assert pq.read_table(tmp_path / "back/data").to_pylist() == rows
    with pytest.raises(CaptionSourceError, match="no format that holds pairs"):
        converted(exported_run, tmp_path / "alone", "croissant")


def test_splits_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, pairs in (("train", sample_pairs(3)), ("validation", sample_pairs(2, seed=1))):
        renamed = [pair._replace(id=f"{name}-{pair.id}") for pair in pairs]
        webdataset(tmp_path / f"in/{name}-0000.tar", renamed)
    converted(tmp_path / "in", tmp_path / "out", *BOTH, "messages")
    for folder in ("data", "messages"):
        assert sorted(path.name for path in (tmp_path / "out" / folder).iterdir()) == [
            "train-00000-000.parquet",
            "validation-00001-000.parquet",
        ]
    assert len(json.loads((tmp_path / "out/llava-validation.json").read_text())) == 2
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 3, "validation": 2}
    with pytest.raises(RecipeError, match="validation_share is for runs"):
        convert(
            str(tmp_path / "in"),
            ["llava"],
            str(tmp_path / "no"),
            changes=["export.validation_share=0.5"],
            progress=SilentProgress(),
        )


def test_bad_records_are_counted_and_bounded(tmp_path: Path) -> None:
    pairs = sample_pairs(4)
    more = [
        conversation("absent", "none.png", "A dog."),
        conversation("text", "p0.png", "Here is </s> again."),
        conversation("gif", "a.gif", "A cat."),
        conversation("out", "../llava.json", "A cow."),
        {"id": "nothing"},
        {"id": "turn", "conversations": [{"from": "system", "value": "Hello."}]},
    ]
    source = llava(tmp_path / "in", pairs, more)
    (tmp_path / "in/images/a.gif").write_bytes(b"GIF89a")
    with pytest.raises(TooManyFailuresError, match=r"4 of 10 records .* more than a share of 0.3;"):
        converted(source, tmp_path / "out", share=0.3)
    assert not (tmp_path / "out").exists(), "captions are checked before anything is written"
    with pytest.raises(TooManyFailuresError, match="raise --max-failed-share"):
        converted(source, tmp_path / "out", *BOTH, share=0.5)
    assert not (tmp_path / "out/README.md").exists()
    lines = converted(source, tmp_path / "out", *BOTH, share=0.6)
    assert "4 pairs as llava, huggingface" in lines
    for problem in (
        "1 records: its caption holds a control token of tokenizers",
        "1 records: missing image",
        "1 records: broken image",
        "1 records: it has no conversations",
        "1 records: a turn is not {from: human or gpt, value: text}",
        "1 records: its image is no name of a file within the folder of images",
    ):
        assert problem in lines
    assert len(pairs_of(tmp_path / "out")) == 4
    card = (tmp_path / "out/README.md").read_text()
    assert "- records read: 10" in card
    assert "- left out: missing image: 1" in card


def test_records_of_one_id_get_a_number(tmp_path: Path) -> None:
    image = sample_pairs(1)[0].image
    ids = ["a", "a", "a-2", "b", "a"]
    pairs = [Made(id, f"Caption {n}.", image) for n, id in enumerate(ids)]
    source = parquet(tmp_path / "in.parquet", pairs)
    lines = converted(source, tmp_path / "out", *BOTH)
    assert [id for id, *_ in pairs_of(tmp_path / "out")] == ["a", "a-3", "a-2", "b", "a-4"]
    assert "2 records share their id with another: they got a number" in lines
    assert len(content(tmp_path / "out/images")) == 5


def test_hostile_captions_come_through_as_they_are(tmp_path: Path) -> None:
    image = sample_pairs(1)[0].image
    captions = [
        "one\ntwo\r\n\"three\" 'four' \\n",
        "a\0b",
        "<b>bold</b><script>alert(1)</script> | --- |",
        "\u202eright to left \u200f\u05d0",
        "long " * 2000,
        "---\nlicense: mit\n---",
    ]
    pairs = [Made(f"../{n}\n", text, image) for n, text in enumerate(captions)]
    source = parquet(tmp_path / "in.parquet", pairs)
    converted(source, tmp_path / "out", *BOTH)
    expected = [(pair.id, pair.caption.strip(), pair.image) for pair in pairs]
    assert pairs_of(tmp_path / "out") == expected
    assert pairs_of(tmp_path / "out/llava.json") == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.json", b"", "expected conversations or messages"),
        ("none.json", b"[]", "no usable pair"),
        ("empty.tar", b"", "damaged archive|no captions"),
        ("empty.parquet", b"", "not a usable Parquet file"),
        ("empty.jsonl", b"", "expected conversations or messages"),
        ("half.tar", None, "damaged archive: unexpected end of data|cut off"),
    ],
)
def test_damaged_files_are_one_line_and_leave_nothing(
    tmp_path: Path, name: str, data: bytes | None, message: str
) -> None:
    source = tmp_path / name
    if data is None:
        whole = webdataset(tmp_path / "whole.tar", sample_pairs(6)).read_bytes()
        data = whole[: len(whole) // 2]
    source.write_bytes(data)
    with pytest.raises(SynthVLMError, match=message) as error:
        converted(source, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out/README.md").exists()


def test_an_error_before_the_first_file_leaves_the_place_as_new(tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"caption": ["A cat."]}), source)
    with pytest.raises(CaptionSourceError, match="there is no column 'image'"):
        converted(source, tmp_path / "out")
    parquet(source, sample_pairs(2))
    assert "2 pairs as llava" in converted(source, tmp_path / "out")


def test_a_killed_conversion_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = sample_pairs(5)
    source = parquet(tmp_path / "in.parquet", pairs)
    converted(source, tmp_path / "whole", *BOTH)
    to = tmp_path / "out"

    class KilledError(BaseException):
        pass

    def killed(*arguments: object) -> str:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Place, "write_card", killed)
        for _ in range(2):  # the second attempt, too
            with pytest.raises(KilledError):
                converted(source, to, *BOTH)
    assert (to / "llava.json").exists()
    assert not (to / "README.md").exists()
    (to / "data/train-00009-000.parquet").write_bytes(b"of a longer one")
    with pytest.raises(RunFolderError, match="holds an unfinished conversion of"):
        converted(source, to, "llava")
    lines = converted(source, to, *BOTH)
    assert f"note: {to} was left unfinished: it is written anew" in lines
    assert "removed of an attempt that was killed: data/train-00009-000.parquet" in lines
    assert content(to) == content(tmp_path / "whole")
    with pytest.raises(RunFolderError, match="holds the finished conversion of"):
        converted(source, to, *BOTH)


def test_places_that_are_refused(tmp_path: Path, exported_run: Path) -> None:
    source = llava(tmp_path / "in", sample_pairs(2))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    for to, message in (
        (tmp_path / "full", "holds 'notes.txt': name a new or empty folder"),
        (tmp_path / "full/notes.txt", "is a file: name a new or empty folder"),
    ):
        with pytest.raises(RunFolderError, match=message):
            converted(source, to)
    for whole in (tmp_path / "in", exported_run):
        with pytest.raises(RunFolderError, match="which is converted: name another place"):
            converted(whole, whole / "dataset/new")
    assert (tmp_path / "full/notes.txt").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="root may all")
def test_a_place_without_permission_is_one_line(tmp_path: Path) -> None:
    source = llava(tmp_path / "in", sample_pairs(2))
    with pytest.raises(RunFolderError, match=r"cannot (open|write|read) /proc/synthvlm") as error:
        converted(source, Path("/proc/synthvlm/new"))
    assert "\n" not in str(error.value)


def test_unknown_formats_and_settings_are_refused(tmp_path: Path) -> None:
    source = llava(tmp_path / "in", sample_pairs(2))
    with pytest.raises(RecipeError, match="tfrecord"):
        converted(source, tmp_path / "out", "tfrecord")
    with pytest.raises(RecipeError, match="a conversion has settings of export alone"):
        convert(
            str(source),
            ["llava"],
            str(tmp_path / "out"),
            changes=["seed=3"],
            progress=SilentProgress(),
        )
    assert not (tmp_path / "out").exists()
    with pytest.raises(CaptionSourceError, match="no such file"):
        converted(tmp_path / "absent.json", tmp_path / "out")


def test_croissant_describes_what_was_converted(tmp_path: Path) -> None:
    source = llava(tmp_path / "in", sample_pairs(3))
    converted(source, tmp_path / "out", "huggingface", "croissant")
    described = json.loads((tmp_path / "out/croissant.json").read_text())
    files = {one["@id"] for one in described["distribution"] if one["@type"] == "cr:FileObject"}
    assert files == {"data/train-00000-000.parquet"}
    assert [one["name"] for one in described["recordSet"]] == ["train"]
    assert "which did not make them" in described["description"]


def test_splits_of_other_data_sets_stay(tmp_path: Path) -> None:
    source = llava(tmp_path / "in", sample_pairs(3))
    with pytest.raises(RecipeError, match=r"export\.validation_share is for runs"):
        convert(
            str(source),
            ["llava"],
            str(tmp_path / "out"),
            changes=["export.validation_share=0.5"],
            progress=SilentProgress(),
        )


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    source = llava(tmp_path / "in", sample_pairs(2))

    def full(self: object, part: int, pairs: object, write: object) -> bytes:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LlavaExporter, "write_part", full)
        with pytest.raises((SynthVLMError, OSError), match="No space left on device"):
            converted(source, tmp_path / "out")
    assert not (tmp_path / "out/README.md").exists()
    assert difference(
        open_data_set(parse_input(str(source))),
        open_data_set(parse_input(str(source))),
        SilentProgress(),
    ).is_same
