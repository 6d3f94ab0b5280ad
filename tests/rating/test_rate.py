"""The command: which pictures are rated, judges, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import synthvlm
from fakes.endpoint import Answer as Reply
from fakes.endpoint import FakeEndpoint, Say, Status
from pair_files import Made, llava, parquet, png, sample_pairs, webdataset
from synthvlm.cli import app
from synthvlm.errors import CaptionSourceError, RecipeError, RunFolderError
from synthvlm.progress.display import SilentProgress
from synthvlm.rating.folder import Answer, RatingFolder
from synthvlm.rating.judges import read_choice
from synthvlm.rating.prepare import Rating, prepared


def prepare(out: Path, *inputs: Path | str, count: int | None = None, **options: Any) -> Rating:
    values: dict[str, Any] = {
        "seed": None,
        "question": None,
        **options,
    }
    names = tuple(map(str, inputs))
    return prepared(names, str(out), count=count, progress=SilentProgress(), **values)


def plain(colour: str) -> bytes:
    return png(Image.new("RGB", (40, 40), colour))


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """Two data sets of the same eight captions: red pictures in A, blue ones in B."""
    pairs = sample_pairs(8)
    a = parquet(tmp_path / "a.parquet", [pair._replace(image=plain("red")) for pair in pairs])
    b = webdataset(tmp_path / "b.tar", [pair._replace(image=plain("blue")) for pair in pairs[::-1]])
    return a, b


def test_captions_that_both_hold_are_rated_whatever_their_ids(tmp_path: Path) -> None:
    pairs = sample_pairs(6)
    theirs = [pair._replace(id=f"other{n}", image=plain("blue")) for n, pair in enumerate(pairs)]
    # Punctuation that normalisation makes equal; a caption that A does not have; a second picture.
    theirs[0] = theirs[0]._replace(caption=theirs[0].caption.replace(",", "\uff0c"))
    theirs[5] = Made("extra", "Something else.", plain("blue"))
    theirs.append(theirs[1]._replace(id="again", image=plain("green")))
    a, b = llava(tmp_path / "a", pairs), parquet(tmp_path / "b.parquet", theirs)
    rating = prepare(tmp_path / "r", f"mine={a}", b)
    assert rating.setup.labels == ("mine", "b")
    assert {pair.caption for pair in rating.pairs} == {pair.caption for pair in pairs[:5]}
    for pair in rating.pairs:
        number = int(pair.caption_id[1:])
        images = [rating.folder.image(name) for name in pair.images]
        assert images == [pairs[number].image, plain("blue")]


def test_more_pairs_are_the_same_ones_and_more(tmp_path: Path, both: tuple[Path, Path]) -> None:
    few = prepare(tmp_path / "r", *both, count=3)
    more = prepare(tmp_path / "r", *both, count=6)
    assert len(more.pairs) == 6
    assert more.pairs[:3] == few.pairs
    other = prepare(tmp_path / "other", *both, count=3, seed=1)
    assert {p.caption_id for p in other.pairs} != {p.caption_id for p in few.pairs}


def test_a_rating_goes_on_without_its_data_sets(tmp_path: Path, both: tuple[Path, Path]) -> None:
    before = prepare(tmp_path / "r", *both, question="Which is prettier?", seed=3)
    for path in both:
        path.unlink()
    again = prepare(tmp_path / "r", *both)
    assert (again.pairs, again.setup) == (before.pairs, before.setup)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, r"other --seed \(0\)"),
        ({"question": "Why?"}, r"other --question \(Which picture shows the caption better\?\)"),
    ],
)
def test_two_ratings_in_one_folder_are_refused(
    tmp_path: Path, both: tuple[Path, Path], change: dict[str, Any], message: str
) -> None:
    prepare(tmp_path / "r", *both)
    with pytest.raises(RunFolderError, match=message):
        prepare(tmp_path / "r", *both, **change)
    with pytest.raises(RunFolderError, match="other inputs"):
        prepare(tmp_path / "r", *both[::-1])


def test_a_picture_that_cannot_be_shown_is_left_out_and_told(tmp_path: Path) -> None:
    pairs = sample_pairs(3)
    broken = [pairs[0]._replace(image=b"no image"), *pairs[1:]]
    a, b = parquet(tmp_path / "a.parquet", pairs), parquet(tmp_path / "b.parquet", broken)
    rating = prepare(tmp_path / "r", a, b)
    assert {pair.caption_id for pair in rating.pairs} == {"p1", "p2"}
    few, note = rating.setup.notes
    assert few == "2 pairs can be rated, of 100 asked for"
    assert note.startswith("1 pairs are left out, because a picture cannot be used:")
    assert "of no known format" in note


def test_without_a_caption_in_common_there_is_nothing_to_rate(tmp_path: Path) -> None:
    pairs = sample_pairs(2)
    a = parquet(tmp_path / "a.parquet", pairs[:1])
    b = parquet(tmp_path / "b.parquet", pairs[1:])
    with pytest.raises(CaptionSourceError, match="no caption in common"):
        prepare(tmp_path / "r", a, b)
    with pytest.raises(RunFolderError, match="holds no rating yet: synthvlm rate"):
        synthvlm.rate(a, b, out=tmp_path / "none", result=True)
    with pytest.raises(RunFolderError, match="local folder"):
        synthvlm.rate(a, b, out="s3://bucket/r", result=True)


def test_pictures_of_others_are_scored_by_the_scorers_of_the_run(
    tmp_path: Path, exported_run: Path
) -> None:
    pairs = list(synthvlm.open_run(exported_run).pairs)
    theirs = [Made(f"x{n}", pair["caption"], png(pair["image"])) for n, pair in enumerate(pairs)]
    theirs[0] = theirs[0]._replace(image=plain("blue"))
    b = parquet(tmp_path / "b.parquet", theirs)
    rating = prepare(tmp_path / "r", exported_run, b)
    assert len(rating.pairs) == 3
    for pair in rating.pairs:
        mine, other = pair.scores
        assert mine.keys() == other.keys() == {"clip", "ssim", "score"}
        is_same = pair.caption != pairs[0]["caption"]
        assert (other["clip"] == pytest.approx(mine["clip"], abs=1e-3)) == is_same
        assert other["score"] == pytest.approx(other["clip"] + 0.5 * other["ssim"])


def test_scores_of_unknown_scorers_are_not_compared(tmp_path: Path) -> None:
    pairs = sample_pairs(2)
    paths = [parquet(tmp_path / f"{name}.parquet", pairs) for name in "ab"]
    for path in paths:
        table = pq.read_table(path)
        pq.write_table(table.append_column("x_score", pa.array([0.1, 0.2])), path)
    assert [pair.scores for pair in prepare(tmp_path / "r", *paths).pairs] == [({}, {})] * 2


@pytest.fixture(scope="module")
def rated_run(tmp_path_factory: pytest.TempPathFactory, exported_run: Path) -> Path:
    """The chosen candidates of a run against others, judged by the embedded verifier."""
    out = tmp_path_factory.mktemp("rated")
    run = shutil.copytree(exported_run, out / "run")
    synthvlm.rate(run, out=out / "r", judge="tiny", device="cpu")
    return out


def test_the_chosen_candidates_of_a_run_against_others(rated_run: Path) -> None:
    run = synthvlm.open_run(rated_run / "run")
    pairs = RatingFolder(rated_run / "r").pairs()
    chosen = {row["id"]: row for row in run.pairs}
    assert {pair.caption_id for pair in pairs} == set(chosen)
    rows = run.candidates.arrow().to_pylist()
    for pair in pairs:
        folder = RatingFolder(rated_run / "r")
        first, second = (Image.open(io.BytesIO(folder.image(name))) for name in pair.images)
        assert first.tobytes() == chosen[pair.caption_id]["image"].tobytes()
        assert first.tobytes() != second.tobytes()
        others = [row for row in rows if row["caption_id"] == pair.caption_id and not row["chosen"]]
        assert pair.scores[1]["clip"] in [row["clip_score"] for row in others]
        assert pair.scores[0]["score"] == chosen[pair.caption_id]["score"]


def test_the_embedded_verifier_judges_a_run(rated_run: Path) -> None:
    result = synthvlm.rate(rated_run / "run", out=rated_run / "r", result=True)
    (judge,) = result.raters
    assert (judge.name, judge.is_model, judge.failed) == ("tiny", True, {})
    assert judge.preference is not None
    assert judge.preference.pairs == result.pairs == 3
    assert result.people is None
    for answer in RatingFolder(rated_run / "r").answers():
        assert answer.values is not None
        assert answer.choice == ("a" if answer.values[0] > answer.values[1] else "b")
    assert {one.score for one in result.scores} == {"clip", "ssim", "score"}
    # Of the sum, the chosen candidate has the higher value: agreement is how often it is preferred.
    total = next(one for one in result.scores if one.score == "score")
    assert total.share == judge.preference.without_ties


def test_the_result_on_the_command_line(rated_run: Path) -> None:
    arguments = ["rate", str(rated_run / "run"), "--out", str(rated_run / "r"), "--result"]
    text = CliRunner().invoke(app, arguments).output
    assert "A: chosen, B: other candidate; 3 pairs" in text
    assert "tiny (model)" in text
    values = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert values["raters"][0]["preference"]["pairs"] == 3
    assert values["people"] is None


def colour_of(url: str) -> str:
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        red, _, blue = image.convert("RGB").getpixel((20, 20))  # type: ignore[misc]
    return "red" if red > blue else "blue"


def judge_by(colours: dict[str, str]) -> Any:
    """An endpoint that prefers a colour for captions that hold a word; else the first picture."""

    def answer(messages: list[dict[str, Any]]) -> Reply:
        content = messages[-1]["content"]
        text = content[-1]["text"]
        shown = [colour_of(one["image_url"]["url"]) for one in content if "image_url" in one]
        for word, said in colours.items():
            if word in text:
                if said in shown:
                    return ["**First**", "The second picture."][shown.index(said)]
                return Status(400, "refused") if said == "fail" else Say(said)
        return "First"

    return answer


def test_an_endpoint_judges_both_orders(tmp_path: Path, both: tuple[Path, Path]) -> None:
    said = {"number 0": "red", "number 1": "blue", "number 2": "Tie", "number 3": "Neither"}
    with FakeEndpoint(judge_by({**said, "number 4": "fail", "number 5": "Hm."})) as endpoint:
        result = synthvlm.rate(
            *both, out=tmp_path / "r", judge="vlm", endpoint=endpoint.base_url, pairs=8
        )
        assert len(endpoint.received) == 16
        sent = endpoint.received[0].messages
    answers = {one.pair: one for one in RatingFolder(tmp_path / "r").answers()}
    found = {pair.caption_id: answers[pair.key] for pair in RatingFolder(tmp_path / "r").pairs()}
    choices = [found[f"p{n}"].choice for n in range(8)]
    # Where the first picture is preferred in both orders, that is a tie.
    assert choices == ["a", "b", "tie", "bad", None, None, "tie", "tie"]
    assert found["p6"].orders == ("a", "b")
    (judge,) = result.raters
    assert judge.orders_differ is not None
    assert judge.orders_differ.value == pytest.approx(2 / 6)
    assert sorted(judge.failed.values()) == [1, 1]
    assert any("none of First, Second, Tie, Neither: 'Hm.'" in one for one in judge.failed)
    assert "refused" in " ".join(judge.failed)
    assert sent[0]["role"] == "system"
    assert [part["type"] for part in sent[1]["content"]] == ["text", "image_url"] * 2 + ["text"]


def test_a_judge_goes_on_and_asks_again_what_failed(
    tmp_path: Path, both: tuple[Path, Path]
) -> None:
    def rate(colours: dict[str, str]) -> tuple[Any, int]:
        with FakeEndpoint(judge_by(colours)) as endpoint:
            result = synthvlm.rate(*both, out=tmp_path / "r", judge="m", endpoint=endpoint.base_url)
            return result, len(endpoint.received)

    every = {f"number {n}": "red" for n in range(8)}
    result, asked = rate({**every, "number 4": "fail"})
    assert (list(result.raters[0].failed.values()), asked) == ([1], 16)
    result, asked = rate(every)
    assert (result.raters[0].failed, asked) == ({}, 2)
    assert result.raters[0].preference.win_rate.value == 1.0


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("First", "a"),
        ("**second**.", "b"),
        ("<think>The first one ...</think>\nAnswer: Second, because it has the dog.", "b"),
        ("The first picture", "a"),
        ("1", "a"),
        ("Tie", "tie"),
        ("Neither.", "bad"),
        ("First and second", None),
        ("First or second?", None),
        ("I prefer the first", None),
        ("Firstly, both", None),
        ("", None),
    ],
)
def test_what_a_reply_says(reply: str, choice: str | None) -> None:
    assert read_choice(reply) == choice


def test_what_cannot_be_judged_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--judge MODEL --endpoint http://localhost"):
        synthvlm.rate("a", "b", judge="http://localhost:8000/v1")
    with pytest.raises(RecipeError, match="a local judge is asked"):
        synthvlm.rate("a", "b", judge="tiny", question="Which is prettier?")
    with pytest.raises(RecipeError, match="both are called 'x'"):
        synthvlm.rate("one/x", "two/x")
    with pytest.raises(RecipeError, match="name its model with --judge"):
        synthvlm.rate("a", "b", endpoint="http://localhost:8000/v1")
    with pytest.raises(RecipeError, match="leave --rater out"):
        synthvlm.rate("a", "b", judge="tiny", rater="me")
    with pytest.raises(RecipeError, match="leave --judge out"):
        synthvlm.rate("a", "b", judge="tiny", result=True)


def test_a_person_and_a_judge_are_never_one_rater(tmp_path: Path, both: tuple[Path, Path]) -> None:
    rating = prepare(tmp_path / "r", *both)
    rating.folder.add(Answer(rating.pairs[0].key, "vlm", "a", "a"))
    with pytest.raises(RunFolderError, match="'vlm' is a person here already"):
        synthvlm.rate(*both, out=tmp_path / "r", judge="vlm", endpoint="http://127.0.0.1:9/v1")


class Served:
    """The command in a process of its own, and its page."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "synthvlm", "rate", *arguments, "--no-browser"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stderr is not None
        line = self.process.stderr.readline().decode()
        self.origin, _, self.token = line.split()[-1].partition("/?token=")

    def ask(self, path: str, **values: Any) -> dict[str, Any]:
        body = json.dumps(values).encode() if values else None
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(self.origin + path, body, headers)
        with urllib.request.urlopen(request) as response:
            found: dict[str, Any] = json.load(response)
            return found

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors.decode()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.end(signal.SIGKILL)


def test_a_killed_command_goes_on(tmp_path: Path, both: tuple[Path, Path]) -> None:
    names = [*map(str, both), "--out", str(tmp_path / "r"), "--rater", "me"]
    with Served(*names) as first:
        shown = first.ask("/api/rating")
        first.ask("/api/answer", pair=shown["pair"]["pair"], choice="tie", seconds=2)
        assert first.end(signal.SIGKILL)[0] == -signal.SIGKILL
    with Served(*names) as again:
        state = again.ask("/api/rating")
        assert (state["done"], state["total"]) == (1, 8)
        assert state["pair"]["caption"] == shown["next"]["caption"]
        code, errors = again.end(signal.SIGINT)
    assert (code, "me has rated 1 of 8 pairs" in errors) == (0, True)
