"""Small heads that turn an embedding into one number, as LAION's aesthetic predictors have them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from synthvlm.errors import ModelError

__all__ = ["regression_head"]

#: The places of the linear layers in a head. Dropout stands between them, which does nothing when
#: a model is used, and in the second kind also a ReLU after each but the last.
_LINEAR, _RELU = (0, 2, 4, 6, 7), (0, 3, 6, 9, 11)


def regression_head(model: str, weights: Mapping[str, Any], width: int, device: str) -> Any:
    """The head of some weights: a torch module from shape (n, width) to (n, 1), in float32.

    Args:
        model: Where they are from, for messages.
        weights: ``weight`` and ``bias`` of one linear layer, or of five (``0.weight`` ...): whether
            they have ReLUs between them is told by their numbers.
        width: Of the embedding.
        device: A torch device.

    Raises:
        ModelError: They are of another kind, or for embeddings of another width.
    """
    import torch
    from torch import nn

    matches = [re.fullmatch(r"(?:(\d+)\.)?(weight|bias)", name) for name in weights]
    places = sorted({int(match[1] or 0) for match in matches if match})
    if None in matches or tuple(places) not in ((0,), _LINEAR, _RELU):
        names = ", ".join(sorted(weights)[:4]) or "none"
        raise ModelError(
            f"{model} has no head of a known kind, one linear layer or five (its weights: {names})"
        )
    prefixes = [""] if "weight" in weights else [f"{place}." for place in places]
    layers: list[nn.Module] = []
    try:
        for prefix in prefixes:
            weight, bias = weights[f"{prefix}weight"].float(), weights[f"{prefix}bias"].float()
            if layers and tuple(places) == _RELU:
                layers.append(nn.ReLU())
            layer = nn.Linear(weight.shape[1], weight.shape[0])
            layer.load_state_dict({"weight": weight, "bias": bias})
            layers.append(layer)
        head = nn.Sequential(*layers)
        with torch.inference_mode():
            is_number = head(torch.zeros(1, width)).shape == (1, 1)
    except (KeyError, RuntimeError, IndexError) as error:
        raise ModelError(
            f"{model} has no head for embeddings of {width} numbers: {error}"
        ) from error
    if not is_number:
        raise ModelError(f"{model} has a head of more than one number")
    return head.to(device).eval()
