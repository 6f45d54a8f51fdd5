"""How models are trained: one loop, checkpoints that survive, many ranks or one."""
