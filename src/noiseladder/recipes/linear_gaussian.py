"""A linear-Gaussian system, whose optimal causal denoiser is known: the Kalman filter."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """s_t = A s_(t-1) + w, x_t = C s_t + v: a latent that turns and forgets, seen through one noisy number.

    Float64. The emission is scaled so that x has unit variance in the stationary law, from which sequences start.
    x is not Markov, so a denoiser must carry a state.
    """

    transition: Tensor  # A, (n, n)
    state_noise: Tensor  # Q, the covariance of w, (n, n)
    emission: Tensor  # C, (n,)
    emission_noise: Tensor  # R, the variance of v, ()

    @cached_property
    def stationary(self) -> Tensor:
        """P with P = A P A' + Q: the covariance of the latent before anything is seen, (n, n)."""
        size = len(self.transition)
        identity = torch.eye(size * size, dtype=self.transition.dtype)
        vector = torch.linalg.solve(
            identity - torch.kron(self.transition, self.transition), self.state_noise.reshape(-1)
        )
        return vector.reshape(size, size)

    def autocovariance(self, lags: int) -> Tensor:
        """Covariance of x_t and x_(t+k) for k = 0 .. lags - 1, (lags,)."""
        values, covariance = [], self.stationary
        for _ in range(lags):
            values.append(self.emission @ covariance @ self.emission)
            covariance = self.transition @ covariance
        values[0] = values[0] + self.emission_noise
        return torch.stack(values)

    def covariance(self, length: int) -> Tensor:
        """Covariance of `length` consecutive tokens, (T, T)."""
        position = torch.arange(length)
        return self.autocovariance(length)[(position[:, None] - position[None, :]).abs()]

    def draw(self, sequences: int, length: int, generator: Generator) -> Tensor:
        """Fresh sequences, (B, T, 1) float64."""
        root = torch.linalg.cholesky(self.covariance(length))
        noise = torch.randn(sequences, length, dtype=root.dtype, generator=generator)
        return (noise @ root.T)[..., None]


def example() -> LinearGaussian:
    """The system of the exact tests: two latent numbers that rotate and decay."""
    transition = 0.97 * torch.tensor([[0.95, 0.30], [-0.30, 0.85]], dtype=torch.float64)
    state_noise = torch.tensor([0.05, 0.08], dtype=torch.float64).diag()
    emission = torch.tensor([1.0, 0.4], dtype=torch.float64)
    emission_noise = torch.tensor(0.02, dtype=torch.float64)
    variance = LinearGaussian(transition, state_noise, emission, emission_noise).autocovariance(1)[0]
    return LinearGaussian(transition, state_noise, emission / variance.sqrt(), emission_noise / variance)
