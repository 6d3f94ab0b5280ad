"""What of a recipe has terms, and what is known of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthvlm.errors import RecipeError
from synthvlm.recipe import Recipe
from synthvlm.rights import TermsInUse, terms_in_use

CLIP = "openai/clip-vit-base-patch32"


def used(*overrides: str, recipe: str = "tiny") -> dict[str, TermsInUse]:
    """By part: what a recipe uses."""
    captions = [] if recipe == "tiny" else ["captions.txt"]
    loaded = Recipe.load(recipe, captions=captions, overrides=overrides)
    return {one.part: one for one in terms_in_use(loaded)}


def test_a_model_of_several_parts_is_there_once() -> None:
    parts = used(recipe="sdxl")
    assert parts["CLIPScore, rule clip_similarity, alignment of captions"].entry_name == CLIP
    assert list(parts)[-1] == "captions"
    assert list(used(recipe="sdxl-lcm"))[:2] == ["image generation", "LoRA"]


def test_a_folder_is_unknown_whatever_its_name_and_its_card_say(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").write_text("---\nlicense: mit\n---\n")
    one = used(f"generation.model={tmp_path}/model")["image generation"]
    assert (one.licence, one.stated_licence) == (None, "mit")
    assert one.unknown is not None
    assert "name says nothing" in one.unknown
    assert one.shown_name == "model"


@pytest.mark.parametrize("card", ["---\nlicense: [\n---\n", "---\n- mit\n---\n", "no front matter"])
def test_a_card_in_a_folder_that_states_none(tmp_path: Path, card: str) -> None:
    (tmp_path / "README.md").write_text(card)
    assert used(f"generation.model={tmp_path}")["image generation"].stated_licence is None


def test_a_user_may_name_the_entry_of_a_model(tmp_path: Path) -> None:
    sdxl = "stabilityai/stable-diffusion-xl-base-1.0"
    one = used(f"generation.model={tmp_path}", f"model_terms={{{tmp_path}: {sdxl}}}")
    assert one["image generation"].entry_name == sdxl


def test_a_model_at_an_endpoint_is_unknown_under_any_name() -> None:
    url = "endpoint={url: http://localhost:1/v1}"
    model = "black-forest-labs/FLUX.1-dev"
    remote = f"generation={{model: {model}, {url.replace('=', ': ')}}}"
    one = used(remote)["image generation"]
    assert one.licence is None
    writer = f"{{model: meta-llama/Meta-Llama-3-70B-Instruct, {url.replace('=', ': ')}, "
    concepts = used(f"sources.0.concept_writer={writer}captions_per_concept: 2}}")
    assert concepts["captions of concepts"].licence is None
    assert "endpoint" in str(concepts["captions of concepts"].unknown)


def test_models_of_sections_of_a_scorer_count() -> None:
    llama = "meta-llama/Meta-Llama-3-70B-Instruct"
    parts = used(f"scoring.questions={{weight: 1.0, writer: {{model: {llama}}}}}")
    assert any(one.entry_name == llama for one in parts.values())


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        ("google/docci", "docci"),
        ("hf://datasets/google/docci/train.csv", "docci"),
        ("docci.csv", None),
        ("/data/google/docci", None),
    ],
)
def test_captions_are_known_by_their_id_on_the_hub(path: str, entry: str | None) -> None:
    assert used(f"sources=[{{path: '{path}'}}]")["captions"].entry_name == entry


def test_captions_are_known_by_the_entry_that_the_recipe_names() -> None:
    assert used("sources.0.terms=coco-captions")["captions"].entry_name == "coco-captions"
    assert used("sources=[{path: google/docci, terms: cc12m}]")["captions"].entry_name == "cc12m"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sources.0.terms=coco-caption", "sources.0.terms: .*'coco-caption'.*coco-captions"),
        ("sources.0.terms=tiny2", "no captions 'tiny2'"),
        ("sources.0.terms=openai/clip-vit-base-patch32", "no captions 'openai"),
        ("model_terms={tiny: cc3m}", "model_terms.tiny: .*no model 'cc3m'"),
        ("model_terms={tinny: tiny}", "uses no model 'tinny'.*tiny"),
    ],
)
def test_a_name_of_nothing_is_refused(change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        used(change)


def test_no_path_of_this_machine_is_on_the_card() -> None:
    recipe = Recipe.load("tiny", overrides=["model_terms={/home/ann/models/x: tiny}"])
    assert "/home" not in recipe.published().to_yaml()
    assert "x: tiny" in recipe.published().to_yaml()
