"""Diffusion Forcing for PyTorch: every token stands on its own rung of the noise ladder.

The public names below are imported when they are first used, because `import torch` takes a second or more
and `noiseladder --help` must not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Module -> its names that are public here. A test holds this table equal to the imports below it, which are what
# type checkers and editors read.
_HOMES = {
    "diffusion.batch": "Batch",
    "diffusion.denoiser": "Denoised Denoiser Denoises Prediction SequenceNetwork",
    "diffusion.guidance": (
        "ConditionGuided Energy EnergyGuided HistoryGuided HistoryTerm Inpainted LevelledGuided MonteCarloGuided "
        "SmootherCorrected"
    ),
    "diffusion.likelihood": "Likelihood conditional_likelihood gauss_legendre negative_log_likelihood stratified",
    "diffusion.memory": "ShortMemory",
    "diffusion.noise": "Cosine Flow Linear LogSNR NoiseSchedule Sigmoid",
    "diffusion.objective": "DiffusionForcing FusedSNR MinSNR SigmoidWeight",
    "diffusion.particles": "Particles best_of particles",
    "diffusion.sampling": "DDIM AngleStep Step draw_noise final rollout sample",
    "diffusion.scheduling_matrix": (
        "autoregressive causal_delay check_matrix chunks full_sequence keyframes network_calls pyramid "
        "staircase trapezoid"
    ),
    "diffusion.state": "State",
    "diffusion.training_levels": (
        "ContextAndFuture Mixture WithExactEnds independent non_decreasing rolling shared teacher_forced"
    ),
    "networks": "MinGRUNetwork RecurrentNetwork TransformerNetwork",
    "training": "Experiment TrainingOptions load_weights train",
}

if TYPE_CHECKING:
    from .diffusion.batch import Batch as Batch
    from .diffusion.denoiser import (
        Denoised as Denoised,
        Denoiser as Denoiser,
        Denoises as Denoises,
        Prediction as Prediction,
        SequenceNetwork as SequenceNetwork,
    )
    from .diffusion.guidance import (
        ConditionGuided as ConditionGuided,
        Energy as Energy,
        EnergyGuided as EnergyGuided,
        HistoryGuided as HistoryGuided,
        HistoryTerm as HistoryTerm,
        Inpainted as Inpainted,
        LevelledGuided as LevelledGuided,
        MonteCarloGuided as MonteCarloGuided,
        SmootherCorrected as SmootherCorrected,
    )
    from .diffusion.likelihood import (
        Likelihood as Likelihood,
        conditional_likelihood as conditional_likelihood,
        gauss_legendre as gauss_legendre,
        negative_log_likelihood as negative_log_likelihood,
        stratified as stratified,
    )
    from .diffusion.memory import ShortMemory as ShortMemory
    from .diffusion.noise import (
        Cosine as Cosine,
        Flow as Flow,
        Linear as Linear,
        LogSNR as LogSNR,
        NoiseSchedule as NoiseSchedule,
        Sigmoid as Sigmoid,
    )
    from .diffusion.objective import (
        DiffusionForcing as DiffusionForcing,
        FusedSNR as FusedSNR,
        MinSNR as MinSNR,
        SigmoidWeight as SigmoidWeight,
    )
    from .diffusion.particles import Particles as Particles, best_of as best_of, particles as particles
    from .diffusion.sampling import (
        DDIM as DDIM,
        AngleStep as AngleStep,
        Step as Step,
        draw_noise as draw_noise,
        final as final,
        rollout as rollout,
        sample as sample,
    )
    from .diffusion.scheduling_matrix import (
        autoregressive as autoregressive,
        causal_delay as causal_delay,
        check_matrix as check_matrix,
        chunks as chunks,
        full_sequence as full_sequence,
        keyframes as keyframes,
        network_calls as network_calls,
        pyramid as pyramid,
        staircase as staircase,
        trapezoid as trapezoid,
    )
    from .diffusion.state import State as State
    from .diffusion.training_levels import (
        ContextAndFuture as ContextAndFuture,
        Mixture as Mixture,
        WithExactEnds as WithExactEnds,
        independent as independent,
        non_decreasing as non_decreasing,
        rolling as rolling,
        shared as shared,
        teacher_forced as teacher_forced,
    )
    from .networks import (
        MinGRUNetwork as MinGRUNetwork,
        RecurrentNetwork as RecurrentNetwork,
        TransformerNetwork as TransformerNetwork,
    )
    from .training import (
        Experiment as Experiment,
        TrainingOptions as TrainingOptions,
        load_weights as load_weights,
        train as train,
    )

__all__ = ["__version__", *(name for names in _HOMES.values() for name in names.split())]

if not TYPE_CHECKING:
    # Hidden from type checkers: with a module __getattr__ in sight they would accept any misspelt name.
    def __getattr__(name):
        for home, names in _HOMES.items():
            if name in names.split():
                value = getattr(import_module(f"{__name__}.{home}"), name)
                globals()[name] = value  # found once, an ordinary attribute from then on
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})
