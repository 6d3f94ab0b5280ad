"""What the card says for the AI Act's summary of training content: what is known, no more."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from synthvlm.exporters.card_image_overlap import ImageOverlapFacts
from synthvlm.exporters.card_summary import SourceFacts, SummaryFacts, training_summary
from synthvlm.recipe import Recipe
from synthvlm.run_folder.folder import Marker
from synthvlm.stages.fingerprints import image_dependencies, image_fingerprint
from synthvlm.stages.summary_facts import summary_facts

SUMMARY = SummaryFacts(
    models="org/model@v1",
    size=(1024, 768),
    sources=[SourceFacts("web", "Files of the user (2)", "of a|b.txt", 1_234_567)],
)


def rows(summary: SummaryFacts) -> dict[str, str]:
    """The table's answers by what is asked for, as a reader sees them."""
    lines = [line for line in "\n".join(training_summary(summary)).splitlines() if line[:1] == "|"]
    cells = (line.replace("\\|", "\0").strip("| ").split(" | ") for line in lines[2:])
    return {name: re.sub(r"[\\`]", "", answer).replace("\0", "|") for name, answer in cells}


def test_what_was_not_looked_at_is_said_to_be_unknown() -> None:
    answers = rows(SUMMARY)
    assert answers["Modalities (1.3)"] == "image and text: one caption for each image"
    assert answers["Size (1.3)"] == (
        "1,234,567 images, each 1024 x 768 pixels (range: 1 million to 1 billion images); as many "
        "captions, tokens not counted"
    )
    assert "their language was not determined" in answers["Types of content (1.3)"]
    assert answers["Date of collection (1.3)"] == "not recorded in the data set"
    assert answers["Synthetic data (2.5): images"].endswith("by: org/model@v1")
    assert answers["Files of the user (2)"] == "web: captions of 1,234,567 pairs, of a|b.txt"
    assert answers["People"] == (
        "captions were not checked for personal data or names; whether images show people was not "
        "checked; whether any resembles a real person was not checked"
    )
    assert "was not checked; licences: see" in answers["Rights (3.1)"]
    assert answers["Illegal content (3.2)"] == (
        "captions were not checked for flagged words; images were not checked; for illegal content "
        "as such neither was"
    )
    assert answers["Marks"].endswith(
        "(trainedAlgorithmicMedia), with models, seed and run fingerprint"
    )


def test_what_was_checked_is_named() -> None:
    summary = replace(
        SUMMARY,
        image_checks=["nsfw, by org/check", "faces, by org/faces"],
        caption_checks={"flagged_words_ratio", "personal_data", "names", "language"},
        run_fingerprint="12ab",
        is_signed=True,
    )
    answers = rows(summary)
    assert answers["People"].startswith(
        "captions were checked for personal data such as addresses and phone numbers and for names "
        "of people; images were checked for faces, by org/faces;"
    )
    assert answers["Illegal content (3.2)"].startswith(
        "captions were checked for flagged words; images were checked for nsfw, by org/check and "
        "for faces"
    )
    assert "whose language was checked" in answers["Types of content (1.3)"]
    assert answers["Marks"].endswith("run fingerprint (12ab); each has a signed C2PA manifest")
    without = rows(replace(summary, has_details=False))
    assert "12ab" not in without["Marks"]


@pytest.mark.parametrize(
    ("count", "span"),
    [
        (999_999, "less than 1 million images"),
        (10**6, "1 million to 1 billion images"),
        (10**9, "more than 1 billion images"),
    ],
)
def test_the_range_of_the_template(count: int, span: str) -> None:
    sources = [SourceFacts("a", "Files of the user (2)", "", 1), *SUMMARY.sources]
    sources[1] = replace(sources[1], pairs=count - 1)
    assert f"(range: {span})" in rows(replace(SUMMARY, sources=sources))["Size (1.3)"]


def test_rights_say_what_images_were_compared_with() -> None:
    overlap = ImageOverlapFacts(["ours"], 1200, 0, 0.9, 3)
    (compared,) = [text for text in training_summary(SUMMARY, overlap) if "| Rights" in text]
    assert "not checked, but for copies of 1,200 reference images: see Captions;" in compared
    assert "reference images" not in rows(SUMMARY)["Rights (3.1)"]


def test_without_facts_there_is_no_section() -> None:
    assert training_summary(None) == []


def test_facts_come_from_the_recipe_and_the_markers() -> None:
    recipe = Recipe.load(
        "tiny",
        overrides=[
            "generation.height=72",
            "generation.safety={model: org/check, labels: [nsfw, gore]}",
            "export.image_details=false",
            "sources=[{path: tiny}, {path: org/captions, format: huggingface}, "
            "{path: 's3://bucket/secret/own.txt'}, {path: 'pictures/*.tar', name: pictures, "
            "image_captioner: {model: org/captioner}}]",
        ],
    )
    marker = Marker("f", facts={"depends": image_dependencies(recipe)})
    facts = summary_facts(recipe, {0: marker}, {"captions": 4, "pictures": 5})
    assert (facts.models, facts.size) == ("tiny", (64, 72))
    assert facts.image_checks == ["nsfw, gore, by org/check"]
    assert facts.run_fingerprint == image_fingerprint(recipe)
    assert not facts.has_details
    assert not facts.is_signed
    assert facts.caption_checks == {"flagged_words_ratio", "personal_data", "names"}
    assert [one.pairs for one in facts.sources] == [0, 4, 0, 5]
    unknown = "where its texts come from is not known to the run"
    assert [(one.section, one.origin) for one in facts.sources] == [
        ("Other sources (2.6)", "which come with synthvlm"),
        ("Data sets of the hub (2.1, if public)", "of org/captions of the Hugging Face hub"),
        ("Files of the user (2)", f"of own.txt; {unknown}"),
        ("Synthetic data (2.5): text", "written by org/captioner from the images of *.tar"),
    ]


def test_of_an_endpoint_no_size_is_claimed() -> None:
    changes = ["generation={model: some-model, endpoint: {url: 'http://localhost:1/v1'}}"]
    facts = summary_facts(Recipe.load("tiny", overrides=changes), {}, {})
    assert (facts.models, facts.size, facts.run_fingerprint) == ("some-model", None, None)
