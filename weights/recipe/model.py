"""Zeus-mini: a slice and sentences in, a mask and its predicted Dice for every sentence out.

The topology is Zeus': an image encoder, a frozen text encoder whose token states are pooled by
attention to one sparse prompt token, and SAM's mask decoder.  One thing differs from SAM: prompts
read the image but never write to it.  A slice is encoded and upscaled once, prompts cannot disturb
each other, and one more prompt costs a pass of three tokens and a dot product per pixel.

Module names are the tensor names of the exported file.  Batch norms and the standardising of the
text states serve training only: `plain=True` builds the exported form, without them.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

Taps = dict[str, Tensor]        # activations by name, to compare or to supervise


@dataclass(frozen=True)
class Config:
    """Sizes of the model: the `config` in the metadata of an exported file."""

    image_size: int = 224
    grid: int = 14
    stem: tuple[int, ...] = (24, 48, 96, 192)
    dim: int = 192
    depth: int = 8
    heads: int = 3
    mlp_ratio: int = 4
    text_dim: int = 384
    prompt_dim: int = 128
    decoder_depth: int = 3
    decoder_heads: int = 8
    decoder_mlp: int = 512
    attention_downsample: int = 2
    up_dims: tuple[int, ...] = (64, 48, 32)
    low_res: int = 112
    ln_eps: float = 1e-6
    decoder_ln_eps: float = 1e-5


# --------------------------------------------------------------------------------- image encoder

class ConvNorm(nn.Module):
    """3 x 3 convolution, in training followed by a batch norm."""

    def __init__(self, inputs: int, outputs: int, stride: int, plain: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.bn = nn.Identity() if plain else nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of each pixel, NCHW."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)
        pixels = F.layer_norm(pixels, self.weight.shape, self.weight, self.bias, self.eps)
        return pixels.permute(0, 3, 1, 2)


class Stem(nn.Module):
    """[B, 1, S, S] -> features at S/2, S/4, S/8 (two convolutions each) and S/16 (one)."""

    def __init__(self, widths: tuple[int, ...], plain: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for inputs, outputs in zip((1, *widths), widths):
            self.stages.append(nn.ModuleList([ConvNorm(inputs, outputs, 2, plain)]))
        for stage, width in zip(self.stages[:-1], widths):
            stage.append(ConvNorm(width, width, 1, plain))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages[:-1]:
            for conv in stage:
                x = F.gelu(conv(x))
            features.append(x)
        return [*features, self.stages[-1][0](x)]


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention, [..., heads, tokens, width] each."""
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)     # a third faster on a CPU
    return scores.softmax(-1).to(v.dtype) @ v


class Attention(nn.Module):
    """Self-attention of the ViT."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(attend(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with `activation` between."""

    def __init__(self, dim: int, hidden: int, activation) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.activation(self.lin1(x)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(c.dim, c.ln_eps)
        self.attn = Attention(c.dim, c.heads)
        self.norm2 = nn.LayerNorm(c.dim, c.ln_eps)
        self.mlp = Mlp(c.dim, c.dim * c.mlp_ratio, F.gelu)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def wave_grid(grid: int, dim: int) -> Tensor:
    """Sines and cosines of row and column: where position embeddings start, [grid * grid, dim]."""
    frequency = 0.01 ** (torch.arange(dim // 4) / (dim // 4))
    line = torch.arange(grid) - (grid - 1) / 2
    rows, columns = torch.meshgrid(line, line, indexing='ij')
    row, column = (t.flatten()[:, None] * frequency for t in (rows, columns))
    return 0.7 * torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], 1)


class ImageEncoder(nn.Module):
    """Stem, position, ViT and neck."""

    def __init__(self, c: Config, plain: bool) -> None:
        super().__init__()
        self.patch_embed = Stem(c.stem, plain)
        self.pos_embed = nn.Parameter(wave_grid(c.grid, c.dim).view(1, c.grid, c.grid, c.dim))
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.depth))
        self.neck = nn.Sequential(nn.Conv2d(c.dim, c.prompt_dim, 1), LayerNorm2d(c.prompt_dim))

    def forward(self, image: Tensor, taps: Taps) -> tuple[Tensor, list[Tensor]]:
        """[B, 1, S, S] -> image embedding [B, D, grid, grid], skips at S/2, S/4 and S/8."""
        features = self.patch_embed(image)
        tokens = features[3].permute(0, 2, 3, 1) + self.pos_embed
        side = tokens.shape[1]
        tokens = tokens.flatten(1, 2)
        for n, block in enumerate(self.blocks):
            tokens = taps[f'block{n}'] = block(tokens)
        neck = self.neck(tokens.unflatten(1, (side, side)).permute(0, 3, 1, 2))
        taps.update({f'stem{n}': feature for n, feature in enumerate(features)}, neck=neck)
        return neck, features[:3]


# ------------------------------------------------------------------------------------ prompts

class TextPool(nn.Module):
    """Token states of a sentence -> one vector: multi-head attention pooling (SigLIP's head).

    Every head looks for words of its own.  In the mean of a sentence single words count for little:
    with left and right exchanged its cosine is 0.993.
    """

    def __init__(self, c: Config) -> None:
        super().__init__()
        d = c.prompt_dim
        self.heads = c.decoder_heads
        self.probe = nn.Parameter(torch.randn(1, d))
        self.k_proj = nn.Linear(c.text_dim, d)
        self.v_proj = nn.Linear(c.text_dim, d)
        self.out_proj = nn.Linear(d, d)
        self.norm = nn.LayerNorm(d, c.decoder_ln_eps)
        self.mlp = Mlp(d, c.decoder_mlp, F.gelu)

    def forward(self, states: Tensor, real: Tensor, mean: Tensor | None = None,
                deviation: Tensor | None = None) -> Tensor:
        """states [..., T, text_dim], real [..., T] (not padding) -> [..., D].

        With `mean` and `deviation` [text_dim] the states are standardised by them.
        """
        k, v = (self._project(layer, states, mean, deviation).unflatten(-1, (self.heads, -1))
                for layer in (self.k_proj, self.v_proj))
        q = self.probe.view(self.heads, -1) * k.shape[-1] ** -0.5
        scores = torch.einsum('hd,...thd->...ht', q.to(k.dtype), k).float()
        weight = scores.masked_fill(~real[..., None, :], -math.inf).softmax(-1).to(v.dtype)
        x = self.out_proj(torch.einsum('...ht,...thd->...hd', weight, v).flatten(-2))
        return x + self.mlp(self.norm(x))

    @staticmethod
    def _project(layer: nn.Linear, states: Tensor, mean: Tensor | None, deviation: Tensor | None
                 ) -> Tensor:
        if mean is None:
            return layer(states)
        weight = layer.weight / deviation           # far smaller than the states
        return F.linear(states, weight, layer.bias - weight @ mean)


class PromptEncoder(nn.Module):
    """Token states of the text encoder -> one sparse prompt token."""

    def __init__(self, c: Config, plain: bool) -> None:
        super().__init__()
        self.text_pool = TextPool(c)
        self.image_pe = nn.Parameter(wave_grid(c.grid, c.prompt_dim)[None])
        self.plain = plain
        if not plain:
            self.register_buffer('mean', torch.zeros(c.text_dim))
            self.register_buffer('deviation', torch.ones(c.text_dim))

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """[B, P, T, text_dim], [B, P, T] -> [B, P, D]."""
        own = () if self.plain else (self.mean, self.deviation)
        return self.text_pool(states, real, *own)


# -------------------------------------------------------------------------------- mask decoder

class NarrowAttention(nn.Module):
    """SAM's decoder attention: `down` times narrower inside."""

    def __init__(self, dim: int, heads: int, down: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim // down)
        self.k_proj = nn.Linear(dim, dim // down)
        self.v_proj = nn.Linear(dim, dim // down)
        self.out_proj = nn.Linear(dim // down, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [B, N, dim], k and v [B, M, dim] -> [B, N, dim]."""
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2)
                   for t in (self.q_proj(q), self.k_proj(k), self.v_proj(v)))
        return self.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))


class TokenBlock(nn.Module):
    """SAM's two-way block without the way back; a prompt's three tokens see only each other."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        d, eps = c.prompt_dim, c.decoder_ln_eps
        self.self_attn = NarrowAttention(d, c.decoder_heads)
        self.norm1 = nn.LayerNorm(d, eps)
        self.cross_attn_token_to_image = NarrowAttention(d, c.decoder_heads,
                                                         c.attention_downsample)
        self.norm2 = nn.LayerNorm(d, eps)
        self.mlp = Mlp(d, c.decoder_mlp, F.relu)
        self.norm3 = nn.LayerNorm(d, eps)

    def forward(self, q: Tensor, tokens: Tensor, image: Tensor, image_pe: Tensor) -> Tensor:
        """q and tokens [B, P, 3, D], image [B, N, D], image_pe [1, N, D] -> q [B, P, 3, D].

        The tokens themselves are the position of the queries: added to q and k, not to v.
        """
        x = (q + tokens).flatten(0, 1)
        q = self.norm1(q + self.self_attn(x, x, q.flatten(0, 1)).view_as(q))
        x = (q + tokens).flatten(1, 2)
        read = self.cross_attn_token_to_image(x, image + image_pe, image)
        q = self.norm2(q + read.view_as(q))
        return self.norm3(q + self.mlp(q))


class ThreeLayers(nn.Module):
    """Linear, ReLU, linear, ReLU, linear."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim, dim), nn.Linear(dim, dim),
                                     nn.Linear(dim, outputs)])

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.layers
        return third(F.relu(second(F.relu(first(x)))))


class Upscale(nn.Module):
    """Image embedding -> pixels at half the slice's resolution, with skips from the stem."""

    def __init__(self, c: Config, plain: bool) -> None:
        super().__init__()
        widths = (c.prompt_dim, *c.up_dims)
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2) for i, o in zip(widths, c.up_dims))
        self.skip = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in zip(c.stem[2::-1], c.up_dims))
        self.refine = nn.ModuleList(ConvNorm(o, o, 1, plain) for o in c.up_dims)

    def forward(self, x: Tensor, skips: list[Tensor], taps: Taps) -> Tensor:
        """x [B, D, grid, grid], skips at 8, 4 and 2 times the grid -> [B, 32, 8 grid, 8 grid]."""
        for n, feature in enumerate(reversed(skips)):
            x = F.gelu(self.up[n](x) + self.skip[n](feature))
            x = taps[f'up{n}'] = x + F.gelu(self.refine[n](x))
        return x


class _WeighPixels(torch.autograd.Function):
    """weight [B, P, C], pixels [B, N, C] -> [B, P, N]; keeps the gradient's channels last.

    A plain product's gradient comes with channels first, and everything before it, convolutions and
    activations, takes ten times as long from there on a CPU.
    """

    @staticmethod
    def forward(ctx, weight: Tensor, pixels: Tensor) -> Tensor:
        ctx.save_for_backward(weight, pixels)
        return weight @ pixels.transpose(1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        weight, pixels = ctx.saved_tensors
        return gradient @ pixels, gradient.transpose(1, 2) @ weight


class MaskDecoder(nn.Module):
    """Three tokens a prompt (quality, mask, text) read the image; the mask token weighs pixels."""

    def __init__(self, c: Config, plain: bool) -> None:
        super().__init__()
        d, pixels = c.prompt_dim, c.up_dims[-1]
        self.iou_token = nn.Parameter(torch.randn(1, d))
        self.mask_tokens = nn.Parameter(torch.randn(1, d))
        self.layers = nn.ModuleList(TokenBlock(c) for _ in range(c.decoder_depth))
        self.upscale = Upscale(c, plain)
        self.output_hypernetworks_mlps = nn.ModuleList([ThreeLayers(d, pixels + 1)])
        self.iou_prediction_head = ThreeLayers(d, 1)

    def forward(self, neck: Tensor, skips: list[Tensor], image_pe: Tensor, text: Tensor,
                taps: Taps) -> tuple[Tensor, Tensor]:
        """neck [B, D, grid, grid], text [B, P, D] -> logits [B, P, L, L], predicted Dice [B, P]."""
        image = neck.flatten(2).transpose(1, 2)
        own = torch.cat([self.iou_token, self.mask_tokens]).expand(*text.shape[:2], 2, -1)
        tokens = torch.cat([own, text[:, :, None].to(own.dtype)], 2)
        q = tokens
        for layer in self.layers:
            q = layer(q, tokens, image, image_pe)
        pixels = self.upscale(neck, skips, taps)
        hyper = self.output_hypernetworks_mlps[0](q[:, :, 1])          # weights, then one bias
        weight, bias = hyper[..., :-1].to(pixels.dtype), hyper[..., -1, None]
        logits = _WeighPixels.apply(weight, pixels.permute(0, 2, 3, 1).flatten(1, 2))
        logits = (logits + bias.to(pixels.dtype)).unflatten(2, pixels.shape[2:])
        dice = self.iou_prediction_head(q[:, :, 0]).float().sigmoid()[..., 0]
        taps.update(tokens_in=tokens.flatten(0, 1), tokens_out=q.flatten(0, 1), hyper=hyper)
        return logits, dice


class ZeusMini(nn.Module):
    """The whole model."""

    def __init__(self, config: Config = Config(), plain: bool = False) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config, plain)
        self.prompt_encoder = PromptEncoder(config, plain)
        self.mask_decoder = MaskDecoder(config, plain)
        self.apply(_initialise)
        with torch.no_grad():       # start with nearly empty masks of a middling quality
            self.mask_decoder.output_hypernetworks_mlps[0].layers[2].bias[-1] = -4
            self.mask_decoder.iou_prediction_head.layers[2].bias.fill_(-0.5)

    def forward(self, image: Tensor, states: Tensor, real: Tensor, taps: Taps | None = None
                ) -> tuple[Tensor, Tensor]:
        """image [B * M, 1, S, S] in 0..1, states [B, P, T, text_dim] with real [B, P, T] -> logits
        [B, P, S/2, S/2], predicted Dice [B, P].  Activations are left in `taps`.

        Where a slice comes in M contrasts their embeddings are averaged: hybrid fusion."""
        taps = {} if taps is None else taps
        neck, skips = self.image_encoder(image, taps)
        if len(image) != len(states):
            neck, *skips = (t.unflatten(0, (len(states), -1)).mean(1) for t in (neck, *skips))
        token = taps['text_token'] = self.prompt_encoder(states, real)
        return self.mask_decoder(neck, skips, self.prompt_encoder.image_pe, token, taps)


def full_size(logits: Tensor) -> Tensor:
    """Logits [B, P, L, L] -> [B, P, 2L, 2L], bilinear, corners not aligned."""
    return F.interpolate(logits.float(), scale_factor=2, mode='bilinear', align_corners=False)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        std = min(0.04 * math.sqrt(192 / module.in_features), 0.1)
        nn.init.trunc_normal_(module.weight, std=std)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
        nn.init.zeros_(module.bias)
