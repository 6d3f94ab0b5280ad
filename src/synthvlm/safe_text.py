"""Text for people, made inert: one form per medium, and no secrets in any of them.

Captions, ids, file names, replies of servers and messages of libraries are untrusted, and may hold
the URL of a source with its signature. Whatever of them is shown goes through one of
``printable`` (terminals), ``for_html`` (pages and SVG) and ``for_markdown`` (cards and tables).
Data files keep texts as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = [
    "REMOVED",
    "fenced",
    "for_html",
    "for_markdown",
    "markdown_table",
    "printable",
    "without_secrets",
]

#: What stands in place of a secret.
REMOVED = "REMOVED"

#: Control characters (escape sequences start with one), other line ends, marks that change the
#: direction of writing, lone surrogates. Tabs and ``\n`` are not among them.
_ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Text for a terminal: what it would act on is escaped, as in ``\x1b`` or ``\u202e``.

    Tabs and ``\n`` stay: our own messages contain them.
    """
    return _visible(without_secrets(text))


def for_html(value: Any) -> Markup:
    r"""Text for a page or an SVG: escaped, and controls and direction marks as ``\u202e``.

    Markup stays as it is, so this is what templates pass all their values through.
    """
    from markupsafe import Markup, escape

    if hasattr(value, "__html__"):
        return Markup(value)
    return escape(_visible(_without_url_secrets(str(value))))


#: What Markdown obeys within a line; a backslash before a backslash matters in cells, too.
_MARKUP = re.compile(r"[\\`\[\]|!*~$&#>]|(?<!\w)_|_(?!\w)")
#: What begins a block at the start of a line, or of an item of a list.
_BLOCK = re.compile(r"(\d*)([-+.)](?=\s|$)|-(?=-+$)|=)")
#: What renderers turn into links by themselves: URLs, hosts, e-mail addresses, @names, #numbers.
#: A backslash does not stop all of them; a code span does.
_AUTOLINK = re.compile(r"(?i)://|www\.|mailto:|xmpp:|@|#\d|\bgh-\d|[^\W_]\.[^\W\d_]{2,}")


def for_markdown(text: str) -> str:
    """Text for one line or cell, in which nothing is a link, an image, HTML or a new cell."""
    words = _without_url_secrets(text).split()
    line = " ".join(_markdown_word(_visible(word)) for word in words)
    block = _BLOCK.match(line)
    return line if block is None else f"{block[1]}\\{line[block.end(1) :]}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts in Markdown, all of them inert."""
    first, *others = (
        "| " + " | ".join(for_markdown(cell) for cell in line) + " |" for line in (header, *rows)
    )
    return "\n".join([first, "| " + " | ".join("---" for _ in header) + " |", *others])


def _markdown_word(word: str) -> str:
    # Neither can stand in a code span of a table's cell.
    parts = re.split(r"([`|])", word)
    return "".join(f"\\{part}" if part in ("`", "|") else _markdown_part(part) for part in parts)


def _markdown_part(part: str) -> str:
    if _AUTOLINK.search(part):
        return f"`{part}`"
    return _MARKUP.sub(r"\\\g<0>", part).replace("<", "&lt;")


def fenced(code: str, language: str) -> str:
    """A block of code in a fence that is longer than any run of backticks in it."""
    fence = "`" * max(4, 1 + max(map(len, re.findall("`+", code)), default=0))
    return f"{fence}{language}\n{code.rstrip()}\n{fence}"


def _visible(text: str) -> str:
    return _ACTIVE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


#: User and password of a URL; a lone user name is none where it is how one logs in.
_PASSWORD = re.compile(r"(?<!ssh)(?<!sftp)(?<!hdfs)(?<!smb)://[^/?#\s@\"'<>]+@")
_USER_AND_PASSWORD = re.compile(r"://[^/?#\s@:\"'<>]*:(?!\d+[/?#])[^?#\s@\"'<>]+@")
_PARAMETER = re.compile(r"(?<=[?&;#])([\w.%~\[\]-]{1,80})=([^&;#\s\"'<>]+)")
#: In the names of parameters, without their hyphens and underscores.
_SECRET_NAME = re.compile(
    r"sig$|signature|token|secret|passw|pwd|credential|key$|keypairid|accesskeyid|^auth|^sas$"
    r"|session|jwt|hmac|policy|^code$|ticket|^hdn|^pass$|^st$"
)
#: Parameters of that name may be long and random without being a secret.
_PUBLIC_NAME = re.compile(r"version|revision|commit|sha|etag|signedheaders|generation$|id$")
_RANDOM = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w+/=~.%-]{32,}")
#: Tokens of known forms, and what a header of a request carries.
_TOKEN = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|(?<=Bearer )[^\s\"',]{12,}"
    r"|(?<=Basic )[\w+/=]{12,}"
)
_SECRET_VARIABLE = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|ACCESS_?KEY|CREDENTIAL")
#: Shorter values are words that captions may hold.
_SHORTEST_SECRET = 16


def without_secrets(text: str) -> str:
    """Text without passwords and signatures of URLs, tokens, and secrets of the environment.

    A secret in the path of a URL is not recognised.
    """
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and value in text and _SECRET_VARIABLE.search(name):
            text = text.replace(value, f"[{name}]")
    return _TOKEN.sub(REMOVED, _without_url_secrets(text))


def _without_url_secrets(text: str) -> str:
    if "://" in text and "@" in text:
        text = _USER_AND_PASSWORD.sub(f"://{REMOVED}@", text)
        text = _PASSWORD.sub(f"://{REMOVED}@", text)
    return _PARAMETER.sub(_without_value, text) if "=" in text else text


def _without_value(parameter: re.Match[str]) -> str:
    value = parameter[2].rstrip(":,.)]}")
    after = parameter[2][len(value) :]
    name = re.sub(r"[-_.\[\]]", "", unquote(parameter[1]).lower())
    inner = unquote(value)
    is_secret = _SECRET_NAME.search(name) or (
        _RANDOM.fullmatch(value) and not _PUBLIC_NAME.search(name)
    )
    if is_secret or (inner != value and _without_url_secrets(inner) != inner):
        value = REMOVED
    return f"{parameter[1]}={value}{after}"
