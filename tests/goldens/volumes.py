"""Reference segmentation of whole volumes with the embedded default model, in float32 PyTorch.

    python volumes.py --model <default-model> --data <data> --text <all-MiniLM-L6-v2> --out . [ch2] [ch2bet] [mni152]

`<default-model>` holds model.py, data.py and zeus-mini.safetensors, `<data>` the folders colin27/ and mni152/.
Writes `volumes.json` (box, sentences, Dice and voxel counts per target and way of decoding) and, for ch2,
`volumes_ch2_axial2.nii.gz`: uint16, bit i = target i, on ch2's own grid.

The rules, in order:
 1. RAS+, 1 mm; box = bounding box of voxels > 0.05 * 99.5th percentile (linear) of the positive voxels.
 2. A slice of a view is centred in 224x224, scaled by its own percentiles and decoded with the sentence
    "Segment the {target} in this T1-weighted {view} MRI."
 3. Its 112x112 logits are resized to 224x224 (bilinear, align_corners=False), cut back to the slice and
    clipped to [-10, 10]; voxels that no slice shows are -10.
 4. axial1  every axial slice; mask = logit > 0.
    axial2  axial slices 0, 2, 4, ... of the box; a slice between two of them is the mean of their clipped
            logits, one after the last of them a copy of it.
    fused   all slices of the three views; mask = sum_v w_v logit_v > 0 with w = predicted Dice of that slice
            and target + 0.001.  A sagittal slice does not show its side, so for a target with a side it
            counts only where that side is: with x = RAS index in the box and nx the box's width, x + 0.5 < nx / 2
            is the patient's left, > the right, the centre slice of an odd nx both.
    coronal, sagittal   that view alone (sagittal with the cut: nothing on the other side); mask = logit > 0.
    unsided as fused, without that cut (what evaluate.py calls "weighted"), for comparison.
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

AAL = {'hippocampus': (37, 38), 'amygdala': (41, 42), 'caudate': (71, 72), 'putamen': (73, 74), 'pallidum': (75, 76), 'thalamus': (77, 78)}
AXIS = {'axial': 2, 'coronal': 1, 'sagittal': 0}


def load(name, data, D):
    """-> volume, box, threshold, [(key, side, ground truth)], all on the RAS grid."""
    if name == 'mni152':
        t1, gm, wm = (D.load_volume(glob.glob(str(data / 'mni152' / f'mni_icbm152_{n}_*.nii.gz'))[0]) for n in ('t1', 'gm', 'wm'))
        targets = [('gray matter', '', gm > 128), ('white matter', '', wm > 128), ('whole brain', '', gm + wm > 128)]
        vol = t1
    else:
        vol, lab = D.load_volume(data / 'colin27' / f'{name}.nii.gz'), D.load_volume(data / 'colin27' / 'aal.nii.gz', 0)
        targets = [(k, s, lab == AAL[k][s == 'right']) for k in AAL for s in ('left', 'right')]
        targets.append(('cerebellum', '', (lab >= 91) & (lab <= 116)))
    threshold = 0.05 * np.percentile(vol[vol > 0], 99.5)
    inside = vol > threshold
    ends = [np.nonzero(inside.any(tuple(d for d in range(3) if d != a)))[0][[0, -1]] for a in range(3)]
    return vol, tuple(slice(int(a), int(b) + 1) for a, b in ends), float(threshold), targets


@torch.no_grad()
def decode(net, D, vol, view, text, batch=4):
    """One view of a cropped volume -> clipped logits [targets, *shape] and predicted Dice [targets, slices], float32."""
    n = vol.shape[AXIS[view]]
    out = np.full((len(text), *vol.shape), -10, np.float32)
    dice = np.zeros((len(text), n), np.float32)
    for start in range(0, n, batch):
        ks = range(start, min(start + batch, n))
        fits = [D.fit(np.ascontiguousarray(D.get_slice(vol, view, k))) for k in ks]
        x = D.normalise(torch.from_numpy(np.stack([f for f, _ in fits]))[:, None].float())
        low, quality = net(x, text[None].expand(len(x), -1, -1))
        full = net.full(low).clamp(-10, 10).numpy()
        for b, k in enumerate(ks):
            ys, xs, sy, sx = fits[b][1]
            for t in range(len(text)):
                image = D.get_slice(out[t], view, k).copy()
                image[sy, sx] = full[b, t][ys, xs]
                D.put_slice(out[t], view, k, image)
            dice[:, k] = quality[b].numpy()
    return out, dice


def every_second(logits):
    """Axial logits [..., z] of which only z = 0, 2, 4, ... are taken as known."""
    out = logits.copy()
    odd = np.arange(1, logits.shape[-1], 2)
    right = np.where(odd + 1 < logits.shape[-1], odd + 1, odd - 1)
    out[..., odd] = 0.5 * (logits[..., odd - 1] + logits[..., right])
    return out


def score(mask, truth):
    total = int(mask.sum()) + int(truth.sum())
    return round(2 * int((mask & truth).sum()) / total, 4) if total else None


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--model', required=True, type=Path)
    p.add_argument('--data', required=True, type=Path)
    p.add_argument('--text', required=True, help='folder of all-MiniLM-L6-v2')
    p.add_argument('--out', default='.', type=Path)
    p.add_argument('volumes', nargs='*', help='ch2, ch2bet, mni152 (all when none is given)')
    a = p.parse_args()
    sys.path.insert(0, str(a.model))
    import data as D
    from model import load_exported
    torch.set_flush_denormal(True)
    net, embed = load_exported(a.model / 'zeus-mini.safetensors').eval(), D.TextEncoder(a.text)
    file = a.out / 'volumes.json'
    results = json.loads(file.read_text()) if file.exists() else {}
    for name in a.volumes or ['ch2', 'ch2bet', 'mni152']:
        start = time.time()
        whole, box, threshold, targets = load(name, a.data, D)
        vol = whole[box]
        words = [(side + ' ' if side else '') + D.T[key][3][0] for key, side, _ in targets]
        truths = [t[box] for *_, t in targets]
        sentences = {v: [f'Segment the {w} in this T1-weighted {v} MRI.' for w in words] for v in D.VIEWS}
        masks, fused, unsided = {}, 0, 0
        rows = {w: dict(truth=dict(voxels=int(t.sum()))) for w, t in zip(words, truths)}

        def record(way, mask):
            for w, m, t in zip(words, mask, truths):
                rows[w][way] = dict(dice=score(m, t), voxels=int(m.sum()))

        x = np.arange(vol.shape[0]) + 0.5
        for view in D.VIEWS:
            logits, dice = decode(net, D, vol, view, embed(sentences[view]))
            if view == 'axial':
                record('axial1', logits > 0)
                masks = every_second(logits) > 0
                record('axial2', masks)
                if name == 'ch2':
                    bits = np.zeros(whole.shape, np.uint16)
                    for i, m in enumerate(masks):
                        bits[box] |= m.astype(np.uint16) << i
                    image = nib.load(str(a.data / 'colin27' / 'ch2.nii.gz'))
                    assert nib.aff2axcodes(image.affine) == ('R', 'A', 'S') and image.shape[:3] == whole.shape
                    nib.save(nib.Nifti1Image(bits, image.affine), str(a.out / 'volumes_ch2_axial2.nii.gz'))
                del masks
            w = np.expand_dims(dice, tuple(d + 1 for d in range(3) if d != AXIS[view])) + np.float32(1e-3)
            unsided = unsided + logits * w
            if view == 'sagittal':
                middle = vol.shape[0] / 2
                for i, (_, side, _) in enumerate(targets):
                    here = x <= middle if side == 'left' else x >= middle if side == 'right' else x > 0
                    logits[i] *= here[:, None, None]
            fused = fused + logits * w
            if view != 'axial':
                record(view, logits > 0)
            print(f'{name} {view} {time.time() - start:.0f} s', flush=True)
        record('fused', fused > 0)
        record('unsided', unsided > 0)
        mean = {way: round(float(np.mean([r[way]['dice'] for r in rows.values()])), 4) for way in ('axial1', 'axial2', 'coronal', 'sagittal', 'fused', 'unsided')}
        results[name] = dict(shape=list(whole.shape), threshold=threshold, box=[[s.start, s.stop] for s in box], sentences=sentences, targets=rows, mean_dice=mean)
        file.write_text(json.dumps(results, indent=1) + '\n')
        for n, r in rows.items():
            print(f'  {n:24s}', '  '.join(f"{way} {r[way]['dice']:.4f}" for way in mean))
        print('  mean', mean, flush=True)


if __name__ == '__main__':
    main()
