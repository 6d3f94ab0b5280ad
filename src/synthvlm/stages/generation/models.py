"""What the workers of generation are given, and the models that they load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.components.component import LoadContext
from synthvlm.errors import ModelError
from synthvlm.generators import GENERATORS
from synthvlm.models.devices import resolve_device, resolve_dtype
from synthvlm.models.model_files import pipeline_path
from synthvlm.scorers import SCORERS
from synthvlm.stages.fingerprints import combined_fingerprint, image_dependencies

if TYPE_CHECKING:
    from synthvlm.endpoints.client import EndpointClient
    from synthvlm.endpoints.connection import EndpointSettings
    from synthvlm.generators.base import Generator
    from synthvlm.recipe import Recipe
    from synthvlm.recipe.generation import GenerationSettings
    from synthvlm.run_folder.folder import RunFolder
    from synthvlm.scorers.base import Scorer
    from synthvlm.scorers.image_checks import ImageCheck

__all__ = ["GenerationContext", "Models", "generation_dtype"]


def generation_dtype(recipe: Recipe, device: str) -> str:
    """What ``generation.dtype: auto`` stands for on a device.

    On a GPU half precision: bfloat16 for the classes of pipelines that need it, else float16.

    Raises:
        ModelError: The model cannot be found.
    """
    from synthvlm.generators.pipeline_classes import pipeline_class, runs_in_bfloat16

    dtype, settings = resolve_dtype("auto", device), recipe.generation
    if dtype != "float16" or settings.generator_name != "diffusers":
        return dtype
    kind = pipeline_class(pipeline_path(settings.model), settings.revision)
    return "bfloat16" if runs_in_bfloat16(kind) else dtype


@dataclass(frozen=True, slots=True)
class GenerationContext:
    """What all work of generation shares; it is sent to where the workers are.

    Attributes:
        run: The run folder.
        recipe: With dtype and threads resolved.
        load_models: Loads what the recipe names; called once by each worker.
        image_dependencies: What every image depends on (``fingerprints.image_dependencies``), as
            the driver of the run computed it.
    """

    run: RunFolder
    recipe: Recipe
    load_models: Callable[[Recipe], Models]
    image_dependencies: Mapping[str, str]

    @property
    def image_fingerprint(self) -> str:
        """The same as one fingerprint."""
        return combined_fingerprint(self.image_dependencies)

    def check_models(self) -> None:
        """Check, where a worker is, that its models are those of the driver.

        Raises:
            ModelError: They are not.
        """
        if image_dependencies(self.recipe) != self.image_dependencies:
            raise ModelError(
                "a worker's models are not those that the run was started with: the folders that "
                "the recipe names must hold the same files on every machine"
            )


@dataclass(frozen=True, slots=True)
class Models:
    """The loaded models of a generation worker.

    Attributes:
        generator: Makes the images.
        scorers: By name, in the order of their table.
        image_checks: Say which images are rejected.
    """

    generator: Generator
    scorers: Mapping[str, Scorer]
    image_checks: Sequence[ImageCheck] = ()

    @classmethod
    def load(cls, recipe: Recipe) -> Models:
        """Load what the recipe names.

        Raises:
            ModelError: A model cannot be found or loaded.
            PluginError: A component of a user fails.
        """
        import torch

        if isinstance(recipe.run.threads, int):
            torch.set_num_threads(recipe.run.threads)
        generation = recipe.generation
        context = LoadContext(
            resolve_device(recipe.run.device), generation.dtype, endpoint_client=_client
        )
        settings = generation.generator_settings
        return cls(
            GENERATORS.load(generation.generator_name, settings, context),
            {name: SCORERS.load(name, one, context) for name, one in recipe.scorers.items()},
            list(_image_checks(generation, context.device)),
        )


def _client(endpoint: EndpointSettings, model: str, where: str) -> EndpointClient:
    """A client for a scorer. It keeps no replies: what they say is committed with the shard."""
    from synthvlm.endpoints.client import EndpointClient

    return EndpointClient(endpoint.connection(), model, max_tokens=endpoint.max_tokens)


def _image_checks(generation: GenerationSettings, device: str) -> Iterator[ImageCheck]:
    from synthvlm.scorers.face_check import FaceCheck
    from synthvlm.scorers.image_checks import load_image_check

    safety, faces = generation.safety, generation.faces
    if safety is not None:
        yield load_image_check(
            safety.model,
            labels=safety.labels,
            max_probability=safety.max_probability,
            device=device,
            revision=safety.revision,
        )
    if faces is not None:
        yield FaceCheck(
            faces.model,
            labels=faces.labels,
            max_faces=faces.max,
            threshold=faces.threshold,
            device=device,
            revision=faces.revision,
        )
