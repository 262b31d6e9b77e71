"""Batches depend on seed and index alone."""

import torch

from recipe.batches import Stream, batches, of_most_heads
from recipe.paint import SHARP, blur_matrix, normalise, paint
from recipe.rng import Rng
from recipe.slices import Slicer


def equal(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_reproducible_whatever_came_before_and_however_many_workers(phantom, bank):
    def stream(seed: int) -> Stream:
        return Stream(phantom, bank, 64, 3, 6, seed)

    want = [stream(1)[index] for index in range(4)]
    torch.rand(7)                                       # the global generator has no say
    for workers in (0, 1, 2):
        got = list(batches(stream(1), range(4), workers))
        assert all(equal(a, b) for a, b in zip(want, got, strict=True))
    assert equal(next(iter(batches(stream(1), range(2, 4), 1))), want[2])
    assert not equal(stream(2)[0], want[0])
    assert not equal(want[0], want[1])


def test_shapes_and_ranges(phantom, bank):
    stream = Stream(phantom, bank, 64, 3, 6, 0)
    batch = next(b for b in map(stream.__getitem__, range(99)) if len(b.mask) == 3)
    assert batch.image.shape == (3, 1, 64, 64) and batch.states.shape[::3] == (3, 384)
    assert batch.states.shape[:3] == batch.real.shape and batch.real[..., :2].all()
    assert batch.mask.shape == (3, 6, 32, 32) and batch.dense.shape == (3, 32, 32)
    assert 0 <= batch.image.min() and batch.image.max() <= 1
    assert batch.image.isfinite().all() and 0 <= batch.mask.min() and batch.mask.max() <= 1


def test_some_batches_show_a_slice_in_several_contrasts(phantom, bank):
    stream = Stream(phantom, bank, 64, 6, 6, 0)
    shown = [stream[index] for index in range(30)]
    each = [len(batch.image) // len(batch.mask) for batch in shown]
    assert set(each) == {1, 2, 3} and each.count(1) > 15
    pair = shown[each.index(2)]
    assert len(pair.image) == 6 and len(pair.mask) == len(pair.contrast) == len(pair.states) == 3
    assert not torch.equal(pair.image[0], pair.image[1])


def test_an_unbent_slice_is_the_plane_of_the_volume(phantom):
    """Without its random parts the slicer reads the middle plane in the radiological view."""

    class Still(Rng):
        def uniform(self, low, high, *shape):
            return torch.full(shape, 1.0 if low > 0 else 0.9 if high == 1 else 0.0)

        def normal(self, *shape):
            return torch.zeros(shape)

    slicer = Slicer(phantom, 47)
    slicer.centres[:] = ((slicer.low + slicer.high) / 2)[:, None]
    assert slicer.low[0].tolist() == [6, 6, 6] and slicer.high[0].tolist() == [40, 40, 40]
    labels, views = slicer.cut(24, Still('cpu', 0, 0))
    volume = phantom[0, :47, :47, :47]                  # 23 voxels each way of the centre, 23
    planes = (volume.flip(0, 1)[:, :, 23].T, volume.flip(0, 2)[:, 23].T, volume.flip(1, 2)[23].T)
    assert set(views.tolist()) == {0, 1, 2}
    for label, view in zip(labels, views.tolist(), strict=True):
        assert torch.equal(label, planes[view])


def test_resolution_matrices_keep_means_and_do_nothing_when_sharp():
    thick, sigma = torch.tensor([1.0, 1.7, 3.0]), torch.tensor([0.05, 0.5, 1.0])
    matrix = blur_matrix(40, thick, sigma)
    assert torch.allclose(matrix.sum(2), torch.ones(3, 40), atol=1e-5)
    assert torch.allclose(matrix[0], torch.eye(40), atol=1e-5)


def test_images_are_normalised_like_the_engine(phantom):
    image = torch.rand(2, 1, 20, 20)
    ordered = image[0].flatten().sort().values
    low, high = ordered[int(0.005 * 399)], ordered[int(0.995 * 399)]
    want = ((image[0] - low) / (high - low)).clamp(0, 1)
    assert torch.equal(normalise(image)[0], want)
    image, contrast = paint(phantom[:, 24], Rng('cpu', 0, 0))
    assert image.shape == (2, 1, 48, 48) and contrast.shape == (2,)


def test_an_average_of_heads_shows_what_most_of_them_have():
    half, comb, dot = torch.zeros(3, 32, 32)
    half[:, 16:] = 1
    comb[8:, 8:] = 1
    comb[8:24, 12] = 0                                  # a fold 2 mm wide
    dot[15:17, 15:17] = 1
    mask = torch.stack([half, comb, dot])[None]
    soft = of_most_heads(mask, torch.tensor([2.0]))[0]
    assert (soft[0] - half).abs().max() < 0.2           # an edge keeps its place
    assert ((soft[0] > 0.5) == (half > 0.5)).all()
    assert (soft[1, 10:22, 12] > 0.5).all()             # the fold has melted
    assert torch.equal(soft[2], dot)                    # what would vanish stays
    both = of_most_heads(mask.repeat(2, 1, 1, 1), torch.tensor([SHARP, 2.0]))
    assert torch.equal(both[0], mask[0]) and torch.equal(both[1], soft)
