"""What an answer means: one of several choices, or yes or no.

Both say nothing where an answer is not clear: of two choices that it names, neither is meant.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from synthvlm.evaluation.vqa import ARTICLES, NUMBER_WORDS

__all__ = ["chosen_letter", "pope_exact", "pope_llava", "yes_or_no"]

#: What models and chat templates put around an answer: tokens such as ``</s>``, tags, LaTeX's box.
_WRAPPING = re.compile(
    r"</?[a-z]+[0-9]?\s*/?>|<\|[^|<>]{1,40}\|>|\\(?:boxed|text|mathrm|textbf|mathbf)\b"
)
_EMPHASIS = re.compile(r"[*`{}\\$]|(?<![A-Za-z0-9])_+|_+(?![A-Za-z0-9])")
#: Beside them a letter is a part of a word ("B's", "X-ray", "U.S.A."); Chinese is written so.
_WORD = "0-9A-Za-z\u00aa-\u024f\u0370-\u052f"
_LETTER = re.compile(
    rf"(?<![{_WORD}'])(?<![{_WORD}][.-])([A-Za-z])(?![{_WORD}]|'[{_WORD}]|-[{_WORD}])"
)
#: Before a letter it says that the letter is one: "option b".
_NAMED = re.compile(
    r"(?:\b(?:answer|option|choice|letter|ans)(?:\s+is|\s*[:=-])?|答案[是为]?[::]?)\s*[\"'(\[]*$",
    re.IGNORECASE,
)
#: Behind "A" or "I" it says that they are a letter, and no word: "A is right", "A or B".
_BEHIND_LETTER = re.compile(
    r"\s*(?:$|[^\w\s]|(?:is|was|are|and|or|nor|but|because|since|as|not|to|through)\b)"
)
#: Up to the answer, where it says that it is one.
_CONCLUSION = re.compile(
    r".*\b(?:answer|option|choice)(?:\s+(?:is|would be|should be|must be)\b|\s*:)", re.I | re.S
)
_NOT = (
    r"(?:\b(?:not|no|nor|neither|never|cannot|without|except|wrong|incorrect|false"
    r"|rather than|instead of|nicht|kein|keine)\b|n't\b|不是?|没有?|非)"
)
_NEGATION = re.compile(_NOT, re.IGNORECASE)
#: Directly before what is denied, and directly behind it.
_DENIED = re.compile(
    rf"{_NOT}\s*(?:(?:an?|the|it|option|choice|answer|letter|really|be)\b\s*)*[\"'(\[]*$", re.I
)
_DENIED_BEHIND = re.compile(
    r"[\"')\]]*\s*(?:is|are|was|were|can|could|does|do)?\s*"
    r"(?:\b(?:not|wrong|incorrect|false|impossible|never|cannot)\b|n't\b)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(
    r"[.!?;。\n]\s*|\bno\s*[,:]\s*|,\s*(?=(?:so|but|therefore|hence)\b)", re.IGNORECASE
)
#: A number with its sign, a letter of a script without spaces, or a word ("C++" too).
_TOKEN = re.compile(
    r"(?<![\w)])[-+]?\d+(?:[.,:]\d+)*"
    r"|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
    r"|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+(?:'\w+)*[+#]*"
)
#: Quotation marks and the minus sign.
_PLAIN_MARKS = {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2212: "-"}
_Spans = list[tuple[int, int, int]]


def chosen_letter(answer: str, choices: Sequence[str]) -> str:
    """The letter of the choice that an answer means, by its letter or its text; "" for none.

    ``B``, ``(b)``, ``**B**``, ``B. dog``, ``The answer is B``, ``dog`` and ``It is a dog`` mean B
    of ``cat, dog``. Not clear, and so none, are two choices (``A or B``; ``A. dog``) and what is
    denied (``not B``). "A" before a word is an article.

    Args:
        answer: A model's.
        choices: Their texts, at most 26.
    """
    text, folded = _unwrapped(answer), [_folded(choice) for choice in choices]
    for form in (answer, text):
        if folded.count(_folded(form)) == 1 and not _alone(form, len(choices)):
            return _letter(folded.index(_folded(form)))
    if letter := _alone(text, len(choices)):
        return letter
    if sorted(folded) == ["no", "yes"] and not _LETTER.match(text.lstrip(" ([")):
        verdict = yes_or_no(text)
        if verdict:
            return _letter(folded.index(verdict))
    conclusion = _CONCLUSION.match(text)
    begin = conclusion.end() if conclusion and text[conclusion.end() :].strip() else 0
    meant = _meant(text, choices, begin)
    return _letter(meant.pop()) if len(meant) == 1 else ""


def _meant(text: str, choices: Sequence[str], begin: int) -> set[int]:
    """Numbers of the choices that a text names from some place on, and does not deny."""
    texts = _text_spans(text, choices)
    spans = [span for span in texts if span[0] >= begin]
    leading = set()
    for match in _LETTER.finditer(text, begin):
        number = ord(match[1].upper()) - ord("A")
        inside = any(one <= match.start() < end for one, end, _ in texts)
        if number >= len(choices) or inside or not _is_letter(text, match):
            continue
        spans.append((match.start(), match.end(), number))
        if not text[begin : match.start()].strip(" \t\n\"'([:") and not _DENIED_BEHIND.match(
            text, match.end()
        ):
            leading.add(number)
    meant = set(leading)
    taken = sorted((one, end) for one, end, _ in spans)
    for one, end, number in spans:
        before = text[:one]
        if _DENIED.search(before) or _DENIED_BEHIND.match(text, end):
            continue
        if number not in leading and _is_doubted(before, taken):
            continue
        meant.add(number)
    return meant


def _is_letter(text: str, match: re.Match[str]) -> bool:
    """Whether a letter that stands by itself is that of a choice, and no word."""
    letter, before = match[1], text[: match.start()]
    marked = text[match.end() : match.end() + 1] in (")", "]")
    first = not before.strip(" \t\n\"'([")
    if _NAMED.search(before) and _BEHIND_LETTER.match(text, match.end()):
        return True
    if marked and (first or before[-1:] in ("(", "[") or before[-1:].isspace()):
        return True
    if letter.islower():
        return first and text[match.end() : match.end() + 1] in (".", ":", ",")
    if letter in "AI":
        return _BEHIND_LETTER.match(text, match.end()) is not None
    return True


def _is_doubted(before: str, taken: Sequence[tuple[int, int]]) -> bool:
    """Whether the sentence so far denies something that is no choice: "I don't think it is B"."""
    ends = [match.end() for match in _SENTENCE_END.finditer(before)]
    begin = max((end for end in ends if end < len(before)), default=0)
    for match in _NEGATION.finditer(before, begin):
        inside = any(one <= match.start() < end for one, end in taken)
        of_another = any(
            match.end() <= one < len(before) and _DENIED.search(before[:one]) for one, _ in taken
        )
        if not inside and not of_another:
            return True
    return False


def _text_spans(text: str, choices: Sequence[str]) -> _Spans:
    """Where the words of choices stand in a text; of those that overlap, the longest."""
    tokens = [(match.start(), match.end(), _word(match[0])) for match in _TOKEN.finditer(text)]
    tokens = [token for token in tokens if token[2] not in ARTICLES]
    words = [word for _, _, word in tokens]
    spans: _Spans = []
    for number, choice in enumerate(choices):
        named = [_word(match[0]) for match in _TOKEN.finditer(_unwrapped(choice))]
        named = [word for word in named if word not in ARTICLES]
        if len(named) == 1 and _is_one_letter(named[0]):
            continue  # of which choice is not known
        for at in range(len(words) - len(named) + 1) if named else ():
            if words[at : at + len(named)] == named:
                spans.append((tokens[at][0], tokens[at + len(named) - 1][1], number))
    return [
        span
        for span in spans
        if not any(
            one <= span[0] and span[1] <= end and (end - one) > (span[1] - span[0])
            for one, end, _ in spans
        )
    ]


def _word(token: str) -> str:
    word = token.casefold().removeprefix("+")
    return NUMBER_WORDS.get(word, word)


def _alone(text: str, count: int) -> str:
    """The letter where an answer is nothing else but marks; "" where it is more."""
    words = re.findall(r"\w+", text)
    if len(words) == 1 and _is_one_letter(words[0]):
        letter: str = words[0].upper()
        return letter if ord(letter) - ord("A") < count else ""
    return ""


def _is_one_letter(word: str) -> bool:
    return len(word) == 1 and word.isascii() and word.isalpha()


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _unwrapped(text: str) -> str:
    """Without tokens, tags and emphasis, full-width letters as plain ones."""
    text = unicodedata.normalize("NFKC", text).translate(_PLAIN_MARKS)
    return _EMPHASIS.sub("", _WRAPPING.sub(" ", text)).strip()


def _folded(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")


def pope_llava(answer: str) -> str:
    """``yes`` or ``no`` as LLaVA's script for POPE reads it.

    In the first sentence, without commas, one of the words "No", "no", "not" is a no; anything
    else, an empty answer too, is a yes.
    """
    words = answer.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"} & set(words) else "yes"


def pope_exact(answer: str) -> str:
    """``yes``, ``no``, or "" where the answer is not exactly one of them, in any case."""
    word = answer.strip().lower()
    return word if word in ("yes", "no") else ""


_YES = {
    *("yes", "yep", "yeah", "yup", "yea", "true", "correct"),
    *("oui", "ja", "si", "sí", "sim", "да", "是", "是的", "はい", "네"),
}
_NO = {
    *("no", "nope", "nah", "false", "none", "nothing", "nobody", "neither", "never", "incorrect"),
    *("non", "nein", "nee", "não", "нет", "否", "不", "不是", "いいえ", "아니요"),
}
_UNSURE = re.compile(
    r"\b(?:maybe|perhaps|possibly|unsure|unclear|unknown|uncertain|unable|impossible to|hard to"
    r"|difficult to|(?:cannot|can'?t|could ?n'?t|can not|not possible to|not able to)"
    r"(?:\s+\w+)?\s+(?:tell|say|see|determine|know|answer|be|judge)"
    r"|(?:do|does)(?:\s+not|n'?t) know|not (?:sure|certain|clear)|no idea)\b",
    re.IGNORECASE,
)
_NO_INSIDE = re.compile(r"\b(?:no|not|cannot|none|nothing|nobody|never|neither|nor)\b|n't\b")


def yes_or_no(answer: str) -> str:
    """``yes`` or ``no`` as a reader takes an answer, or "" where it is neither.

    It begins with such a word, or else it denies something ("There is no cat"), or says something
    ("A cat"). Neither is an empty answer, both words, another word alone, one that is not sure, and
    a sentence in another script than Latin.
    """
    text = _unwrapped(answer).casefold()
    words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text)
    if not words or _UNSURE.search(text):
        return ""
    first = "yes" if words[0] in _YES else "no" if words[0] in _NO else ""
    if first:
        both = words[1:2] in (["or"], ["and"]) or len(words) == 2
        other = _NO if first == "yes" else _YES
        return "" if both and other & set(words[1:3]) else first
    if not any(word[0] < "\u0250" for word in words):
        return ""
    denied = bool(_NO_INSIDE.search(text)) or words[-1] in _NO
    if "yes" in words:
        return "" if denied else "yes"
    return "no" if denied else "yes" if len(words) > 1 else ""
