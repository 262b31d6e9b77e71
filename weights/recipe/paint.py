"""Label slices -> images: random tissue contrast, then what a scanner and its software do to it.

Everything is drawn for the whole batch at once and runs on the device of the labels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .anatomy import BRAIN, CLASS_OF, GROUP_OF_CLASS, OUTSIDE_IDS
from .prompts import CONTRASTS
from .rng import Rng

T1, T2, FLAIR_PD, ANY = range(len(CONTRASTS))
SHARES = (0.41, 0.17, 0.14, 0.28)

# Mean intensity of each paint group in a T1-, T2- and FLAIR-like image.  Those of the brain in T1 lie
# between a textbook's and what MeshNet's outlines show on two real scans, where the deep gray
# matter is nearer to white: with white at 0.85 and fluid at 0.16 a putamen of 0.73, not 0.62.
INTENSITIES = {
    'background': (0.02, 0.02, 0.02), 'white': (0.85, 0.38, 0.50), 'lesion': (0.76, 0.50, 0.72),
    'gray': (0.61, 0.56, 0.64), 'fluid': (0.16, 0.95, 0.16), 'choroid': (0.40, 0.75, 0.45),
    'cerebellar white': (0.82, 0.40, 0.52), 'cerebellar gray': (0.61, 0.58, 0.62),
    'thalamus': (0.73, 0.48, 0.58), 'caudate': (0.65, 0.52, 0.62), 'putamen': (0.69, 0.46, 0.58),
    'pallidum': (0.79, 0.32, 0.50), 'hippocampus': (0.60, 0.58, 0.66),
    'amygdala': (0.60, 0.58, 0.66), 'accumbens': (0.63, 0.54, 0.62),
    'diencephalon': (0.78, 0.44, 0.56), 'stem': (0.78, 0.44, 0.55),
    **{f'outside {i}': value for i, value in zip(OUTSIDE_IDS, (
        (0.45, 0.40, 0.35), (0.20, 0.90, 0.20), (0.50, 0.35, 0.40), (0.45, 0.60, 0.45),
        (0.15, 0.15, 0.15), (0.75, 0.60, 0.55), (0.50, 0.50, 0.50), (0.35, 0.50, 0.30),
        (0.25, 0.20, 0.20), (0.60, 0.50, 0.45), (0.55, 0.50, 0.50)))},
}
# in an arbitrary contrast some tissues still resemble another: group, the other, spread
ALIKE = (
    ('cerebellar white', 'white', 0.06), ('cerebellar gray', 'gray', 0.06),
    ('lesion', 'white', 0.12), ('hippocampus', 'gray', 0.05), ('amygdala', 'gray', 0.05),
    ('accumbens', 'caudate', 0.05), ('putamen', 'caudate', 0.10), ('stem', 'white', 0.10),
    ('diencephalon', 'thalamus', 0.08),
)
GROUPS = tuple(INTENSITIES)
PRIOR = torch.tensor(list(INTENSITIES.values())).T                       # [3, groups]
OUTSIDE_GROUP = torch.tensor([name.startswith('outside') for name in GROUPS])
GROUP_INDEX = torch.tensor([GROUPS.index(name) for name in GROUP_OF_CLASS])
DEEP_GROUP = torch.tensor([name in ('thalamus', 'caudate', 'putamen', 'pallidum', 'accumbens',
                                    'diencephalon') for name in GROUPS])
BACKGROUND, WHITE, FLUID = (GROUPS.index(name) for name in ('background', 'white', 'fluid'))
OUTER_FLUID = CLASS_OF['outer fluid', '']
THICKENING = (0, 0, 1, 2, 3, 5)     # pixels left around the brain by skull stripping
SHARP = 1.1                         # pixels of point spread; a softer slice is an average of heads


def paint(labels: Tensor, rng: Rng, softness: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Classes [B, H, W] -> images [B, 1, H, W] in 0..1, contrasts [B]; softness [B] as `soft` draws it."""
    mean, spread, contrast = tissue(len(labels), rng)
    return picture(labels, mean, spread, rng, softness), contrast


def picture(labels: Tensor, mean: Tensor, spread: Tensor, rng: Rng,
            softness: Tensor | None = None) -> Tensor:
    """Classes [B, H, W] with mean and spread of every class [B, CLASSES] -> images [B, 1, H, W] in 0..1."""
    count, height, width = labels.shape
    softness = soft(count, rng) if softness is None else softness
    label = labels.long()
    flat = label.flatten(1)
    image = (mean.gather(1, flat).view_as(label)
             + spread.gather(1, flat).view_as(label) * texture(count, height, width, rng))
    image = strip_skull(image, label, rng)
    rows, columns = acquisition(softness, height, width, rng)
    image = rows @ image @ columns.transpose(1, 2)
    image = image[:, None] * bias_field(count, height, width, rng)
    image = image + rng.normal(*image.shape) * rng.uniform(0, 1, count, 1, 1, 1) ** 2 * 0.07
    gamma = (0.22 * rng.normal(count, 1, 1, 1)).exp()
    return normalise(image.abs(), thin=5) ** gamma


def tissue(count: int, rng: Rng,
           shares: tuple[float, ...] = SHARES) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and spread of every class [B, CLASSES], and the contrast [B], drawn by its share."""
    device, groups = rng.device, len(GROUPS)
    outside = OUTSIDE_GROUP.to(device)
    contrast = rng.weighted(torch.tensor(shares, device=device).expand(count, 4), 1)[:, 0]
    is_t1, is_flair = (contrast == T1)[:, None], (contrast == FLAIR_PD)[:, None]

    named = PRIOR.to(device)[contrast.clamp_max(FLAIR_PD)]
    gain = rng.uniform(0.6, 1.25, count, 1)                  # T1 contrast varies by scanner
    white = named[:, WHITE, None]
    stretched = (named > 0.45) & ~outside & is_t1
    named = torch.where(stretched, white + (named - white) * gain, named)
    proton = is_flair & rng.chance(0.45, count, 1)           # proton density: bright fluid
    named[:, FLUID] = torch.where(proton[:, 0], 0.8, named[:, FLUID])
    named = named + rng.normal(count, groups) * torch.where(outside, 0.15, 0.03)
    deep = DEEP_GROUP.to(device)        # iron and myelin move the deep nuclei together
    named = named + 0.03 * rng.normal(count, 1) * deep
    named[:, FLUID] += 0.05 * rng.normal(count)
    named[:, BACKGROUND] = torch.where(rng.chance(0.1, count), (0.08 * rng.normal(count)).abs(),
                                       named[:, BACKGROUND])

    free = rng.uniform(0, 1, count, groups)
    for name, other, distance in ALIKE:
        alike = free[:, GROUPS.index(other)] + distance * rng.normal(count)
        column = GROUPS.index(name)
        free[:, column] = torch.where(rng.chance(0.75, count), alike, free[:, column])
    free[:, BACKGROUND] *= torch.where(rng.chance(0.8, count), 0.1, 1.0)

    mean = torch.where((contrast == ANY)[:, None], free, named).clamp(0, 1.2)
    spread = rng.uniform(0.008, 0.065, count, groups) * torch.where(outside, 2.5, 1.0)
    of_class = GROUP_INDEX.to(device)
    mean = mean[:, of_class]                                 # the two sides differ a little
    return mean + 0.008 * rng.normal(*mean.shape), spread[:, of_class], contrast


def texture(count: int, height: int, width: int, rng: Rng) -> Tensor:
    """Unit noise [B, H, W], in half of the slices with a coarse part, in half with a broad one.

    The broad part is what makes one end of a thalamus brighter than the other.
    """
    def smooth(grain: int) -> Tensor:
        return F.interpolate(rng.normal(count, 1, height // grain, width // grain),
                             (height, width), mode='bilinear')[:, 0]

    fine = rng.normal(count, height, width)
    coarse = smooth(rng.pick((2, 3, 4)))
    fine = torch.where(rng.chance(0.5, count, 1, 1), 0.6 * fine + 0.9 * coarse, fine)
    broad = smooth(rng.pick((8, 12, 16)))
    return torch.where(rng.chance(0.5, count, 1, 1), 0.8 * fine + broad, fine)


def strip_skull(image: Tensor, label: Tensor, rng: Rng) -> Tensor:
    """In half of the slices nothing is left but the brain, with a margin or without."""
    count = len(image)
    brain = torch.from_numpy(BRAIN).to(label.device)[label].to(image.dtype)[:, None]
    layers = brain.clone()              # how many of the grown masks hold a pixel: 6 = the brain
    for _ in range(max(THICKENING)):
        brain = F.max_pool2d(brain, 3, 1, 1)
        layers += brain
    margin = torch.tensor(THICKENING, device=label.device)[rng.integer(len(THICKENING), count)]
    keep = layers[:, 0] > max(THICKENING) - margin[:, None, None]
    dry = rng.chance(0.35, count, 1, 1) & (label == OUTER_FLUID)
    stripped = rng.chance(0.5, count, 1, 1)
    return torch.where(stripped & (dry | ~keep), 0.0, image)


def soft(count: int, rng: Rng) -> Tensor:
    """Point spread of each slice, [B]: a Gaussian's standard deviation in pixels.

    A quarter is as soft as an average of many heads (MNI152), beyond SHARP.
    """
    sigma = rng.uniform(0.25, SHARP, count)
    return torch.where(rng.chance(0.25, count), rng.uniform(SHARP, 2.0, count), sigma)


def acquisition(softness: Tensor, height: int, width: int, rng: Rng) -> tuple[Tensor, Tensor]:
    """What limits resolution: matrices for rows [B, H, H] and columns [B, W, W].

    A third of the slices has pixels 1.2 to 3 mm thick along one or both axes; all have a Gaussian
    point spread, of `softness` [B] pixels.
    """
    count = len(softness)
    thick = torch.where(rng.chance(0.35, count), rng.uniform(1.2, 3.0, count), 1.0)
    which = rng.uniform(0, 1, count)
    one = torch.ones_like(thick)
    return (blur_matrix(height, torch.where(which < 0.7, thick, one), softness),
            blur_matrix(width, torch.where(which > 0.3, thick, one), softness))


def blur_matrix(size: int, thick: Tensor, sigma: Tensor) -> Tensor:
    """Averages over thick pixels, interpolates back, then blurs: [B, size, size], rows sum to 1.

    thick [B] in pixels, sigma [B] of the point spread; at the border the rows are renormalised.
    """
    index = torch.arange(size, device=thick.device, dtype=torch.float32)
    f = thick[:, None, None]
    start = index[:, None] * f                                # coarse pixel j covers j f .. (j+1) f
    overlap = (index + 1).minimum(start + f) - index.maximum(start)
    average = overlap.clamp_min(0) / f                        # [B, coarse, fine]
    last = (size / f).ceil() - 1                              # beyond it there are no coarse pixels
    place = ((index[:, None] + 0.5) / f - 0.5).clamp_min(0).minimum(last)
    interpolate = (1 - (place - index).abs()).clamp_min(0)    # [B, fine, coarse]
    distance = index[:, None] - index
    spread = (-distance ** 2 / (2 * sigma[:, None, None] ** 2)).exp()
    spread = torch.where(distance.abs() <= 6, spread, 0.0)
    matrix = (spread @ interpolate) @ average
    return matrix / matrix.sum(2, keepdim=True)


def bias_field(count: int, height: int, width: int, rng: Rng) -> Tensor:
    """Smooth gain of the receive coil, [B, 1, H, W]."""
    nodes = rng.pick((3, 4, 5))
    reach = rng.uniform(0, 0.28, count, 1, 1, 1) * rng.chance(0.85, count, 1, 1, 1)
    return F.interpolate(reach * rng.normal(count, 1, nodes, nodes), (height, width),
                         mode='bicubic', align_corners=True).exp()


def normalise(image: Tensor, thin: int = 1) -> Tensor:
    """Each slice's 0.5 and 99.5 percentiles become 0 and 1.  image [B, 1, H, W].

    The rule of the engine; `thin` looks at every n-th pixel only, to save time in training.
    """
    ordered = image.flatten(1)[:, ::thin].sort(1).values
    last = ordered.shape[1] - 1
    low, high = (ordered[:, int(share * last), None, None, None] for share in (0.005, 0.995))
    return ((image - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
