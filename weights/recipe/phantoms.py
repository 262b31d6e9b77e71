"""Held-out heads as volumes: label maps painted in three dimensions, for the engine to segment.

    python -m recipe phantoms --labels LABELS --out DIR

writes `DIR/phantoms/sub-18_T1w.nii.gz` and so on, one volume for each held-out label map and contrast, on
the label map's own grid, the label map itself as `sub-18_dseg.nii.gz` with FreeSurfer's labels, and `targets.json`:
which of these labels each target has.
Anatomy is as it is, neither bent nor turned; contrasts come from the training's own distributions.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .anatomy import BRAIN, CLASS_OF_ID, MEMBERS, TARGETS, plain_name
from .paint import tissue
from .rng import Rng

# of paint's contrasts, in their order; contrasts of no sequence differ so much that one says little
SUFFIXES = (('T1w',), ('T2w',), ('FLAIR',), ('any', 'any2', 'any3'))
# in the order of the draws until one is of the contrast: other shares would paint other phantoms
SHARES = (0.45, 0.20, 0.15, 0.20)


def paint_volume(classes: Tensor, contrast: int, rng: Rng) -> Tensor:
    """Classes [x, y, z] -> intensities [x, y, z], 0 and above: tissue, texture, point spread, bias
    field and noise, the skull left on."""
    for _ in range(1000):
        mean, spread, drawn = tissue(1, rng, SHARES)
        if int(drawn) == contrast:
            break
    flat = classes.flatten().long()
    image = mean[0, flat] + spread[0, flat] * rng.normal(len(flat))
    image = image.view(1, 1, *classes.shape)
    image = _blur(image, float(rng.uniform(0.4, 0.8)))
    nodes = rng.normal(1, 1, 4, 4, 4) * float(rng.uniform(0.05, 0.2))
    image = image * F.interpolate(nodes, image.shape[2:], mode='trilinear').exp()
    noise = rng.normal(*image.shape) * float(rng.uniform(0.005, 0.035))
    return (image + noise).abs()[0, 0]


def _blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian along each axis, [1, 1, x, y, z]."""
    at = torch.arange(-3, 4, device=image.device)
    kernel = (-at ** 2 / (2 * sigma ** 2)).exp()
    kernel = kernel / kernel.sum()
    for axis in range(3):
        shape, pad = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], pad[axis] = 7, 3
        image = F.conv3d(image, kernel.view(shape), padding=pad)
    return image


def write_phantoms(files: list[Path], first: int, out: Path, seed: int = 7) -> list[Path]:
    """Paints every label map in every contrast; returns the volumes written."""
    import nibabel
    if not files:
        raise FileNotFoundError('no label maps (*.nii, *.nii.gz) to paint')
    out.mkdir(parents=True, exist_ok=True)
    ids = {plain_name(*target): [int(i) for i in np.flatnonzero(MEMBERS[row][CLASS_OF_ID])]
           for row, target in enumerate(TARGETS)}
    (out / 'targets.json').write_text(json.dumps(ids))
    written = []
    for n, file in enumerate(files):
        image = nibabel.load(file)
        ids = np.asarray(image.dataobj).astype(np.int64)
        ids[(ids < 0) | (ids >= len(CLASS_OF_ID))] = 0
        classes = CLASS_OF_ID[ids]
        truth = np.where(BRAIN[classes] | (ids == 24), ids, 0).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(truth, image.affine), out / f'sub-{first + n}_dseg.nii.gz')
        for contrast, suffixes in enumerate(SUFFIXES):
            for draw, suffix in enumerate(suffixes):
                rng = Rng('cpu', seed + draw, 4 * n + contrast)
                painted = paint_volume(torch.from_numpy(classes), contrast, rng)
                painted = (1000 * painted.numpy()).round().astype(np.int16)
                written.append(out / f'sub-{first + n}_{suffix}.nii.gz')
                nibabel.save(nibabel.Nifti1Image(painted, image.affine), written[-1])
    return written
