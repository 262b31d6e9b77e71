"""Random numbers of one batch: a function of (seed, index) alone, on whichever device it is made.

No worker, and no batch before it, has a say in what a batch holds; so a run that was interrupted,
or has another number of workers, sees the same batches.  (CPU and CUDA draw different numbers.)
"""

import numpy as np
import torch
from torch import Tensor


class Rng:
    """Draws tensors on `device`, and choices that hold for a whole batch on the host."""

    def __init__(self, device: torch.device | str, seed: int, index: int) -> None:
        sequence = np.random.SeedSequence([seed, index])
        self.device = torch.device(device)
        self.host = np.random.default_rng(sequence)
        self.generator = torch.Generator(self.device)
        self.generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        u = torch.rand(shape, generator=self.generator, device=self.device)
        return low + (high - low) * u

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)

    def chance(self, probability: float, *shape: int) -> Tensor:
        return self.uniform(0, 1, *shape) < probability

    def integer(self, below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=self.generator, device=self.device)

    def weighted(self, weights: Tensor, count: int) -> Tensor:
        """`count` draws with replacement from every row of `weights` [rows, n] -> [rows, count]."""
        return torch.multinomial(weights, count, True, generator=self.generator)

    def pick(self, choices: tuple):
        """One of `choices`, the same for the whole batch."""
        return choices[self.host.integers(len(choices))]
