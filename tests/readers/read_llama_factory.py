"""LLaMA-Factory: its arguments, its loader, its multimodal plugin."""

from expected import DATA_SET, FOLDER, check, red  # first: it sets the environment
from llamafactory.data.loader import _get_merged_dataset
from llamafactory.data.mm_plugin import get_mm_plugin
from llamafactory.hparams import get_train_args

arguments, data, training, _, _ = get_train_args(
    {
        "model_name_or_path": "none",  # only the data is read
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "template": "qwen2_vl",
        "dataset_dir": str(DATA_SET),
        "media_dir": str(DATA_SET / "images"),
        "dataset": "synthvlm",
        "eval_dataset": "synthvlm_validation",
        "output_dir": str(FOLDER / "llama-factory"),
        "report_to": "none",
        "use_cpu": True,
    }
)
plugin = get_mm_plugin("base", image_token="<image>")
for split, names in (("train", data.dataset), ("validation", data.eval_dataset)):
    rows = []
    for row in _get_merged_dataset(names, arguments, data, training, "sft"):
        (question,), (answer,) = row["_prompt"], row["_response"]
        assert (question["role"], answer["role"]) == ("user", "assistant")
        assert question["content"].count("<image>") == len(row["_images"]) == 1
        (image,) = plugin._regularize_images(
            row["_images"], image_max_pixels=768 * 768, image_min_pixels=1
        )["images"]
        rows.append((answer["content"], red(image)))
    check("llamafactory", "llava", split, rows)
