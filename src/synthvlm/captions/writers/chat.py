"""What this package asks of a chat model, wherever the model runs."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from synthvlm.errors import first_line

__all__ = [
    "ChatModel",
    "ChatReply",
    "ChatRequest",
    "LocalChatModel",
    "TextModel",
    "about_image",
    "ask_in_order",
    "data_url",
    "delimited",
    "deterministic",
    "without_thoughts",
]

# "<" and ">" make tags and most chat markers (<|im_start|>, </s>), "[" and "]" the others ([INST]).
# Lone surrogates cannot be sent as UTF-8.
_ESCAPED = re.compile("[<>\\[\\]\ud800-\udfff]")
#: Also one that did not come to its end.
_THOUGHT = re.compile(r"\s*<think>.*?(?:</think>|\Z)", re.DOTALL)

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


def delimited(caption: str) -> str:
    """A caption as data: a JSON string between two tags.

    The characters that tags and chat markers are made of are escaped inside it, so that no caption
    can end its own string, close its tag or open a turn of the conversation.
    """
    literal = json.dumps(caption, ensure_ascii=False)
    literal = _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", literal)
    return f"<caption>{literal}</caption>"


def about_image(url: str, text: str) -> list[dict[str, Any]]:
    """A conversation in OpenAI's form: one message of a user, an image and a text below it."""
    image = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [image, {"type": "text", "text": text}]}]


def data_url(image: bytes, format: str) -> str:
    """An encoded image as a URL that holds it; ``format`` is what PIL calls its format."""
    return f"data:image/{format.lower()};base64,{base64.b64encode(image).decode('ascii')}"


def deterministic(max_tokens: int, seed: int | None) -> dict[str, Any]:
    """Sampling settings with which replies are the same every time, as far as a server goes.

    Args:
        max_tokens: Longest reply.
        seed: Sent along; None for servers that refuse one.
    """
    settings = {"temperature": 0, "max_tokens": max_tokens}
    return settings if seed is None else {**settings, "seed": seed}


def without_thoughts(reply: str) -> str:
    """A reply without what a reasoning model thought aloud before it."""
    thought = _THOUGHT.match(reply)
    return reply[thought.end() if thought else 0 :]


class TextModel(Protocol):
    """A language model that runs here, such as ``models.language.LanguageModel``."""

    def write(self, texts: Sequence[str], *, max_new_tokens: int) -> list[tuple[str, bool]]:
        """What it replies to some texts, and whether that was cut off.

        Raises:
            ValueError: A text is longer than what the model can hold.
        """
        ...


class LocalChatModel:
    """A language model that runs here, asked as an endpoint is: by single messages of a user.

    It decodes without sampling; of the sampling settings only ``max_tokens`` counts.
    """

    def __init__(self, model: TextModel, batch_size: int) -> None:
        """Ask a model so many messages at a time."""
        self._model, self._batch_size = model, batch_size

    def ask_all(self, requests: Iterable[ChatRequest]) -> Iterator[tuple[Hashable, ChatReply]]:
        """Give (key, reply) for each request, in their order; all have the same ``max_tokens``."""
        waiting = iter(requests)
        while batch := list(islice(waiting, self._batch_size)):
            texts = [str(messages[-1]["content"]) for _, messages, _ in batch]
            replies = self._replies(texts, int(batch[0][2]["max_tokens"]))
            yield from zip((key for key, _, _ in batch), replies, strict=True)

    def _replies(self, texts: list[str], max_tokens: int) -> list[_Reply]:
        try:
            written = self._model.write(texts, max_new_tokens=max_tokens)
        except ValueError as error:
            if len(texts) == 1:
                return [_Reply("", None, first_line(error))]
            return [reply for text in texts for reply in self._replies([text], max_tokens)]
        return [_Reply(text, "length" if is_cut else "stop") for text, is_cut in written]


@dataclass(frozen=True, slots=True)
class _Reply:
    text: str
    finish_reason: str | None
    problem: str | None = None
