"""Who may import whom, and how light an import is; docs/architecture.md says why."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import synthvlm

ROOT = Path(synthvlm.__file__).parent
FREE = {"data", "errors"}

#: For each room (folder or module), the other rooms that its files may import.
ALLOWED = {
    "data": set(),
    "errors": set(),
    "recipe": {
        "recipe_base", "recipe_curation", "recipe_files", "recipe_generation", "recipe_problems",
        "recipe_sources", "recipe_yaml",
    },
    "recipe_base": set(),
    "recipe_curation": {"recipe_base", "recipe_endpoints"},
    "recipe_endpoints": {"recipe_base"},
    "recipe_generation": {"recipe_base", "recipe_endpoints"},
    "recipe_files": {"errors", "recipe_problems"},
    "recipe_problems": {"errors"},
    "recipe_sources": {"recipe_base", "recipe_endpoints"},
    "recipe_yaml": {"errors"},
    "storage_errors": {"errors"},
    "storage": {"errors", "marker", "storage_errors"},
    "lock": {"errors", "storage"},
    "marker": set(),
    "tables": {"errors", "storage"},
    "store": {*FREE, "lock", "marker", "storage", "tables", ""},
    "remote_errors": {"errors"},
    "pretrained": {"device_memory", "errors"},
    "stage_state": set(),
    "terminal": set(),
    "progress": {"stage_state", "terminal"},
    "set_aside": set(),
    "metrics": {"errors", "progress"},
    "done_markers": {"errors", "marker", "recipe", "store"},
    "status": {
        "terminal",
        "done_markers", "errors", "opened_run", "recipe", "set_aside", "stage_state", "store",
    },
    "publishing": {*FREE, "progress", "remote_errors", "storage", "store"},
    "opened_run": {"errors", "pipeline", "recipe", "store"},
    "verification": {
        *FREE, "marker", "opened_run", "progress", "recipe", "recipe_generation", "selection",
        "stages", "storage", "store", "terminal", "text_tables",
    },
    "regenerated": set(),
    "regeneration": {
        *FREE, "opened_run", "progress", "recipe", "recipe_generation", "regenerated", "stages",
        "storage", "store", "terminal",
    },
    "intervals": set(),
    "text_tables": {"intervals"},
    "device_memory": set(),
    "devices": {"errors"},
    "file_hashes": set(),
    "model_files": {*FREE, "file_hashes", "recipe_base", "tiny"},
    "vlm": {"device_memory", "devices", "errors", "pretrained"},
    "conversations": {"captions", "errors"},
    "training": {
        *FREE, "captions", "conversations", "device_memory", "model_files", "pretrained",
        "progress", "recipe_base", "recipe_files", "recipe_problems", "recipe_yaml", "report",
    },
    "evaluation": {
        *FREE, "captions", "intervals", "model_files", "progress", "terminal", "text_tables", "vlm",
        "",
    },
    "comparison": {
        *FREE, "captions", "conversations", "devices", "intervals", "model_files", "progress",
        "report", "scorers", "store", "terminal", "text_tables",
    },
    "cost": {
        *FREE, "captions", "devices", "intervals", "model_files", "planning", "progress", "recipe",
        "store", "terminal", "text_tables", "trials", "vlm",
    },
    "selection": {"data"},
    "captions": {*FREE, "pretrained", "remote_errors"},
    "endpoints": {"errors"},
    "generators": {*FREE, "device_memory"},
    "scorers": {*FREE, "pretrained"},
    "exporters": FREE,
    "engines": {"errors", "terminal"},
    "tiny": set(),
    "report": {*FREE, "recipe", "set_aside", "store", "progress", "stages"},
    "doctor": {"errors", "model_files", "recipe"},
    "stages": {
        *FREE, "captions", "device_memory", "devices", "endpoints", "engines", "exporters",
        "generators", "marker", "model_files", "progress", "recipe", "recipe_base",
        "recipe_curation", "recipe_endpoints", "recipe_generation", "recipe_sources", "scorers",
        "selection", "store", "tiny",
    },
    "pipeline": {
        *FREE, "devices", "engines", "progress", "recipe", "recipe_yaml", "report", "stages",
        "store",
    },
    "trials": {
        *FREE, "captions", "intervals", "pipeline", "progress", "recipe", "recipe_curation",
        "recipe_sources", "recipe_yaml", "stages", "store", "text_tables",
    },
    "planning": {
        *FREE, "devices", "intervals", "pipeline", "progress", "recipe", "store", "text_tables",
        "trials",
    },
    "tuning": {*FREE, "pipeline", "progress", "recipe", "recipe_yaml", "store", "trials"},
    "cli": {
        *FREE, "comparison", "cost", "doctor", "engines", "evaluation", "metrics", "pipeline",
        "planning", "progress", "publishing", "recipe", "regeneration", "status", "terminal",
        "training", "tuning", "verification", "",
    },
    "__init__": {"errors", "pipeline", "recipe"},
    "__main__": {"cli"},
}  # fmt: skip


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative imports hide the room"
            names = [node.module]
            if node.module == "synthvlm":
                names = [f"synthvlm.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            assert package not in {"benchmarks", "experiments", "fakes", "tests"}, (
                f"{path}: not in the wheel"
            )
            if package == "synthvlm":
                room = rest.split(".")[0]
                rooms.add("" if room.startswith("__") else room)
    return rooms


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    room = room_of(path)
    assert imported_rooms(path) <= ALLOWED[room] | {room}


def module_of(path: Path) -> str:
    parts = ("synthvlm", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_modules_import_each_other() -> None:
    modules = {module_of(path): path for path in ROOT.rglob("*.py")}
    imported: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                names |= {name if name in modules else node.module for name in inner}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        imported[module] = names & modules.keys() - {module}
    TopologicalSorter(imported).prepare()  # names the modules of a circle


@pytest.mark.parametrize("statement", ["import synthvlm", "import synthvlm.cli"])
def test_importing_is_light(statement: str) -> None:
    heavy = "{'torch', 'transformers', 'diffusers', 'pyarrow', 'numpy', 'pydantic', 'PIL'}"
    code = f"import sys; {statement}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_interface_loads_without_torch() -> None:
    code = (
        "import sys; from synthvlm import Recipe, Pipeline; Pipeline(Recipe.load(), 'x'); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
