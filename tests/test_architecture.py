"""Who may import whom, and how light an import is; docs/architecture.md says why."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import synthvlm

ROOT = Path(synthvlm.__file__).parent
#: For each package or module at the top, the others that its files may import; `safe_text` is
#: free to all, and so is `components` to the packages of components.
ALLOWED = {
    "data": "",
    "errors": "safe_text",
    "safe_text": "",
    "estimates": "",
    "tiny": "",
    "progress": "errors",
    "components": "errors",
    "endpoints": "components errors",
    "engines": "errors progress",
    "models": "components data errors tiny",
    "run_folder": "data errors",
    "captions": "components data endpoints errors models",
    "generators": "components endpoints errors models",
    "scorers": "captions components endpoints errors models",
    "selectors": "components data errors",
    "exporters": "components data errors",
    "provenance": "errors",
    "recipe": "captions components data endpoints errors exporters generators scorers selectors",
    "rights": "captions components errors generators models recipe scorers",
    "stages": "captions components data endpoints engines errors estimates exporters generators "
    "models progress provenance recipe rights run_folder scorers selectors tiny",
    "report": "captions components data generators progress recipe run_folder scorers stages",
    "run": "data errors exporters recipe report run_folder selectors stages",
    "pipeline": "engines errors models progress recipe report rights run run_folder stages",
    "publishing": "checks data errors estimates exporters models progress run run_folder",
    "checks": "components data errors estimates progress recipe run run_folder scorers selectors "
    "stages",
    "planning": "captions components data errors estimates models pipeline progress recipe report "
    "rights run run_folder scorers stages",
    "data_sets": "captions checks data errors exporters recipe run run_folder stages",
    "training": "captions checks components data_sets errors models progress recipe report",
    "evaluation": "captions errors estimates models progress",
    "conversion": "captions components data data_sets errors exporters progress recipe run_folder "
    "stages",
    "comparison": "captions checks components data data_sets errors estimates models progress "
    "provenance recipe report run_folder scorers",
    "rating": "captions checks components data data_sets endpoints errors estimates models "
    "progress recipe run run_folder scorers stages",
    "web": "captions checks comparison components data data_sets errors models rating recipe "
    "run run_folder scorers selectors stages",
    "doctor": "components errors evaluation models recipe training",
    "cli": "checks commands comparison components conversion doctor engines errors estimates "
    "evaluation models pipeline planning progress publishing recipe rights run training",
    "commands": "checks comparison conversion errors evaluation planning progress publishing "
    "rating recipe run training web",
    "__init__": "commands components errors pipeline planning recipe run training",
    "__main__": "cli",
}


def package_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imported_packages(path: Path) -> set[str]:
    packages = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative imports hide the package"
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
                packages.add(rest.split(".")[0])
    return packages


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_package_imports_only_what_it_may(path: Path) -> None:
    package = package_of(path)
    # `synthvlm` itself gives the version, and the two functions of plug-ins.
    allowed = {package, "", "__version__", "load_plugin", "safe_text", *ALLOWED[package].split()}
    assert imported_packages(path) <= allowed


def module_of(path: Path) -> str:
    parts = ("synthvlm", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_packages_import_each_other() -> None:
    TopologicalSorter({name: allowed.split() for name, allowed in ALLOWED.items()}).prepare()


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


def test_every_file_of_tests_has_a_name_of_its_own() -> None:
    # The folders of tests are no packages: of two files of one name pytest could load one only.
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert not [name for name, count in names.items() if count > 1]
