"""The fake hub does what it says, as its real clients see it."""

from __future__ import annotations

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session, hf_raise_for_status

from fakes.hub import FakeHub

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ID = "org/pairs"


@pytest.fixture
def api(hub: FakeHub) -> HfApi:
    """Logged in, with a data set of two files."""
    api = HfApi()
    api.create_repo(ID, repo_type="dataset")
    operations = [
        CommitOperationAdd("data/a.parquet", b"0123456789"),
        CommitOperationAdd("README.md", b"# card"),
    ]
    api.create_commit(ID, operations, commit_message="first", repo_type="dataset")
    return api


def fetch(name: str, revision: str = "main", **headers: str) -> tuple[int, bytes]:
    url = hf_hub_url(ID, name, repo_type="dataset", revision=revision)
    response = get_session().get(url, headers=headers)
    hf_raise_for_status(response)
    return response.status_code, response.content


def test_what_was_committed_is_read(api: HfApi, hub: FakeHub) -> None:
    assert api.whoami()["name"] == "fake-user"
    assert fetch("data/a.parquet") == (200, b"0123456789")
    assert fetch("data/a.parquet", Range="bytes=2-4") == (206, b"234")
    assert fetch("data/a.parquet", Range="bytes=7-") == (206, b"789")
    sha = api.dataset_info(ID).sha
    assert sha
    assert fetch("README.md", sha) == (200, b"# card")
    assert [commit.title for commit in hub.repositories[ID].commits] == ["first"]


def test_deleted_files_and_branches(api: HfApi, hub: FakeHub) -> None:
    api.create_branch(ID, branch="v1", repo_type="dataset")
    deletion = [CommitOperationDelete("data/a.parquet")]
    api.create_commit(ID, deletion, commit_message="less", repo_type="dataset")
    assert list(hub.repositories[ID].files) == ["README.md"]
    assert fetch("data/a.parquet", "v1") == (200, b"0123456789")
    with pytest.raises(RemoteEntryNotFoundError):
        fetch("data/a.parquet")
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info(ID, revision="v2")


@pytest.mark.parametrize("page_size", [1, 2, 1000])
def test_trees_in_pages(api: HfApi, hub: FakeHub, page_size: int) -> None:
    hub.page_size = page_size
    hub.repositories[ID].files["data/more/b.txt"] = b"b"

    def paths(folder: str | None, recursive: bool) -> list[str]:
        tree = api.list_repo_tree(ID, folder, recursive=recursive, repo_type="dataset")
        return [entry.path for entry in tree]

    inner = ["data/a.parquet", "data/more", "data/more/b.txt"]
    assert paths(None, True) == ["README.md", "data", *inner]
    assert paths(None, False) == ["README.md", "data"]
    assert paths("data", True) == inner
    with pytest.raises(RemoteEntryNotFoundError):
        paths("none", True)


def test_tokens(api: HfApi, hub: FakeHub) -> None:
    stranger, reader = HfApi(token=False), HfApi()
    assert stranger.dataset_info(ID).private is False
    hub.repositories[ID].private = True
    with pytest.raises(RepositoryNotFoundError):
        stranger.dataset_info(ID)
    assert reader.dataset_info(ID).private is True
    hub.may_write = False
    with pytest.raises(HfHubHTTPError, match="write permissions"):
        reader.create_repo("org/new", repo_type="dataset")
    hub.token = "another"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        reader.whoami()


def test_gated_files(api: HfApi, hub: FakeHub) -> None:
    hub.gated = {ID}
    assert api.dataset_info(ID).gated == "manual"
    with pytest.raises(GatedRepoError):
        fetch("README.md")


def test_one_in_so_many_fails(api: HfApi, hub: FakeHub) -> None:
    hub.fail_every = 4
    failed = 0
    for _ in range(200):
        response = get_session().get(f"{hub.endpoint}/api/datasets/{ID}")
        assert response.status_code in (200, 503)
        failed += response.status_code == 503
    assert 25 < failed < 75
