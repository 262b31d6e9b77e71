"""Outlines are drawn where the masks end."""

import numpy as np

from recipe.picture import OURS, REFERENCE, draw, outline


def test_outline_is_the_rim_inside_the_mask():
    mask = np.zeros((7, 8), bool)
    mask[1:6, 2:7] = True
    rim = outline(mask)
    assert rim.sum() == 16 and not rim[2:5, 3:6].any() and not (rim & ~mask).any()
    assert outline(np.ones((3, 3), bool)).sum() == 8        # the border of a picture is an edge too


def test_panels_show_scan_and_both_outlines():
    scan = np.linspace(0, 1, 80).reshape(8, 10)
    ours, reference = np.zeros((2, 8, 10), bool)
    ours[2:4, 2:5], reference[4:7, 5:9] = True, True
    image = draw(scan, ours, reference, 3)
    assert image.shape == (24, 63, 3) and image.dtype == np.uint8
    left, right = image[:, :30], image[:, 33:]
    assert (left == left[..., :1]).all()
    assert (right[6, 6] == OURS).all() and (right[12, 15] == REFERENCE).all()
    assert (right[0, 0] == left[0, 0]).all()
