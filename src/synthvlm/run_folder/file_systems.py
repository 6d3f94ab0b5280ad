"""File systems by URL: which can hold a folder, and what their errors mean, in one line."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import Any

from synthvlm.errors import RunFolderError, first_line

__all__ = ["is_permanent", "open_file_system", "reason"]

#: File systems that are no place for a folder that is written to.
_NO_FOLDERS = {
    "asynclocal", "blockcache", "cached", "data", "dir", "filecache", "git", "gist", "github",
    "http", "https", "jupyter", "libarchive", "reference", "simplecache", "tar", "zip",
}  # fmt: skip
#: Errors that a retry cannot help. All others may pass: object stores raise errors of their own,
#: most of which are not OSErrors.
_PERMANENT = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    FileExistsError,
    ValueError,
    NotImplementedError,
    ImportError,
    MemoryError,
    RecursionError,
)
#: Answers (HTTP) between 300 and 499 that may be others the next time: a request that took too long
#: or came too soon, or that another one crossed; and the codes (S3) of a request that was damaged
#: on its way.
_PASSING_ANSWERS = {408, 409, 425, 429}
_PASSING_CODES = {
    "BadDigest",
    "IncompleteBody",
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
    "XAmzContentSHA256Mismatch",
}
#: Codes (S3), and the classes of other clients, of keys and tokens that are not accepted.
_CREDENTIALS = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "ClientAuthenticationError",
    "RefreshError",
    "UnauthorizedSSOTokenError",
    "SSOTokenLoadError",
}
_REGION = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "TemporaryRedirect",
    "Redirect",
}
_RENEW = (
    "renew the credentials that its client finds (S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
    "AWS_SESSION_TOKEN or AWS_PROFILE; Google: GOOGLE_APPLICATION_CREDENTIALS; Azure: "
    "AZURE_STORAGE_*)"
)
_SET_REGION = "set AWS_DEFAULT_REGION to the bucket's region, or AWS_ENDPOINT_URL to its store"


def open_file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL or local path, and the path in it.

    Raises:
        RunFolderError: It is unknown, not installed, or not one of folders that can be written.
    """
    import fsspec

    if "::" in url:
        raise RunFolderError(
            f"{url}: '::' chains file systems, and a folder that is written to lies in one: name a "
            f"local folder or a URL without it"
        )
    protocol, separator, path = url.partition("://")
    one_slash = re.match(
        r"(s3a?|gs|gcs|abfss?|az|hf|hdfs|file|local|memory|https?):/(?!/)", url, re.I
    )
    if one_slash is not None or (protocol == "file" and separator and not path.startswith("/")):
        raise RunFolderError(
            f"{url}: neither a URL nor clearly a folder: s3://BUCKET/NAME is a URL, "
            f"file:///ABSOLUTE/PATH or ./NAME a folder"
        )
    if separator and protocol != protocol.lower():
        raise RunFolderError(f"{url}: write {protocol.lower()}://{path}")
    if separator and protocol in _NO_FOLDERS:
        raise RunFolderError(
            f"{url}: no folder can be written at {protocol}://; name a local folder, or a bucket "
            f"(s3://..., gs://...)"
        )
    if separator and protocol not in ("file", "local") and ".." in path.split("/"):
        raise RunFolderError(f"{url}: a URL is not resolved: name it without '..'")
    try:
        fs, root = fsspec.core.url_to_fs(url)
    except Exception as error:  # every file system checks its URLs in its own way
        raise RunFolderError(f"run folder {url}: {first_line(error)}") from None
    if separator and not str(root).strip("/"):
        raise RunFolderError(f"{url} names no folder: name one below {protocol}://")
    return fs, str(root)


def is_permanent(error: BaseException) -> bool:
    """Whether a retry cannot help."""
    # Every library has its own error for missing credentials.
    kinds = [kind.__name__ for kind in type(error).__mro__]
    if isinstance(error, _PERMANENT) or any("Credential" in kind for kind in kinds):
        return True
    status, code = _answer(error)
    if code in _CREDENTIALS | _REGION:
        return True
    is_refusal = status is not None and 300 <= status < 500
    return is_refusal and status not in _PASSING_ANSWERS and code not in _PASSING_CODES


def reason(error: BaseException) -> str:
    """What is wrong and what to do, in one line."""
    number = error.errno if isinstance(error, OSError) else None
    advice = {
        errno.ENOSPC: "no space left on the device; free some and run again",
        errno.EDQUOT: "the disk quota is used up; free some and run again",
        errno.EFBIG: "the file-size limit is reached; raise it (ulimit -f) and run again",
        errno.EACCES: "permission denied; choose a folder that you may write to",
        errno.EPERM: "not permitted; choose a folder that you may write to",
        errno.EROFS: "the file system is read-only; choose another folder",
        errno.ENOTDIR: "part of the path is a file; choose another folder",
        errno.EEXIST: "what is there is not a folder; choose another folder",
    }.get(number or 0)
    strerror = error.strerror if isinstance(error, OSError) else None
    text = (strerror or first_line(error)).splitlines()[0].rstrip(".")
    status, code = _answer(error)
    if status is not None or code in _CREDENTIALS:
        advice = _remedy(status, code)
        return f"{text}{f' ({code})' if code and not code.isdecimal() else ''}{advice}"
    if isinstance(error, RecursionError):
        return f"the store redirects in a circle; {_SET_REGION}, and run again"
    if advice is not None:
        return f"{advice} (finished work is kept)"
    return (strerror or first_line(error)).splitlines()[0]


def _remedy(status: int | None, code: str) -> str:
    """What to do about an answer of a store; nothing where time alone may help."""
    if code == "NoSuchBucket":
        return "; buckets are never created here: correct the name, or create it, and run again"
    if code in _CREDENTIALS or status == 401:
        return f"; {_RENEW}, and run again"
    if code in _REGION or status in (301, 307, 308):
        return f"; {_SET_REGION}, and run again"
    if status == 403:
        return f"; use credentials that may list, read and write there, or {_RENEW}, and run again"
    if status == 400 and code not in _PASSING_CODES:
        return (
            f": mostly a token that is wrong or has expired, or another region; {_RENEW}, or "
            f"{_SET_REGION}, and run again"
        )
    return ""


def _answer(error: BaseException) -> tuple[int | None, str]:
    """Status (HTTP) and code of a store's answer, from whatever error its client made of it.

    botocore's have a ``response``, those of Azure a ``status_code``, Google's a ``code``, aiohttp's
    a ``status``. Clients of fsspec raise others in their place, with these as the cause.
    """
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return _number(status), str(response.get("Error", {}).get("Code") or "")
        for name in ("status_code", "code", "status"):
            status = _number(getattr(one, name, None))
            if status is not None:
                return status, type(one).__name__
        if type(one).__name__ in _CREDENTIALS:
            return None, type(one).__name__
    return None, ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came from."""
    known: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in known:
        known.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _number(value: Any) -> int | None:
    """A status of HTTP; None if it is none."""
    try:
        status = int(value)
    except (TypeError, ValueError):
        return None
    return status if 100 <= status < 600 else None
