"""Publishing to the hub: what arrives, in which order, again, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from exported_run import WORDS, Notes, content, export, send

from fakes.hub import FakeHub, Repository
from synthvlm.publishing import PublishingError

TARGET = "hf://datasets/org/pairs"

# The hub's client hands files to its transport in a way that this one calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthvlm.publishing.publication._BATCH_FILES", 4)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client pauses by a clock of its own."""
    from huggingface_hub.utils import _http

    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))


def refusal(out: Path, target: str = TARGET, **options: object) -> str:
    with pytest.raises(PublishingError) as caught:
        send(out, target, **options)
    assert "\n" not in str(caught.value)
    assert "hf_secret" not in str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("small_batches")
def test_all_files_arrive_and_the_card_last(out: Path, hub: FakeHub) -> None:
    notes = Notes()
    done = send(out, TARGET, progress=notes, message="seven horses")
    repository = hub.repositories["org/pairs"]
    there = content(out / "dataset")
    assert repository.files == there
    assert (done.files, done.sent, done.removed) == (len(there), len(there), 0)
    assert done.sent_bytes == sum(map(len, there.values()))
    assert notes.counted == len(there)
    assert notes.lines == []
    assert done.url == f"{hub.endpoint}/datasets/org/pairs"
    assert not repository.private
    assert {commit.title for commit in repository.commits} == {"seven horses"}
    assert [len(commit.paths) for commit in repository.commits] == [4, 8, 12, 13]
    assert ["README.md" in c.paths for c in repository.commits] == [False, False, False, True]


def test_a_second_call_sends_nothing(out: Path, hub: FakeHub) -> None:
    send(out, TARGET)
    uploaded, commits = len(hub.uploaded), len(hub.repositories["org/pairs"].commits)
    done = send(out, TARGET)
    assert (done.files, done.sent, done.sent_bytes) == (13, 0, 0)
    assert len(hub.uploaded) == uploaded
    assert len(hub.repositories["org/pairs"].commits) == commits
    assert hub.count("POST", "/commit/") == commits


def test_only_what_is_missing_or_differs_is_sent(out: Path, hub: FakeHub) -> None:
    send(out, TARGET)
    files = hub.repositories["org/pairs"].files
    lost, other = sorted(name for name in files if name.startswith("images/00001/"))[:2]
    del files[lost]
    files[other] = files[other][::-1]  # of the same size
    files["llava.json"] = files["llava.json"].replace(b"horse", b"house")  # not by LFS
    hub.uploaded.clear()
    done = send(out, TARGET)
    assert done.sent == 4  # and the card again, which was away while they were sent
    assert hub.repositories["org/pairs"].files == content(out / "dataset")
    card = ["README.md" in commit.paths for commit in hub.repositories["org/pairs"].commits[-2:]]
    assert card == [False, True]


@pytest.mark.usefixtures("small_batches")
def test_an_interrupted_upload_goes_on(out: Path, hub: FakeHub) -> None:
    class Interrupted(Notes):
        def advance(self, amount: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send(out, TARGET, progress=Interrupted())
    assert len(hub.repositories["org/pairs"].files) == 4
    assert send(out, TARGET).sent == 9
    assert hub.repositories["org/pairs"].files == content(out / "dataset")


@pytest.mark.usefixtures("no_pauses", "small_batches")
def test_a_hub_that_fails_now_and_then(out: Path, hub: FakeHub) -> None:
    hub.fail_every = 4
    send(out, TARGET)
    assert hub.repositories["org/pairs"].files == content(out / "dataset")
    assert len(hub.uploaded) == len(set(hub.uploaded))


@pytest.mark.usefixtures("no_pauses")
def test_a_commit_whose_answer_is_lost_is_not_made_twice(out: Path, hub: FakeHub) -> None:
    hub.lose_commits = 1
    send(out, TARGET)
    assert hub.repositories["org/pairs"].files == content(out / "dataset")
    assert len(hub.repositories["org/pairs"].commits) == 2


@pytest.mark.usefixtures("no_pauses")
def test_a_hub_that_is_down(out: Path, hub: FakeHub) -> None:
    hub.fail_every = 1
    assert refusal(out) == (
        f"cannot publish to {TARGET}: the hub fails (status 503): run the same command again later"
    )


def test_a_hub_that_is_not_there(out: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "the hub cannot be reached" in refusal(out)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refusal(out).endswith("the hub may not be asked: unset HF_HUB_OFFLINE")


def test_an_older_data_set_is_replaced(out: Path, hub: FakeHub, tmp_path: Path) -> None:
    """Fewer and larger parts under some of the same names; people's own files stay."""
    send(out, TARGET)
    hub.repositories["org/pairs"].files["LICENSE"] = b"mine"
    export(out, "export.images_per_folder=5", "export.formats=[huggingface]")
    done = send(out, TARGET)
    there = content(out / "dataset")
    assert set(there) == {
        "README.md",
        "data/train-00000-000.parquet",
        "data/train-00001-000.parquet",
    }
    assert hub.repositories["org/pairs"].files == {**there, "LICENSE": b"mine"}
    assert (done.files, done.sent, done.removed) == (3, 3, len(WORDS) + 3)


def test_what_is_of_nobody_is_left_alone_and_said(out: Path, hub: FakeHub) -> None:
    foreign = {"data/train-00000-of-00001.parquet": b"theirs"}
    hub.repositories["org/pairs"] = Repository(branches={"main": dict(foreign)})
    assert "data/train-00000-of-00001.parquet exists there" in refusal(out)
    assert hub.repositories["org/pairs"].files == foreign


def test_private_is_private(out: Path, hub: FakeHub) -> None:
    send(out, TARGET, private=True)
    assert hub.repositories["org/pairs"].private
    send(out, TARGET, private=True)
    hub.repositories["org/pairs"].private = False
    assert "it exists and is public" in refusal(out, private=True)


def test_a_revision_is_a_branch(out: Path, hub: FakeHub) -> None:
    done = send(out, f"{TARGET}@v1")
    repository = hub.repositories["org/pairs"]
    assert repository.branches == {"main": {}, "v1": content(out / "dataset")}
    assert done.url == f"{hub.endpoint}/datasets/org/pairs/tree/v1"
    assert send(out, f"{TARGET}@v1").sent == 0


def test_a_dry_run_changes_nothing(out: Path, hub: FakeHub) -> None:
    done = send(out, f"{TARGET}@v1", dry_run=True)
    assert (done.files, done.sent, hub.repositories) == (13, 13, {})
    assert done.text().startswith("13 of 13 files would be sent (")
    send(out, TARGET)
    del hub.repositories["org/pairs"].files["llava.json"]
    before = dict(hub.repositories["org/pairs"].files)
    assert send(out, TARGET, dry_run=True).sent == 2  # the card goes and comes again
    assert send(out, f"{TARGET}@v1", dry_run=True).sent == 13
    assert hub.repositories["org/pairs"].files == before
    assert set(hub.repositories["org/pairs"].branches) == {"main"}


def test_refusals(out: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ("hf://org/model", "hf://datasets/name", f"{TARGET}/data", "hf://buckets/org/b"):
        assert "expected hf://datasets/ORG/NAME" in refusal(out, bad)
    assert "two--dashes" in refusal(out, "hf://datasets/org/two--dashes")
    hub.storage_bytes = 500
    assert "the storage quota is used up: " in refusal(out)
    hub.may_write = False
    assert "permission denied: use a token that may write" in refusal(out, "hf://datasets/org/new")
    hub.token = "another"
    assert "the token is not valid: log in with `hf auth login`" in refusal(out)
    monkeypatch.delenv("HF_TOKEN")
    assert "not logged in: log in with `hf auth login` or set" in refusal(out)


def test_a_repository_that_goes_away(out: Path, hub: FakeHub) -> None:
    class Deleting(Notes):
        def advance(self, amount: int) -> None:
            hub.repositories.clear()

    assert "no such repository, or a private one" in refusal(out, progress=Deleting())


def test_no_pairs_are_a_data_set_too(out: Path, hub: FakeHub) -> None:
    export(out, "selection.min_scores.clip_score=1.0")
    done = send(out, TARGET)
    assert set(hub.repositories["org/pairs"].files) == {
        "README.md",
        "dataset_info.json",
        "llava.json",
    }
    assert done.files == 3


def test_what_the_hub_leaves_out_is_noticed(out: Path, hub: FakeHub) -> None:
    hub.repositories["org/pairs"] = Repository(ignored={"llava.json"})
    assert "1 files were not accepted, e.g. llava.json" in refusal(out)
    assert "README.md" not in hub.repositories["org/pairs"].files


def test_too_many_files_are_said(out: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthvlm.publishing.publication._FOLDER_FILES", 2)
    monkeypatch.setattr("synthvlm.publishing.publication._REPOSITORY_FILES", 11)
    notes = Notes()
    send(out, TARGET, progress=notes)
    (line,) = notes.lines
    assert "3 files in images/00000/ (recommended: at most 2)" in line or "in data/" in line
    assert "13 files in all (recommended: at most 11)" in line
    assert "export.formats=[huggingface]" in line
    assert hub.repositories["org/pairs"].files == content(out / "dataset")


def test_datasets_reads_what_was_published(out: Path, hub: FakeHub, tmp_path: Path) -> None:
    send(out, TARGET, private=True)
    code = (
        "from datasets import load_dataset\n"
        "data = load_dataset('org/pairs', split='train')\n"
        "print(data[0]['image'].size, sorted(data['caption']))"
    )
    environment = os.environ | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HOME": str(tmp_path / "home"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    captions = sorted(f"a {word} horse beside a small wooden barn" for word in WORDS)
    assert done.stdout.splitlines()[-1] == f"(16, 16) {captions}"
