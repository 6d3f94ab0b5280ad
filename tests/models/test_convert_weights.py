"""Pickled weights become safetensors with the same tensors; a pickle that is more is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPVisionModel

from random_llava import save_tower
from synthvlm.errors import ModelError
from synthvlm.models.convert_weights import convert_weights
from synthvlm.models.pretrained import load_pretrained
from synthvlm.models.unpickling import give_up_rights, read_tensors

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")


def tensors() -> dict[str, torch.Tensor]:
    whole = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    return {
        "tied.a": whole,
        "tied.b": whole,
        "view": whole[1:3, ::2],
        "turned": whole.t(),
        "half": torch.tensor([1.5, float("nan")], dtype=torch.bfloat16),
        "ids": torch.arange(5),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(2.0, dtype=torch.float64),
        "empty": torch.zeros(0, 3, dtype=torch.float16),
        "weight": torch.nn.Parameter(torch.ones(2)).detach(),
    }


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype
        and found[name].shape == tensor.shape
        and found[name].contiguous().view(-1).view(torch.uint8).tolist()
        == tensor.contiguous().view(-1).view(torch.uint8).tolist()
        for name, tensor in expected.items()
    )


def test_a_file(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "new" / "model"
    (source / "sub").mkdir(parents=True)
    torch.save(tensors(), tmp_path / "blob", _use_new_zipfile_serialization=False)
    (source / "pytorch_model.bin").symlink_to(tmp_path / "blob")  # as the hub's cache has it
    (source / "config.json").write_text("{}")
    (source / "sub" / "merges.txt").write_text("a b")
    (source / "code.py").write_text("")
    lines: list[str] = []
    convert_weights(str(source), str(target), lines.append)
    assert lines == ["model.safetensors"]
    assert same(load_file(target / "model.safetensors"), tensors())
    files = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert files == {"model.safetensors", "config.json", "sub/merges.txt"}


def test_a_vision_tower_as_it_was_published_loads(tmp_path: Path) -> None:
    """CLIP ViT-L/14-336's weights are a `.bin`, with a buffer that is no weight any more."""
    source = save_tower(tmp_path / "source")
    before = load_file(source / "model.safetensors")
    torch.save({**before, "position_ids": torch.arange(5)[None]}, source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="synthvlm convert-weights"):
        load_pretrained([CLIPVisionModel], "vision", str(source), "cpu", "float32", None)
    convert_weights(str(source), str(tmp_path / "out"))
    (model,) = load_pretrained(
        [CLIPVisionModel], "vision", str(tmp_path / "out"), "cpu", "float32", None
    )
    assert same(dict(model.state_dict()), before)


def sharded(folder: Path) -> dict[str, torch.Tensor]:
    folder.mkdir()
    whole = tensors()
    names = sorted(whole)
    parts = {
        f"pytorch_model-0000{n}-of-00002.bin": {name: whole[name] for name in names[n - 1 :: 2]}
        for n in (1, 2)
    }
    for file, part in parts.items():
        torch.save(part, folder / file)
    where = {name: file for file, part in parts.items() for name in part}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    return whole


def test_parts(tmp_path: Path) -> None:
    whole = sharded(tmp_path / "source")
    convert_weights(str(tmp_path / "source"), str(tmp_path / "out"), lambda line: None)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    found = {}
    for name, file in index["weight_map"].items():
        found[name] = load_file(tmp_path / "out" / file)[name]
    assert same(found, whole)
    assert not list((tmp_path / "out").glob("*.bin*"))


class Mark:
    """Its pickle runs a command when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_the_weights_of_a_training_s_checkpoint_are_read() -> None:
    """As HPS v2 is published; what else it holds is left out."""
    file = io.BytesIO()
    torch.save({"epoch": 3, "name": "run", "state_dict": tensors()}, file)
    file.seek(0)
    assert same(read_tensors(file), tensors())


def test_a_file_without_a_folder(tmp_path: Path) -> None:
    """As scorers' heads are published."""
    source, target = tmp_path / "head.pth", tmp_path / "new" / "head.safetensors"
    torch.save(tensors(), source)
    for path, problem in ((tmp_path / "new", "must end in"), (source, "must end in")):
        with pytest.raises(ModelError, match=problem):
            convert_weights(str(source), str(path))
    lines: list[str] = []
    convert_weights(str(source), str(target), lines.append)
    assert lines == ["head.safetensors"]
    assert same(load_file(target), tensors())
    assert [path.name for path in target.parent.iterdir()] == ["head.safetensors"]
    with pytest.raises(ModelError, match="is there already: name a new file"):
        convert_weights(str(source), str(target))


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    source, mark = tmp_path / "source", tmp_path / "mark"
    source.mkdir()
    torch.save({"a": torch.zeros(1), "b": Mark(mark)}, source / "pytorch_model.bin")
    with zipfile.ZipFile(source / "pytorch_model.bin") as file:
        inner = next(name for name in file.namelist() if name.endswith("data.pkl"))
        assert b"system" in file.read(inner)
    with pytest.raises(ModelError, match=r"refused: it asks for posix\.system, which is no"):
        convert_weights(str(source), str(tmp_path / "out"))
    assert not mark.exists()
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()
    # It would have: the same pickle, loaded as others load it.
    pickle.loads(pickle.dumps(Mark(mark)))
    assert mark.exists()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"no pickle", "it is damaged, or holds something else than weights"),
        (b"PK\x03\x04 cut", "it is damaged, or holds something else than weights"),
        ({"a": torch.zeros(1), "b": 3}, "'b' is no plain tensor"),
        ({"a": torch.zeros(1).to_sparse()}, "'a' is no plain tensor"),
        ([torch.zeros(1)], "it holds no tensors by name"),
    ],
)
def test_what_is_no_plain_weights_is_one_line(content: Any, line: str) -> None:
    file = io.BytesIO(content if isinstance(content, bytes) else b"")
    if not isinstance(content, bytes):
        torch.save(content, file)
        file.seek(0)
    with pytest.raises(ValueError, match=line) as found:
        read_tensors(file)
    assert "\n" not in str(found.value)


def test_more_than_the_limit_is_not_written(tmp_path: Path) -> None:
    """A few bytes that stand for a gigabyte."""
    torch.save({"a": torch.zeros(1).expand(1 << 28)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="is not converted: File too large"):
        convert_weights(str(tmp_path), str(tmp_path / "out"))
    assert {path.name for path in tmp_path.iterdir()} == {"pytorch_model.bin"}


def test_folders_that_cannot_be_converted(tmp_path: Path) -> None:
    def refused(source: Path, target: Path) -> str:
        with pytest.raises(ModelError) as found:
            convert_weights(str(source), str(target))
        return str(found.value)

    assert "`hf download" in refused(tmp_path / "lmsys", tmp_path / "out")
    assert "nothing to convert" in refused(tmp_path, tmp_path / "out")
    source = tmp_path / "source"
    sharded(source)
    assert "is there already" in refused(source, tmp_path)
    (source / "pytorch_model-00002-of-00002.bin").unlink()
    assert "is missing, which" in refused(source, tmp_path / "out")
    index = source / "pytorch_model.bin.index.json"
    for name in ("../secret.bin", "/etc/secret.bin", 3):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        assert "is no index of weights" in refused(source, tmp_path / "out")
    (source / "model.safetensors").touch()
    assert "has safetensors already" in refused(source, tmp_path / "out")


def attempts(folder: Path) -> dict[str, Callable[[], object]]:
    kept = folder / "kept"
    kept.touch()
    return {
        "open": lambda: kept.open(),
        "write": lambda: (folder / "made").open("w"),
        "unlink": kept.unlink,
        "rename": lambda: kept.rename(folder / "moved"),
        "mkdir": lambda: (folder / "made").mkdir(),
        "chmod": lambda: kept.chmod(0o777),
        "socket": socket.socket,
        "exec": lambda: os.execv("/bin/true", ["true"]),
        "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "fork": lambda: os.fork() or os._exit(9),
        "kill": lambda: os.kill(os.getppid(), 0),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="the filter of calls is Linux'")
def test_the_process_can_do_nothing_else(tmp_path: Path) -> None:
    """Even if a pickle ran its code: each of these fails in such a process."""
    tries = attempts(tmp_path)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            give_up_rights(1 << 20)
            for name, attempt in tries.items():
                try:
                    attempt()
                except OSError:
                    continue
                os.write(write, f"{name} ".encode())
            os.write(write, b"end")
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as file:
        assert file.read() == "end"
    assert {path.name for path in tmp_path.iterdir()} == {"kept"}
