"""A phantom head and a bank of made-up sentences: no data, no text encoder."""

import numpy as np
import pytest
import torch

from recipe.anatomy import CLASS_OF, NOTHING
from recipe.model import Config
from recipe.text import CELLS, Bank

torch.set_num_threads(1)

SMALL = Config(image_size=64, grid=4, stem=(8, 8, 16, 16), dim=16, depth=1, heads=1,
               prompt_dim=32, decoder_depth=1, decoder_heads=2, decoder_mlp=32,
               up_dims=(16, 16, 8), low_res=32)


@pytest.fixture
def small() -> Config:
    return SMALL


@pytest.fixture
def phantom() -> torch.Tensor:
    """[2, 48, 48, 48]: white matter and cortex, a thalamus each side, a third ventricle between."""
    volume = torch.zeros(48, 48, 48, dtype=torch.uint8)
    for side, x in (('left', slice(6, 24)), ('right', slice(24, 42))):      # RAS: x towards right
        volume[x, 6:42, 6:42] = CLASS_OF['cortex', side]
    volume[9:24, 9:39, 9:39] = CLASS_OF['white', 'left']
    volume[24:39, 9:39, 9:39] = CLASS_OF['white', 'right']
    volume[16:22, 20:28, 20:28] = CLASS_OF['thalamus', 'left']
    volume[26:32, 20:28, 20:28] = CLASS_OF['thalamus', 'right']
    volume[23:25, 20:28, 20:28] = CLASS_OF['third', '']
    return torch.stack([volume, volume])


@pytest.fixture
def bank() -> Bank:
    """Two sentences of two to five random tokens in each cell."""
    cells = NOTHING * CELLS + 1
    random = np.random.default_rng(0)
    states = [torch.from_numpy(random.normal(size=(2 + n % 4, 384))).float()
              for n in range(2 * cells)]
    return Bank.build(states, torch.full((cells,), 2))
