"""Commands for training, evaluation, comparison and cost."""

from __future__ import annotations

import os
from typing import Annotated, Optional

import typer

from synthvlm.cli import completion
from synthvlm.cli.errors import RESUMES, explained
from synthvlm.cli.options import (
    CaptionFiles,
    CaptionsOption,
    DebugOption,
    DelimiterOption,
    DeviceOption,
    FormatOption,
    JsonOption,
    LimitOption,
    NoHeaderOption,
    PluginOption,
    RecipeArgument,
    RecipeOption,
    RevisionOption,
    SetOption,
    TextFieldOption,
    app,
    check_lasting,
    load_plugins,
    recipe_to_try,
    required_recipe,
    show,
)
from synthvlm.evaluation.settings import EvaluationSettings
from synthvlm.safe_text import printable

#: Source of the defaults of options.
_EVALUATION = EvaluationSettings()


@app.command()
def train(
    out: Annotated[str, typer.Option(help="Training folder; an existing one is resumed.")],
    recipe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            help="A built-in training recipe or a YAML file.",
            metavar="RECIPE",
            autocompletion=completion.complete_training_recipe,
        ),
    ] = None,
    recipe_option: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--recipe",
            help="The same as RECIPE.",
            metavar="RECIPE",
            autocompletion=completion.complete_training_recipe,
        ),
    ] = None,
    data: Annotated[
        list[str],
        typer.Option(
            help="Run folder, LLaVA or messages JSON, .tar or .parquet; repeatable.",
            metavar="RUN_OR_DATASET",
        ),
    ] = [],  # noqa: B006
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="Override a setting, e.g. optimisation.epochs=2; repeatable.",
            metavar="KEY=VALUE",
            autocompletion=completion.complete_training_setting,
        ),
    ] = [],  # noqa: B006
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Train a LLaVA on exported data (several GPUs: `accelerate launch -m synthvlm train ...`)."""
    # With several processes, only the main one prints it.
    resumes = f"{RESUMES} from the newest checkpoint, if there is one"
    with explained(debug, resumes if os.environ.get("RANK", "0") == "0" else ""):
        from synthvlm.training.train import train_command

        load_plugins(plugins)
        train_command(required_recipe(recipe, recipe_option), out, data=data, changes=overrides)


@app.command("convert-weights")
def convert(
    source: Annotated[
        str,
        typer.Argument(help="Model folder with pytorch_model*.bin, or a file.", metavar="SRC"),
    ],
    target: Annotated[
        str, typer.Argument(help="A new folder, or NEW.safetensors.", metavar="DEST")
    ],
    debug: DebugOption = False,
) -> None:
    """Convert pickled weights to safetensors, in a process without network or other rights."""
    with explained(debug):
        from synthvlm.models.convert_weights import convert_weights

        convert_weights(source, target, lambda line: print(printable(line)))
        print(printable(f"model:  {target}"))


@app.command("eval")
def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="Hub id, folder, or output of `synthvlm train`.", metavar="MODEL"),
    ],
    benchmarks: Annotated[
        str,
        typer.Option(
            help="easy-vqa, paper (all of the paper's), or their names.", metavar="NAME,NAME"
        ),
    ] = _EVALUATION.benchmarks,
    questions: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Your own questions (JSON or JSON Lines).", metavar="FILE"),
    ] = None,
    images: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Folder of the images of --questions.", metavar="FOLDER"),
    ] = None,
    baseline_questions: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Training questions, from which baselines are computed.", metavar="FILE"),
    ] = None,
    out: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Folder of results; an existing one is resumed.", metavar="FOLDER"),
    ] = None,
    blind: Annotated[bool, typer.Option("--blind", help="Also ask without the images.")] = False,
    suffix: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Line appended to each question ('' for none); default: that of LLaVA."),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Maximum length of an answer, in tokens.")
    ] = (_EVALUATION.max_new_tokens),
    batch_size: Annotated[int, typer.Option(min=1, help="Questions per batch.")] = (
        _EVALUATION.batch_size
    ),
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Ask only this many questions of each benchmark."),
    ] = None,
    device: DeviceOption = _EVALUATION.device,
    dtype: Annotated[str, typer.Option(help="float32, float16, bfloat16 or auto.")] = (
        _EVALUATION.dtype
    ),
    revision: RevisionOption = None,
    harness_python: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Python interpreter with lmms-eval and lm-eval.", metavar="PYTHON"),
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Evaluate a model on benchmarks or your own questions. Exit status 1 if a benchmark failed."""
    with explained(debug):
        from synthvlm.evaluation.evaluation import evaluate_command
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
        print(printable(text))
        if not is_whole:
            raise typer.Exit(1)


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="Run folder or data set.", metavar="A")],
    b: Annotated[str, typer.Argument(help="Run folder or data set.", metavar="B")],
    out: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="New file for every difference, as JSON Lines.", metavar="FILE"),
    ] = None,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Show what came, went and changed from A to B. Exit status 1 if anything did, 2 on errors."""
    with explained(debug, "interrupted; nothing was written", status=2):
        from synthvlm.commands import diff as find
        from synthvlm.progress.display import terminal_progress

        load_plugins(plugins)
        with terminal_progress(silent=as_json) as progress:
            result = find(a, b, out=out, progress=progress)
        show(result, as_json)
        if not result.is_same:
            raise typer.Exit(1)


@app.command()
def compare(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Data sets (run folder, LLaVA .json, .tar, .parquet), or result folders of "
            "`synthvlm eval`.",
            metavar="[LABEL=]PATH[::IMAGES]...",
        ),
    ],
    out: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Write comparison.json, report.html and bad_records.jsonl there."),
    ] = None,
    sample: Annotated[
        str,
        typer.Option(help="Number of pairs to score in each data set, or all.", metavar="N|all"),
    ] = "1000",
    clip: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Hub id or folder of a CLIP model, or tiny; default: ViT-B/32."),
    ] = None,
    scorers: Annotated[
        list[str],
        typer.Option(
            "--scorer",
            help="Scorer to use; repeatable; default: clip and ssim.",
            metavar="NAME",
            autocompletion=completion.complete_scorer,
        ),
    ] = [],  # noqa: B006
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="Override a setting of a scorer, as in a recipe; null: off.",
            metavar="scoring.NAME.KEY=VALUE",
            autocompletion=completion.complete_scoring,
        ),
    ] = [],  # noqa: B006
    map_points: Annotated[
        int, typer.Option("--map", min=0, help="Number of pairs of each data set on the maps.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the maps.")] = 0,
    device: DeviceOption = "auto",
    revision: RevisionOption = None,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Compare data sets (scores, sizes, duplicates, maps), or results of models."""
    with explained(debug, "interrupted; nothing was written"):
        from synthvlm.comparison.command import compare_command
        from synthvlm.comparison.settings import ComparisonSettings, choose_scorers, parse_sample
        from synthvlm.progress.display import terminal_progress

        if out is not None:
            check_lasting(out)
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
        print(printable(text))


@app.command()
def cost(
    captioner: Annotated[
        str, typer.Option(help="Hub id, folder, or output of `synthvlm train`.", metavar="MODEL")
    ],
    recipe: RecipeArgument = None,
    recipe_option: RecipeOption = None,
    captions: CaptionsOption = [],  # noqa: B006
    format: FormatOption = None,
    text_field: TextFieldOption = None,
    no_header: NoHeaderOption = False,
    delimiter: DelimiterOption = None,
    images: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Images to caption; default: those generated here.", metavar="FOLDER"),
    ] = None,
    overrides: SetOption = [],  # noqa: B006
    limit: LimitOption = None,
    pairs: Annotated[
        int,
        typer.Option(
            min=1, help="Number of captions to generate images for, and of images to caption."
        ),
    ] = 16,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch of the captioner.")] = 4,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Maximum length of a caption, in tokens.")
    ] = 100,
    prompt: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Prompt of the captioner; default: built-in."),
    ] = None,
    revision: RevisionOption = None,
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Measure what a usable pair costs: generated by a recipe, or by captioning images."""
    with explained(debug, "interrupted; nothing was kept"):
        from synthvlm.commands import cost as measure
        from synthvlm.progress.display import terminal_progress

        files = CaptionFiles(captions, format, text_field, no_header, delimiter)
        name = required_recipe(recipe, recipe_option)
        with (
            recipe_to_try(name, files, overrides, limit, plugins) as whole,
            terminal_progress(silent=as_json) as progress,
        ):
            result = measure(
                whole,
                captioner,
                images=images,
                pairs=pairs,
                batch_size=batch_size,
                max_new_tokens=max_new_tokens,
                prompt=prompt,
                revision=revision,
                progress=progress,
            )
        show(result, as_json)
