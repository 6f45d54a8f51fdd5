"""What this machine offers: versions, cores, devices, instruction sets and which extras are installed."""

import os
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import noiseladder

# Linux's names of the instruction sets that decide whether bfloat16 is fast on a CPU.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def doctor() -> None:
    """Print what a bug report or a benchmark needs to say about the machine."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in [*_software(), *_hardware(), *_extras()]:
        table.add_row(name, value)
    Console(highlight=False, markup=True, soft_wrap=False).print(table)


def _software() -> Iterator[tuple[str, str]]:
    yield "noiseladder", f"{noiseladder.__version__} at {Path(noiseladder.__file__).parent}"
    yield "Python", f"{platform.python_version()} on {platform.platform()}"
    yield "torch", str(torch.__version__)
    for package in ("numpy", "safetensors", "cyclopts", "matplotlib", "pillow"):
        yield package, _version(package) or "[red]missing[/]"


def _hardware() -> Iterator[tuple[str, str]]:
    # A container may have been given fewer cores than the machine has.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "cores", f"{usable} usable of {os.cpu_count()}"
    yield (
        "threads",
        f"{torch.get_num_threads()} within an operation, {torch.get_num_interop_threads()} between",
    )
    present = cpu_flags()
    if present is None:
        yield "instructions", "unknown: this system has no /proc/cpuinfo"
    else:
        yield (
            "instructions",
            ", ".join(f"{'' if name in present else 'no '}{name}" for name in INSTRUCTION_SETS),
        )
    yield "device", ", ".join(_devices())


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str] | None:
    """The instruction sets of the first processor in a Linux cpuinfo file; None where there is none."""
    if not cpuinfo.is_file():
        return None
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo.read_text(), flags=re.MULTILINE)
    return frozenset(flags.group(1).split()) if flags else frozenset()


def _devices() -> Iterator[str]:
    for index in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(index).total_memory / 2**30
        yield f"cuda:{index} {torch.cuda.get_device_name(index)} ({memory:.0f} GiB)"
    if torch.backends.mps.is_available():
        yield "mps"
    yield "cpu"


def _extras() -> Iterator[tuple[str, str]]:
    absent = []
    for extra, packages in extras().items():
        missing = [package for package in packages if _version(package) is None]
        if missing:
            absent.append(extra)
            yield f"extra {extra}", f"[yellow]missing {', '.join(missing)}[/]"
        else:
            yield (
                f"extra {extra}",
                "[green]present[/] " + ", ".join(f"{name} {_version(name)}" for name in packages),
            )
    if absent:
        # \[ because rich would take the bracket for a colour
        yield "to install", rf'pip install "noiseladder\[{",".join(absent)}]"'


def extras() -> dict[str, list[str]]:
    """The packages of each extra, read from our own metadata so that pyproject.toml is the only list."""
    found: dict[str, list[str]] = {}
    for requirement in metadata.requires("noiseladder") or []:
        match = re.match(r"""([\w.-]+).*;.*extra\s*==\s*['"]([\w-]+)['"]""", requirement)
        if match:
            found.setdefault(match.group(2), []).append(match.group(1))
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
