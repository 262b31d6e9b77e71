"""The slab of a head that `keraunos doctor` segments, and PyTorch's masks of it.

    python trial.py --labels <labels> --text <all-MiniLM-L6-v2> --out ../../weights/trial

The head is the 18th of the label maps, which no training saw, painted as T1 (`weights/recipe/phantoms.py`): 16 axial slices
through the thalamus, 1 mm, RAS, uint8.  Writes `scan.nii.gz` and `masks.nii.gz`: uint8, bit i = target i, made in
float32 from every axial slice of the slab by the rules of `weights/recipe/volumes.py`.
"""
import argparse
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'weights'))
from recipe.anatomy import CLASS_OF  # noqa: E402
from recipe.export import load_exported  # noqa: E402
from recipe.paint import T1  # noqa: E402
from recipe.phantoms import paint_volume  # noqa: E402
from recipe.rng import Rng  # noqa: E402
from recipe.slices import load_label_map  # noqa: E402
from recipe.text import TextEncoder, padded  # noqa: E402
from recipe.volumes import cut, decode, head_box, load_volume  # noqa: E402

# in the order of TARGETS in src/pipeline/trial.rs
TARGETS = ('left thalamus', 'right thalamus', 'left putamen', 'right putamen',
           'left caudate nucleus', 'right caudate nucleus', 'left lateral ventricle', 'right lateral ventricle')


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--labels', required=True, type=Path)
    p.add_argument('--text', required=True, type=Path)
    p.add_argument('--out', required=True, type=Path)
    a = p.parse_args()
    torch.set_flush_denormal(True)
    classes = load_label_map(sorted(a.labels.glob('*.nii*'))[17])
    thalamus = torch.isin(classes, torch.tensor([CLASS_OF['thalamus', side] for side in ('left', 'right')]))
    middle = int(thalamus.nonzero()[:, 2].float().mean())
    scan = paint_volume(classes, T1, Rng('cpu', 7, 0)).numpy()
    head = np.argwhere(classes.numpy() > 0)
    (x0, y0, _), (x1, y1, _) = head.min(0), head.max(0) + 1
    slab = scan[x0:x1, y0:y1, middle - 8:middle + 8]
    slab = np.clip(200 * slab / np.percentile(slab, 99.5), 0, 255).round().astype(np.uint8)
    # coarse steps compress, and are finer than the noise of a scan
    slab = (slab // 8 * 8).astype(np.uint8)
    affine = np.eye(4)
    affine[:3, 3] = [-slab.shape[0] / 2, -slab.shape[1] / 2, 0]
    image = nib.Nifti1Image(slab, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    a.out.mkdir(parents=True, exist_ok=True)
    nib.save(image, a.out / 'scan.nii.gz')

    net, encoder = load_exported(ROOT / 'weights' / 'zeus-mini.safetensors'), TextEncoder(a.text)
    whole = load_volume(a.out / 'scan.nii.gz')
    box = head_box(whole)
    sentences = [f'Segment the {name} in this T1-weighted axial MRI.' for name in TARGETS]
    with torch.no_grad():
        tokens = net.prompt_encoder(*padded(encoder(sentences)))
    logits, quality = decode(net, whole[box], 'axial', tokens)
    bits = np.zeros(whole.shape, np.uint8)
    for i, mask in enumerate(cut(logits, {'axial': quality})):
        bits[box] |= mask.astype(np.uint8) << i
        print(f'{TARGETS[i]:26s} {int(mask.sum())} voxels')
    nib.save(nib.Nifti1Image(bits, affine), a.out / 'masks.nii.gz')


if __name__ == '__main__':
    main()
