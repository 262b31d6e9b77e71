"""Does an atlas lie where its scan's anatomy is?  Mutual information of both, by displacement.

    python -m recipe.atlas SCAN LABELS

SCAN and LABELS share a grid.  Printed is the mutual information of intensities and labels, nothing
else looked at, for every displacement of the labels of a few millimetres (at 1 mm a voxel): of two
images that belong together it is greatest at none.  Of mricron's Colin27 and its AAL it is greatest
with the labels 2 mm lower and 1 mm further back; of the scan with its skull also 1 mm to the
left, by a ten-thousandth of a nat.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np

BINS = 64
REACH = 4           # voxels each way


def mutual_information(label: np.ndarray, grey: np.ndarray) -> float:
    """Nats, of labels and of intensities cut into BINS levels, both of one shape."""
    counts = np.bincount(label.ravel() * BINS + grey.ravel(),
                         minlength=BINS * (int(label.max()) + 1))
    joint = counts.reshape(-1, BINS) / label.size
    both = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / both[seen])).sum())


def by_displacement(scan: np.ndarray, labels: np.ndarray, reach: int = REACH
                    ) -> dict[tuple[int, int, int], float]:
    """Mutual information for every displacement of the labels, in voxels of the first, second and
    third axis; always over the same voxels of the scan."""
    grey = np.clip(scan / np.percentile(scan, 99.8) * (BINS - 1), 0, BINS - 1).astype(np.int64)
    grey = grey[(slice(reach, -reach),) * 3]
    moves = range(-reach, reach + 1)

    def moved(by: tuple[int, int, int]) -> np.ndarray:
        box = tuple(slice(reach - d, size - reach - d) for d, size in zip(by, labels.shape))
        return labels[box]

    return {by: mutual_information(moved(by), grey) for by in product(moves, repeat=3)}


def main() -> None:
    from .volumes import load_volume
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('scan', type=Path)
    parser.add_argument('labels', type=Path)
    args = parser.parse_args()
    scan, labels = load_volume(args.scan), load_volume(args.labels, 0).astype(np.int64)
    found = by_displacement(scan, labels)
    print('to the right, forwards, up (voxels): nats')
    for by in sorted(found, key=found.get, reverse=True)[:5]:
        print(f'{by}: {found[by]:.4f}')
    print(f'as it is: {found[0, 0, 0]:.4f}')


if __name__ == '__main__':
    main()
