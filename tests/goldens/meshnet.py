"""MeshNet's goldens, computed by PyTorch.

    python meshnet.py tiny --out .                     two small networks by chance, every layer of them
    python meshnet.py block FOLDER T1 --out .          a network of brainchop's on 64 x 64 x 64 voxels of a real scan
    python meshnet.py conform SCAN --out .             what nibabel's `conform` makes of a scan, sampled
    python meshnet.py whole FOLDER SCAN --out OUT.nii.gz   the same network on the whole scan, timed
    python meshnet.py slices FOLDER SCAN --out .       every fourth voxel along each axis of that map
    python meshnet.py dice A.nii.gz B.nii.gz           Dice of every class of two label maps

FOLDER holds `model.json` and its weights as neuroneural/brainchop ships them (TensorFlow.js).  A volume is conformed by
nibabel to 256 x 256 x 256 voxels of 1 mm, LIA; its first axis is that of a kernel's first.  Goldens of the small networks
are computed in float64 and rounded once; the real ones in float32, as brainchop does.
"""
import argparse
import json
import resource
import time
from pathlib import Path

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from nibabel.processing import conform, resample_from_to

from store import save

ACTIVATION = {'none': lambda x: x, 'linear': lambda x: x, 'relu': F.relu, 'elu': F.elu, 'gelu': F.gelu}
EPS = 1e-5


def forward(layers, x, keep=None):
    """layers: (name, weight, bias, dilation, norm, activation); x (D, H, W) -> logits (classes, D, H, W)."""
    x = x[None, None]
    for name, weight, bias, dilation, norm, activation in layers:
        x = F.conv3d(x, weight, bias, padding=weight.shape[-1] // 2 * dilation, dilation=dilation)
        if norm:
            x = F.instance_norm(x, eps=EPS)
        x = ACTIVATION[activation](x)
        if keep is not None:
            keep[name] = x[0].permute(1, 2, 3, 0)
    return x[0]


# ------------------------------------------------------------------ small networks
def tiny(out):
    torch.manual_seed(7)
    goldens = {}
    cases = {'elu': ([1, 2, 4, 1], 6, 3, False, (9, 7, 10)), 'gelu_norm': ([4, 2, 1, 2, 1], 5, 2, True, (8, 9, 6))}
    for case, (dilations, channels, classes, norm, size) in cases.items():
        layers, tensors, listed, before = [], {}, [], 1
        for n, dilation in enumerate(dilations + [0]):
            last = dilation == 0
            own, k = (classes, 1) if last else (channels, 3)
            activation = 'none' if last else case.split('_')[0]
            name = 'output' if last else f'conv3d_{n}'
            weight = (torch.randn(own, before, k, k, k) * (2 / before / k ** 3) ** 0.5).float()
            bias = None if norm and not last else (torch.randn(own) * 0.3).float()
            tensors[f'{name}.weight'] = weight.numpy()
            if bias is not None:
                tensors[f'{name}.bias'] = bias.numpy()
                bias = bias.double()
            layers.append((name, weight.double(), bias, max(dilation, 1), norm and not last, activation))
            listed.append(dict(name=name, in_channels=before, out_channels=own, kernel_size=k, dilation=max(dilation, 1),
                               activation=activation) | ({'instance_norm': EPS} if norm and not last else {}))
            before = own
        names = ['background'] + [f'class {n}' for n in range(1, classes)]
        metadata = dict(architecture='MeshNet', layers=json.dumps(listed), classes=json.dumps(names))
        save(out / f'meshnet_{case}.safetensors', tensors, metadata)
        x = torch.rand(size).float()
        kept = {}
        logits = forward(layers, x.double(), kept)
        goldens[f'{case}.x'] = x.numpy()
        goldens.update({f'{case}.{name}': y.float().numpy() for name, y in kept.items() if name != 'output'})
        goldens[f'{case}.classes'] = logits.argmax(0).numpy().astype(np.uint8)
    print('meshnet_layers.safetensors', save(out / 'meshnet_layers.safetensors', goldens))


# ------------------------------------------------------------------ brainchop's networks
def read(folder):
    """The layers of a TensorFlow.js folder, and whether intensities go by quantiles."""
    model = json.loads((folder / 'model.json').read_text())
    tensors = {}
    for group in model['weightsManifest']:
        raw, at = np.frombuffer(b''.join((folder / path).read_bytes() for path in group['paths']), '<f4'), 0
        for entry in group['weights']:
            count = int(np.prod(entry['shape']))
            tensors[entry['name']] = torch.tensor(raw[at:at + count]).view(entry['shape'])
            at += count
    layers, pending = [], []
    for layer in model['modelTopology']['model_config']['config']['layers']:
        config = layer['config']
        if layer['class_name'] == 'Conv3D':
            name = config['name']
            kernel = tensors[f'{name}/kernel'].permute(4, 3, 0, 1, 2).contiguous()
            # brainchop normalises after the convolutions whose name ends in _gn
            pending = [name, kernel, tensors.get(f'{name}/bias'), config['dilation_rate'][0], name.endswith('_gn')]
            if name == 'output':
                layers.append((*pending, 'none'))
        elif layer['class_name'] == 'Activation':
            layers.append((*pending, config['activation']))
    return layers, 'quantile' in model.get('_comment', '')


def conformed(scan):
    """In float32, so that nothing is rounded to whole numbers."""
    scan = nibabel.load(scan)
    scan = nibabel.Nifti1Image(scan.get_fdata(dtype=np.float32), scan.affine)
    return conform(scan, (256, 256, 256), (1, 1, 1), order=1, orientation='LIA')


def prepare(scan, quantiles):
    """The conformed volume scaled to 0..1, its affine, and the box that is looked at without a norm."""
    image = conformed(scan)
    volume = image.get_fdata(dtype=np.float32)
    inside = volume > volume.min() + 0.02 * (volume.max() - volume.min())
    box = tuple(slice(max(0, int(i.min()) - 8), int(i.max()) + 9) for i in np.nonzero(inside))
    low, high = volume.min(), volume.max()
    if quantiles:
        ordered = np.sort(volume, None)
        low, high = ordered[int(np.floor(ordered.size * 0.05))], ordered[int(np.ceil(ordered.size * 0.95)) - 1]
    return (volume - low) / (high - low), image.affine, box, (low, high)


def sample(scan, out):
    image = conformed(scan)
    _, _, box, between = prepare(scan, True)
    blocks = (np.add.outer(np.add.outer(np.arange(256) // 8 * 31, np.arange(256) // 8 * 7), np.arange(256) // 8) % 251).astype(np.uint8)
    back = resample_from_to(nibabel.Nifti1Image(blocks, image.affine), nibabel.load(scan), order=0)
    back = np.asarray(back.dataobj)
    tensors = {'affine': image.affine[:3], 'values': image.get_fdata(dtype=np.float32)[5::13, 5::13, 5::13].copy(),
               'box': np.array([[at.start, at.stop] for at in box], np.int32), 'between': np.array(between, np.float32),
               'back': back[::11, ::11, ::11].astype(np.int32)}
    name = f'meshnet_{Path(scan.stem).stem}.safetensors'
    print(name, save(out / name, tensors))


def block(folder, scan, out):
    layers, quantiles = read(folder)
    volume, _, _, _ = prepare(scan, quantiles)
    middle = [int(i.mean()) for i in np.nonzero(volume > 0.3)]
    part = tuple(slice(at - 32, at + 32) for at in middle)
    kept = {}
    logits = forward(layers, torch.from_numpy(np.ascontiguousarray(volume[part])), kept)
    classes = logits.argmax(0).numpy().ravel()
    best, second = logits.topk(2, 0).values
    last = list(kept)[-2]
    tensors = {
        'first': np.array([at.start for at in part], np.int32),
        **runs(classes),
        'near': np.flatnonzero(best - second < 1e-3).astype(np.int32),  # voxels that rounding may give another class
        last: kept[last][::8, ::8, ::8].contiguous().numpy(),
    }
    name = f'meshnet_{folder.name}.safetensors'
    print(name, save(out / name, tensors), 'voxels of each class:', np.bincount(classes).tolist())


def runs(classes):
    """Equal neighbours as one: how many, and of which class."""
    begins = np.flatnonzero(np.diff(classes, prepend=-1))
    return {'lengths': np.diff(begins, append=classes.size).astype(np.int32), 'values': classes[begins].astype(np.uint8)}


def slices(folder, scan, out):
    labels = classify(folder, scan)
    name = f'meshnet_whole_{folder.name}.safetensors'
    print(name, save(out / name, runs(np.asarray(labels.dataobj)[::4, ::4, ::4].astype(np.int32).ravel(order='F'))))


def whole(folder, scan, out):
    labels = classify(folder, scan)
    nibabel.save(nibabel.Nifti1Image(np.asarray(labels.dataobj).astype(np.uint8), labels.affine), out)


def classify(folder, scan):
    """The map of the whole scan on its own grid."""
    layers, quantiles = read(folder)
    volume, affine, box, _ = prepare(scan, quantiles)
    if any(norm for _, _, _, _, norm, _ in layers):
        box = (slice(None),) * 3                                    # its moments are those of the whole volume
    x = torch.from_numpy(np.ascontiguousarray(volume[box]))
    start = time.perf_counter()
    with torch.no_grad():
        logits = forward(layers, x)
        classes = np.zeros(volume.shape, np.uint8)
        classes[box] = logits.argmax(0).numpy()
    seconds = time.perf_counter() - start
    print(f'{tuple(x.shape)} in {seconds:.1f} s by {torch.get_num_threads()} threads, '
          f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB at most')
    return resample_from_to(nibabel.Nifti1Image(classes, affine), nibabel.load(scan), order=0)


def dice(a, b):
    a, b = (np.asarray(nibabel.load(path).dataobj).astype(int) for path in (a, b))
    for label in range(1, max(a.max(), b.max()) + 1):
        one, other = a == label, b == label
        print(f'{label:3d} {one.sum():9d} {other.sum():9d} {2 * (one & other).sum() / max(1, one.sum() + other.sum()):.5f}')
    print('other voxels:', int((a != b).sum()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=['tiny', 'block', 'conform', 'whole', 'slices', 'dice'])
    parser.add_argument('paths', nargs='*', type=Path)
    parser.add_argument('--out', type=Path, default=Path('.'))
    args = parser.parse_args()
    with torch.no_grad():
        if args.what == 'tiny':
            tiny(args.out)
        elif args.what == 'block':
            block(*args.paths, args.out)
        elif args.what == 'conform':
            sample(*args.paths, args.out)
        elif args.what in ('whole', 'slices'):
            (whole if args.what == 'whole' else slices)(*args.paths, args.out)
        else:
            dice(*args.paths)


if __name__ == '__main__':
    main()
