"""The folder of a training: what is in it, who works in it, whether it is done."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from synthvlm.errors import RecipeError, RunFolderError
from synthvlm.training.recipe import TrainingRecipe, changed_settings
from synthvlm.training.samples import SAMPLES_FILE, image_files
from synthvlm.training.sources import DataFacts, ImageFiles, Source, digests

__all__ = ["TrainingFolder"]

RECIPE_FILE = "training.yaml"
LOG_FILE = "log.jsonl"
_DONE_FILE = "done.json"
_DONE_KEYS = {"steps", "samples", "failed", "loss"}
_FACTS_FILE = "data.json"
_LOCK_FILE = ".lock"
#: What a training that could not even write its recipe leaves.
_UNCLAIMED = {_LOCK_FILE, f"{RECIPE_FILE}.partial"}


class TrainingFolder:
    """A local folder; only the main process writes."""

    def __init__(self, path: str, *, main: bool) -> None:
        """Take its path, and whether this is the main process."""
        self.path, self._main = Path(path).absolute(), main
        self._given = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other trainings out.

        Raises:
            RunFolderError: It cannot be made, or another training works in it.
        """
        if not self._main:
            yield
            return
        if "://" in self._given:
            raise RunFolderError(f"{self._given}: a URL; a training's folder is local")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / _LOCK_FILE, "wb")  # noqa: SIM115
        except FileExistsError:
            raise RunFolderError(f"{self.path} is a file: take another --out") from None
        except OSError as error:
            raise RunFolderError(f"{self.path}: {error.strerror or error}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFolderError(f"{self.path}: another training works here") from None
            except OSError as error:
                raise RunFolderError(f"{self.path} cannot be locked: {error.strerror}") from None
            yield

    @property
    def model(self) -> Path:
        """Where the trained model is, once there is one."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are."""
        return self.path / "checkpoints"

    def claim(
        self, recipe: TrainingRecipe, sources: Sequence[Source], models: Mapping[str, str]
    ) -> None:
        """Make it the folder of that training; ``threads`` that are ``auto`` are fixed here.

        Args:
            recipe: The training.
            sources: Its data.
            models: What it starts from, as ``model_identities`` gives it.

        Raises:
            RunFolderError: It is that of another one, or holds other things.
        """
        if not self._main:
            return
        if (self.path / RECIPE_FILE).is_file():
            before = self.recipe()
            if recipe.threads == "auto":
                recipe = recipe.model_copy(update={"threads": before.threads})
            recipe = _with_threads(recipe)
            if before.threads == "auto":  # of a release that did not fix it
                before = before.model_copy(update={"threads": recipe.threads})
            changed = changed_settings(before, recipe)
            facts = self.facts()
            if facts is not None and not changed:
                changed = self._changed_files(facts, recipe, sources, models)
            if changed and (facts is not None or self._has_begun()):
                raise RunFolderError(
                    f"{self.path} is the folder of another training: {', '.join(changed[:3])} "
                    f"changed; take another --out"
                )
        elif any(entry.name not in _UNCLAIMED for entry in self.path.iterdir()):
            raise RunFolderError(f"{self.path} is not empty, and no training: take another --out")
        self.write(RECIPE_FILE, _with_threads(recipe).to_yaml().encode())

    def _has_begun(self) -> bool:
        """Whether anything was trained, whatever became of the check of the data."""
        return self.done() is not None or self.checkpoints.is_dir()

    def recipe(self) -> TrainingRecipe:
        """The recipe of the training that claimed the folder.

        Raises:
            RunFolderError: It cannot be read.
        """
        try:
            return TrainingRecipe.load(self.path / RECIPE_FILE)
        except RecipeError as error:
            raise RunFolderError(
                f"{error}; it is this training's recipe: put it back, or take another --out"
            ) from None

    def _changed_files(
        self,
        facts: DataFacts,
        recipe: TrainingRecipe,
        sources: Sequence[Source],
        models: Mapping[str, str],
    ) -> list[str]:
        """What the recipe names as before, and is no more what it was."""
        if facts.digests != digests(sources):
            return ["what is in the data"]
        changed = [key for key, known in facts.models.items() if models.get(key) != known]
        if changed and self.done() is not None:  # it does without models that are gone
            names = {f"model.{key}": value for key, value in recipe.model}
            changed = [key for key in changed if models.get(key) != names[key]]
        if not changed and not self._has_its_images(facts):
            return ["the images of the data"]
        return [f"the content of {key}" for key in changed]

    def _has_its_images(self, facts: DataFacts) -> bool:
        """Whether the images are what they were; a training that is done needs none any more."""
        if facts.images is None:  # of an early version
            return True
        paths = image_files(self.path, facts.samples)
        try:
            if facts.images.is_of(paths):
                return True
            now = ImageFiles.read(paths)
        except OSError:
            return self.done() is not None
        if now.content == facts.images.content:
            self.write_facts(replace(facts, images=now))
        return now.content == facts.images.content

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all."""
        partial = self.path / f"{name}.partial"
        partial.write_bytes(data)
        os.replace(partial, self.path / name)

    def facts(self) -> DataFacts | None:
        """The result of the check of the data; None where it is not done."""
        values = self._json(_FACTS_FILE)
        if values is None or not (self.path / SAMPLES_FILE).is_file():
            return None
        try:
            return DataFacts.of(values)
        except (TypeError, KeyError, ValueError):
            raise self._damaged(_FACTS_FILE) from None

    def write_facts(self, facts: DataFacts) -> None:
        """Write the result of the check of the data."""
        self.write(_FACTS_FILE, orjson.dumps(facts.values()))

    def done(self) -> dict[str, Any] | None:
        """What ``finish`` wrote, and where the model is; None where the training is not done."""
        values = self._json(_DONE_FILE)
        if values is None or not (self.model / "config.json").is_file():
            return None
        if set(values) != _DONE_KEYS:
            raise self._damaged(_DONE_FILE)
        if values["loss"] is None:  # JSON has no NaN
            values["loss"] = float("nan")
        return {**values, "model": str(self.model)}

    def finish(self, values: dict[str, Any]) -> None:
        """The training is done: the last thing that is written."""
        self.write(_DONE_FILE, orjson.dumps(values))

    @contextmanager
    def log(self, step: int) -> Iterator[Callable[[bytes], object]]:
        """Where rows of the loss go; those after ``step`` are dropped: they come again."""
        if not self._main:
            yield lambda row: None
            return
        rows = [row for row in self.logged() if row["step"] <= step]
        self.write(LOG_FILE, b"".join(orjson.dumps(row) + b"\n" for row in rows))
        with open(self.path / LOG_FILE, "ab", buffering=0) as file:
            yield file.write

    def logged(self) -> list[dict[str, Any]]:
        """The rows of the loss; a half-written last one is left out.

        Raises:
            RunFolderError: A row is damaged.
        """
        path = self.path / LOG_FILE
        if not path.is_file():
            return []
        rows = []
        for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
            try:
                row = orjson.loads(line)
                float(row["step"]), float(row["loss"])
            except (orjson.JSONDecodeError, TypeError, KeyError, ValueError):
                raise RunFolderError(
                    f"{path}, line {number} is damaged: delete that line, which only the report "
                    f"will lack, and the same command goes on"
                ) from None
            rows.append(row)
        return rows

    def _json(self, name: str) -> dict[str, Any] | None:
        try:
            values = orjson.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        except orjson.JSONDecodeError:
            raise self._damaged(name) from None
        if not isinstance(values, dict):
            raise self._damaged(name)
        return values

    def _damaged(self, name: str) -> RunFolderError:
        return RunFolderError(
            f"{self.path / name} is damaged: delete it, and the same command makes it again"
        )


def _with_threads(recipe: TrainingRecipe) -> TrainingRecipe:
    """The recipe with the number of threads that torch has, where it names none."""
    if recipe.threads != "auto":
        return recipe
    import torch

    return recipe.model_copy(update={"threads": torch.get_num_threads()})
