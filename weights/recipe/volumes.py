"""Whole volumes in PyTorch, slice by slice and fused, by the rules of the engine.

 1. RAS+, 1 mm; the box of the voxels above 0.05 times the 99.5th percentile of the positive ones.
 2. A slice of a view is centred in the model's picture and scaled by its own percentiles.
 3. Its logits are doubled (bilinear, corners not aligned), cut back to the slice and clipped to
    +-10; voxels that no slice shows are -10.
 4. fused: sum over views of w * logits > 0, where w is the predicted Dice of that slice and prompt
    plus 0.001.  A sagittal slice does not show its side, so for a target with a side it counts only
    where that side is: with x the RAS index in the box and nx the box's width, x + 0.5 < nx / 2 is
    the patient's left, > the right, the centre slice of an odd nx both.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .model import ZeusMini, full_size
from .paint import normalise
from .prompts import VIEWS

AXIS = {'axial': 2, 'coronal': 1, 'sagittal': 0}
LIMIT = 10.0
FLOOR = 1e-3            # of a fusion weight


def load_volume(path: Path, order: int = 1) -> np.ndarray:
    """A NIfTI file, RAS+ at 1 mm, float32 [x, y, z].  order 0 is for label maps."""
    import nibabel
    from nibabel.processing import resample_to_output
    image = nibabel.as_closest_canonical(nibabel.load(path))
    if image.ndim > 3:
        image = image.slicer[..., 0]
    if not np.allclose(image.header.get_zooms()[:3], 1, atol=0.01):
        image = nibabel.as_closest_canonical(resample_to_output(image, 1.0, order))
    return np.asarray(image.dataobj, np.float32)


def threshold(volume: np.ndarray) -> float:
    """What is not background lies above it."""
    return 0.05 * np.percentile(volume[volume > 0], 99.5)


def head_box(volume: np.ndarray) -> tuple[slice, slice, slice]:
    """Where the voxels are that are not background."""
    inside = volume > threshold(volume)
    ends = [np.nonzero(inside.any(tuple(d for d in range(3) if d != axis)))[0][[0, -1]]
            for axis in range(3)]
    return tuple(slice(int(a), int(b) + 1) for a, b in ends)


def as_slices(volume: np.ndarray, view: str) -> np.ndarray:
    """A view [n, rows, columns] of [x, y, z], in the radiological orientation; shares memory."""
    if view == 'axial':
        return volume[::-1, ::-1].transpose(2, 1, 0)
    if view == 'coronal':
        return volume[::-1, :, ::-1].transpose(1, 2, 0)
    return volume[:, ::-1, ::-1].transpose(0, 2, 1)


def window(length: int, size: int) -> tuple[slice, slice]:
    """The part of a slice's axis that is seen, and where in the picture."""
    offset = (size - length) // 2
    first = max(0, -offset)
    last = min(length, size - offset)
    return slice(first, last), slice(first + offset, last + offset)


def pictures(slices: np.ndarray, size: int) -> Tensor:
    """Slices [n, rows, columns] as a model takes them, [n, 1, size, size]: centred, 0 to 1."""
    _, rows, columns = slices.shape
    (ys, sy), (xs, sx) = window(rows, size), window(columns, size)
    picture = torch.zeros(len(slices), 1, size, size)
    picture[:, 0, sy, sx] = torch.from_numpy(np.ascontiguousarray(slices[:, ys, xs]))
    return normalise(picture)


@torch.no_grad()
def decode(model: ZeusMini, volume: np.ndarray, view: str, token: Tensor, batch: int = 4
           ) -> tuple[np.ndarray, np.ndarray]:
    """One view of a cropped volume and prompt tokens [P, D] -> clipped logits [P, x, y, z] and the
    predicted Dice [P, slices]."""
    slices = as_slices(volume, view)
    count, rows, columns = slices.shape
    size = model.config.image_size
    (ys, sy), (xs, sx) = window(rows, size), window(columns, size)
    out = np.full((len(token), *volume.shape), -LIMIT, np.float32)
    views = [as_slices(logits, view) for logits in out]
    dice = np.zeros((len(token), count), np.float32)
    for start in range(0, count, batch):
        part = slices[start:start + batch]
        neck, skips = model.image_encoder(pictures(part, size), {})
        low, predicted = model.mask_decoder(neck, skips, model.prompt_encoder.image_pe,
                                            token.expand(len(part), -1, -1), {})
        full = full_size(low).clamp(-LIMIT, LIMIT)[:, :, sy, sx].numpy()
        for n, logits in enumerate(views):
            logits[start:start + len(part), ys, xs] = full[:, n]
        dice[:, start:start + len(part)] = predicted.T.numpy()
    return out, dice


def own_half(width: int, side: str) -> np.ndarray:
    """Which x a sagittal view may speak for, [width] bool."""
    x, middle = np.arange(width) + 0.5, width / 2
    return {'left': x <= middle, 'right': x >= middle, '': x > 0}[side]


def segment(model: ZeusMini, volume: np.ndarray, tokens: dict[str, Tensor], sides: list[str]
            ) -> np.ndarray:
    """Fused logits of a cropped volume [P, x, y, z]: tokens by view [P, D], the side of each."""
    fused = np.zeros((len(sides), *volume.shape), np.float32)
    for view in VIEWS:
        logits, dice = decode(model, volume, view, tokens[view])
        across = tuple(d + 1 for d in range(3) if d != AXIS[view])
        logits *= np.expand_dims(dice, across) + np.float32(FLOOR)
        if view == 'sagittal':
            for one, side in zip(logits, sides, strict=True):
                one *= own_half(volume.shape[0], side)[:, None, None]
        fused += logits
    return fused


def dice(mask: np.ndarray, truth: np.ndarray) -> float | None:
    """Of two boolean volumes; None where both are empty."""
    total = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / total if total else None
