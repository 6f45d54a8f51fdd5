"""`noiseladder train RECIPE --option value`: the options are the fields of the recipe's dataclass."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from cyclopts import App, Parameter
from cyclopts.config import Dict

if TYPE_CHECKING:
    from noiseladder.training import Experiment, TrainingOptions

# torch is imported with a recipe, not before: what is no recipe is said at once.


def train(*tokens: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]) -> None:
    """Train a recipe: `train sines --steps 500`. Without a recipe, list them."""
    if not tokens or tokens[0] in ("--help", "-h"):
        print(listing())
        return
    name, *rest = tokens
    if name.startswith("-"):
        raise ValueError(f"the recipe comes first: noiseladder train RECIPE {name} ...; {known_names()}")
    module = find_recipe(name)
    app, parsed = command_of(module), None
    if not {"--help", "-h"} & set(rest):
        _, parsed, _ = app.parse_args(rest, exit_on_error=False, print_error=False)
    if parsed is not None and parsed.arguments.get("resume"):
        folder = parsed.arguments.get("folder") or default_folder(module)
        if (folder / "recipe.json").exists():
            from noiseladder.training.run import read_recipe_file

            # What is not said on the command line is as it was when the run was started.
            app = command_of(module, read_recipe_file(folder))
    app(rest, exit_on_error=False, print_error=False)


def command_of(module: ModuleType, saved: dict[str, Any] | None = None) -> App:
    """A command with the recipe's options; `saved` ones take the place of its defaults."""
    from noiseladder.training.run import run

    options_class, experiment = shape_of(module)
    name = short_name(module)
    names = {field.name for field in fields(options_class)}
    defaults = {key: value for key, value in (saved or {}).items() if key in names and value is not None}
    app = App(
        name=f"noiseladder train {name}",
        help=options_class.__doc__,
        version_flags=(),
        suppress_keyboard_interrupt=False,  # it carries a sentence on how to go on
        config=Dict(defaults, source="recipe.json"),
        result_action="return_value",
    )

    @app.default
    def start(
        options: Annotated[options_class, Parameter(name="*")] = options_class(),  # type: ignore[valid-type]  # noqa: B008
        *,
        folder: Path | None = None,
        resume: bool = False,
        tensorboard: bool = False,
    ) -> None:
        """Start, or resume, a run.

        Parameters
        ----------
        folder
            Where everything is kept; runs/RECIPE without it.
        resume
            Go on from the last checkpoint in the folder, with the options the run was started with.
        tensorboard
            Write TensorBoard events too.
        """
        run(lambda: experiment(options), options, folder or default_folder(module), name, resume, tensorboard)

    return app


def default_folder(module: ModuleType) -> Path:
    """Where a recipe's run is kept unless --folder says otherwise."""
    return Path("runs") / short_name(module)


def short_name(module: ModuleType) -> str:
    """The recipe's name on the command line."""
    return module.__name__.rpartition(".")[2]


def shape_of(module: ModuleType) -> "tuple[type[TrainingOptions], Callable[[Any], Experiment]]":
    """The options class of a recipe and its `experiment` function. Raises ValueError when it has another shape."""
    from noiseladder.training import TrainingOptions

    experiment = getattr(module, "experiment", None)
    hints = get_type_hints(experiment) if callable(experiment) else {}
    hints.pop("return", None)
    options_class = next(iter(hints.values()), None)
    if not callable(experiment) or not (isinstance(options_class, type) and issubclass(options_class, TrainingOptions)):
        raise ValueError(
            f"{module.__file__} is not a recipe: expected `def experiment(options: Mine) -> Experiment`, where Mine is"
            " a frozen dataclass that inherits from TrainingOptions (see noiseladder/recipes/__init__.py)"
        )
    return options_class, experiment


def find_recipe(name: str) -> ModuleType:
    """The module of a recipe of ours, or of a file of the user's. Raises ValueError when there is none."""
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise ValueError(f"there is no file {path}: expected a recipe of yours")
        spec = importlib.util.spec_from_file_location(f"recipe_file.{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module  # where the docstrings of its options are looked up
        spec.loader.exec_module(module)
        return module
    module_name = name.replace("-", "_")
    if module_name not in recipes():
        nearest = get_close_matches(module_name, recipes(), n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else known_names()
        raise ValueError(f"there is no recipe {name!r}; {hint}")
    return importlib.import_module(f"noiseladder.recipes.{module_name}")


def recipes(with_function: str = "experiment") -> dict[str, str]:
    """Name -> first line of every recipe here that has such a function, found without importing any."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if {"experiment", with_function} <= functions:
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def known_names() -> str:
    """A half-sentence with the names of all recipes."""
    return f"the recipes are {', '.join(recipes())}, or a .py file of your own"


def listing() -> str:
    """What can be trained."""
    found = recipes()
    width = max(map(len, found))
    lines = [f"  {name:<{width}}  {line}" for name, line in found.items()]
    return "\n".join(
        [
            "Usage: noiseladder train RECIPE [OPTIONS]",
            "",
            *lines,
            "",
            "`noiseladder train RECIPE --help` shows a recipe's options; a .py file of your own is a recipe too.",
        ]
    )
