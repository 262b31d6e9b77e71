"""Reference segmentation of whole volumes with the embedded default model, in float32 PyTorch.

    python volumes.py --data <data> --text <all-MiniLM-L6-v2> --out . [ch2] [ch2bet] [mni152]

The model is the recipe's (`weights/recipe`), the weights are `weights/zeus-mini.safetensors`, `<data>` holds the folders
colin27/ and mni152/.  Writes `volumes.json` (box, sentences, Dice and voxel counts per target and way of decoding)
and, for ch2, `volumes_ch2_axial2.nii.gz`: uint16, bit i = target i, on ch2's own grid.

The rules of the way from volume to mask stand in `weights/recipe/volumes.py`; sentences are
"Segment the {target} in this T1-weighted {view} MRI.".  The ways:

 axial1  every axial slice.
 axial2  axial slices 0, 2, 4, ... of the box; a slice between two of them is the mean of their clipped
         logits, one after the last of them a copy of it.
 fused   all slices of the three views, a sagittal one on its target's own half only.
 coronal, sagittal   that view alone (sagittal with that cut: nothing on the other side).
 unsided as fused, without the cut.
"""
import argparse
import glob
import json
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'weights'))
from recipe.export import load_exported  # noqa: E402
from recipe.prompts import VIEWS  # noqa: E402
from recipe.text import TextEncoder, padded  # noqa: E402
from recipe.volumes import Fusion, cut, decode, dice, head_box, load_volume, threshold  # noqa: E402

AAL = {'hippocampus': (37, 38), 'amygdala': (41, 42), 'caudate nucleus': (71, 72), 'putamen': (73, 74), 'pallidum': (75, 76), 'thalamus': (77, 78)}
WAYS = ('axial1', 'axial2', 'coronal', 'sagittal', 'fused', 'unsided')


def load(name, data):
    """-> volume and [(structure, side, ground truth)], on the RAS grid."""
    if name == 'mni152':
        t1, gm, wm = (load_volume(glob.glob(str(data / 'mni152' / f'mni_icbm152_{n}_*.nii.gz'))[0]) for n in ('t1', 'gm', 'wm'))
        return t1, [('gray matter', '', gm > 128), ('white matter', '', wm > 128), ('whole brain', '', gm + wm > 128)]
    labels = load_volume(data / 'colin27' / 'aal.nii.gz', 0)
    targets = [(k, s, labels == AAL[k][s == 'right']) for k in AAL for s in ('left', 'right')]
    targets.append(('cerebellum', '', (labels >= 91) & (labels <= 116)))
    return load_volume(data / 'colin27' / f'{name}.nii.gz'), targets


def every_second(logits):
    """Axial logits [..., z] of which only z = 0, 2, 4, ... are taken as known."""
    out = logits.copy()
    odd = np.arange(1, logits.shape[-1], 2)
    right = np.where(odd + 1 < logits.shape[-1], odd + 1, odd - 1)
    out[..., odd] = 0.5 * (logits[..., odd - 1] + logits[..., right])
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--data', required=True, type=Path)
    p.add_argument('--text', required=True, type=Path, help='folder of all-MiniLM-L6-v2')
    p.add_argument('--out', default='.', type=Path)
    p.add_argument('volumes', nargs='*', help='ch2, ch2bet, mni152 (all when none is given)')
    a = p.parse_args()
    torch.set_flush_denormal(True)
    net, encoder = load_exported(ROOT / 'weights' / 'zeus-mini.safetensors'), TextEncoder(a.text)
    file = a.out / 'volumes.json'
    results = json.loads(file.read_text()) if file.exists() else {}
    for name in a.volumes or ['ch2', 'ch2bet', 'mni152']:
        start = time.time()
        whole, targets = load(name, a.data)
        box = head_box(whole)
        volume, truths = whole[box], [t[box] for *_, t in targets]
        words = [f'{side} {key}'.strip() for key, side, _ in targets]
        sentences = {v: [f'Segment the {w} in this T1-weighted {v} MRI.' for w in words] for v in VIEWS}
        rows = {w: dict(truth=dict(voxels=int(t.sum()))) for w, t in zip(words, truths)}
        sides = [side for _, side, _ in targets]
        fused, unsided = Fusion(sides), Fusion([''] * len(sides))

        def record(way, mask):
            for w, m, t in zip(words, mask, truths):
                rows[w][way] = dict(dice=round(dice(m, t), 4), voxels=int(m.sum()))

        for view in VIEWS:
            with torch.no_grad():
                tokens = net.prompt_encoder(*padded(encoder(sentences[view])))
            logits, quality = decode(net, volume, view, tokens)
            if view == 'axial':
                record('axial1', cut(logits, {view: quality}))
                masks = cut(every_second(logits), {view: quality}, step=2)
                record('axial2', masks)
                if name == 'ch2':
                    bits = np.zeros(whole.shape, np.uint16)
                    for i, m in enumerate(masks):
                        bits[box] |= m.astype(np.uint16) << i
                    image = nib.load(str(a.data / 'colin27' / 'ch2.nii.gz'))
                    assert nib.aff2axcodes(image.affine) == ('R', 'A', 'S') and image.shape[:3] == whole.shape
                    nib.save(nib.Nifti1Image(bits, image.affine), str(a.out / 'volumes_ch2_axial2.nii.gz'))
                del masks
            fused.add(view, logits, quality)
            unsided.add(view, logits, quality)
            if view != 'axial':
                alone = Fusion(sides)
                alone.add(view, logits, quality)
                record(view, alone.masks())
            print(f'{name} {view} {time.time() - start:.0f} s', flush=True)
        record('fused', fused.masks())
        record('unsided', unsided.masks())
        mean = {way: round(float(np.mean([r[way]['dice'] for r in rows.values()])), 4) for way in WAYS}
        results[name] = dict(shape=list(whole.shape), threshold=float(threshold(whole)), box=[[s.start, s.stop] for s in box], sentences=sentences, targets=rows, mean_dice=mean)
        file.write_text(json.dumps(results, indent=1) + '\n')
        for n, r in rows.items():
            print(f'  {n:24s}', '  '.join(f"{way} {r[way]['dice']:.4f}" for way in mean))
        print('  mean', mean, flush=True)


if __name__ == '__main__':
    main()
