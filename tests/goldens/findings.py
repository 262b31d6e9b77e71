"""What PyTorch's projector and SmolLM2 state of slices: findings.json.

    python findings.py --model <SmolLM2.gguf> --data <data>

Slices of the committed slab of a painted head and of real scans go through the shipped zeus-mini and projector in float32, and
through the language model of the GGUF file, unpacked to float32 by transformers; its answers are greedy.  Kept are, of each
slice, every 997th value of its image tokens, and of each token of its answer the text and by how much its logit leads.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'weights'))
from recipe.export import load_exported  # noqa: E402
from recipe.projector import FILE, LanguageModel, Projector  # noqa: E402
from recipe.volumes import as_slices, head_box, load_volume, pictures  # noqa: E402

STRIDE = 997
# 1 mm as they are; of each views, and the part of the way through its slices
SCANS = (
    ('weights/trial/scan.nii.gz', [('axial', 0.25), ('axial', 0.75)]),
    ('colin27/ch2.nii.gz', [('axial', 0.3), ('axial', 0.5), ('coronal', 0.4), ('coronal', 0.6), ('sagittal', 0.35), ('sagittal', 0.5)]),
    ('mni152/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz', [('axial', 0.4), ('coronal', 0.5), ('sagittal', 0.5)]),
)


def answer(language, image, most=96):
    """The pieces of the greedy answer to image tokens [1, N, width]: [text, lead of its logit]."""
    table = language.table
    x = torch.cat([table[language.before][None], image, table[language.after][None]], 1)
    out = language.network(inputs_embeds=x, use_cache=True)
    pieces = []
    while len(pieces) < most:
        (first, second), (token, _) = (part.tolist() for part in out.logits[0, -1].topk(2))
        if token == int(language.end):
            break
        pieces.append([language.tokenizer.decode([token]), float(f'{first - second:.4g}')])
        out = language.network(inputs_embeds=table[[token]][None], past_key_values=out.past_key_values, use_cache=True)
    return pieces


@torch.no_grad()
def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--model', required=True, type=Path)
    p.add_argument('--data', required=True, type=Path)
    p.add_argument('--out', type=Path, default=Path(__file__).with_name('findings.json'))
    a = p.parse_args()
    torch.set_flush_denormal(True)
    vision = load_exported(ROOT / 'weights' / 'zeus-mini.safetensors')
    language = LanguageModel(a.model)
    language.network.float()
    projector = Projector(vision.config.prompt_dim, language.table.shape[1])
    projector.load_state_dict({n: t.float() for n, t in load_file(ROOT / 'weights' / FILE).items()})
    scans = []
    for name, places in SCANS:
        path = ROOT / name if name.startswith('weights') else a.data / name
        whole = load_volume(path)
        volume = whole[head_box(whole)]
        told = []
        for view, part in places:
            slices = as_slices(volume, view)
            index = int(part * len(slices))
            embedding, _ = vision.image_encoder(pictures(slices[index:index + 1], vision.config.image_size), {})
            image = projector(embedding)
            pieces = answer(language, image)
            print(f'{name} {view} {index}: {"".join(text for text, _ in pieces)}', flush=True)
            samples = image.flatten()[::STRIDE].numpy().astype(np.float64)
            told.append(dict(view=view, index=index, pieces=pieces, tokens=[float(f'{v:.6g}') for v in samples]))
        scans.append(dict(scan=name, slices=told))
    a.out.write_text(json.dumps(dict(stride=STRIDE, scans=scans), indent=1) + '\n')


if __name__ == '__main__':
    main()
