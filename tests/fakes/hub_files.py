"""What the fake hub tells of files."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator
from typing import Any

__all__ = ["entries_below", "file_entry", "folder_entry", "is_regular", "oid_of", "parents"]

#: Endings of the files that the hub keeps in Git itself.
_REGULAR = (".md", ".json", ".jsonl", ".txt", ".csv", ".yaml", ".gitattributes", ".gitignore")


def is_regular(path: str) -> bool:
    """Whether a file goes to Git, and not to LFS."""
    return path.endswith(_REGULAR)


def oid_of(path: str, content: bytes | None) -> str | None:
    """What the hub knows a file by: SHA-256 with LFS, else Git's hash; None where there is none."""
    if content is None:
        return None
    if not is_regular(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()


def parents(path: str) -> Iterator[str]:
    """The folders that a file lies in."""
    while path := posixpath.dirname(path):
        yield path


def folder_entry(path: str) -> dict[str, Any]:
    """An entry of a tree."""
    return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}


def file_entry(path: str, content: bytes) -> dict[str, Any]:
    """An entry of a tree."""
    oid = oid_of(path, content)
    entry: dict[str, Any] = {"type": "file", "path": path, "oid": oid, "size": len(content)}
    if not is_regular(path):
        entry["oid"] = hashlib.sha1(str(oid).encode()).hexdigest()
        entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 134}
    return entry


def entries_below(files: dict[str, bytes], path: str, recursive: str) -> Iterator[dict[str, Any]]:
    """Files and folders below a path, sorted."""
    start = f"{path}/" if path else ""
    found: dict[str, dict[str, Any]] = {}
    for name, content in files.items():
        if not name.startswith(start):
            continue
        for parent in parents(name):
            if parent.startswith(start) and parent != path:
                found[parent] = folder_entry(parent)
        found[name] = file_entry(name, content)
    for name in sorted(found):
        if recursive == "true" or "/" not in name.removeprefix(start):
            yield found[name]
