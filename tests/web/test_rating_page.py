"""The rating page: what it tells raters, what it keeps, and in a browser."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page

from browser import OpenPage, faults
from pair_files import png
from synthvlm.errors import SynthVLMError
from synthvlm.rating.folder import Answer, RatingFolder, Setup
from synthvlm.rating.prepare import Rating
from synthvlm.web.messages import Request
from synthvlm.web.rating.page import RatingPage
from synthvlm.web.server import LocalServer

LONG = "word " * 1000
HOSTILE = (
    '<img src=x onerror="document.title=1"><script>alert(1)</script> & "quoted"',
    "قطة تجلس على كرسي أحمر",
    "👩‍👩‍👧‍👦 🦊 at the 🏖️",
    LONG.strip(),
)


def picture(colour: str, size: tuple[int, int]) -> bytes:
    return png(Image.new("RGB", size, colour))


def rating_of(path: Path, captions: tuple[str, ...]) -> Rating:
    """A: wide red PNGs, B: tall blue JPEGs that are larger."""
    folder = RatingFolder(path)
    pairs = []
    for number, caption in enumerate(captions):
        jpeg = io.BytesIO()
        exif = Image.Exif()
        exif[0x0131] = "a generator"
        Image.new("RGB", (90, 120 + number), "blue").save(jpeg, "JPEG", exif=exif)
        images = picture("red", (64 + number, 48)), jpeg.getvalue()
        pairs.append(folder.add_pair(caption, f"c{number}", images, ({}, {})))
    labels = ("secret-a", "secret-b")
    setup = Setup(("a", "b"), labels, "Which picture shows the caption better?", 0, len(pairs))
    folder.write(setup, pairs)
    return Rating(folder, setup, pairs)


@pytest.fixture
def rating(tmp_path: Path) -> Rating:
    return rating_of(tmp_path / "rating", HOSTILE)


def post(page: RatingPage, path: str, **values: object) -> dict[str, object]:
    body = json.dumps(values).encode()
    found: dict[str, object] = json.loads(page.routes["POST", path](Request("", {}, body)).body)
    return found


def press(page: RatingPage, choice: str) -> None:
    post(page, "/api/answer", pair=page.state()["pair"]["pair"], choice=choice, seconds=2.5)


def test_nothing_that_the_page_gets_tells_a_from_b(rating: Rating) -> None:
    page = RatingPage(rating, "rater-1")
    shown = page.state()
    pair = next(one for one in rating.pairs if one.caption == shown["pair"]["caption"])
    text = json.dumps(shown)
    for secret in ("secret", pair.key, *pair.images, pair.caption_id, "red", "blue"):
        assert secret not in text
    sizes = []
    for side in ("left", "right"):
        token = shown["pair"][side].removeprefix("/picture/")
        response = page.routes["GET", "/picture/"](Request(token))
        with Image.open(io.BytesIO(response.body)) as image:
            assert (image.format, dict(image.getexif())) == ("WEBP", {})
            sizes.append(image.size)
    # The longest side of the smaller one, for both.
    assert sizes[0] == sizes[1] == (64 + int(pair.caption_id[1:]),) * 2


def test_sides_and_order_are_the_raters_own_and_the_same_again(tmp_path: Path) -> None:
    rating = rating_of(tmp_path, tuple(f"caption {n}" for n in range(40)))
    first, again, second = (RatingPage(rating, name) for name in ("rater-1", "rater-1", "rater-2"))
    sides = [first.left_side(pair) for pair in rating.pairs]
    assert sides == [again.left_side(pair) for pair in rating.pairs]
    assert sides != [second.left_side(pair) for pair in rating.pairs]
    assert 12 <= sides.count("a") <= 28
    assert first.state()["pair"]["caption"] == again.state()["pair"]["caption"]
    orders = [[one.caption for one in page._pairs] for page in (first, again, second)]
    assert orders[0] == orders[1] != orders[2]


def test_answers_are_kept_as_what_was_seen(rating: Rating) -> None:
    page = RatingPage(rating, "rater-1")
    first = page._pairs[0]
    for choice in ("left", "tie", "bad", "right"):
        press(page, choice)
    answers = rating.folder.answers()
    left = page.left_side(first)
    assert (answers[0].choice, answers[0].left, answers[0].seconds) == (left, left, 2.5)
    assert [one.choice for one in answers[1:3]] == ["tie", "bad"]
    last = page._pairs[3]
    assert answers[3].choice == ("b" if page.left_side(last) == "a" else "a")
    assert page.state()["pair"] is None


def test_undo_takes_the_last_answer_back_for_good(rating: Rating) -> None:
    page = RatingPage(rating, "rater-1")
    with pytest.raises(SynthVLMError, match="nothing to take back"):
        post(page, "/api/undo")
    press(page, "left")
    second = page.state()["pair"]["caption"]
    press(page, "tie")
    assert post(page, "/api/undo")["done"] == 1
    resumed = RatingPage(rating, "rater-1")
    assert (resumed.done, resumed.state()["pair"]["caption"]) == (1, second)
    assert len(rating.folder.answers()) == 1


def test_a_killed_page_goes_on_where_it_was_even_after_a_torn_line(rating: Rating) -> None:
    press(RatingPage(rating, "rater-1"), "left")
    with rating.folder.file_of("rater-1").open("ab") as file:
        file.write(b'{"pair": "torn')
    page = RatingPage(rating, "rater-1")
    assert page.done == 1
    press(page, "right")
    assert RatingPage(rating, "rater-1").done == 2


def test_two_raters_at_once_lose_nothing(rating: Rating) -> None:
    first, second = RatingPage(rating, "rater-1"), RatingPage(rating, "rater 2 / <b>")
    for page in (first, second, first, second):
        press(page, "tie")
    assert [one.rater for one in rating.folder.answers()].count("rater 2 / <b>") == 2
    assert len(rating.folder.answers()) == 4
    # A second window of one rater, which has not seen the first one's answer.
    windows = [RatingPage(rating, "rater-1"), RatingPage(rating, "rater-1")]
    press(windows[0], "left")
    press(windows[1], "left")
    assert RatingPage(rating, "rater-1").done == 3


def test_many_writers_at_once_lose_nothing(rating: Rating) -> None:
    key = rating.pairs[0].key

    def write(number: int) -> None:
        for _ in range(25):
            rating.folder.add(Answer(key, "rater-1", "tie", problem=f"{number} {LONG}"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    lines = rating.folder.file_of("rater-1").read_bytes().split(b"\n")
    whole = [json.loads(line) for line in lines if line]
    assert len(whole) == 200


@pytest.mark.parametrize(
    "values", [{}, {"pair": "x", "choice": "left"}, {"choice": "left"}, {"pair": 1, "choice": []}]
)
def test_what_is_no_answer_is_refused(rating: Rating, values: dict[str, object]) -> None:
    page = RatingPage(rating, "rater-1")
    with pytest.raises(SynthVLMError, match="reload the page"):
        post(page, "/api/answer", **values)
    with pytest.raises(SynthVLMError, match="no such picture"):
        page.routes["GET", "/picture/"](Request("../rating.json"))
    assert rating.folder.answers() == []


@pytest.fixture
def served(rating: Rating) -> Iterator[LocalServer]:
    with LocalServer(RatingPage(rating, "rater-1").routes) as server:
        yield server


def wait(page: Page, done: int) -> None:
    page.wait_for_function(
        "n => document.body.dataset.ready === 'true' && document.getElementById('bar').value === n",
        arg=done,
    )


def test_rating_by_keyboard_with_undo_and_reload(
    rating: Rating, served: LocalServer, open_page: OpenPage
) -> None:
    page = open_page(served.address)
    seen = []
    for done, key in enumerate(("ArrowLeft", "t", "b")):
        wait(page, done)
        seen.append(page.locator("#caption").text_content())
        page.keyboard.press(key)
    wait(page, 3)
    page.keyboard.press("z")
    wait(page, 2)
    assert page.locator("#caption").text_content() == seen[2]
    page.reload()
    wait(page, 2)
    assert page.locator("#count").text_content() == "2 of 4 pairs rated by rater-1"
    # A button in focus keeps it.
    page.locator("button[data-choice=right]").focus()
    page.keyboard.press("Enter")
    wait(page, 3)
    page.wait_for_function("() => document.activeElement.dataset.choice === 'right'")
    seen.append(page.locator("#caption").text_content())
    page.locator("button", has_text="Both bad").click()
    wait(page, 4)
    assert page.locator("#end").is_visible()
    # Markup, right-to-left text, emoji and 5,000 characters are text.
    assert sorted(seen) == sorted(HOSTILE)
    assert page.title() == "Rating - synthvlm"
    answers = rating.folder.answers()
    first, third = (next(p for p in rating.pairs if p.caption == seen[n]) for n in (0, 2))
    sides = RatingPage(rating, "rater-1").left_side
    said = {one.pair: one.choice for one in answers}
    assert said[first.key] == sides(first)
    assert said[third.key] == ("b" if sides(third) == "a" else "a")
    assert [one.choice for one in answers].count("tie") == 1
    assert answers[-1].choice == "bad"
    assert all(one.seconds is not None and one.seconds < 60 for one in answers)


def test_what_cannot_be_seen_cannot_be_rated(
    rating: Rating, served: LocalServer, open_page: OpenPage
) -> None:
    page = open_page(served.address)
    wait(page, 0)
    page.route("**/picture/*", lambda route: route.fulfill(body="", content_type="image/webp"))
    page.keyboard.press("t")
    page.locator("#error", has_text="A picture cannot be loaded").wait_for()
    page.keyboard.press("t")
    page.keyboard.press("ArrowLeft")
    assert page.locator("button[data-choice=left]").is_disabled()
    assert len(rating.folder.answers()) == 1


@pytest.mark.parametrize("phone", [False, True])
@pytest.mark.parametrize("dark", [False, True])
def test_both_pictures_are_equally_large_and_the_page_is_accessible(
    served: LocalServer, open_page: OpenPage, dark: bool, phone: bool
) -> None:
    page = open_page(served.address, dark=dark, phone=phone)
    wait(page, 0)
    boxes = [page.locator(f"#{side}").bounding_box() for side in ("left", "right")]
    assert boxes[0] is not None
    assert boxes[1] is not None
    for length in ("width", "height"):
        assert boxes[0][length] == pytest.approx(boxes[1][length], abs=1)
    assert boxes[0]["height"] > 120
    width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert width <= 0
    # All keys are shown, and in reach without scrolling.
    for button in page.locator("button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= (844 if phone else 800)
    assert faults(page) == []
