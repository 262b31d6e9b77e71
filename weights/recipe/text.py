"""Sentences as the model sees them: the token states of a frozen text encoder, and a bank of them."""

import json
import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .anatomy import NOTHING, STRUCTURES, TARGETS
from .prompts import CONTRASTS, VIEWS, canonical, negative, positive
from .rng import Rng

ENCODER = 'sentence-transformers/all-MiniLM-L6-v2'
CELLS = len(CONTRASTS) * len(VIEWS)      # of one target


class TextEncoder:
    """all-MiniLM-L6-v2: sentences -> the states of their tokens, [tokens, 384] each."""

    def __init__(self, folder: Path, device: torch.device | str = 'cpu') -> None:
        from transformers import AutoModel, AutoTokenizer
        self.device = torch.device(device)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.network = AutoModel.from_pretrained(folder).to(self.device).eval()

    @torch.no_grad()
    def __call__(self, sentences: list[str], batch: int = 256) -> list[Tensor]:
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
        out: list[Tensor] = [torch.empty(0)] * len(sentences)
        for start in range(0, len(order), batch):
            rows = order[start:start + batch]
            tokens = self.tokenizer([sentences[i] for i in rows], padding=True, truncation=True,
                                    max_length=256, return_tensors='pt').to(self.device)
            states = self.network(**tokens).last_hidden_state.float().cpu()
            for row, state, mask in zip(rows, states, tokens['attention_mask'].cpu()):
                out[row] = state[:int(mask.sum())].clone()
        return out


def padded(states: list[Tensor]) -> tuple[Tensor, Tensor]:
    """[t, d] each -> [n, T, d] and which tokens are real [n, T]."""
    length = torch.tensor([len(state) for state in states])
    real = torch.arange(int(length.max())) < length[:, None]
    return torch.nn.utils.rnn.pad_sequence(states, batch_first=True).float(), real


@dataclass
class Bank:
    """Token states of many sentences, sorted by cell: target, then contrast, then view.

    All sentences that ask for nothing share one last cell.
    """

    states: Tensor              # [tokens of all sentences, 384] f16
    first: Tensor               # [n + 1]: the first token of a sentence
    start: Tensor               # [targets * CELLS + 1]: the first sentence of a cell
    count: Tensor               # [targets * CELLS + 1]
    mean: Tensor                # [384] over all tokens
    deviation: Tensor           # [384]

    @staticmethod
    def build(states: list[Tensor], count: Tensor) -> 'Bank':
        """States of sentences in the order of their cells, and how many a cell has."""
        length = torch.tensor([0] + [len(state) for state in states])
        joined = torch.cat(states)
        return Bank(joined.half(), length.cumsum(0), count.cumsum(0) - count, count,
                    joined.mean(0), joined.std(0))

    def to(self, device: torch.device | str) -> 'Bank':
        return Bank(*(t.to(device) for t in vars(self).values()))

    def pick(self, target: Tensor, contrast: Tensor, view: Tensor, rng: Rng) -> Tensor:
        """A random sentence each: target [B, P], contrast and view [B] -> [B, P]."""
        cell = target * CELLS + (contrast * len(VIEWS) + view)[:, None]
        cell = torch.where(target == NOTHING, NOTHING * CELLS, cell)
        count = self.count[cell]
        nth = (rng.uniform(0, 1, *cell.shape) * count).long().minimum(count - 1)
        return self.start[cell] + nth

    def look_up(self, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """[...] -> states [..., T, 384] and which tokens are real [..., T]."""
        first = self.first[sentence]
        length = self.first[sentence + 1] - first
        nth = torch.arange(int(length.max()), device=sentence.device)
        real = nth < length[..., None]
        row = torch.where(real, first[..., None] + nth, 0)
        return self.states[row].float(), real

    def targets(self) -> Tensor:
        """Row of anatomy.TARGETS, or NOTHING, of every sentence, [n]."""
        cell = torch.arange(len(self.count), device=self.count.device)
        return cell.repeat_interleave(self.count) // CELLS

    def save(self, path: Path, sentences: list[str]) -> None:
        tensors = {name: tensor.contiguous() for name, tensor in vars(self).items()}
        save_file(tensors, path, {'sentences': json.dumps(sentences)})

    @staticmethod
    def load(path: Path) -> 'Bank':
        with safe_open(path, 'pt') as file:
            return Bank(*(file.get_tensor(name) for name in Bank.__dataclass_fields__))


CONTRAST_OF_MODALITY = {'t1': 'T1', 't2': 'T2', 'flair': 'FLAIR/PD', 'pd': 'FLAIR/PD'}


def written_sentences(lines: Iterable[str]) -> dict[int, set[str]]:
    """What the engine's language model wrote, by cell.

    Every line is what `examples/write_instructions.rs` prints: an object with structure, side, modality
    and text, in which `<view>` stands for the view.
    """
    row_of = {(STRUCTURES[name].names[0], side): row for row, (name, side) in enumerate(TARGETS)}
    by_cell = defaultdict(set)
    for line in lines:
        said = json.loads(line)
        row = row_of[said['structure'], said['side']]
        contrast = list(CONTRASTS).index(CONTRAST_OF_MODALITY[said['modality']])
        for v, view in enumerate(VIEWS):
            text = said['text'].replace('<view>', view)
            by_cell[row * CELLS + contrast * len(VIEWS) + v].add(text)
    return by_cell


def write_sentences(per_cell: int, negatives: int, seed: int,
                    written: dict[int, set[str]] | None = None) -> tuple[list[str], list[int]]:
    """Sentences without repeats within a cell, and the cell of each; cells ascend."""
    rng = random.Random(seed)
    sentences, cells = [], []
    for row, target in enumerate(TARGETS):
        for c, contrast in enumerate(CONTRASTS):
            for v, view in enumerate(VIEWS):
                cell = row * CELLS + c * len(VIEWS) + v
                drawn = {positive(rng, *target, contrast, view) for _ in range(per_cell)}
                drawn |= {canonical(*target, contrast, view)} | (written or {}).get(cell, set())
                sentences += sorted(drawn)
                cells += [cell] * len(drawn)
    drawn = sorted({negative(rng) for _ in range(negatives)})
    return sentences + drawn, cells + [NOTHING * CELLS] * len(drawn)


def build_bank(encoder: TextEncoder, per_cell: int = 16, negatives: int = 6000, seed: int = 0,
               written: dict[int, set[str]] | None = None) -> tuple[Bank, list[str]]:
    """Writes and encodes the sentences of a training run."""
    sentences, cells = write_sentences(per_cell, negatives, seed, written)
    count = torch.from_numpy(np.bincount(cells, minlength=NOTHING * CELLS + 1))
    return Bank.build(encoder(sentences), count), sentences
