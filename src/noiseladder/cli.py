"""The one command, `noiseladder`: a table of sub-commands, and what happens when something goes wrong.

To add a sub-command, add ONE line to the table below and nothing else:

    app.command("noiseladder.recipes.forecast:forecast", name="forecast", help="Forecast a file.")

The first string is `module:function`. The module is imported only when its command is asked for, so it may
import torch at its top; `noiseladder --help` shows the `help` given here and imports nothing. The function
takes its options as a frozen dataclass whose fields become options and whose field docstrings become help:

    @dataclass(frozen=True)
    class Forecast:
        file: Path
        '''CSV or Parquet file with the series.'''
        _: KW_ONLY
        horizon: int = 30
        '''Steps to forecast.'''

    def forecast(options: Annotated[Forecast, Parameter(name="*")]) -> None: ...

It prints what it has to say and returns None; for a user's mistake it raises ValueError (or OSError, or
ImportError for a missing extra) with one clear sentence, and main() below turns that into one line on stderr
and exit status 2.
"""

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from cyclopts import App, CycloptsError
from cyclopts.exceptions import MissingArgumentError, UnknownCommandError, UnusedCliTokensError

import noiseladder

app = App(
    name="noiseladder",
    help="Diffusion Forcing for PyTorch: every token stands on its own rung of the noise ladder.",
    version=noiseladder.__version__,
    help_epilogue="Each command has its own --help. NOISELADDER_DEBUG=1 shows the traceback of an error.",
    suppress_keyboard_interrupt=False,  # main() says it in one line
    result_action="return_value",
)

app.command(
    "noiseladder.doctor:doctor",
    name="doctor",
    help="Show versions, cores, devices and which extras are installed.",
)
app.command(
    "noiseladder.recipes.matrix:draw_matrix",
    name="matrix",
    help="Draw a scheduling matrix: who is denoised when.",
)

app.command(
    "noiseladder.recipes.train:train",
    name="train",
    help="Train a recipe, with a folder of everything it makes.",
    help_flags=(),  # the options, and so the help, are those of the recipe
)
app.command(
    "noiseladder.recipes.compare:compare",
    name="compare",
    help="Train every variant of a recipe and show them side by side.",
    help_flags=(),
)

app.command(
    "noiseladder.recipes.forecast:forecast",
    name="forecast",
    help="Forecast a CSV or Parquet file: many joint futures, quantiles, a picture.",
)
app.command(
    "noiseladder.recipes.plan:plan",
    name="plan",
    help="Plan in a maze, live the plan and draw both; a run of `train maze`, or a model that ships.",
)
app.command(
    "noiseladder.recipes.demo:demo",
    name="demo",
    help="Train on real series in front of you and hold the forecasts against what came.",
)

app.command(
    "noiseladder.recipes.imitate:imitate",
    name="imitate",
    help="Watch a trained policy swap fruits, with a memory, a level of trust and a blackout.",
)

app.command(
    "noiseladder.recipes.play:play",
    name="play",
    help="Walk in a world on a web page: keys, touch, films, several players.",
)
app.command(
    "noiseladder.recipes.dream:dream",
    name="dream",
    help="Walk in a learned world, beside the real one where it is there, and keep the film.",
)
app.command(
    "noiseladder.recipes.evaluate:evaluate",
    name="evaluate",
    help="Hold a learned world against real walks that it never saw.",
)

app.command(
    "noiseladder.recipes.export:export",
    name="export",
    help="Write a learned world as ONNX graphs that dream the same frames; play and dream run them.",
)

data = App(name="data", help="Look at your own recordings, or make some to learn from.")
data.command(
    "noiseladder.recipes.data_inspect:inspect_data",
    name="inspect",
    help="Say what is in a folder of videos or episodes, what fits a model and what is missing.",
)
collect = App(name="collect", help="Record walks in Doom, or make clips of your own videos.")
collect.command(
    "noiseladder.recipes.data_collect:collect_doom_walks",
    name="doom",
    help="Record walks in Doom: three actions, the pose of every frame. Killed, it goes on.",
)
collect.command(
    "noiseladder.recipes.data_collect:collect_video",
    name="video",
    help="Read your own videos, arrays or episodes into a store of clips.",
)
data.command(collect)
app.command(data)

USER_MISTAKE, OUR_MISTAKE, INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; `arguments` defaults to those of the process.

    0: done. 1: a bug of ours. 2: the request could not be met, one line on stderr says why. 130: Ctrl-C.
    """
    try:
        app(list(sys.argv[1:] if arguments is None else arguments), exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # `noiseladder ... | head` closed our output. Python flushes once more on exit: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as error:
        return _complain(str(error) or "interrupted", INTERRUPTED)
    except CycloptsError as error:
        return _complain(_explain(error), USER_MISTAKE)
    except (ValueError, OSError, ImportError) as error:
        _raise_for_developers()
        return _complain(_describe(error), USER_MISTAKE)
    except Exception as error:
        _raise_for_developers()
        what = f"{type(error).__name__}: {error}"
        return _complain(f"this is a bug of ours: {what} (NOISELADDER_DEBUG=1 shows the traceback)", OUR_MISTAKE)
    return 0


def _complain(sentence: str, status: int) -> int:
    print(f"noiseladder: {' '.join(sentence.split())}", file=sys.stderr)
    return status


def _raise_for_developers() -> None:
    """Re-raise the exception that is being handled, if NOISELADDER_DEBUG is set."""
    if os.environ.get("NOISELADDER_DEBUG", "0") not in ("", "0"):
        raise


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ImportError) and isinstance(error.__cause__, ImportError) and "noiseladder[" not in str(error):
        # cyclopts wraps the ImportError of a command's module; the cause names the package that is missing.
        # Not so where our own sentence has the extra that it comes with.
        return str(error.__cause__)
    return str(error)


def _explain(error: CycloptsError) -> str:
    match error:
        case UnknownCommandError(unused_tokens=[given, *_]):
            # Not cyclopts' own sentence: it would import every command to find the nearest.
            group = error.app or app
            names = [name for name in group if not name.startswith("-")]
            nearest = get_close_matches(given, [*group], n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"the commands are {', '.join(names)}"
            kind = "option" if given.startswith("-") else "command"
            return f"unknown {kind} {given!r}; {hint}"
        case MissingArgumentError(argument=missing, keyword=None) if missing is not None and missing.index == 0:
            # Not cyclopts' own sentence: what comes without dashes is not to be told as an option.
            command = " ".join(("noiseladder", *(error.command_chain or ())))
            name = missing.name.lstrip("-").upper()
            return f"{command} needs to know its {name}, as in `{command} {name}`; `{command} --help` says what that is"
        case UnusedCliTokensError(unused_tokens=[*left_over]):
            return f"one argument too many: {' '.join(map(repr, left_over))}"
        case _:
            return str(error)
