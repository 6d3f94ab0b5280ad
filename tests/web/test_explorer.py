"""What the explorer answers over a run: search, filters, order, stories, images, marks."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from explorer_client import ExplorerClient

import synthvlm
from synthvlm import Recipe, SynthVLMError
from synthvlm.run_folder.folder import RunFolder
from synthvlm.web.explorer.run_collection import StoredImages
from synthvlm.web.explorer.view import view


@pytest.fixture(scope="module")
def ask(many_pairs: Path) -> Iterator[ExplorerClient]:
    with view(str(many_pairs)) as server:
        yield ExplorerClient(server)


def stored(run: Path, folder: str) -> list[dict[str, Any]]:
    files = sorted((run / folder).glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


@pytest.fixture(scope="module")
def captions(many_pairs: Path) -> list[dict[str, Any]]:
    return stored(many_pairs, "captions")


@pytest.fixture(scope="module")
def winners(many_pairs: Path) -> list[dict[str, Any]]:
    return [row for row in stored(many_pairs, "candidates") if row["chosen"]]


def test_the_collection_is_described(
    ask: ExplorerClient, captions: list[dict[str, Any]], winners: list[dict[str, Any]]
) -> None:
    told = ask.get("/api/collection")
    assert (told["kind"], told["pairs"], told["notes"]) == ("run", 60, [])
    assert told["search"]["meaning"] is told["search"]["picture"] is True
    assert told["marks"]["writable"] is True
    assert told["marks"]["reasons"][:2] == ["wrong", "ugly"]
    columns = {column["name"]: column for column in told["columns"]}
    assert list(columns)[:7] == [
        "selected", "marked", "source", "clip_score", "ssim_score", "questions_score", "score",
    ]  # fmt: skip
    assert columns["selected"]["values"] == [
        {"value": True, "count": 12},
        {"value": False, "count": 48},
    ]
    sources = {entry["value"]: entry["count"] for entry in columns["source"]["values"]}
    expected = [row["source"] for row in captions]
    assert sources == {name: expected.count(name) for name in set(expected)}
    scores = [row["score"] for row in winners]
    assert columns["score"]["label"] == "Score"
    assert columns["score"]["minimum"] == min(scores)
    assert columns["score"]["maximum"] == max(scores)
    assert sum(columns["score"]["histogram"]["counts"]) == 60
    assert len(columns["score"]["histogram"]["edges"]) == 41
    assert columns["rank"]["missing"] == 48
    assert columns["alnum_ratio"]["label"] == "Alphanumeric characters"


def test_a_page_of_pairs(
    ask: ExplorerClient, captions: list[dict[str, Any]], winners: list[dict[str, Any]]
) -> None:
    answer = ask.get("/api/pairs", offset=19, limit=2)
    assert answer["total"] == 60
    for pair, row in zip(answer["pairs"], (19, 20), strict=True):
        assert pair["row"] == row
        assert pair["caption_id"] == captions[row]["id"]
        assert pair["caption"] == captions[row]["text"]
        assert pair["mark"] is None
        for name in ("clip_score", "ssim_score", "questions_score", "score"):
            assert pair["values"][name] == winners[row][name]
    assert ask.get("/api/pairs", offset=60)["pairs"] == []
    assert "limit is not a whole number from 0 to 200" in ask.error("/api/pairs", limit=201)


def test_all_words_must_occur_whatever_their_case_and_accents(
    ask: ExplorerClient, captions: list[dict[str, Any]]
) -> None:
    texts = [row["text"] for row in captions]
    at_the_cafe = [row for row, text in enumerate(texts) if "café" in text]
    assert at_the_cafe
    for words in ("cafe", "CAFÉ", "Cafe\u0301 at"):
        assert sorted(ask.rows(words=words)) == at_the_cafe
    both = [row for row, text in enumerate(texts) if "red" in text and "dog" in text]
    assert ask.rows(words=" dog  RED ") == both
    # A word by itself before one that is a part of another.
    rows = ask.rows(words="number 1")
    assert texts[rows[0]].endswith("number 1.")
    assert set(rows) == {row for row, text in enumerate(texts) if "1" in text}
    assert ask.rows(words="a.*b [") == []


def test_filters_and_order(
    ask: ExplorerClient, captions: list[dict[str, Any]], winners: list[dict[str, Any]]
) -> None:
    bounds = {"alnum_ratio": {"minimum": 0.25, "maximum": 0.75}, "selected": {"values": [True]}}
    rows = ask.rows(filter=json.dumps(bounds), sort="score", descending=1)
    ranks = {row["caption_id"]: row["rank"] for row in selection(ask)}
    expected = [
        row
        for row, caption in enumerate(captions)
        if 0.25 <= caption["alnum_ratio"] <= 0.75 and caption["id"] in ranks
    ]
    assert rows == sorted(expected, key=lambda row: -winners[row]["score"])
    some = json.dumps({"source": {"values": ["source-1", "source-3"]}})
    assert {captions[row]["source"] for row in ask.rows(filter=some)} == {"source-1", "source-3"}
    # Pairs without a rank come last, either way round.
    for descending in ("", "1"):
        places = ask.rows(sort="rank", descending=descending)
        assert places[12:] == [row for row, one in enumerate(captions) if one["id"] not in ranks]
        numbers = [ranks[captions[row]["id"]] for row in places[:12]]
        assert numbers == sorted(numbers, reverse=bool(descending))
    values = ask.get("/api/pairs", sort="rank", limit=1)["pairs"][0]["values"]
    assert values["rank"] == 1


def selection(ask: ExplorerClient) -> list[dict[str, Any]]:
    folder = Path(ask.get("/api/collection")["name"])
    rows: list[dict[str, Any]] = pq.read_table(folder / "selection.parquet").to_pylist()
    return rows


def test_pairs_are_found_by_the_question_they_fail(
    ask: ExplorerClient, winners: list[dict[str, Any]]
) -> None:
    question = "Is there a dog?"
    wanted = json.dumps({"questions_remarks": {"values": [question]}})
    failing = [row for row, one in enumerate(winners) if one["questions_remarks"] == question]
    assert failing
    assert ask.rows(filter=wanted) == failing
    none = json.dumps({"questions_failed": {"maximum": 0}})
    assert ask.rows(filter=none) == [
        row for row, one in enumerate(winners) if one["questions_remarks"] is None
    ]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"sort": "scor"}, "there is no column 'scor', did you mean 'score'?"),
        ({"filter": "{"}, "filter is not a JSON object"),
        ({"filter": "[" * 9999}, "filter is not a JSON object"),
        ({"filter": '{"score": {"values": [1]}}'}, "a filter of score is an object of maximum"),
        ({"filter": '{"score": {"minimum": "1"}}'}, "the minimum of score is no number"),
        ({"filter": '{"source": {"values": 1}}'}, "the values of a filter of source are no list"),
        ({"like": "60"}, "a row is not from 0 to 59"),
        ({"like": "picture:9"}, "this picture is no longer kept: choose it again"),
        ({"rows": "9"}, "this choice of rows is no longer kept: make it again"),
    ],
)
def test_what_cannot_be_asked_is_said(
    ask: ExplorerClient, query: dict[str, str], message: str
) -> None:
    assert message in ask.error("/api/pairs", **query)


def test_pairs_are_searched_by_the_stored_embedding_of_an_image(
    ask: ExplorerClient, many_pairs: Path
) -> None:
    vectors = np.array([row["image_embedding"] for row in stored(many_pairs, "pairs")], np.float32)
    answer = ask.get("/api/pairs", like=25, limit=60)
    cosines = vectors @ vectors[25]
    assert [pair["row"] for pair in answer["pairs"]] == np.argsort(-cosines).tolist()
    shown = [pair["values"]["similarity"] for pair in answer["pairs"]]
    assert shown == pytest.approx(np.sort(cosines)[::-1], abs=1e-5)
    # A filter narrows it, and a column may order it.
    chosen = json.dumps({"selected": {"values": [True]}})
    assert len(ask.rows(like=25, filter=chosen)) == 12
    assert ask.rows(like=25, sort="score") == ask.rows(sort="score")


def test_a_choice_of_rows_is_a_filter(ask: ExplorerClient) -> None:
    name = ask.post("/api/rows", {"rows": [40, 3, 3, 7]})["rows"]
    assert ask.rows(rows=name) == [3, 7, 40]
    assert ask.rows(rows=name, filter=json.dumps({"index": {"maximum": -1}})) == []
    for wrong in ({"rows": [60]}, {"rows": [-1]}, {"rows": [True]}, {"rows": "1"}, {}):
        ask.error("/api/rows", json.dumps(wrong).encode())


def test_images_are_those_of_the_run(ask: ExplorerClient, many_pairs: Path) -> None:
    pairs = stored(many_pairs, "pairs")
    for row in (0, 19, 20, 59):
        status, headers, data = ask.raw(f"/image/{row}")
        assert (status, headers["Content-Type"]) == (200, "image/png")
        assert data == pairs[row]["image"]
        assert ask.raw(f"/image/{row}/{pairs[row]['index']}")[2] == data
        # Small enough to be its own thumbnail.
        status, headers, small = ask.raw(f"/thumbnail/{row}")
        assert (status, small) == (200, data)
        assert headers["Cache-Control"] == "private, max-age=86400"
    assert ask.raw(f"/image/0/{1 - pairs[0]['index']}")[0] == 404
    for path in (
        "/image/60",
        "/image/-1",
        "/image/x",
        "/image/0/x",
        "/thumbnail/60",
        "/thumbnail/",
    ):
        ask.error(path)


def test_an_image_is_read_with_its_row_group_alone(tmp_path: Path) -> None:
    run, names = RunFolder(tmp_path), ["pairs/a.parquet", "pairs/b.parquet"]
    images = [bytes([number]) * 9 for number in range(12)]
    for name, part in zip(names, (images[:7], images[7:]), strict=True):
        sink = io.BytesIO()
        pq.write_table(pa.table({"image": part}), sink, row_group_size=3)
        run.write(name, sink.getvalue())
    stored_images = StoredImages(run, names)
    places = [(file, place) for file, count in ((0, 7), (1, 5)) for place in range(count)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda place: stored_images.read(*place), places)) == images
    # What is kept needs no file; the rest of the same file does.
    run.remove(names[1])
    assert stored_images.read(1, 4) == images[11]


def test_the_story_of_a_pair(
    ask: ExplorerClient, many_pairs: Path, winners: list[dict[str, Any]]
) -> None:
    row = next(row for row, one in enumerate(winners) if one["questions_remarks"])
    story, winner = ask.get(f"/api/pair/{row}"), winners[row]
    id, index = winner["caption_id"], winner["index"]
    assert (story["row"], story["caption_id"], story["image"]) == (row, id, f"/image/{row}")
    assert (story["width"], story["height"]) == (64, 64)
    assert [one["index"] for one in story["candidates"]] == [0, 1]
    chosen, loser = story["candidates"][index], story["candidates"][1 - index]
    assert chosen["chosen"] is True
    assert chosen["image"] == f"/image/{row}/{index}"
    assert chosen["seed"] == str(winner["seed"])
    assert chosen["scores"]["score"] == winner["score"]
    assert loser["image"] is None
    lead = winner["score"] - loser["scores"]["score"]
    assert loser["note"] == f"its score is {lead:.4f} lower; its image was not kept"
    why = story["why_chosen"]
    assert why.startswith(f"candidate {index} of 2 won: {winner['score']:.3f} = ")
    assert f"next is candidate {1 - index}, {lead:.2g} lower, mostly by its " in why
    assert story["questions"] == [
        {
            "question": winner["questions_remarks"],
            "expected": "yes",
            "answer": "not yes",
            "passed": False,
        }
    ]
    measure = story["measures"][0]
    assert (measure["name"], measure["minimum"]) == ("alnum_ratio", 0.6)
    assert measure["kept"] is (measure["value"] >= 0.6)
    assert story["regenerate"] == f"synthvlm regenerate {many_pairs} --id {id}"
    ranks = {one["caption_id"]: one["rank"] for one in selection(ask)}
    best, *_, worst = sorted(range(60), key=lambda place: -winners[place]["score"])
    assert ranks[winners[best]["caption_id"]] == 1
    assert ask.get(f"/api/pair/{best}")["selection"] == "selected: rank 1 of 12"
    assert ask.get(f"/api/pair/{worst}")["selection"] == (
        "not selected: its score is not among the best 12"
    )


def test_the_story_names_the_better_twin(many_pairs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(many_pairs, tmp_path / "run"))
    left_out = next(
        id
        for row in stored(run, "captions")
        if (id := row["id"])
        not in pq.read_table(run / "selection.parquet")["caption_id"].to_pylist()
    )
    table = pa.table({"caption_id": [left_out], "kept_caption_id": ["web-1"]})
    pq.write_table(table, run / "near-duplicates.parquet")
    with view(str(run)) as server:
        story = ExplorerClient(server).get(f"/api/pair/{left_out.removeprefix('web-')}")
    assert story["selection"] == (
        "not selected: its image is nearly that of web-1, which scores better"
    )


def test_looking_changes_nothing_in_the_run(many_pairs: Path) -> None:
    def content() -> dict[str, float]:
        files = (file for file in many_pairs.rglob("*") if file.is_file())
        return {str(file): file.stat().st_mtime_ns for file in files}

    before = content()
    with view(str(many_pairs)) as server:
        ask = ExplorerClient(server)
        ask.get("/api/collection")
        ask.get("/api/pairs", words="red", like=1)
        ask.get("/api/pair/1")
        ask.raw("/thumbnail/1")
        for outside in ("/recipe.yaml", "/static/../recipe.yaml", "/run/recipe.yaml"):
            assert ask.raw(outside)[0] == 404
    assert content() == before


def test_a_run_is_searched_by_text_and_picture_with_its_own_model(exported_run: Path) -> None:
    texts = [row["text"] for row in stored(exported_run, "captions") if row["kept"]]
    pairs = stored(exported_run, "pairs")
    images = np.array([row["image_embedding"] for row in pairs], np.float32)
    of_texts = np.array([row["text_embedding"] for row in pairs], np.float32)
    with view(str(exported_run)) as server:
        ask = ExplorerClient(server)
        answer = ask.get("/api/pairs", meaning=texts[1])
        expected = images @ of_texts[1]
        assert [pair["row"] for pair in answer["pairs"]] == np.argsort(-expected).tolist()
        shown = [pair["values"]["similarity"] for pair in answer["pairs"]]
        assert shown == pytest.approx(np.sort(expected)[::-1], abs=2e-3)
        name = ask.post("/api/picture", ask.raw("/image/2")[2])["picture"]
        answer = ask.get("/api/pairs", like=f"picture:{name}")
        assert answer["pairs"][0]["row"] == 2
        assert answer["pairs"][0]["values"]["similarity"] == pytest.approx(1, abs=2e-3)
        assert "the picture cannot be used" in ask.error("/api/picture", b"no picture")


@pytest.mark.parametrize(
    ("model", "message"),
    [("/nowhere", "/nowhere"), ("tiny", "have 512: they are of another model")],
)
def test_a_model_that_does_not_fit_is_named(
    many_pairs: Path, tmp_path: Path, model: str, message: str
) -> None:
    run = Path(shutil.copytree(many_pairs, tmp_path / "run"))
    changes = [f"scoring.clip.model={model}", "scoring.questions.weight=0.5"]
    recipe = Recipe.load("tiny", overrides=changes)
    RunFolder(run).write("recipe.yaml", recipe.to_yaml().encode())
    with view(str(run)) as server:
        ask = ExplorerClient(server)
        assert message in ask.error("/api/pairs", meaning="red")
        assert len(ask.rows(words="red", like=1)) > 0


def test_a_run_without_embeddings_says_so(many_pairs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(many_pairs, tmp_path / "run"))
    changes = ["scoring.clip=null", "scoring.questions.weight=0.5"]
    recipe = Recipe.load("tiny", overrides=changes)
    RunFolder(run).write("recipe.yaml", recipe.to_yaml().encode())
    with view(str(run)) as server:
        ask = ExplorerClient(server)
        search = ask.get("/api/collection")["search"]
        assert (search["meaning"], search["picture"]) == (False, False)
        assert "they come from a scorer such as clip or siglip" in search["reason_if_not"]
        assert ask.error("/api/pairs", like="1") == search["reason_if_not"]
        assert ask.error("/api/picture", b"x") == search["reason_if_not"]
        assert ask.get("/api/map/state")["problem"] == search["reason_if_not"]


def test_the_quotas_of_a_selection_are_a_column(many_pairs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(many_pairs, tmp_path / "run"))
    changes = ["selection={method: quotas, options: {field: alnum_ratio, bins: [0.5]}}"]
    recipe = Recipe.load("tiny", overrides=[*changes, "scoring.questions.weight=0.5"])
    RunFolder(run).write("recipe.yaml", recipe.to_yaml().encode())
    with view(str(run)) as server:
        ask = ExplorerClient(server)
        columns = {one["name"]: one for one in ask.get("/api/collection")["columns"]}
        assert columns["quota"]["label"] == "Quota (alnum_ratio)"
        low = next(one["value"] for one in columns["quota"]["values"] if "below" in one["value"])
        below = json.dumps({"alnum_ratio": {"maximum": 0.5}})
        assert ask.rows(filter=json.dumps({"quota": {"values": [low]}})) == ask.rows(filter=below)


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path).write("recipe.yaml", Recipe.load("tiny").to_yaml().encode())
    (tmp_path / "done").mkdir()
    with pytest.raises(SynthVLMError, match=r"has no pairs yet: synthvlm run --out"):
        view(str(tmp_path))


def test_it_is_opened_from_python(many_pairs: Path) -> None:
    server = synthvlm.view(synthvlm.open_run(many_pairs))
    assert ExplorerClient(server).get("/api/collection")["name"] == str(many_pairs)
    assert server.address in repr(server)
    server.close()
