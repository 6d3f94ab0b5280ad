"""Text encoders of a pipeline that remember: a text is encoded once for all images of it.

For pipelines whose ``encode_prompt`` is not known (``prompt_encoding.PROMPT_FACTS``): they get
plain prompts, one for each image, and pass them all to their text encoders.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["TextMemory"]

#: Bytes of a text encoder's outputs that are kept between batches; some return all their layers.
_KEPT_BYTES = 2**28


class TextMemory:
    """What the text encoders of a pipeline made of the texts used last."""

    def __init__(self, pipeline: Any) -> None:
        """Take a pipeline; it is not changed."""
        import torch

        self._pipeline = pipeline
        self._encoders = {
            name: _Remembering(value)
            for name, value in vars(pipeline).items()
            if name.startswith("text_encoder") and isinstance(value, torch.nn.Module)
        }

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Within it the pipeline's text encoders remember."""
        # Not by setattr, which a pipeline understands as a change of its configuration.
        before = {name: vars(self._pipeline)[name] for name in self._encoders}
        vars(self._pipeline).update(self._encoders)
        try:
            yield
        finally:
            vars(self._pipeline).update(before)


class _Remembering:
    """Stands for a text encoder; each different row of its calls is computed once."""

    def __init__(self, encoder: Any) -> None:
        object.__setattr__(self, "_encoder", encoder)
        object.__setattr__(self, "_known", OrderedDict())
        object.__setattr__(self, "_plain", False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        named = {str(place): value for place, value in enumerate(args)} | kwargs
        texts = _texts(named)
        if texts is None or self._plain:
            return self._encoder(*args, **kwargs)
        keys = [_key(named, row) for row in range(len(texts))]
        fresh = list(dict.fromkeys(key for key in keys if key not in self._known))
        if fresh:
            rows = [keys.index(key) for key in fresh]
            some = {name: value[rows] if _is_tensor(value) else value
                    for name, value in named.items()}  # fmt: skip
            output = self._encoder(
                *(some[str(place)] for place in range(len(args))),
                **{name: some[name] for name in kwargs},
            )
            try:
                parts = [_row_of(output, row, len(rows)) for row in range(len(rows))]
            except TypeError:  # not a row for each text: it must see the texts as they come
                object.__setattr__(self, "_plain", True)
                return self._encoder(*args, **kwargs)
            self._known.update(zip(fresh, parts, strict=True))
        for key in dict.fromkeys(keys):
            self._known.move_to_end(key)
        joined = _joined([self._known[key] for key in keys])
        size = sum(map(_size, self._known.values()))
        while size > _KEPT_BYTES and self._known:
            size -= _size(self._known.popitem(last=False)[1])
        return joined

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._encoder, name, value)


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _texts(arguments: Mapping[str, Any]) -> Any:
    """The tokens (n, length) of a call of which each row is a text of its own, or None."""
    tensors = [value for value in arguments.values() if _is_tensor(value)]
    others = [value for value in arguments.values() if not _is_tensor(value)]
    if not tensors or not all(isinstance(v, bool | int | float | str | None) for v in others):
        return None
    first = tensors[0]
    if any(t.shape != first.shape or t.is_floating_point() for t in tensors) or first.ndim != 2:
        return None
    # Else a row could not be told from a place in the text where an encoder puts that first.
    return None if first.shape[0] == first.shape[1] else first


def _key(arguments: Mapping[str, Any], row: int) -> tuple[object, ...]:
    return tuple(
        (name, tuple(value[row].tolist()), str(value.device))
        if _is_tensor(value)
        else (name, value)
        for name, value in arguments.items()
    )


def _row_of(output: Any, row: int, count: int) -> Any:
    """The part of an encoder's output that belongs to one of ``count`` texts.

    Raises:
        TypeError: It is not made of one row for each text.
    """
    if output is None:
        return None
    if _is_tensor(output):
        if not output.ndim or output.shape[0] != count:
            raise TypeError("not a row for each text")
        return output[row].clone()  # else it would hold the whole batch
    if isinstance(output, Mapping):
        parts = {name: _row_of(value, row, count) for name, value in output.items()
                 if name != "past_key_values"}  # fmt: skip
        return type(output)(**parts)
    if isinstance(output, tuple | list):
        return tuple(_row_of(value, row, count) for value in output)
    raise TypeError("not a row for each text")


def _joined(rows: list[Any]) -> Any:
    import torch

    first = rows[0]
    if first is None:
        return None
    if _is_tensor(first):
        return torch.stack(rows)
    if isinstance(first, Mapping):
        return type(first)(**{name: _joined([row[name] for row in rows]) for name in first})
    return tuple(_joined([row[place] for row in rows]) for place in range(len(first)))


def _size(row: Any) -> int:
    if _is_tensor(row):
        return int(row.nbytes)
    parts = row.values() if isinstance(row, Mapping) else row or ()
    return sum(map(_size, parts))
