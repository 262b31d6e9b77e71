"""Goldens of a Zeus put together from its parts, with seeded weights: from volumes and words to logits on the volume's grid.

    python zeus.py --out .              zeus.json

The parts are transformers' `SamModel`, one for T1 and one for T2, MedCLIP's text tower as in clips.py, and a linear layer from its
embedding to one token of SAM's mask decoder.  How slices are shown and masks brought back is transformers' image processor; what
belongs to no library is written here again: which way views are turned, and how masks of views and modalities become one.

Volumes, weights and pixels are not kept: tests make them again (see `values` in llama.py).
"""
import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import BertTokenizer, SamConfig, SamModel

from clips import BERT, SWIN, bert_of, medclip, unit
from llama import values
from sam import SMALL, med_levels, processor, sampled
from vision import weight

SHAPE = (20, 14, 9)
WORDS = '[PAD] [UNK] [CLS] [SEP] [MASK] segment the left right lump ring in this t1 t2 - weighted axial coronal sagittal mri .'.split()
# what comes before the names of a SAM's tensors as their weights are made: of the first thirty numbers one by which the predicted IoU
# lies between 0 and 1 and varies
SEEDS = {'t1': 't112.', 't2': 't2.'}
# the structure's name, and whether it is the left one
TARGETS = [('ring', False), ('left lump', True)]
CASES = {
    'late': dict(modalities=['t1', 't2'], views=['axial', 'sagittal'], fusion='late'),
    'hybrid': dict(modalities=['t2', 't1'], views=['coronal'], fusion='hybrid'),
    'early': dict(modalities=['t1', 't2'], views=['axial'], fusion='early'),
    'one': dict(modalities=['t2'], views=['axial', 'coronal', 'sagittal'], fusion='late'),
}


def volume(modality):
    """Whole numbers from 10 to 266, a share of zeros: their grey levels are no whole numbers before they are cut."""
    flat = values(f'volume {modality}', int(np.prod(SHAPE))).astype(np.float64)
    v = np.clip(np.round(138 + 150 * flat), 10, 266)
    v[::11] = 0
    return v.reshape(SHAPE, order='F')


def plane(volume, view, n):
    return volume[tuple(n if axis == 'sagittal coronal axial'.split().index(view) else slice(None) for axis in range(3))]


def shown(levels, view, n):
    """As radiologists look at it: the patient's right on the left, the front or the top above."""
    return np.ascontiguousarray(plane(levels, view, n).T[::-1, ::-1])


def put(into, view, n, picture):
    plane(into, view, n)[...] += picture[::-1, ::-1].T


def sam_of(prefix):
    torch.set_default_dtype(torch.float64)
    model = SamModel._from_config(SamConfig(**{k: v for k, v in SMALL.items() if k != 'model_type'}), attn_implementation='sdpa').eval()
    tensors = {name: list(p.shape) for name, p in model.named_parameters() if name != 'prompt_encoder.shared_embedding.positional_embedding'}
    for name, p in model.named_parameters():
        if name in tensors:
            p.copy_(torch.from_numpy(weight(prefix + name, p.shape)))
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(model.shared_image_embedding.positional_embedding)
    return model, tensors


def embeddings(texts):
    """MedCLIP's, of unit length."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / 'vocab.txt').write_text('\n'.join(WORDS) + '\n')
        tokenizer = BertTokenizer(str(Path(folder) / 'vocab.txt'), do_lower_case=True)
        ids = [tokenizer(text)['input_ids'] for text in texts]
    model, _ = bert_of(BERT, 'text_model.model.', True)
    outs = [model(torch.tensor([one]), output_hidden_states=True) for one in ids]
    pooled = torch.stack([torch.stack([o.hidden_states[n][0] for n in (1, 2, -1)]).mean(0).mean(0) for o in outs])
    return ids, unit(pooled @ torch.from_numpy(weight('text_model.projection_head.weight', (32, BERT['hidden_size']))).double().T)


def run(sams, modalities, views, fusion):
    project = [torch.from_numpy(weight(f'f_tt.{name}', shape)).double() for name, shape in (('weight', (128, 32)), ('bias', (128,)))]
    levels = {m: med_levels(volume(m), False) for m in modalities}
    sam = processor(64)
    decoder = sams['t1']
    sums = {name: [np.zeros(SHAPE), np.zeros(SHAPE), 0.0, 0.0] for name, _ in TARGETS}
    said = {}
    for view in views:
        for m in modalities if fusion == 'late' else modalities[:1]:
            texts = [f'Segment the {name} in this {m.upper()}-weighted {view} MRI.' for name, _ in TARGETS]
            ids, rows = embeddings(texts)
            said.update(zip(texts, ids))
            tokens = rows @ project[0].T + project[1]
            for n in range(SHAPE['sagittal coronal axial'.split().index(view)]):
                pictures = {k: shown(levels[k], view, n) for k in modalities}
                if all(len(np.unique(p)) == 1 for p in pictures.values()):
                    continue
                def seen(picture):
                    out = sam(Image.fromarray(picture), return_tensors='np')
                    return torch.from_numpy(np.asarray(out['pixel_values'])).double(), out['reshaped_input_sizes']
                grey = {k: seen(np.stack([p] * 3, 2)) for k, p in pictures.items()}
                sizes = grey[m][1]
                encode = lambda k, x: sams[k].vision_encoder(x).last_hidden_state                                      # noqa: E731
                if fusion == 'late':
                    image = encode(m, grey[m][0])
                elif fusion == 'hybrid':
                    image = torch.stack([encode(k, grey[k][0]) for k in modalities]).mean(0)
                else:
                    colours = [grey[modalities[c % len(modalities)]][0][:, c] for c in range(3)]
                    image = encode(m, torch.stack(colours, 1))
                places = decoder.get_image_wide_positional_embeddings()
                _, dense = decoder.prompt_encoder(None, None, torch.zeros(1, 1, 4, dtype=torch.float64), None)
                low, iou = decoder.mask_decoder(image_embeddings=image, image_positional_embeddings=places, dense_prompt_embeddings=dense,
                                                sparse_prompt_embeddings=tokens[None, :, None, :], multimask_output=False)[:2]
                rows_cols = pictures[m].shape
                back = sam.post_process_masks([low[0]], [list(rows_cols)], sizes, binarize=False)[0]
                for t, (name, left) in enumerate(TARGETS):
                    # a sagittal slice speaks for its own half; x runs to the right
                    if left and view == 'sagittal' and n >= (SHAPE[0] + 1) // 2:
                        continue
                    logit = back[t, 0].numpy()
                    q = float(np.clip(iou[0, t, 0], 0, 1))
                    fused = sums[name]
                    put(fused[0], view, n, (q + 1e-3) * np.clip(logit, -10, 10))
                    put(fused[1], view, n, np.full(rows_cols, q + 1e-3))
                    fused[2] += float((logit > 0).sum())
                    fused[3] += float((logit > 0).sum()) * 2 * q / (1 + q)
    found = {}
    for name, (total, of, area, dice) in sums.items():
        with np.errstate(divide='ignore', invalid='ignore'):
            mean = np.where(of > 0, total / of, -1e30)
        found[name] = dict(logits=sampled(torch.from_numpy(mean.flatten(order='F')), 250), voxels=int((mean > 0).sum()),
                           dice=None if area == 0 else dice / area)
    return said, found


@torch.no_grad()
def main():
    p = argparse.ArgumentParser()
    p.add_argument('--out', type=Path, default=Path('.'))
    a = p.parse_args()
    sams, tensors = {}, None
    for name, seed in SEEDS.items():
        sams[name], tensors = sam_of(seed)
    text = medclip(SWIN, BERT, [[32, 32]], (3,))['tensors']
    cases, ids = {}, {}
    for name, case in CASES.items():
        said, found = run(sams, **case)
        ids.update(said)
        cases[name] = dict(case, found=found)
    made = f'transformers {transformers.__version__}, torch {torch.__version__}'
    whole = {'made with': made, 'shape': SHAPE, 'seeds': SEEDS, 'config': SMALL, 'sam': tensors, 'medclip': text, 'vocabulary': WORDS, 'tokens': ids, 'cases': cases}
    (a.out / 'zeus.json').write_text('{\n' + ',\n'.join(f'{json.dumps(k)}: {json.dumps(v)}' for k, v in whole.items()) + '\n}\n')


if __name__ == '__main__':
    main()
