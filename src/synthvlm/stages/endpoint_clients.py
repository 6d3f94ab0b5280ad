"""From the recipe to the clients of OpenAI-compatible endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthvlm.errors import RecipeError

if TYPE_CHECKING:
    from contextlib import ExitStack

    from synthvlm.endpoints.client import EndpointClient
    from synthvlm.endpoints.connection import Connection
    from synthvlm.endpoints.images import ImageClient
    from synthvlm.recipe_endpoints import (
        ConnectionSettings,
        EndpointSettings,
        ImageEndpointSettings,
    )
    from synthvlm.store import RunFolder

__all__ = ["endpoint_client", "image_client"]


def endpoint_client(
    run: RunFolder, endpoint: EndpointSettings, model: str, where: str, resources: ExitStack
) -> EndpointClient:
    """A client that keeps every reply, in the run folder unless told otherwise.

    Args:
        run: The run folder.
        endpoint: The endpoint.
        model: The model's name there.
        where: Path in the recipe of what asks the endpoint, for messages.
        resources: The store of replies is entered into it.

    Raises:
        RecipeError: There is no local folder to keep replies in.
    """
    from synthvlm.endpoints.client import EndpointClient
    from synthvlm.endpoints.replies import ReplyStore

    folder = endpoint.replies or run.local_path("replies")
    if folder is None:
        raise RecipeError(
            f"{where}.endpoint.replies: name a local folder, for {run.url} is not on this machine "
            f"and replies that were paid for must be kept"
        )
    return EndpointClient(
        _connection(endpoint),
        model,
        max_tokens=endpoint.max_tokens,
        store=resources.enter_context(ReplyStore(folder)),
    )


def image_client(endpoint: ImageEndpointSettings, model: str) -> ImageClient:
    """A client that has the model of that name there draw."""
    from synthvlm.endpoints.images import ImageClient

    return ImageClient(_connection(endpoint), model)


def _connection(endpoint: ConnectionSettings) -> Connection:
    from synthvlm.endpoints.connection import Connection

    return Connection(
        endpoint.url,
        api_key_env=endpoint.api_key_env,
        concurrency=endpoint.concurrency,
        timeout_s=endpoint.timeout_s,
        max_requests=endpoint.max_requests,
    )
