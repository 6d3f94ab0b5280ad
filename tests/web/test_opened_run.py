"""A run that another command changes while the explorer shows it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from explorer_client import ExplorerClient

from synthvlm import SynthVLMError
from synthvlm.web.explorer.view import open_collection, view

SAID = "has changed since it was opened here: end `synthvlm view` with Ctrl-C and start it again"


def test_what_is_gone_is_said_with_what_to_do(many_pairs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(many_pairs, tmp_path / "run"))
    embeddings = open_collection(str(run)).embeddings
    assert embeddings is not None
    with view(str(run)) as server:
        ask = ExplorerClient(server)
        for folder in ("pairs", "candidates"):  # as a run does that makes a shard anew
            (file,) = (run / folder).glob("part-00001*")
            file.rename(file.with_name(f"part-00001-other-{folder}.parquet"))
        for path in ("/image/20", "/thumbnail/39", "/api/pair/20"):
            assert ask.error(path) == f"{run} {SAID}"
        assert ask.get("/api/pair/0")["caption_id"] == "web-0"
        assert SAID in ask.error("/api/pairs", like="0")
    with pytest.raises(SynthVLMError, match="start it again"):
        embeddings.images()


def test_a_damaged_file_is_none_that_changed(many_pairs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(many_pairs, tmp_path / "run"))
    with view(str(run)) as server:
        (file,) = (run / "candidates").glob("part-00001*")
        file.write_bytes(b"damaged")
        assert "changed" not in ExplorerClient(server).error("/api/pair/20")
