"""Importing this file registers the environment, for `gymnasium.make("noiseladder.imitation.registration:...")`."""

from .environment import register

register()
