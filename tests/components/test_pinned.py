"""A release must not change what a user's finished work is known by, nor what a default means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pinned
import pytest

WRITE_ANEW = "then pin the new values: python tests/components/pinned.py"

HASHES = f"""
A fingerprint changed: users' images, measures or captions would be thrown away and made again,
thousands of GPU hours. Most likely
- there is a new setting: give it a neutral default, with which all is as it was before it existed,
  and no InHash.ALWAYS; then it is left out of the fingerprint while it has that default;
- a setting was renamed, moved or got another type: keep the old one, or read it and keep its hash;
- an `identity` or a `fingerprint(...)` got another argument: leave it out where it is neutral.
Where results did change, so that the old ones must not be used: say in CHANGELOG.md what is made
again and why, {WRITE_ANEW}"""

DEFAULTS = f"""
A default changed that is left out of fingerprints: under the same fingerprint it would now mean
something else, and old work would silently count as new. Keep the default (a built-in recipe can
set another value), or mark the setting InHash.ALWAYS, which changes fingerprints (see above), and
{WRITE_ANEW}"""

SEEDS = """
Seeds, names of files and hashes of plain values must never change: no image could be made again,
and no file would be found. There is no way to change them; take the old function back."""

MEASURES = f"""
A rule measures something else than before, or texts are normalised otherwise: old measures would
count as new ones. If that is no mistake, set `version` in the rule's class (or raise it), so that
its fingerprint changes and users' captions are measured again; say so in CHANGELOG.md,
{WRITE_ANEW}"""


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}: ")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _compare(section: str, now: Mapping[str, Any], advice: str) -> None:
    before = _flat(json.loads(pinned.FILE.read_text("utf-8"))[section])
    after = _flat(json.loads(json.dumps(now)))
    changed = [key for key in before if key not in after or before[key] != after[key]]
    lines = [f"  {key}: {before[key]!r} became {after.get(key)!r}" for key in changed]
    assert not lines, "\n".join([advice, *lines])


def test_fingerprints_are_as_they_were() -> None:
    _compare("hashes", pinned.hashes(), HASHES)


def test_what_is_left_out_of_fingerprints_has_its_old_default() -> None:
    _compare("defaults", pinned.defaults(), DEFAULTS)


def test_seeds_and_names_are_as_they_were() -> None:
    _compare("seeds", pinned.seeds(), SEEDS)


def test_text_rules_measure_what_they_did() -> None:
    pytest.importorskip("py3langid")
    _compare("measures", pinned.measures(), MEASURES)


@pytest.mark.parametrize(
    ("now", "line"),
    [
        ({"a": {"b": 2}}, "  a: b: 1 became 2"),
        ({"a": {}}, "  a: b: 1 became None"),
    ],
)
def test_a_difference_is_told_with_what_to_do(
    now: dict[str, Any], line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    file = tmp_path / "pinned.json"
    file.write_text('{"hashes": {"a": {"b": 1}}}')
    monkeypatch.setattr(pinned, "FILE", file)
    _compare("hashes", {"a": {"b": 1, "c": "what is new is pinned when it is released"}}, HASHES)
    with pytest.raises(AssertionError, match="give it a neutral default") as caught:
        _compare("hashes", now, HASHES)
    assert line in str(caught.value)
