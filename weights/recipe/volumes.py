"""Whole volumes in PyTorch, slice by slice and fused, by the rules of the engine.

 1. RAS+, 1 mm; the box of the voxels above 0.05 times the 99.5th percentile of the positive ones.
 2. A slice of a view is centred in the model's picture and scaled by its own percentiles.
 3. Its logits are doubled (bilinear, corners not aligned), cut back to the slice and clipped to
    +-10; voxels that no slice shows are -10.
 4. fused: the mean over views, weighted by w, the predicted Dice of that slice and prompt plus
    0.001.  A sagittal slice does not show its side, so for a target with a side it counts only
    where that side is: with x the RAS index in the box and nx the box's width, x + 0.5 < nx / 2 is
    the patient's left, > the right, the centre slice of an odd nx both.
 5. The mask's predicted Dice is that of its slices in all views, weighted by the voxels above
    logit 0 in each.  A mask of predicted Dice d is cut at a probability of
    (1 + max(d, 1 - d)) / 4.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .model import ZeusMini, full_size
from .paint import normalise

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


class Fusion:
    """Masks of prompts fused over views, one after the other."""

    def __init__(self, sides: list[str]):
        """The side of each prompt's target; '' of one without a side, and to cut nothing."""
        self.sides = sides
        self.total, self.weight = np.float32(0), np.float32(0)
        self.predicted = {}

    def add(self, view: str, logits: np.ndarray, predicted: np.ndarray):
        """Logits [P, x, y, z] of a view, and the predicted Dice of its slices [P, slices]."""
        w = np.expand_dims(predicted, across(view)) + np.float32(FLOOR)
        if view == 'sagittal':
            halves = [own_half(logits.shape[1], side) for side in self.sides]
            w = w * np.stack(halves)[:, :, None, None]
        self.total = self.total + logits * w
        self.weight = self.weight + w
        self.predicted[view] = predicted

    def masks(self) -> np.ndarray:
        """[P, x, y, z] bool."""
        nothing = np.full(self.total.shape, -np.inf, np.float32)
        mean = np.divide(self.total, self.weight, out=nothing, where=self.weight > 0)
        return cut(mean, self.predicted)


def across(view: str) -> tuple[int, ...]:
    """The axes of [P, x, y, z] that a view's slices lie in."""
    return tuple(d + 1 for d in range(3) if d != AXIS[view])


def cut(logits: np.ndarray, predicted: dict[str, np.ndarray], step: int = 1) -> np.ndarray:
    """The masks [P, x, y, z] of mean logits; the predicted Dice of slices [P, slices] by view.
    With a step only every so manieth slice of the one view was decoded, and speaks."""
    masks = np.zeros(logits.shape, bool)
    for n, one in enumerate(logits):
        found, total = 0., 0
        for view, dice in predicted.items():
            axes = tuple(d - 1 for d in across(view))
            areas = (one > 0).sum(axes)[::step]
            found += float((areas * dice[n][::step].astype(np.float64)).sum())
            total += int(areas.sum())
        d = min(max(found / total, 0.), 1.) if total else 1.
        p = (1 + max(d, 1 - d)) / 4
        masks[n] = one > np.float32(np.log(p / (1 - p)))
    return masks


def dice(mask: np.ndarray, truth: np.ndarray) -> float | None:
    """Of two boolean volumes; None where both are empty."""
    total = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / total if total else None
