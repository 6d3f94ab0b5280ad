"""Commands of what comes after a data set: training, evaluation, comparison, cost."""

from __future__ import annotations

import os
from typing import Annotated, Optional

import typer

from synthvlm.cli.errors import RESUMES, explained
from synthvlm.cli.options import (
    CaptionsOption,
    DebugOption,
    DeviceOption,
    JsonOption,
    LimitOption,
    PluginOption,
    RecipeToTry,
    RevisionOption,
    SetOption,
    app,
    load_plugins,
)
from synthvlm.evaluation.settings import EvaluationSettings

#: Tells the defaults of options.
_EVALUATION = EvaluationSettings()


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="A built-in training recipe or a YAML file.", metavar="RECIPE")
    ],
    out: Annotated[str, typer.Option(help="Folder of the training: a new one, or one to resume.")],
    data: Annotated[
        list[str],
        typer.Option(help="LLaVA JSON, or a run folder; may be repeated.", metavar="RUN_OR_JSON"),
    ] = [],  # noqa: B006
    overrides: SetOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Train a LLaVA on exported data; several GPUs: `accelerate launch -m synthvlm train ...`."""
    # Of several processes the main one alone says it.
    resumes = f"{RESUMES}, from its newest checkpoint if there is one"
    with explained(debug, resumes if os.environ.get("RANK", "0") == "0" else ""):
        from synthvlm.training.command import train_command

        train_command(recipe, out, data=data, changes=overrides)


@app.command("eval")
def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="Hub id, folder, or output of `synthvlm train`.", metavar="MODEL"),
    ],
    benchmarks: Annotated[
        str, typer.Option(help="easy-vqa, paper, or the paper's by name.", metavar="NAME,NAME")
    ] = _EVALUATION.benchmarks,
    questions: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Question file: JSON or JSON Lines.", metavar="FILE"),
    ] = None,
    images: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Folder of its images.", metavar="FOLDER"),
    ] = None,
    baseline_questions: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Training questions, for baselines.", metavar="FILE"),
    ] = None,
    out: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Folder of results: a new one, or one to resume.", metavar="FOLDER"),
    ] = None,
    blind: Annotated[bool, typer.Option("--blind", help="Ask without the images, too.")] = False,
    suffix: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Line after each question; '' for none; default: LLaVA's."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = (
        _EVALUATION.max_new_tokens
    ),
    batch_size: Annotated[int, typer.Option(min=1, help="Questions at a time.")] = (
        _EVALUATION.batch_size
    ),
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Questions of each benchmark."),
    ] = None,
    device: DeviceOption = _EVALUATION.device,
    dtype: Annotated[str, typer.Option(help="float32, float16, bfloat16 or auto.")] = (
        _EVALUATION.dtype
    ),
    revision: RevisionOption = None,
    harness_python: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A python with lmms-eval and lm-eval.", metavar="PYTHON"),
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Evaluate a model: your questions, easy-VQA, the paper's benchmarks; exit 1: one failed."""
    with explained(debug):
        from synthvlm.evaluation.command import evaluate_command
        from synthvlm.progress.display import terminal_progress

        settings = EvaluationSettings(
            benchmarks=benchmarks,
            questions=questions,
            images=images,
            baseline_questions=baseline_questions,
            blind=blind,
            suffix=_EVALUATION.suffix if suffix is None else suffix,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            limit=limit,
            device=device,
            dtype=dtype,
            revision=revision,
            harness_python=harness_python,
        )
        with terminal_progress(silent=as_json) as progress:
            text, is_whole = evaluate_command(
                model, settings, out=out, as_json=as_json, progress=progress
            )
        print(text)
        if not is_whole:
            raise typer.Exit(1)


@app.command()
def compare(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Data sets (run folder, LLaVA .json, .tar, .parquet), or folders of "
            "`synthvlm eval --out`.",
            metavar="[LABEL=]PATH[::IMAGES]...",
        ),
    ],
    out: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Folder for comparison.json, report.html and bad_records.jsonl."),
    ] = None,
    sample: Annotated[
        str, typer.Option(help="Pairs of each data set to score, or all.", metavar="N|all")
    ] = "1000",
    clip: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Hub id or folder of a CLIP model, or tiny; default: ViT-B/32."),
    ] = None,
    scorers: Annotated[
        list[str],
        typer.Option(
            "--scorer",
            help="Score by this one; may be repeated; default: clip, ssim.",
            metavar="NAME",
        ),
    ] = [],  # noqa: B006
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="Change a scorer, as in a recipe; null: off.",
            metavar="scoring.NAME.KEY=VALUE",
        ),
    ] = [],  # noqa: B006
    map_points: Annotated[
        int, typer.Option("--map", min=0, help="Pairs of each data set on the maps.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the maps.")] = 0,
    device: DeviceOption = "auto",
    revision: RevisionOption = None,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Data sets, or results of models, side by side: scores, sizes, duplicates, maps."""
    with explained(debug, "interrupted: nothing was written"):
        from synthvlm.comparison.command import compare_command
        from synthvlm.comparison.settings import ComparisonSettings, choose_scorers, parse_sample
        from synthvlm.progress.display import terminal_progress

        load_plugins(plugins)
        settings = ComparisonSettings(
            choose_scorers(scorers, overrides, clip=clip, revision=revision),
            sample=parse_sample(sample),
            device=device,
            map_points=map_points,
            seed=seed,
        )
        with terminal_progress(silent=as_json) as progress:
            text = compare_command(inputs, settings, out=out, as_json=as_json, progress=progress)
        print(text)


@app.command()
def cost(
    recipe: RecipeToTry,
    captioner: Annotated[
        str, typer.Option(help="Hub id, folder, or output of `synthvlm train`.", metavar="MODEL")
    ],
    captions: CaptionsOption = [],  # noqa: B006
    images: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Images to caption; default: those generated here.", metavar="FOLDER"),
    ] = None,
    overrides: SetOption = [],  # noqa: B006
    limit: LimitOption = None,
    pairs: Annotated[
        int, typer.Option(min=1, help="Captions to generate images for, and images to caption.")
    ] = 16,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images that the captioner gets at a time.")
    ] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest caption.")] = 100,
    prompt: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What the captioner is asked; default: built-in."),
    ] = None,
    revision: RevisionOption = None,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """What a usable pair costs in device seconds: generated by a recipe, or captioned."""
    with explained(debug, "interrupted: nothing is left behind"):
        from synthvlm.planning.cost import cost_command
        from synthvlm.progress.display import terminal_progress
        from synthvlm.recipe import Recipe

        load_plugins(plugins)
        settings = Recipe.load(recipe, captions=captions, overrides=overrides, limit=limit)
        with terminal_progress(silent=as_json) as progress:
            text = cost_command(
                settings,
                captioner,
                images=images,
                pairs=pairs,
                batch_size=batch_size,
                max_new_tokens=max_new_tokens,
                prompt=prompt,
                revision=revision,
                as_json=as_json,
                progress=progress,
            )
        print(text)
