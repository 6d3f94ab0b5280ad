"""The error of publishing."""

from __future__ import annotations

from synthvlm.errors import SynthVLMError

__all__ = ["PublishingError"]


class PublishingError(SynthVLMError):
    """A data set is not whole or damaged, or its target refuses it."""
