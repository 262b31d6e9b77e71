"""What the exported model does on held-out synthetic subjects, by structure and by wording.

Real volumes are the engine's to measure: `keraunos segment`, then `keraunos evaluate`.
"""

import random
from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

from .anatomy import MEMBERS, SIDES, STRUCTURES, TARGET_OF, TARGETS
from .batches import SAGITTAL, Targets
from .model import ZeusMini, full_size
from .paint import paint
from .prompts import CONTRASTS, UNSEEN, VIEWS, canonical, fill, negative
from .rng import Rng
from .slices import Slicer
from .text import TextEncoder, padded

DRAWN = 20                  # pixels of a mask that count as an answer
NONSENSE = 200
OTHER_PHRASES = 4           # unseen wordings and nonsense sentences a slice


class Sentences:
    """Encodes every sentence once."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder, self.known = encoder, {}

    def __call__(self, sentences: list[str]) -> tuple[Tensor, Tensor]:
        new = sorted(set(sentences) - self.known.keys())
        if new:
            self.known.update(zip(new, self.encoder(new)))
        return padded([self.known[sentence] for sentence in sentences])


@torch.no_grad()
def evaluate(model: ZeusMini, encoder: TextEncoder, volumes: Tensor, count: int = 150,
             seed: int = 5) -> dict:
    """Measures on `count` slices of the held-out `volumes` [n, x, y, z]; see `summary` for what."""
    rng, words = Rng(volumes.device, seed, 0), random.Random(seed)
    slicer, targets = Slicer(volumes, model.config.image_size), Targets(volumes.device)
    embed = Sentences(encoder)
    nonsense = sorted({negative(words) for _ in range(2 * NONSENSE)})
    words.shuffle(nonsense)
    found = defaultdict(list)
    for number in range(count):
        labels, view = slicer.cut(1, rng)
        image, contrast = paint(labels, rng)
        areas = targets.areas(targets.shares(labels), view)[0]
        contrast_name, view_name = list(CONTRASTS)[int(contrast[0])], VIEWS[int(view[0])]
        shown = (areas >= DRAWN).nonzero().flatten().tolist()
        absent = (areas == 0).nonzero().flatten().tolist()
        absent = words.sample(absent, min(12, len(absent)))
        asked = shown + absent
        texts = [canonical(*TARGETS[row], contrast_name, view_name) for row in asked]
        again = words.sample(shown, min(OTHER_PHRASES, len(shown)))
        for row in again:
            name, side = TARGETS[row]
            phrase = f'{side} {STRUCTURES[name].names[0]}'.strip()
            texts += [fill(words, template, phrase, contrast_name, view_name)
                      for template in UNSEEN]
        start = number * OTHER_PHRASES % NONSENSE
        texts += nonsense[start:start + OTHER_PHRASES]

        states, real = embed(texts)
        logits, predicted = model(image, states[None], real[None])
        drawn = full_size(logits)[0] > 0
        label = labels[0].long()
        sagittal = int(view[0]) == SAGITTAL
        members = targets.members[int(sagittal)].bool()

        def dice(mask: Tensor, row: int) -> float:
            truth = members[row][label]
            return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))

        for n, row in enumerate(asked[:len(shown)]):
            score = dice(drawn[n], row)
            name, side = TARGETS[row]
            found['structure', name].append(score)
            found['contrast', contrast_name].append(score)
            found['view', view_name].append(score)
            found['quality', ''].append((float(predicted[0, n]), score))
            if side and not sagittal:
                other = torch.from_numpy(MEMBERS[TARGET_OF[name, SIDES[side == 'left']]])
                if areas[TARGET_OF[name, SIDES[side == 'left']]] >= DRAWN:
                    wrong = other.to(label.device)[label]
                    overlap = 2 * (drawn[n] & wrong).sum() / (drawn[n].sum() + wrong.sum())
                    found['other side', ''].append(float(overlap))
        for n in range(len(shown), len(asked)):
            found['absent', ''].append(int(drawn[n].sum()) > DRAWN)
        for n, row in enumerate(again):
            first = len(asked) + n * len(UNSEEN)
            scores = [dice(drawn[first + k], row) for k in range(len(UNSEEN))]
            found['spread', ''].append(max(scores) - min(scores))
            found['unseen', ''].append(float(np.mean(scores)))
        for n in range(len(texts) - OTHER_PHRASES, len(texts)):
            small = int(drawn[n].sum()) <= DRAWN or float(predicted[0, n]) < 0.2
            found['nonsense', ''].append(small)
    return summary(found)


def summary(found: dict) -> dict:
    """Means of what was found.

    `structures`, `contrasts`, `views`: Dice where the structure is shown.  `other_side`: Dice of a
    sided mask with the other side, both shown.  `absent_drawn`: share of absent structures that
    were drawn.  `nonsense_rejected`: share of off-topic sentences that drew next to nothing, or
    whose predicted Dice is under 0.2.  `unseen_dice`, `unseen_spread`: over wordings never
    trained on.  `quality_rank`: Spearman correlation of predicted and true Dice.
    """
    def mean(kind: str, name: str = '') -> float | None:
        values = found.get((kind, name))
        return round(float(np.mean(values)), 3) if values else None

    structures = {name: mean('structure', name) for name in STRUCTURES}
    known = [value for value in structures.values() if value is not None]
    predicted, true = np.array(found['quality', '']).reshape(-1, 2).T
    return {
        'mean': round(float(np.mean(known)), 3), 'structures': structures,
        'contrasts': {name: mean('contrast', name) for name in CONTRASTS},
        'views': {name: mean('view', name) for name in VIEWS},
        'other_side': mean('other side'), 'absent_drawn': mean('absent'),
        'nonsense_rejected': mean('nonsense'), 'unseen_dice': mean('unseen'),
        'unseen_spread': mean('spread'), 'quality_rank': round(spearman(predicted, true), 3),
    }


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; ties share their mean rank.  0 where either is constant."""
    def ranks(values: np.ndarray) -> np.ndarray:
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    a, b = ranks(a), ranks(b)
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
