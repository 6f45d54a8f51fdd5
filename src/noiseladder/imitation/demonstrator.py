"""Who shows how it is done: a scripted hand that remembers, and one that knows only what is in the picture.

Both are generators of actions that look at the world each time they are asked; they never end, the episode does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .fruit_swap import HOME, FruitSwap
from .tabletop import FRUITS, RADIUS, SLOT_X, SLOT_Y

Action = NDArray[np.float64]
Place = NDArray[np.float64]
Where = Callable[[], Place]  # a place that may move

OPEN, CLOSED = 0.0, 1.0
TREMOR = 0.0024  # metres a step that drive the hand's slow wandering
TREMOR_KEPT = 0.8  # of it from one step to the next
WATCHED = 0.35  # how far a hand is steered by where it is; the rest by where it was sent
AIM = 0.006  # metres by which a hand misses what it aims at
CLUMSY = 0.12  # of a person's grips go beside the fruit,
BESIDE = (0.03, 0.06)  # by so many metres: who never errs does not show what to do about it


def demonstrate(world: FruitSwap, seed: int, slips: list[int] | None = None) -> Iterator[Action]:
    """The swap as a person would steer it: apple to the empty plate, orange to the apple's, apple to the orange's.

    Its speed, the height of its arcs, its aim, its pauses and a wandering of about 4 mm are drawn from the seed. Now
    and then it grips beside the fruit; it takes up again what it missed or dropped. Then it goes home and waits.
    slips: a list to which the steps are added in which it goes astray, which nobody should imitate.
    """
    hand = _Hand(world, np.random.default_rng((seed, 1)), CLUMSY, slips)
    apple, orange = world.slots
    for fruit, slot in (("apple", 3 - apple - orange), ("orange", apple), ("apple", orange)):
        while True:
            yield from hand.move(fruit, slot)
            if world.slot_of(fruit) == slot:
                break
    yield from hand.rest()


def guess(world: FruitSwap, seed: int, patience: int | None = None) -> Iterator[Action]:
    """What remains without memory: the hidden phase is drawn at random from those that the picture allows.

    patience: steps after which it looks and draws again, as a memoryless policy does after every chunk of actions.
    None is the kindest case: a move once begun is finished, and only idle waiting is thought over once a second.
    """
    random = np.random.default_rng((seed, 2))
    hand = _Hand(world, random)
    while True:
        held = world.held()
        if held is not None:
            taken = world.slot_of("orange" if held == "apple" else "apple")
            slot = int(random.choice([slot for slot in range(3) if slot != taken]))
            yield from islice(hand.put(held, slot), patience)
            continue
        choice = possible_moves(world)
        move = choice[int(random.integers(len(choice)))]
        if move is None:
            yield from islice(hand.rest(), patience or 10)
        else:
            yield from islice(hand.move(*move), patience)


def possible_moves(world: FruitSwap) -> list[tuple[str, int] | None]:
    """The next move in each phase that looks like this, for an empty hand: (fruit, plate), or None for "it is done".

    The phases are: nothing moved, apple moved, orange moved, all done. At home it is the first or the last; over the
    apple the second or the last; over the orange the third; anywhere else it may be any.
    """
    places = [world.slot_of(fruit) for fruit in FRUITS]
    lying = [slot for slot in places if slot is not None]
    free = [slot for slot in range(3) if slot not in lying]
    lost: list[tuple[str, int] | None] = [
        (fruit, slot) for fruit, place in zip(FRUITS, places) if place is None for slot in free
    ]
    if lost:
        return lost
    nothing_moved = orange_moved = ("apple", free[0])
    apple_moved = ("orange", free[0])
    if float(np.linalg.norm(world.tips - HOME)) < 0.05:
        return [nothing_moved, None]
    over = [fruit for fruit in FRUITS if np.linalg.norm((world.tips - world.fruit(fruit))[:2]) < 0.05]
    if over == ["apple"]:
        return [apple_moved, None]
    if over == ["orange"]:
        return [orange_moved]
    return [nothing_moved, apple_moved, orange_moved, None]


class _Hand:
    """One person's hand: its speed and its tremor last for an episode."""

    def __init__(
        self, world: FruitSwap, random: Generator, clumsy: float = 0.0, slips: list[int] | None = None
    ) -> None:
        self.world, self.random, self.clumsy, self.slips = world, random, clumsy, slips
        self.speed = random.uniform(0.028, 0.038)  # metres a step
        self.tremor = np.zeros(3)

    def move(self, fruit: str, slot: int) -> Iterator[Action]:
        """Fetch a fruit and put it on a plate."""
        world, random = self.world, self.random
        height, aim = random.uniform(0.13, 0.19), random.normal(0, AIM, 2)
        above = np.array([aim[0], aim[1], height])
        yield from self.go(lambda: world.fruit(fruit) + above, OPEN, 0.02)
        if random.random() < 0.3:
            yield from self.wait(OPEN, int(random.integers(1, 5)))
        beside = self.beside()
        if beside is None:
            yield from self.go(lambda: world.fruit(fruit), OPEN, 0.007, haste=0.7)
        else:
            missed, begun = world.fruit(fruit) + beside, world.steps
            yield from islice(self.go(lambda: missed, OPEN, 0.012, haste=0.7), 12)
            if self.slips is not None:
                self.slips.extend(range(begun, world.steps + 1))  # with the first step of closing
        yield from self.wait(CLOSED, int(random.integers(5, 8)))
        if world.held() == fruit:
            yield from self.put(fruit, slot)
        else:
            yield from self.rise(OPEN, height)

    def put(self, fruit: str, slot: int) -> Iterator[Action]:
        """Put a held fruit on a plate."""
        world, random = self.world, self.random
        height, aim = random.uniform(0.13, 0.19), random.normal(0, AIM, 2)
        plate = np.array([SLOT_X + aim[0], SLOT_Y[slot] + aim[1], 0.0])
        if float(np.linalg.norm((world.tips - plate)[:2])) > 0.02:
            yield from self.rise(CLOSED, height)
        yield from self.go(lambda: plate + up(height), CLOSED, 0.02)
        if world.held() != fruit:
            return
        yield from self.go(lambda: plate + up(RADIUS + 0.012), CLOSED, 0.008, haste=0.7)
        yield from self.wait(OPEN, int(random.integers(4, 6)))
        yield from self.rise(OPEN, 0.8 * height)

    def beside(self) -> Place | None:
        """Now and then, by how far a grip is going to miss: a few centimetres anywhere."""
        far, angle = self.random.uniform(*BESIDE), self.random.uniform(0, 2 * np.pi)
        return far * np.array([np.cos(angle), np.sin(angle), 0.0]) if self.random.random() < self.clumsy else None

    def rise(self, gripper: float, height: float) -> Iterator[Action]:
        """Straight up from where the hand is."""
        there = self.world.tips + up(height)
        yield from self.go(lambda: there, gripper, 0.02)

    def rest(self) -> Iterator[Action]:
        """Go home and stay there."""
        yield from self.go(lambda: HOME, OPEN, 0.02)
        while True:
            yield from self.wait(OPEN, 1)

    def go(self, place: Where, gripper: float, near: float, haste: float = 1.0) -> Iterator[Action]:
        """Steer to a place, looked up anew each step, until the finger tips are within `near` metres of it."""
        for _ in range(60):
            goal = place()
            if float(np.linalg.norm(goal - self.world.tips)) < near:
                return
            # Whoever steers an arm knows where it was sent, and does not wait for it to come there before believing it.
            error = goal - (1 - WATCHED) * self.world.sent - WATCHED * self.world.tips
            far = max(float(np.linalg.norm(error)), 1e-9)
            velocity = error * min(1, self.speed * haste / far) * self.random.uniform(0.75, 1.1)
            self.tremor = TREMOR_KEPT * self.tremor + self.random.normal(0, TREMOR, 3)
            yield np.append(velocity + self.tremor * min(1, far / 0.05), gripper)

    def wait(self, gripper: float, steps: int) -> Iterator[Action]:
        """Hold still, as far as a hand can."""
        for _ in range(steps):
            yield np.append(self.random.normal(0, 0.0004, 3), gripper)


def up(height: float) -> Place:
    """A step upwards."""
    return np.array([0.0, 0.0, height])
