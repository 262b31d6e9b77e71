"""Reference values for tests/prepare.rs, from nibabel, numpy, scipy and the model's own data.py rules.

usage: python volume.py SHARED > volume.json      (SHARED holds data/)
needs: nibabel, numpy, scipy
"""
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import map_coordinates, zoom


def canonical(path):
    """data.py's load_volume: closest canonical axes, and 1 mm by scipy's zoom where needed."""
    image = nib.load(str(path))
    letters = ''.join(nib.aff2axcodes(image.affine))
    image = nib.as_closest_canonical(image)
    data = np.asarray(image.dataobj).astype(np.float32)
    sizes = np.array(image.header.get_zooms()[:3], float)
    resampled = bool(np.abs(sizes - 1).max() > 0.02)
    return letters, image, (zoom(data, sizes, order=1) if resampled else data), resampled


def crop(data):
    threshold = 0.05 * np.percentile(data[data > 0], 99.5)
    mask = data > threshold
    box = [np.nonzero(mask.any(tuple(d for d in range(3) if d != a)))[0][[0, -1]] for a in range(3)]
    return threshold, [int(b[0]) for b in box], data[tuple(slice(b[0], b[1] + 1) for b in box)]


def get_slice(data, view, k):
    if view == 'axial':
        return data[::-1, ::-1, k].T
    if view == 'coronal':
        return data[::-1, k, ::-1].T
    return data[k, ::-1, ::-1].T


def fit(image, size=224):
    h, w = image.shape
    out = np.zeros((size, size), image.dtype)
    y0, x0 = (size - h) // 2, (size - w) // 2
    ys, xs = slice(max(y0, 0), min(y0 + h, size)), slice(max(x0, 0), min(x0 + w, size))
    out[ys, xs] = image[max(-y0, 0):max(-y0, 0) + ys.stop - ys.start, max(-x0, 0):max(-x0, 0) + xs.stop - xs.start]
    return out


def normalise(image):
    s = np.sort(image.ravel())
    lo, hi = s[int(.005 * (s.size - 1))], s[int(.995 * (s.size - 1))]
    return np.clip((image - lo) / max(hi - lo, np.float32(1e-6)), 0, 1)


def volume(root, name):
    letters, image, data, resampled = canonical(root / 'data' / name)
    threshold, offset, part = crop(data)
    out = dict(file=name, letters=letters, resampled=resampled, shape=data.shape, sum=float(data.sum(dtype=np.float64)),
               threshold=float(threshold), offset=offset, cropped=part.shape, slices={})
    for axis, view in ((2, 'axial'), (1, 'coronal'), (0, 'sagittal')):
        k = int(part.shape[axis] * .4)
        x = normalise(fit(np.ascontiguousarray(get_slice(part, view, k)))).astype(np.float64)
        rows, cols = np.mgrid[:224, :224]
        out['slices'][view] = dict(index=k, sum=float(x.sum()), down=float((x * rows).sum()), across=float((x * cols).sum()))
    if resampled:
        # scipy's zoom lays the outermost centres onto each other; our grid has exactly 1 mm about the same centre
        source = np.asarray(image.dataobj).astype(np.float64)
        sizes = image.header.get_zooms()[:3]
        axes = [((np.arange(m) - (m - 1) / 2) / float(z) + (n - 1) / 2)[10::30] for m, n, z in zip(data.shape, source.shape, sizes)]
        samples = map_coordinates(source, np.meshgrid(*axes, indexing='ij'), order=1, mode='nearest')
        out['samples'] = [round(float(v), 3) for v in samples.ravel(order='F')]
    return out


def orientations(count=60):
    """Random oblique, sheared and mirrored affines with nibabel's canonical form."""
    rng = np.random.default_rng(7)
    out = []
    for _ in range(count):
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        a = np.eye(4)
        a[:3, :3] = q @ (np.eye(3) + .15 * rng.normal(size=(3, 3))) @ np.diag(rng.uniform(.4, 4, 3))
        a[:3, 3] = rng.uniform(-100, 100, 3)
        shape = [int(n) for n in rng.integers(2, 9, 3)]
        image = nib.as_closest_canonical(nib.Nifti1Image(np.zeros(shape, np.uint8), a))
        out.append(dict(affine=a[:3].tolist(), shape=shape, letters=''.join(nib.aff2axcodes(a)),
                        canonical=image.affine[:3].tolist(), canonical_shape=list(image.shape)))
    return out


def percentiles():
    """numpy's float32 percentiles, exact."""
    rng = np.random.default_rng(3)
    out = []
    for n in (1, 2, 3, 10, 201):
        v = np.round(rng.gamma(2, 50, n), 2).astype(np.float32)
        out.append(dict(values=v.tolist(), at=[[q, float(np.percentile(v, q))] for q in (0.5, 50, 99.5)]))
    return out


if __name__ == '__main__':
    root = Path(sys.argv[1])
    names = ['colin27/ch2.nii.gz', 'meshnet/t1_crop.nii.gz', 'spinalcord/t2.nii.gz', 'chris/chris_t1.nii.gz', 'chris/chris_PD.nii.gz', 'totalsegmentator/example_ct.nii.gz', 'totalsegmentator/example_mr_sm.nii.gz']
    json.dump(dict(volumes=[volume(root, n) for n in names], orientations=orientations(), percentiles=percentiles()), sys.stdout)
