"""Training that is stopped goes on as if it had not been."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from experiments.tiny_models import (
    autoencoder,
    autoencoder_benchmark,
    checkpoint,
    clip,
    diffusion,
    export,
    language,
    language_benchmark,
    restore,
    verifier,
)
from synthvlm.tiny import verifier_path


@pytest.fixture(autouse=True)
def _as_many_threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    restore.main(["--to", str(folder)])
    return folder


@pytest.mark.parametrize(
    ("command", "needs", "more"),
    [
        (autoencoder, (), ""),
        (clip, ("tokenizer", "autoencoder.pt"), ""),
        (diffusion, ("tokenizer", "autoencoder.pt", "clip.pt"), ""),
        (verifier, (), "--looking-until 1 --telling-until 2 --candidates 6 --candidates-from 3"),
    ],
)
def test_a_resumed_run_ends_as_an_unbroken_one(
    command: ModuleType, needs: tuple[str, ...], more: str, made: Path, tmp_path: Path
) -> None:
    options = ["--batch", "4", "--seed", "5", *more.split()]
    for name in needs:
        options += [f"--{Path(name).stem}", str(made / name)]
    for file, stops in (("once.pt", (4,)), ("twice.pt", (2, 4))):
        for steps in stops:
            command.main([*options, "--out", str(tmp_path / file), "--steps", str(steps)])
    once, twice = (checkpoint.needed(tmp_path / file) for file in ("once.pt", "twice.pt"))
    assert once["step"] == 4
    for part in ("model", "ema", "averaged"):
        assert once[part].keys() == twice[part].keys()
        assert all(torch.equal(value, twice[part][name]) for name, value in once[part].items())


def test_what_another_command_has_to_make_first_is_one_line(made: Path, tmp_path: Path) -> None:
    options = ["--tokenizer", str(made / "tokenizer"), "--autoencoder", str(tmp_path / "none.pt")]
    with pytest.raises(SystemExit, match=r"none\.pt is missing: train that part first"):
        diffusion.main([*options, "--out", str(tmp_path / "out.pt")])


def test_the_other_commands_run_in_small(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    autoencoder_benchmark.main(["--drawings", "4"])
    assert "| 0.0 | 100.0 |" in capsys.readouterr().out
    language_benchmark.main(["--count", "2"])
    assert re.search(r"captions true of their grid: \d+\.0 % of 2", capsys.readouterr().out)
    options = [f"--{name}={made / name}.pt" for name in ("clip", "diffusion")]
    export.main(["--to", str(tmp_path), f"--tokenizer={made / 'tokenizer'}", *options])
    assert (tmp_path / "clip" / "model.safetensors").is_file()
    assert (tmp_path / "pipeline" / "model_index.json").is_file()
    state = ["--out", str(tmp_path / "language.pt")]
    language.main([*state, "--steps", "2", "--batch", "2"])
    language.main([*state, "--export", str(tmp_path / "language")])
    assert (tmp_path / "language" / "model.safetensors").is_file()
    verifier.main(["--out", str(made / "verifier.pt"), "--export", str(tmp_path / "verifier")])
    for name in ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"):
        again = (tmp_path / "verifier" / name).read_bytes()
        assert again == (verifier_path() / name).read_bytes()
