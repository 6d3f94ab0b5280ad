"""What the fake hub answers to which request."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from fakes.hub_files import (
    entries_below,
    file_entry,
    folder_entry,
    is_regular,
    oid_of,
    parents,
)
from fakes.loopback import read_body

if TYPE_CHECKING:
    from fakes.hub import FakeHub, Repository

__all__ = ["FakeHubHandler"]

_ID = r"(?P<id>[\w.-]+/[\w.-]+)"
_ROUTES = [
    ("GET", r"/api/whoami-v2", "_whoami"),
    ("POST", r"/api/repos/create", "_create"),
    ("POST", r"/api/validate-yaml", "_validate_yaml"),
    ("GET", rf"/api/datasets/{_ID}(/revision/(?P<revision>[^/]+))?", "_info"),
    ("POST", rf"/api/datasets/{_ID}/branch/(?P<revision>[^/]+)", "_branch"),
    ("POST", rf"/api/datasets/{_ID}/preupload/(?P<revision>[^/]+)", "_preupload"),
    ("POST", rf"/api/datasets/{_ID}/commit/(?P<revision>[^/]+)", "_commit"),
    ("GET", rf"/api/datasets/{_ID}/tree/(?P<revision>[^/]+)(/(?P<path>.+))?", "_tree"),
    ("POST", rf"/api/datasets/{_ID}/paths-info/(?P<revision>[^/]+)", "_paths_info"),
    ("POST", rf"/datasets/{_ID}\.git/info/lfs/objects/batch", "_lfs_batch"),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "_lfs_put"),
    ("GET", rf"/datasets/{_ID}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "_resolve"),
]
_WRITES = {"_create", "_branch", "_preupload", "_commit", "_lfs_batch"}


class _Refused(Exception):
    """An answer that is an error: status, the hub's code for it, what it says."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class FakeHubHandler(BaseHTTPRequestHandler):
    """One request; a subclass has the hub that is asked, as ``_hub``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each reply waits 40 ms for an acknowledgement

    _hub: FakeHub

    def _answer(self) -> None:
        self._body = read_body(self)
        url = urlsplit(self.path)
        self._query = parse_qs(url.query)
        hub = self._hub
        with hub.lock:
            hub.received.append((self.command, url.path))
            try:
                if hub.fails():
                    raise _Refused(503, "", "the fake hub was told to fail")
                self._route(url.path)
            except _Refused as error:
                headers = {"X-Error-Message": error.message}
                if error.code:
                    headers["X-Error-Code"] = error.code
                self._send(error.status, json.dumps({"error": error.message}).encode(), headers)

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _route(self, path: str) -> None:
        method = "GET" if self.command == "HEAD" else self.command
        for verb, pattern, name in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and verb == method:
                if name in _WRITES:
                    self._check_token()
                    if not self._hub.may_write:
                        raise _Refused(403, "", "you must use a token with write permissions")
                parts = {k: unquote(v) for k, v in found.groupdict().items() if v is not None}
                getattr(self, name)(**parts)
                return
        raise _Refused(404, "", "the fake hub knows no such path")

    # Who and what

    def _check_token(self) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given != self._hub.token:
            raise _Refused(401, "", "Invalid username or password.")

    def _repository(self, id: str, revision: str = "main") -> Repository:
        repository = self._hub.repositories.get(id)
        try:
            if repository is None or repository.private:
                self._check_token()
        except _Refused:  # the hub tells strangers nothing of what is private
            raise _Refused(401, "RepoNotFound", "Repository not found") from None
        if repository is None:
            raise _Refused(404, "RepoNotFound", "Repository not found")
        known = {repository.sha(name): name for name in repository.branches}
        if known.get(revision, revision) not in repository.branches:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository

    def _files(self, id: str, revision: str) -> dict[str, bytes]:
        repository = self._repository(id, revision)
        known = {repository.sha(name): name for name in repository.branches}
        return repository.branches[known.get(revision, revision)]

    def _whoami(self) -> None:
        self._check_token()
        self._json({"type": "user", "name": "fake-user", "orgs": []})

    def _create(self) -> None:
        from fakes.hub import USER, Repository

        wanted = json.loads(self._body)
        id = f"{wanted.get('organization') or USER}/{wanted['name']}"
        answer = {"url": f"{self._origin()}/datasets/{id}", "id": id}
        if wanted.get("type") != "dataset":
            raise _Refused(400, "", "the fake hub has data sets only")
        if id in self._hub.repositories:
            self._json(answer, 409)
            return
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self._hub.repositories[id] = Repository(private)
        self._json(answer)

    def _validate_yaml(self) -> None:
        self._json({"errors": [], "warnings": []})

    def _info(self, id: str, revision: str = "main") -> None:
        files = self._files(id, revision)
        repository = self._repository(id)
        known = {repository.sha(name): name for name in repository.branches}
        self._json(
            {
                "_id": "0",
                "id": id,
                "author": id.split("/")[0],
                "sha": repository.sha(known.get(revision, revision)),
                "private": repository.private,
                "gated": "manual" if id in self._hub.gated else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": [{"rfilename": path} for path in sorted(files)],
            }
        )

    def _branch(self, id: str, revision: str) -> None:
        repository = self._repository(id)
        if revision in repository.branches:
            raise _Refused(409, "", "Reference already exists")
        repository.branches[revision] = dict(repository.files)
        self._json({})

    # Writing

    def _preupload(self, id: str, revision: str) -> None:
        files = self._files(id, revision)
        ignored = self._repository(id).ignored
        self._json(
            {
                "files": [
                    {
                        "path": wanted["path"],
                        "uploadMode": "regular" if is_regular(wanted["path"]) else "lfs",
                        "shouldIgnore": wanted["path"] in ignored,
                        "oid": oid_of(wanted["path"], files.get(wanted["path"])),
                    }
                    for wanted in json.loads(self._body)["files"]
                ]
            }
        )

    def _lfs_batch(self, id: str) -> None:
        self._repository(id)
        objects = []
        for wanted in json.loads(self._body)["objects"]:
            entry: dict[str, Any] = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self._hub.objects:
                self._check_room(wanted["size"])
                href = f"{self._origin()}/lfs/{wanted['oid']}"
                entry["actions"] = {"upload": {"href": href, "header": {}}}
            objects.append(entry)
        self._json({"transfer": "basic", "objects": objects})

    def _lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self._body).hexdigest() != oid:
            raise _Refused(400, "", "the content is not what its hash says")
        self._hub.objects[oid] = self._body
        self._hub.uploaded.append(oid)
        self._send(200, b"", {})

    def _check_room(self, size: int) -> None:
        room = self._hub.storage_bytes
        if room is not None and sum(map(len, self._hub.objects.values())) + size > room:
            raise _Refused(
                403, "", "Private repository storage limit reached, please upgrade your plan"
            )

    def _commit(self, id: str, revision: str) -> None:
        from fakes.hub import Commit

        files = self._files(id, revision)
        new = dict(files)
        title = ""
        for line in self._body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "header":
                title = value["summary"]
            elif operation["key"] == "file":
                new[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                if value["oid"] not in self._hub.objects:
                    raise _Refused(400, "", f"LFS object {value['oid']} was not uploaded")
                new[value["path"]] = self._hub.objects[value["oid"]]
            elif operation["key"] == "deletedFile":
                if new.pop(value["path"], None) is None:
                    raise _Refused(404, "EntryNotFound", "A file with this name doesn't exist")
            else:
                raise _Refused(400, "", f"the fake hub cannot {operation['key']}")
        files.clear()
        files.update(new)
        repository = self._repository(id, revision)
        repository.commits.append(Commit(title, frozenset(new)))
        if self._hub.lose_commits:
            self._hub.lose_commits -= 1
            self.close_connection = True
            return
        sha = repository.sha(revision)
        url = f"{self._origin()}/datasets/{id}/commit/{sha}"
        self._json({"success": True, "commitOid": sha, "commitUrl": url})

    # Reading

    def _tree(self, id: str, revision: str, path: str = "") -> None:
        files = self._files(id, revision)
        entries = list(entries_below(files, path, self._query.get("recursive", [""])[0].lower()))
        if path and not entries and path not in files:
            raise _Refused(404, "EntryNotFound", f"{path} does not exist on {revision}")
        start = int(self._query.get("cursor", ["0"])[0])
        end = start + self._hub.page_size
        headers = {}
        if end < len(entries):
            recursive = self._query.get("recursive", ["false"])[0]
            here = f"{self._origin()}{urlsplit(self.path).path}"
            headers["Link"] = f'<{here}?recursive={recursive}&cursor={end}>; rel="next"'
        self._json(entries[start:end], headers=headers)

    def _paths_info(self, id: str, revision: str) -> None:
        files = self._files(id, revision)
        wanted = parse_qs(self._body.decode()).get("paths", [])
        folders = {parent for path in files for parent in parents(path)}
        self._json(
            [file_entry(path, files[path]) for path in wanted if path in files]
            + [folder_entry(path) for path in wanted if path in folders]
        )

    def _resolve(self, id: str, revision: str, path: str) -> None:
        files = self._files(id, revision)
        if id in self._hub.gated:
            raise _Refused(403, "GatedRepo", f"Access to dataset {id} is restricted")
        if path not in files:
            raise _Refused(404, "EntryNotFound", "Entry not found")
        content = files[path]
        headers = {
            "ETag": f'"{oid_of(path, content)}"',
            "X-Repo-Commit": self._repository(id).sha(revision),
            "Accept-Ranges": "bytes",
        }
        status = 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            first, last = int(asked[1]), int(asked[2] or len(content) - 1)
            if first >= len(content):
                raise _Refused(416, "", "there is no such range")
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        self._send(status, content, headers)

    # HTTP

    def _origin(self) -> str:
        return self._hub.endpoint

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self._send(status, content, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""
