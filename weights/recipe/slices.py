"""Label maps -> label slices: any subject, any view, turned, sheared and bent at random.

Orientation is the radiological one.  In RAS+ (x towards the patient's right, y anterior,
z superior) the rows and columns of a slice run

  axial     anterior -> posterior, right -> left
  coronal   superior -> inferior,  right -> left
  sagittal  superior -> inferior,  anterior -> posterior
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .anatomy import BRAIN, CLASS_OF, CLASS_OF_ID, CLASSES, MIRRORED
from .rng import Rng

# by view: direction of the rows, direction of the columns, and the axis across the slice
ROWS = ((0, -1, 0), (0, 0, -1), (0, 0, -1))
COLUMNS = ((-1, 0, 0), (-1, 0, 0), (0, -1, 0))
ACROSS = (2, 1, 0)
DEEP = ('thalamus', 'caudate', 'putamen', 'pallidum', 'hippocampus', 'amygdala', 'accumbens',
        'diencephalon', 'inferior')


def load_label_map(path: Path) -> Tensor:
    """A FreeSurfer label file -> classes, RAS+, uint8 [x, y, z]."""
    import nibabel
    image = nibabel.as_closest_canonical(nibabel.load(path))
    ids = np.asarray(image.dataobj).astype(np.int64)
    ids[(ids < 0) | (ids >= len(CLASS_OF_ID))] = 0
    return torch.from_numpy(CLASS_OF_ID[ids])


def load_label_maps(folder: Path, subjects: slice = slice(None)) -> Tensor:
    """The label maps of a folder in the order of their names -> [n, x, y, z] uint8."""
    files = sorted(folder.glob('*.nii*'))[subjects]
    if not files:
        raise FileNotFoundError(f'no label maps (*.nii, *.nii.gz) in `{folder}` at {subjects}')
    return torch.stack([load_label_map(file) for file in files])


def rotations(angles: Tensor) -> Tensor:
    """Rotations about x, then y, then z: angles [B, 3] in radians -> [B, 3, 3]."""
    out = torch.eye(3, device=angles.device).expand(len(angles), 3, 3)
    for axis in range(3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3, device=angles.device).repeat(len(angles), 1, 1)
        turn[:, i, i] = turn[:, j, j] = angles[:, axis].cos()
        turn[:, j, i] = angles[:, axis].sin()
        turn[:, i, j] = -turn[:, j, i]
        out = out @ turn
    return out


class Slicer:
    """Cuts random slices of `size` x `size` pixels of 1 mm through the heads of some subjects."""

    def __init__(self, volumes: Tensor, size: int) -> None:
        """volumes [n, x, y, z] uint8 classes, on the device that is to cut them."""
        device = volumes.device
        self.volumes, self.size = volumes, size
        self.shape = torch.tensor(volumes.shape[1:], device=device)
        found = [_landmarks(volume) for volume in volumes.cpu()]
        self.low, self.high, self.centres = (torch.stack(t).to(device) for t in zip(*found))
        self.mirrored = torch.from_numpy(MIRRORED.astype(np.uint8)).to(device)
        self.rows = torch.tensor(ROWS, device=device).float()
        self.columns = torch.tensor(COLUMNS, device=device).float()
        self.across = torch.tensor(ACROSS, device=device)

    def cut(self, count: int, rng: Rng) -> tuple[Tensor, Tensor]:
        """-> classes [B, size, size] uint8, views [B]."""
        subject = rng.integer(len(self.volumes), count)
        view = rng.integer(3, count)
        warp = self._warp(count, rng)
        line = torch.arange(self.size, device=view.device) - (self.size - 1) / 2
        down, right = ((warp @ axes[view][:, :, None])[..., None]       # [B, 3, 1, 1]
                       for axes in (self.rows, self.columns))
        centre = (self.low + self.high)[subject] / 2
        through = (warp @ self._offset(subject, view, centre, rng)[:, :, None])[..., None]
        point = down * line[:, None] + right * line + through + self._bend(count, rng)

        mirror = rng.chance(0.5, count)                     # a head with its sides swapped
        point[:, 0] = torch.where(mirror[:, None, None], -point[:, 0], point[:, 0])
        point += (centre + rng.uniform(-3, 3, count, 3))[:, :, None, None]
        labels = self._look_up(point, subject)
        return torch.where(mirror[:, None, None], self.mirrored[labels.long()], labels), view

    def _warp(self, count: int, rng: Rng) -> Tensor:
        """Rotation, shear, size and stretch of the sampled plane, [B, 3, 3]."""
        turn = rotations(rng.uniform(-15, 15, count, 3).deg2rad())
        eye = torch.eye(3, device=turn.device)
        shear = eye + rng.uniform(-0.06, 0.06, count, 3, 3) * (1 - eye)
        stretch = rng.uniform(0.88, 1.14, count, 1) * rng.uniform(0.95, 1.05, count, 3)
        return turn @ shear * stretch[:, None, :]

    def _offset(self, subject: Tensor, view: Tensor, centre: Tensor, rng: Rng) -> Tensor:
        """Where the slice passes the centre of the brain, [B, 3].

        Along its normal: anywhere, near the middle, or through a small deep structure.
        """
        count = len(subject)
        offset = rng.uniform(-12, 12, count, 3)
        axis = self.across[view][:, None]
        half = (self.high - self.low)[subject].gather(1, axis) / 2
        anywhere = rng.uniform(-1.03, 1.03, count, 1) * half
        middle = (0.42 * rng.normal(count, 1)).clamp(-1, 1) * half
        nth = rng.integer(self.centres.shape[1], count)
        deep = (self.centres[subject, nth] - centre).gather(1, axis) + 4 * rng.normal(count, 1)
        kind = rng.uniform(0, 1, count, 1)
        along = torch.where(kind < 0.35, anywhere, torch.where(kind < 0.70, middle, deep))
        return offset.scatter(1, axis, along)

    def _bend(self, count: int, rng: Rng) -> Tensor:
        """A smooth displacement, [B, 3, size, size]."""
        nodes = rng.pick((4, 6, 9))
        reach = rng.uniform(0, 3.5 if nodes == 9 else 5.5, count, 1, 1, 1)
        return F.interpolate(reach * rng.normal(count, 3, nodes, nodes), (self.size, self.size),
                             mode='bicubic', align_corners=True)

    def _look_up(self, point: Tensor, subject: Tensor) -> Tensor:
        """The class at the nearest voxel; background outside the volume."""
        x, y, z = self.volumes.shape[1:]
        voxel = point.round().long()
        last = (self.shape - 1)[None, :, None, None]
        inside = ((voxel >= 0) & (voxel <= last)).all(1)
        i, j, k = voxel.clamp(torch.zeros_like(last), last).unbind(1)
        flat = ((subject[:, None, None] * x + i) * y + j) * z + k
        return self.volumes.view(-1)[flat] * inside


def _landmarks(volume: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """First and last brain voxel by axis, [3] each, and centres of the deep structures [n, 3].

    A structure that is absent takes the centre of the brain.  Every second voxel is enough.
    """
    thin = volume[::2, ::2, ::2]
    brain = torch.from_numpy(BRAIN)[thin.long()]
    ends = []
    for axis in range(3):
        index = brain.sum([a for a in range(3) if a != axis]).nonzero().flatten()
        if not len(index):
            raise ValueError('a label map holds no brain')
        ends.append((index[0] * 2, index[-1] * 2))
    low, high = torch.tensor(ends).float().T
    voxels = brain.nonzero()
    label = thin[brain].long()
    count = torch.bincount(label, minlength=CLASSES).float()
    sums = torch.zeros(CLASSES, 3).index_add_(0, label, 2.0 * voxels)
    wanted = [CLASS_OF[name, side] for name in DEEP for side in ('left', 'right')]
    centre = torch.where(count[:, None] > 0, sums / count[:, None].clamp_min(1), (low + high) / 2)
    return low, high, centre[wanted]
