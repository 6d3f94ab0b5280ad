"""The recipe's settings of OpenAI-compatible endpoints."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from synthvlm.components.settings import InHash, Settings

if TYPE_CHECKING:
    from synthvlm.endpoints.connection import Connection

__all__ = ["ConnectionSettings", "EndpointSettings", "ImageEndpointSettings"]


class ConnectionSettings(Settings):
    """Where an endpoint is, and how it is asked."""

    url: Annotated[str, InHash.NEVER] = Field(
        min_length=1, description="Base URL, e.g. http://localhost:8000/v1."
    )
    api_key_env: Annotated[str, InHash.NEVER] = Field(
        "OPENAI_API_KEY", description="Name of the environment variable that holds the key."
    )
    concurrency: Annotated[int, InHash.NEVER] = Field(
        16, ge=1, description="Requests under way at a time."
    )
    timeout_s: Annotated[float, InHash.NEVER] = Field(
        120.0, gt=0.0, description="Longest wait for a reply, seconds."
    )
    max_requests: Annotated[int | None, InHash.NEVER] = Field(
        None, ge=1, description="Budget of one invocation."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        # The messages do not repeat the value: it may be a secret in the wrong place.
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env):
            raise ValueError("api_key_env must be the name of an environment variable, no key")
        try:
            parts = urlsplit(self.url)
        except ValueError:
            raise ValueError("url is no URL") from None
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                "url must hold no user, password, query or fragment: recipes are written to disk"
            )
        return self

    def connection(self) -> Connection:
        """The same as the clients of endpoints take it."""
        from synthvlm.endpoints.connection import Connection

        return Connection(
            self.url,
            api_key_env=self.api_key_env,
            concurrency=self.concurrency,
            timeout_s=self.timeout_s,
            max_requests=self.max_requests,
        )


class EndpointSettings(ConnectionSettings):
    """A chat endpoint (vLLM, llama.cpp server, a hosted one)."""

    seed: Annotated[int | None, InHash.NEVER] = Field(
        0, description="Sent along; null for servers that refuse a seed."
    )
    replies: Annotated[str | None, InHash.NEVER] = Field(
        None, description="Local folder where replies are kept; default: in the run folder."
    )
    max_tokens: Annotated[int | None, InHash.NEVER] = Field(
        None, ge=1, description="Budget of one invocation."
    )


class ImageEndpointSettings(ConnectionSettings):
    """An image endpoint (vLLM-Omni, SGLang, LocalAI, a hosted one)."""

    concurrency: Annotated[int, InHash.NEVER] = Field(
        8, ge=1, description="Requests under way at a time."
    )
    timeout_s: Annotated[float, InHash.NEVER] = Field(
        300.0, gt=0.0, description="Longest wait for an image, seconds."
    )
    send_seed: Annotated[bool, InHash.ALWAYS] = Field(
        True, description="False for servers that refuse a seed."
    )
    response_format: Annotated[Literal["b64_json"] | None, InHash.NEVER] = Field(
        "b64_json", description="null for servers that refuse the field."
    )
    extra: dict[str, Any] = Field(
        {}, description="Further fields of each request, e.g. {num_inference_steps: 30}."
    )

    @model_validator(mode="after")
    def _check_extra(self) -> Self:
        try:
            json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"extra cannot be sent: {error}") from error
        return self
