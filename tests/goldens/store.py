"""A safetensors writer whose bytes depend on nothing but the data (the library's own orders its metadata at random)."""
import json
import struct

import numpy as np

DTYPE = {'float64': 'F64', 'float32': 'F32', 'float16': 'F16', 'int64': 'I64', 'int32': 'I32', 'uint16': 'U16', 'uint8': 'U8'}


def save(path, tensors, metadata=None):
    """Write {name: array} and {key: string}; wider types come first, so every tensor is aligned.  Returns the file's size."""
    tensors = {k: np.asarray(v, order='C') for k, v in tensors.items()}
    header, at = {'__metadata__': dict(metadata)} if metadata else {}, 0
    order = sorted(tensors, key=lambda k: -tensors[k].itemsize)             # stable: otherwise as given
    for k in order:
        t = tensors[k]
        header[k] = {'dtype': DTYPE[t.dtype.name], 'shape': list(t.shape), 'data_offsets': [at, at + t.nbytes]}
        at += t.nbytes
    head = json.dumps(header, separators=(',', ':')).encode()
    head += b' ' * (-len(head) % 8)
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(head)) + head)
        for k in order:
            f.write(tensors[k].tobytes())
    return 8 + len(head) + at


def contract(path, tensors):
    """A loader's contract: names and shapes in the order of the names."""
    path.write_text(''.join(f'{name} {shape}\n' for name, shape in sorted(tensors.items())))
