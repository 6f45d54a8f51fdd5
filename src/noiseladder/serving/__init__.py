"""The page where a world is played: one world, several players, a frame each in turn."""
