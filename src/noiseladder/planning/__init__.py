"""Planning from offline data: worlds, planners, tree search and one evaluator for all of them."""

from .body import Body
from .evaluation import Evaluation, evaluate
from .gymnasium_world import GymnasiumWorld
from .knowledge import Knowledge
from .maze import LARGE, MEDIUM, UMAZE, Maze, layout
from .planner import Context, Guide, Plan, Planner
from .point_mass import PointMass
from .problems import Problem, problem
from .recordings import Recording, read
from .roads import Roads
from .search import SearchOptions, choose, plant, reroot
from .stories import Stories
from .world import Start, World

__all__ = [
    "LARGE",
    "MEDIUM",
    "UMAZE",
    "Body",
    "Context",
    "Evaluation",
    "Guide",
    "GymnasiumWorld",
    "Knowledge",
    "Maze",
    "Plan",
    "Planner",
    "PointMass",
    "Problem",
    "Recording",
    "Roads",
    "SearchOptions",
    "Start",
    "Stories",
    "World",
    "choose",
    "evaluate",
    "layout",
    "plant",
    "problem",
    "read",
    "reroot",
]
