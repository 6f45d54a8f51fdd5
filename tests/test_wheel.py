"""The wheel, installed in an environment of its own, works from a folder that knows nothing of the source tree."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what git would carry, so that nothing is left behind in the tree."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(output), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = output.glob("noiseladder-*.whl")
    return built


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment in which only our wheel is installed; its programs are in the folder returned.

    The dependencies are read from the environment that runs the tests, through a .pth file without its editable
    install of us: installing torch again would take minutes and prove nothing about our wheel.
    """
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=True)
    programs = environment / "bin"
    install = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=600)
    site = next((environment / "lib").glob("python*")) / "site-packages"
    # A path in a .pth file comes after site-packages itself, and .pth files found there are not followed.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return programs


def run(program: Path, *arguments: str, folder: Path) -> str:
    """Run a program of the clean environment and return what it printed."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    result = subprocess.run(
        [str(program), *arguments], cwd=folder, env=kept, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"noiseladder", f"noiseladder-{wheel.name.split('-')[1]}.dist-info"}
    assert "noiseladder/py.typed" in names
    source = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "noiseladder").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == source
    weights = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "noiseladder").rglob("*.safetensors")}
    assert {name for name in names if name.endswith(".safetensors")} == weights
    for name in ("index.html", "play.css", "play.js", "icon.svg"):
        assert f"noiseladder/serving/static/{name}" in names
    assert any(name.endswith("LICENSE") for name in names)


def test_it_is_the_wheel_that_is_imported(clean: Path, tmp_path: Path) -> None:
    where = run(clean / "python", "-c", "import noiseladder; print(noiseladder.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(clean.parent)


def test_the_command_works_from_another_folder(clean: Path, tmp_path: Path) -> None:
    assert "matrix" in run(clean / "noiseladder", "--help", folder=tmp_path)
    doctor = run(clean / "noiseladder", "doctor", folder=tmp_path)
    assert "torch" in doctor
    assert "extra forecasting" in doctor
    run(clean / "noiseladder", "matrix", "pyramid", folder=tmp_path)
    assert (tmp_path / "matrix-pyramid.png").read_bytes().startswith(b"\x89PNG")


def test_a_few_lines_of_python_sample(clean: Path, tmp_path: Path) -> None:
    program = """
import torch
from noiseladder import Cosine, Denoiser, Prediction, RecurrentNetwork, pyramid, sample
torch.manual_seed(0)
denoiser = Denoiser(RecurrentNetwork(2), Cosine(), Prediction.VELOCITY)
*_, tokens = sample(denoiser, torch.randn(3, 5, 2), pyramid(5, steps=4, delay=2))
print(tuple(tokens.shape), bool(tokens.isfinite().all()))
"""
    assert run(clean / "python", "-c", program, folder=tmp_path).split("\n")[0] == "(3, 5, 2) True"
