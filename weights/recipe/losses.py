"""What training minimises: masks, their predicted quality, and at first every pixel's class."""

from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

PRESENT = 2                 # a mask of fewer low-resolution pixels counts as empty
SMOOTH_DICE, SMOOTH_AREA = 5, 120


class MaskLosses(NamedTuple):
    """Scalars, but for `dice` [B, P]: the Dice of the thresholded mask, 0 where it is absent."""

    mask: Tensor
    quality: Tensor
    dice: Tensor


def mask_losses(logits: Tensor, predicted: Tensor, mask: Tensor) -> MaskLosses:
    """logits and mask [B, P, L, L], predicted Dice [B, P].

    Cross-entropy is summed over a mask and divided by the area of what is and what is drawn, so
    that forty pixels of amygdala weigh as much as four thousand of cortex.
    """
    x, t = logits.float().flatten(2), mask.float().flatten(2)
    p = x.sigmoid()
    true, drawn, both = t.sum(2), p.sum(2), (p * t).sum(2)
    soft = 1 - (2 * both + SMOOTH_DICE) / (true + drawn + SMOOTH_DICE)
    soft = torch.where(true > PRESENT, soft, 0.3 * soft)
    entropy = F.binary_cross_entropy_with_logits(x, t, reduction='none').sum(2)
    entropy = entropy / (true + drawn.detach() + SMOOTH_AREA)
    with torch.no_grad():
        h, g = x > 0, t > 0.5
        dice = 2 * (h & g).sum(2) / (h.sum(2) + g.sum(2)).clamp_min(1)
    return MaskLosses((soft + entropy).mean(), F.mse_loss(predicted, dice), dice)


class DenseHead(nn.Module):
    """Training only: the class of every pixel, straight from the upscaled pixels.

    It teaches the encoder small structures before the words' path has found them.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(channels, classes, 1)

    def forward(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """pixels [B, C, L, L], classes [B, L, L] -> cross-entropy, half of it balanced by class."""
        entropy = F.cross_entropy(self.classify(pixels).float(), classes, reduction='none')
        count = self.classify.out_channels
        index, flat = classes.flatten(), entropy.flatten()
        area = torch.zeros(count, device=flat.device).index_add_(0, index, torch.ones_like(flat))
        total = torch.zeros(count, device=flat.device).index_add_(0, index, flat)
        balanced = (total / area.clamp_min(1)).sum() / (area > 0).sum()
        return 0.5 * flat.mean() + 0.5 * balanced
