"""How long the pages of `synthvlm view` take over 100,000 pairs, and how much memory.

Run it with `python benchmarks/explorer.py --folder DIR` (240 MB there). It writes the files of a
run folder as generation would leave them: captions with their measures, two candidates of each,
their winners as real PNG images of 64 pixels, and embeddings of 512 numbers. Then a process of its
own serves them, and a client of six connections, as browsers have them, asks what the page asks.
Each request is made several times with other words, pairs and bounds, and the median is told; what
is computed once is told apart. `--map` computes the map as well; without it, the points that are
sent are random. `--browser` has Chromium show the page. `--by-hand` measures what one writes
without an explorer: all tables, images included, read into memory, then a loop over captions.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from queue import SimpleQueue
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from selection import column, embeddings, filled

from synthvlm.data import candidate_schema, caption_schema, pair_schema, selection_schema
from synthvlm.recipe import Recipe
from synthvlm.run_folder.folder import RECIPE_FILE, RunFolder, table_bytes
from synthvlm.web.explorer.run_embeddings import MAP_FILE
from synthvlm.web.explorer.view import open_collection, view

SHARD, SIDE, THUMBNAILS, CONNECTIONS, TURNS = 1000, 64, 60, 6, 7
RULES = ["alnum_ratio", "char_rep_ratio", "flagged_words_ratio", "special_char_ratio",
         "word_rep_ratio"]  # fmt: skip
SCORERS = ["clip", "ssim", "questions"]
PICTURES = """() => {
  const shown = [...document.querySelectorAll(".cell img")];
  return shown.length > 5 && shown.every((image) => image.complete && image.naturalWidth);
}"""
THINGS = ["dog", "cat", "bicycle", "lantern", "violin", "teapot", "ladder", "kite", "owl", "boat"]
COLOURS = ["red", "green", "blue", "yellow", "white", "black", "orange", "purple"]
PLACES = ["beach", "café", "harbour", "meadow", "kitchen", "station", "forest", "market"]


def picture(rng: np.random.Generator) -> bytes:
    """A PNG of a few rectangles, unlike all others."""
    pixels = np.full((SIDE, SIDE, 3), rng.integers(0, 256, 3), np.uint8)
    for x, y, width, height in rng.integers(4, 40, (3, 4)).tolist():
        pixels[y : y + height, x : x + width] = rng.integers(0, 256, 3)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG", compress_level=1)
    return sink.getvalue()


def write_run(folder: Path, count: int, shard_size: int = SHARD) -> RunFolder:
    """Write a run folder of so many pairs, a fifth of them selected by score."""
    recipe = Recipe.load(
        "tiny",
        overrides=["scoring.questions.weight=0.5", "selection.top_fraction=0.2",
                   "generation.candidates=2"],
    )  # fmt: skip
    run = RunFolder(folder)
    run.prepare()
    run.write(RECIPE_FILE, recipe.to_yaml().encode())
    rng = np.random.default_rng(count)
    topics = max(10, count // 500)
    centers = rng.standard_normal((2, topics, 512), np.float32)
    ranked: list[pa.Table] = []
    for shard, start in enumerate(range(0, count, shard_size)):
        numbers = np.arange(start, min(start + shard_size, count))
        winners = _write_shard(run, shard, numbers, rng, centers)
        ranked.append(winners.append_column("shard", pa.array([shard] * len(numbers), pa.int32())))
    best = pa.concat_tables(ranked).sort_by([("score", "descending")]).slice(0, -(-count // 5))
    best = best.append_column("rank", pa.array(range(1, len(best) + 1)))
    schema = selection_schema(SCORERS)
    selection = run.write("selection.parquet", table_bytes(best.select(schema.names).cast(schema)))
    run.commit("select", 0, "s", [selection], {"pairs": count, "selected": len(best)})
    return run


def _write_shard(
    run: RunFolder,
    shard: int,
    numbers: npt.NDArray[np.int64],
    rng: np.random.Generator,
    centers: npt.NDArray[np.float32],
) -> pa.Table:
    """Write a shard; the rows of its winners."""
    n = len(numbers)
    ids = [f"web-{number}" for number in numbers.tolist()]
    of = rng.integers(0, centers.shape[1], n)
    words = [
        (THINGS[t % len(THINGS)], COLOURS[c], PLACES[p])
        for t, c, p in zip(of.tolist(), *rng.integers(0, 8, (2, n)).tolist(), strict=True)
    ]
    captions = {
        "id": ids,
        "source": [f"source-{t % 5}" for t in of.tolist()],
        "row": numbers.tolist(),
        "text": [
            f"A {colour} {thing} stands at the {place}, number {number}."
            for (thing, colour, place), number in zip(words, numbers.tolist(), strict=True)
        ],
        "kept": [True] * n,
        **{rule: rng.random(n) for rule in RULES},
    }
    scores = {f"{name}_score": rng.normal(0.6, 0.1, 2 * n).clip(0, 1) for name in SCORERS}
    total = scores["clip_score"] + scores["ssim_score"] / 2 + scores["questions_score"] / 2
    chosen = np.zeros(2 * n, bool)
    pairs_of = total.reshape(n, 2)
    winner = pairs_of.argmax(axis=1)
    chosen[np.arange(n) * 2 + winner] = True
    failed = [
        f"Is there a {words[place // 2][0]}?" if value < 0.6 else None
        for place, value in enumerate(scores["questions_score"].tolist())
    ]
    candidates = {
        "caption_id": np.repeat(ids, 2).tolist(),
        "index": [0, 1] * n,
        "seed": rng.integers(0, 2**62, 2 * n),
        "status": ["ok"] * 2 * n,
        "fingerprint": [f"f-{shard}-{place}" for place in range(2 * n)],
        **scores,
        "questions_remarks": failed,
        "score": total,
        "truncated": [False] * 2 * n,
        "prompt_truncated": [False] * 2 * n,
        "reproducible": [True] * 2 * n,
        "chosen": chosen,
    }
    texts, images = (embeddings(rng, centers[kind], of) for kind in (0, 1))
    pairs = {
        "caption_id": ids,
        "index": winner.tolist(),
        "image": [picture(rng) for _ in ids],
        "format": ["png"] * n,
        "width": [SIDE] * n,
        "height": [SIDE] * n,
        "image_embedding": column(images),
        "text_embedding": column(texts),
    }
    rows = filled(candidates, candidate_schema(SCORERS, ["questions"]))
    files = [
        run.write_table("candidates", shard, rows),
        run.write_table("pairs", shard, filled(pairs, pair_schema())),
    ]
    run.commit("generate", shard, "g", files)
    file = run.write_table("captions", shard, filled(captions, caption_schema(RULES)))
    run.commit("curate", shard, "c", [file], {"captions": n, "kept": n})
    return rows.filter(rows["chosen"])


class Client:
    """Asks a server by some connections that stay open, as a browser does."""

    def __init__(self, port: int, token: str) -> None:
        """Open the connections."""
        self._headers = {"Authorization": f"Bearer {token}"}
        self._free: SimpleQueue[HTTPConnection] = SimpleQueue()
        for _ in range(CONNECTIONS):
            self._free.put(HTTPConnection("127.0.0.1", port, timeout=600))
        self._pool = ThreadPoolExecutor(CONNECTIONS)

    def get(self, path: str, **query: object) -> bytes:
        """The answer to a request."""
        connection = self._free.get()
        try:
            connection.request("GET", f"{path}?{urlencode(query)}", headers=self._headers)
            response = connection.getresponse()
            data = response.read()
        finally:
            self._free.put(connection)
        if response.status != 200:
            raise SystemExit(f"{path}: {response.status} {data[:200]!r}")
        return data

    def page(self, **query: object) -> None:
        """A page of pairs, and its thumbnails."""
        pairs = json.loads(self.get("/api/pairs", limit=100, **query))["pairs"]
        rows = [pair["row"] for pair in pairs[:THUMBNAILS]]
        list(self._pool.map(lambda row: self.get(f"/thumbnail/{row}"), rows))


def milliseconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - began)


def median(actions: Sequence[Callable[[], object]]) -> float:
    """Milliseconds."""
    return statistics.median(map(milliseconds, actions))


def peak_mb() -> float:
    """The highest memory of this process so far."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def measure(folder: str) -> dict[str, float]:
    """Serve a run in this process and ask what its page asks; milliseconds and megabytes."""
    figures: dict[str, float] = {"memory before, MB": peak_mb()}
    began = time.perf_counter()
    server = view(folder)
    figures["opening"] = 1000 * (time.perf_counter() - began)
    figures["memory once open, MB"] = peak_mb()
    client = Client(server.port, server.token)

    def first_page() -> None:
        client.get("/api/collection")
        client.page()

    figures["first page"] = milliseconds(first_page)
    collection = json.loads(client.get("/api/collection"))
    count = collection["pairs"]
    figures["words, first search"] = milliseconds(lambda: client.get("/api/pairs", words="cafe"))
    figures["picture, first search"] = milliseconds(lambda: client.get("/api/pairs", like="0"))
    places = np.random.default_rng(0).integers(0, count, TURNS).tolist()
    thirds = [[place / 10, (place + 3) / 10] for place in range(TURNS)]
    queries: dict[str, Callable[[int], dict[str, object]]] = {
        "words": lambda turn: {"words": f"{COLOURS[turn]} {THINGS[turn][:-1]}"},
        "picture": lambda turn: {"like": places[turn]},
        "filter and sort": lambda turn: {
            "filter": json.dumps(
                {
                    "alnum_ratio": {"minimum": thirds[turn][0], "maximum": thirds[turn][1]},
                    "selected": {"values": [True]},
                    "source": {"values": ["source-1", "source-2"]},
                }
            ),
            "sort": "score",
            "descending": "1",
        },
        "page of another place": lambda turn: {"offset": places[turn] // 100 * 100},
    }
    for name, query in queries.items():
        asked = [partial(client.get, "/api/pairs", **query(turn)) for turn in range(TURNS)]
        figures[name] = median(asked)
    sort = {"sort": "score", "descending": "1"}
    figures["best 60 with thumbnails"] = milliseconds(lambda: client.page(**sort))
    figures["story of a pair"] = median([partial(client.get, f"/api/pair/{row}") for row in places])
    figures["map, sent"] = median([partial(client.get, "/api/map", color="score")] * TURNS)
    figures["peak memory, MB"] = peak_mb()
    server.close()
    return figures


def in_browser(folder: str) -> dict[str, float]:
    """The same in Chromium (`chromium` on the path): pictures there, map drawn; milliseconds."""
    from playwright.sync_api import sync_playwright

    figures: dict[str, float] = {}
    with view(folder) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        began = time.perf_counter()
        page.goto(server.address)
        while not page.evaluate(PICTURES):
            time.sleep(0.005)
        figures["all pictures of the window there"] = 1000 * (time.perf_counter() - began)
        page.keyboard.press("v")
        page.locator("#map[data-milliseconds]").wait_for(state="attached")
        figures["map drawn"] = float(page.locator("#map").get_attribute("data-milliseconds") or "")
        browser.close()
    return figures


def place_map(run: RunFolder, *, compute: bool) -> float | None:
    """Keep a map of the run: computed, in so many seconds; or of random points."""
    collection = open_collection(run.url)
    embeddings_of = collection.embeddings
    assert embeddings_of is not None
    if not compute:
        if embeddings_of.kept_map() is None:
            count = len(collection.ids)
            x, y = np.random.default_rng(0).uniform(-1, 1, (2, count)).astype(np.float32)
            embeddings_of.keep_map(
                pa.table({"row": np.arange(count, dtype=np.uint32), "x": x, "y": y})
            )
        return None
    from synthvlm.web.explorer.pair_map import PairMap

    run.remove(MAP_FILE)
    began, computed = time.monotonic(), PairMap(collection)
    computed.start()
    while computed.state()["state"] == "computing":
        time.sleep(0.2)
    if computed.state()["state"] != "ready":
        raise SystemExit(computed.state()["problem"])
    return time.monotonic() - began


def by_hand(folder: str) -> dict[str, float]:
    """What people write without an explorer, in this process."""
    figures: dict[str, float] = {}
    tables: list[pa.Table] = []

    def read() -> None:
        for name in ("captions", "pairs"):
            files = sorted((Path(folder) / name).glob("*.parquet"))
            tables.append(pa.concat_tables(map(pq.read_table, files)))

    figures["reading all"] = milliseconds(read)
    texts = tables[0]["text"].to_pylist()
    images = tables[1]["image"]

    def thumbnails() -> None:
        for data in images[:THUMBNAILS].to_pylist():
            image = Image.open(io.BytesIO(data)).convert("RGB")
            image.thumbnail((192, 192))
            image.save(io.BytesIO(), "JPEG")

    figures["60 thumbnails"] = milliseconds(thumbnails)
    figures["search by words"] = milliseconds(lambda: [t for t in texts if "red" in t.lower()])
    halves = tables[1]["image_embedding"].combine_chunks().flatten().to_numpy()
    vectors = halves.astype(np.float32).reshape(len(texts), -1)
    figures["search by picture"] = milliseconds(lambda: np.argsort(-(vectors @ vectors[0])))
    figures["peak memory, MB"] = peak_mb()
    return figures


MEASURES = {"explorer": measure, "browser": in_browser, "by hand": by_hand}


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("results/explorer"))
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--map", action="store_true", help="Compute the map, and tell how long.")
    parser.add_argument("--by-hand", action="store_true", help="Measure the loop by hand, too.")
    parser.add_argument("--browser", action="store_true", help="Measure in Chromium, too.")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure, and print a table."""
    args = make_parser().parse_args(argv)
    if args.one is not None:
        which, folder = args.one
        print(json.dumps(MEASURES[which](folder)))
        return
    folder = args.folder / f"pairs-{args.pairs}"
    run = RunFolder(folder)
    if run.marker("select", 0) is None:
        run = write_run(folder, args.pairs)
    before = sum(run.listing("").values())
    seconds = place_map(run, compute=args.map)
    print(f"{args.pairs:,} pairs, {before / 2**20:,.0f} MB in the run folder")
    if seconds is not None:
        print(f"map computed in {seconds:.0f} s")
    measured = {"explorer": True, "browser": args.browser, "by hand": args.by_hand}
    for which in (name for name, is_wanted in measured.items() if is_wanted):
        command = [sys.executable, __file__, "--one", which, str(folder)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        print(f"\n| {which} | ms, or as named |\n|---|---|")
        for name, value in json.loads(done.stdout.splitlines()[-1]).items():
            print(f"| {name} | {value:,.0f} |" if value >= 10 else f"| {name} | {value:.1f} |")


if __name__ == "__main__":
    main()
