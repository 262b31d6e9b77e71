"""What PyTorch makes of zeus-mini: every intermediate of one real slice, and several prompts on it.

    python zeus_mini.py --text <all-MiniLM-L6-v2> --data <data> --out .

The model is the recipe's (`weights/recipe`), the weights are `weights/zeus-mini.safetensors`, the slice is
the middle one of `<data>/colin27/ch2.nii.gz` (axial).  Writes

`zeus_mini.safetensors`: the picture and the states of the first sentence's tokens whole, of the other tensors
every 7th value of the flattened array (channels last where the original is NCHW), so that the file
stays small and every channel and place is still seen.  `shapes` in the metadata gives the full shapes.

`zeus_mini_prompts.safetensors`: all sentences on that slice: their prompt tokens [5, 128], iou [5] (predicted Dice),
masks [5, 28, 28] (every 4th row and column, from 0, of the 112x112 logits).  Prompts must not
disturb each other: each alone gives the same result.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

from store import save

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'weights'))
from recipe.export import load_exported  # noqa: E402
from recipe.paint import normalise  # noqa: E402
from recipe.text import TextEncoder, padded  # noqa: E402
from recipe.volumes import as_slices, head_box, load_volume, window  # noqa: E402

STRIDE = 7
WHOLE = ('input.image', 'input.states', 'iou', 'hyper', 'text_token', 'tokens_in', 'tokens_out')
SENTENCES = ['Segment the left putamen in this T1-weighted axial MRI.', 'Segment the cerebral white matter in this T1-weighted axial MRI.',
             'Segment the whole brain in this T1-weighted axial MRI.', 'cerebellum', 'left kidney']


def picture(data, size):
    volume = load_volume(data / 'colin27' / 'ch2.nii.gz')
    slices = as_slices(volume[head_box(volume)], 'axial')
    one = slices[len(slices) // 2]
    (ys, sy), (xs, sx) = (window(length, size) for length in one.shape)
    out = torch.zeros(1, 1, size, size)
    out[0, 0, sy, sx] = torch.from_numpy(np.ascontiguousarray(one[ys, xs]))
    return normalise(out)


@torch.no_grad()
def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--text', required=True, type=Path)
    p.add_argument('--data', required=True, type=Path)
    p.add_argument('--out', default='.', type=Path)
    a = p.parse_args()
    net = load_exported(ROOT / 'weights' / 'zeus-mini.safetensors')
    image = picture(a.data, net.config.image_size)
    encoded = TextEncoder(a.text)(SENTENCES)
    states, real = padded(encoded)
    token = net.prompt_encoder(states, real)
    masks, iou = net(image, states[None], real[None])
    taps = {}
    first, quality = net(image, encoded[0][None, None], torch.ones(1, 1, len(encoded[0]), dtype=torch.bool), taps)
    print('alone and together, max |difference|: logits', float((first[0, 0] - masks[0, 0]).abs().max()), 'iou', float((quality - iou[0, 0]).abs().max()))
    exact, _ = net.double()(image.double(), states[None].double(), real[None])
    print('float32 against float64: logits', float((exact - masks).abs().max()), 'range', float(masks.min()), float(masks.max()))
    print('iou', [round(v, 3) for v in iou[0].tolist()], 'pixels', (masks[0] > 0).sum((1, 2)).tolist())

    for n in range(1, net.config.depth - 1):
        del taps[f'block{n}']
    tensors = {'input.image': image, 'input.states': encoded[0], **taps, 'masks': first, 'iou': quality}
    out, shapes = {}, {}
    for name, x in tensors.items():
        x = x.numpy()
        if x.ndim == 4 and name != 'masks':
            x = x.transpose(0, 2, 3, 1)
        shapes[name] = list(x.shape)
        x = np.ascontiguousarray(x).reshape(-1).astype(np.float32)
        out[name] = x if name in WHOLE else x[::STRIDE].copy()
    metadata = dict(sentence=SENTENCES[0], stride=str(STRIDE), whole=json.dumps(WHOLE), shapes=json.dumps(shapes))
    print(save(a.out / 'zeus_mini.safetensors', out, metadata), 'bytes')
    prompts = {'tokens': token.float().numpy(), 'iou': iou[0].float().numpy(), 'masks': masks[0, :, ::4, ::4].contiguous().numpy()}
    print(save(a.out / 'zeus_mini_prompts.safetensors', prompts, dict(sentences=json.dumps(SENTENCES))), 'bytes')


if __name__ == '__main__':
    main()
