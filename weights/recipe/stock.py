"""The built-in instructions: their prompt tokens travel with the weights.

So segmenting by name needs no text encoder, and no download.  The texts are what `Instruction::stock` in
`src/pipeline/instruct.rs` says of every target in `weights/structures.json`, for each modality and view.
"""

import json
from pathlib import Path

import torch
from torch import Tensor

from .model import ZeusMini
from .text import TextEncoder, padded

VIEWS = ('axial', 'coronal', 'sagittal')
MODALITIES = ('T1-weighted', 'T2-weighted', 'FLAIR', 'PD-weighted')
CATALOGUE = Path(__file__).parents[1] / 'structures.json'


def instructions() -> list[str]:
    """Every built-in instruction, in the catalogue's order."""
    texts = []
    for structure in json.loads(CATALOGUE.read_text()):
        for side in ('', 'left ', 'right ') if structure['sided'] else ('',):
            name = side + structure['name']
            for view in VIEWS:
                texts += [f'Segment the {name} in this {m} {view} MRI.' for m in MODALITIES]
                texts.append(f'Segment the {name} in this {view} CT.')
    return texts


@torch.no_grad()
def prompt_tokens(model: ZeusMini, encoder: TextEncoder, texts: list[str], batch: int = 256
                  ) -> Tensor:
    """[n, prompt_dim]."""
    parts = []
    for start in range(0, len(texts), batch):
        parts.append(model.prompt_encoder(*padded(encoder(texts[start:start + batch]))))
    return torch.cat(parts)
