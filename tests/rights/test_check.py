"""A recipe whose intended use its models or captions do not allow stops before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from synthvlm.cli import app
from synthvlm.errors import RecipeError
from synthvlm.pipeline import Pipeline
from synthvlm.planning.plan import plan
from synthvlm.planning.tune import tune
from synthvlm.recipe import Recipe
from synthvlm.rights import check_terms, unstated_use
from synthvlm.stages.fingerprints import content_fingerprint, image_fingerprint

FLUX = "black-forest-labs/FLUX.1-dev"
SD35 = "stabilityai/stable-diffusion-3.5-medium"


def recipe(name: str, *overrides: str) -> Recipe:
    captions = [] if name == "tiny" else ["captions.txt"]
    return Recipe.load(name, captions=captions, overrides=overrides)


@pytest.mark.parametrize(
    ("name", "changes", "who", "clause", "link"),
    [
        ("flux-dev", ["intended_use=commercial"], FLUX, "2.b", "LICENSE-FLUX1-dev"),
        ("flux-dev", ["intended_use=research"], FLUX, "2.d", "LICENSE-FLUX1-dev"),
        ("sd35", ["intended_use=research"], SD35, "IV.b", "stable-fast-3d"),
        ("sd35", ["intended_use=commercial"], SD35, "III", "stable-fast-3d"),
        (
            "sdxl-turbo", ["intended_use=commercial"], "stabilityai/sdxl-turbo", "1.a",
            "LICENSE-SDXL-Turbo",
        ),
        (
            "tiny", ["intended_use=commercial", "sources.0.terms=sharegpt4v"], "sharegpt4v",
            "usage and license notices", "ShareGPT4V",
        ),
    ],
)  # fmt: skip
def test_a_clash_is_one_line_with_the_clause_its_link_and_what_mends_it(
    name: str, changes: list[str], who: str, clause: str, link: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        check_terms(recipe(name, *changes))
    (line,) = str(caught.value).splitlines()
    assert f', {clause}: "' in line
    assert f"{link}" in line
    assert "(https://" in line
    assert f"--set 'acknowledge_terms=[{who}]'" in line
    acknowledged = recipe(name, *changes, f"acknowledge_terms=[{who}]")
    assert all("unknown" in note for note in check_terms(acknowledged))


def test_a_line_for_each_and_one_command_that_mends_all() -> None:
    clashing = recipe("flux-dev", "intended_use=commercial", "sources.0.terms=sharegpt4v")
    with pytest.raises(RecipeError) as caught:
        check_terms(clashing)
    first, second = str(caught.value).splitlines()
    assert FLUX in first
    assert ": take another recipe, or," in first
    assert ": take other captions, or," in second
    both = f"acknowledge_terms=[{FLUX}, sharegpt4v]"
    assert f"--set '{both}'" in first
    assert f"--set '{both}'" in second
    assert check_terms(recipe("flux-dev", "intended_use=commercial", both)) != []


def test_nothing_is_made_or_written_where_terms_clash(tmp_path: Path) -> None:
    clashing = recipe("tiny", "intended_use=commercial", "sources.0.terms=sharegpt4v")
    out = tmp_path / "run"
    for until in ("curate", "report"):
        with pytest.raises(RecipeError, match="intended_use is commercial"):
            Pipeline(clashing, out).run(until)
    with pytest.raises(RecipeError, match="intended_use is commercial"):
        plan(clashing)
    with pytest.raises(RecipeError, match="intended_use is commercial"):
        tune(clashing, {"generation.steps": [2, 3]}, str(out))
    assert not out.exists()


def test_the_commands_refuse_a_clash_and_name_terms_that_limit_an_unstated_use(
    tmp_path: Path,
) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a lighthouse on a cliff at dusk, seen from the sea\n")
    command = ["curate", "flux-dev", "--captions", str(captions), "--out", str(tmp_path / "run")]
    refused = CliRunner().invoke(app, [*command, "--set", "intended_use=commercial"])
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: intended_use is commercial")
    assert not (tmp_path / "run").exists()
    unstated = CliRunner().invoke(app, command)
    assert unstated.exit_code == 0
    assert f"note: terms limit what the data set may be used for ({FLUX})" in unstated.output


def test_what_is_acknowledged_runs(tmp_path: Path) -> None:
    changes = ["intended_use=commercial", "sources.0.terms=sharegpt4v"]
    going_on = recipe("tiny", *changes, "acknowledge_terms=[sharegpt4v]", "limit=2")
    Pipeline(going_on, tmp_path / "run").run("curate")
    assert list((tmp_path / "run" / "captions").iterdir())


@pytest.mark.parametrize("name", ["tiny", "sdxl", "flux-dev", "sd35", "sana"])
def test_a_recipe_that_states_no_use_is_as_it_was(name: str) -> None:
    assert check_terms(recipe(name)) == []


def test_what_is_unknown_is_named_and_does_not_stop() -> None:
    (note,) = check_terms(recipe("sana", "intended_use=commercial"))
    assert "Sana_1600M" in note
    assert "captions" in note
    assert check_terms(recipe("tiny", "intended_use=commercial")) == []


def test_a_use_that_is_not_stated_is_asked_for_where_terms_limit_it() -> None:
    note = unstated_use(recipe("flux-dev"))
    assert note is not None
    assert "intended_use" in note
    assert FLUX in note
    for silent in (
        recipe("tiny"),
        recipe("sdxl"),
        recipe("flux-dev", f"acknowledge_terms=[{FLUX}]"),
        recipe("flux-dev", "intended_use=research"),
    ):
        assert unstated_use(silent) is None


def test_an_acknowledged_name_of_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"FLUX\.1-dex'.*FLUX\.1-dev"):
        check_terms(recipe("flux-dev", "acknowledge_terms=[black-forest-labs/FLUX.1-dex]"))


def test_no_fingerprint_of_images_or_captions_has_them() -> None:
    plain = recipe("tiny")
    stated = recipe(
        "tiny",
        "intended_use=research",
        "acknowledge_terms=[tiny]",
        "model_terms={tiny: tiny}",
        "sources.0.terms=tiny-captions",
    )
    assert image_fingerprint(stated) == image_fingerprint(plain)
    assert content_fingerprint(stated) == content_fingerprint(plain)
