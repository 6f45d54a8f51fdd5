"""The command that plans: what it prints and draws, what it refuses, and recordings of one's own from end to end."""

import json
import re
from dataclasses import asdict, replace

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image

from noiseladder.cli import main
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.planning.demonstrator import Demonstrator
from noiseladder.planning.evaluation import evaluate
from noiseladder.planning.knowledge import Knowledge
from noiseladder.planning.maze import UMAZE, layout
from noiseladder.planning.maze_data import record
from noiseladder.planning.pictures import (
    GOAL,
    NOISE,
    PLAN,
    WALL,
    Film,
    Moment,
    Scene,
    draw_comparison,
    growth,
    walls_of,
)
from noiseladder.planning.planner import Planner
from noiseladder.planning.point_mass import PointMass
from noiseladder.planning.question import Question
from noiseladder.planning.recordings import Recording
from noiseladder.planning.world import seeded
from noiseladder.recipes import plan, trained_maze
from noiseladder.recipes.maze import Maze, network
from noiseladder.recipes.plan import PLANNERS, Ask, Latest, Waiting, lived, watch
from noiseladder.recipes.trained_maze import load, ship, shipped
from noiseladder.training import progress
from noiseladder.training.weights import save_weights


@pytest.fixture(scope="module")
def recording():
    """The demonstrator in the smallest maze, a hundred ways."""
    world, who = PointMass(UMAZE, multi=True), Demonstrator(UMAZE, noise=0.5)
    start = world.start(seeded(range(100)))
    observation, goal, observations, actions = start.observation, start.goal, [], []
    generator = torch.Generator().manual_seed(0)
    for step in range(200):
        if step % 50 == 49:  # who stands still tells little
            goal = UMAZE.cells[torch.randint(len(UMAZE.cells), (100,), generator=generator)].float()
        action = who.plan(observation, goal)[:, 0].float()
        observations.append(observation)
        actions.append(action)
        observation = world.step(observation, action)
    ends = np.tile(np.arange(1, 201) == 200, 100)
    return Recording(
        torch.stack(observations, 1).flatten(0, 1).numpy(), torch.stack(actions, 1).flatten(0, 1).numpy(), ends
    )


def make_run(folder, recording, maze, **changed):
    """A run folder as training leaves it, but that nothing was learned."""
    options = Maze(maze=maze, width=16, layers=1, **changed)
    knowledge = Knowledge.learn(recording, options.steps_per_token, 0.5, maze, options.observation_first)
    torch.manual_seed(0)
    recipe = {"recipe": "maze", **asdict(options)}
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / "weights.safetensors", Denoiser(network(options, knowledge.tokens), Cosine()), recipe)
    knowledge.save(folder)
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


class Ball(gymnasium.Env):
    """Somebody else's environment: our ball, told as gymnasium-robotics tells it; `seen` numbers of an observation."""

    def __init__(self, seen=4):
        self.seen = seen
        box = gymnasium.spaces.Box
        goal = box(-10, 10, (2,))
        self.observation_space = gymnasium.spaces.Dict({"observation": box(-10, 10, (seen,)), "desired_goal": goal})
        self.action_space = box(-1, 1, (2,))

    def told(self):
        return {"observation": self.state[0, : self.seen].numpy(), "desired_goal": self.goal[0].numpy()}

    def reset(self, seed=None, options=None):
        self.state, self.goal = torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[1.0, 2.0]])
        return self.told(), {}

    def step(self, action):
        world = PointMass(UMAZE)
        self.state = world.step(self.state, torch.from_numpy(action)[None])
        return self.told(), float(world.reward(self.state, self.goal)), False, False, {}


HELD_OUT = layout("#######|#OOOOO#|#O###O#|#OOO#O#|###O#O#|#OOOOO#|#######", "held out", time_limit=200)
"""A maze that nothing was ever tuned on."""


class OwnMaze(gymnasium.Env):
    """Somebody's own maze: from corner to corner, or wherever its seed says."""

    def __init__(self):
        self.world = PointMass(HELD_OUT, multi=True)
        box = gymnasium.spaces.Box
        goal = box(-10, 10, (2,))
        self.observation_space = gymnasium.spaces.Dict({"observation": box(-10, 10, (4,)), "desired_goal": goal})
        self.action_space = box(-1, 1, (2,))

    def told(self):
        return {"observation": self.state[0].float().numpy(), "desired_goal": self.goal[0].float().numpy()}

    def reset(self, seed=None, options=None):
        start = self.world.start(seeded([0 if seed is None else seed]))
        self.state, self.goal = start.observation, start.goal
        return self.told(), {}

    def step(self, action):
        self.state = self.world.step(self.state, torch.from_numpy(action)[None].to(self.state))
        return self.told(), float(self.world.reward(self.state, self.goal)), False, False, {}


gymnasium.register("OwnMaze-v0", OwnMaze, max_episode_steps=200, disable_env_checker=True)
gymnasium.register("Ball-v0", Ball, max_episode_steps=16, disable_env_checker=True)
gymnasium.register("OnlyPositions-v0", Ball, max_episode_steps=16, disable_env_checker=True, kwargs={"seen": 2})


@pytest.fixture(scope="module")
def run(recording, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "umaze", recording, "umaze")


@pytest.fixture(scope="module")
def own_run(recording, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "own", recording, "walk.npz")


def test_a_plan_is_said_drawn_and_filmed(run, tmp_path, capsys):
    picture, film = tmp_path / "plan.png", tmp_path / "plan.gif"
    where = ["--start", "1,1", "--goal", "3,1", "--picture", str(picture), "--gif", str(film)]
    assert main(["plan", str(run), *where]) == 0
    said = capsys.readouterr().out
    assert "from (1, 1) to (3, 1)" in said
    assert "tokens of 8" in said
    assert "of 300, return" in said
    assert "ms (median of" in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    frames = Image.open(film)
    tokens = int(said.partition("(")[2].partition("steps (")[2].partition(" ")[0])
    assert frames.n_frames >= tokens + 8  # a row of the pyramid for each token and step, then life
    first = np.asarray(frames.convert("RGB"))
    frames.seek(frames.n_frames - 1)
    assert (first != np.asarray(frames.convert("RGB"))).any()


def test_the_plan_that_is_drawn_is_the_first_that_is_lived(run):
    """With the noise of its episode, whatever else is drawn: a planner of the same seed begins alike."""
    trained = load(run)
    start, goal = torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[3.0, 1.0]])
    latest = Latest(Planner(trained.denoiser, trained.knowledge, seed=5))
    life = lived(Question(trained.problem.world, start[0], goal[0], steps=40), latest, seed=0)
    fresh = Planner(trained.denoiser, trained.knowledge, seed=5)
    fresh.reset(1)
    torch.testing.assert_close(latest.first.tokens, fresh.plan(start, goal).tokens)
    torch.testing.assert_close(life.moments[0].planned[1:], latest.first.positions[0])
    assert not torch.equal(latest.last.tokens, latest.first.tokens)


@pytest.mark.parametrize("planner", ["road", "montecarlo", "tree"])
def test_a_film_shows_the_planner_that_was_asked_for(planner, own_run, tmp_path):
    """Guided plans guided, and trees as they grow."""
    trained = load(own_run)
    start, goal = torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[1.0, 2.0]])
    if planner == "tree":
        film, picture = tmp_path / "plan.gif", tmp_path / "plan.png"
        arguments = ["--planner", "tree", "--budget", "8", "--gif", str(film), "--picture", str(picture)]
        assert main(["plan", str(own_run), "--start", "1,1", "--goal", "1,2", *arguments]) == 0
        assert Image.open(film).n_frames == len(growth(9))
        return
    asked = Ask(str(own_run), planner=planner, guidance=3.0, samples=2, horizon=3)
    plain = replace(asked, planner="road", guidance=None)
    guided, bare = (watch(options, trained, start, goal)[-1][1] for options in (asked, plain))
    assert guided.shape == bare.shape
    assert not torch.allclose(guided, bare, atol=1e-4)


@pytest.mark.parametrize("axes", [1, 3])
def test_bodies_on_one_axis_and_on_three(axes, tmp_path, capsys):
    """Three axes are drawn by their first two; one cannot be drawn, and the plan is told all the same."""
    generator = torch.Generator().manual_seed(0)
    position, observations, actions = torch.ones(40, axes), [], []
    for step in range(300):
        if step % 8 == 0:
            action = 2 * torch.rand(40, axes, generator=generator) - 1
        observations.append(position)
        actions.append(action)
        position = (position + 0.03 * action).clamp(0.5, 1.5)
    ends = np.tile(np.arange(1, 301) == 300, 40)
    walks = (torch.stack(each, 1).flatten(0, 1).numpy() for each in (observations, actions))
    folder = make_run(tmp_path / "run", Recording(*walks, ends), "walk.npz")
    picture = tmp_path / "plan.png"
    drawn = ["--picture", str(picture), "--gif", str(tmp_path / "plan.gif")]
    if axes == 3:
        assert main(["plan", str(folder), *drawn]) == 0
        assert "wrote" in capsys.readouterr().out
        assert picture.exists()
        return
    assert main(["plan", str(folder)]) == 0
    assert "no picture: positions have one axis" in capsys.readouterr().out
    assert main(["plan", str(folder), *drawn]) == 2
    assert "leave out --picture and --gif" in capsys.readouterr().err
    assert not picture.exists()


def test_somebody_elses_environment_is_lived_in(own_run, tmp_path, capsys):
    where = ["--environment", "Ball-v0", "--picture", str(tmp_path / "plan.png")]
    assert main(["plan", str(own_run), *where]) == 0
    said = capsys.readouterr().out
    assert "from (1, 1) to (1, 2)" in said
    assert "of 16, return" in said
    assert "median of 2" in said  # tokens of 8 steps


def test_all_planners_are_compared_in_the_same_episodes(own_run, tmp_path, capsys):
    picture = tmp_path / "plan.png"
    small = ["--samples", "2", "--budget", "4", "--horizon", "2", "--episodes", "1", "--environment", "Ball-v0"]
    assert main(["plan", str(own_run), "--compare", *small, "--picture", str(picture)]) == 0
    said = capsys.readouterr().out
    assert [name for name in ("road", "montecarlo", "best-of-n", "tree") if f"\n{name} " in said] == [*PLANNERS]
    assert (tmp_path / "plan-planners.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_whose_tokens_begin_with_their_observation_is_compared_without_a_tree(recording, tmp_path, capsys):
    folder = make_run(tmp_path / "run", recording, "walk.npz", observation_first=True)
    small = ["--samples", "2", "--horizon", "2", "--episodes", "1", "--environment", "Ball-v0"]
    assert main(["plan", str(folder), "--compare", *small, "--picture", str(tmp_path / "plan.png")]) == 0
    said = capsys.readouterr().out
    assert "tree: left out" in said
    assert "\nbest-of-n " in said
    assert main(["plan", str(folder), "--planner", "tree"]) == 2
    assert "a tree needs tokens that end with it" in capsys.readouterr().err


@pytest.mark.parametrize("planner", ["montecarlo", "best-of-n", "tree"])
def test_every_planner_plans(planner, own_run, tmp_path, capsys):
    arguments = ["--planner", planner, "--samples", "2", "--budget", "8", "--picture", str(tmp_path / "plan.png")]
    assert main(["plan", str(own_run), "--start", "1,1", "--goal", "1,2", *arguments]) == 0
    said = capsys.readouterr().out
    assert "tokens of 8" in said
    assert "not known here" in said  # the world of a file
    assert (tmp_path / "plan.png").exists()


@pytest.mark.parametrize("patience", [0.0, 100.0])
def test_who_waits_long_is_told_how_far_a_plan_is(patience, run, tmp_path, capsys, monkeypatch):
    """Each decision of a tree from within, lives by their steps; nothing about what is quick."""
    monkeypatch.setattr(plan, "PATIENCE", patience)
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    trained = load(run)
    asked = Ask(str(run), planner="tree", budget=64)
    planner, waiting = PLANNERS["tree"](asked, trained), Waiting("tree")
    waiting.watch(planner)
    start, goal = torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[3.0, 1.0]])
    lived(Question(trained.problem.world, start[0], goal[0], steps=16), Latest(planner), 0, waiting)
    waiting.line.close()
    said = capsys.readouterr().err
    if patience:
        assert said == ""
        return
    first, *rest = said.splitlines()
    assert re.fullmatch(r"tree: \d+% of the first decision", first), first
    assert re.fullmatch(r"tree: step 8/16  100% of the next decision  0:\d\d left", rest[-3]), rest
    assert rest[-1] == "tree: step 16/16  0:00 left"


def test_a_film_shows_the_near_future_first():
    """The strip below the maze has a cell for each token: clean ones in the colour of plans, others in noise."""
    scene = Scene(torch.zeros(0, 4), torch.rand(9, 2), 0.1, torch.zeros(2), torch.ones(2), 0.0)
    film = Film(scene, torch.tensor([0.9, 0.9]), 0.05, width=200)
    levels = torch.tensor([0.0, 0.0, 1.0, 1.0])
    frame = np.asarray(film.noisy(levels, torch.rand(1, 33, 2)).convert("RGB")).astype(int)
    line = frame[film.height // 2 + 30]
    colours = [line[round(8 + (token + 0.4) * 184 / 4)] for token in range(4)]
    for found, wanted in zip(colours, (PLAN, PLAN, NOISE, NOISE)):
        assert np.abs(found - [int(wanted[at : at + 2], 16) for at in (1, 3, 5)]).max() < 12
    lived = film.lived(Moment(torch.rand(9, 2), torch.rand(4, 2), "step 8"))
    assert lived.size == (frame.shape[1], frame.shape[0])


def test_walls_are_drawn_where_the_world_has_them():
    """Pixels in the middle of each cell of the layout have the colour of walls, or have not."""
    walls, body = walls_of(PointMass(UMAZE))
    scene = Scene(walls, torch.zeros(1, 2), 0.1, torch.zeros(2), torch.tensor([4.0, 4.0]), body)
    film = Film(scene, torch.tensor([1.0, 3.0]), 0.1, width=400)
    picture = np.asarray(film.ground.convert("RGB")).astype(int)
    wall = np.array([int(WALL[at : at + 2], 16) for at in (1, 3, 5)])
    for x in range(1, 4):
        for y in range(1, 4):
            if (x, y) == (1, 3):
                continue  # the goal is drawn there
            column, row = film.pixels(torch.tensor([[x - 0.2, y - 0.2]]))[0]
            drawn = np.abs(picture[int(row), int(column)] - wall).max() == 0
            assert drawn == bool(UMAZE.walls[x, y]), (x, y)
    column, row = film.pixels(torch.tensor([[1.0, 3.0]]))[0]
    assert np.abs(picture[int(row), int(column)] - [int(GOAL[at : at + 2], 16) for at in (1, 3, 5)]).max() == 0


def test_a_question_is_lived_from_where_it_was_asked(run):
    trained = load(run)
    asked = Question(trained.problem.world, torch.tensor([3.0, 1.0, 0.0, 0.0]), torch.tensor([1.0, 1.0]))
    start = asked.start(seeded([5, 6]))
    assert start.observation.tolist() == [[3.0, 1.0, 0.0, 0.0]] * 2
    assert start.goal.tolist() == [[1.0, 1.0]] * 2
    assert asked.time_limit == 300
    assert not bool(asked.contact(start.observation).any())
    assert getattr(asked, "reached", None) is None


def test_bars_show_planners_side_by_side():
    world = PointMass(replace(UMAZE, time_limit=20))
    found = {"demonstrator": evaluate(world, Demonstrator(UMAZE), [0, 1])}
    figure = draw_comparison(found, UMAZE.norms, "two episodes")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["demonstrator"]
    (bar,) = figure.axes[0].patches
    assert bar.get_width() == pytest.approx(float(found["demonstrator"].scores(UMAZE.norms).mean()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--start", "2,2"], "the start (2, 2) is in a wall of maze 'umaze'"),
        (["--goal", "40,1"], "the goal (40, 1) is outside the 5 x 5 cells"),
        (["--start", "nan,1"], "the start (nan, 1) holds NaN"),
        (["--start", "1;1"], "--start is '1;1', expected numbers with a comma"),
        (["--start", "1"], "the start has 1 number, expected 2"),
        (["--goal", "1,2,3"], "the goal has 3 numbers, expected 2, as"),
        (["--planner", "raod"], "did you mean road?"),
        (["--planner", "zzz"], "the planners are road, montecarlo, best-of-n, tree"),
        (["--planner", "tree", "--guidance", "2"], "--guidance is for the planners road and montecarlo"),
        (["--planner", "tree", "--horizon", "9"], "--horizon is not for the tree"),
        (["--guidance", "-1"], "--guidance is -1"),
        (["--samples", "0"], "--samples is 0"),
        (["--environment", "NoSuch-v7"], "no Gymnasium environment 'NoSuch-v7'"),
        (["--environment", "Pendulum-v1", "--start", "1,1"], "chooses start and goal itself"),
        (["--gif", "plan.mp4"], "plan.mp4 does not end in .gif"),
        (["--gif", "{file}/plan.gif"], "could not write {file}/plan.gif: Not a directory"),
        (["--picture", "{file}/plan.png"], "could not write {file}/plan.png: Not a directory"),
        (["--seed", "99999999999999999999999"], "--seed is 99999999999999999999999, expected 0 to"),
        (["--environment", "Pendulum-v1"], "which does not say what the goal is"),
        (["--environment", "OnlyPositions-v0"], "the model's observation has 4 numbers and the environment's 2"),
    ],
)
def test_mistakes_get_one_sentence(arguments, message, run, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("in the way")
    arguments = [argument.format(file=file) for argument in arguments]
    picture = [] if "--picture" in arguments else ["--picture", str(tmp_path / "plan.png")]
    assert main(["plan", str(run), *picture, *arguments]) == 2
    said = capsys.readouterr().err
    assert message.format(file=file) in said
    assert said.count("\n") == 1
    assert not (tmp_path / "plan.png").exists()


def test_a_place_that_was_never_recorded_is_refused_without_a_map(own_run, tmp_path, capsys):
    assert main(["plan", str(own_run), "--start", "2,9", "--picture", str(tmp_path / "plan.png")]) == 2
    said = capsys.readouterr().err
    assert "away from every place of the recording; the nearest recorded place is (" in said
    assert main(["plan", str(own_run), "--start", "nan,2", "--picture", str(tmp_path / "plan.png")]) == 2
    assert "holds NaN" in capsys.readouterr().err
    assert main(["plan", str(own_run), "--compare", "--picture", str(tmp_path / "plan.png")]) == 2
    assert "--compare needs a world" in capsys.readouterr().err


def test_other_folders_are_refused(run, tmp_path, capsys, monkeypatch):
    def refused(folder):
        assert main(["plan", str(folder)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    assert "there is no run" in refused(tmp_path / "nowhere")
    assert "holds no recipe.json" in refused(tmp_path)
    (tmp_path / "recipe.json").write_text('{"recipe": "sines"}')
    assert "is a run of 'sines'" in refused(tmp_path)
    (tmp_path / "recipe.json").write_bytes((run / "recipe.json").read_bytes())
    assert "holds no weights.safetensors" in refused(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes((run / "weights.safetensors").read_bytes())
    assert "holds no knowledge.safetensors" in refused(tmp_path)
    ship(run, tmp_path / "there" / "maze-umaze")
    monkeypatch.setattr(trained_maze, "SHIPPED", tmp_path / "there")
    assert "did you mean maze-umaze?" in refused("maze-umazze")


def test_what_ships_is_half_the_size_and_plans_the_same(run, tmp_path, monkeypatch):
    (run / "metrics.csv").write_text("step,loss\n" + "".join(f"{step},0.5\n" for step in range(1, 2001)))
    ship(run, tmp_path / "maze-umaze")
    kept = (tmp_path / "maze-umaze" / "metrics.csv").read_text().splitlines()
    assert kept == ["step,loss", *(f"{step},0.5" for step in range(10, 2001, 10))]
    monkeypatch.setattr(trained_maze, "SHIPPED", tmp_path)
    assert list(shipped()) == ["maze-umaze"]
    small, whole = load("maze-umaze"), load(run)
    before, after = ((folder / "weights.safetensors").stat().st_size for folder in (run, tmp_path / "maze-umaze"))
    assert after < 0.65 * before  # the header stays
    start, goal = torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[3.0, 1.0]])
    plans = [Planner(one.denoiser, one.knowledge).plan(start, goal) for one in (small, whole)]
    assert (plans[0].actions - plans[1].actions).abs().max() < 0.05
    assert next(small.denoiser.parameters()).dtype == torch.float32


@pytest.mark.slow
def test_a_held_out_maze_is_recorded_learned_and_lived_in(tmp_path, capsys, monkeypatch):
    """The way of a user: a walk in a maze that nobody here has seen, a short training, and a life in its simulator."""
    monkeypatch.chdir(tmp_path)
    walk = record(HELD_OUT, 60_000, seed=1)
    while True:
        try:
            next(walk)
        except StopIteration as finished:
            recording = finished.value
            break
    np.savez("walk.npz", observations=recording.observations, actions=recording.actions, ends=recording.ends)
    small = "--steps 500 --average 0.99 --stories 1000 --story-steps 250 --batch 64 --width 64 --layers 2 --threads 1"
    assert main(["train", "maze", "--maze", "walk.npz", *small.split(), "--folder", "runs/walk"]) == 0
    arrived = 0
    for seed in range(4):
        capsys.readouterr()
        assert main(["plan", "runs/walk", "--environment", "OwnMaze-v0", "--seed", str(seed)]) == 0
        arrived += "at the goal at step" in capsys.readouterr().out
    assert arrived == 4


@pytest.mark.slow
def test_a_recording_of_ones_own_from_end_to_end(recording, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("walk.npz", observations=recording.observations, actions=recording.actions, ends=recording.ends)
    small = [
        "--steps",
        "250",
        "--average",
        "0.95",
        "--stories",
        "200",
        "--story-steps",
        "160",
        "--batch",
        "32",
        "--width",
        "32",
    ]
    assert main(["train", "maze", "--maze", "walk.npz", *small, "--layers", "1", "--folder", "runs/walk"]) == 0
    (tmp_path / "walk.npz").unlink()  # planning needs the run folder alone
    capsys.readouterr()
    assert main(["plan", "runs/walk", "--start", "1,1", "--goal", "1,3", "--gif", "plan.gif"]) == 0
    said = capsys.readouterr().out
    assert "not known here" in said
    trained = load("runs/walk")
    plan = Planner(trained.denoiser, trained.knowledge).plan(
        torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[1.0, 3.0]])
    )
    # Little was learned, but which way to go.
    assert (plan.positions[0, -1] - torch.tensor([1.0, 3.0])).norm() < 1.0
