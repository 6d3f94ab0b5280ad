"""What inputs are taken for."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pair_files import TINY_SETTINGS, llava, parquet, sample_pairs, webdataset
from synthvlm.comparison.command import compare_command, open_inputs
from synthvlm.comparison.settings import parse_sample
from synthvlm.data_sets.inputs import Named, braces, parse_input
from synthvlm.data_sets.pairs import BadPair, Entry, LoadedPair
from synthvlm.errors import CaptionSourceError, RecipeError, SynthVLMError
from synthvlm.progress.display import SilentProgress


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a/b.json", Named("b", "a/b.json")),
        ("mine=a/b.json", Named("mine", "a/b.json")),
        ("mine=b.jsonl::some/images", Named("mine", "b.jsonl", "some/images")),
        ("runs/one/", Named("one", "runs/one/")),
        ("runs/one/dataset/llava.json", Named("one", "runs/one/dataset/llava.json")),
        ("x/shard-{000..001}.tar", Named("shard-{000..001}", "x/shard-{000..001}.tar")),
        ("a/k=v/x.parquet", Named("x", "a/k=v/x.parquet")),
    ],
)
def test_an_input_is_a_name_a_path_and_images(text: str, named: Named) -> None:
    assert parse_input(text) == named


@pytest.mark.parametrize("text", ["", "::images", "a.json::"])
def test_an_input_lacks_no_part(text: str) -> None:
    with pytest.raises(RecipeError, match="expected"):
        parse_input(text)


@given(st.text(max_size=30))
@example(".parquet")
def test_any_text_is_an_input_or_one_line(text: str) -> None:
    try:
        named = parse_input(text)
        found = braces(named.path)
    except SynthVLMError:
        return
    assert named.label
    assert named.path
    assert found


def test_braces_are_alternatives_and_ranges() -> None:
    assert braces("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert braces("{x,y}/{1..2}.tar") == ["x/1.tar", "x/2.tar", "y/1.tar", "y/2.tar"]
    assert braces("plain*.tar") == ["plain*.tar"]
    with pytest.raises(RecipeError, match="backward"):
        braces("{3..1}.tar")


def test_a_sample_is_a_number_or_all() -> None:
    assert parse_sample("1000") == 1000
    assert parse_sample("all") is None
    for text in ("", "1", "-5", "ten", "1.5", "²"):
        with pytest.raises(RecipeError, match="expected a number of pairs, at least 2, or all"):
            parse_sample(text)


def images_of(text: str) -> list[LoadedPair | BadPair]:
    (opened,) = open_inputs([text])
    return list(opened.pairs())  # type: ignore[union-attr]


def test_images_lie_beside_the_json_or_where_they_are_named(tmp_path: Path) -> None:
    pairs = sample_pairs(2)
    path = llava(tmp_path / "set", pairs)
    wanted = [pair.image for pair in pairs]
    assert [one.image for one in images_of(str(path))] == wanted  # type: ignore[union-attr]
    (tmp_path / "set/images").rename(tmp_path / "elsewhere")
    found = images_of(f"{path}::{tmp_path / 'elsewhere'}")
    assert [one.image for one in found] == wanted  # type: ignore[union-attr]
    for file in (tmp_path / "elsewhere").iterdir():
        file.rename(tmp_path / "set" / file.name)
    assert [one.image for one in images_of(str(path))] == wanted  # type: ignore[union-attr]


def test_a_run_folder_is_its_exported_data_set(tmp_path: Path) -> None:
    llava(tmp_path / "run/dataset", sample_pairs(2))
    (tmp_path / "run/recipe.yaml").write_text("seed: 0\n")
    with pytest.raises(CaptionSourceError, match="without a finished data set: `synthvlm export"):
        open_inputs([str(tmp_path / "run")])
    (tmp_path / "run/dataset/README.md").write_text("# A data set\n")
    assert len(images_of(str(tmp_path / "run"))) == 2
    (tmp_path / "run/dataset/llava.json").unlink()
    (tmp_path / "run/dataset/data").mkdir()
    parquet(tmp_path / "run/dataset/data/train-00000-000.parquet", sample_pairs(3))
    assert len(images_of(str(tmp_path / "run"))) == 3


def test_of_an_exported_data_set_the_files_are_read_that_its_card_names(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("train-00000-000", "extra"):
        parquet(tmp_path / f"data/{name}.parquet", sample_pairs(3))
    configs = "configs: [{config_name: default, data_files: [{split: train, path: PATH}]}]"
    front = f"pretty_name: a---b\n{configs}"
    for path, count in (("[data/train-00000-000.parquet]", 3), ("data/*.parquet", 6)):
        (tmp_path / "README.md").write_text(f"---\n{front.replace('PATH', path)}\n---\n# Pairs\n")
        assert len(images_of(str(tmp_path))) == count
    outside = parquet(tmp_path.parent / f"{tmp_path.name}.parquet", sample_pairs(1))
    (tmp_path / "README.md").write_text(
        f"---\n{front.replace('PATH', f'[../{outside.name}]')}\n---\n"
    )
    assert len(images_of(str(tmp_path))) == 6, "a card names no file outside of its data set"
    (tmp_path / "README.md").write_text("---\nconfigs: 3\n---\n")
    assert len(images_of(str(tmp_path))) == 6


@pytest.mark.parametrize(
    "names", [("data/train-0.parquet", "data/validation-0.parquet"), ("webdataset/train-0.tar",)]
)
def test_of_several_configurations_the_first_is_read(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (parquet if name.endswith("parquet") else webdataset)(tmp_path / name, sample_pairs(3))
    first = [
        {"split": split, "path": [name]}
        for split, name in zip(("train", "validation"), names, strict=False)
    ]
    configs = [{"data_files": first}, {"data_files": [{"split": "train", "path": ["x.parquet"]}]}]
    (tmp_path / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    (opened,) = open_inputs([str(tmp_path)])
    splits = [one.split for one in opened.captions() if isinstance(one, Entry)]  # type: ignore[union-attr]
    assert splits == ["train"] * 3 + ["validation"] * 3 * (len(names) - 1)


def splits_of(path: str) -> list[str]:
    (opened,) = open_inputs([path])
    return [one.split for one in opened.captions() if isinstance(one, Entry)]  # type: ignore[union-attr]


@pytest.mark.parametrize("held_out", ["validation-0", "test-00000-of-00001", "pairs_val-0"])
def test_held_out_files_of_a_folder_a_glob_or_braces_come_last(
    tmp_path: Path, held_out: str
) -> None:
    for name, count in (("a-latest", 1), (held_out, 2), ("train-0", 3)):
        parquet(tmp_path / f"{name}.parquet", sample_pairs(count))
    names = (str(tmp_path), f"{tmp_path}/*.parquet", f"{tmp_path}/{{{held_out},train-0}}.parquet")
    for name, others in zip(names, (4, 4, 3), strict=True):
        assert splits_of(name) == ["train"] * others + ["validation"] * 2
    alone = f"{tmp_path}/{held_out[:-2]}*.parquet"
    assert splits_of(alone) == ["train"] * 2, "what is named alone is read as any other"


def test_shards_come_before_the_tables_of_their_captions(tmp_path: Path) -> None:
    webdataset(tmp_path / "00000.tar", sample_pairs(2))
    pq.write_table(pa.table({"caption": ["A.", "B.", "C."]}), tmp_path / "00000.parquet")
    assert len(images_of(str(tmp_path))) == 2


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "nothing to compare"),
        (["absent.json"], "absent.json: no such file"),
        (["absent.tar"], "absent.tar: no such file"),
        (["absent-{1..2}.parquet"], "absent-1.parquet: no such file"),
        (["absent"], "absent: no such file; expected a run folder"),
        (["notes.md"], "notes.md: not recognised; expected a run folder"),
        (["empty"], "empty: no data set in this folder"),
        (["x=notes.md", "x=empty"], "two inputs are called 'x'"),
        (["s.tar::images"], "holds its images itself"),
        (["n" * 5000], "nnn: "),
        (["n" * 5000 + ".json"], "nnn: "),
        (["s3://bucket/pairs.json"], "local files: fetch it first"),
        (["a=http://127.0.0.1:9/x.tar"], "local files: fetch it first"),
    ],
)
def test_what_is_no_data_set_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.md").write_text("notes")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SynthVLMError, match=message) as error:
        compare_command(names, TINY_SETTINGS, progress=SilentProgress())
    assert "\n" not in str(error.value)
