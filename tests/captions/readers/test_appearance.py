"""What does not look like captions is a warning; what people write as prompts is none."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from synthvlm import tiny
from synthvlm.captions.readers.appearance import Appearance
from synthvlm.captions.readers.records import Fields
from synthvlm.data import Caption

SHARED = Path(__file__).parents[4] / "shared" / "data"


def doubts(texts: list[str], *, are_lines: bool = True) -> list[str]:
    appearance = Appearance(are_lines=are_lines)
    captions = [Caption(str(n), "web", n, text, text) for n, text in enumerate(texts)]
    assert list(appearance.watched(captions)) == captions
    lines: list[str] = []
    appearance.warn(Fields("source 'web'", "caption", None, place="sources.0", say=lines.append))
    return lines


@pytest.mark.parametrize(
    ("texts", "words", "advice"),
    [
        (["1.jpg#0\tA dog .", "1.jpg#1\tA cat ."], "names of files", "sources.0.format=flickr"),
        (["a.jpg a dog", "b.png a cat"], "begin with names of files", ""),
        (
            ["image,caption", "1.jpg,A dog in a park", "2.jpg,A cat"],
            "names of files",
            "--set 'sources.0.delimiter=\",\"' --set sources.0.text_field=caption",
        ),
        (
            ["1\ta red dog", "2\ta cat"],
            "columns",
            "--set 'sources.0.delimiter=\"\\t\"' --set sources.0.header=false "
            "--set sources.0.text_field=2",
        ),
        (["1;a red dog", "2;a cat"], "begin with numbers", "text_field=2"),
        (["a red dog,1", '"a cat, black",2'], "end in numbers", "text_field=1"),
        (["a red dog, http://x/0", "a cat, http://x/1"], "hold URLs", "text_field=1"),
        (["| id | caption |", "|---|---|", "| 1 | a dog |"], "columns", "text_field=caption"),
        (['{"caption": "a dog"}', '{"caption": "a cat"}'], "JSON", "sources.0.format=jsonl"),
        (["[", "{", '  "caption": "a dog",', '  "id": 1', "}", "]"], "JSON", "format=json"),
        (["http://x/a.jpg", "https://x/b"], "URLs", "--captions FILE"),
        (["a.jpg", "b/c.PNG"], "names of files", "--captions FILE"),
        (["/data/images/1", "/data/images/2"], "names of files", "--captions FILE"),
        (["<p>a dog</p>", "<div class='x'>a cat</div>"], "HTML", ""),
        (["<caption>a dog</caption>", "<caption>a cat</caption>"], "XML", ""),
        (["1", "2.5", "-3e5"], "numbers", ""),
        (["2024-01-01 12:00:00", "2024-01-02T12:00:00Z", "3/4/2024"], "numbers or dates", ""),
        (["COCO_val2014_000000391895", "COCO_val2014_1", "x-1"], "ids", ""),
        (["550e8400-e29b-41d4-a716-446655440000"] * 3, "ids", ""),
        (["iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"] * 3, "codes", ""),
        (['["a red dog",', '"a blue cat",', '"a bird"]'], "quotes", "format=json"),
        (["'a red dog'", "'a blue cat'"], "single quotes", ""),
        (["- caption: a dog", "- caption: a cat"], "YAML", ""),
        (["- id: 1", "caption: a dog", "- id: 2", "caption: a cat"], "YAML", ""),
        (["INSERT INTO c VALUES (1, 'a dog');", "(2, 'a cat'),"], "SQL", ""),
        ([r"{\rtf1\ansi", r"\f0\fs24 a red dog\par", r"a cat\par", "}"], "RTF", ""),
        (["import torch", "def f(x):", "return x + [1]", "y = f(2)", "print(y)"], "code", ""),
        (["#include <x.h>", "int main() {", "// a dog", "return 0;", "}"], "code", ""),
        (["d41d8cd98f00b204e9800998ecf8427e", "0cc175b9c0f1b6a831c399e269772661"] * 2, "ids", ""),
        (["d41d8cd98f00b204e9800998ecf8427e  a dog", "0cc175b9c0f1b6a83  x"], "begin with ids", ""),
        (["COCO_val2014_000000391895 A man", "COCO_val2014_000000391895 A dog"], "with ids", ""),
        (["000000391895 A man", "000000391896 A dog"], "begin with ids", ""),
        (["[/EN#1/people A group] of [/EN#2/other x]", "On [/EN#3/scene a road]"], "Entities", ""),
        (
            ["1. A red bus", "2) A cat", "(3) A dog", "[4] A bird", "5: A car", "a) A bike"],
            "marks of a list",
            "",
        ),
        (["- A red bus", "* A cat", "\u2022 A dog"], "marks of a list", ""),
        (["NULL", "None", "N/A", "#N/A", r"\N", "nan", "NA", "(null)", "-"], "no value", ""),
        (["cat", "dog", "fire_truck", "солнце"], "single words", ""),
        (["\ufffd\ufffd\ufffd a", "\ufffd\ufffd\ufffd\ufffd b"], "could not be read", ""),
    ],
)
def test_what_is_something_else_is_named_with_what_mends_it(
    texts: list[str], words: str, advice: str
) -> None:
    (line,) = doubts(texts)
    assert line.startswith("warning: source 'web': most texts do not look like captions: of ")
    assert words in line
    assert line.endswith(advice)
    # In a table or JSON, another field may hold the captions.
    (line,) = doubts(texts, are_lines=False)
    assert words in line
    assert line.endswith("name it: --set sources.0.text_field=NAME")
    # Most of them.
    assert doubts([*texts, *["a red dog"] * (len(texts) + 1)]) == []


def test_labels_of_more_than_one_word() -> None:
    labels = ["arts and crafts", "food and drink", "indoor scenes"] * 100
    (line,) = doubts(labels, are_lines=False)
    assert "300 looked at are only 3 different ones, as labels are" in line
    assert doubts(labels[:30], are_lines=False) == []


PROMPTS = {
    "tags": ["1girl, solo, long hair", "masterpiece, best quality, (1boy:1.2)", "1dog, [bad]"],
    "tags without blanks": ["1girl,solo,smile", "masterpiece,best_quality", "cat,4k"],
    "weights": ["{{masterpiece}}, girl", "[[bad]] cat", "<lora:x:0.8> a cat", "{red|blue} cat"],
    "chinese": ["一只狗", "猫", "红色的圆", "2只狗"],
    "japanese": ["東京の夜", "猫", "カタカナ"],
    "thai": ["แมวดำ", "หมา", "บ้าน"],
    "hindi": ["कुत्ता दौड़ता है", "बिल्ली", "घर"],
    "arabic": ["كلب يجري", "قطة", "بيت"],
    "russian": ["Собака бежит", "кошка на крыше", "дом"],
    "german": ["Ein Hund", "Eine Katze auf dem Dach", "Häuser am See"],
    "numbers in text": ["2 dogs on a beach", "4,000 people", "10 | ten"],
    "quoted": ['"a red dog"', '"a cat," she said', "'x' on a sign"],
    "dialogue": ['A sign that says "www.example.com"', "visit http://x.com now", "an .jpg icon"],
    "words of code": [
        "class photo (1990)",
        "import duties at a port",
        "from a hill",
        "class of 2020",
        "return of a king",
    ],
    "alternatives": ["a {red|blue}", "a dog in {park|street}", "a __color__ car"],
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_of_every_style_and_script_look_like_captions(name: str) -> None:
    assert doubts(PROMPTS[name]) == []


def test_captions_at_hand_look_like_captions() -> None:
    lines = tiny.captions_path().read_text("utf-8").splitlines()
    assert doubts([json.loads(line)["caption"] for line in lines], are_lines=False) == []
    assert doubts(lines) != []


@pytest.mark.skipif(not SHARED.is_dir(), reason="the captions are not there")
def test_real_captions_look_like_captions() -> None:
    cc3m = (SHARED / "cc3m_val_captions.txt").read_text("utf-8").splitlines()
    rows = (SHARED / "parti_prompts.tsv").read_text("utf-8").splitlines()[1:]
    table = [row.split("\t") for row in rows]
    assert doubts(cc3m) == doubts([row[0] for row in table]) == []
    for column in (1, 2):  # categories and challenges
        assert doubts([row[column] for row in table], are_lines=False) != []


def test_few_of_many_are_looked_at() -> None:
    texts = ["a red dog"] * 1000 + ["http://x/y"] * 20_000
    random.Random(0).shuffle(texts)
    (line,) = doubts(texts)
    assert "of 2,100 looked at" in line


CAPTIONS = [f"a red dog runs over field {n}" for n in range(3000)]
FLICKR = [f"{n}.jpg#0\tA dog ." for n in range(4000)]


def test_what_comes_late_is_seen() -> None:
    (line,) = doubts([*CAPTIONS, *FLICKR])
    assert "most texts do not look like captions: of 700 looked at, 400 begin with names" in line
    (line,) = doubts([*CAPTIONS, *FLICKR[:1500], *CAPTIONS])
    assert "most texts from about number 3,001 to 4,500 do not look like captions: of 150" in line
    assert doubts([*CAPTIONS, *FLICKR[:300], *CAPTIONS]) == []
