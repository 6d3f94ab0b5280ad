"""What the data-set card says of the rules on personal data and names."""

from __future__ import annotations

import pytest

from synthvlm.captions.rules.privacy_figures import read_figures
from synthvlm.recipe import Recipe
from synthvlm.stages.card_facts import privacy_figures

OFF = {
    "personal_data": "curation.rules.personal_data=null",
    "person_names": "curation.rules.person_names=null",
}


def test_figures_are_those_of_captions_that_were_held_out() -> None:
    by_language, by_kind = privacy_figures(Recipe.load("tiny"))
    figures = read_figures()["held_out"]
    data, names = figures.total("personal_data"), figures.total("person_names")
    assert by_language[1] == ["all", str(data.captions), *data.cells(), *names.cells()]
    assert [row[0] for row in by_language[2:]] == list(figures.personal_data)
    assert dict.fromkeys(row[0] for row in by_kind[1:]).keys() >= {"email", "payment card", "name"}


@pytest.mark.parametrize("rule", OFF)
def test_figures_of_a_rule_that_is_off_are_left_out(rule: str) -> None:
    by_language, by_kind = privacy_figures(Recipe.load("tiny", overrides=[OFF[rule]]))
    assert len(by_language[0]) == 4
    assert ("name" in [row[0] for row in by_kind]) == (rule == "personal_data")


def test_there_are_none_where_neither_rule_is_on() -> None:
    assert privacy_figures(Recipe.load("tiny", overrides=list(OFF.values()))) == []
