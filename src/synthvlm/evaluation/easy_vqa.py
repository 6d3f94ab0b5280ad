"""easy-VQA: 5,000 pictures of one coloured shape, and questions (Victor Zhou, 2019).

Its yes/no questions can be guessed from their wording alone by 82.5 %, so its groups are colour,
shape and yes-no.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from synthvlm.errors import MissingExtraError

__all__ = ["EasyVqa", "easy_vqa_images", "easy_vqa_records", "write_easy_vqa"]

Split = Literal["train", "test"]
_SHAPES = {"circle", "rectangle", "triangle"}


@dataclass(frozen=True, slots=True)
class EasyVqa:
    """easy-VQA as question files.

    Attributes:
        questions: File of the test questions.
        training: File of the training questions, for baselines.
        images: Folder of the test images.
    """

    questions: str
    training: str
    images: str


def easy_vqa_records(split: Split) -> list[dict[str, Any]]:
    """Records of a question file, in the package's order.

    Raises:
        MissingExtraError: The package is not installed.
    """
    package = _package()
    texts, answers, images = (
        package.get_train_questions() if split == "train" else package.get_test_questions()
    )
    return [
        {
            "id": f"{split}-{row}",
            "image": f"{image}.png",
            "question": text,
            "answer": answer,
            "group": _group(answer),
        }
        for row, (text, answer, image) in enumerate(zip(texts, answers, images, strict=True))
    ]


def easy_vqa_images(split: Split) -> str:
    """Folder of a split's images, inside the package.

    Raises:
        MissingExtraError: The package is not installed.
    """
    _package()
    return str(resources.files("easy_vqa") / "data" / split / "images")


def write_easy_vqa(folder: Path) -> EasyVqa:
    """Write ``questions.json`` and ``training.json``.

    Raises:
        MissingExtraError: The package is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {"test": folder / "questions.json", "train": folder / "training.json"}
    for split in ("train", "test"):
        files[split].write_text(json.dumps(easy_vqa_records(split), indent=0) + "\n")
    return EasyVqa(str(files["test"]), str(files["train"]), easy_vqa_images("test"))


def _group(answer: str) -> str:
    if answer in ("yes", "no"):
        return "yes-no"
    return "shape" if answer in _SHAPES else "colour"


def _package() -> Any:
    try:
        import easy_vqa
    except ImportError as error:
        raise MissingExtraError(
            "the benchmark easy-vqa needs its package: pip install 'synthvlm[easy-vqa]'"
        ) from error
    return easy_vqa
