import pytest
import torch
from test_policy import policy

from noiseladder.imitation.policy_tokens import Trace
from noiseladder.imitation.suspicion import Suspicion, usual_surprise


def test_what_surprises_more_than_usual_is_doubted():
    doubt = Suspicion({"front": 2.0, "side": 1.0})
    found = doubt({"front": 1.9, "side": 1.25, "state": 50.0})
    assert found == {"front": 0.0, "side": pytest.approx(0.25)}
    assert doubt({"front": 4.0, "side": 9.0, "state": 0.0}) == {"front": 1.0, "side": 1.0}


def test_the_usual_surprise_is_that_of_every_token():
    who = policy()
    generator = torch.Generator().manual_seed(0)
    seen = {"front": 10, "side": 10, "state": 4}
    traces = [
        Trace({name: torch.randn(12, size, generator=generator) for name, size in seen.items()}, torch.zeros(12, 2))
        for _ in range(2)
    ]
    found = usual_surprise(who, traces)
    assert {name: sizes.shape for name, sizes in found.items()} == dict.fromkeys(seen, (8,))
    later = usual_surprise(who, traces, first=1)
    torch.testing.assert_close(later["side"], torch.cat([found["side"][1:4], found["side"][5:]]))
    # A token that is what was expected surprises nobody.
    state = who.denoiser.initial_state(1)
    unknown = torch.ones(1, 1, who.knowledge.tokens.size)
    begins = torch.ones(1, 1, 1)
    expected = who.denoiser(torch.zeros_like(unknown), unknown, begins, state).clean
    assert max(float(size.detach()) for size in who.surprise_of(expected, begins, state).values()) < 1e-5
