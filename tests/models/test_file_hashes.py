"""Whole files are hashed, once, and nothing that becomes of the cache changes a result."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from changed_weights import change_a_tensor
from synthvlm.errors import ModelError
from synthvlm.models import file_hashes
from synthvlm.models.file_hashes import cache_folder, file_hash, hash_of_files
from synthvlm.models.model_files import language_path, model_identity, pipeline_path

UNET = Path(pipeline_path("tiny")) / "unet" / "diffusion_pytorch_model.safetensors"
SETTLING_S = 2.1
#: In a process of its own: the hash of a file, and the bytes that finding it took to read.
COUNTING = """
import sys
from synthvlm.models.file_hashes import file_hash

def read():
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])

before = read()
print(file_hash(sys.argv[1]), read() - before)
"""
#: Hashes of files 60 times over, each time looked up in the cache; every third time written, too.
HASHING = """
import sys
from synthvlm.models import file_hashes

look_up = file_hashes._read_entry
for n in range(60):
    file_hashes._read_entry = look_up if n % 3 else lambda *known: None
    for path in sys.argv[1:]:
        file_hashes._remembered.clear()
        print(file_hashes.file_hash(path))
"""


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the entries of a test are, none yet; and this process remembers nothing."""
    monkeypatch.setenv("SYNTHVLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(file_hashes, "_remembered", {})
    return tmp_path / "cache" / "file-hashes"


def entries(cache: Path) -> list[Path]:
    return sorted(cache.iterdir()) if cache.is_dir() else []


@pytest.mark.skipif(not Path("/proc/self/io").is_file(), reason="the system does not count reads")
def test_a_file_is_read_once_and_not_by_the_next_process(cache: Path) -> None:
    found = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", COUNTING, str(UNET)], capture_output=True, text=True, check=True
        )
        result, read = done.stdout.split()
        assert result == sha256(UNET)
        found.append(int(read))
    assert found[0] > UNET.stat().st_size
    assert found[1] < 10_000
    assert len(entries(cache)) == 1


def test_whoever_changes_a_file_and_puts_its_time_back_is_found_out(
    tmp_path: Path, cache: Path
) -> None:
    file = Path(shutil.copy2(UNET, tmp_path))  # the time of its change is that of the original
    first = file_hash(file)
    assert entries(cache) == []  # just written: it could change again within the clock's step
    change_a_tensor(file)
    second = file_hash(file)
    assert (first, second) == (sha256(UNET), sha256(file))
    time.sleep(SETTLING_S)
    assert file_hash(file) == second
    assert len(entries(cache)) == 1
    change_a_tensor(file)  # negated twice, it is what it was
    assert file_hash(file) == first


def test_a_moved_file_is_not_read_again(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "here").mkdir()
    file = Path(shutil.copy(UNET, tmp_path / "here"))
    time.sleep(SETTLING_S)
    first = model_identity(str(file.parent))
    written = [path.stat() for path in entries(cache)]
    file_hashes._remembered.clear()
    assert model_identity(str(file.parent.rename(tmp_path / "there"))) == first
    assert [path.stat() for path in entries(cache)] == written


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: entry.write_bytes(b""),
        lambda entry: entry.write_bytes(b"\xff" * 200),
        lambda entry: entry.write_bytes(entry.read_bytes()[:-1]),
        lambda entry: entry.write_bytes(entry.read_bytes()[:70]),
        lambda entry: entry.write_bytes(entry.read_bytes().replace(b"a", b"b")),
        lambda entry: entry.write_bytes(entry.read_bytes() * 2),
        lambda entry: (entry.unlink(), entry.mkdir()),
        lambda entry: (entry.unlink(), entry.symlink_to("nowhere")),
        lambda entry: (shutil.rmtree(entry.parent), entry.parent.write_text("a file")),
    ],
)
def test_a_damaged_cache_only_costs_time(cache: Path, damage: Callable[[Path], object]) -> None:
    right = file_hash(UNET)
    (entry,) = entries(cache)
    damage(entry)
    file_hashes._remembered.clear()
    assert file_hash(UNET) == right == sha256(UNET)
    assert not list(cache.parent.glob("file-hashes/tmp*"))


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null"])
def test_a_cache_that_cannot_be_written_only_costs_time(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("SYNTHVLM_CACHE", place)
    assert file_hash(UNET) == sha256(UNET)
    assert cache_folder() == Path(place) / "file-hashes"
    assert not Path(place).is_dir()


def test_who_has_no_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNTHVLM_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", classmethod(_no_home))
    assert cache_folder() is None
    assert file_hash(UNET) == sha256(UNET)


def _no_home(cls: type[Path]) -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == tmp_path / "cache" / "file-hashes"
    monkeypatch.setenv("SYNTHVLM_CACHE", "")
    assert cache_folder() == Path("/caches/synthvlm/file-hashes")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "synthvlm" / "file-hashes"


def test_several_processes_at_once(tmp_path: Path, cache: Path) -> None:
    files = []
    for n in range(2):
        files.append(tmp_path / f"{n}.safetensors")
        files[-1].write_bytes(os.urandom(2**20))
    time.sleep(SETTLING_S)
    command = [sys.executable, "-c", HASHING, *map(str, files)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in running:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert out.split() == [sha256(file) for file in files] * 60
    assert len(entries(cache)) == 2


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("model.safetensors", True),
        ("chat_template.jinja", True),
        ("additional_chat_templates/tool.jinja", True),
        ("merges.txt", True),
        ("tokenizer.model", True),
        ("spiece.spm", True),
        ("vocab", True),
        ("unet/config.json", True),
        ("README.md", False),
        ("LICENSE", False),
        ("licence.txt", False),
        (".gitattributes", False),
        (".git/HEAD", False),
        (".cache/huggingface/download/model.safetensors.metadata", False),
        ("pytorch_model.bin", False),
        ("modeling.py", False),
        ("images/sample.PNG", False),
    ],
)
def test_what_may_be_loaded_counts(tmp_path: Path, name: str, counts: bool) -> None:
    (tmp_path / "config.json").write_text("{}")
    seen = [model_identity(str(tmp_path))]
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    for content in ("one", "two"):
        file.write_text(content)
        seen.append(model_identity(str(tmp_path)))
    assert len(set(seen)) == (3 if counts else 1)


def test_names_count_and_places_do_not(tmp_path: Path) -> None:
    shutil.copytree(language_path("tiny"), tmp_path / "model")
    first = model_identity(str(tmp_path / "model"))
    assert model_identity(language_path("tiny")) == first
    (tmp_path / "model" / "config.json").rename(tmp_path / "model" / "other.json")
    assert model_identity(str(tmp_path / "model")) != first


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    """As in the snapshots of the hub's cache, which are links."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    (blobs / "weights").write_text("one")
    (snapshot / "unet").symlink_to(blobs)
    (snapshot / "model.safetensors").symlink_to(blobs / "weights")
    (snapshot / "again").symlink_to(snapshot)
    (snapshot / "broken").symlink_to("nowhere")
    os.mkfifo(snapshot / "pipe")
    first = model_identity(str(snapshot))
    (blobs / "weights").write_text("two")
    assert model_identity(str(snapshot)) != first


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: File name too long"):
        model_identity("x" * 300)
    (tmp_path / os.fsdecode(b"caf\xe9.json")).write_text("{}")  # no valid name in UTF-8
    assert len(model_identity(str(tmp_path))) == 32


def test_what_hashing_costs_can_be_measured(tmp_path: Path) -> None:
    benchmark = Path(__file__).parents[2] / "benchmarks" / "model_hashing.py"
    command = [sys.executable, str(benchmark), "--mb", "64", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = [float(line.split(" s, ")[0].split()[-1]) for line in done.stdout.splitlines()]
    assert len(seconds) == 3
    assert seconds[2] < min(seconds[:2])
    assert list(tmp_path.glob("*/*")) == []


def test_a_hub_id_is_its_name() -> None:
    assert model_identity("stabilityai/sdxl-turbo") == "stabilityai/sdxl-turbo"


def test_many_small_files_are_read_once_as_long_as_all_stay(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [str(tmp_path / name) for name in "ab"]
    for path in files:
        Path(path).write_text(path)
    monkeypatch.setattr(file_hashes, "SETTLED_NS", 0)
    first = hash_of_files(files)
    assert len(entries(cache)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(file_hashes, "_remembered", {})
        patch.setattr(file_hashes, "file_hash", None)  # they are not read again
        assert hash_of_files(files) == first
    Path(files[1]).write_text("another")
    assert hash_of_files(files) != first
    assert hash_of_files(files[::-1]) != hash_of_files(files)
