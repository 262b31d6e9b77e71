"""A picture of where two outlines differ, for the model card's failures.

    python -m recipe.picture SCAN OURS REFERENCE OUT.png --ours 5,44 --reference 5 --view coronal

The three files share a grid.  Left is the scan alone; right, on the same slice, our outline (orange)
and the reference's (blue).  Unless told, the slice is the one with most of the reference.  Radiological:
the patient's left is on the right.
"""

import argparse
from pathlib import Path

import numpy as np

from .volumes import AXIS, as_slices, load_volume

OURS, REFERENCE = (255, 140, 0), (60, 170, 255)
MARGIN = 14             # pixels around both outlines


def outline(mask: np.ndarray) -> np.ndarray:
    """The rim of a mask, inside it: what has a neighbour outside."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def draw(scan: np.ndarray, ours: np.ndarray, reference: np.ndarray, zoom: int) -> np.ndarray:
    """One slice [rows, columns] and two masks of it -> two panels, uint8 [zoom * rows, ..., 3]."""
    low, high = np.percentile(scan, (0.5, 99.5))
    grey = np.clip((scan - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    larger = [np.kron(image, np.ones((zoom, zoom), image.dtype)) for image in
              (grey, ours, reference)]
    bare = np.repeat(larger[0][..., None], 3, 2)
    lined = bare.copy()
    for mask, colour in ((larger[2], REFERENCE), (larger[1], OURS)):
        lined[outline(mask)] = colour
    gap = np.full((len(bare), zoom, 3), 255, np.uint8)
    return np.concatenate([bare, gap, lined], 1)


def main() -> None:
    from PIL import Image
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ('scan', 'ours', 'reference', 'out'):
        parser.add_argument(name, type=Path)
    numbers = {'type': lambda text: [int(n) for n in text.split(',')], 'required': True}
    parser.add_argument('--ours', dest='of_ours', **numbers)
    parser.add_argument('--reference', dest='of_reference', **numbers)
    parser.add_argument('--view', choices=AXIS, default='coronal')
    parser.add_argument('--slice', type=int, help='its number in the view')
    parser.add_argument('--zoom', type=int, default=4)
    args = parser.parse_args()

    scan = as_slices(load_volume(args.scan), args.view)
    masks = [as_slices(np.isin(load_volume(path, 0), wanted), args.view) for path, wanted in
             ((args.ours, args.of_ours), (args.reference, args.of_reference))]
    chosen = args.slice
    if chosen is None:
        chosen = int(masks[1].sum((1, 2)).argmax())
    union = masks[0][chosen] | masks[1][chosen]
    if not union.any():
        raise SystemExit(f'slice {chosen} of the {args.view} view shows neither outline')
    box = tuple(slice(max(0, int(at.min()) - MARGIN), int(at.max()) + MARGIN + 1)
                for at in np.nonzero(union))
    image = draw(scan[chosen][box], *(mask[chosen][box] for mask in masks), args.zoom)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(args.out, optimize=True)
    print(f'{args.out}: slice {chosen} of the {args.view} view')


if __name__ == '__main__':
    main()
