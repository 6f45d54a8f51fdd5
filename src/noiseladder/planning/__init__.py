"""Planning from offline data: worlds, planners, tree search and one evaluator for all of them."""
