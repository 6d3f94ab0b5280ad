"""What the user asks about an image, in the formats that are conversations."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from synthvlm.components.settings import Settings
from synthvlm.data import fingerprint

__all__ = ["INSTRUCTIONS", "ConversationSettings", "question_of"]

#: What the human asks, in other words each; LLaVA's own list has eleven of this kind too.
INSTRUCTIONS = (
    "Describe this picture in a few words.",
    "What does this image show? Answer briefly.",
    "Give a short and clear account of the picture.",
    "Sum up what can be seen here.",
    "Write a brief caption for this image.",
    "In one sentence, what is in the picture?",
    "Say shortly what this image contains.",
    "Tell me concisely what you see.",
    "Provide a compact description of the scene shown.",
    "Which content does this picture present? Keep it short.",
    "Put the visible content of the image into plain, short words.",
)


class ConversationSettings(Settings):
    """A format that is a conversation."""

    instructions: list[str] | None = Field(
        None, min_length=1, description="What the human asks; default: the built-in questions."
    )


def question_of(id: str, instructions: Sequence[str] = INSTRUCTIONS) -> str:
    """What the human asks of a pair: one of some questions, by a hash of its id."""
    return instructions[int(fingerprint("instruction", id)[:8], 16) % len(instructions)]
