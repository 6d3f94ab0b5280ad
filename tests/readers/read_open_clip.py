"""open_clip: the data pipeline of its training, with the options of its command line."""

from expected import DATA_SET, check  # first: it sets the environment
from open_clip_train.data import get_data
from open_clip_train.params import parse_args
from torchvision.transforms import PILToTensor

SHARDS = DATA_SET / "webdataset"
options = parse_args(
    [
        *("--dataset-type", "webdataset", "--batch-size", "1", "--workers", "1"),
        *("--train-data", str(SHARDS / "train-{00000..00001}-000.tar")),
        *("--val-data", str(SHARDS / "validation-00002-000.tar")),
    ]
)
options.rank, options.world_size, options.distributed = 0, 1, False
pixels = PILToTensor()
data = get_data(options, (pixels, pixels), tokenizer=lambda text: [text])
for split, name in (("train", "train"), ("validation", "val")):
    rows = []
    for images, captions in data[name].dataloader:
        assert images.shape == (1, 3, 8, 8)
        rows.append((captions[0], int(images[0, 0, 0, 0])))
    check("open_clip_torch", "webdataset", split, rows)
