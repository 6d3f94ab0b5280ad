"""Publishing: the finished data set of a run, copied to the hub or to any folder."""

from synthvlm.publishing.errors import PublishingError
from synthvlm.publishing.publication import Published, publish

__all__ = ["Published", "PublishingError", "publish"]
