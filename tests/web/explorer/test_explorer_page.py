"""The explorer in a real browser, by keyboard and pointer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import synthvlm
from browser import OpenPage, faults
from fake_models import run_with
from synthvlm import Recipe
from synthvlm.web.explorer.view import view
from synthvlm.web.server import LocalServer

HOSTILE = {
    "html": "<img src=x onerror=\"document.title='broken'\"> <b>bold</b> & more",
    "rtl": "كلب أحمر يجري في الحديقة",
    "emoji": "👩‍👩‍👧‍👦🐕🦺 on a 🏖️",
    "long": "word " * 1000,
    "unbroken": "x" * 5000,
}
OTHERS = 145


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 150 pairs, of two candidates each; a third is selected."""
    folder = tmp_path_factory.mktemp("explorer")
    captions = [{"id": id, "caption": text} for id, text in HOSTILE.items()]
    captions += [
        {"id": f"kite-{n:03}", "caption": f"a red kite number {n} over a green hill"}
        for n in range(OTHERS)
    ]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, captions)) + "\n")
    rules = Recipe.load("tiny").model_dump()["curation"]["rules"]
    changes = [
        *(f"curation.rules.{name}=null" for name in rules if name != "alnum_ratio"),
        "curation.rules.alnum_ratio.min=0.0",
        "curation.deduplicate=false",
        "generation.candidates=2",
        "report.preview_share=1.0",
        "selection.top_fraction=null",
        "selection.top_n=50",
    ]
    recipe = Recipe.load("tiny", captions=[folder / "captions.jsonl"], overrides=changes)
    run_with(recipe, folder / "run", until="select")
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def server(run: Path) -> Iterator[LocalServer]:
    with view(str(run)) as running:
        yield running


@pytest.fixture
def opened(server: LocalServer, open_page: OpenPage) -> Callable[..., Page]:
    """Opens the explorer and waits for its first pictures."""

    def explorer(**kind: bool) -> Page:
        page = open_page(server.address, **kind)
        expect(page.locator(".cell img").first).to_be_visible()
        return page

    return explorer


def marked(run: Path) -> list[tuple[str, str, str]]:
    return [(m.caption_id, m.reason, m.note) for m, _ in synthvlm.mark(run).marks]


def test_search_open_mark_and_take_back_by_keyboard_alone(
    run: Path, opened: Callable[..., Page]
) -> None:
    page = opened()
    expect(page.locator("#count")).to_have_text("150 of 150 pairs")
    page.keyboard.press("/")
    page.keyboard.type("kite 7 hill")
    page.keyboard.press("Enter")
    found = sum("7" in str(number) for number in range(OTHERS))
    expect(page.locator("#count")).to_have_text(f"{found} of 150 pairs")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    dialog = page.locator("#pair")
    expect(dialog.locator("h2")).to_have_text("kite-017")
    expect(dialog.locator(".candidates > li")).to_have_count(2)
    expect(dialog.locator(".candidates > li.chosen")).to_have_count(1)
    expect(dialog.locator(".command code")).to_contain_text("synthvlm regenerate")
    page.keyboard.press("ArrowRight")
    expect(dialog.locator("h2")).to_have_text("kite-027")
    page.keyboard.press("m")
    page.keyboard.press("ArrowRight")  # of wrong, ugly ...
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("two <b>kites</b>")
    page.keyboard.press("Control+Enter")
    expect(dialog.locator(".is-marked")).to_have_text("Marked as bad: ugly: two <b>kites</b>")
    assert marked(run) == [("kite-027", "ugly", "two <b>kites</b>")]
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator(".cell.marked")).to_have_count(1)
    page.keyboard.press("u")
    expect(page.locator(".cell.marked")).to_have_count(0)
    assert marked(run) == []


def test_several_are_chosen_and_marked_at_once(run: Path, opened: Callable[..., Page]) -> None:
    page = opened()
    page.locator(".cell").first.focus()
    for key in ("x", "j", "j", "x", "m", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".cell.marked")).to_have_count(2)
    assert [id for id, *_ in marked(run)] == ["html", "emoji"]
    page.keyboard.press("Escape")
    expect(page.locator("#chosen")).to_be_hidden()
    page.get_by_role("checkbox", name="wrong").check()  # the filter knows the new marks
    expect(page.locator("#count")).to_have_text("2 of 150 pairs")


def test_several_are_chosen_by_touch(opened: Callable[..., Page]) -> None:
    page = opened(phone=True)
    page.get_by_role("button", name="Choose").tap()
    for place in (0, 1, 2, 1):
        page.locator(".cell").nth(place).tap()
    expect(page.locator("#chosen-count")).to_have_text("2 chosen")
    page.get_by_role("button", name="Choose").tap()
    page.locator(".cell").nth(1).tap()
    expect(page.locator("#pair")).to_be_visible()


def test_a_pair_in_the_address_has_neighbours_only_where_they_are_known(
    opened: Callable[..., Page],
) -> None:
    page = opened()
    for row, is_off in ((0, [True, False]), (7, [False, False]), (149, [True, True])):
        page.evaluate(f"location.hash = 'pair={row}'")
        arrows = [
            page.get_by_role("button", name=f"{which} pair") for which in ("Previous", "Next")
        ]
        expect(page.locator("#pair h2")).to_have_text("html" if row == 0 else f"kite-{row - 5:03}")
        assert [arrow.is_disabled() for arrow in arrows] == is_off


def test_the_same_picture_can_be_chosen_twice(opened: Callable[..., Page], tmp_path: Path) -> None:
    page = opened()
    file = tmp_path / "picture.png"
    Image.new("RGB", (8, 8), "red").save(file)
    for _ in range(2):
        with page.expect_request("**/api/picture*"):
            page.locator("#picture").set_input_files(file)
        expect(page.locator("#active")).to_contain_text("like your picture")
        page.locator("#active button").click()
        expect(page.locator("#active li")).to_have_count(0)


def test_marks_are_counted_at_once_and_keys_work_from_a_filter(opened: Callable[..., Page]) -> None:
    page = opened()
    marks = page.locator("#filters details").filter(has_text="Marked as bad")
    expect(marks).to_contain_text("150 pairs have none")
    page.locator(".cell").first.focus()
    for key in ("m", "Enter"):
        page.keyboard.press(key)
    expect(marks).to_contain_text("149 pairs have none")
    marks.get_by_role("checkbox", name="wrong").check()
    expect(page.locator("#count")).to_have_text("1 of 150 pairs")
    page.keyboard.press("v")  # the box still has the focus
    text = (
        "There is no map of these pairs yet. It is computed once, by t-SNE of the image embeddings"
    )
    expect(page.locator("#map-panel")).to_contain_text(text)


def test_a_filter_is_in_the_address_and_back_takes_it_away(opened: Callable[..., Page]) -> None:
    page = opened()
    page.get_by_role("checkbox", name="yes").first.check()
    expect(page.locator("#count")).to_have_text("50 of 150 pairs")
    page.get_by_label("CLIPScore: at least").fill("0.9")
    page.keyboard.press("Enter")
    expect(page.locator("#active li")).to_have_count(2)
    expect(page.locator("#count")).not_to_have_text("50 of 150 pairs")
    few = page.locator("#count").text_content()
    page.reload()
    expect(page.locator("#count")).to_have_text(few or "")
    page.go_back()
    expect(page.locator("#count")).to_have_text("50 of 150 pairs")
    page.locator("#active button").click()
    expect(page.locator("#count")).to_have_text("150 of 150 pairs")


def test_sorting_and_scrolling_reach_the_last_pair(opened: Callable[..., Page]) -> None:
    page = opened()
    first = page.locator('.cell[aria-posinset="1"]')
    for change in (
        lambda: page.locator("#sort").select_option("clip_score"),
        page.locator("#direction").click,
    ):
        before = first.text_content() or ""
        change()
        expect(first).not_to_have_text(before)
    first.focus()
    page.keyboard.press("End")
    expect(page.locator('.cell[aria-posinset="150"] img')).to_be_visible()
    page.keyboard.press("Home")
    expect(page.locator('.cell[aria-posinset="1"] img')).to_be_visible()
    assert page.locator(".cell").count() < 60  # of 150: only those in view are in the page


def test_more_like_this_puts_the_pair_first(opened: Callable[..., Page]) -> None:
    page = opened()
    page.locator(".cell").nth(5).focus()
    page.keyboard.press("l")
    expect(page.locator("#active")).to_contain_text("like pair 5")
    expect(page.locator('.cell[aria-posinset="1"]')).to_contain_text("kite number 0")


def test_captions_are_text(opened: Callable[..., Page]) -> None:
    page = opened()
    for place, text in enumerate(HOSTILE.values()):
        cell = page.locator(f'.cell[aria-posinset="{place + 1}"]')
        assert text[:30] in (cell.text_content() or "")
        cell.click()
        caption = page.locator("#pair .caption")
        expect(caption).to_have_text(text.strip() if place == 3 else text)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.keyboard.press("Escape")
    assert "broken" not in page.title()
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize(("dark", "phone"), [(False, False), (True, True)])
def test_every_part_is_accessible(opened: Callable[..., Page], dark: bool, phone: bool) -> None:
    page = opened(dark=dark, phone=phone)
    assert faults(page) == []
    if phone:
        page.locator("#show-filters").click()
        assert faults(page) == []
        page.locator("#show-filters").click()
    page.locator(".cell").first.click()
    expect(page.locator("#pair")).to_be_visible()
    assert faults(page) == []
    page.keyboard.press("m")
    expect(page.locator("#marking")).to_be_visible()
    assert faults(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.locator("#show-keys").click()
    assert faults(page) == []
    page.keyboard.press("Escape")
    page.locator("#tab-map").click()
    expect(page.locator("#map-panel")).to_be_visible()
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_map_is_computed_coloured_and_filtered(opened: Callable[..., Page]) -> None:
    page = opened()
    page.locator("#tab-map").click()
    page.get_by_role("button", name="Compute the map").click()
    canvas = page.locator("#map")
    name = "Map of 150 pairs, 150 of them match"
    expect(canvas).to_have_attribute("aria-label", name)
    page.locator("#map-color").select_option("selected")
    expect(page.locator(".legend")).to_contain_text("Selected")
    page.locator("#map-color").select_option("clip_score")
    expect(page.locator(".legend svg.ramp")).to_be_visible()
    box = canvas.bounding_box()
    assert box is not None
    page.get_by_role("button", name="Lasso").click()
    page.mouse.move(box["x"] + 5, box["y"] + 50)
    page.mouse.down()
    for x, y in ((0.5, 0.1), (0.5, 0.99), (0.01, 0.99)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
    page.mouse.up()
    expect(page.locator("#active")).to_contain_text("chosen on the map")
    expect(page.locator("#count b")).not_to_have_text("150")  # the answer has come
    inside = int(page.locator("#count b").text_content() or "0")
    assert 0 < inside < 150
    page.locator("#active button").click()
    expect(page.locator("#count b")).to_have_text("150")
    touch = page.context.new_cdp_session(page)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, apart in (("touchStart", 20), ("touchMove", 40), ("touchMove", 60)):
        fingers = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.get_by_role("button", name="Filter to what is in view").press("Enter")
    expect(page.locator("#count b")).not_to_have_text("150")
    assert 0 < int(page.locator("#count b").text_content() or "0") < 100


def test_an_error_of_the_server_is_a_line(opened: Callable[..., Page], server: LocalServer) -> None:
    page = opened()
    page.evaluate("location.hash = 'sort=nonsense'")
    page.reload()
    expect(page.locator("#problem")).to_contain_text("nonsense")
