"""lmms-eval with our model class in it: run as a script, by the python of a harness environment.

lmms-eval's own class for LLaVA answers one question at a time and fails on questions without an
image. This one answers in batches, and exactly as the local benchmarks do. Everything after the
script's name goes to lmms-eval::

    PYTHON lmms_adapter.py eval --model synthvlm --model_args pretrained=FOLDER --tasks pope ...
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__" and importlib.util.find_spec("synthvlm") is None:
    # Only this package is made importable, not all that is installed beside it.
    _root = Path(__file__).resolve().parents[1]
    _spec = importlib.util.spec_from_file_location(
        "synthvlm", _root / "__init__.py", submodule_search_locations=[str(_root)]
    )
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules["synthvlm"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["synthvlm"])

from lmms_eval.api.model import lmms

from synthvlm.models.vlm import VisionLanguageModel

__all__ = ["Adapter"]

#: Of tasks that name no limit, as in lmms-eval's own class for LLaVA.
_MAX_NEW_TOKENS = 1024


class Adapter(lmms):  # type: ignore[misc, unused-ignore]
    """A ``VisionLanguageModel`` behind lmms-eval's interface; greedy."""

    def __init__(
        self,
        pretrained: str,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        batch_size: int | str = 1,
        **unused: Any,
    ) -> None:
        """Load the model; lmms-eval hands in what it knows of the run besides."""
        super().__init__()
        self._model = VisionLanguageModel(
            pretrained, device=device, dtype=dtype, revision=revision or None
        )
        self._batch_size = int(batch_size)

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Answer n requests, each of one image or none."""
        from tqdm import tqdm

        answers = [""] * len(requests)
        for settings, rows in _rows_by_settings(requests).items():
            limit, until = settings
            for start in tqdm(range(0, len(rows), self._batch_size), desc="answers"):
                batch = rows[start : start + self._batch_size]
                images = [self._image(requests[row].args) for row in batch]
                questions = [requests[row].args[0] for row in batch]
                texts = self._model.answer(images, questions, max_new_tokens=limit)
                for row, text in zip(batch, texts, strict=True):
                    answers[row] = _before(text, until)
        return answers

    def _image(self, args: tuple[Any, ...]) -> Any:
        _, _, images_of, row, task, split = args
        images = images_of(self.task_dict[task][split][row]) or []
        if len(images) > 1:
            raise ValueError(f"{task}, row {row}: {len(images)} images; one is supported")
        return images[0].convert("RGB") if images else None

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Not supported: none of the paper's tasks in lmms-eval asks for it."""
        raise NotImplementedError("this adapter answers; it gives no likelihoods")

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Not supported, likewise."""
        raise NotImplementedError("this adapter answers in a single round")


def _rows_by_settings(requests: list[Any]) -> dict[tuple[int, tuple[str, ...]], list[int]]:
    """Rows of requests by their longest answer and what ends it."""
    rows: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for row, request in enumerate(requests):
        settings = request.args[1]
        if settings.get("do_sample") or settings.get("num_beams", 1) != 1:
            raise ValueError(
                f"the task needs sampling or beams, this adapter is greedy: {settings}"
            )
        until = settings.get("until") or []
        ends = (until,) if isinstance(until, str) else tuple(until)
        rows.setdefault((settings.get("max_new_tokens", _MAX_NEW_TOKENS), ends), []).append(row)
    return rows


def _before(text: str, until: tuple[str, ...]) -> str:
    for end in filter(None, until):
        text = text.split(end)[0]
    return text.strip()


if __name__ == "__main__":
    from lmms_eval.cli.dispatch import main
    from lmms_eval.models import MODEL_REGISTRY_V2
    from lmms_eval.models.registry_v2 import ModelManifest

    MODEL_REGISTRY_V2.register_manifest(ModelManifest("synthvlm", "__main__.Adapter"))
    main()
