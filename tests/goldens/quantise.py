"""What ggml makes of numbers in fewer bits, through the package gguf: `quantise.safetensors`.

    python quantise.py --out .

x (rows, 64): normal values of several sizes, blocks of zeros, of one value, of ties between -a and a; and for each format its blocks.
"""
import argparse
from pathlib import Path

import gguf
import numpy as np

from store import save


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--out', default='.', type=Path)
    a = p.parse_args()
    rng = np.random.default_rng(11)
    x = rng.normal(0, 1, (40, 64)).astype(np.float32) * np.float32(10) ** rng.integers(-4, 3, (40, 1)).astype(np.float32)
    x[0] = 0
    x[1] = 1.5
    x[2] = -1.5
    x[3, :32] = np.tile([0.75, -0.75], 16)
    x[4] = np.round(x[4] * 2) / 2
    x[5] = np.abs(x[5])
    tensors = {'x': x}
    for name in ('q8_0', 'q4_0', 'q4_1'):
        tensors[name] = gguf.quants.quantize(x, gguf.GGMLQuantizationType[name.upper()])
    print(save(a.out / 'quantise.safetensors', tensors, dict(made='gguf 0.19.0')))


if __name__ == '__main__':
    main()
