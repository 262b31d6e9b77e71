"""Sentence embeddings of the built-in instructions, which the program embeds.

    python -m recipe stock --text MINILM --out DIR

Writes `stock-instructions.safetensors`: `embeddings` [n, 384] in float32 and, in the metadata, the n texts.
The texts are what `Instruction::stock` in `src/pipeline/instruct.rs` says of every target in
`weights/structures.json`, for each modality and view.
"""

import json
from pathlib import Path

from safetensors.torch import save_file

from .text import TextEncoder

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


def write(encoder: TextEncoder, path: Path) -> int:
    """Writes the file; returns the number of texts."""
    texts = instructions()
    metadata = dict(texts=json.dumps(texts), text_encoder='sentence-transformers/all-MiniLM-L6-v2')
    save_file({'embeddings': encoder(texts)}, path, metadata=metadata)
    return len(texts)
