"""What the Hugging Face hub and file systems by URL complain about, in a line with what to do."""

from __future__ import annotations

import re

from synthvlm.errors import MissingExtraError, first_line

__all__ = ["hub_reason", "is_hubs", "missing_file_system"]

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
#: A query may hold the signature of a link to storage.
_QUERY = re.compile(r"\?[^\s'\"<>]+")


def missing_file_system(url: str, error: ImportError) -> MissingExtraError:
    """The error for a URL whose file system needs a package that is not installed."""
    extra = _EXTRAS.get(url.partition("://")[0])
    if extra is None:
        return MissingExtraError(f"{url}: {first_line(error)}")
    return MissingExtraError(f"{url} needs an extra: pip install 'synthvlm[{extra}]'")


def is_hubs(error: BaseException) -> bool:
    """Whether an error is of the hub's client, or of the transport that it uses."""
    return type(error).__module__.partition(".")[0] in ("huggingface_hub", "httpx2", "httpx")


def hub_reason(error: BaseException) -> str:
    """Why the hub refuses, and what to do, in a line without tokens or signed links.

    Args:
        error: Of ``huggingface_hub`` or of its transport; of others, the first line of its text.
    """
    from huggingface_hub import errors

    response = getattr(error, "response", None)
    status = response.status_code if response is not None else 0
    message = str(getattr(error, "server_message", None) or "")
    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"not logged in: {_LOG_IN}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "the hub may not be asked: unset HF_HUB_OFFLINE"
    if isinstance(error, errors.GatedRepoError):
        return f"access is gated: ask for it on the repository's page, then {_LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return "there is no such revision"
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        return hub_reason(error.__cause__)  # it was to be fetched, and that failed
    if isinstance(error, errors.EntryNotFoundError):
        return "no such file"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"no such repository, or a private one that you may not see: {_LOG_IN}"
    if isinstance(error, errors.HFValidationError | errors.HfUriError):
        return _one_line(error)
    if status == 401:
        return f"the token is not valid: {_LOG_IN}"
    if status in (402, 403) and re.search(r"storage|quota|upgrade|payment", message, re.IGNORECASE):
        return f"the storage quota is used up: {_shortened(message)}"
    if status == 403:
        return (
            "permission denied: use a token that may write to this namespace "
            f"({_shortened(message) or 'the hub gives no reason'})"
        )
    if status == 429:
        return "the hub's rate limit is reached: run the same command again in an hour"
    if status >= 500:
        return f"the hub fails (status {status}): run the same command again later"
    if response is None and type(error).__module__.startswith("httpx"):
        return f"the hub cannot be reached ({_one_line(error)}): check the network and HF_ENDPOINT"
    return _shortened(message) or _one_line(error)


def _one_line(error: BaseException) -> str:
    return _shortened(str(error)) or type(error).__name__


def _shortened(text: str) -> str:
    return " ".join(_QUERY.sub("", text).split())[:300]
