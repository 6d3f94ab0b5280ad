"""Megatron-Energon: its loaders over the prepared folder, with its default task encoder."""

from expected import DATA_SET, check  # first: it sets the environment
from megatron.energon import WorkerConfig, get_loader, get_train_dataset, get_val_dataset

PLACE = str(DATA_SET / "webdataset")
workers = WorkerConfig(rank=0, world_size=1, num_workers=0)
sets = {
    "train": get_train_dataset(
        PLACE,
        worker_config=workers,
        batch_size=1,
        shuffle_buffer_size=None,
        max_samples_per_sequence=None,
        repeat=False,
    ),
    "validation": get_val_dataset(PLACE, worker_config=workers, batch_size=1),
}
for split, data in sets.items():
    rows = []
    for batch in get_loader(data):
        assert batch.image.shape == (1, 3, 8, 8)
        rows.append((batch.caption[0], round(float(batch.image[0, 0, 0, 0]) * 255)))
    check("megatron-energon", "webdataset", split, rows)
