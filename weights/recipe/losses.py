"""What training minimises: masks, their predicted quality, and at first every pixel's class."""

from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

PRESENT = 2                 # a mask of fewer low-resolution pixels counts as empty
SMOOTH_DICE, SMOOTH_AREA = 5, 120


class MaskLosses(NamedTuple):
    """Two scalars; then for every prompt [B, P] the Dice of the thresholded mask, 0 where it is
    absent, and how many low-resolution pixels are drawn and true."""

    mask: Tensor
    quality: Tensor
    dice: Tensor
    drawn: Tensor
    true: Tensor


def mask_losses(logits: Tensor, predicted: Tensor, mask: Tensor) -> MaskLosses:
    """logits and mask [B, P, L, L], predicted Dice [B, P].

    Cross-entropy is summed over a mask and divided by the area of what is and what is drawn, so
    that forty pixels of amygdala weigh as much as four thousand of cortex.
    """
    loss, dice, drawn, true = _MaskLoss.apply(logits.flatten(2), mask.flatten(2))
    return MaskLosses(loss, F.mse_loss(predicted, dice), dice, drawn, true)


class _MaskLoss(torch.autograd.Function):
    """Soft Dice and balanced cross-entropy with their gradient in one visit of every slice.

    A slice's logits fit the cache of a core; autograd's own many passes over a whole batch took a
    third of a step.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """logits and mask [B, P, N] -> loss; Dice, area drawn and true area, [B, P] each."""
        prompts = logits.shape[0] * logits.shape[1]
        step = len(logits) if logits.is_cuda else 1
        gradient, losses, dices, areas, truths = torch.empty_like(logits), [], [], [], []
        for start in range(0, len(logits), step):
            x, t = logits[start:start + step].float(), mask[start:start + step].float()
            p = x.sigmoid()
            true, drawn, both = t.sum(2), p.sum(2), torch.einsum('bpn,bpn->bp', p, t)
            over = 2 * both + SMOOTH_DICE
            under = true + drawn + SMOOTH_DICE
            weight = torch.where(true > PRESENT, 1.0, 0.3)
            area = true + drawn + SMOOTH_AREA           # held constant: no gain in drawing more
            entropy = (F.softplus(x).sum(2) - torch.einsum('bpn,bpn->bp', x, t)) / area
            losses.append((weight * (1 - over / under) + entropy).sum())
            h, g = (x > 0).float(), (t > 0.5).float()
            areas.append(h.sum(2))
            truths.append(true)
            dices.append(2 * torch.einsum('bpn,bpn->bp', h, g)
                         / (areas[-1] + g.sum(2)).clamp_min(1))
            slope = (weight * over / under ** 2)[..., None] - t * (2 * weight / under)[..., None]
            slope.mul_(p).mul_(1 - p).add_((p - t).mul_(1 / area[..., None]))
            gradient[start:start + step] = slope.div_(prompts)
        ctx.save_for_backward(gradient)
        return torch.stack(losses).sum() / prompts, *map(torch.cat, (dices, areas, truths))

    @staticmethod
    def backward(ctx, scale: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * scale, None


class DenseHead(nn.Module):
    """Training only: the class of every pixel, straight from the upscaled pixels.

    It teaches the encoder small structures before the words' path has found them.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(channels, classes)

    def forward(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """pixels [B, L, L, C], classes [B, L, L] -> cross-entropy, half of it balanced by class.

        Give it every second pixel: neighbours say much the same, and all of them cost a tenth of
        a step.
        """
        index = classes.flatten()
        flat = F.cross_entropy(self.classify(pixels).float().flatten(0, 2), index, reduction='none')
        count = self.classify.out_features
        area = torch.zeros(count, device=flat.device).index_add_(0, index, torch.ones_like(flat))
        total = torch.zeros(count, device=flat.device).index_add_(0, index, flat)
        balanced = (total / area.clamp_min(1)).sum() / (area > 0).sum()
        return 0.5 * flat.mean() + 0.5 * balanced
