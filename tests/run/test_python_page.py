"""The examples of docs/python.md, in their order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from synthvlm import tiny

PAGE = Path(__file__).parents[2] / "docs/python.md"


def test_its_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    captions = tiny.captions_path().read_text("utf-8").splitlines()[:12]
    Path("captions.jsonl").write_text("\n".join(captions))
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert Path("all-pairs/README.md").is_file()
    assert len(list(Path().glob("*.png"))) == len(names["run"].pairs) == 4
