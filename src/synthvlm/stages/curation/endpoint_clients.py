"""From the recipe to the client of an OpenAI-compatible chat endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthvlm.errors import RecipeError

if TYPE_CHECKING:
    from contextlib import ExitStack

    from synthvlm.endpoints.client import EndpointClient
    from synthvlm.endpoints.settings import EndpointSettings
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["endpoint_client"]


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
        endpoint.connection(),
        model,
        max_tokens=endpoint.max_tokens,
        store=resources.enter_context(ReplyStore(folder)),
    )
