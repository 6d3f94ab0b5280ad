"""Personal data: a table of what must be found and of what must not, hostile texts, any text."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthvlm.captions.readers.normalize import normalize
from synthvlm.captions.rules.batch import TextBatch
from synthvlm.captions.rules.personal_data import KINDS, PersonalData, find_personal_data

# Card numbers are the issuers' public test numbers, IBANs the examples of the IBAN registry, phone
# numbers of the ranges reserved for fiction; the rest is made up.
FOUND = {
    "email": [
        "mail jane.doe@example.com now",
        "JANE@EXAMPLE.CO.UK",
        "jane_doe+tag@mail.example.org.",
        "jane . doe @ example . com",
        "jane (at) example (dot) com",
        "jane [at] example.org",
        "написать на jane@example.ru",
    ],
    "iban": [
        "DE89 3704 0044 0532 0130 00",
        "iban gb29nwbk60161331926819 thanks",
        "pay to FR14 2004 1010 0505 0001 3M02 606.",
    ],
    "payment_card": [
        "card 4111 1111 1111 1111",
        "4111111111111111",
        "5555-5555-5555-4444 exp 12/28",
        "3782 822463 10005",
        "6011 1111 1111 1117",
        "3530 1113 3330 0000",
    ],
    "national_id": [
        "his ssn 078-05-1120",
        "078 - 05 - 1120",
        "social security number is 078051120",
        "AB 12 34 56 C",
        "qq ab123456c",
    ],
    "phone": [
        "call 850 - 244 - 5117 .",
        "(212) 555-0123",
        "( 212 ) 555 - 0123",
        "212.555.0123",
        "212 555 0123 for details",
        "1-800-555-0199",
        "1-800-flowers",
        "+1 212 555 0123",
        "+44 20 7946 0958",
        "+49 (0)30 23125 000",
        "0049 30 23125 000",
        "020 7946 0958",
        "07700 900123",
        "01 99 00 12 34",
        "030/23125 000",
        "(02) 5550 1234",
        "03-1234-5678",
        "tel. 5550123",
        "tel: 98765 43210",
        "whatsapp 5550123456",
        "call us now at 555-0123",
        "phone +٤٤ ٢٠ ٧٩٤٦ ٠٩٥٨",
    ],
    "license_plate": [
        "car with license plate ABC 1234",
        "license plate abc-1234",
        "licence plate reading B-MW 1234",
        "number plate AB12 CDE",
        "a car , plate number 7ABC123 , parked",
        "registration no. AB-123-CD",
        "black taxi LB07 SEO outside",
        "bus MH 12 AB 1234 in traffic",
    ],
    "address": [
        "221B Baker Street",
        "at 1600 Pennsylvania Avenue NW , Washington",
        "12 W. 57th St., New York",
        "123 main street , springfield , il 62704",
        "123 main st springfield il 62704-1234",
        "10 downing street , london sw1a 2aa",
        "house for sale at 45 oak avenue .",
        "4 Privet Drive, Little Whinging",
        "P.O. Box 1234",
        "po box 99",
        "Hauptstraße 12, Berlin",
        "bahnhofstr. 5a",
        "12 rue de Rivoli",
    ],
}

NOT_FOUND = [
    "",
    "the winter of 2015",
    "fashion collection 2017 / 2018",
    "2015 - 2016 season",
    "1914-1918 and 1939-1945",
    "on 2015-11-06 at noon",
    "05/06/2015",
    "09.09.2015 - 10.09.2015",
    "$1,000,000 home",
    "for sale at £ 615,000 , 3 bedrooms",
    "1,234,567.89",
    "pi is 3.14159265358979",
    "1920x1080",
    "video 3840 x 2160 , 60 fps",
    "640 x 480 640 001",
    "driving route 66",
    "highway 61 revisited",
    "isbn 978-0-306-40615-7",
    "ISBN 978 0 306 40615 7",
    "isbn 0-306-40615-2",
    "ISBN 3-16-148410-0",
    "it is 10:30 am",
    "10:30 - 12:45",
    "from 9 to 5",
    "20130708 -- medium shot of girl",
    "stock photo - 15524665",
    "stock vector 18054559",
    "head of a woman 1963.679",
    "ratio 16:9",
    "temperature -40 degrees",
    "42.3601 , -71.0589",
    "192.168.100.100",
    "version 2.0.1",
    "call of duty 4",
    "call 911",
    "dial 999 now",
    "iphone 6s 2015 2016",
    "mobile phone 2015 - 2016",
    "a phone from the 20s",
    "text on 3 lines",
    "a plate of 12 oysters",
    "dinner plate 9 inch",
    "aluminum license plate",
    "license plate from the 1950s",
    "license plate in 2015",
    "license plate for 50 states",
    "license plates of 3 cars",
    "plate no 12",
    "2 way street",
    "5 people walk down the street",
    "2 dogs on a road",
    "24 hour drive",
    "a 4 wheel drive",
    "64 GB USB Drive",
    "32 gb flash drive",
    "Top 10 Scenic Drives",
    "10 Best Road Trips",
    "In 2008 Wall Street crashed",
    "Wall Street",
    "10 st . patrick's day crafts",
    "boeing 747 - 400 at gate 12",
    "one in 1 000 000",
    "15,833 captions",
    "4111 1111 1111 1112",
    "1234567812345678",
    "DE88 3704 0044 0532 0130 00",
    "000-12-3456",
    "person @ the park",
    "look at me",
    "party @ home . fun for all",
    "@username",
    "2 @ 5 dollars",
    "score 21 - 14 - 7",
    "size 36-24-36",
    "sw1a 1aa",
    "beverly hills 90210",
    "boston , ma 02110-1301",
    "https://example.com/0104/010417.html",
    "blue porsche 356 and red f-150",
    "b-52 bomber, ah-64 apache, mig-29",
    "ford f 150 1977",
]


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts]
)
def test_what_must_be_found(kind: str, text: str) -> None:
    assert [finding.kind for finding in find_personal_data(text)] == [kind]
    assert PersonalData().measure(TextBatch(["", text, "1"])).tolist() == [0, 1, 0]


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_must_not_be_found(text: str) -> None:
    found = [(f.kind, text[f.start : f.end]) for f in find_personal_data(text)]
    assert found == []


def test_every_kind_has_examples() -> None:
    assert set(FOUND) == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "text", "digits"),
    [
        ("national_id", "AB 12 34 56 C", 6),
        ("phone", "1-800-FLOWERS", 4),
        ("license_plate", "license plate ABC 1", 1),
        ("address", "calle Mayor, nº 5", 1),
        ("email", "jane dot doe at example dot com", 0),
    ],
)
def test_a_kind_is_found_with_its_fewest_digits(kind: str, text: str, digits: int) -> None:
    assert sum(map(str.isdecimal, text)) == digits
    assert [finding.kind for finding in find_personal_data(text)] == [kind]


def test_where_findings_lie() -> None:
    text = "Jane, jane.doe@example.com or 212-555-0123 at P.O. Box 12!"
    found = [(f.kind, text[f.start : f.end]) for f in find_personal_data(text)]
    assert found == [
        ("email", "jane.doe@example.com"),
        ("phone", "212-555-0123"),
        ("address", "P.O. Box 12"),
    ]


@pytest.mark.parametrize("text", ["4111 1111 1111 1111", "4111111111111111"])
def test_a_changed_digit_breaks_the_checksum(text: str) -> None:
    assert len(find_personal_data(f"card {text}")) == 1
    assert find_personal_data(f"card {text[:-1]}2") == []


def test_a_finding_counts_once_where_forms_overlap() -> None:
    assert [f.kind for f in find_personal_data("call 4111 1111 1111 1111")] == ["payment_card"]


PIECES = [
    "1", "1 ", "@", "-", "+1", "0 1", "(2", "a@", "a@a.", "a.", "(at)", "AB12 ", "de89 ",
    "call 1", "call us me now ", "license plate a-1 ", "p o box ", "10 a ", "12 Ab Cd ",
    "10 Ab Street x", "strasse ", "1-2 3.4(5)", "4 1 ", "ssn no no ", "٤-",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_hostile_texts_take_linear_time(piece: str) -> None:
    # 100 KB take 0.02 to 0.3 s; quadratic time would be minutes.
    text = (piece * 100_000)[:100_000]
    start = time.perf_counter()
    find_personal_data(text)
    assert time.perf_counter() - start < 5


any_text = st.text(
    st.one_of(st.characters(), st.characters(categories=["Cs", "Nd"]), st.sampled_from("0123-@.")),
    max_size=60,
)
parts = st.sampled_from([text for texts in FOUND.values() for text in texts])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(any_text, st.builds("{}{}".format, any_text, parts)), max_size=6))
def test_any_text(texts: list[str]) -> None:
    values = PersonalData().measure(TextBatch(texts))
    assert values.shape == (len(texts),)
    for text, value in zip(texts, values.tolist(), strict=True):
        found = find_personal_data(text)
        assert len(found) == value  # the batch's own search for candidates misses none
        assert all(0 <= f.start < f.end <= len(text) and f.kind in KINDS for f in found)
        ends = [0, *(f.end for f in found)]
        assert all(f.start >= end for f, end in zip(found, ends, strict=False))


def test_no_text_at_all() -> None:
    assert PersonalData().measure(TextBatch([])).shape == (0,)
    assert not np.any(PersonalData().measure(TextBatch(["", "\0", "\ud800"])))


#: The kinds are found right beside letters of scripts that have no spaces between words, or write
#: short words together with the next.
BESIDE_LETTERS = [
    ("email", "联系{}购买", "john@example.com"),
    ("email", "연락은 {}으로", "kim@example.co.kr"),
    ("email", "ติดต่อ{}ได้", "info@example.com"),
    ("email", "راسلوا{}قبل الجمعة", "info@example.com"),
    ("email", "メールは{}まで", "ｊａｎｅ＠ｅｘａｍｐｌｅ．ｃｏｍ"),
    ("payment_card", "卡号{}号", "4111111111111111"),
    ("payment_card", "カード{}です", "４１１１ １１１１ １１１１ １１１１"),
    ("phone", "電話は{}です", "090-1234-5678"),
    ("phone", "간판에 {}이라고", "010-1234-5678"),
    ("phone", "ป้าย{}ครับ", "081-234-5678"),
    ("phone", "للإيجار{}فقط", "٠٥٠ ١٢٣ ٤٥٦٧"),
    ("phone", "दुकान {}पर", "९८७६५ ४३२१०"),
    ("iban", "账户{}付款", "DE89370400440532013000"),
    ("national_id", "证件{}复印件", "11010519491231002X"),
    ("license_plate", "出租车{}停着", "LB07 SEO"),
]


@pytest.mark.parametrize(("kind", "around", "data"), BESIDE_LETTERS)
def test_letters_without_spaces_may_stand_right_beside(kind: str, around: str, data: str) -> None:
    for text in (around.format(data), normalize(around.format(data))):
        found = find_personal_data(text)
        assert [finding.kind for finding in found] == [kind]
        assert len(text[found[0].start : found[0].end]) == len(data)


@pytest.mark.parametrize(
    "text",
    ["用户@例子.广告", "почта@пример.рф", "jörg@müller.example", "मेल@उदाहरण.भारत",
     "jane dot porter at example dot com", "jane.porter at example.com",
     "carmen punto ruiz arroba ejemplo punto es", "anna małpa przykład kropka pl",
     "anna (at) beispiel (punkt) de", "анна собака пример точка ру"],
)  # fmt: skip
def test_emails_of_any_script_and_as_they_are_spoken(text: str) -> None:
    assert [finding.kind for finding in find_personal_data(f"x: {text}")] == ["email"]
    assert PersonalData().measure(TextBatch([f"x: {text}"])).tolist() == [1]


@pytest.mark.parametrize(
    "text",
    ["a polka dot dress at the party", "look at the dot on the i", "the shop at example.com",
     "a point at the end dot dot dot", "un punto en el mapa"],
)  # fmt: skip
def test_words_for_signs_alone_are_no_email(text: str) -> None:
    assert find_personal_data(text) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("11010519491231002X", "110105194912310021"),
        ("529.982.247-25", "529.982.247-26"),
        ("12345678Z", "12345678A"),
        ("RSSMRA85T10A562S", "RSSMRA85T10A562T"),
        ("2 69 05 49 588 157 80", "2 69 05 49 588 157 81"),
        ("2345 6789 0124", "2345 6789 0125"),
        ("811218-9876", "811218-9877"),
        ("131052-308T", "131052-308U"),
        ("900101-1234568", "901301-1234568"),
    ],
)
def test_national_numbers_hold_their_checksum_or_date(right: str, wrong: str) -> None:
    assert [f.kind for f in find_personal_data(f"a card with {right} on it")] == ["national_id"]
    assert [f.kind for f in find_personal_data(f"a card with {wrong} on it")] == []
