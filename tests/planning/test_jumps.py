"""Gates and exits are read off a recording, and a tree goes through a gate exactly where that is expected to pay."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from courtyard import Walker, courtyard
from walks import jumped

from noiseladder.planning.energies import Arrival
from noiseladder.planning.jumps import Jumps, together
from noiseladder.planning.knowledge import Knowledge
from noiseladder.planning.ogbench import TELEPORT, centre
from noiseladder.planning.ogbench_data import Recipe, record
from noiseladder.planning.roads import Roads
from noiseladder.planning.tree_planner import Journey, TreePlanner

KNOWLEDGE = courtyard()
START, GOAL, GATE = torch.tensor([[0.2, 0.2]]), torch.tensor([[2.8, 0.2]]), (0.2, 1.4)
NEAR, FAR = (2.6, 0.4), (0.2, 0.4)


def gate(chance: float) -> Jumps:
    """One gate, which leads to the goal's side with this chance, otherwise back to where the way begins."""
    return Jumps(
        torch.tensor([GATE]), torch.tensor([0.25]), torch.tensor([NEAR, FAR]), torch.tensor([[chance, 1 - chance]])
    )


@pytest.fixture(scope="module")
def teleported():
    """OGBench's guide in the maze that throws it about."""
    steps = record(TELEPORT, Recipe(150, 300, True), seed=0)
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            return finished.value


def test_gates_and_exits_are_found(teleported) -> None:
    roads = Roads.learn(teleported)
    found = Jumps.learn(teleported, roads)
    for places, cells in ((found.gates, TELEPORT.entrances), (found.exits, TELEPORT.exits)):
        apart = torch.cdist(centre(torch.tensor(cells)).float(), places)
        assert apart.shape[0] == apart.shape[1]
        assert apart.amin(1).max() < 1.0
    torch.testing.assert_close(found.chances.sum(1), torch.ones(2))
    assert (found.chances - 1 / 3).abs().max() < 0.15  # each exit is as likely as the others
    assert found.entered(centre(torch.tensor(TELEPORT.entrances)).float()).min() >= 0
    assert (found.entered(found.exits) == -1).all()


def test_who_walks_is_never_carried_away() -> None:
    recording = jumped()
    found = Jumps.learn(recording, Roads.learn(recording))
    assert len(found) == 0
    assert (found.entered(torch.zeros(3, 2)) == -1).all()
    assert Knowledge.learn(recording, 4, 1.0).jumps.chances.shape == (0, 0)


def test_the_end_of_a_trajectory_is_no_jump() -> None:
    recording = jumped()
    ends = np.flatnonzero(recording.ends)[:-1]
    apart = np.linalg.norm(recording.observations[ends + 1] - recording.observations[ends], axis=1)
    assert apart.max() > 5  # the next one begins far away, and that is no gate


def test_points_are_grouped_by_single_linkage() -> None:
    chain = torch.tensor([[0.0], [0.9], [1.8], [5.0], [5.5], [9.0]])
    assert together(chain, 1.0).tolist() == [0, 0, 0, 1, 1, 2]


def test_the_expected_length_of_a_gate_by_hand() -> None:
    """With a chance p to come out near the goal and otherwise back where the gate is 1.0 away, tries repeat until they
    succeed: (1 - p) / p times 1.0 more."""
    roads = KNOWLEDGE.roads
    to_gate = roads.length(START, torch.tensor([GATE])).item()
    onward, again = (
        roads.length(torch.tensor([NEAR]), GOAL).item(),
        roads.length(torch.tensor([FAR]), torch.tensor([GATE])).item(),
    )
    for chance in (0.9, 0.5):
        wanted = to_gate + onward + (1 - chance) / chance * again
        found = gate(chance).expected_length(roads, START, GOAL).item()
        assert found == pytest.approx(wanted, abs=1e-3)
        assert found < roads.length(START, GOAL).item()
    # Where it hardly ever leads anywhere, walking is better.
    assert gate(0.02).expected_length(roads, START, GOAL).item() == pytest.approx(roads.length(START, GOAL).item())
    assert Jumps.none(2).expected_length(roads, START, GOAL).item() == pytest.approx(roads.length(START, GOAL).item())


@pytest.mark.parametrize("options", [{"wander": False}, {"wander": True}, {"places": torch.ones(1, 2)}])
def test_gates_without_the_road_to_the_goal_are_refused(options: dict[str, Any]) -> None:
    """Behind a gate plans would go on along the road to whatever place came first, perhaps the gate itself."""
    knowledge = replace(KNOWLEDGE, jumps=gate(0.9))
    with pytest.raises(ValueError, match="behind a gate a plan takes the road to its goal: leave roads on"):
        TreePlanner(Walker(knowledge.tokens), knowledge, Arrival(), jumps=True, roads=False, **options)


@pytest.mark.parametrize(("chance", "taken"), [(0.9, True), (0.02, False)])
def test_a_gate_is_taken_exactly_where_it_is_expected_to_pay(chance: float, taken: bool) -> None:
    knowledge = replace(KNOWLEDGE, jumps=gate(chance))
    planner = TreePlanner(
        Walker(knowledge.tokens), knowledge, Arrival(pace=1.0), budget=300, execute=None, wander=False, jumps=True,
        steps=1, chunk=2,
    )  # fmt: skip
    positions = planner.plan(START, GOAL).positions[0]
    apart = (positions - torch.tensor(GATE)).norm(dim=1)
    assert bool(apart.min() < 0.3) is taken
    tree = planner.grown[0].tree
    if taken:
        leap = (positions[1:] - positions[:-1]).norm(dim=1)
        assert leap.max() > 1.5  # the likeliest exit is where the plan goes on
        node = int(np.flatnonzero(tree.chance[: len(tree)])[0])
        outcomes = tree.children(node)
        assert len(outcomes) == 2
        np.testing.assert_allclose(tree.weight[outcomes], [0.9, 0.1], atol=1e-5)
        state = tree.state(outcomes[:1])
        assert isinstance(state, Journey)
        there = planner.grown[0].proposals.ends(state.tokens)[0]
        assert (there - torch.tensor(NEAR)).norm() < 2 * knowledge.tokens.stride + 0.01


@pytest.mark.parametrize(("lost", "taken"), [(1000.0, False), (1.0, True)])
def test_a_trap_is_weighed_by_what_it_costs(lost: float, taken: bool) -> None:
    """One of three exits leads nowhere; the two others lead to the goal at once."""
    away = (9.0, 9.0)
    jumps = Jumps(
        torch.tensor([GATE]), torch.tensor([0.25]), torch.tensor([NEAR, away]), torch.tensor([[2 / 3, 1 / 3]])
    )
    knowledge = replace(KNOWLEDGE, jumps=jumps)
    assert jumps.dead_ends(knowledge.roads).tolist() == [False, True]
    length, walked = jumps.expected_length(knowledge.roads, START, GOAL), knowledge.roads.length(START, GOAL)
    assert torch.equal(length, walked)
    assert jumps.expected_length(knowledge.roads, START, GOAL, lost=0.1) < walked - 0.5
    planner = TreePlanner(
        Walker(knowledge.tokens), knowledge, Arrival(pace=1.0), budget=300, execute=None, wander=False, jumps=True,
        steps=1, chunk=2, lost=lost,
    )  # fmt: skip
    positions = planner.plan(START, GOAL).positions[0]
    assert bool((positions - torch.tensor(GATE)).norm(dim=1).min() < 0.3) is taken


def test_without_jumps_no_node_is_chance() -> None:
    knowledge = replace(KNOWLEDGE, jumps=gate(0.9))
    planner = TreePlanner(Walker(knowledge.tokens), knowledge, Arrival(), budget=100, wander=False, steps=1, chunk=2)
    planner.plan(START, GOAL)
    tree = planner.grown[0].tree
    assert not tree.chance[: len(tree)].any()
