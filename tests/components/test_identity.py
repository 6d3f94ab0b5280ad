"""What of some settings a fingerprint covers."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, create_model

from synthvlm.components.settings import (
    InHash,
    ModelName,
    Settings,
    identity_values,
    named_models,
)
from synthvlm.data import fingerprint


class Inner(Settings):
    """Nested settings."""

    model: Annotated[str, ModelName()] = "base"
    scale: Annotated[float, InHash.ALWAYS] = 1.0
    threads: Annotated[int, InHash.NEVER] = 1
    note: str | None = None


class Example(Settings):
    """Settings of each kind."""

    steps: Annotated[int, InHash.ALWAYS] = 20
    batch_size: Annotated[int, InHash.NEVER] = 8
    prompt: str | None = None
    model: Annotated[str | None, ModelName("clip")] = None
    revision: str | None = None
    inner: Inner | None = None
    parts: list[Inner] = Field([])
    options: dict[str, bool | int | float | str | None] = Field({})
    words: list[str] = Field(default_factory=lambda: ["a"])


def identify(name: str, mark: ModelName) -> str:
    return f"content of {name} ({mark.kind})"


def values(settings: Settings) -> list[tuple[str, object]]:
    return identity_values(settings, identify)


def test_a_default_is_left_out_unless_it_may_change() -> None:
    assert values(Example()) == [("steps", 20)]


def test_a_default_that_is_written_out_is_left_out_too() -> None:
    written = Example.model_validate(Example().model_dump())
    assert values(written) == values(Example())
    assert values(Example(words=["a"])) == values(Example())


def test_what_changes_no_result_is_never_there() -> None:
    assert values(Example(batch_size=1)) == values(Example())


def test_values_are_sorted_by_name() -> None:
    changed = Example(words=[], prompt="x", revision="y")
    assert values(changed) == [("prompt", "x"), ("revision", "y"), ("steps", 20), ("words", [])]


def test_a_model_is_known_by_its_content() -> None:
    assert ("model", "content of m (clip)") in values(Example(model="m"))


def test_of_no_model_no_content_is_asked() -> None:
    class Always(Settings):
        model: Annotated[str | None, ModelName("clip"), InHash.ALWAYS] = None

    assert values(Always()) == [("model", None)]


def test_nested_settings_are_followed() -> None:
    assert values(Example(inner=Inner(threads=4)))[0] == ("inner", [("scale", 1.0)])
    assert values(Example(inner=Inner(model="m")))[0] == (
        "inner",
        [("model", "content of m (None)"), ("scale", 1.0)],
    )


def test_lists_of_settings_are_followed_in_their_order() -> None:
    settings = Example(parts=[Inner(note="x"), Inner(threads=2)])
    assert values(settings)[0] == ("parts", [[("note", "x"), ("scale", 1.0)], [("scale", 1.0)]])


def test_the_order_of_a_mapping_does_not_count() -> None:
    first, second = Example(options={"a": 1, "b": None}), Example(options={"b": None, "a": 1})
    assert values(first) == values(second)
    assert values(first)[0] == ("options", [("a", 1), ("b", None)])


def test_kinds_of_numbers_are_told_apart_where_a_setting_takes_several() -> None:
    shown = {repr(values(Example(options={"a": value}))) for value in (1, 1.0, True, "1")}
    assert len(shown) == 4


def test_a_whole_number_for_a_float_is_the_float() -> None:
    assert values(Example(inner=Inner(scale=2))) == values(Example(inner=Inner(scale=2.0)))


def test_the_models_that_settings_name() -> None:
    assert list(named_models(Example())) == []
    assert list(named_models(Example(model="m", revision="r"))) == [("m", "r", ModelName("clip"))]


def test_a_subclass_is_hashed_by_all_its_settings() -> None:
    class More(Example):
        extra: int = 0

    assert values(More()) == values(Example())
    assert ("extra", 1) in values(More(extra=1))


_VALUES = {
    "steps": st.integers(1, 99),
    "batch_size": st.integers(1, 99),
    "prompt": st.none() | st.text(),
    "model": st.none() | st.text(min_size=1),
    "revision": st.none() | st.text(),
    "inner": st.none() | st.builds(Inner, scale=st.floats(0, 9), threads=st.integers(1, 9)),
    "parts": st.lists(st.builds(Inner, note=st.none() | st.text()), max_size=3),
    "options": st.dictionaries(
        st.text(), st.none() | st.booleans() | st.integers() | st.text(), max_size=3
    ),
    "words": st.lists(st.text(), max_size=3),
}
_EXAMPLES = st.fixed_dictionaries({}, optional=_VALUES).map(lambda given: Example(**given))


@given(_EXAMPLES)
def test_what_is_written_down_and_read_again_has_the_same_identity(settings: Example) -> None:
    again = Example.model_validate_json(settings.model_dump_json())
    assert values(again) == values(settings)


@given(_EXAMPLES, _EXAMPLES)
def test_settings_have_equal_identities_where_what_counts_is_equal(
    one: Example, other: Example
) -> None:
    def counting(settings: Example) -> dict[str, Any]:
        shown = settings.model_dump(exclude={"batch_size": True, "inner": {"threads"}})
        shown["parts"] = [{**part, "threads": 0} for part in shown["parts"]]
        return shown

    same = repr(sorted(counting(one).items())) == repr(sorted(counting(other).items()))
    hashes = {fingerprint(values(settings)) for settings in (one, other)}
    if same:
        assert len(hashes) == 1
    if counting(one) != counting(other):
        assert len(hashes) == 2


@given(
    _EXAMPLES,
    st.sampled_from([(int, 0), (str | None, None), (bool, False), (list[str], []), (float, 0.5)]),
)
def test_a_new_setting_leaves_every_identity_as_it_was(
    settings: Example, new: tuple[Any, Any]
) -> None:
    kind, neutral = new
    later = create_model("Later", __base__=Example, added=(kind, neutral))
    assert values(later(**dict(settings))) == values(settings)


@pytest.mark.parametrize("added", [1, "x", True])
def test_a_new_setting_that_is_used_counts(added: object) -> None:
    later = create_model("Later", __base__=Example, added=(type(added), type(added)()))
    assert values(later(added=added)) == [("added", added), ("steps", 20)]


class _Weighted(Settings):
    weight: Annotated[float, InHash.NEVER] = 1.0


class _Redefined(_Weighted):
    weight: float = 0.5


def test_a_setting_that_is_redefined_keeps_its_mark() -> None:
    assert identity_values(_Redefined(weight=0.7), lambda name, _: name) == []
