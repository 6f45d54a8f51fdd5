"""What is rehearsed ends where the body law says that its actions lead, and is what planning again would do there."""

import pytest
import torch
from courtyard import Walker, courtyard, random_denoiser
from walks import known

from noiseladder.planning.planner import Planner
from noiseladder.planning.rehearsed import Rehearsed

KNOWLEDGE = courtyard()
START, GOAL = torch.tensor([[0.2, 1.5], [0.3, 0.3]]), torch.tensor([[2.8, 1.5], [2.7, 2.6]])


def test_a_rehearsal_is_planning_again_where_the_law_holds():
    plan = Rehearsed(Planner(Walker(KNOWLEDGE.tokens), KNOWLEDGE, steps=1), KNOWLEDGE, 5).plan(START, GOAL)
    again, observation, lived = Planner(Walker(KNOWLEDGE.tokens), KNOWLEDGE, steps=1), START, []
    for _ in range(5):
        for action in again.plan(observation, GOAL).actions.unbind(1):
            observation = KNOWLEDGE.body.step(observation, action)
            lived.append(observation)
    torch.testing.assert_close(plan.positions, torch.stack(lived, dim=1))
    assert plan.actions.shape == (2, 5 * KNOWLEDGE.tokens.steps, 2)
    assert plan.tokens.shape[:2] == plan.rewards.shape == (2, 5)
    done = START
    for action in plan.actions.unbind(1):
        done = KNOWLEDGE.body.step(done, action)
    torch.testing.assert_close(done, plan.positions[:, -1])


def test_the_first_decision_is_the_planner_s_own():
    """With inertia, and a network that never learned."""
    start, goal, tokens = torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[3.0, 1.0]]), known().tokens
    denoiser = random_denoiser(tokens)
    found = Planner(denoiser, known()).plan(start, goal)
    rehearsed = Rehearsed(Planner(denoiser, known()), known(), 3).plan(start, goal)
    torch.testing.assert_close(rehearsed.actions[:, : tokens.steps], found.actions)
    assert rehearsed.positions.shape == (1, 3 * tokens.steps, 2)


def test_nothing_to_rehearse_is_refused():
    with pytest.raises(ValueError, match="0 decisions to rehearse"):
        Rehearsed(Planner(Walker(KNOWLEDGE.tokens), KNOWLEDGE), KNOWLEDGE, 0)
