"""Which of the fields that a file has is likely to hold captions, by its name and its texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from synthvlm.captions.readers.appearance import kind_of_text
from synthvlm.captions.readers.records import usual_name

__all__ = ["likely_field"]

#: From so many texts on, it counts how different they are.
_SOME = 3
_FEW_VALUES = 0.2
#: Words of a caption, on average, in a field of an unknown name.
_LEAST_WORDS = 3
#: Parts of places in which texts are of something else than of images.
_OTHERS = re.compile(
    r"(^|\.)(licen[cs]es?|categories|info)\.|(^|[._])(id|url|key|path|split|image|licen[cs]e|name"
    r"|file_?name|column|role|type|(super)?category|language|index)s?$",
    re.IGNORECASE,
)


def likely_field(texts: Mapping[str, Sequence[str]]) -> str | None:
    """The field that is the likeliest for captions; None: none looks like them.

    Args:
        texts: Some texts of each field, by its name or place.
    """
    known = [name for name in texts if _is_plausible(texts[name])]
    if (usual := usual_name(known)) is not None:
        return usual
    words = {name: _words(texts[name]) for name in known if not _OTHERS.search(name)}
    for name, count in words.items():
        if usual_name(re.split(r"[\W_]+", name)) and (count >= _LEAST_WORDS or not texts[name]):
            return name
    if words and max(words.values()) >= _LEAST_WORDS:
        return max(words, key=lambda name: words[name])
    sole = [name for name in texts if not _OTHERS.search(name)]
    return sole[0] if len(sole) == 1 and sole[0] in known and len(texts[sole[0]]) < _SOME else None


def _is_plausible(texts: Sequence[str]) -> bool:
    """Whether texts may be captions: of most, nothing shows that they are something else."""
    texts = [text.strip() for text in texts if text.strip()]
    kinds = [kind_of_text(text) for text in texts]
    are_some = len(texts) >= _SOME
    others = sum(kind is not None and (are_some or kind != "words") for kind in kinds)
    if 2 * others > len(texts):
        return False
    return not are_some or len(set(texts)) > max(1.0, _FEW_VALUES * len(texts))


def _words(texts: Sequence[str]) -> float:
    """Words of a text, on average; of scripts without blanks, two characters are one."""
    sizes = [max(len(text.split()), sum(c > "\u2e80" for c in text) // 2) for text in texts]
    sizes = [size for size in sizes if size]
    return sum(sizes) / max(len(sizes), 1)
