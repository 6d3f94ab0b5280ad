"""The figures of recall and precision that cards and docs quote are those of the rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import privacy
from synthvlm.captions.rules.privacy_figures import FIGURES_FILE, Figures

DOCS = Path(__file__).parents[3] / "docs" / "curation.md"


@pytest.fixture(scope="module")
def results() -> dict[str, Figures]:
    return {name: privacy.figures(privacy.labelled_captions(name)) for name in privacy.SETS}


def test_the_figures_in_the_package_are_those_of_the_rules(results: dict[str, Figures]) -> None:
    """Where they are not: ``python benchmarks/privacy.py --write``, and the table in the docs."""
    assert FIGURES_FILE.read_text("utf-8") == privacy.figures_json(results)


def test_the_captions_are_many_and_half_of_them_hold_nothing() -> None:
    captions = [caption for name in privacy.SETS for caption in privacy.labelled_captions(name)]
    nothing = sum(not caption.holds for caption in captions)
    assert len(captions) >= 400
    assert 0.4 <= nothing / len(captions) <= 0.6
    assert len({caption.language for caption in captions}) >= 12
    assert {kind for caption in captions for kind in caption.holds} == {
        *privacy.KINDS,
        privacy.NAME,
    }


def test_recall_and_precision_do_not_fall(results: dict[str, Figures]) -> None:
    for name in privacy.SETS:
        for rule in ("personal_data", "person_names"):
            total = results[name].total(rule)
            assert total.correct >= 0.9 * total.actual
            assert total.correct >= 0.9 * total.reported


def test_the_docs_show_the_figures(results: dict[str, Figures]) -> None:
    lines = DOCS.read_text("utf-8").splitlines()
    for name in privacy.SETS:
        assert [line for line in privacy.tables(name, results[name]) if line not in lines] == []
