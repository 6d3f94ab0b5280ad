"""Write the data set that the readers read: `python tests/readers/write_export.py FOLDER`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "exporters"))

from data_sets_on_disk import HELD_OUT, HOSTILE, SHADE, TRAIN, hostile_pairs, write_data_set

FORMATS = ["llava", "huggingface", "messages", "webdataset", "croissant"]


def main(folder: Path) -> None:
    """All formats; `messages` as Parquet in one data set, as lines in the other."""
    shutil.rmtree(folder, ignore_errors=True)
    train = hostile_pairs("train")
    parts = [train[:4], train[4:], hostile_pairs("validation")]
    write_data_set(folder / "dataset", FORMATS, parts)
    write_data_set(folder / "lines", ["messages"], parts, {"messages": {"images": "paths"}})
    splits = {"train": TRAIN, "validation": HELD_OUT}
    expected = {
        split: {caption: HOSTILE.index(caption) * SHADE for caption in captions}
        for split, captions in splits.items()
    }
    (folder / "expected.json").write_text(json.dumps(expected), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
