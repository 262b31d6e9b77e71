"""Batches: slices with many prompts each, and the masks that the prompts ask for."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .anatomy import (CLASSES, DENSE, DENSE_SAGITTAL, DRAW, MEMBERS, MEMBERS_SAGITTAL, NOTHING,
                      PARTNERS)
from .paint import SHARP, blur_matrix, paint, soft
from .prompts import VIEWS
from .rng import Rng
from .slices import Slicer
from .text import Bank

SAGITTAL = VIEWS.index('sagittal')
SHOWN = 12                      # a structure of so many pixels is there; one of none is absent
NEGATIVE, ABSENT, PARTNER = 0.08, 0.20, 0.60


SEVERAL, MOST_CONTRASTS = 0.2, 3    # of the batches show each slice in two or three contrasts


class Batch(NamedTuple):
    """B slices with P prompts each, every slice in M contrasts."""

    image: Tensor       # [B * M, 1, S, S] in 0..1
    states: Tensor      # [B, P, T, 384] token states of the sentences
    real: Tensor        # [B, P, T] which of them are no padding
    mask: Tensor        # [B, P, S/2, S/2] share of each 2 x 2 block, float16; see `of_most_heads`
    dense: Tensor       # [B, S/2, S/2] classes of the dense head
    target: Tensor      # [B, P] row of anatomy.TARGETS, or NOTHING
    contrast: Tensor    # [B], the first of each slice's
    view: Tensor        # [B]

    def to(self, device: torch.device) -> 'Batch':
        return Batch(*(t.to(device, non_blocking=True) for t in self))


class Targets:
    """What each target looks like in a label slice, and which prompts to ask of it."""

    def __init__(self, device: torch.device | str) -> None:
        self.members = torch.from_numpy(np.stack([MEMBERS, MEMBERS_SAGITTAL])).float().to(device)
        self.dense = torch.from_numpy(np.stack([DENSE, DENSE_SAGITTAL])).to(device)
        self.draw = torch.from_numpy(DRAW).to(device)
        self.partners = torch.from_numpy(PARTNERS).to(device)

    @staticmethod
    def shares(labels: Tensor) -> Tensor:
        """Share of every class in each 2 x 2 block: [B, S, S] -> [B, CLASSES, S/2 * S/2]."""
        count, size, _ = labels.shape
        blocks = labels.view(count, size // 2, 2, size // 2, 2).permute(0, 2, 4, 1, 3)
        blocks = blocks.reshape(count, 4, -1).long()
        out = torch.zeros(count, CLASSES, blocks.shape[2], device=labels.device)
        for corner in blocks.unbind(1):
            out.scatter_add_(1, corner[:, None], torch.full_like(out[:, :1], 0.25))
        return out

    def areas(self, shares: Tensor, view: Tensor) -> Tensor:
        """Pixels of every target in every slice, [B, targets]."""
        members = self.members[(view == SAGITTAL).long(), :-1]
        return torch.einsum('btk,bk->bt', members, 4 * shares.sum(2))

    def masks(self, shares: Tensor, view: Tensor, target: Tensor) -> Tensor:
        """[B, P, S/2, S/2] of target [B, P]."""
        members = self.members[(view == SAGITTAL).long()[:, None], target]
        side = int(shares.shape[2] ** 0.5)
        return (members @ shares).unflatten(2, (side, side))

    def choose(self, areas: Tensor, count: int, rng: Rng) -> Tensor:
        """Which targets to ask for, [B, count].

        Mostly what is shown, some of what is absent, some that ask for nothing.  Every second
        prompt is often a partner of the one before: its other side, or a neighbour.
        """
        slices = len(areas)
        absent = (areas == 0) * self.draw
        shown = (areas >= SHOWN) * self.draw
        absent = torch.where(absent.sum(1, keepdim=True) > 0, absent, self.draw)
        shown = torch.where(shown.sum(1, keepdim=True) > 0, shown, absent)
        kind = rng.uniform(0, 1, slices, count)
        target = torch.where(kind < ABSENT + NEGATIVE, rng.weighted(absent, count),
                             rng.weighted(shown, count))
        target = torch.where(kind < NEGATIVE, NOTHING, target)
        first = target[:, 0:count - 1:2]
        partner = rng.weighted(self.partners[first].flatten(0, 1), 1).view_as(first)
        paired = rng.chance(PARTNER, *first.shape)
        target[:, 1::2] = torch.where(paired, partner, target[:, 1::2])
        return target

    def dense_classes(self, labels: Tensor, view: Tensor) -> Tensor:
        """Classes of the dense head at the lower resolution, [B, S/2, S/2]."""
        low = labels[:, 1::2, 1::2].long()
        table = self.dense[(view == SAGITTAL).long()]
        return table.gather(1, low.flatten(1)).view_as(low)


def of_most_heads(mask: Tensor, softness: Tensor) -> Tensor:
    """What an average of heads shows of a mask: [B, P, S/2, S/2] of shares, softness [B] in pixels
    of S.

    Where a slice is softer than SHARP, what it shows is where most heads have the structure, as the
    tissue maps of such an average do: the mask as soft as the picture, cut at one half, its edge a
    pixel wide.  Folds narrower than the point spread melt together.  A structure of which less than
    half would be left stays as it was, for the words ask for it all the same.
    """
    averaged = softness > SHARP
    if not averaged.any():
        return mask
    sharp, sigma = mask[averaged], softness[averaged] / 2
    spread = blur_matrix(mask.shape[-1], torch.ones_like(sigma), sigma)[:, None]
    steep = (math.sqrt(2 * math.pi) * sigma)[:, None, None, None]     # a straight edge's slope back to 1
    most = ((spread @ sharp @ spread.transpose(2, 3) - 0.5) * steep + 0.5).clamp(0, 1)
    little = most.sum((2, 3), keepdim=True) < 0.5 * sharp.sum((2, 3), keepdim=True)
    out = mask.clone()
    out[averaged] = torch.where(little, sharp, most)
    return out


class Stream(Dataset):
    """Batch `index` of the run with seed `seed`, made from nothing else than these two numbers."""

    def __init__(self, volumes: Tensor, bank: Bank, size: int, batch: int, prompts: int,
                 seed: int) -> None:
        """batch counts pictures: with two contrasts a slice there are half as many slices."""
        self.slicer, self.targets = Slicer(volumes, size), Targets(volumes.device)
        self.bank = bank.to(volumes.device)
        self.batch, self.prompts, self.seed = batch, prompts, seed

    @torch.no_grad()
    def __getitem__(self, index: int) -> Batch:
        rng = Rng(self.slicer.volumes.device, self.seed, index)
        several = rng.host.uniform() < SEVERAL
        each = rng.pick(range(2, MOST_CONTRASTS + 1)) if several else 1
        labels, view = self.slicer.cut(max(1, self.batch // each), rng)
        softness = soft(len(labels), rng)
        image, contrast = paint(labels.repeat_interleave(each, 0), rng,
                                softness.repeat_interleave(each))
        contrast = contrast[::each]
        shares = self.targets.shares(labels)
        target = self.targets.choose(self.targets.areas(shares, view), self.prompts, rng)
        states, real = self.bank.look_up(self.bank.pick(target, contrast, view, rng))
        mask = of_most_heads(self.targets.masks(shares, view, target), softness).half()
        dense = self.targets.dense_classes(labels, view)
        return Batch(image, states, real, mask, dense, target, contrast, view)


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def batches(stream: Stream, indices: range, workers: int) -> DataLoader:
    """The batches of `indices` in order.

    On a CPU `workers` processes make them ahead.  A stream that lives on a GPU makes them there,
    between two steps, and needs no workers: nothing but two numbers crosses the bus.
    """
    on_gpu = stream.slicer.volumes.is_cuda
    workers = 0 if on_gpu else workers
    return DataLoader(stream, sampler=indices, batch_size=None, num_workers=workers,
                      worker_init_fn=_start_worker, prefetch_factor=3 if workers else None)
