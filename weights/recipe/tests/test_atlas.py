"""A displaced atlas is found out."""

import numpy as np

from recipe.atlas import by_displacement, mutual_information


def test_displacement_of_an_atlas_is_found():
    draw = np.random.default_rng(3)
    labels = np.zeros((24, 26, 22), np.int64)
    labels[6:18, 7:19, 5:16] = 1
    labels[9:13, 9:14, 8:12] = 2
    scan = np.choose(labels, (5, 60, 100)) + draw.normal(0, 2, labels.shape)
    off = np.roll(labels, (1, 0, -2), (0, 1, 2))
    found = by_displacement(scan, off, reach=3)
    assert max(found, key=found.get) == (-1, 0, 2)
    assert len(found) == 7 ** 3


def test_mutual_information_of_a_copy_is_its_entropy():
    label = np.array([0, 0, 1, 1, 2, 2, 2, 2])
    share = np.array([0.25, 0.25, 0.5])
    assert abs(mutual_information(label, label * 9) + (share * np.log(share)).sum()) < 1e-12
    assert mutual_information(label, np.zeros(8, np.int64)) < 1e-12
