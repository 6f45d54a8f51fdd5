"""Which path is followed: counted rightly, and strays are strays."""

import torch

from noiseladder.recipes.paths import NEITHER, distances, distances_off_course, follows


def test_a_path_follows_the_nearest_and_one_far_step_is_enough_to_stray() -> None:
    known = torch.tensor([[[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, -1.0]]])
    paths = torch.stack([known[0] + 0.1, known[1], torch.tensor([[0.0, 0.0], [1.0, 0.0]])])
    assert follows(paths, known, tolerance=0.3).tolist() == [0, 1, NEITHER]
    assert distances(paths, known)[2].tolist() == [1.0, 1.0]


def test_a_course_forgives_haste_but_not_stopping_half_way() -> None:
    course = torch.stack([torch.linspace(0, 4, 41), torch.zeros(41)], dim=-1)[None]
    early = torch.tensor([[0.0, 0.0], [3.0, 0.0], [4.0, 0.0]])
    stopped = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    aside = torch.tensor([[0.0, 0.0], [2.0, 0.5], [4.0, 0.0]])
    found = distances_off_course(torch.stack([early, stopped, aside]), course)[:, 0]
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 0.5]), atol=0.06, rtol=0)
