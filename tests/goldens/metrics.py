"""Reference values for tests/reports.rs from DeepMind's surface-distance 0.1.

usage: python metrics.py > metrics.json
needs: surface-distance, numpy, scipy

A mask is written as the bits of its voxels in hexadecimal, first axis fastest.  NaN is null, infinity the string "inf".
"""
import json
import math

import numpy as np
from scipy import ndimage

# Names that newer numpy and scipy no longer have and surface-distance 0.1 asks for.
np.Inf, np.NaN = np.inf, np.nan
ndimage.filters = ndimage.morphology = ndimage

from surface_distance import lookup_tables, metrics  # noqa: E402

SPACINGS = [(1.0, 1.0, 1.0), (0.9375, 0.9375, 3.0), (2.0, 0.5, 1.25)]
TOLERANCES = [0.0, 1.0, 2.5]
PERCENTS = [50, 95, 100]


def number(value):
    value = float(value)
    return None if math.isnan(value) else 'inf' if math.isinf(value) else value


def packed(mask):
    return np.packbits(mask.ravel(order='F')).tobytes().hex()


def ball(shape, spacing, centre, radius):
    axes = np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, spacing)], indexing='ij')
    return sum((a - c * s) ** 2 for a, c, s in zip(axes, centre, spacing)) <= radius ** 2


def box(shape, low, high):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high))] = True
    return mask


def cases():
    draw = np.random.default_rng(7)
    empty = lambda shape: np.zeros(shape, bool)
    for n, spacing in enumerate(SPACINGS):
        shape = [(20, 17, 15), (23, 19, 9), (11, 29, 16)][n]
        middle = [m / 2 for m in shape]
        yield f'balls {n}', spacing, ball(shape, spacing, middle, 6.3), ball(shape, spacing, [m + 1.2 for m in middle], 5.1)
        yield f'one voxel apart {n}', spacing, box(shape, (3, 4, 5), (4, 5, 6)), box(shape, (8, 6, 3), (9, 7, 4))
        yield f'one voxel, the same {n}', spacing, box(shape, (3, 4, 5), (4, 5, 6)), box(shape, (3, 4, 5), (4, 5, 6))
        yield f'at every border {n}', spacing, box(shape, (0, 0, 0), shape), box(shape, (0, 2, 0), shape)
        yield f'in the corners {n}', spacing, box(shape, (0, 0, 0), (2, 3, 2)), box(shape, [m - 2 for m in shape], shape)
        yield f'noise {n}', spacing, draw.random((7, 6, 5)) < 0.5, draw.random((7, 6, 5)) < 0.3
        yield f'plates {n}', spacing, box(shape, (2, 2, 4), (9, 12, 5)), box(shape, (2, 2, 6), (9, 14, 7))
    yield 'truth empty', SPACINGS[1], empty((5, 6, 7)), box((5, 6, 7), (1, 1, 1), (3, 3, 3))
    yield 'prediction empty', SPACINGS[1], box((5, 6, 7), (1, 1, 1), (3, 3, 3)), empty((5, 6, 7))
    yield 'both empty', SPACINGS[1], empty((5, 6, 7)), empty((5, 6, 7))
    yield 'one voxel is all there is', SPACINGS[2], np.ones((1, 1, 1), bool), np.ones((1, 1, 1), bool)
    yield 'a flat volume', SPACINGS[2], draw.random((13, 1, 12)) < 0.4, draw.random((13, 1, 12)) < 0.4


def scores(truth, prediction, spacing):
    d = metrics.compute_surface_distances(truth, prediction, spacing)
    sums = [np.sum(d['distances_gt_to_pred'] * d['surfel_areas_gt']), np.sum(d['distances_pred_to_gt'] * d['surfel_areas_pred'])]
    areas = [np.sum(d['surfel_areas_gt']), np.sum(d['surfel_areas_pred'])]
    both = bool(truth.any() and prediction.any())
    # The symmetric mean is both lists pooled; of one empty list it is infinite, of two it is nothing.
    pooled = sum(sums) / sum(areas) if both else np.nan if not (truth.any() or prediction.any()) else np.inf
    hausdorff = [metrics.compute_robust_hausdorff(d, p) if truth.any() or prediction.any() else np.nan for p in PERCENTS]
    return {
        'dice': number(metrics.compute_dice_coefficient(truth, prediction)),
        'surface_dice': [number(metrics.compute_surface_dice_at_tolerance(d, t)) for t in TOLERANCES],
        'hausdorff': [number(h) for h in hausdorff],
        'mean': [number(s / a) for s, a in zip(sums, areas)] if both else None,
        'pooled_mean': number(pooled),
        'areas': [number(a) for a in areas],
    }


def main():
    np.seterr(all='ignore')
    rows = []
    for name, spacing, truth, prediction in cases():
        rows.append({'name': name, 'spacing': spacing, 'shape': truth.shape, 'truth': packed(truth),
                     'prediction': packed(prediction), **scores(truth, prediction, spacing)})
    tables = [{'spacing': s, 'areas': [float(a) for a in lookup_tables.create_table_neighbour_code_to_surface_area(s)]} for s in SPACINGS]
    print(json.dumps({'tolerances': TOLERANCES, 'percents': PERCENTS, 'areas': tables, 'cases': rows}, separators=(',', ':')))


main()
