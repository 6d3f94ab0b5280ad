"""Recipes as files: the built-in ones of a package, and those of users."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from synthvlm.errors import RecipeError, nearest

__all__ = ["RecipeFiles"]


class RecipeFiles:
    """Recipes of a kind."""

    def __init__(self, package: str, kind: str) -> None:
        """Take the package in whose ``recipes/`` they are, and what one is called."""
        self._folder = resources.files(package) / "recipes"
        self._kind = kind

    def lines(self) -> dict[str, str]:
        """Names of the built-in ones, sorted, and the first line of each."""
        lines = {}
        for entry in sorted(self._folder.iterdir(), key=lambda item: item.name.split(".")[0]):
            name, dot, ending = entry.name.rpartition(".")
            if dot and ending == "yaml":
                first = entry.read_text(encoding="utf-8").split("\n", 1)[0]
                lines[name] = first.lstrip("# ")
        return lines

    def text(self, name: str) -> str:
        """The YAML text of a built-in one, comments included.

        Raises:
            RecipeError: There is none of that name.
        """
        names = self.lines()
        if name not in names:
            raise RecipeError(
                f"there is no built-in {self._kind} {name!r}{nearest(name, names)}: "
                f"`synthvlm recipes` lists them"
            )
        return (self._folder / f"{name}.yaml").read_text(encoding="utf-8")

    def read(self, recipe: str | Path) -> tuple[str, str]:
        """A built-in one, or a file: what it is called in messages, and its text.

        Raises:
            RecipeError: It does not exist, or cannot be read.
        """
        label, path = str(recipe), Path(recipe)
        try:
            is_file = path.suffix in (".yaml", ".yml") or path.exists()
            if label in self.lines() or not is_file:
                return label, self.text(label)
            return label, path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise RecipeError(f"recipe {label} does not exist") from None
        except UnicodeDecodeError:
            raise RecipeError(f"recipe {label} is not text in UTF-8") from None
        except OSError as error:
            raise RecipeError(f"recipe {label} cannot be read: {error.strerror}") from None
        except ValueError as error:  # NUL in the path
            raise RecipeError(f"recipe {label!r} cannot be read: {error}") from None
