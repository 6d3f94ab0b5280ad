"""People's names: a table of what must be found and of what must not, hostile and any texts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthvlm.captions.rules.base import ModelRule, Subject
from synthvlm.captions.rules.batch import TextBatch
from synthvlm.captions.rules.name_forms import NameForms
from synthvlm.captions.rules.name_text import folded_words
from synthvlm.captions.rules.person_names import PersonNames, TaggedNames, load_allowed_names
from synthvlm.errors import RecipeError

# All names are made up of common ones.
FOUND = [
    ("Mrs. Jane Porter waters her roses", ["Mrs. Jane Porter"]),
    ("mrs . jane porter waters her roses", ["mrs . jane porter"]),
    ("Portrait of Jane Porter at the beach", ["Jane Porter"]),
    ("Jane Zabriskie, a teacher, in her garden", ["Jane Zabriskie"]),
    ("Jane Porter's garden in May", ["Jane Porter"]),
    ("Jane and John Porter on a boat", ["John Porter"]),
    ("Jane Porter and John Miller on a boat", ["Jane Porter", "John Miller"]),
    ("Jane M. Porter reads a book", ["Jane M. Porter"]),
    ("J. R. Porter opens the door", ["J. R. Porter"]),
    ("the painter J. Porter at work", ["J. Porter"]),
    ("Dr. Okonkwo explains the chart", ["Dr. Okonkwo"]),
    ("Prof. Dr. Zabriskie gives a talk", ["Prof. Dr. Zabriskie"]),
    ("Captain Miller on the bridge", ["Captain Miller"]),
    ("mr smith at his desk", ["mr smith"]),
    ("Maria de la Cruz sings in a choir", ["Maria de la Cruz"]),
    ("Jan van der Meer rides a bike", ["Jan van der Meer"]),
    ("Lake view with José García and his dog", ["José García"]),
    ("Søren Sørensen in the snow", ["Søren Sørensen"]),
    ("Anne-Marie Dubois holds a cup", ["Anne-Marie Dubois"]),
    ("Priya Patel cooks dinner", ["Priya Patel"]),
    ("Kwame Mensah plays the drums", ["Kwame Mensah"]),
    ("Mohammed Al Sayed in the market", ["Mohammed Al Sayed"]),
    ("Mark Walker climbs a hill", ["Mark Walker"]),
    ("Rose Johnson picks apples", ["Rose Johnson"]),
    ("a photo of jane porter and her cat", ["jane porter"]),
    ("JANE PORTER AT THE BEACH", ["JANE PORTER"]),
    ("Jane Porter Wearing A Red Dress At Dinner", ["Jane Porter"]),
    ("Jane Porter", ["Jane Porter"]),
    # The family name first
    ("Zhang Wei rides a bicycle", ["Zhang Wei"]),
    ("Park Ji-hoon plays the piano", ["Park Ji-hoon"]),
    ("Tran Thi Mai sells flowers", ["Tran Thi Mai"]),
    ("Nagy István is fishing", ["Nagy István"]),
    # Other languages and scripts
    ("La signora Bianchi stende il bucato", ["signora Bianchi"]),
    ("Иван Петров чинит велосипед", ["Иван Петров"]),
    ("Портрет Анны Смирновой у окна", ["Анны Смирновой"]),
    ("Кузнецова Мария Ивановна ведёт урок", ["Кузнецова Мария Ивановна"]),
    ("иван петров чинит велосипед", ["иван петров"]),
    ("Ο Γιώργος Παπαδόπουλος ψαρεύει", ["Γιώργος Παπαδόπουλος"]),
    ("محمد الأحمد يبيع الفاكهة", ["محمد الأحمد"]),
    ("الدكتور خالد منصور يفحص طفلا", ["الدكتور خالد منصور"]),
    ("דוד כהן מתקן אופניים", ["דוד כהן"]),
    ("अमित शर्मा पौधे लगा रहे हैं", ["अमित शर्मा"]),
    ("王伟在公园里打太极", ["王伟"]),
    ("摄影师陈志强的作品", ["陈志强"]),
    ("张先生的书房", ["张先生"]),
    ("佐藤健太が走っている", ["佐藤健太"]),
    ("田中さんが笑っている", ["田中さん"]),
    ("김민수가 자전거를 탄다", ["김민수"]),
    ("박지영 씨가 꽃에 물을 준다", ["박지영"]),
    ("นายสมชาย ใจดี ขายผลไม้", ["นายสมชาย ใจดี"]),
]
NOT_FOUND = [
    "",
    "a rose garden in may",
    "grace and joy mark the day",
    "will smith metal into a sword",
    "person , an actor , arrives at the premiere",
    "christian art in paris , texas",
    "jack russell on a lawn",
    "mr and mrs mugs on a table",
    "dr pepper can on a table",
    "jordan river and virginia beach",
    "rob the bank",
    "a frank hill",
    "A rose garden in May",
    "Rose Garden",
    "The Rose Garden In Spring Is Beautiful",
    "Paris Fashion Week opens in the rain",
    "Virginia Beach at sunset",
    "Charlotte Airport from the air",
    "Victoria Falls in Africa",
    "Jordan River near the Dead Sea",
    "San Diego Garcia Street on a map",
    "the Grand Canyon in Arizona",
    "Mr. and Mrs. mugs on a table",
    "Captain America shield on a wall",
    "Miss Universe smiles in a gown",
    "Lady Liberty in New York",
    "an army truck of the U.S. Army",
    "the L.A. Lakers play at home",
    "Washington D.C. Monument at night",
    "May Day parade in Berlin",
    "Summer Holiday on the island",
    "Jane at the beach",
    "A dog named Max",
    "Will you come to the party?",
    "Mark your calendar, Friday is near",
    # Named after somebody
    "A Jack Russell on a lawn",
    "The Mona Lisa behind glass",
    "A bottle of Jack Daniels on a bar",
    "a Calvin Klein billboard",
    "Harry Potter books on a chair",
    "John F. Kennedy Airport from above",
    "Abraham Lincoln Memorial at dusk",
    "a statue of Abraham Lincoln",
    "St. Mary Magdalene church",
    "Het Anne Frank Huis met een rij",
    "Le lycée Victor Hugo sous la neige",
    "El museo Pablo Picasso con cola",
    "Памятник Александру Пушкину в парке",
    "Đường Nguyễn Huệ về đêm",
    "مسجد محمد علي في القاهرة",
    "רחוב דוד כהן בלילה",
    # Words of scripts without capitals
    "高山上的白色小屋",
    "许多老师在黄金色的麦田",
    "松本城と桜",
    "高橋の上から川を見る",
    "한국어 선생님의 교실",
    "김치와 김밥이 놓인 상",
    "นายกรัฐมนตรีบนเวที",
    "นางแบบเดินบนเวที",
    # Surnames that are words
    "Sun Hat on a chair",
    "the Tang Dynasty vase",
    "a Feng Shui room",
]


@pytest.fixture(scope="module")
def forms() -> NameForms:
    return NameForms()


@pytest.mark.parametrize(("text", "names"), FOUND)
def test_what_must_be_found(forms: NameForms, text: str, names: list[str]) -> None:
    assert forms.find(["", text, "a dog"]) == [[], names, []]


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_must_not_be_found(forms: NameForms, text: str) -> None:
    assert forms.find([text]) == [[]]


@pytest.mark.parametrize("text", ["Mr. Jane", "dr. jane", "Jane Porter\nMiller"])
def test_a_name_ends_with_its_text_or_line(forms: NameForms, text: str) -> None:
    assert all("\n" not in name for name in forms.find([text])[0])


def test_allowed_names_are_left_alone(forms: NameForms) -> None:
    rule = PersonNames(forms, ["Jane Porter", "Søren Sørensen"])
    texts = [
        "Jane Porter waves at the crowd",
        "JANE PORTER AT THE BEACH",
        "Mrs. Porter waves at the crowd",
        "Dr. Jane Porter waves at the crowd",
        "Soren Sorensen in the snow",
        "Mary Porter waves at the crowd",
        "Jane Miller waves at the crowd",
        "Jane Porter meets John Miller in a bar",
        "Jane Porter-Miller in the snow",
    ]
    assert rule.measure(TextBatch(texts)).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_allowed_names_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "allowed.txt"
    path.write_text("# painters\n\n Jane Porter \nJosé García\n", "utf-8")
    assert load_allowed_names(path) == ("Jane Porter", "José García")
    path.write_text("# none\n", "utf-8")
    with pytest.raises(RecipeError, match="holds no name"):
        load_allowed_names(path)
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(RecipeError, match="UTF-8"):
        load_allowed_names(path)
    with pytest.raises(RecipeError, match="No such file"):
        load_allowed_names(tmp_path / "missing.txt")


def test_an_allowed_entry_without_a_word_allows_nothing(forms: NameForms) -> None:
    batch = TextBatch(["Jane Porter waves at the crowd"])
    assert PersonNames(forms, ["", "!?"]).measure(batch).tolist() == [1]


def test_any_recogniser_serves() -> None:
    class Capitals:
        def find(self, texts: Sequence[str]) -> list[list[str]]:
            return [[word for word in text.split() if word.istitle()] for text in texts]

    rule = PersonNames(Capitals(), ["Jane"])
    assert rule.measure(TextBatch(["Jane meets Bo", "a dog", ""])).tolist() == [1, 0, 0]


def test_words_without_case_accents_and_possessives() -> None:
    assert folded_words("José's Łódź, O\u2019Brien Anne-Marie ß") == [
        "jose",
        "lodz",
        "o'brien",
        "anne-marie",
        "ss",
    ]


PIECES = ["Jane ", "dr ", "Dr. ", "A. ", "J", "Jane de ", "jane-", "Jane Mary ", "é", "San ", "O'",
          "Jane Porter waves ", "a-B"]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_hostile_texts_take_linear_time(forms: NameForms, piece: str) -> None:
    # 100 KB take about 0.1 s; quadratic time would be minutes.
    start = time.perf_counter()
    forms.find([(piece * 100_000)[:100_000]])
    assert time.perf_counter() - start < 5


wild = st.text(st.one_of(st.characters(codec=None), st.sampled_from("AJ. '-\u2019é")), max_size=40)
near = st.lists(
    st.sampled_from(
        ["Dr.", "mrs", "Jane", "J.", "Porter's", "de", "San", "Rose", "mark", "\ud800"]
    ),
    max_size=8,
).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(st.one_of(wild, near), max_size=6))
def test_any_text(forms: NameForms, texts: list[str]) -> None:
    found = forms.find(texts)
    assert [len(names) for names in found] == PersonNames(forms).measure(TextBatch(texts)).tolist()
    for text, names in zip(texts, found, strict=True):
        assert all(name in text for name in names)
        assert [names] == forms.find([text])  # whatever else is in the batch


def test_no_text_at_all(forms: NameForms) -> None:
    assert forms.find([]) == []
    values = PersonNames(forms).measure(TextBatch([]))
    assert values.shape == (0,)
    assert values.dtype == np.float64


class EveryWord:
    """Takes every capitalised word for a name."""

    def find(self, texts: Sequence[str]) -> list[list[str]]:
        return [[word for word in text.split() if word.istitle()] for text in texts]


def test_names_found_by_a_model_are_counted_without_the_allowed_ones() -> None:
    rule: ModelRule = TaggedNames(EveryWord(), allowed=["Ada"])
    measured = rule.measure([Subject("Ada and Jane and Bob"), Subject("no one"), Subject("")])
    assert measured.values.tolist() == [2, 0, 0]
    assert measured.problems == (None, None, None)
