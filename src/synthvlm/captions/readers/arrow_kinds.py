"""What columns of Arrow tables hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["is_binary", "is_nested", "is_text"]


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    tests = (types.is_string, types.is_large_string, types.is_string_view)
    return any(test(kind) for test in tests)


def is_binary(kind: pa.DataType) -> bool:
    """Whether a column holds bytes."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    views = (types.is_binary_view, types.is_fixed_size_binary)
    return any(test(kind) for test in (types.is_binary, types.is_large_binary, *views))


def is_nested(kind: pa.DataType) -> bool:
    """Whether a column holds lists or objects."""
    from pyarrow import types

    return bool(types.is_nested(kind))
