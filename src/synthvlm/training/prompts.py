"""Conversations as the text that a model is trained on: the plain format, and Vicuna's v1."""

from __future__ import annotations

from dataclasses import dataclass

from synthvlm.data_sets.conversations import IMAGE_MARK, Conversation

__all__ = ["CHAT_TEMPLATE", "SYSTEM_PROMPT", "Piece", "plain_prompt", "v1_prompt"]

#: Vicuna's, which LLaVA-1.5 was tuned with.
SYSTEM_PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)

#: ``v1_prompt`` as a chat template of transformers. ``{% generation %}`` marks what is trained.
#: Of a content list, the images of a message stand before its text, wherever they stand in it.
CHAT_TEMPLATE = (
    """\
{%- if messages and messages[0]['role'] == 'system' -%}
{%- set system = messages[0]['content'] -%}{%- set turns = messages[1:] -%}
{%- else -%}
{%- set system = '"""
    + SYSTEM_PROMPT.replace("'", "\\'")
    + """' -%}{%- set turns = messages -%}
{%- endif -%}
{%- if system is not string -%}{%- set system = system[0]['text'] -%}{%- endif -%}
{{- system + ' ' -}}
{%- for message in turns -%}
{%- set found = namespace(images='', text='') -%}
{%- if message['content'] is string -%}
{%- set found.text = message['content'] -%}
{%- else -%}
{%- for item in message['content'] -%}
{%- if item['type'] == 'image' -%}{%- set found.images = found.images + '<image>\\n' -%}
{%- elif item['type'] == 'text' -%}{%- set found.text = found.text + item['text'] -%}
{%- endif -%}
{%- endfor -%}
{%- if found.images -%}
{%- set found.text = (found.images + found.text | trim) | trim -%}
{%- endif -%}
{%- endif -%}
{%- if message['role'] == 'assistant' -%}
{{- 'ASSISTANT:' -}}
{%- generation -%}{{- ' ' + found.text + eos_token -}}{%- endgeneration -%}
{%- else -%}
{{- 'USER: ' + found.text + ' ' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
"""
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prompt: its text, and whether there is loss on it."""

    text: str
    trained: bool


def plain_prompt(conversation: Conversation) -> list[Piece]:
    """Stage 1: the image, then the caption and a newline, on which the loss is.

    The human's text is thrown away. A tokenizer puts its own beginning of text (BOS) before it.

    Raises:
        ValueError: The conversation has no image, or not exactly one answer.
    """
    if conversation.image is None:
        raise ValueError("it has no image, which the plain format needs")
    if len(conversation.turns) != 2:
        raise ValueError("it has not one question and one answer, which the plain format takes")
    return [Piece(IMAGE_MARK, False), Piece(conversation.turns[1].text + "\n", True)]


def v1_prompt(conversation: Conversation, eos: str) -> list[Piece]:
    r"""Stage 2, Vicuna's format: loss on each answer and the end of text after it.

    ``SYSTEM USER: <image>\nQ ASSISTANT: A</s>USER: Q ASSISTANT: A</s>``

    A system turn of the conversation takes the place of ``SYSTEM``. The mark of the image is moved
    to the front of its human turn, as LLaVA does. As there, an empty text leaves the speaker's name
    alone, and nothing is trained where what stands between two ends of text is not one question and
    one answer: the last question has no answer, the last answer is empty, or a text holds words of
    the format.

    Args:
        conversation: At most one image.
        eos: The tokenizer's end of text, ``</s>`` for Vicuna.
    """
    pieces = []
    before = f"{SYSTEM_PROMPT if conversation.system is None else conversation.system} "
    for turn in conversation.turns:
        if turn.speaker == "human":
            text = _image_first(turn.text)
            before += f"USER: {text} " if text else "USER:"
        elif turn.text:
            pieces += [Piece(f"{before}ASSISTANT:", False), Piece(f" {turn.text}{eos}", True)]
            before = ""
        else:
            before += "ASSISTANT:"
    if before:
        pieces.append(Piece(before, False))
    *rounds, rest = "".join(piece.text for piece in pieces).split(eos)
    if rest or any(one.count(_ANSWER) != 1 for one in rounds):
        return [Piece(piece.text, False) for piece in pieces]
    return pieces


def _image_first(text: str) -> str:
    if IMAGE_MARK not in text:
        return text
    return f"{IMAGE_MARK}\n{text.replace(IMAGE_MARK, '').strip()}".strip()


#: What LLaVA finds answers by.
_ANSWER = " ASSISTANT: "
