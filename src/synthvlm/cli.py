"""The command line; thin."""

from __future__ import annotations

import io
import sys
import traceback
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

from synthvlm.errors import SynthVLMError
from synthvlm.terminal import printable, quiet_libraries

if TYPE_CHECKING:
    from synthvlm.progress import Progress, Tracker

__all__ = ["main"]

app = typer.Typer(
    name="synthvlm",
    help="Curated synthetic image-caption pairs for vision-language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# typer reads annotations at run time, where Python 3.11's `X | None` works too; Optional keeps
# the help's type names short.
RecipeArgument = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(help="A built-in recipe (`synthvlm recipes`) or a YAML file.", metavar="RECIPE"),
]
RecipeToTry = Annotated[
    str, typer.Argument(help="A built-in recipe or a YAML file.", metavar="RECIPE")
]
CaptionsOption = Annotated[
    list[str],
    typer.Option(help="Caption file: .txt .json .jsonl .csv .tsv .parquet; may be repeated."),
]
OutOption = Annotated[str, typer.Option(help="The run folder: a new one, or one to resume.")]
SetOption = Annotated[
    list[str],
    typer.Option("--set", help="Change a setting, e.g. generation.steps=30.", metavar="KEY=VALUE"),
]
LimitOption = Annotated[Optional[int], typer.Option(min=1, help="Input captions to read.")]  # noqa: UP045
EngineOption = Annotated[
    Literal["local", "ray"], typer.Option(help="Where images are made: here, or on a Ray cluster.")
]
WorkersOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, help="Generation workers; default: one for each GPU, at least one."),
]
MetricsOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--metrics", help="Answer Prometheus there.", metavar="HOST:PORT"),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _stage_command(until: str, name: str, text: str) -> None:
    def command(
        out: OutOption,
        recipe: RecipeArgument = None,
        captions: CaptionsOption = [],  # noqa: B006
        changes: SetOption = [],  # noqa: B006
        limit: LimitOption = None,
        engine: EngineOption = "local",
        workers: WorkersOption = None,
        metrics: MetricsOption = None,
        debug: DebugOption = False,
    ) -> None:
        with _Explained(debug):
            _run(recipe, captions, out, changes, limit, engine, workers, metrics, until)

    app.command(name, help=text)(command)


_stage_command("report", "run", "Captions in, a data set and a report out: all stages.")
_stage_command("curate", "curate", "Up to and including curation.")
_stage_command("generate", "generate", "Up to and including generation, scoring and choice.")
_stage_command("select", "select", "Up to and including selection.")
_stage_command("export", "export", "Up to and including the exported data set.")
_stage_command("report", "report", "Up to and including the report.")


@app.command()
def plan(
    recipe: RecipeToTry,
    captions: CaptionsOption = [],  # noqa: B006
    changes: SetOption = [],  # noqa: B006
    limit: LimitOption = None,
    sample: Annotated[int, typer.Option(min=1, help="Captions to draw here.")] = 16,
    price: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--price-per-hour", min=0, help="Of one device, in any currency."),
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="Devices that share the work.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="For machines; nothing else.")] = False,
    debug: DebugOption = False,
) -> None:
    """What a whole run will take: captions, images, hours, disk, cost; from a few tried here."""
    with _Explained(debug, "interrupted: nothing is left behind"):
        import json

        from synthvlm.planning import plan as estimate
        from synthvlm.progress import SilentProgress, progress_for_terminal
        from synthvlm.recipe import Recipe

        settings = Recipe.load(recipe, captions=captions, overrides=changes, limit=limit)
        progress = SilentProgress() if as_json else progress_for_terminal()
        with _shown(progress):
            found = estimate(
                settings, sample=sample, price_per_hour=price, gpus=gpus, progress=progress
            )
        print(json.dumps(found.values()) if as_json else printable(found.text()))


@app.command()
def tune(
    recipe: RecipeToTry,
    out: Annotated[str, typer.Option(help="Folder of the search: a new one, or one to resume.")],
    grid: Annotated[
        list[str],
        typer.Option(help="Values to try of a setting.", metavar="generation.KEY=VALUE,VALUE"),
    ],
    captions: CaptionsOption = [],  # noqa: B006
    changes: SetOption = [],  # noqa: B006
    limit: LimitOption = None,
    sample: Annotated[int, typer.Option(min=2, help="Captions to draw, the same for all.")] = 100,
    candidates: Annotated[int, typer.Option(min=1, help="Images of each caption.")] = 1,
    by: Annotated[
        Literal["score", "score-per-second"], typer.Option(help="What is best.")
    ] = "score",
    debug: DebugOption = False,
) -> None:
    """Grid search: which settings of generation score best, on the same captions and seeds."""
    with _Explained(debug):
        from synthvlm.progress import progress_for_terminal
        from synthvlm.recipe import Recipe
        from synthvlm.tuning import parse_grid
        from synthvlm.tuning import tune as search

        settings = Recipe.load(recipe, captions=captions, overrides=changes, limit=limit)
        progress = progress_for_terminal()
        with _shown(progress):
            found = search(
                settings,
                parse_grid(grid),
                out,
                sample=sample,
                candidates=candidates,
                by=by,
                progress=progress,
            )
        print(printable(found.text()))
        if found.best is None:
            raise typer.Exit(1)
        print(f"\n{found.yaml()}", end="")


@app.command()
def status(
    run: Annotated[str, typer.Argument(help="The run folder.", metavar="RUN")],
    watch: Annotated[bool, typer.Option("--watch", help="Look every 5 s until it ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines; nothing else.")] = False,
    debug: DebugOption = False,
) -> None:
    """Say how a run is doing, from another terminal or machine."""
    with _Explained(debug, "no longer watching: the run goes on"):
        from synthvlm.status import show_status

        show_status(run, follow=watch, as_json=as_json)


@app.command()
def verify(
    run: Annotated[str, typer.Argument(help="The run folder.", metavar="RUN")],
    discard: Annotated[
        bool, typer.Option("--discard", help="Have the next run redo what is damaged.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines; nothing else.")] = False,
    debug: DebugOption = False,
) -> None:
    """Check that a run's files are what was written; exit status 1 if something is damaged."""
    with _Explained(debug, "interrupted: nothing was discarded"):
        from synthvlm.progress import SilentProgress, progress_for_terminal
        from synthvlm.verification.command import verify_command

        progress = SilentProgress() if as_json else progress_for_terminal()
        with _shown(progress):
            text, is_sound = verify_command(
                run, is_discarding=discard, as_json=as_json, progress=progress
            )
        print(text)
        if not is_sound:
            raise typer.Exit(1)


@app.command()
def regenerate(
    run: Annotated[str, typer.Argument(help="The run folder.", metavar="RUN")],
    id: Annotated[str, typer.Option("--id", help="Of the caption.", metavar="CAPTION_ID")],
    index: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, help="Number of a candidate; default: the winner."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All candidates that were drawn.")] = False,
    to: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Folder for the images, as PNG.", metavar="FOLDER"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines; nothing else.")] = False,
    debug: DebugOption = False,
) -> None:
    """Make a caption's image again and compare; exit status 1 if it is not the same."""
    with _Explained(debug, "interrupted: the run folder is as it was"):
        from synthvlm.progress import SilentProgress, progress_for_terminal
        from synthvlm.regeneration import regenerate_command

        progress = SilentProgress() if as_json else progress_for_terminal()
        with _shown(progress):
            text, is_same = regenerate_command(
                run, id, index=index, every=every, to=to, as_json=as_json, progress=progress
            )
        print(text)
        if not is_same:
            raise typer.Exit(1)


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
    changes: SetOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Train a LLaVA on exported data; several GPUs: `accelerate launch -m synthvlm train ...`."""
    with _Explained(debug):
        from synthvlm.training.command import train_command

        train_command(recipe, out, data=data, changes=changes)


@app.command("eval")
def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="Hub id, folder, or output of `synthvlm train`.", metavar="MODEL"),
    ],
    benchmarks: Annotated[
        str, typer.Option(help="easy-vqa, paper, or the paper's by name.", metavar="NAME,NAME")
    ] = "",
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
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 32,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions at a time.")] = 16,
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Questions of each benchmark."),
    ] = None,
    device: Annotated[str, typer.Option(help="Torch device, or auto.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, float16, bfloat16 or auto.")] = "auto",
    revision: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Of the model on the hub."),
    ] = None,
    harness_python: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A python with lmms-eval and lm-eval.", metavar="PYTHON"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines; nothing else.")] = False,
    debug: DebugOption = False,
) -> None:
    """Evaluate a model: your questions, easy-VQA, the paper's benchmarks; exit 1: one failed."""
    with _Explained(debug):
        from synthvlm.evaluation.command import evaluate_command
        from synthvlm.evaluation.local import SHORT_ANSWER
        from synthvlm.progress import SilentProgress, progress_for_terminal

        progress = SilentProgress() if as_json else progress_for_terminal()
        with _shown(progress):
            text, is_whole = evaluate_command(
                model,
                benchmarks=benchmarks,
                questions=questions,
                images=images,
                baseline_questions=baseline_questions,
                out=out,
                blind=blind,
                suffix=SHORT_ANSWER if suffix is None else suffix,
                max_new_tokens=max_new_tokens,
                batch_size=batch_size,
                limit=limit,
                device=device,
                dtype=dtype,
                revision=revision,
                harness=harness_python,
                as_json=as_json,
                progress=progress,
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
    mapped: Annotated[
        int, typer.Option("--map", min=0, help="Pairs of each data set on the maps.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the maps.")] = 0,
    device: Annotated[str, typer.Option(help="Torch device, or auto.")] = "auto",
    revision: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Of the CLIP model on the hub."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines; nothing else.")] = False,
    debug: DebugOption = False,
) -> None:
    """Data sets, or results of models, side by side: scores, sizes, duplicates, maps."""
    with _Explained(debug, "interrupted: nothing was written"):
        from synthvlm.comparison.command import DEFAULT_CLIP, compare_command, parse_sample
        from synthvlm.progress import SilentProgress, progress_for_terminal

        progress = SilentProgress() if as_json else progress_for_terminal()
        with _shown(progress):
            text = compare_command(
                inputs,
                out=out,
                sample=parse_sample(sample),
                clip=clip or DEFAULT_CLIP,
                revision=revision,
                device=device,
                mapped=mapped,
                seed=seed,
                as_json=as_json,
                progress=progress,
            )
        print(text)


@app.command()
def cost(
    recipe: RecipeToTry,
    captioner: Annotated[
        str, typer.Option(help="Hub id or folder of a vision-language model.", metavar="MODEL")
    ],
    captions: CaptionsOption = [],  # noqa: B006
    images: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Images to caption; default: those drawn here.", metavar="FOLDER"),
    ] = None,
    changes: SetOption = [],  # noqa: B006
    limit: LimitOption = None,
    pairs: Annotated[
        int, typer.Option(min=1, help="Captions to draw, and images to caption.")
    ] = 16,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images that the captioner gets at a time.")
    ] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest caption.")] = 100,
    prompt: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What the captioner is asked; default: built-in."),
    ] = None,
    revision: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Of the captioner on the hub."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines; nothing else.")] = False,
    debug: DebugOption = False,
) -> None:
    """What a usable pair costs in device seconds: drawn by a recipe, against captioned."""
    with _Explained(debug, "interrupted: nothing is left behind"):
        from synthvlm.cost.command import cost_command
        from synthvlm.progress import SilentProgress, progress_for_terminal
        from synthvlm.recipe import Recipe

        settings = Recipe.load(recipe, captions=captions, overrides=changes, limit=limit)
        progress = SilentProgress() if as_json else progress_for_terminal()
        with _shown(progress):
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


@app.command()
def publish(
    run: Annotated[str, typer.Argument(help="The run folder, its export done.", metavar="RUN")],
    target: Annotated[
        str,
        typer.Argument(
            help="hf://datasets/ORG/NAME or .../NAME@REVISION; or a folder or fsspec URL.",
            metavar="TARGET",
        ),
    ],
    private: Annotated[bool, typer.Option("--private", help="On the hub: nobody else's.")] = False,
    message: Annotated[Optional[str], typer.Option(help="On the hub: of the commits.")] = None,  # noqa: UP045
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, change nothing.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Copy the finished data set to the Hugging Face hub or to any folder; its card last."""
    with _Explained(debug):
        from synthvlm.progress import progress_for_terminal
        from synthvlm.publishing import publish as send

        progress = progress_for_terminal()
        with _shown(progress):
            done = send(
                run, target, private=private, message=message, dry_run=dry_run, progress=progress
            )
        print(done.url)


@app.command()
def recipes(
    name: Annotated[Optional[str], typer.Argument(help="Print this one.")] = None,  # noqa: UP045
    debug: DebugOption = False,
) -> None:
    """List the built-in recipes, or print one to edit: `synthvlm recipes sdxl > my.yaml`."""
    from synthvlm.recipe import builtin_recipe_text, builtin_recipes
    from synthvlm.training.recipe import builtin_training_recipe_text, builtin_training_recipes

    with _Explained(debug):
        trainings = builtin_training_recipes()
        if name is not None:
            text = builtin_training_recipe_text if name in trainings else builtin_recipe_text
            sys.stdout.write(text(name))
            return
        width = max(map(len, [*builtin_recipes(), *trainings])) + 2
        for found, line in builtin_recipes().items():
            print(f"{found:<{width}}{line}")
        print("\nof `synthvlm train`:")
        for found, line in trainings.items():
            print(f"{found:<{width}}{line}")


@app.command()
def doctor(debug: DebugOption = False) -> None:
    """Say what works here, and what to install for the rest."""
    from synthvlm.doctor import diagnose

    with _Explained(debug):
        if not diagnose():
            raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from synthvlm import __version__

        print(f"synthvlm {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    # A name that the terminal cannot show is no reason to stop.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    quiet_libraries()
    app()


def _run(
    recipe: str | None,
    captions: list[str],
    out: str,
    changes: list[str],
    limit: int | None,
    engine: str,
    workers: int | None,
    metrics: str | None,
    until: str,
) -> None:
    from synthvlm.engines import make_engine
    from synthvlm.pipeline import Pipeline, resumed_recipe
    from synthvlm.progress import Tracker, progress_for_terminal
    from synthvlm.recipe import Recipe

    if recipe is None:
        settings = resumed_recipe(out, captions=captions, overrides=changes, limit=limit)
    else:
        settings = Recipe.load(recipe, captions=captions, overrides=changes, limit=limit)
    shown = progress_for_terminal()
    progress = Tracker(shown)
    if workers is None and engine == "local" and settings.run.device not in ("auto", "cuda"):
        workers = 1  # the recipe names one device
    used = None if until == "curate" else make_engine(engine, workers)
    pipeline = Pipeline(settings, out, engine=used, progress=progress)
    with _serving(progress, metrics), _shown(shown):
        pipeline.run(until)
    if until in ("export", "report"):
        progress.note(f"data set: {pipeline.folder.path('dataset')}")
    if until == "report":
        progress.note(f"report:   {pipeline.folder.path('report/index.html')}")


def _serving(tracker: Tracker, address: str | None) -> AbstractContextManager[object]:
    if address is None:
        return nullcontext()
    from synthvlm.metrics import serve_metrics

    return serve_metrics(tracker, address)


def _shown(progress: Progress) -> AbstractContextManager[object]:
    """The time in which a progress with a display of its own has it on the terminal."""
    from synthvlm.progress import LiveProgress

    return progress if isinstance(progress, LiveProgress) else nullcontext()


class _Explained:
    """Turns errors into one line on standard error and an exit status."""

    def __init__(
        self, debug: bool, interrupted: str = "interrupted: the same command resumes"
    ) -> None:
        self._debug, self._interrupted = debug, interrupted

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._debug:
            if not isinstance(error, Exception) or isinstance(error, BrokenPipeError | typer.Exit):
                return
            print(printable("".join(traceback.format_exception(error))), end="", file=sys.stderr)
            raise typer.Exit(1) from None
        if isinstance(error, SynthVLMError):
            for line in str(error).split("\n"):
                print(f"error: {printable(line)}", file=sys.stderr)
            raise typer.Exit(1) from None
        if isinstance(error, KeyboardInterrupt):
            print(self._interrupted, file=sys.stderr)
            raise typer.Exit(130) from None
        # A closed pipe and typer's own are left to typer.
        if isinstance(error, Exception) and not isinstance(error, BrokenPipeError | typer.Exit):
            text = printable(" ".join(str(error).split())[:300])
            print(
                f"error: unexpected {type(error).__name__}: {text}; what is finished is kept; "
                f"run again with --debug and report what it says",
                file=sys.stderr,
            )
            raise typer.Exit(1) from None
