from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from synthvlm.components.settings import chosen_values, published_name
from synthvlm.errors import RecipeError
from synthvlm.recipe import RECIPES, Recipe
from synthvlm.scorers import SCORERS
from synthvlm.scorers.clip import ClipSettings
from synthvlm.scorers.ssim import SsimSettings

SOURCES = {"sources": [{"path": "captions.txt"}]}


def refusal(values: dict[str, object]) -> str:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_values(SOURCES | values)
    return str(caught.value)


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "my.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"generaton": {}}, "recipe: generaton: unknown key, did you mean 'generation'?"),
        (
            {"generation": {"guidance": 3.0}},
            "recipe: generation.guidance: unknown key, did you mean 'guidance_scale'?",
        ),
        (
            {"generation": {"image": {"formt": "png"}}},
            "recipe: generation.image.formt: unknown key, did you mean 'format'?",
        ),
        (
            {"generation": {"refiner": {"model": "x", "denoising_spilt": 0.8}}},
            "recipe: generation.refiner.denoising_spilt: unknown key, "
            "did you mean 'denoising_split'?",
        ),
        (
            {"curation": {"rules": {"char_rep_ratio": {"n_gram": 5, "max": 0.1}}}},
            "recipe: curation.rules.char_rep_ratio.n_gram: unknown key, did you mean 'ngram'?",
        ),
        (
            {"sources": [{"path": "a.txt"}, {"path": "b.txt", "textfield": "c"}]},
            "recipe: sources.1.textfield: unknown key, did you mean 'text_field'?",
        ),
    ],
)
def test_unknown_key_is_refused_with_its_path_and_the_nearest_name(
    values: dict[str, object], line: str
) -> None:
    assert refusal(values) == line


def test_unknown_key_that_resembles_none_is_answered_with_the_valid_names() -> None:
    assert (
        refusal({"scoring": {"zzz": 1}})
        == f"recipe: scoring.zzz: there is no scorer 'zzz' (valid: {', '.join(SCORERS.names())}); "
        "one of your own is added by --plugin FILE.py"
    )


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ({"seed": "7"}, "recipe: seed: input should be a valid integer (got '7')"),
        ({"seed": True}, "recipe: seed: input should be a valid integer (got True)"),
        ({"seed": -1}, "recipe: seed: input should be greater than or equal to 0 (got -1)"),
        ({"seed": 2**63}, "recipe: seed: input should be less than "),
        ({"generation": 5}, "recipe: generation: expected settings (KEY: VALUE), not 5"),
        ({"generation": None}, "recipe: generation: expected settings (KEY: VALUE), not nothing"),
        ({"generation": {"steps": 1.5}}, "recipe: generation.steps: input should be a valid int"),
        ({"generation": {"dtype": "fp16"}}, "recipe: generation.dtype: input should be 'auto', "),
        ({"curation": {"rules": {"alnum_ratio": {"min": float("nan")}}}}, "recipe: curation.rules"),
        ({"scoring": {"ssim": {"weight": float("inf")}}}, "recipe: scoring.ssim.weight: input sho"),
        ({"selection": {"top_fraction": 1.1}}, "recipe: selection.top_fraction: input should be"),
        (
            {"export": {"formats": ["lava"]}},
            "recipe: export.formats.0: there is no exporter 'lava', did you",
        ),
        ({"run": {"device": "gpu"}}, "recipe: run.device: string should match pattern"),
        ({"run": {"threads": "many"}}, "recipe: run.threads: input should be 'auto' (got 'many'),"),
        ({"limit": 0}, "recipe: limit: input should be greater than or equal to 1 (got 0)"),
        (
            {"selection": {"method": "quotas", "options": {"bins": [0.1, float("nan")]}}},
            "recipe: selection.options.bins.1: input should be a finite number (got nan)",
        ),
        (
            {"selection": {"method": "quotas", "options": {"field": "source", "shares": "even"}}},
            "recipe: selection.options.shares: input should be 'proportional' or 'equal' (got",
        ),
    ],
)
def test_wrong_value_is_refused_with_its_path(values: dict[str, object], start: str) -> None:
    message = refusal(values)
    assert message.startswith(start)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"selection": {"top_n": 1, "top_fraction": 0.5}}, "--set selection.top_fraction=null"),
        (
            {"selection": {"method": "quotas", "options": {"field": "text_embedding"}}},
            "leave it out, and quotas are by clusters",
        ),
        (
            {"selection": {"method": "coverage"}, "scoring": {"clip": None}},
            "ssim gives none: they come from a scorer such as clip",
        ),
        (
            {"selection": {"near_duplicate_images": {}}, "scoring": {"clip": None}},
            "ssim gives none: they come from a scorer such as clip",
        ),
        ({"curation": {"rules": {"alnum_ratio": {"min": 0.9, "max": 0.1}}}}, "nothing could pass"),
        (
            {
                "curation": {
                    "rules": {"char_count": {"min": 1, "languages": {"de": {"min": 9, "max": 1}}}}
                }
            },
            "nothing could pass",
        ),
        ({"curation": {"rules": {"alnum_ratio": {}}}}, "alnum_ratio: needs min, max or both"),
        ({"generation": {"image": {"quality": 90}}}, "generation.image: png is lossless"),
        ({"generation": {"height": 100}}, "generation: height must be a multiple of 8, not 100"),
        (
            {"generation": {"steps": 1, "refiner": {"model": "x", "denoising_split": 0.2}}},
            "leaves the base model no step",
        ),
        ({"scoring": {"ssim": {"side": 64, "model_input_side": 64}}}, "must be below side 64"),
        ({"scoring": {"clip": {"weight": 0}, "ssim": {"weight": 0}}}, "nothing to rank by"),
        ({"sources": [{"path": "a/c.txt"}, {"path": "b/c.txt"}]}, "two sources are named 'c'"),
        ({"run": {"threads": 0}}, "run: threads must be at least 1, not 0"),
    ],
)
def test_impossible_combination_is_refused(values: dict[str, object], line: str) -> None:
    assert line in refusal(values)


def test_what_is_wrong_with_the_whole_has_one_prefix() -> None:
    twice = {"sources": [{"path": "a/c.txt"}, {"path": "b/c.txt"}]}
    assert refusal(twice).startswith("recipe: two sources are named 'c'")
    assert refusal(twice).endswith(": --set sources.1.name=c-1")
    with pytest.raises(RecipeError, match=r"^my\.yaml: expected settings \(KEY: VALUE\), not \[\]"):
        Recipe.from_values([], "my.yaml")  # type: ignore[arg-type]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = "seed: x\ngeneration: {stepz: 4, image: {formt: png}}\nselction: {}\nrun: {threads: 0}"
    with pytest.raises(RecipeError) as caught:
        Recipe.load(written(tmp_path, text))
    lines = str(caught.value).splitlines()
    assert sorted(line.split(": ")[1] for line in lines) == [
        "generation.image.formt",
        "generation.stepz",
        "run",
        "seed",
        "selction",
        "sources",
    ]


@pytest.mark.parametrize("name", ["sdxl", "sd3"])
def test_recipe_without_captions_says_how_to_name_them(name: str) -> None:
    with pytest.raises(RecipeError, match=f"^{name}: sources: no captions are named: add --capt"):
        Recipe.load(name)


def test_long_values_are_shortened_in_messages() -> None:
    assert len(refusal({"seed": "9" * 1_000_000})) < 200


def test_keys_with_newlines_stay_on_one_line() -> None:
    assert refusal({"a\nb": 1}).startswith("recipe: 'a\\nb': unknown key")


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("generation.steps=30", "generation.steps", 30),
        ("generation.guidance_scale=1e-1", "generation.guidance_scale", 0.1),
        ("generation.model=org/name=x", "generation.model", "org/name=x"),
        ("generation.negative_prompt=null", "generation.negative_prompt", None),
        ("generation.negative_prompt='null'", "generation.negative_prompt", "null"),
        ("curation.rules.alnum_ratio={min: 0.5}", "curation.rules.alnum_ratio.min", 0.5),
        ("curation.rules.alnum_ratio=null", "curation.rules.alnum_ratio", None),
        ("curation.rules.alnum_ratio.min=0.5", "curation.rules.alnum_ratio.min", 0.5),
        ("export.formats=[llava]", "export.formats", ["llava"]),
        ("export.instructions=[Look., Say.]", "export.instructions.1", "Say."),
        ("sources.0.name=web", "sources.0.name", "web"),
        ("curation.deduplicate=false", "curation.deduplicate", False),
    ],
)
def test_set_changes_one_setting(change: str, path: str, value: object) -> None:
    found: object = Recipe.load("tiny", overrides=[change]).model_dump()
    for part in path.split("."):
        found = found[int(part)] if isinstance(found, list) else found[part]  # type: ignore[index]
    assert found == value


def test_later_set_wins() -> None:
    recipe = Recipe.load("tiny", overrides=["generation.steps=3", "generation.steps=4"])
    assert recipe.generation.steps == 4


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("generation.steps", "--set generation.steps: expected KEY=VALUE"),
        ("=5", "--set =5: expected KEY=VALUE"),
        ("generation.steps=[", "the value is not valid YAML"),
        ("generation.steps=2026-99-99", "the value is not valid YAML"),
        ("generation.steps=!!python/name:os.system", "the value is not valid YAML"),
        ("sources.1.name=x", "expected a number below 1, not '1'"),
        ("sources.first.name=x", "expected a number below 1, not 'first'"),
        ("sources.-1.name=x", "expected a number below 1, not '-1'"),
        ("generation.stesp=3", "tiny: generation.stesp: unknown key, did you mean 'steps'?"),
        ("generation.steps.x=3", "tiny: generation.steps: input should be a valid integer"),
        ("generation..steps=3", "tiny: generation.: unknown key"),
    ],
)
def test_bad_set_is_refused(change: str, problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.load("tiny", overrides=[change])
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed: 1\nrun: {}\nseed: 2\n", "line 3: key 'seed' is given twice"),
        ("run:\n  batch_size: 1\n  batch_size: 2\n", "line 3: key 'batch_size' is given twice"),
        ("seed: [", "line 1: "),
        ("seed: 1\n\tlimit: 2\n", "line 2: "),
        ("seed: *nowhere", "undefined alias"),
        ("seed: !!int ''", "not valid YAML"),
        ("seed: 2026-99-99", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "another document"),
        ("", "is not a mapping of settings"),
        ("# nothing but a comment", "is not a mapping of settings"),
        ("- seed: 1", "is not a mapping of settings"),
        ("just words", "is not a mapping of settings"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "is not text in UTF-8"),
        (b"seed: 1\x00", "not valid YAML"),
    ],
)
def test_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str | bytes, problem: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path, captions=["a.txt"])
    message = str(caught.value)
    assert message.startswith(f"recipe {path}")
    assert problem in message
    assert "\n" not in message


def test_yaml_tags_run_nothing(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    path = written(tmp_path, f"seed: !!python/object/apply:os.system ['touch {witness}']")
    with pytest.raises(RecipeError, match=r"python/object/apply:os\.system"):
        Recipe.load(path, captions=["a.txt"])
    assert not witness.exists()


@pytest.mark.parametrize(
    ("recipe", "problem"),
    [
        (".", "recipe . cannot be read: Is a directory"),
        ("missing.yaml", "recipe missing.yaml does not exist"),
        ("x" * 300, "File name too long"),
        ("nul\0.yaml", r"embedded null"),
        ("tinny", "no built-in recipe 'tinny', did you mean 'tiny'?"),
    ],
)
def test_recipe_that_cannot_be_read_is_refused(recipe: str, problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.load(recipe)
    assert problem in str(caught.value)


def test_builtin_recipes_are_sorted_by_name() -> None:
    assert list(RECIPES.lines()) == sorted(RECIPES.lines())
    assert {"tiny", "sdxl", "sd3"} < set(RECIPES.lines())


@pytest.mark.parametrize("name", RECIPES.lines())
def test_builtin_recipe_loads_begins_with_its_command_and_round_trips(
    name: str, tmp_path: Path
) -> None:
    text = RECIPES.text(name)
    assert text.startswith("# ")
    assert f"synthvlm run {name} " in text.split("\n", 1)[0]
    recipe = Recipe.load(name, captions=["captions.jsonl"])
    assert Recipe.load(written(tmp_path, text), captions=["captions.jsonl"]) == recipe
    resolved = recipe.to_yaml()
    assert Recipe.from_values(yaml.safe_load(resolved)) == recipe
    assert Recipe.load(written(tmp_path, resolved)) == recipe
    assert "adaptive: null" in resolved, "a default is missing"


@pytest.mark.parametrize("name", RECIPES.lines())
def test_every_builtin_recipe_rejects_personal_data_names_and_control_tokens(name: str) -> None:
    curation = Recipe.load(name, captions=["captions.jsonl"]).curation
    assert curation.remove_invisible
    rules = curation.rules
    for rule in ("personal_data", "person_names", "control_tokens"):
        settings = rules[rule]
        assert settings is not None
        assert settings.bounds == (None, 0)
    assert "alnum_ratio" in rules, "the paper's rules are on, too"


def test_a_recipe_that_names_neither_privacy_rule_has_neither_on(tmp_path: Path) -> None:
    recipe = Recipe.load(written(tmp_path, "sources: [{path: tiny}]\ngeneration: {model: tiny}\n"))
    assert {"personal_data", "person_names"}.isdisjoint(recipe.curation.rules)


def test_the_papers_setting_is_the_recipe_sdxl() -> None:
    """Line by line: arXiv 2407.20756, its supplement, and the authors' published code."""
    recipe = Recipe.load("sdxl", captions=["captions.jsonl"])
    assert dict(chosen_values(recipe.generation)) == {
        "model": "stabilityai/stable-diffusion-xl-base-1.0",
        "variant": "fp16",
        "dtype": "float16",
        "steps": 60,
        "guidance_scale": 20.0,
        "negative_prompt": "",  # the code passes one; None would mean zeros
        "height": 1024,
        "width": 1024,
        "candidates": 5,
        "refiner": [
            ("denoising_split", 0.8),
            ("model", "stabilityai/stable-diffusion-xl-refiner-1.0"),
            ("variant", "fp16"),
        ],
    }
    clip, ssim = recipe.scorers["clip"], recipe.scorers["ssim"]
    assert isinstance(clip, ClipSettings)
    assert (clip.weight, clip.model, clip.prefix) == (
        1.0,
        "openai/clip-vit-base-patch32",
        "A photo depicts ",
    )
    assert isinstance(ssim, SsimSettings)
    assert (ssim.weight, ssim.side, ssim.model_input_side) == (0.5, 768, 336)
    assert list(recipe.scorers) == ["clip", "ssim"]
    assert dict(chosen_values(recipe.selection)) == {"top_n": 100_000}
    alignment = recipe.curation.alignment
    assert alignment is not None
    assert (alignment.model, alignment.top_fraction) == ("openai/clip-vit-base-patch32", 0.4)
    assert recipe.curation.near_duplicates is None, "the paper has none"
    assert recipe.curation.concepts is None
    rules = {
        name: rule.model_dump(exclude={"languages"})
        for name, rule in recipe.curation.rules.items()
        if rule
    }
    # Ours, see test_every_builtin_recipe_rejects_personal_data_names_and_control_tokens.
    del rules["personal_data"], rules["person_names"], rules["control_tokens"]
    assert rules == {
        "alnum_ratio": {"min": 0.60, "max": None},
        "char_rep_ratio": {"min": None, "max": 0.09373663, "ngram": 10},
        "flagged_words_ratio": {"min": None, "max": 0.0, "words": None},
        "special_char_ratio": {"min": 0.16534802, "max": 0.42023757},
        "word_rep_ratio": {"min": None, "max": 0.03085751, "ngram": 10},
        "image_text_matching": {
            "min": 0.8,
            "max": None,
            "model": "Salesforce/blip-itm-base-coco",
            "revision": None,
            "batch_size": 16,
        },
        "clip_similarity": {
            "min": 0.28,
            "max": None,
            "model": "openai/clip-vit-base-patch32",
            "revision": None,
            "batch_size": 16,
        },
    }
    assert recipe.curation.alignment is not None
    assert recipe.curation.alignment.top_fraction == 0.4


def test_captions_replace_the_sources_and_limit_is_set() -> None:
    recipe = Recipe.load("tiny", captions=["a.txt", Path("b.jsonl")], limit=7)
    assert [source.path for source in recipe.sources] == ["a.txt", "b.jsonl"]
    assert recipe.limit == 7


def test_recipe_cannot_be_changed_in_place_but_copied_with_changes() -> None:
    recipe = Recipe.load("tiny")
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3  # type: ignore[misc]
    assert recipe.changed(overrides=["seed=3"]).seed == 3
    assert recipe.seed == 0


TEXTS = st.text(max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
SECTIONS = st.sampled_from([*Recipe.model_fields, "curation.rules", "generation.refiner"])


@given(st.dictionaries(SECTIONS | TEXTS, VALUES, max_size=4))
def test_garbage_values_raise_nothing_but_recipe_errors(values: dict[str, object]) -> None:
    try:
        recipe = Recipe.from_values(SOURCES | values)
    except RecipeError:
        return
    assert Recipe.from_values(yaml.safe_load(recipe.to_yaml())) == recipe


@given(SECTIONS | TEXTS, TEXTS, TEXTS | st.from_regex(r"[-\[{!&*:'\"0-9a-z., ]{0,12}"))
def test_garbage_set_raises_nothing_but_recipe_errors(section: str, key: str, value: str) -> None:
    with contextlib.suppress(RecipeError):
        Recipe.load("tiny", overrides=[f"{section}.{key}={value}", f"{key}={value}"])


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_garbage_files_raise_nothing_but_recipe_errors(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = written(tmp_path_factory.getbasetemp(), text)
    with contextlib.suppress(RecipeError):
        Recipe.load(path, captions=["a.txt"])


@given(TEXTS.filter(bool))
@example("a\x85b\u2028c\u2029\ufeffd\te\nf: {g}")
def test_texts_survive_the_written_recipe(text: str) -> None:
    recipe = Recipe.load("tiny", captions=[text]).changed(limit=1)
    recipe = recipe.model_copy(
        update={"generation": recipe.generation.model_copy(update={"negative_prompt": text})}
    )
    assert Recipe.from_values(yaml.safe_load(recipe.to_yaml())) == recipe


def test_what_is_published_tells_nothing_of_the_machine() -> None:
    paths = ["/home/ann/captions.jsonl", "../ann/more.txt", "~/ann.csv", "data/mine.txt"]
    sources = [{"path": path, "name": f"s{n}"} for n, path in enumerate(paths)]
    generation = {"model": "/home/ann/sdxl", "refiner": {"model": "org/refiner"}}
    recipe = Recipe.from_values({"sources": sources, "generation": generation})
    shown = recipe.published()
    names = ["captions.jsonl", "more.txt", "ann.csv", "data/mine.txt"]
    assert [source.path for source in shown.sources] == names
    assert shown.generation.model == "sdxl"
    assert shown.generation.refiner is not None
    assert shown.generation.refiner.model == "org/refiner"
    assert "/home" not in shown.to_yaml()
    assert recipe.sources[0].path == paths[0]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("file:///home/ann/c.txt", "c.txt"),
        ("file:/home/ann/c.txt", "c.txt"),
        ("local://../ann/c.txt", "c.txt"),
        ("zip://c.txt::/home/ann/c.zip", "zip://c.txt::c.zip"),
        ("simplecache::file:///home/ann/c.txt", "simplecache::c.txt"),
        ("file://data/c.txt", "file://data/c.txt"),
        ("s3://bucket/a/../c.txt", "c.txt"),
        ("hf://datasets/org/name/c.txt", "hf://datasets/org/name/c.txt"),
        ("/", "data"),
    ],
)
def test_urls_of_local_files_are_published_by_name(path: str, name: str) -> None:
    assert published_name(path) == name


def test_what_is_said_to_models_is_published_as_it_is() -> None:
    text = "/imagine it, and/or ../draw"
    values = {
        "sources": [{"path": "a.txt"}],
        "scoring": {"clip": {"prefix": text}},
        "generation": {"negative_prompt": text},
        "export": {"instructions": ["~ What is it?", text]},
    }
    recipe = Recipe.from_values(values)
    assert recipe.published() == recipe
