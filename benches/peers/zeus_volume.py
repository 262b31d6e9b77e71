"""PyTorch beside keraunos at the main job: a whole scan, its three views, every structure.

    cargo build --release
    pip install -r weights/recipe/requirements.txt
    python benches/peers/zeus_volume.py [--threads N] [--rounds N] [--device cpu|cuda] SCAN       (of 1 mm)

Both sides read the same file, run the embedded weights by the same rules (`weights/recipe/volumes.py`) on the built-in
instructions, and end with a mask of each structure on the scan's grid.  keraunos' seconds are those of its whole
process, from its start to the written label map, table, preview and report; PyTorch's, which is eager and f32, begin
when everything is imported and end with the masks in memory.  Each is a process of its own, in turns, with the most
memory that it held.

First, before the clock, every mask of PyTorch's is held against keraunos' probabilities, cut where its table says.  PyTorch
reads weights that were rounded to f16 too, so what is left is the order of sums: the least Dice is printed, and
below 0.99 the run ends.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from published import ROOT, measured

PROGRAM = Path(os.environ.get('CARGO_TARGET_DIR', ROOT / 'target')) / 'release/keraunos'
VIEWS = ('axial', 'coronal', 'sagittal')
LEAST_DICE = 0.99
SMALLEST = 100              # voxels below which a Dice says nothing of sums


def asked(report: Path) -> tuple[list[dict], list[str]]:
    """The instructions of a report, and the side of each target."""
    written = json.loads(report.read_text())['instructions']
    words = [one['structure'].split()[0] for one in written]
    return written, [word if word in ('left', 'right') else '' for word in words]


def by_torch(scan: str, report: str, masks: str, device: str, threads: int) -> None:
    """Prints the seconds of PyTorch from the file to the masks, and writes these."""
    import numpy as np
    import torch
    from safetensors import safe_open

    sys.path.insert(0, str(ROOT / 'weights'))
    from recipe.export import TOKENS, load_exported
    from recipe.model import full_size
    from recipe.volumes import AXIS, FLOOR, LIMIT, as_slices, cut, head_box, load_volume, own_half, pictures, window

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    written, sides = asked(Path(report))
    path = ROOT / 'weights/zeus-mini.safetensors'
    with safe_open(path, 'pt') as file:
        texts, tokens = json.loads(file.metadata()['instructions']), file.get_tensor(TOKENS).float()
    model = load_exported(path).to(device)
    size, image_pe = model.config.image_size, model.prompt_encoder.image_pe
    batch = 4 if device == 'cpu' else 32

    # The axes [P, x, y, z] of slices [P, n, rows, columns], once both are turned round.
    axes = {'axial': (0, 3, 2, 1), 'coronal': (0, 3, 1, 2), 'sagittal': (0, 1, 3, 2)}

    @torch.inference_mode()
    def segment() -> np.ndarray:
        whole = load_volume(Path(scan))
        box = head_box(whole)
        volume = whole[box]
        total, weight, predicted = torch.zeros((), device=device), 0.0, {}
        for view in VIEWS:
            prompts = tokens[[texts.index(one['text'].replace('<view>', view)) for one in written]].to(device)
            slices = as_slices(volume, view)
            count, rows, columns = slices.shape
            (ys, sy), (xs, sx) = window(rows, size), window(columns, size)
            logits = torch.full((len(prompts), count, rows, columns), -LIMIT, device=device)
            dice = torch.zeros(len(prompts), count, device=device)
            for start in range(0, count, batch):
                part = pictures(slices[start:start + batch], size).to(device)
                neck, skips = model.image_encoder(part, {})
                low, quality = model.mask_decoder(neck, skips, image_pe, prompts.expand(len(part), -1, -1), {})
                full = full_size(low)[:, :, sy, sx].clamp(-LIMIT, LIMIT)
                logits[:, start:start + len(part), ys, xs] = full.transpose(0, 1)
                dice[:, start:start + len(part)] = quality.T
            w = dice + FLOOR
            if view == 'sagittal':
                w *= torch.from_numpy(np.stack([own_half(count, side) for side in sides])).to(device)
            logits *= w[:, :, None, None]
            total = total + logits.flip(2, 3).permute(axes[view])
            weight = weight + w.reshape(len(w), *(count if axis == AXIS[view] else 1 for axis in range(3)))
            predicted[view] = dice.cpu().numpy()
        mean = torch.where(weight > 0, total.div_(weight), -torch.inf)
        out = np.zeros((len(written), *whole.shape), bool)
        out[(slice(None), *box)] = cut(mean.cpu().numpy(), predicted)
        return out

    start = time.perf_counter()
    found = segment()
    print(time.perf_counter() - start)
    if masks:
        np.save(masks, np.packbits(found.reshape(len(found), -1), axis=1))


def compared(folder: Path, masks: Path) -> float:
    """The least Dice of PyTorch's masks with keraunos', of those that are more than a few voxels."""
    import nibabel
    import numpy as np

    statistics_file, = folder.glob('*_stats.json')
    rows, least = json.loads(statistics_file.read_text()), 1.0
    stored = np.load(masks)
    assert len(rows) == len(stored)
    for row, bits in zip(rows, stored):
        name = ''.join(word.capitalize() for word in row['name'].split())
        file, = folder.glob(f'*_label-{name}_probseg.nii.gz')
        ours = nibabel.as_closest_canonical(nibabel.load(file)).get_fdata(dtype=np.float32) > row['threshold']
        theirs = np.unpackbits(bits, count=ours.size).astype(bool).reshape(ours.shape)
        both = int(ours.sum()) + int(theirs.sum())
        if both > 2 * SMALLEST:
            least = min(least, 2 * int((ours & theirs).sum()) / both)
    return least


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--threads', type=int, default=os.cpu_count())
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--device', default='cpu')
    p.add_argument('--as', dest='torch', nargs=2, help=argparse.SUPPRESS)
    p.add_argument('scan', type=Path)
    a = p.parse_args()
    if a.torch:
        return by_torch(a.scan, *a.torch, a.device, a.threads)
    with tempfile.TemporaryDirectory() as folder:
        folder, scan = Path(folder), a.scan.resolve()
        segment = [PROGRAM, 'segment', scan, '--instruct', 'stock', '--quiet', '-o', folder / 'ours']
        measured([*segment, '--save-probabilities'])
        report, = (folder / 'ours').glob('*_report.json')
        size, = (one['voxel_size'] for one in json.loads(report.read_text())['inputs'])
        if any(abs(mm - 1) > 0.01 for mm in size):
            raise SystemExit(f'{scan}: voxels of {size} mm; PyTorch\'s side does not bring masks back from 1 mm')
        rival = [sys.executable, __file__, '--threads', str(a.threads), '--device', a.device, scan, '--as', report]
        measured([*rival, folder / 'masks.npy'])
        least = compared(folder / 'ours', folder / 'masks.npy')
        print(f'{len(asked(report)[0])} masks, the least Dice of one with PyTorch\'s {least:.4f}')
        if least < LEAST_DICE:
            raise SystemExit('keraunos and PyTorch draw something else')
        for file in (folder / 'ours').glob('*_probseg.nii.gz'):
            file.unlink()
        times, memory = {'keraunos': [], f'PyTorch, {a.device}': []}, [0.0, 0.0]
        ours, theirs = times.values()
        for _ in range(a.rounds):
            start = time.perf_counter()
            _, most = measured(segment)
            ours.append(time.perf_counter() - start)
            memory[0] = max(memory[0], most)
            text, most = measured([*rival, ''])
            theirs.append(float(text))
            memory[1] = max(memory[1], most)
        ratio = statistics.median(b / a for a, b in zip(ours, theirs))
        for (who, turns), most in zip(times.items(), memory):
            print(f'{who:15} {min(turns):.1f} to {max(turns):.1f} s, {most:.2f} GB')
        print(f'PyTorch takes {ratio:.2f} times as long as keraunos')


if __name__ == '__main__':
    main()
