"""Any model behind an OpenAI-compatible image endpoint (vLLM-Omni, SGLang, LocalAI, hosted)."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from synthvlm.errors import RecipeError, SynthVLMError, first_line
from synthvlm.generators.base import GeneratedImages, Generator

if TYPE_CHECKING:
    import torch

    from synthvlm.components.component import LoadContext

__all__ = ["EndpointGenerator", "ImageModel", "ImageReply", "decode_picture"]

#: Fields of a request that are set from the generator's own arguments.
_OWN_FIELDS = ("model", "prompt", "n", "size", "response_format", "seed")

#: Servers keep seeds in 64, 53 (JavaScript), 32 or 31 bits; all of them take 31.
_SEED_MASK = 2**31 - 1

# Not all that Pillow opens: for EPS, say, it would start Ghostscript.
_FORMATS = ("PNG", "JPEG", "WEBP")
_MODES = ("RGB", "RGBA", "L", "LA", "P")


class ImageReply(Protocol):
    """What became of a request."""

    @property
    def data(self) -> bytes:
        """The encoded picture; b"" if there is a problem."""
        ...

    @property
    def problem(self) -> str | None:
        """Why there is none, or None."""
        ...


class ImageModel(Protocol):
    """A model that generates, such as ``synthvlm.endpoints.images.ImageClient``."""

    def generate_all(
        self, requests: Iterable[tuple[Hashable, str, Mapping[str, Any]]]
    ) -> Iterator[tuple[Hashable, ImageReply]]:
        """Give (key, reply) for each (key, prompt, further fields), in any order.

        Raises:
            SynthVLMError: No more can be generated at all; all replies that came were given before.
        """
        ...


class EndpointGenerator(Generator):
    """Generates images by requests to an endpoint, one image each, many at a time.

    A batch should be several times the client's concurrency: at its end the client waits for the
    slowest. A picture of another size than asked is a problem of that image; it is not resized.

    Attributes:
        reproducible: Whether seeds are sent. That they determine the image, and that prompts are
            used as they are, is up to the server.
    """

    name: ClassVar[str] = "endpoint"

    @classmethod
    def load(cls, settings: Any, context: LoadContext) -> EndpointGenerator:
        """Make the client of the endpoint that the section ``generation`` of a recipe names."""
        from synthvlm.endpoints.images import ImageClient

        endpoint = settings.endpoint
        assert endpoint is not None
        return cls(
            ImageClient(endpoint.connection(), settings.model),
            width=settings.width,
            height=settings.height,
            response_format=endpoint.response_format,
            send_seed=endpoint.send_seed,
            extra=endpoint.extra,
        )

    def __init__(
        self,
        model: ImageModel,
        *,
        width: int,
        height: int,
        response_format: str | None = "b64_json",
        send_seed: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Take the model and the fields of its requests.

        Args:
            model: The model.
            width: In pixels.
            height: In pixels.
            response_format: Sent along; None for servers that refuse the field.
            send_seed: Whether each image's seed is sent, its lower 31 bits; False for servers that
                refuse the field.
            extra: Further fields of each request, as the server takes them:
                ``num_inference_steps``, ``guidance_scale``, ``negative_prompt``, ``quality`` ...

        Raises:
            RecipeError: ``extra`` holds a field that is set by other means, or no JSON.
        """
        extra = extra or {}
        if taken := sorted(set(_OWN_FIELDS) & extra.keys()):
            raise RecipeError(f"extra must not hold {', '.join(taken)}: set by other settings")
        try:
            json.dumps(dict(extra), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"extra cannot be sent: {error}") from error
        self._model = model
        self._width, self._height = width, height
        self._fields: dict[str, Any] = {"n": 1, "size": f"{width}x{height}"}
        if response_format is not None:
            self._fields["response_format"] = response_format
        self._fields |= extra
        self._failure: SynthVLMError | None = None
        self.reproducible = send_seed

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        """Generate one image for each (prompt, seed).

        If the endpoint fails for good when part of the batch is generated, that part is returned,
        the rest as problems, and the next call raises the error.

        Raises:
            SynthVLMError: The endpoint cannot be used (``ModelError``), or its budget is used up.
        """
        import torch

        if self._failure is not None:
            raise self._failure
        pixels = torch.zeros((len(prompts), 3, self._height, self._width), dtype=torch.uint8)
        problems: dict[int, str | None] = {}
        try:
            for row, reply in self._model.generate_all(self._requests(prompts, seeds)):
                assert isinstance(row, int)
                problems[row] = self._put(pixels[row], reply)
        except SynthVLMError as error:
            if None not in problems.values():
                raise
            self._failure = error
        unasked = f"not generated: {self._failure}"
        return GeneratedImages(
            pixels, tuple(problems.get(row, unasked) for row in range(len(prompts)))
        )

    def _requests(
        self, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Iterator[tuple[int, str, dict[str, Any]]]:
        for row, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            own = {"seed": seed & _SEED_MASK} if self.reproducible else {}
            yield row, prompt, {**self._fields, **own}

    def _put(self, pixels: torch.Tensor, reply: ImageReply) -> str | None:
        """Decode a picture into its place (3, height, width); returns the problem, if any."""
        import torch

        if reply.problem is not None:
            return reply.problem
        try:
            picture = decode_picture(reply.data, self._width, self._height)
        except ValueError as error:
            return str(error)
        pixels.copy_(torch.from_numpy(picture).permute(2, 0, 1))
        return None


def decode_picture(data: bytes, width: int, height: int) -> np.ndarray:
    """The pixels (uint8, shape (height, width, 3), RGB) of a picture; on white where transparent.

    The size is compared before anything is decoded, so no picture needs more memory than one of
    that size.

    Raises:
        ValueError: It is damaged, no PNG, JPEG or WebP, of another size, or has no 8-bit pixels.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata; a huge size, which is none asked
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                if image.size != (width, height):
                    came = f"{image.size[0]} x {image.size[1]}"
                    raise ValueError(f"it is {came} pixels, asked was {width} x {height}")
                if image.mode not in _MODES:
                    raise ValueError(f"its pixels are of mode {image.mode}, not 8-bit colour")
                if not image.has_transparency_data:
                    return np.array(image.convert("RGB"))
                front = image.convert("RGBA")
                back = Image.new("RGBA", image.size, "white")
                return np.array(Image.alpha_composite(back, front).convert("RGB"))
    except UnidentifiedImageError as error:  # its own message holds an address in memory
        raise ValueError("the picture cannot be used: it is no PNG, JPEG or WebP") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error ...
        raise ValueError(f"the picture cannot be used: {first_line(error)}") from error
