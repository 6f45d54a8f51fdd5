"""Options for the two real sets, chosen on the 20 windows before the test windows (docs/experiments.md)."""

from .options import ForecasterOptions

ECB = ForecasterOptions(context=60, steps=400, learning_rate=1e-3, validate_every=100)
CHICAGO = ForecasterOptions(context=56, steps=1300, noisy_history=0.3, members=2, held_out=0)
