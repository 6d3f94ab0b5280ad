"""Captions from nothing but a list of concepts, written by a language model."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthvlm.captions.writers.chat import (
    ChatModel,
    ChatReply,
    ask_in_order,
    without_thoughts,
)
from synthvlm.errors import RecipeError

__all__ = ["DEFAULT_CONCEPT_PROMPT", "ConceptCaption", "ConceptWriter", "parse_captions"]

#: What is asked for; the format of the reply is asked for below it, whatever the prompt.
DEFAULT_CONCEPT_PROMPT = """\
Write {count} captions of imagined photographs that show this: {concept}

Each caption is one plain English sentence of 8 to 25 words. It says what is to be seen: the \
subject and its look, what it does, the setting, the light. The captions differ from each other in \
place, viewpoint, companions and time of day. No names of real people, no brands, no text in the \
picture, no opinions."""

_FORMAT = """

Write nothing but the captions, one a line, each as a JSON object: {"caption": "..."}"""

_AVOID = "\n\nThese exist already; write different ones:\n"
_MAX_AVOIDED = 20

#: Concepts that are written for at one time. It decides which of two concepts keeps a caption that
#: both got, so it is no setting.
_GROUP = 64

_NUMBERED = re.compile(r"\s*\d+\s*[.):]\s+(.+)")
_LETTERS = re.compile(r"[^\w]+")
_TOKENS_PER_CAPTION = 64


@dataclass(frozen=True, slots=True)
class ConceptCaption:
    """A caption and the concept that it was written for.

    Attributes:
        concept: The concept.
        number: Zero-based number among the captions of the concept.
        text: The caption, "" if there is a problem.
        problem: Why the captions of this concept end here, before there are enough; or None.
    """

    concept: str
    number: int
    text: str
    problem: str | None = None


@dataclass(slots=True)
class _Progress:
    """Where the writing for one concept stands."""

    concept: str
    captions: list[str] = field(default_factory=list)
    requests: int = 0
    discarded: int = 0
    problem: str | None = None


class ConceptWriter:
    """Writes the same number of captions for every concept.

    Equal captions (but for case, spaces and punctuation) are discarded, also between concepts, and
    asked for anew, with what exists already shown to the model. A concept whose model runs out of
    different captions, or does not answer, ends with a row that says so.

    What is asked next depends on the replies before, and on nothing else. So with a store of
    replies behind the model, running again goes through the same captions at no cost to where it
    was stopped, and on from there.
    """

    def __init__(
        self,
        model: ChatModel,
        concepts: Sequence[str],
        per_concept: int,
        *,
        prompt: str | None = None,
        per_request: int = 10,
        extra_requests: int = 3,
        temperature: float = 0.9,
        seed: int | None = 0,
    ) -> None:
        """Describe what to write; nothing is asked yet.

        Args:
            model: The chat model.
            concepts: What the captions are about, each once.
            per_concept: Captions per concept, at least 1.
            prompt: What to ask, with ``{concept}`` and ``{count}``; None is
                ``DEFAULT_CONCEPT_PROMPT``. A concept is put in as a JSON string.
            per_request: Captions per request at most, at least 1.
            extra_requests: Requests per concept beyond those that would do if no caption had to be
                discarded.
            temperature: Sampling temperature.
            seed: Seed of each concept's first request, which later ones count up; None for servers
                that refuse a seed.

        Raises:
            RecipeError: There is no concept, one is blank or there twice, a number is too small,
                or the prompt lacks a placeholder.
        """
        self._model = model
        self._concepts = _checked(concepts)
        if per_concept < 1 or per_request < 1 or extra_requests < 0:
            raise RecipeError("captions per concept and per request must be at least 1")
        self._prompt = DEFAULT_CONCEPT_PROMPT if prompt is None else prompt
        for place in ("{concept}", "{count}"):
            if place not in self._prompt:
                raise RecipeError(f"the prompt for captions of concepts must hold {place}")
        self._per_concept = per_concept
        self._per_request = per_request
        self._max_requests = -(-per_concept // per_request) + extra_requests
        self._temperature = temperature
        self._seed = seed

    def __iter__(self) -> Iterator[ConceptCaption]:
        """Write; rows come by concept, in the order given, then by number.

        Raises:
            SynthVLMError: The model cannot be asked (any more); what it said is in its store.
        """
        seen: set[bytes] = set()
        for start in range(0, len(self._concepts), _GROUP):
            group = [_Progress(concept) for concept in self._concepts[start : start + _GROUP]]
            while open_ones := [one for one in group if not self._is_finished(one)]:
                replies = ask_in_order(self._model, [self._request(one) for one in open_ones])
                for one, reply in zip(open_ones, replies, strict=True):
                    self._take(one, reply, seen)
            for one in group:
                yield from _rows(one)

    def _is_finished(self, one: _Progress) -> bool:
        missing = self._per_concept - len(one.captions)
        if missing and one.problem is None and one.requests == self._max_requests:
            one.problem = (
                f"{one.concept!r}: the model wrote {len(one.captions)} different captions in "
                f"{one.requests} requests, {self._per_concept} were wanted "
                f"({one.discarded} lines were repetitions or unreadable)"
            )
        return not missing or one.problem is not None

    def _request(self, one: _Progress) -> tuple[list[dict[str, str]], dict[str, Any]]:
        count = min(self._per_request, self._per_concept - len(one.captions))
        text = self._prompt.replace("{count}", str(count))
        text = text.replace("{concept}", json.dumps(one.concept, ensure_ascii=False)) + _FORMAT
        if one.requests:
            # Else a reply without any new caption would be asked for, and stored, in equal words.
            text += f"\n\nThis is part {one.requests + 1}."
        if one.captions:
            text += _AVOID + "\n".join(map(_as_line, one.captions[-_MAX_AVOIDED:]))
        sampling: dict[str, Any] = {
            "temperature": self._temperature,
            "max_tokens": _TOKENS_PER_CAPTION * (count + 1),
        }
        if self._seed is not None:
            sampling["seed"] = self._seed + one.requests
        return [{"role": "user", "content": text}], sampling

    def _take(self, one: _Progress, reply: ChatReply, seen: set[bytes]) -> None:
        one.requests += 1
        if reply.problem is not None:
            one.problem = f"{one.concept!r}: {reply.problem}"
            return
        captions, unreadable = parse_captions(reply.text, reply.finish_reason == "length")
        one.discarded += unreadable
        for caption in captions:
            if len(one.captions) == self._per_concept:
                break
            key = _identity(caption)
            if key in seen:
                one.discarded += 1
                continue
            seen.add(key)
            one.captions.append(caption)


def parse_captions(text: str, cut_off: bool = False) -> tuple[list[str], int]:
    """The captions of a reply, and how many of its lines are none.

    A caption is a line ``{"caption": "..."}`` or ``1. ...``, and holds a letter or digit. Fences of
    code blocks and blank lines do not count. Nothing else is taken: a model's opening words are no
    caption, nor is what a reasoning model thought aloud before.

    Args:
        text: The reply.
        cut_off: Whether it ended at its longest length, so that the last line is no whole caption.
    """
    lines = without_thoughts(text).splitlines()
    lines = [line for line in lines if line.strip() and "```" not in line]
    captions = [_caption_of(line) for line in lines]
    if cut_off and captions:
        captions[-1] = None
    usable = [caption for caption in captions if caption is not None]
    return usable, len(captions) - len(usable)


def _caption_of(line: str) -> str | None:
    numbered = _NUMBERED.fullmatch(line)
    if numbered:
        text = numbered[1].strip().strip('"“”')
    else:
        try:
            row = json.loads(line.strip().removesuffix(","))
        except (ValueError, RecursionError):
            return None
        if not isinstance(row, dict) or not isinstance(row.get("caption"), str):
            return None
        text = row["caption"]
    text = " ".join(text.split())
    return text if any(map(str.isalnum, text)) else None


def _identity(caption: str) -> bytes:
    plain = _LETTERS.sub(" ", caption.casefold()).strip()
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _as_line(caption: str) -> str:
    return json.dumps({"caption": caption}, ensure_ascii=False)


def _rows(one: _Progress) -> Iterator[ConceptCaption]:
    for number, text in enumerate(one.captions):
        yield ConceptCaption(one.concept, number, text)
    if one.problem is not None:
        yield ConceptCaption(one.concept, len(one.captions), "", one.problem)


def _checked(concepts: Sequence[str]) -> list[str]:
    stripped = [concept.strip() for concept in concepts]
    if not stripped or not all(stripped):
        raise RecipeError("the list of concepts is empty, or holds a blank one")
    seen: set[str] = set()
    for concept in stripped:
        # Twice in the list would be twice as many captions.
        if concept.casefold() in seen:
            raise RecipeError(f"the concept {concept!r} is in the list twice")
        seen.add(concept.casefold())
    return stripped
