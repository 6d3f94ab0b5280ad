"""Publishing: the finished data set of a run, copied to the hub or to any folder."""

from synthvlm.publishing.data_set import PublishingError
from synthvlm.publishing.publication import Published, publish

__all__ = ["Published", "PublishingError", "publish"]
