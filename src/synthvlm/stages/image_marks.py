"""The marks of exported images, as the recipe asks for them (docs/provenance.md)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from synthvlm.components.settings import named_models, published_name
from synthvlm.generators import GENERATORS
from synthvlm.provenance.c2pa_signing import Signer
from synthvlm.provenance.marks import ImageDetails, marked
from synthvlm.stages.fingerprints import recorded_fingerprint

if TYPE_CHECKING:
    from synthvlm.components.settings import Settings
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker

__all__ = [
    "MARKS",
    "UNMARKED",
    "ImageMarks",
    "image_models",
    "is_unmarked",
    "run_fingerprint",
    "what_marks_depend_on",
]

#: Version of the marks: images that were exported with another one are exported again.
_VERSION = 1
#: What the marker of an exported part holds of it.
MARKS = {"marks": _VERSION}
#: Why images that an earlier version exported are exported again.
UNMARKED = "an earlier version exported its images without the mark that says they are synthetic"


class ImageMarks:
    """Marks encoded images of one recipe."""

    def __init__(self, recipe: Recipe) -> None:
        """Look up what the recipe says of its images."""
        self._recipe = recipe
        self._models = image_models(recipe) if recipe.export.image_details else None

    @cached_property
    def signer(self) -> Signer | None:
        """What signs the images; None if the recipe asks for none.

        Raises:
            MissingExtraError: The package that signs is not installed.
            RecipeError: The certificate or its key cannot be used.
        """
        c2pa = self._recipe.export.c2pa
        return None if c2pa is None else Signer(c2pa.certificate, c2pa.private_key)

    def marked(self, image: bytes, format: str, seed: int, generated: Marker) -> bytes:
        """An encoded image with its mark, the details and the signature that the recipe wants.

        Args:
            image: The encoded image.
            format: ``png``, ``jpeg`` or ``webp``.
            seed: Of the image.
            generated: The marker of the shard of candidates that it is of.

        Raises:
            ValueError: The image is damaged.
        """
        details = None
        if self._models is not None:
            details = ImageDetails(self._models, seed, run_fingerprint(self._recipe, generated))
        result = marked(image, format, details)
        return result if self.signer is None else self.signer.signed(result, format)


def what_marks_depend_on(recipe: Recipe) -> object:
    """What the marks depend on besides the pairs.

    Not on the certificate: one that is renewed signs what is exported from then on.
    """
    models = image_models(recipe) if recipe.export.image_details else None
    return _VERSION, models, *(["c2pa"] if recipe.export.c2pa is not None else [])


def run_fingerprint(recipe: Recipe, generated: Marker) -> str | None:
    """What all images of a run and their scores depend on; see ``image_fingerprint``.

    Args:
        recipe: The recipe.
        generated: The marker of a shard of candidates. None follows where it is of an early version
            that did not record this.
    """
    depends = generated.facts.get("depends")
    return None if depends is None else recorded_fingerprint(recipe, depends)


def is_unmarked(exported: Marker) -> bool:
    """Whether an exported part is of a version that did not mark images, by its marker."""
    return not MARKS.keys() <= exported.facts.keys()


def image_models(recipe: Recipe) -> str:
    """Names of the models that make the images, with their revisions where they are set."""
    generation = recipe.generation
    name = generation.generator_name
    release = GENERATORS.release(name)
    names = [] if release is None else [f"plug-in {name} ({' '.join(release)})"]
    parts: list[Settings | None] = [
        generation.generator_settings,
        generation.refiner,
        *generation.loras,
    ]
    for settings in filter(None, parts):
        for model, revision, _ in named_models(settings):
            names.append(published_name(model) + ("" if revision is None else f"@{revision}"))
    return ", ".join(names)
