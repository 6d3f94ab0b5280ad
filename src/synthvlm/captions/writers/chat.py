"""What this package asks of a chat model, wherever the model runs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

__all__ = ["ChatModel", "ChatReply", "ChatRequest", "ask_in_order"]

#: A key of the caller's, the conversation in OpenAI's form, and sampling settings
#: (``temperature``, ``max_tokens``, ``seed`` ...).
ChatRequest = tuple[Hashable, Sequence[Mapping[str, Any]], Mapping[str, Any]]


class ChatReply(Protocol):
    """What became of a request."""

    @property
    def text(self) -> str:
        """What the model said; "" if there is a problem."""
        ...

    @property
    def finish_reason(self) -> str | None:
        """Why it stopped; ``length`` if it was cut off."""
        ...

    @property
    def problem(self) -> str | None:
        """Why there is no reply, or None."""
        ...


class ChatModel(Protocol):
    """A chat model, such as ``synthvlm.endpoints.client.EndpointClient``."""

    def ask_all(self, requests: Iterable[ChatRequest]) -> Iterator[tuple[Hashable, ChatReply]]:
        """Give (key, reply) for each request, in any order.

        Raises:
            SynthVLMError: No more can be asked at all; all replies that came were given before.
        """
        ...


def ask_in_order(
    model: ChatModel, conversations: Sequence[tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]]
) -> list[ChatReply]:
    """The replies to (messages, sampling settings), in their order."""
    replies = dict(
        model.ask_all(
            (number, messages, sampling)
            for number, (messages, sampling) in enumerate(conversations)
        )
    )
    return [replies[number] for number in range(len(conversations))]
