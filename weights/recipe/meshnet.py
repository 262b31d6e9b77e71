"""A second opinion: brainchop's MeshNet, an independent network, on real scans without labels.

    python -m recipe.meshnet FOLDER SCAN OUT.nii.gz

FOLDER holds `model.json` and its weights in TensorFlow.js layout, as neuroneural/brainchop ships them (MIT):
3 x 3 x 3 convolutions with dilations 1, 2, 4, 8, 16, 8, 4, 2, 1, ELU between, a 1 x 1 x 1 convolution to classes.
OUT gets the classes on the scan's own grid and a table of the names beside it, so that
`keraunos evaluate` can hold a segmentation against it.  Of model30chan18cls the 18 classes are FreeSurfer's, both sides
in one.  Its own mean Dice against FreeSurfer on a real T1 is 0.79: agreement with it, not truth.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

DILATIONS = (1, 2, 4, 8, 16, 8, 4, 2, 1)
# of model30chan18cls: FreeSurfer's label of the left side for each class
FREESURFER = (0, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 26, 28)


def load_weights(folder: Path) -> list[tuple[Tensor, Tensor]]:
    """Kernel [out, in, k, k, k] and bias [out] of every convolution."""
    manifest = json.loads((folder / 'model.json').read_text())['weightsManifest']
    tensors = []
    for group in manifest:
        raw = b''.join((folder / path).read_bytes() for path in group['paths'])
        values = np.frombuffer(raw, '<f4')
        at = 0
        for entry in group['weights']:
            count = int(np.prod(entry['shape']))
            tensors.append(torch.tensor(values[at:at + count]).view(entry['shape']))
            at += count
        if at != len(values):
            raise ValueError(f'`{folder}`: {len(values) - at} values are left over')
    # TensorFlow keeps [depth, height, width, in, out]
    return [(kernel.permute(4, 3, 0, 1, 2).contiguous(), bias)
            for kernel, bias in zip(tensors[::2], tensors[1::2], strict=True)]


@torch.no_grad()
def classify(weights: list[tuple[Tensor, Tensor]], volume: np.ndarray) -> np.ndarray:
    """Classes of a conformed volume: 1 mm, LIA, first axis fastest in the file; uint8."""
    inside = volume > 0.02 * volume.max()
    box = tuple(slice(max(0, int(i.min()) - 8), int(i.max()) + 9) for i in np.nonzero(inside))
    x = (volume - volume.min()) / (volume.max() - volume.min())
    x = torch.from_numpy(np.ascontiguousarray(x[box], np.float32))[None, None]
    for (kernel, bias), dilation in zip(weights[:-1], DILATIONS, strict=True):
        x = F.elu_(F.conv3d(x, kernel, bias, padding=dilation, dilation=dilation))
    kernel, bias = weights[-1]
    out = np.zeros(volume.shape, np.uint8)
    out[box] = F.conv3d(x, kernel, bias)[0].argmax(0).numpy()
    return out


def main() -> None:
    import nibabel
    from nibabel.processing import conform, resample_from_to
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path)
    parser.add_argument('scan', type=Path)
    parser.add_argument('out', type=Path)
    args = parser.parse_args()
    scan = nibabel.load(args.scan)
    conformed = conform(scan, (256, 256, 256), (1, 1, 1), order=1, orientation='LIA')
    classes = classify(load_weights(args.folder), conformed.get_fdata(dtype=np.float32))
    labels = np.array(FREESURFER, np.uint8)[classes]
    labels = nibabel.Nifti1Image(labels, conformed.affine)
    nibabel.save(resample_from_to(labels, scan, order=0), args.out)
    for label, count in zip(*np.unique(labels.dataobj, return_counts=True)):
        print(label, count)


if __name__ == '__main__':
    main()
