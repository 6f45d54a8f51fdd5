"""An exported world is held to the network it came from, whatever that is, and refused where it dreams otherwise."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from networks.every_network import tensors
from noiseladder.diffusion.denoiser import Denoiser, Prediction
from noiseladder.diffusion.noise import Cosine, Flow, Linear, LogSNR, NoiseSchedule, Sigmoid
from noiseladder.networks import (
    ConvolutionalNetwork,
    MinGRUNetwork,
    RecurrentNetwork,
    SpatialNetwork,
    SplitNetwork,
    TransformerNetwork,
)
from noiseladder.video import exporting
from noiseladder.video.autoencoder import FrameAutoencoder
from noiseladder.video.beginnings import Beginnings
from noiseladder.video.exported_world import (
    HEAD,
    MEMORY,
    SCHEDULES,
    ExportedDenoiser,
    ExportedState,
    Graph,
    load_exported,
    note_text,
    schedule_note,
)
from noiseladder.video.exporting import WRITTEN, Alike, check_place, export_world
from noiseladder.video.onnx_graphs import graphs_of, write_graph
from noiseladder.video.pixels import PixelCodec
from noiseladder.video.world_model import Dreaming, WorldModel

SIZE, DEPTH, TOKEN, ACTIONS = 32, 1, 16, 3
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "split": lambda: SplitNetwork(TOKEN, 24, 2, 2, ACTIONS, expansion=2),
    "split-from-zero": lambda: SplitNetwork(TOKEN, 16, 1, 1, ACTIONS, learned_start=False),
    "split-first-kept": lambda: SplitNetwork(TOKEN, 16, 1, 1, ACTIONS, keep_first=True),
    "spatial": lambda: SpatialNetwork(TOKEN, 4, 16, 2, 2, ACTIONS),
    "spatial-gru": lambda: SpatialNetwork(TOKEN, 4, 16, 1, 1, ACTIONS, gru_layers=1),
    "min-gru": lambda: MinGRUNetwork(TOKEN, 16, 2, ACTIONS),
    "convolutional": lambda: ConvolutionalNetwork((1, 4, 4), 4, 3, 1, ACTIONS),
    "gru": lambda: RecurrentNetwork(TOKEN, 16, 2, condition_size=ACTIONS),
}


def lively(network: nn.Module) -> nn.Module:
    """Weights away from their start, zeros included, so that all of it matters."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.eval()


def world(network: str = "split") -> tuple[Denoiser, FrameAutoencoder, Beginnings]:
    torch.manual_seed(1)
    codec = FrameAutoencoder(SIZE, DEPTH).eval()
    codec.grow[-2].weight.data *= 8  # an untrained one draws grey frames, in which nothing can be seen to be wrong
    frames = torch.randint(256, (2, 5, SIZE, SIZE, 3), dtype=torch.uint8)
    beginnings = Beginnings(
        frames, torch.tensor([[-1, 0, 1, 2, 0]] * 2), ("left", "right", "go"), torch.eye(ACTIONS), rate=9.0
    )
    return Denoiser(lively(NETWORKS[network]()), Cosine()).eval(), codec, beginnings


PLAN = [2, 2, 0, 1, 2, 0, 1, 1] * 3


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an exported split network."""
    folder = tmp_path_factory.mktemp("export") / "world"
    alike = export_world(*world(), PLAN, {"recipe": "video", "data": "bouncing"}, folder)
    assert (alike.frames, alike.largest) in ((len(PLAN), 0), (len(PLAN), 1))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_graphs_answer_as_the_network_does(name: str, tmp_path: Path) -> None:
    """Several sequences and tokens, exact ends among the levels, and a state in the middle of a sequence."""
    denoiser, codec, _ = world(name)
    start, parts = graphs_of(denoiser, codec, ACTIONS)
    graphs = {}
    for half in (MEMORY, HEAD):
        write_graph(tmp_path / f"{half}.onnx", parts[half])
        graphs[half] = Graph(tmp_path / f"{half}.onnx")
    state = ExportedState(tuple(start.values()))
    other = ExportedDenoiser(denoiser.schedule, graphs[MEMORY], graphs[HEAD], state, (TOKEN,), ACTIONS)
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randn(3, 4, TOKEN, generator=generator)
    levels = torch.rand(3, 4, generator=generator)
    levels[:, 1], levels[:, 2] = 0.0, 1.0
    condition = torch.eye(ACTIONS)[torch.randint(ACTIONS, (3, 4), generator=generator)]
    before, its = (each.observe(tokens, condition, None, 0.2, tokens.flip(0)) for each in (denoiser, other))
    assert its.tensors[0].shape[0] == 3
    for mine, exported in zip(tensors(denoiser.prepare(before)), its.tensors, strict=True):
        same(exported, mine)
    wanted, found = (each(tokens, levels, condition, state) for each, state in ((denoiser, before), (other, its)))
    same(found.clean, wanted.clean)
    same(found.noise, wanted.noise)
    one = its[torch.tensor([2])]  # a branch, as of every state
    same(other(tokens[2:], levels[2:], condition[2:], one).clean, wanted.clean[2:])


@pytest.mark.slow
def test_a_world_of_pixels_leaves_too(tmp_path: Path) -> None:
    codec, frames = PixelCodec(8), torch.randint(256, (2, 5, 8, 8, 3), dtype=torch.uint8)
    _, _, others = world()
    beginnings = replace(others, frames=frames)
    denoiser = Denoiser(lively(ConvolutionalNetwork((3, 8, 8), 4, 3, 1, ACTIONS)), Cosine()).eval()
    assert export_world(denoiser, codec, beginnings, PLAN, {"recipe": "video"}, tmp_path / "world").largest <= 1
    read = load_exported(tmp_path / "world")
    assert torch.equal(read.codec.encode(frames[0].numpy()), codec.encode(frames[0].numpy()))


def same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_the_frames_are_those_of_the_world_it_came_from(exported: Path) -> None:
    denoiser, codec, beginnings = world()
    read = load_exported(exported)
    frames = beginnings.frames[1].numpy()
    assert read.beginnings.names == beginnings.names
    torch.testing.assert_close(read.codec.encode(frames), codec.encode(frames), rtol=1e-4, atol=1e-4)
    for dreaming in (Dreaming(), Dreaming(steps=3, history=1.5, stabilization=0.0, bend=1.0)):
        models = [
            WorldModel(*each, beginnings.names, beginnings.rows, dreaming)
            for each in ((denoiser, codec), (read.denoiser, read.codec))
        ]
        films = []
        for model in models:
            model.reset(*beginnings[1], seed=3)
            film = [model.step(action) for action in PLAN[:4]]
            here = model.snapshot()
            onward = [model.step(action) for action in PLAN[4:8]]
            model.restore(here)
            assert all(np.array_equal(model.step(action), frame) for action, frame in zip(PLAN[4:8], onward))
            films.append(np.stack([*film, *onward]).astype(int))
        assert np.abs(films[0] - films[1]).max() <= exporting.SAME
        assert films[0].std(0).max() > 0  # something moves


def test_the_folder_says_all_that_another_program_needs(exported: Path) -> None:
    note = json.loads((exported / "world.json").read_text())
    assert (note["size"], note["token_shape"], note["schedule"]) == (SIZE, [TOKEN], {"name": "Cosine"})
    assert note["actions"] == {"left": [1, 0, 0], "right": [0, 1, 0], "go": [0, 0, 1]}
    assert note["dreaming"]["levels"][0] == 1
    assert note["checked"]["frames"] == len(PLAN)
    assert note["weights"] == sum(weight.numel() for weight in world()[0].parameters())
    assert list(note["graphs"]) == ["encoder", "memory", "head", "decoder"]
    for name, graph in note["graphs"].items():
        session = Graph(exported / graph["file"]).session
        assert {given.name: given.shape for given in session.get_inputs()} == graph["inputs"], name
        assert [out.name for out in session.get_outputs()] == graph["outputs"], name
        written = (exported / graph["file"]).read_bytes()
        assert str(Path(exporting.__file__).parents[2]).encode() not in written  # nobody's folders
    assert {path.name for path in exported.iterdir()} == {
        "world.json", "start.safetensors", "beginnings.safetensors", "encoder.onnx", "memory.onnx", "head.onnx",
        "decoder.onnx",
    }  # fmt: skip


def test_a_world_that_dreams_otherwise_is_refused(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there before stays, to the byte; and the check sees a memory, a head and a decoder that are wrong."""
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    right = load_exported(exported)

    def wrong(part: str) -> object:
        read = load_exported(exported)
        graph = getattr(read.codec if part == "decoder" else read.denoiser, part)
        broken = lambda *given: tuple((0.8 * value).to(value) for value in graph(*given))  # noqa: E731
        if part == "decoder":
            return read._replace(codec=exporting.replace(read.codec, decoder=broken))
        setattr(read.denoiser, part, broken)
        return read

    monkeypatch.setattr(exporting, "write_graph", lambda path, part: path.write_bytes(before[path.name]))
    for part in ("decoder", "head", "memory"):
        broken = wrong(part)
        monkeypatch.setattr(exporting, "load_exported", lambda folder, broken=broken: broken)
        with pytest.raises(ValueError, match=r"dreams other frames: a pixel differs by \d+ of 255 within 24 frames"):
            export_world(*world(), PLAN, {}, exported)
        assert {path.name: path.read_bytes() for path in exported.iterdir()} == before
        assert [path.name for path in exported.parent.iterdir()] == [exported.name]
    monkeypatch.setattr(exporting, "load_exported", lambda folder: right)
    export_world(*world(), PLAN[:3], {}, exported.parent / "again")
    export_world(*world(), PLAN[:4], {}, exported.parent / "again")  # an exported world is replaced
    assert json.loads((exported.parent / "again" / "world.json").read_text())["checked"]["frames"] == 4
    assert {path.name for path in exported.parent.iterdir()} == {exported.name, "again"}


def edited(data: bytes, **entries: object) -> bytes:
    """With other entries, as if they had been exported so."""
    note = {**json.loads(data), **entries}
    del note["sha256"]
    return note_text(note).encode()


@pytest.mark.parametrize(
    "entries",
    [
        {"schedule": {"name": "Linear"}}, {"recipe": {"steps": "x"}}, {"weights": "x"}, {"token_shape": "abc"},
        {"dreaming": None}, {"another": 1}, {"sha256": "0"}, {"sha256": None},
    ],
)  # fmt: skip
def test_an_entry_that_was_changed_is_noticed(entries: dict[str, object], exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "world"
    shutil.copytree(exported, folder)
    note = json.loads((exported / "world.json").read_text())
    (folder / "world.json").write_text(json.dumps(dict(reversed(note.items())), indent=1))
    load_exported(folder)  # another order and other spaces change nothing
    (folder / "world.json").write_text(json.dumps({**note, **entries}))
    with pytest.raises(
        ValueError, match=r"world\.json is not what was exported, an entry was changed: export the world"
    ):
        load_exported(folder)


def test_what_cannot_be_exported_says_why(tmp_path: Path) -> None:
    _, codec, beginnings = world()
    cases: list[tuple[nn.Module, object, str]] = [
        (TransformerNetwork(TOKEN, 16, 2, 2, ACTIONS), Cosine(), r"state of a TransformerNetwork grows"),
        (TransformerNetwork(TOKEN, 16, 2, 2, ACTIONS, causal=False), Cosine(), r"looks at later tokens"),
        (NETWORKS["split"](), type("Mine", (Cosine,), {})(), r"schedule is Mine, expected one of ours: Cosine"),
    ]
    for network, schedule, sentence in cases:
        with pytest.raises(ValueError, match=sentence):
            export_world(Denoiser(network, schedule), codec, beginnings, PLAN, {}, tmp_path / "out")  # type: ignore[arg-type]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for place in (tmp_path / "mine", tmp_path / "mine" / "letter.txt"):
        with pytest.raises(ValueError, match=r"is there already and holds no exported world: choose another --folder"):
            export_world(*world(), PLAN, {}, place)
    with pytest.raises(OSError, match=r"could not write"):
        export_world(*world(), PLAN, {}, tmp_path / "mine" / "letter.txt" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_an_export_deletes_nothing_but_an_earlier_export(exported: Path, tmp_path: Path) -> None:
    """Two pieces of a user's work that stood in the folder, and another program's world.json."""
    place = tmp_path / "place"
    shutil.copytree(exported, place)
    assert {path.name for path in place.iterdir()} == set(WRITTEN)
    check_place(place)
    (place / "thesis.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"holds an exported world and thesis\.txt, which would be lost"):
        export_world(*world(), PLAN, {}, place)
    (place / "films").mkdir()
    with pytest.raises(ValueError, match=r"and films and more, which would be lost with it: move that away"):
        check_place(place)
    assert (place / "thesis.txt").read_text() == "dear"
    for text in ('{"planet": "earth"}', "[1]", "{"):
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        (other / "world.json").write_text(text)
        with pytest.raises(ValueError, match=r"is there already and holds no exported world"):
            export_world(*world(), PLAN, {}, other)
        assert (other / "world.json").read_text() == text


def test_a_file_that_comes_while_graphs_are_written_is_kept(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    shutil.copytree(exported, place)

    def slow(*_: object) -> Alike:
        (place / "letter.txt").write_text("dear")
        return Alike(1, 0, 1.0, 1.0)

    monkeypatch.setattr(exporting, "dreamt_by_both", slow)
    with pytest.raises(ValueError, match=r"and letter\.txt, which would be lost"):
        export_world(*world(), PLAN, {}, place)
    assert (place / "letter.txt").read_text() == "dear"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_a_damaged_folder_gets_one_sentence(exported: Path, tmp_path: Path) -> None:
    read = load_exported(exported)
    for name, change, sentence in (
        ("head.onnx", lambda data: data[:-1] + bytes([data[-1] ^ 1]), r"head\.onnx is missing or not the file"),
        ("memory.onnx", None, r"memory\.onnx is missing or not the file"),
        ("world.json", lambda data: data[:50], r"world\.json is damaged or none of ours"),
        (
            "world.json",
            lambda data: data.replace(b'"version": 2', b'"version": 1'),
            r"version 1, expected .* of version 2: export",
        ),
        ("world.json", lambda data: edited(data, graphs={}), r"world\.json is damaged, an entry is missing"),
        ("world.json", lambda data: edited(data, graphs=[]), r"world\.json is damaged, an entry"),
        ("world.json", lambda data: edited(data, schedule={"name": "Nope"}), r"json is damaged, an entry is"),
        ("world.json", lambda data: edited(data, state=["a"]), r"world\.json is damaged, an"),
        ("world.json", lambda data: edited(data, size=48), r"beginnings of size \d+ and graphs for 48"),
        ("start.safetensors", lambda data: data[:40], r"start\.safetensors is damaged"),
        ("beginnings.safetensors", None, r"there is no file .*beginnings"),
    ):
        folder = tmp_path / f"{name}-{sentence[-4:]}"
        folder.mkdir()
        for path in exported.iterdir():
            data = path.read_bytes()
            if path.name != name:
                (folder / path.name).write_bytes(data)
            elif change is not None:
                (folder / path.name).write_bytes(change(data))
        with pytest.raises((ValueError, OSError), match=sentence):
            load_exported(folder)
    token, level, condition = torch.zeros(1, 1, TOKEN), torch.zeros(1, 1), torch.zeros(1, 1, ACTIONS)
    start = read.denoiser.initial_state(1)
    for given, sentence in (
        (
            (token[..., 1:], level, condition, start),
            r"tokens are torch.float32 of shape \(1, 1, 15\), expected float32",
        ),
        ((token.double(), level, condition, start), r"tokens are torch.float64"),
        ((token / 0, level, condition, start), r"tokens hold NaN or infinite values"),
        ((token, level + 2, condition, start), r"a noise level is 2, but levels lie in"),
        ((token, level[:, :0], condition, start), r"levels have shape \(1, 0\), expected \(1, 1\)"),
        ((token, level, None, start), r"no condition was given, expected \(1, 1, 3\)"),
        ((token, level, condition, read.denoiser.initial_state(2)), r"the state holds 2 sequences and the tokens 1"),
        (
            (token, level, condition, world()[0].initial_state(1)),
            r"the state is a SplitState, expected a ExportedState",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            read.denoiser(*given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("package", "sentence"), [("onnxruntime", "runs in ONNX Runtime"), ("onnxscript", "are written")]
)
def test_without_the_extra_it_is_named(
    package: str, sentence: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{sentence}.*pip install 'noiseladder\[runtime\]'"):
        export_world(*world(), PLAN, {}, tmp_path / "out")
    if package == "onnxruntime":
        with pytest.raises(ImportError, match=r"noiseladder\[runtime\]"):
            load_exported(exported)


@torch.no_grad()
@pytest.mark.slow
def test_every_schedule_and_prediction_comes_back(tmp_path: Path) -> None:
    """The graphs say what lies under the noise, so they hold what an output stands for."""
    denoiser, codec, _ = world()
    tokens, condition = torch.randn(1, 3, TOKEN), torch.eye(ACTIONS)[None]
    levels = torch.tensor([[0.0, 0.6, 1.0]])
    for number, (schedule, prediction) in enumerate(
        ((Sigmoid(-2.0, 2.5), Prediction.CLEAN), (Flow(), Prediction.FLOW), (Linear(), Prediction.NOISE))
    ):
        its = Denoiser(denoiser.network, schedule, prediction)
        start, parts = graphs_of(its, codec, ACTIONS)
        graphs = []
        for half in (MEMORY, HEAD):
            write_graph(tmp_path / f"{half}-{number}.onnx", parts[half])
            graphs.append(Graph(tmp_path / f"{half}-{number}.onnx"))
        other = ExportedDenoiser(schedule, *graphs, ExportedState(tuple(start.values())), (TOKEN,), ACTIONS)
        wanted, found = (each(tokens, levels, condition) for each in (its, other))
        same(found.clean, wanted.clean)
        same(found.noise, wanted.noise)


@pytest.mark.parametrize("schedule", [Cosine(), Linear(0.2, 18.0), Sigmoid(-2.0, 2.5), LogSNR(12.0), Flow()])
def test_a_schedule_is_written_and_read_again(schedule: NoiseSchedule) -> None:
    note = json.loads(json.dumps(schedule_note(schedule)))
    assert SCHEDULES[note.pop("name")](**note) == schedule
