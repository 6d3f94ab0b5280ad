"""ms-swift: its loader, the inputs of its templates, its reading of images."""

import os

from expected import DATA_SET, LINES, check, red  # first: it sets the environment

os.environ["ROOT_IMAGE_DIR"] = str(LINES)
from swift.dataset import load_dataset
from swift.template import Template
from swift.template.template_inputs import StdTemplateInputs


def read(files: list[str]) -> list[tuple[str, int]]:
    rows = []
    for row in load_dataset(files, strict=True)[0]:
        inputs = StdTemplateInputs.from_dict(row)
        question, answer = inputs.messages
        assert (question["role"], answer["role"]) == ("user", "assistant")
        assert question["content"].count("<image>") == len(inputs.images) == 1
        rows.append((answer["content"], red(Template._load_image(inputs.images[0], True))))
    return rows


for split in ("train", "validation"):
    parquet = sorted(map(str, (DATA_SET / "messages").glob(f"{split}-*.parquet")))
    check("ms-swift", "messages as Parquet", split, read(parquet))
    lines = [str(LINES / f"{split}.jsonl")]
    check("ms-swift", "messages as lines", split, read(lines))
