"""Files and answers that are small until they are read: nothing takes the memory of a machine."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import struct
import subprocess
import sys
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from synthvlm.captions.readers.images import decode_image
from synthvlm.captions.readers.sources import read_captions, read_images
from synthvlm.endpoints import responses
from synthvlm.endpoints.client import EndpointClient
from synthvlm.endpoints.connection import Connection
from synthvlm.endpoints.images import ImageClient
from synthvlm.generators.endpoint import decode_picture

MIB = 1 << 20

READ = """
import resource, sys
from synthvlm.captions.readers.sources import read_captions
from synthvlm.errors import CaptionSourceError
import pyarrow.parquet
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv[1]) << 20),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for path in sys.argv[2:]:
    rows, problem = 0, None
    try:
        for caption in read_captions(path, name="s", normalize=lambda text: text[:50]):
            rows, problem = rows + 1, problem or caption.problem
    except CaptionSourceError as error:
        problem = str(error)
    print(rows, problem)
"""


def read_in_memory(megabytes: int, *paths: Path) -> list[tuple[int, str]]:
    """Rows and first problem of each file, read by a process that may take so much memory."""
    command = [sys.executable, "-c", READ, str(megabytes), *map(str, paths)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert len(lines) == len(paths)
    return [(int(rows), problem) for rows, problem in lines]


def test_compressed_captions_longer_than_memory(tmp_path: Path) -> None:
    block = b"a" * (32 * MIB)
    bombs = {
        "c.txt.gz": (gzip.compress, b"good\n", 10),
        "c.jsonl.zst": (
            lambda data: pa.compress(data, "zstd").to_pybytes(),
            b'{"caption": "a"}\n',
            8,
        ),
        "d.jsonl.bz2": (bz2.compress, b'{"caption": "good"}\n{"caption": "', 2),
        "e.txt.xz": (lzma.compress, b"good\n", 4),
        "f.csv.gz": (gzip.compress, b'caption\ngood\n"', 27),
        "f.tsv.gz": (gzip.compress, b"caption\ngood\n", 27),
        "g.json.gz": (gzip.compress, b'[{"caption": "good"}, {"caption": "', 27),
    }
    for name, (compress, start, times) in bombs.items():
        # Compressed files in a row are one file.
        (tmp_path / name).write_bytes(compress(start) + compress(block) * times)
        assert (tmp_path / name).stat().st_size < 2 * MIB
    *paths, csv, tsv, listed = [tmp_path / name for name in bombs]
    # csv takes four bytes a character, and where a list is cut costs more, however long the file.
    results = [
        *read_in_memory(256, *paths),
        *read_in_memory(512, csv, tsv),
        *read_in_memory(768, listed),
    ]
    found = dict(zip(bombs, results, strict=True))
    for name in ("c.txt.gz", "c.jsonl.zst", "d.jsonl.bz2", "e.txt.xz"):
        assert found[name] == (2, "line 2: the line is longer than 16 MiB"), name
    for name in ("f.csv.gz", "f.tsv.gz"):
        assert found[name][0] == 2
        assert "field larger than field limit" in found[name][1]
    assert "an item is longer than 16 MiB" in found["g.json.gz"][1]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_row_that_is_too_long_is_one_bad_row(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"c.{ending}"
    path.write_bytes(
        b"caption\none\n" + b"a" * (40 * MIB) + b"\r\ntwo\n" + b"b" * (32 * MIB) + b"\nx"
    )
    found = list(read_captions(path, name="s", normalize=str))
    assert [c.text for c in found] == ["one", "", "two", "", "x"]
    assert [(c.problem or "").split(":")[0] for c in found] == ["", "line 3", "", "line 5", ""]


def test_a_long_line_is_skipped_and_not_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_bytes(b"one\n" + b"a" * (40 * MIB) + b"\r\ntwo\nthree")
    found = list(read_captions(path, name="s", normalize=str))
    problem = "line 2: the line is longer than 16 MiB"
    assert [c.problem or c.text for c in found] == ["one", problem, "two", "three"]


def test_a_table_of_one_text_many_times(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    indices = pa.array(np.zeros(300_000, np.int32))
    texts = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * 10_000]))
    pq.write_table(pa.table({"caption": texts}), path, row_group_size=300_000)
    assert path.stat().st_size < 100_000  # ten gigabytes of text
    assert read_in_memory(1024, path) == [(300_000, "None")]


def test_long_texts_of_a_table_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    with pq.ParquetWriter(path, pa.schema([("caption", pa.string())]), use_dictionary=False) as to:
        for _ in range(10):
            to.write_table(pa.table({"caption": ["x" * MIB] * 40}), row_group_size=40)
    (found,) = read_in_memory(1024, path)
    assert found == (400, "row 1: the caption has 1,048,576 characters, the limit is 100,000")


def test_an_extension_type_of_a_table_is_not_unpickled(tmp_path: Path) -> None:
    # CVE-2023-47248: older versions of pyarrow unpickled this on reading.
    witness = tmp_path / "witness"
    bomb = b"cos\nmkdir\n(S'" + str(witness).encode() + b"'\ntR."
    names = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": bomb,
    }
    field = pa.field("caption", pa.string(), metadata=names)
    pq.write_table(pa.table([pa.array(["a cat"])], pa.schema([field])), tmp_path / "c.parquet")
    found = list(read_captions(tmp_path / "c.parquet", name="s", normalize=str))
    assert [caption.text for caption in found] == ["a cat"]
    assert not witness.exists()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + rows


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned() -> bytes:
    image = Image.new("RGB", (20, 10), "red")
    exif = image.getexif()
    exif[0x0112] = 6
    return saved(image, "JPEG", exif=exif, quality=100)


GREY, RED = Image.new("L", (20, 10), 128), Image.new("RGB", (20, 10), "red")
BLUE = Image.new("RGB", (20, 10), "blue")
ZEROS = zlib.compress(bytes(200 * MIB), 9)
NOISE = Image.effect_noise((20, 10), 99)
PALETTE = Image.new("P", (20, 10), 0)
PALETTE.putpalette([255, 0, 0])

TALL = saved(RED, "BMP").replace(b"\x14\0\0\0\x0a\0\0\0", b"\0\0\1\0\0\0\1\0")
FRAMES: dict[str, object] = {"save_all": True, "append_images": [BLUE]}

#: Bytes, and the size and colour of the image that they are; None: they are refused.
IMAGES: dict[str, tuple[bytes, tuple[int, int] | None, tuple[int, int, int]]] = {
    "bomb.png": (png(50_000, 50_000), None, (0, 0, 0)),
    "strip.png": (png(1_000_000, 60), None, (0, 0, 0)),
    "largest.png": (png(2**31 - 1, 2**31 - 1), None, (0, 0, 0)),
    "bomb.ppm": (b"P6 60000 60000 255\n", None, (0, 0, 0)),
    "bomb.bmp": (TALL, None, (0, 0, 0)),
    "bomb.gif": (b"GIF89a\xff\xff\xff\xff\xf0\0\0" + bytes(6), None, (0, 0, 0)),
    "text.png": (png(20, 10, chunk(b"zTXt", b"a\0\0" + ZEROS)), None, (0, 0, 0)),
    "profile.png": (png(20, 10, chunk(b"iCCP", b"a\0\0" + ZEROS)), None, (0, 0, 0)),
    "cut.png": (saved(NOISE, "PNG")[:150], None, (0, 0, 0)),
    "svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", None, (0, 0, 0)),
    "html.png": (b"<html><script>alert(1)</script></html>", None, (0, 0, 0)),
    "eps.png": (saved(RED, "EPS"), None, (0, 0, 0)),
    "pdf.png": (saved(RED, "PDF"), None, (0, 0, 0)),
    "ico.png": (saved(RED, "ICO"), None, (0, 0, 0)),
    "frames.gif": (saved(RED, "GIF", **FRAMES), (20, 10), (255, 0, 0)),
    "frames.png": (saved(RED, "PNG", **FRAMES), (20, 10), (255, 0, 0)),
    "frames.webp": (saved(RED, "WEBP", lossless=True, **FRAMES), (20, 10), (255, 0, 0)),
    "frames.tiff": (saved(RED, "TIFF", **FRAMES), (20, 10), (255, 0, 0)),
    "deep.png": (saved(Image.new("I;16", (20, 10), 0x8000), "PNG"), (20, 10), (128, 128, 128)),
    "deep.tiff": (saved(Image.new("I", (20, 10), 99), "TIFF"), None, (0, 0, 0)),
    "float.tiff": (saved(Image.new("F", (20, 10), 0.5), "TIFF"), None, (0, 0, 0)),
    "ink.jpg": (saved(Image.new("CMYK", (20, 10), 0), "JPEG", quality=100), (20, 10), (255,) * 3),
    "palette.png": (saved(PALETTE, "PNG", transparency=0), (20, 10), (255, 255, 255)),
    "grey.png": (saved(GREY, "PNG"), (20, 10), (128, 128, 128)),
    "turned.jpg": (turned(), (10, 20), (254, 0, 0)),
}  # fmt: skip

DECODE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
from synthvlm.captions.readers.images import decode_image
from synthvlm.generators.endpoint import decode_picture
from PIL import Image, ImageOps
import numpy, PIL.PngImagePlugin, PIL.TiffImagePlugin, PIL.WebPImagePlugin
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
for path in sys.argv[1:]:
    data = open(path, "rb").read()
    try:
        image = decode_image(data)
        said = f"{image.mode} {image.size} {image.getpixel((3, 3))}"
    except ValueError as error:
        said = f"refused: {error}"
    try:
        pixels = decode_picture(data, 20, 10)
        said += f"|{pixels.dtype} {pixels.shape}"
    except ValueError as error:
        said += f"|refused: {error}"
    print(repr(said))
"""


def test_images_of_every_kind_in_a_gigabyte(tmp_path: Path) -> None:
    paths = []
    for name, (data, _, _) in IMAGES.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data)
        assert len(data) < MIB
    command = [sys.executable, "-c", DECODE, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == len(IMAGES)
    for (name, (_, size, colour)), line in zip(IMAGES.items(), lines, strict=True):
        original, _, picture = line[1:-1].partition("|")
        if size is None:
            assert original.startswith("refused: the original image cannot be used: "), line
        else:
            assert original == f"RGB {size} {colour}", name
        usual = ("bomb", "cut", "svg", "text")
        assert picture.startswith(("refused: the picture cannot be used: ", "uint8 (10, 20, 3)"))
        assert not (name.startswith(usual) and picture.startswith("uint8")), line


def test_images_of_a_tar(tmp_path: Path) -> None:
    """As a whole shard: members with names that are paths, links, devices, and every image."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:

        def add(name: str, data: bytes = b"", **fields: object) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(data))

        for number, (name, (data, _, _)) in enumerate(IMAGES.items()):
            kind = "png" if number % 2 else "jpg"
            stem = ("../../up", "/abs/olute", "a\u202eb", "x\x1b[31m")[number % 4]
            add(f"{stem}/{name.replace('.', '-')}.txt", f"caption {number}".encode())
            add(f"{stem}/{name.replace('.', '-')}.{kind}", data)
        odd = {
            "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE,
            "char": tarfile.CHRTYPE, "block": tarfile.BLKTYPE,
        }  # fmt: skip
        for name, kind_of in odd.items():
            add(f"{name}.txt", b"odd")
            add(f"{name}.png", type=kind_of, linkname="/etc/passwd")
    count = len(IMAGES) + len(odd)
    captions = list(read_captions(path, name="s", normalize=str))
    assert [caption.text for caption in captions] == [
        *(f"caption {number}" for number in range(len(IMAGES))),
        *["odd"] * len(odd),
    ]
    images = list(read_images(path, rows=range(count)))
    for image, (data, size, _) in zip(images, IMAGES.values(), strict=False):
        assert image.data == data
        if size is not None:
            assert decode_image(data).size == size
    for image in images[len(IMAGES) :]:
        assert image.data is None
        assert str(image.problem).endswith("is not a regular file")
    assert [item.name for item in tmp_path.iterdir()] == ["a.tar"]


def test_bytes_of_a_table_are_images_alone(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_bytes(saved(RED, "PNG"))
    values = [{"bytes": data, "path": "../secret.png"} for data, _, _ in IMAGES.values()]
    values += [
        {"bytes": None, "path": path} for path in ("../secret.png", str(tmp_path), "/etc/passwd")
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"caption": ["x"] * len(values), "image": pa.array(values, kind)})
    pq.write_table(table, tmp_path / "in" / "c.parquet")
    found = list(
        read_images(tmp_path / "in" / "c.parquet", rows=range(len(values)), image_field="image")
    )
    assert [image.data for image in found[:-3]] == [data for data, _, _ in IMAGES.values()]
    for image in found[-3:]:
        assert image.data is None
        assert "is outside of the image folder" in str(image.problem)


@contextmanager
def server(body: bytes, **headers: str) -> Iterator[str]:
    """A server that answers everything with one body."""

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except ConnectionError:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}/v1"
    finally:
        listening.shutdown()
        listening.server_close()


def told(url: str) -> tuple[str | None, str | None]:
    """The problems of a chat request and of an image request."""
    chat = EndpointClient(Connection(url, max_tries=1), "m")
    [(_, reply)] = chat.ask_all([(0, [{"role": "user", "content": "x"}], {})])
    [(_, image)] = ImageClient(Connection(url, max_tries=1), "m").generate_all([(0, "x", {})])
    return reply.problem, image.problem


CHAT = json.dumps({"choices": [{"message": {"content": "Yes"}}]}).encode()


def test_answers_longer_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MAX_BODY_BYTES", MIB)
    long = b'"' + b"a" * (3 * MIB)
    for body, headers in (
        (long, {}),
        (gzip.compress(b"a" * (300 * MIB), 1), {"Content_Encoding": "gzip"}),
        (zlib.compress(b"a" * (300 * MIB), 1), {"Content_Encoding": "deflate"}),
    ):
        with server(body, **headers) as url:
            for problem in told(url):
                assert problem is not None
                assert problem.endswith("the answer is longer than 1 MiB")


def test_answers_encoded_as_nobody_asked() -> None:
    for name, body in (("br", b"x"), ("zstd", b"x"), ("gzip, gzip", b"x"), ("x" * 99, b"x")):
        with server(body, Content_Encoding=name) as url:
            for problem in told(url):
                assert problem is not None
                assert "which was not asked for" in problem
    with server(b"no gzip", Content_Encoding="gzip") as url:
        assert all("the answer is damaged" in str(problem) for problem in told(url))


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, None])
def test_answers_within_the_limit_arrive(compress: Callable[[bytes], bytes] | None) -> None:
    headers = {gzip.compress: "gzip", zlib.compress: "deflate", None: "identity"}
    body = CHAT if compress is None else compress(CHAT)
    with server(body, Content_Encoding=headers[compress]) as url:
        client = EndpointClient(Connection(url, max_tries=1), "m")
        [(_, reply)] = client.ask_all([(0, [{"role": "user", "content": "x"}], {})])
    assert (reply.text, reply.problem) == ("Yes", None)


def test_a_picture_of_a_server_is_of_the_size_that_was_asked_for() -> None:
    for name in ("bomb.png", "largest.png", "strip.png"):
        with pytest.raises(ValueError, match=r"^the picture cannot be used: "):
            decode_picture(IMAGES[name][0], 20, 10)
