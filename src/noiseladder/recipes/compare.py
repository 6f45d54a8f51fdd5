"""`noiseladder compare RECIPE`: train every variant of a recipe, then show them side by side, in numbers and a figure.

A recipe can be compared when it has, beside what every recipe has,

    def variants(options: Mine) -> dict[str, Mine]: ...            # name -> the options that make it
    def report(models: Mapping[str, Denoiser], options: Mine, path: Path) -> str: ...   # draws path, returns text
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from .train import find_recipe, recipes, shape_of, short_name


def compare(*tokens: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]) -> None:
    """Train all variants of a recipe and compare them: `compare fork`. Without a recipe, list them."""
    names = ", ".join(recipes("variants"))
    if not tokens or tokens[0] in ("--help", "-h"):
        print(f"Usage: noiseladder compare RECIPE [OPTIONS]\n\nRecipes with variants: {names}")
        return
    name, *rest = tokens
    if name.startswith("-"):
        raise ValueError(f"the recipe comes first: noiseladder compare RECIPE {name} ...; those with variants: {names}")
    module = find_recipe(name)
    if not hasattr(module, "variants"):
        raise ValueError(f"recipe {name!r} has no variants to compare: noiseladder train {name} trains it")
    options_class, _ = shape_of(module)

    import torch  # not before: what is no recipe is said at once

    from noiseladder.training import Experiment, TrainingOptions, load_weights
    from noiseladder.training.run import make_seeded, run

    app = App(name=f"noiseladder compare {name}", version_flags=(), result_action="return_value")

    @app.default
    def start(
        options: Annotated[options_class, Parameter(name="*")] = options_class(),  # type: ignore[valid-type]  # noqa: B008
        *,
        folder: Path | None = None,
    ) -> None:
        """Train every variant of the recipe, or go on with those that the folder holds, and compare them.

        Parameters
        ----------
        folder
            Where everything is kept; runs/compare-RECIPE without it.
        """
        folder = folder or Path("runs") / f"compare-{short_name(module)}"
        models = {}
        chosen: dict[str, TrainingOptions] = module.variants(options)
        for variant, its_options in chosen.items():

            def make(its_options: TrainingOptions = its_options) -> Experiment:
                # Each would show itself alone; here they are shown together.
                made: Experiment = replace(module.experiment(its_options), picture=None)
                return made

            place = folder / variant.replace(" ", "-")
            run(make, its_options, place, short_name(module), resume=(place / "recipe.json").exists())
            denoiser = make_seeded(make, its_options).denoiser.eval()
            load_weights(place / "weights.safetensors", denoiser)
            models[variant] = denoiser
        with torch.no_grad():
            print(module.report(models, options, folder / f"{short_name(module)}.png"))
        print(f"{folder / short_name(module)}.png shows it")

    app(rest, exit_on_error=False, print_error=False)
