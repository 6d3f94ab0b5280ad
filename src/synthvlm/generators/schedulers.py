"""The scheduler of a pipeline, changed by name and options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from synthvlm.errors import RecipeError, first_line
from synthvlm.generators.failures import quiet
from synthvlm.generators.pipelines import did_you_mean, nearest

__all__ = ["change_scheduler", "is_seeded"]

#: Draw their step noise from a source of their own.
_UNSEEDED = {"DPMSolverSDEScheduler", "CosineDPMSolverMultistepScheduler"}


def change_scheduler(pipeline: Any, name: str | None, options: Mapping[str, Any]) -> None:
    """Give a pipeline another scheduler, made from the settings of its own.

    Args:
        pipeline: The pipeline.
        name: A scheduler class of diffusers; None for the pipeline's own.
        options: Settings that are changed.

    Raises:
        RecipeError: There is no such scheduler, or it has no such setting.
    """
    import diffusers

    if name is None and not options:
        return
    own = pipeline.scheduler
    valid = sorted(each for each in dir(diffusers) if each.endswith("Scheduler"))
    if name is not None and name not in valid:
        hint = did_you_mean(name, valid) or " (names end in Scheduler)"
        raise RecipeError(f"generation.scheduler: diffusers has no {name}{hint}")
    kind = type(own) if name is None else getattr(diffusers, name)
    settings = sorted(inspect.signature(kind.__init__).parameters.keys() - {"self"})
    for option in options:
        if option not in settings:
            raise RecipeError(
                f"generation.scheduler_options.{option}: a {kind.__name__} has no such setting"
                f"{nearest(option, settings)}"
            )
    try:
        with quiet():
            pipeline.scheduler = kind.from_config(own.config, **options)
    except (ImportError, TypeError, ValueError, NotImplementedError) as error:
        raise RecipeError(
            f"generation.scheduler: cannot make a {kind.__name__}: {first_line(error)}"
        ) from error


def is_seeded(pipeline: Any) -> bool:
    """Whether all noise of a pipeline's steps comes from the generators that it is given."""
    scheduler = pipeline.scheduler
    if type(scheduler).__name__ in _UNSEEDED:
        return False
    # The only pipelines whose steps get no generator are those of flow matching, whose own
    # schedulers add no noise unless they are told to.
    adds_noise = scheduler.config.get("stochastic_sampling", False)
    return not adds_noise or hasattr(pipeline, "prepare_extra_step_kwargs")
