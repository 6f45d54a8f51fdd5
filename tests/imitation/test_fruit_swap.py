import subprocess
import sys

import numpy as np
import pytest

from noiseladder.imitation import (
    Blackout,
    Distractor,
    Disturbance,
    FruitSwap,
    Hand,
    Jolts,
    Knock,
    Noise,
    arm as arm_file,
    demonstrate,
    guess,
    rendering,
)
from noiseladder.imitation.arm import POINTING_DOWN, merge_corners
from noiseladder.imitation.demonstrator import possible_moves
from noiseladder.imitation.fruit_swap import HOME, REST_STEPS, TIME_LIMIT
from noiseladder.imitation.tabletop import CAMERAS, OUT_OF_SIGHT, SLOT_X, SLOT_Y

pytest.importorskip("mujoco")
pytest.importorskip("ogbench", reason="the arm's files: pip install --no-deps ogbench==1.2.2")

STAY = np.zeros(4)


@pytest.fixture(scope="module")
def blind():
    return FruitSwap(pictures=False)


@pytest.fixture(scope="module")
def seeing():
    try:
        world = FruitSwap(32)
    except OSError as error:
        pytest.skip(str(error))
    yield world
    world.close()


def live(world, who, limit=TIME_LIMIT):
    for action in who:
        world.step(action)
        if world.over or world.steps >= limit:
            break
    return world.succeeded


# The task


@pytest.mark.parametrize("seed", [0, 7])
def test_the_demonstrator_swaps_the_fruits_and_is_then_left_alone(blind, seed):
    blind.reset(seed)
    apple, orange = blind.slots
    assert (blind.slot_of("apple"), blind.slot_of("orange")) == (apple, orange)
    assert live(blind, demonstrate(blind, seed))
    assert (blind.slot_of("apple"), blind.slot_of("orange")) == (orange, apple)
    assert 150 < blind.steps < 300
    assert blind.opening > 0.9
    assert np.linalg.norm(blind.tips - HOME) < 0.05


@pytest.mark.slow
def test_the_demonstrator_succeeds_from_every_arrangement(blind):
    """40 of 40 were seen; the bar is what a policy's 90 % would be measured against."""
    assert sum(_lives(blind, seed, demonstrate) for seed in range(100, 130)) == 30


@pytest.mark.slow
def test_without_memory_the_swap_is_mostly_missed(blind):
    """Kind: 22 of 60 seen, never all of it. Looking again after every 8 steps: 0 of 40 seen."""
    kind = sum(_lives(blind, seed, guess) for seed in range(20))
    hasty = sum(_lives(blind, seed, lambda world, number: guess(world, number, 8)) for seed in range(10))
    assert 1 <= kind <= 14
    assert hasty <= 2


def _lives(world, seed, who):
    world.reset(seed)
    return live(world, who(world, seed))


def test_success_is_three_seconds_of_rest_in_the_swapped_places(blind):
    """Both fruits are put there by hand: nothing has been done yet, and the world says so until they have rested."""
    blind.reset(3, slots=(0, 1))
    _put(blind, apple=1, orange=0)
    for _ in range(REST_STEPS - 1):
        blind.step(STAY)
        assert not blind.over
    blind.step(STAY)
    assert blind.succeeded


def test_the_gripper_has_to_be_open(blind):
    blind.reset(3, slots=(0, 1))
    _put(blind, apple=1, orange=0)
    for _ in range(REST_STEPS + 5):
        blind.step([0, 0, 0, 1])
    assert not blind.succeeded
    for _ in range(REST_STEPS + 5):
        blind.step(STAY)
    assert blind.succeeded


@pytest.mark.parametrize("places", [{"apple": 0, "orange": 1}, {"apple": 1, "orange": 2}, {"apple": 2, "orange": 0}])
def test_other_arrangements_are_no_success(blind, places):
    blind.reset(3, slots=(0, 1))
    _put(blind, **places)
    for _ in range(REST_STEPS + 5):
        blind.step(STAY)
    assert not blind.succeeded


def test_a_fruit_beside_its_plate_is_not_on_it(blind):
    blind.reset(3, slots=(0, 1))
    _put(blind, apple=1, orange=0)
    assert blind.push("apple", (-0.085, 0.0))
    for _ in range(REST_STEPS + 20):
        blind.step(STAY)
    assert blind.slot_of("apple") is None
    assert not blind.succeeded


def _put(world, **places):
    for fruit, slot in places.items():
        first = world._address(fruit)
        world._data.qpos[first : first + 2] = [SLOT_X, SLOT_Y[slot]]


def test_the_time_limit_ends_an_episode_without_success(blind):
    blind.reset(5)
    blind.steps = TIME_LIMIT - 3
    for _ in range(3):
        assert not blind.over
        blind.step(STAY)
    assert blind.over
    assert not blind.succeeded


# The arm


def test_the_hand_goes_where_it_is_told_and_stays_upright(blind):
    blind.reset(1)
    before = blind.tips
    for _ in range(4):
        blind.step([0.02, 0.03, -0.01, 0])
    for _ in range(6):
        blind.step(STAY)
    np.testing.assert_allclose(blind.tips - before, [0.08, 0.12, -0.04], atol=0.006)
    turn = blind._data.site_xmat[blind._pinch].reshape(3, 3)
    np.testing.assert_allclose(turn, POINTING_DOWN, atol=0.03)


def test_actions_beyond_the_limits_are_clipped_to_them(blind):
    places = []
    for action in ([0.04, -0.04, 0.0, 1.0], [9.0, -9.0, 0.0, 30.0]):
        blind.reset(1)
        for _ in range(3):
            blind.step(action)
        places.append(np.append(blind.tips, blind.opening))
    np.testing.assert_array_equal(*places)


@pytest.mark.parametrize("action", [[0, 0, 0], [0, 0, np.nan, 0], [[0, 0, 0, 0]]])
def test_actions_that_are_none_are_refused(blind, action):
    blind.reset(1)
    with pytest.raises(ValueError, match="four finite numbers"):
        blind.step(action)


def test_the_state_says_where_the_hand_is_and_how_far_it_still_has_to_go(blind):
    blind.reset(3)
    sent = blind.sent
    state = blind.step([0.04, 0.02, -0.03, 0]).state
    assert state.shape == (7,)
    np.testing.assert_allclose(state[:3], blind.tips, atol=1e-6)
    np.testing.assert_allclose(state[:3] + state[4:], sent + np.array([0.04, 0.02, -0.03]), atol=1e-6)
    assert np.linalg.norm(state[4:]) > 0.005  # the arm is on its way
    for _ in range(15):
        state = blind.step(STAY).state
    assert np.linalg.norm(state[4:]) < 0.01  # and arrives, but for its own weight


def test_a_clumsy_hand_grips_beside_the_fruit_and_takes_it_up_again(blind):
    """Seeds of demonstrations: some grips close on nothing, and the swap succeeds all the same."""

    def missed(seed):
        blind.reset(seed)
        closed, empty = 0, 0
        for action in demonstrate(blind, seed):
            blind.step(action)
            closed = closed + 1 if action[3] > 0.5 else 0
            empty += closed == 5 and blind.held() is None
            if blind.over:
                break
        assert blind.succeeded
        return empty

    assert 1 <= sum(missed(seed) for seed in (2, 3, 4, 6, 8, 9)) <= 9


def test_a_held_fruit_is_held_and_cannot_be_knocked(blind):
    blind.reset(0)
    for action in demonstrate(blind, 0):
        blind.step(action)
        if blind.held():
            break
    assert blind.held() == "apple"
    assert blind.slot_of("apple") is not None  # it still stands on its plate
    place = blind.fruit("apple")
    assert not blind.push("apple", (0.03, 0.0))
    np.testing.assert_array_equal(blind.fruit("apple"), place)


# Chance


def test_an_episode_is_its_seed_whatever_was_lived_before(blind):
    def trace(seed):
        blind.reset(seed)
        found = []
        for action, _ in zip(demonstrate(blind, seed), range(40)):
            blind.step(action)
            found.append(np.concatenate([blind._data.qpos, blind._data.qvel]))
        return np.stack(found)

    first = trace(4)
    other = trace(5)
    blind._reach._data.qpos[blind._reach.positions] = 0.3  # from there another elbow would be found
    np.testing.assert_array_equal(trace(4), first)
    assert np.abs(other - first).max() > 0.01


@pytest.mark.slow
def test_another_process_sees_the_same(blind):
    blind.reset(11, slots=(2, 0))
    for _ in range(5):
        blind.step([0.02, 0.01, -0.03, 0])
    program = """
from noiseladder.imitation import FruitSwap
world = FruitSwap(pictures=False)
world.reset(3)
world.reset(11, slots=(2, 0))
for _ in range(5):
    world.step([0.02, 0.01, -0.03, 0])
print(world._data.qpos.tobytes().hex())
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert said.stdout.split()[-1] == blind._data.qpos.tobytes().hex()


def test_all_six_arrangements_are_drawn(blind):
    drawn = [tuple(np.random.default_rng((seed, 0)).permutation(3)[:2].tolist()) for seed in range(120)]
    assert len(set(drawn)) == 6
    for seed in range(2):
        blind.reset(seed)
        assert blind.slots == drawn[seed]


@pytest.mark.parametrize("slots", [(1, 1), (0, 3)])
def test_arrangements_that_cannot_be_are_refused(blind, slots):
    with pytest.raises(ValueError, match="two different ones of 0, 1, 2"):
        blind.reset(0, slots=slots)
    with pytest.raises(ValueError, match="seed -1"):
        blind.reset(-1)


# Who has no memory


def test_the_picture_leaves_the_phase_open(blind):
    """Apple on 0, orange on 1, hand at home: the beginning or the end. What comes next is drawn."""
    blind.reset(2, slots=(0, 1))
    assert possible_moves(blind) == [("apple", 2), None]
    _put(blind, apple=1, orange=0)
    assert possible_moves(blind) == [("apple", 2), None]


def test_over_a_fruit_fewer_phases_are_possible(blind):
    for fruit, moves in (("apple", [("orange", 2), None]), ("orange", [("apple", 2)])):
        blind.reset(2, slots=(0, 1))
        for _ in range(20):
            step = np.append((blind.fruit(fruit) - blind.tips)[:2], 0)
            blind.step(np.append(step, 0))
        assert possible_moves(blind) == moves


# Disturbances


def test_a_blackout_is_black_in_one_camera_while_it_lasts(seeing):
    dark = [Blackout("side", start=1, steps=2)]
    seen = [seeing.reset(0, dark)] + [seeing.step(STAY) for _ in range(3)]
    assert [int(one.pictures["side"].max()) == 0 for one in seen] == [False, True, True, False]
    assert all(int(one.pictures["front"].max()) > 100 for one in seen)


def test_a_hand_covers_one_view_and_touches_nothing(seeing):
    plain = [seeing.reset(0)] + [seeing.step(STAY) for _ in range(12)]
    lying = seeing.fruit("apple")
    seen = [seeing.reset(0, [Hand("front", start=2, steps=7)])] + [seeing.step(STAY) for _ in range(12)]
    changed = [
        {camera: float((one.pictures[camera] != other.pictures[camera]).mean()) for camera in CAMERAS}
        for one, other in zip(seen, plain)
    ]
    assert changed[1]["front"] == 0
    assert changed[5]["front"] > 0.4  # the middle of the way
    assert changed[9]["front"] == changed[12]["front"] == 0
    assert max(one["side"] for one in changed) < 0.2
    np.testing.assert_array_equal(seeing.fruit("apple"), lying)
    for one, other in zip(seen, plain):
        np.testing.assert_array_equal(one.state, other.state)


def test_a_distractor_stands_there_and_is_gone_in_the_next_episode(seeing):
    plain = seeing.reset(0)
    seen = seeing.reset(0, [Distractor(colour=(0.0, 1.0, 0.0))])
    for camera in CAMERAS:
        changed = (plain.pictures[camera] != seen.pictures[camera]).any(-1)
        assert 3 < changed.sum() < 200
        assert seen.pictures[camera][changed].astype(int).mean(0).argmax() == 1  # green
    again = seeing.reset(0)
    for camera in CAMERAS:
        np.testing.assert_array_equal(again.pictures[camera], plain.pictures[camera])


def test_a_knock_moves_one_fruit_by_what_it_says(blind):
    knock = Knock("orange", step=2, x=0.02, y=-0.01)
    blind.reset(0, [knock])
    apple, orange = blind.fruit("apple"), blind.fruit("orange")
    for _ in range(15):
        blind.step(STAY)
    np.testing.assert_allclose((blind.fruit("orange") - orange)[:2], [0.02, -0.01], atol=0.008)
    np.testing.assert_allclose(blind.fruit("apple"), apple, atol=1e-3)


def test_the_demonstrator_finds_a_knocked_fruit(blind):
    blind.reset(1003, [Knock.drawn(1003)])
    assert live(blind, demonstrate(blind, 1003))


def test_a_jolt_moves_the_hand_and_no_later_picture_of_the_same_moment(blind):
    blind.reset(0)
    before = blind.tips
    blind.jolt((0.03, -0.02))
    np.testing.assert_array_equal(blind.tips, before)
    for _ in range(8):
        blind.step(STAY)
    np.testing.assert_allclose((blind.tips - before)[:2], [0.03, -0.02], atol=0.006)


def test_jolts_come_by_chance_more_often_near_the_table_and_are_their_seeds():
    class Table:
        def __init__(self, height):
            self.tips, self.jolts = np.array([0, 0, height]), []

        def jolt(self, shift):
            self.jolts.append(np.hypot(*shift))

    def jolted(seed, height):
        table = Table(height)
        for step in range(4000):
            Jolts(seed).touch(table, step)
        return table.jolts

    low, high = jolted(1, 0.03), jolted(1, 0.2)
    assert 0.1 < len(low) / 4000 < 0.14
    assert 0.01 < len(high) / 4000 < 0.02
    assert min(low) >= 0.02
    assert max(low) <= 0.07
    assert low == jolted(1, 0.03)
    assert low != jolted(2, 0.03)
    with pytest.raises(ValueError, match="chances of a jolt"):
        Jolts(low=1.5)


def test_a_jolted_demonstrator_still_swaps(blind):
    blind.reset(5, [Jolts(5)])
    assert live(blind, demonstrate(blind, 5))


def test_noise_has_its_deviation_and_is_the_episodes_own(seeing):
    plain = seeing.reset(0).pictures["front"].astype(float)
    noisy = seeing.reset(0, [Noise(10.0)]).pictures["front"]
    middle = (plain > 60) & (plain < 195)
    assert np.std((noisy - plain)[middle]) == pytest.approx(10, rel=0.1)
    np.testing.assert_array_equal(seeing.reset(0, [Noise(10.0)]).pictures["front"], noisy)
    np.testing.assert_array_equal(seeing.observe().pictures["front"], noisy)
    assert (seeing.step(STAY).pictures["front"] != noisy).mean() > 0.5


def test_disturbances_are_put_together_and_users_make_their_own(seeing):
    class Mirrored(Disturbance):
        def picture(self, picture, camera, step, seed):
            return picture[:, ::-1]

    plain = seeing.reset(0).pictures
    seen = seeing.reset(0, [Mirrored(), Blackout("side", 0, 5)]).pictures
    np.testing.assert_array_equal(seen["front"], plain["front"][:, ::-1])
    assert int(seen["side"].max()) == 0


def test_drawn_disturbances_are_their_seeds():
    for kind in (Blackout, Hand, Distractor, Knock):
        assert kind.drawn(5) == kind.drawn(5)
        assert len({kind.drawn(seed) for seed in range(20)}) == 20


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Blackout("wrist"), "no camera 'wrist' here: expected one of front, side"),
        (lambda: Hand("front", start=-1), "from step -1"),
        (lambda: Distractor(0.45, 0.0), "among the plates"),
        (lambda: Knock("pear"), "no fruit 'pear'"),
        (lambda: Noise(-1.0), "-1.0 grey levels"),
    ],
)
def test_impossible_disturbances_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


# Pictures


def test_both_cameras_see_both_fruits_and_where_they_are(seeing):
    def red_and_orange(picture):
        red, green, blue = (picture[..., part].astype(int) for part in range(3))
        return (red > 90) & (green < 60) & (blue < 60), (red > 130) & (green > 60) & (green < 130) & (blue < 70)

    for slots in ((0, 2), (2, 0)):
        seen = seeing.reset(0, slots=slots)
        apple, orange = red_and_orange(seen.pictures["front"])
        assert apple.sum() >= 4
        assert orange.sum() >= 4
        # From the front, plate 0 (y = -.17) is on the left.
        apple_left = np.argwhere(apple)[:, 1].mean() < np.argwhere(orange)[:, 1].mean()
        assert apple_left == (slots[0] == 0)
        near, far = (
            red_and_orange(seen.pictures["side"]) if slots[0] == 0 else red_and_orange(seen.pictures["side"])[::-1]
        )
        assert np.argwhere(near)[:, 0].mean() > np.argwhere(far)[:, 0].mean()  # lower in the picture is nearer


def test_pictures_are_upright_small_and_as_large_as_asked(seeing):
    picture = seeing.reset(0).pictures["front"]
    assert picture.shape == (32, 32, 3)
    assert picture.dtype == np.uint8
    table = picture[-8:].astype(int).mean((0, 1))
    assert table[0] > table[2] + 20  # the brown table is below, the grey wall above


def test_the_hand_and_the_distractor_wait_out_of_sight(seeing):
    seeing.reset(0)
    for number in seeing._visitors.values():
        np.testing.assert_array_equal(seeing._data.mocap_pos[number], OUT_OF_SIGHT)


def test_closed_views_say_so(blind):
    try:
        views = rendering.Views(blind._model, 16)
    except OSError as error:
        pytest.skip(str(error))
    assert views(blind._data, "front").shape == (16, 16, 3)
    views.close()
    views.close()
    with pytest.raises(ValueError, match="was closed"):
        views(blind._data, "front")


def test_a_machine_without_opengl_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(rendering.ctypes.util, "find_library", lambda name: None)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(OSError, match=r"egl \(no library libEGL\) and osmesa .*apt-get install libegl1.*libosmesa6"):
        rendering.open_context(16)


def test_the_wish_for_a_backend_is_obeyed(monkeypatch):
    asked = []
    monkeypatch.setattr(rendering.ctypes.util, "find_library", lambda name: asked.append(name))
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(OSError, match="osmesa"):
        rendering.open_context(16)
    assert asked == ["OSMesa"]


def test_the_wheel_with_the_arm_is_named_when_it_is_absent(monkeypatch):
    monkeypatch.setattr(arm_file, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install --no-deps ogbench==1\.2\.2"):
        arm_file.arm_folder()


def test_the_room_needs_no_extra_and_the_arm_is_read_without_importing_its_wheel():
    program = """
import sys
import noiseladder.imitation
from noiseladder.imitation.arm import arm_folder
arm_folder()
print([name for name in ("mujoco", "gymnasium", "av", "zarr", "pyarrow", "ogbench") if name in sys.modules])
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert said.stdout.strip() == "[]"


def test_merging_corners_keeps_a_surface_where_it_was():
    """A cube of 10 x 10 corners a side comes out as a smaller number of faces on the same cube."""
    steps = np.linspace(0, 1, 10)
    grid = np.stack(np.meshgrid(steps, steps, [0.0], indexing="ij"), -1).reshape(-1, 3)
    faces = []
    for row in range(9):
        for column in range(9):
            first = row * 10 + column
            faces += [[first, first + 1, first + 10], [first + 1, first + 11, first + 10]]
    corners, merged = merge_corners(grid, np.array(faces, dtype=np.int32), 0.4)
    assert len(corners) == 9
    assert 0 < len(merged) <= 8
    assert np.ptp(corners[:, 2]) == 0
    assert merged.max() < 9
