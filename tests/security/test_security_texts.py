"""Captions, ids, names and replies that try to become paths, markup, YAML or terminal codes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from commands import Result, run
from fake_models import use_fake_models
from fakes.endpoint import FakeEndpoint
from rendered_markdown import inert_kinds
from synthvlm.exporters.card import CardFacts, data_set_card
from synthvlm.exporters.card_terms import TermsFacts, UseFacts
from synthvlm.exporters.edited_card import BEGIN, END
from synthvlm.rights import terms_table

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
#: What a terminal obeys: control characters, and marks that turn the direction of writing.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
RULES = (
    "alnum_ratio", "char_rep_ratio", "flagged_words_ratio", "special_char_ratio", "word_rep_ratio",
)  # fmt: skip
MARK = "document.documentElement.dataset.ran=1"
#: The n-th stands in the n-th caption and, with another beginning, in its id.
PAYLOADS = [
    f"<script>{MARK}</script>",
    f"</script><script>{MARK}</script>",
    f"</pre></p></style></title></textarea><img src=x onerror={MARK}>",
    f"\"><svg onload={MARK}><a href='javascript:{MARK}'>a</a>",
    "<img src=http://HOST/img><link rel=stylesheet href=http://HOST/css>",
    "<style>@import 'http://HOST/style'</style><iframe src=http://HOST/frame></iframe>",
    "<meta http-equiv=refresh content='0;url=http://HOST/refresh'>",
    "<base href=http://HOST/><object data=http://HOST/object></object>",
    "[a](javascript:alert(1)) ![b](http://HOST/md) | c | `d` \\| e",
    "\n---\nlicense: evil\n---\n# heading",
    "../../../../escaped",
    "/tmp/escaped-absolute",
    "C:\\escaped\\path",
    "x\0y\r\nz",
    "\u202egnp.exe\u2066",
    "\x1b[2J\x1b]0;title\x07\x9b31m",
    "{{7*7}} ${7*7} {% raw %}",
    "--rf",
    "l" * 3000,
]


class Requests(BaseHTTPRequestHandler):
    """Notes that somebody came."""

    def do_GET(self) -> None:
        self.server.hits.append(self.path)  # type: ignore[attr-defined]
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def stranger() -> Iterator[ThreadingHTTPServer]:
    """A server that the texts point to."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    server.hits = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Hostile:
    """A finished run over the payloads."""

    def __init__(self, folder: Path, host: str) -> None:
        self.folder = folder
        self.payloads = [payload.replace("HOST", host) for payload in PAYLOADS]
        self.name = f"s/../..|`[x](http://{host}/n)<img src=http://{host}/s>\\|\x1b[31m"
        file = folder / f"in\x1b[31m\u202e<b>{len(PAYLOADS)}.jsonl"
        records = [
            {"id": f"id {text}", "caption": f"A small red circle number {number} by the sea {text}"}
            for number, text in enumerate(self.payloads)
        ]
        lines = [*map(json.dumps, records), '{"id": "broken']
        file.write_text("\n".join(lines), "utf-8")
        concept = folder / "concepts.txt"
        concept.write_text(f"dog {self.payloads[0]}\n", "utf-8")
        with FakeEndpoint(lambda messages: f"{self.payloads[2]} \x1b[31m {MARK}") as server:
            endpoint = {"url": server.base_url}
            judge = {"min": 1, "model": "m", "endpoint": endpoint}
            writer = {"model": "m", "endpoint": endpoint, "captions_per_concept": 1}
            sources = [
                {"path": str(file), "name": self.name},
                {"path": str(concept), "name": "../written", "concept_writer": writer},
            ]
            changes = [
                f"sources={json.dumps(sources)}",
                *(f"curation.rules.{rule}=null" for rule in RULES),
                "curation.fix_unicode=false",
                "curation.normalize_punctuation=false",
                f"curation.concepts={json.dumps({'cap': 99, 'concepts': self.payloads[:2]})}",
                *models("report.preview_share=1.0"),
            ]
            # The first invocation meets a judge that says nothing readable of any caption.
            self.judged = self.run([*changes, f"curation.rules.judge={json.dumps(judge)}"])
        self.done = self.run([*changes, "run.max_failed_share=1.0"])

    def run(self, changes: list[str]) -> Result:
        settings = [part for change in changes for part in ("--set", change)]
        command = ["run", "tiny", "--out", self.folder / "run", *settings]
        return run(command, self.folder, use_fake_models)


def models(*changes: str) -> list[str]:
    return [
        "generation.model=org/fake",
        "scoring.clip.model=org/fake",
        "generation.candidates=2",
        "selection.top_fraction=1.0",
        "run.shard_size=64",
        "run.threads=1",
        "run.max_failed_share=1.0",
        *changes,
    ]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, stranger: ThreadingHTTPServer) -> Hostile:
    host = f"127.0.0.1:{stranger.server_address[1]}"
    return Hostile(tmp_path_factory.mktemp("hostile"), host)


def test_the_run_ends_and_no_caption_is_lost(hostile: Hostile) -> None:
    assert hostile.judged.code in (0, 1)
    assert (hostile.done.code, hostile.done.err) == (0, "")
    exported = json.loads((hostile.folder / "run/dataset/llava.json").read_text("utf-8"))
    # `</object>` is a control token of grounding models.
    assert len(exported) == len(PAYLOADS) - 1


def test_nothing_lies_outside_and_names_are_plain(hostile: Hostile) -> None:
    names = {path.name for path in hostile.folder.iterdir()}
    assert names == {
        "run", "concepts.txt", "command.out", "command.err",
        f"in\x1b[31m\u202e<b>{len(PAYLOADS)}.jsonl",
    }  # fmt: skip
    for path in (hostile.folder / "run").rglob("*"):
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}|\.[a-z0-9._-]+", path.name), path
    for escaped in (hostile.folder.parent / "escaped", Path("/tmp/escaped-absolute")):
        assert not escaped.exists()


class Elements(HTMLParser):
    """All elements of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_no_element_of_the_report_comes_from_a_caption(hostile: Hostile) -> None:
    page = (hostile.folder / "run/report/index.html").read_text("utf-8")
    assert "A small red circle number 0 by the sea &lt;script&gt;" in page
    elements = Elements(page).found
    tags = [tag for tag, _ in elements]
    assert tags.count("script") == tags.count("style") == tags.count("main") == 1
    assert not {"iframe", "object", "base", "embed"} & {*tags}
    for tag, attributes in elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("src", "href", "action", "srcset", "data"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:")), (tag, target)
    refreshes = [a for t, a in elements if t == "meta" and a.get("http-equiv") == "refresh"]
    assert refreshes == []


def dumped(page: Path, folder: Path) -> str:
    """The page as a browser has it once its scripts ran and its requests are made."""
    assert BROWSER is not None
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000",
        f"--user-data-dir={folder}", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    return done.stdout.decode("utf-8", "replace")


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_a_browser_runs_no_script_of_a_caption_and_asks_nobody(
    hostile: Hostile, stranger: ThreadingHTTPServer, tmp_path: Path
) -> None:
    hits: list[str] = stranger.hits  # type: ignore[attr-defined]
    # That the browser can do both is seen on a page that lets it.
    open_page = tmp_path / "open.html"
    open_page.write_text("<html><body>" + " ".join(hostile.payloads[:6]), "utf-8")
    assert 'data-ran="1"' in dumped(open_page, tmp_path / "profile")
    assert "/img" in hits
    hits.clear()
    shown = dumped(hostile.folder / "run/report/index.html", tmp_path / "profile")
    assert 'id="gallery"' in shown
    assert "data-ran" not in shown.split(">", 2)[1]
    assert hits == []


def test_the_policy_of_the_report_forbids_what_escaping_should_have_stopped(
    hostile: Hostile, stranger: ThreadingHTTPServer, tmp_path: Path
) -> None:
    page = (hostile.folder / "run/report/index.html").read_text("utf-8")
    policies = [
        str(attributes["content"])
        for tag, attributes in Elements(page).found
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert "unsafe-eval" not in policies[0]
    assert not re.search(r"script-src[^;]*unsafe-inline", policies[0])
    if BROWSER is None:
        pytest.skip("no browser is installed")
    hits: list[str] = stranger.hits  # type: ignore[attr-defined]
    hits.clear()
    # As if a template had forgotten to escape.
    broken = tmp_path / "broken.html"
    broken.write_text(page.replace("<main", " ".join(hostile.payloads[:6]) + "<main", 1), "utf-8")
    assert 'data-ran="1"' not in dumped(broken, tmp_path / "profile")
    assert hits == []


def front_matter(card: str) -> dict[str, object]:
    begin, front, _ = card.split("---\n", 2)
    assert begin == ""
    values = yaml.safe_load(front)
    assert isinstance(values, dict)
    return values


def cells(line: str) -> list[str]:
    """The cells of a row as GitHub cuts them: at bars without a backslash, which can be escaped."""
    return re.findall(r"((?:\\.|[^\\|])*)\|", line.strip().removeprefix("|"))


def assert_tables_hold(card: str) -> None:
    lines = card.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("| ---"):
            width = len(cells(line))
            row = number - 1
            while row < len(lines) and lines[row].startswith("|"):
                assert len(cells(lines[row])) == width, lines[row]
                row += 1


def assert_no_markup(card: str, fence: str = "````") -> None:
    text = card.split(f"\n{fence}yaml\n", 1)[0].split("---\n", 2)[2]
    for own in ("[SynthVLM](https://arxiv.org/abs/2407.20756)", f"{BEGIN}\n"):
        assert own in text
        text = text.replace(own, "")
    table = terms_table()
    links = {entry.stated for entry in table.entries.values()}
    for own in links | {licence.link for licence in table.licences.values()}:
        text = text.replace(f"<{own}>", "")
    assert not inert_kinds(text) & {
        "link_open", "image", "html_inline", "html_block", "blockquote_open",
    }  # fmt: skip


def test_the_card_of_a_hostile_run(hostile: Hostile) -> None:
    card = (hostile.folder / "run/dataset/README.md").read_text("utf-8")
    front = front_matter(card)
    assert [*front] == ["pretty_name", "task_categories", "tags", "size_categories", "configs"]
    assert_tables_hold(card)
    assert_no_markup(card)
    assert not CONTROL.search(card)
    rows = [line for line in card.splitlines() if line.startswith("| s/../..")]
    assert len(rows) == 1


NAMES = [
    "a\\|b",
    "x | y",
    "![i](http://h/i)",
    "[a](javascript:x)",
    "<img src=x>",
    "`",
    "a\nb",
    "*",
    "see http://h/i",
]


@pytest.mark.parametrize("name", [*NAMES, "\x1b[31m\u202e", "a` b `c", "\\", "&lt;script&gt;"])
def test_every_text_of_a_card_is_inert(name: str) -> None:
    terms = TermsFacts(name, name, name, stated_licence=name, unknown=name, note=name)
    recipe = f"model: '{name}'\nprompt: '````\n---\n````yaml'\n"
    facts = CardFacts(
        license="mit",
        formats=["huggingface"],
        usages=[],
        abouts={name: name},
        terms=[terms],
        use=UseFacts(name, [name]),
        sources={name: 3},
        funnel=[(name, 1)],
        scores={name: (0.0, 0.0)},
        checks=["x"],
        personal_data_checked=True,
        names_checked=None,
        reproducible=True,
        recipe=recipe,
        benchmarks=[name, "b.tsv"],
        overlapping=1,
    )
    card = data_set_card(facts)
    assert front_matter(card)["license"] == "mit"
    assert_tables_hold(card)
    assert_no_markup(card, "`````")
    assert card.endswith(f"`````yaml\n{recipe}`````\n\n{END}\n"), (
        "the recipe is changed, or ends its fence"
    )


def test_no_control_character_reaches_the_terminal(hostile: Hostile) -> None:
    shown = [hostile.judged, hostile.done, *failing(hostile)]
    for result in shown:
        for text in (result.out, result.err):
            assert not CONTROL.search(text), text
    text = "".join(result.out + result.err for result in shown)
    assert r"\x1b[31m" in text, "the names are told, made visible"
    assert r"\u202e" in text


def failing(hostile: Hostile) -> list[Result]:
    """Commands that fail with an error line that holds hostile names; the last with a traceback."""
    evil, folder = "no\x1b[31m\u202e\x9b", hostile.folder / "run"
    commands = [
        ["run", evil, "--out", folder],
        ["run", "tiny", "--captions", f"{evil}.txt", "--out", hostile.folder.parent / "other"],
        ["run", "tiny", "--out", folder, "--set", f"{evil}=1"],
        ["run", "tiny", "--out", folder, "--set", f"generation.model={evil}: x", "--debug"],
        ["run", "tiny", "--captions", f"{evil}.txt", "--out", folder, "--debug"],
    ]
    (hostile.folder.parent / "logs").mkdir(exist_ok=True)
    results = [run(words, hostile.folder.parent / "logs", use_fake_models) for words in commands]
    assert all(result.code != 0 for result in [*results[:3], results[-1]])
    assert "Traceback" in results[-1].err
    return results
