"""Several prompts on the slice of parity.safetensors at once.

    python parity.py --model <default-model> --text <all-MiniLM-L6-v2> --out .

Writes `parity_prompts.safetensors`: text [5, 384] (sentence embeddings; the sentences are in the metadata),
iou [5] (predicted Dice), masks [5, 28, 28] (every 4th row and column, from 0, of the 112x112 logits),
positive [5] (how many of the 112x112 logits are > 0).  The image is `input.image` of parity.safetensors;
prompt 0 is the one stored there.  Prompts must not disturb each other: each alone gives the same result.
"""
import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open

from store import save

SENTENCES = ['Segment the cerebral white matter in this T1-weighted axial MRI.', 'Segment the whole brain in this T1-weighted axial MRI.',
             'Segment the left putamen in this T1-weighted axial MRI.', 'cerebellum', 'left kidney']


@torch.no_grad()
def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--model', required=True, type=Path)
    p.add_argument('--text', required=True)
    p.add_argument('--out', default='.', type=Path)
    a = p.parse_args()
    sys.path.insert(0, str(a.model))
    import data as D
    from model import load_exported
    net, text = load_exported(a.model / 'zeus-mini.safetensors').eval(), D.TextEncoder(a.text)(SENTENCES)
    with safe_open(str(a.model / 'parity.safetensors'), 'pt') as f:
        stored = {k: f.get_tensor(k) for k in ('input.image', 'input.text', 'masks', 'iou')}
    image = stored['input.image']
    masks, iou = net(image, text[None])
    alone = [net(image, t[None, None]) for t in text]
    print('each alone, max |difference|: logits', float((torch.cat([m for m, _ in alone], 1) - masks).abs().max()), 'iou', float((torch.cat([q for _, q in alone], 1) - iou).abs().max()))
    print('prompt 0 against parity.safetensors: text', float((stored['input.text'][0, 0] - text[0]).abs().max()), 'logits', float((stored['masks'][0, 0] - masks[0, 0]).abs().max()), 'iou', float((stored['iou'] - iou[0, 0]).abs().max()))
    exact, exact_iou = net.double()(image.double(), text[None].double())
    print('float32 against float64: logits', float((exact - masks).abs().max()), 'iou', float((exact_iou - iou).abs().max()), 'range', float(masks.min()), float(masks.max()))
    positive = (masks[0] > 0).sum((1, 2)).int()
    print('iou', iou[0].tolist(), 'positive', positive.tolist())
    print(save(a.out / 'parity_prompts.safetensors', {'text': text.numpy(), 'iou': iou[0].numpy(), 'masks': masks[0, :, ::4, ::4].numpy(), 'positive': positive.numpy()}, dict(sentences=json.dumps(SENTENCES))), 'bytes')


if __name__ == '__main__':
    main()
