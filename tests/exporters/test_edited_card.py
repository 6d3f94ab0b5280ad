"""A card that a user edits: what is theirs stays, what is ours is written anew."""

from __future__ import annotations

import pytest
import yaml

from synthvlm.errors import RunFolderError
from synthvlm.exporters.edited_card import BEGIN, END, card_facts_of, is_intact, merged_card


def card(pairs: int, **header: object) -> str:
    front = {"pretty_name": "Pairs", "tags": ["synthetic"], "size_categories": [f"n<{pairs}"]}
    front |= {"configs": [{"config_name": f"c{pairs}"}], **header}
    text = yaml.safe_dump(front, sort_keys=False)
    return f"---\n{text}---\n\n{BEGIN}\n\n# {pairs} pairs\n\n{END}\n"


def header(text: str) -> dict[str, object]:
    values = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(values, dict)
    return values


def test_a_card_that_nobody_edited_becomes_the_new_one() -> None:
    assert merged_card(card(5), card(4), card_facts_of(card(4))) == card(5)
    renamed = card(4, license="mit")
    assert merged_card(card(5), renamed, card_facts_of(renamed)) == card(5)


def test_texts_keys_and_values_of_the_user_stay() -> None:
    edited = card(4, tags=["mine"], license="cc0-1.0", language=["en"], annotations="none")
    edited = edited.replace(BEGIN, f"# My title\n\nWhy.\n\n{BEGIN}") + "\n## Citation\n\nMe.\n"
    new = merged_card(card(5), edited, card_facts_of(card(4)))
    assert header(new) == {
        "pretty_name": "Pairs",
        "tags": ["mine"],
        "size_categories": ["n<5"],
        "configs": [{"config_name": "c5"}],
        "license": "cc0-1.0",
        "language": ["en"],
        "annotations": "none",
    }
    body = new.split("---\n", 2)[2]
    assert body.startswith(f"\n# My title\n\nWhy.\n\n{BEGIN}\n\n# 5 pairs\n\n{END}")
    assert body.endswith("\n## Citation\n\nMe.\n")
    # Once more, nothing is doubled.
    assert merged_card(card(5), new, card_facts_of(card(5))) == new


def test_a_key_that_the_user_removed_stays_away() -> None:
    edited = card(4).replace("pretty_name: Pairs\n", "")
    assert "pretty_name" not in merged_card(card(5), edited, card_facts_of(card(4)))


def test_a_card_without_our_part_gets_it_and_keeps_its_text() -> None:
    new = merged_card(card(5), "# All mine\n", card_facts_of(card(4)))
    assert "# All mine" in new
    assert f"{BEGIN}\n\n# 5 pairs\n\n{END}" in new


@pytest.mark.parametrize(
    ("edited", "intact"),
    [
        (card(4), True),
        (card(4, tags=["mine"]) + "\nmore\n", True),
        (card(4).replace("\n", "\r\n"), True),
        (card(4).replace("# 4 pairs", "# 9 pairs"), False),
        (card(4).replace(END, ""), False),
        (card(4).replace("c4", "c9"), False),
        (card(4).replace("---\n", "---\n: [\n", 1), False),
        (card(4)[:60], False),
        ("", False),
    ],
)
def test_only_our_part_and_its_names_of_files_must_be_as_exported(
    edited: str, intact: bool
) -> None:
    assert is_intact(edited.encode(), card_facts_of(card(4))) is intact
    assert not is_intact(edited.encode(), None)


def test_a_header_that_is_no_yaml_is_refused_in_a_line() -> None:
    for broken in ("---\na: [\n---\n", "---\njust text\n---\n", "---\nnever: closed\n"):
        with pytest.raises(RunFolderError, match=r"dataset/README\.md: its header"):
            merged_card(card(5), broken, None)
