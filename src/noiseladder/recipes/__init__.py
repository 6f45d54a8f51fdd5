"""One file = one experiment: options at the top, then what is trained; `noiseladder train NAME` runs it.

A recipe is a module here (or a file of your own, `noiseladder train ./mine.py`) with two things:

    @dataclass(frozen=True, kw_only=True)
    class Mine(TrainingOptions):
        '''What this experiment shows, in one sentence.'''

        steps: int = 3000                      # a training option with another default
        width: int = 64
        '''Width of the network: the docstring of a field is the help of its option, --width.'''

    def experiment(options: Mine) -> Experiment:
        '''Denoiser, objective, batches, validation and a picture of a sample (training/experiment.py).'''

The command finds the options class by the annotation of `experiment`, makes its own options from the fields, and
writes them as JSON into the run folder; so fields are numbers, strings, booleans, None, paths, enums and tuples
of these. `experiment` runs with torch's random numbers seeded by `options.seed`: the same options give the same
weights. Steps may be repeated and read in any order, so `batches(step, generator)` takes what it draws from the
generator, which is made from (seed, step), and keeps nothing between calls.

From Python: `for report in train(experiment(Mine(steps=100)), Mine(steps=100)): ...`.
"""
