"""The card of a data set, which a user may have edited, while the data set is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthvlm.data import digest
from synthvlm.exporters.edited_card import is_intact
from synthvlm.stages.data_set_folder import CARD_FILE, FOLDER

if TYPE_CHECKING:
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = ["KEPT_CARD", "files_with_card", "keep_card", "present_card"]

#: Where it is while the data set has no card.
KEPT_CARD = "card.md"


def present_card(run: RunFolder) -> bytes | None:
    """The card, or the one that an interrupted export kept; None if there is none."""
    for name in (f"{FOLDER}/{CARD_FILE}", KEPT_CARD):
        if run.exists(name):
            return run.read(name)
    return None


def keep_card(run: RunFolder, card: bytes | None, final: Marker | None) -> str | None:
    """Keep a card that a user may have edited, so that a kill does not lose it.

    Args:
        run: The run folder.
        card: Of ``present_card``.
        final: The marker of the last finished data set.

    Returns:
        Its text; None if there is none, or it is one without a marked part as it was exported.
    """
    if card is None:
        return None
    if final is not None and final.facts.get("card") is None:
        recorded = final.facts["files"].get(CARD_FILE)
        if recorded is not None and [len(card), digest([card])] == list(recorded):
            return None
    run.write(KEPT_CARD, card)
    return card.decode("utf-8", "replace")


def files_with_card(final: Marker, card: bytes | None) -> dict[str, tuple[int, str]]:
    """The files that a finished data set has, with the card as a user has edited it.

    Args:
        final: The marker of the finished data set.
        card: Of ``present_card``.
    """
    files: dict[str, tuple[int, str]] = dict(final.facts["files"])
    if card is not None and is_intact(card, final.facts.get("card")):
        files[CARD_FILE] = (len(card), digest([card]))
    return files
