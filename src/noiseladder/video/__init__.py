"""Video world models: worlds to learn from, their clips, and measures that need no network."""
