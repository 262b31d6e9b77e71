"""A small copy of the parity tensors of zeus-mini: one real slice with every intermediate.

    python zeus_mini.py --parity <default-model>/parity.safetensors --out .

Writes `zeus_mini.safetensors`: the input image and sentence embedding whole, of the other tensors
every 7th value of the flattened array (channels last where the original is NCHW), so that the file
stays small and every channel and place is still seen. `shapes` in the metadata gives the full shapes.
"""
import argparse
import json
from pathlib import Path

from safetensors import safe_open

from store import save

STRIDE = 7
WHOLE = ('input.image', 'input.text', 'iou', 'hyper', 'text_token', 'tokens_in', 'tokens_out')


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--parity', required=True)
    p.add_argument('--out', default='.', type=Path)
    a = p.parse_args()
    with safe_open(a.parity, 'np') as f:
        metadata = f.metadata()
        tensors = {k: f.get_tensor(k) for k in f.keys()}
    out, shapes = {}, {}
    for name, x in tensors.items():
        if x.ndim == 4 and name != 'masks':
            x = x.transpose(0, 2, 3, 1)
        shapes[name] = list(x.shape)
        out[name] = x.reshape(-1).copy() if name in WHOLE else x.reshape(-1)[::STRIDE].copy()
    print(save(a.out / 'zeus_mini.safetensors', out, dict(metadata, stride=str(STRIDE), whole=json.dumps(WHOLE), shapes=json.dumps(shapes))), 'bytes')


if __name__ == '__main__':
    main()
