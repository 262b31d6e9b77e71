"""Masks are cut out of fused logits as the engine does it."""

import numpy as np

from recipe.volumes import LIMIT, Fusion, cut


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_a_mask_is_cut_lower_where_a_lower_dice_is_predicted():
    # four voxels along x, axial slices: one slice of each prompt
    p = np.array([0.9, 0.46, 0.4, 0.37], np.float32)
    logits = np.log(p / (1 - p)).reshape(1, 4, 1, 1).repeat(4, 0)
    # (1 + max(d, 1 - d)) / 4: 0.5, 0.45, 0.375 and 0.475
    masks = cut(logits, {'axial': np.array([[1.], [0.8], [0.5], [0.1]])})
    assert masks.reshape(4, 4).sum(1).tolist() == [1, 2, 3, 1]


def test_slices_speak_by_their_area():
    logits = np.full((1, 10, 1, 2), -LIMIT, np.float32)
    logits[0, :9, 0, 0] = LIMIT         # nine voxels of the first slice, one of the second
    logits[0, 0, 0, 1] = LIMIT
    logits[0, 9, 0, 0] = logit(0.44)
    # 0.9 * 0.7 + 0.1 * 1 = 0.73: cut at 0.4325; by the mean of the slices, 0.85, at 0.4625
    assert cut(logits, {'axial': np.array([[0.7, 1.]])}).sum() == 11
    # with a step of 2 the second slice says nothing
    logits[0, 9, 0, 0] = logit(0.43)
    assert cut(logits, {'axial': np.array([[0.7, 1.]])}).sum() == 10
    assert cut(logits, {'axial': np.array([[0.7, 1.]])}, step=2).sum() == 11


def test_a_sagittal_view_speaks_for_its_own_half():
    draw = np.random.default_rng(5)
    shape = (2, 6, 4, 3)
    views = {'axial': 3, 'sagittal': 6}
    logits = {view: draw.normal(0, 3, shape).astype(np.float32) for view in views}
    dice = {view: draw.uniform(0.9, 1, (2, n)).astype(np.float32) for view, n in views.items()}
    fusion = Fusion(['left', ''])
    for view in views:
        fusion.add(view, logits[view], dice[view])
    masks = fusion.masks()
    # the right half of what is on the left is the axial view's alone
    axial = logits['axial'][0, 3:]
    assert ((axial > 0) <= masks[0, 3:]).all() and (masks[0, 3:] <= (axial > logit(0.475))).all()
    both = sum(logits[v][1] * (np.expand_dims(dice[v][1], [a for a in range(3) if a != axis]) + 1e-3)
               for v, axis in (('axial', 2), ('sagittal', 0)))
    assert ((both > 0) <= masks[1]).all() and masks[1].sum() < (both > -1).sum()
