"""Sentences as the model sees them: frozen sentence embeddings, and a bank of them to draw from."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .anatomy import NOTHING, TARGETS
from .prompts import CONTRASTS, VIEWS, negative, positive
from .rng import Rng

ENCODER = 'sentence-transformers/all-MiniLM-L6-v2'
CELLS = len(CONTRASTS) * len(VIEWS)      # of one target


class TextEncoder:
    """all-MiniLM-L6-v2: sentences -> [n, 384], mean over the tokens, unit length."""

    def __init__(self, folder: Path, device: torch.device | str = 'cpu') -> None:
        from transformers import AutoModel, AutoTokenizer
        self.device = torch.device(device)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.network = AutoModel.from_pretrained(folder).to(self.device).eval()

    @torch.no_grad()
    def __call__(self, sentences: list[str], batch: int = 256) -> Tensor:
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
        out = torch.empty(len(sentences), self.network.config.hidden_size)
        for start in range(0, len(order), batch):
            rows = order[start:start + batch]
            tokens = self.tokenizer([sentences[i] for i in rows], padding=True, truncation=True,
                                    max_length=256, return_tensors='pt').to(self.device)
            states = self.network(**tokens).last_hidden_state.float()
            mask = tokens['attention_mask'][..., None].float()
            mean = (states * mask).sum(1) / mask.sum(1)
            out[rows] = F.normalize(mean, dim=-1).cpu()
        return out


def whitening(embeddings: Tensor, target: np.ndarray, shrink: float = 0.3) -> tuple[Tensor, Tensor]:
    """What all prompts share, and the directions in which they differ for no good reason.

    embeddings [n, d], target [n] -> mean [d], matrix [d, d]: the inverse root of the scatter
    within a target, shrunk towards a multiple of the identity, scaled to unit variance.
    """
    mean = embeddings.mean(0)
    within = torch.cat([embeddings[target == t] - embeddings[target == t].mean(0)
                        for t in np.unique(target)]).double()
    scatter = within.T @ within / len(within)
    scatter += shrink * scatter.diagonal().mean() * torch.eye(len(scatter)).double()
    values, vectors = torch.linalg.eigh(scatter)
    matrix = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    scale = ((embeddings - mean).double() @ matrix).std()
    return mean, (matrix / scale).float()


@dataclass
class Bank:
    """Embeddings of many sentences, sorted by cell: target, then contrast, then view.

    All sentences that ask for nothing share one last cell.
    """

    embeddings: Tensor          # [n, 384]
    start: Tensor               # [targets * CELLS + 1]: the first sentence of a cell
    count: Tensor               # [targets * CELLS + 1]
    mean: Tensor                # [384]
    white: Tensor               # [384, 384]

    def to(self, device: torch.device | str) -> 'Bank':
        return Bank(*(t.to(device) for t in vars(self).values()))

    def draw(self, target: Tensor, contrast: Tensor, view: Tensor, rng: Rng) -> Tensor:
        """A random sentence each: target [B, P], contrast and view [B] -> [B, P, 384]."""
        cell = target * CELLS + (contrast * len(VIEWS) + view)[:, None]
        cell = torch.where(target == NOTHING, NOTHING * CELLS, cell)
        count = self.count[cell]
        nth = (rng.uniform(0, 1, *cell.shape) * count).long().minimum(count - 1)
        return self.embeddings[self.start[cell] + nth]

    def save(self, path: Path, sentences: list[str]) -> None:
        tensors = {name: tensor.contiguous() for name, tensor in vars(self).items()}
        save_file(tensors, path, {'sentences': json.dumps(sentences)})

    @staticmethod
    def load(path: Path) -> 'Bank':
        with safe_open(path, 'pt') as file:
            return Bank(*(file.get_tensor(name) for name in Bank.__dataclass_fields__))


def write_sentences(per_cell: int, negatives: int, seed: int) -> tuple[list[str], list[int]]:
    """Sentences without repeats within a cell, and the cell of each; cells ascend."""
    rng = random.Random(seed)
    sentences, cells = [], []
    for row, target in enumerate(TARGETS):
        for c, contrast in enumerate(CONTRASTS):
            for v, view in enumerate(VIEWS):
                drawn = sorted({positive(rng, *target, contrast, view) for _ in range(per_cell)})
                sentences += drawn
                cells += [row * CELLS + c * len(VIEWS) + v] * len(drawn)
    drawn = sorted({negative(rng) for _ in range(negatives)})
    return sentences + drawn, cells + [NOTHING * CELLS] * len(drawn)


def build_bank(encoder: TextEncoder, per_cell: int = 16, negatives: int = 6000,
               seed: int = 0) -> tuple[Bank, list[str]]:
    """Writes and embeds the sentences of a training run."""
    sentences, cells = write_sentences(per_cell, negatives, seed)
    embeddings = encoder(sentences)
    cell = np.array(cells)
    asks = cell < NOTHING * CELLS
    mean, white = whitening(embeddings[torch.from_numpy(asks)], cell[asks] // CELLS)
    count = torch.from_numpy(np.bincount(cell, minlength=NOTHING * CELLS + 1))
    return Bank(embeddings, count.cumsum(0) - count, count, mean, white), sentences
