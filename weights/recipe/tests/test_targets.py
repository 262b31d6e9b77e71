"""What is asked for is what the label maps hold."""

import torch

from recipe.anatomy import (CLASS_OF, MEMBERS, MEMBERS_SAGITTAL, MIRRORED, NOTHING, STRUCTURES,
                            TARGET_OF, TARGETS)
from recipe.batches import SAGITTAL, Targets
from recipe.prompts import VIEWS
from recipe.rng import Rng


def shown(phantom: torch.Tensor) -> torch.Tensor:
    """An axial slice of the phantom, [1, 48, 48]."""
    return phantom[0].flip(0, 1)[:, :, 24].T[None].contiguous()


def test_axial_masks_match_the_phantom(phantom):
    labels, targets, axial = shown(phantom), Targets('cpu'), torch.tensor([0])
    asked = [('thalamus', 'left'), ('thalamus', 'right'), ('thalamus', ''),
             ('third ventricle', ''), ('whole brain', ''), ('cerebellum', '')]
    row = torch.tensor([[TARGET_OF[target] for target in asked] + [NOTHING]])
    shares = targets.shares(labels)
    masks = targets.masks(shares, axial, row)[0]
    areas = targets.areas(shares, axial)[0]
    assert masks.shape == (7, 24, 24)
    want = [48, 48, 96, 16, 36 * 36, 0, 0]
    assert (4 * masks.sum((1, 2))).tolist() == want
    assert [areas[TARGET_OF[target]] for target in asked] == want[:-1]
    # the patient's right is on the left of the picture
    assert masks[1].nonzero()[:, 1].max() < 12 <= masks[0].nonzero()[:, 1].min()
    # x 23 and 24 are columns 24 and 23: the ventricle covers half of two columns of blocks
    assert set(masks[3].unique().tolist()) == {0, 0.5}


def test_sagittal_sided_targets_cover_both_sides():
    for name, side in TARGETS:
        row = MEMBERS_SAGITTAL[TARGET_OF[name, side]]
        assert (row == MEMBERS[TARGET_OF[name, '']]).all()
        assert (row == row[MIRRORED]).all()
    left = Targets('cpu')
    labels = torch.full((1, 4, 4), CLASS_OF['thalamus', 'right'], dtype=torch.uint8)
    asked = torch.tensor([[TARGET_OF['thalamus', 'left']]])
    shares = left.shares(labels)
    assert left.masks(shares, torch.tensor([SAGITTAL]), asked).sum() == 4
    assert left.masks(shares, torch.tensor([VIEWS.index('axial')]), asked).sum() == 0


def test_sides_split_a_structure():
    for name, structure in STRUCTURES.items():
        if structure.sided:
            left, right = (MEMBERS[TARGET_OF[name, side]] for side in ('left', 'right'))
            assert not (left & right).any()
            assert ((left | right) == MEMBERS[TARGET_OF[name, '']]).all()
            assert (left == right[MIRRORED]).all()


def test_both_sides_and_nothing_are_asked_for_together(phantom):
    targets = Targets('cpu')
    areas = targets.areas(targets.shares(shown(phantom)), torch.tensor([0]))
    chosen = targets.choose(areas.expand(64, -1), 32, Rng('cpu', 0, 0))
    both = sum({TARGET_OF['thalamus', s] for s in ('left', 'right')} <= set(row)
               for row in chosen.tolist())
    assert both > 16
    assert 0.04 < (chosen == NOTHING).float().mean() < 0.12
