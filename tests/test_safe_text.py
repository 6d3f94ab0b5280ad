"""Text for people: inert in each medium, and without secrets."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markupsafe import Markup

import synthvlm
from rendered_markdown import inert_kinds
from synthvlm.errors import RunFolderError, first_line
from synthvlm.report.charts import histogram
from synthvlm.report.pages import page_environment
from synthvlm.safe_text import fenced, for_html, for_markdown, printable, without_secrets

ACTIVE = [
    "http://h.org/x", "HTTPS://h/x", "ftp://h/x", "www.h.org", "h.com", "mailto:a@b.org", "a@b.org",
    "a\\@b.org", "@somebody", "#123", "org/name#5", "<http://h>", "[a](http://h)", "![i](http://h/i)",
    "[a]: http://h", "<img src=x onerror=y>", "<!-- x", "&#64;b", "a|http://h/x", "`http://h`",
    "ht`tp://h/x", "\\`http://h\\`", "a\\|b", "\\", "`", "``", "|", "# head", "> quote", "- item",
    "1. item", "1) item", "+ item", "=== ", "---", "*b* _i_ ~~s~~ $x$", "a\nb", "a\r\n\r\n# b",
    "\t x", "\u202eevil\u2066", "\x1b[31m", "![x][y]", "a \\", "```", "~~~",
    "<script>", "\u2028# b",
]  # fmt: skip


@pytest.mark.parametrize("text", ACTIVE)
@pytest.mark.parametrize("form", ["| a | b |\n| --- | --- |\n| {} | x |", "- {}", "{}", "Of {}."])
def test_text_in_markdown_is_text(text: str, form: str) -> None:
    kinds = inert_kinds(form.format(for_markdown(text)))
    blocks = {re.sub("_(open|close)$", "", kind) for kind in kinds}
    rest = {
        "inline",
        "text",
        "text_special",
        "code_inline",
        "paragraph",
        "bullet_list",
        "list_item",
    }
    assert blocks - {"table", "thead", "tbody", "tr", "th", "td"} <= rest
    if form.startswith("|"):
        cells = MarkdownIt("commonmark").enable("table").render(form.format(for_markdown(text)))
        assert cells.count("<td>") == 2


def test_plain_text_in_markdown_is_unchanged() -> None:
    for text in ("stabilityai/sdxl-1.0", "personal_data", "A dog, 5 cm. Nice"):
        assert for_markdown(text) == text


def test_a_fence_is_longer_than_what_it_holds() -> None:
    assert fenced("a: '`````'\n", "yaml") == "``````yaml\na: '`````'\n``````"


@pytest.mark.parametrize("text", ["\u202e", "\u2066", "\u200f", "\u061c", "\x1b", "\x9b", "\x00"])
def test_controls_are_visible_on_every_page_and_chart(text: str) -> None:
    import numpy as np

    values = np.array([0.1, 0.2])
    template = page_environment(("synthvlm.report", "templates")).from_string("<p>{{ text }}</p>")
    chart = histogram(values, None, label=text)
    shown = text.encode("unicode_escape").decode()
    for page in (template.render(text=text), chart, for_html(text), printable(text)):
        assert text not in page
        assert shown in page
    assert for_html(Markup("<b>")) == "<b>"
    assert for_html('<a "b">') == "&lt;a &#34;b&#34;&gt;"


SECRET = "s3cr3tS1gnature/with+signs"
BASE = "https://host.example/data/c.jsonl"


@pytest.mark.parametrize(
    "url",
    [
        f"{BASE}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature={SECRET}&X-Amz-Expires=3600",
        f"{BASE}?x-amz-security-token={SECRET}",
        f"{BASE}?hdnts={SECRET}", f"{BASE}?pass={SECRET}", f"{BASE}?st={SECRET}&e=1",
        f"{BASE}?X%2DAmz%2DSignature={SECRET}",
        f"{BASE}?X-Goog-Signature={SECRET}&X-Goog-Expires=1",
        f"{BASE}?sv=2024-11-04&se=2030-01-01&sr=b&sp=r&sig={SECRET}",
        f"{BASE}?token={SECRET}", f"{BASE}?access_token={SECRET}", f"{BASE}?key={SECRET}",
        f"{BASE}?apiKey={SECRET}&a=1", f"{BASE}?Expires=1&Signature={SECRET}&Key-Pair-Id=K1",
        f"{BASE}?a=1;auth={SECRET}", f"{BASE}#access_token={SECRET}",
        f"{BASE}?password={SECRET}", f"{BASE}?url=https%3A%2F%2Fh%2F%3Fsig%3D{SECRET}",
        f"https://user:{SECRET}@host.example/x", f"https://{SECRET.partition('/')[0]}@h.example/x",
        f"s3://AKIA:{SECRET}@bucket/x", f"simplecache::https://u:{SECRET}@h/x",
        f"sftp://me:{SECRET}@host/x", f"zip://a.jsonl::{BASE}?sig={SECRET}",
        f"{BASE}?x=deadbeef0123456789abcdef0123456789abcdef",
        f"Authorization: Bearer {SECRET}", "hf_abcdefghijklmnopqrstuvwxyz1234",
    ],
)  # fmt: skip
def test_no_form_shows_the_secret_of_a_url(url: str) -> None:
    for secret in (SECRET, SECRET.partition("/")[0], "deadbeef0123", "hf_abcdef"):
        message = f"{url}: cannot be read, see '{url}'"
        assert secret not in without_secrets(message)
        assert secret not in printable(message)
        assert secret not in str(RunFolderError(message))
        assert secret not in first_line(OSError(message))
        if "://" in url:
            assert secret not in for_html(url)
            assert secret not in for_markdown(url)
    assert without_secrets(without_secrets(url)) == without_secrets(url)


@pytest.mark.parametrize(
    "text",
    [
        f"{BASE}?download=true", f"{BASE}?versionId=3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY3MTRcxf3",
        "hf://datasets/o/n@main/c.jsonl", "s3://bucket/a@b.jsonl", "sftp://me@host/run",
        "http://localhost:8080/a@b", "https://drive.google.com/uc?export=download&id=1AbC2dEfGhIjKl"
        "MnOpQrStUvWxYz345678901", "a key=value pair", "Is 1 & 2 = 3?", "--set run.threads=2",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_a_secret_of_the_environment_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "abcd-efgh-ijkl-mnop")
    assert printable("with abcd-efgh-ijkl-mnop in it") == "with [SOME_API_KEY] in it"


def test_all_that_is_printed_is_printable() -> None:
    """Only constants, and text of our own modules' files, are printed without ``printable``."""
    bare = []
    for path in Path(synthvlm.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "print" and node.args):
                continue
            if path.name == "unpickling.py":  # a child process, whose JSON its parent reads
                continue
            if not ast.unparse(node.args[0]).startswith("printable("):
                bare.append((path.name, ast.unparse(node.args[0])))
    assert sorted(bare) == [
        ("__init__.py", "f'  {recipe:<{width}}{line}'"),
        ("__init__.py", "f'synthvlm {__version__}'"),
        ("__init__.py", "title"),
        ("errors.py", "interrupted"),
        # Its token is no secret of others: whoever started the server needs it.
        ("pages.py", "f'{server.address}\\nCtrl-C ends it.'"),
        ("rating.py", "f'rate here, and end with Ctrl-C: {server.address}'"),
    ]
