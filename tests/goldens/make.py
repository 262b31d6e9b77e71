"""Goldens of the single operations, computed by PyTorch.

    python make.py --out .            # every op
    python make.py --out . linear rope

One file per op, `<op>.safetensors`; its tensors are called `<case>.<role>` (`bias_gelu.x`,
`bias_gelu.weight`, ...), and the file's metadata holds, under each case's name, that case's scalars
as JSON ("{}" if there are none).  So the list of cases is the list of metadata keys.

Inputs are drawn in float32; results are computed from them in float64 and rounded once to float32,
so a golden carries no rounding of its own.  Integers are int32.  Roles mean the same everywhere:
x input, weight, bias, residual, y result; a trailing `_nhwc` marks the channels-last copy of a tensor.
"""
import argparse
import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from store import save

LIMIT = 64 * 1024                       # bytes per file
OPS = {}                                # op name -> function that yields (case, params, tensors)


def op(f):
    """Register a generator of cases; its name is the op's name."""
    OPS[f.__name__] = f
    return f


def rand(*shape, scale=1.0):
    """Normal float32 values, carried in float64."""
    return (torch.randn(*shape) * scale).double()


def nhwc(x):
    """(n, c, h, w) -> (n, h, w, c)."""
    return x.permute(0, 2, 3, 1)


ACT = {'none': lambda x: x, 'gelu': F.gelu, 'relu': F.relu, 'silu': F.silu, 'sigmoid': torch.sigmoid,
       'gelutanh': lambda x: F.gelu(x, approximate='tanh'), 'quickgelu': lambda x: x * torch.sigmoid(1.702 * x),
       'elu': F.elu, 'tanh': torch.tanh}


# ------------------------------------------------------------------ matrix products
@op
def linear():
    """y = act(x w^T + bias) + residual; x (m, k), weight (n, k), bias (n), residual and y (m, n)."""
    sizes = [(1, 4, 1), (3, 7, 5), (17, 33, 29), (1, 65, 31), (35, 64, 24), (196, 8, 6)]
    for m, k, n in sizes:
        x, w, b = rand(m, k), rand(n, k, scale=k ** -0.5), rand(n)
        yield f'{m}x{k}x{n}', dict(m=m, k=k, n=n, activation='none'), dict(x=x, weight=w, bias=b, y=F.linear(x, w, b))
    m, k, n = 5, 20, 13
    x, w, b, r = rand(m, k), rand(n, k, scale=k ** -0.5), rand(n), rand(m, n)
    yield 'no_bias', dict(m=m, k=k, n=n, activation='none'), dict(x=x, weight=w, y=F.linear(x, w))
    for a in ('gelu', 'relu', 'silu'):
        yield a, dict(m=m, k=k, n=n, activation=a), dict(x=x, weight=w, bias=b, y=ACT[a](F.linear(x, w, b)))
    yield 'residual', dict(m=m, k=k, n=n, activation='none'), dict(x=x, weight=w, bias=b, residual=r, y=F.linear(x, w, b) + r)
    yield 'residual_gelu', dict(m=m, k=k, n=n, activation='gelu'), dict(x=x, weight=w, bias=b, residual=r, y=F.gelu(F.linear(x, w, b)) + r)


@op
def linear_gated():
    """y = act(x gate^T + gate_bias) * (x up^T + up_bias); x (m, k), gate and up (n, k), their biases (n), y (m, n)."""
    for m, k, n, a in [(1, 24, 12, 'silu'), (5, 36, 20, 'silu'), (17, 8, 36, 'gelu'), (3, 32, 8, 'gelutanh')]:
        x, gate, up = rand(m, k), rand(n, k, scale=k ** -0.5), rand(n, k, scale=k ** -0.5)
        gb, ub = rand(n), rand(n)
        y = ACT[a](F.linear(x, gate, gb)) * F.linear(x, up, ub)
        yield f'{a}_{m}x{k}x{n}', dict(m=m, k=k, n=n, activation=a), dict(x=x, gate=gate, up=up, gate_bias=gb, up_bias=ub, y=y)


@op
def matmul():
    """y = a b (or a b^T when `transposed`), batched; a (batch, m, k), b (batch, k, n) or (batch, n, k)."""
    for case, (batch, m, k, n) in {'one': (1, 5, 7, 3), 'batched': (3, 4, 9, 6), 'wide': (2, 3, 33, 50)}.items():
        a, b = rand(batch, m, k), rand(batch, k, n)
        size = dict(batch=batch, m=m, k=k, n=n)
        yield case, dict(size, transposed=False), dict(a=a, b=b, y=a @ b)
        yield case + '_transposed', dict(size, transposed=True), dict(a=a, b=b.transpose(1, 2), y=a @ b)


# ------------------------------------------------------------------ norms
@op
def layer_norm():
    """Over the last axis: y = (x - mean) / sqrt(var + eps) * weight + bias, biased variance; x (rows, cols)."""
    for rows, cols, eps in [(1, 1, 1e-5), (3, 7, 1e-5), (5, 64, 1e-6), (4, 129, 1e-6), (2, 384, 1e-12)]:
        x, w, b = rand(rows, cols) * 3 + 1, 1 + rand(cols, scale=0.3), rand(cols, scale=0.3)
        yield f'{rows}x{cols}', dict(eps=eps), dict(x=x, weight=w, bias=b, y=F.layer_norm(x, (cols,), w, b, eps))
    # the mean is 300 times the spread: sum(x*x) - mean^2 loses every digit, a two-pass variance does not
    x, w, b = rand(3, 192) + 300, 1 + rand(192, scale=0.3), rand(192, scale=0.3)
    x = x.float().double()
    yield 'large_mean', dict(eps=1e-6), dict(x=x, weight=w, bias=b, y=F.layer_norm(x, (192,), w, b, 1e-6))
    x = torch.full((2, 48), 0.25).double()
    yield 'constant', dict(eps=1e-6), dict(x=x, weight=w[:48], bias=b[:48], y=F.layer_norm(x, (48,), w[:48], b[:48], 1e-6))


@op
def instance_norm():
    """Channel by channel over all voxels of each volume: y = act((x - mean) / sqrt(var + eps)), biased variance; x (volumes, voxels, channels), mean and var (volumes, channels)."""
    cases = {'one': (1, 1, 4, 0, 'none'), 'few': (3, 35, 12, 0, 'gelu'), 'many': (1, 343, 16, 0, 'elu'), 'large_mean': (2, 60, 8, 300, 'relu')}
    for case, (volumes, voxels, channels, offset, a) in cases.items():
        x = (rand(volumes, voxels, channels) * 2 + offset).float().double()
        var, mean = torch.var_mean(x, 1, unbiased=False)
        y = ACT[a](F.instance_norm(x.transpose(1, 2), eps=1e-5).transpose(1, 2)) if voxels > 1 else x * 0
        yield case, dict(eps=1e-5, activation=a), dict(x=x, mean=mean, var=var, y=y)


@op
def rms_norm():
    """Over the last axis: y = x / sqrt(mean(x^2) + eps) * weight; x (rows, cols)."""
    for rows, cols, eps in [(1, 1, 1e-5), (3, 7, 1e-5), (5, 64, 1e-6), (4, 129, 1e-5), (2, 576, 1e-5)]:
        x, w = rand(rows, cols) * 3, 1 + rand(cols, scale=0.3)
        yield f'{rows}x{cols}', dict(eps=eps), dict(x=x, weight=w, y=F.rms_norm(x, (cols,), w, eps))
    x, w = rand(2, 33) * 1e-4, 1 + rand(33, scale=0.3)
    yield 'tiny', dict(eps=1e-5), dict(x=x, weight=w, y=F.rms_norm(x, (33,), w, 1e-5))


# ------------------------------------------------------------------ attention and its neighbours
def attend(q, k, v, heads, kv_heads, causal=False, offset=0):
    """q (batch, rows, heads*d), k and v (batch, keys, kv_heads*d) -> (batch, rows, heads*d)."""
    b, rows, width = q.shape
    keys, d = k.shape[1], width // heads
    q = q.view(b, rows, heads, d).transpose(1, 2)
    k, v = (t.view(b, keys, kv_heads, d).transpose(1, 2).repeat_interleave(heads // kv_heads, 1) for t in (k, v))
    s = q @ k.transpose(-1, -2) / math.sqrt(d)
    if causal:                                       # query row i sits at position offset + i
        late = torch.arange(keys)[None] > torch.arange(rows)[:, None] + offset
        s = s.masked_fill(late, -math.inf)
    return (s.softmax(-1) @ v).transpose(1, 2).reshape(b, rows, width)


@op
def attention():
    """y = softmax(q k^T / sqrt(d) [+ causal mask]) v, per head.

    q and y (rows, heads*d); k and v (keys, kv_heads*d); a leading batch axis when `batch` > 1.
    Query head h reads kv head h // (heads / kv_heads).  Causal: row i sees keys j <= i + offset.
    """
    cases = {   # name: batch, rows, keys, heads, kv_heads, d, causal, offset
        'one_key': (1, 3, 1, 2, 2, 8, False, 0), 'self_d8': (1, 7, 7, 4, 4, 8, False, 0), 'self_d16': (1, 3, 3, 4, 4, 16, False, 0),
        'self_d64': (1, 9, 9, 1, 1, 64, False, 0), 'cross_d8': (1, 5, 14, 4, 4, 8, False, 0), 'long_keys': (1, 2, 67, 1, 1, 8, False, 0),
        'batched_d16': (2, 5, 9, 1, 1, 16, False, 0), 'batched_d64': (2, 2, 3, 1, 1, 64, False, 0),
        'grouped_d16': (1, 3, 5, 6, 2, 16, False, 0), 'grouped_d64': (1, 2, 3, 3, 1, 64, False, 0),
        'causal': (1, 9, 9, 2, 2, 16, True, 0), 'causal_offset': (1, 4, 10, 2, 2, 8, True, 6), 'decode': (1, 1, 13, 9, 3, 8, True, 12),
        'causal_grouped_batched': (2, 5, 5, 4, 2, 8, True, 0),
    }
    for case, (b, rows, keys, h, g, d, causal, off) in cases.items():
        q, k, v = rand(b, rows, h * d, scale=1.5), rand(b, keys, g * d), rand(b, keys, g * d)
        y = attend(q, k, v, h, g, causal, off)
        t = dict(q=q, k=k, v=v, y=y)
        yield case, dict(batch=b, rows=rows, keys=keys, heads=h, kv_heads=g, head_dim=d, causal=causal, offset=off), t if b > 1 else {n: x[0] for n, x in t.items()}
    q, k, v = rand(1, 4, 16, scale=30), rand(1, 6, 16, scale=30), rand(1, 6, 16)     # scores near +-1000: exp overflows unless the row's maximum goes first
    yield 'large_scores', dict(batch=1, rows=4, keys=6, heads=2, kv_heads=2, head_dim=8, causal=False, offset=0), dict(q=q[0], k=k[0], v=v[0], y=attend(q, k, v, 2, 2)[0])


@op
def attention_scores():
    """y = softmax(q k^T / sqrt(d) + what is added or hidden) v, for `batch` groups; q, k, v and y as in `attention`.

    bias_*    Swin's windows: transformers' relative position bias and its mask of shifted windows, summed for each kind of
              window: bias (kinds, heads or 1, rows, keys), kind (windows of a picture, int32)
    window_*  causal, and row i sees only the last `window` keys (Mistral); `bias` where a large negative mask hides keys
    """
    from transformers import SwinConfig
    from transformers.models.swin.modeling_swin import SwinLayer, SwinRelativePositionBias

    def scored(q, k, v, heads, kv_heads, more):
        b, rows, width = q.shape
        d = width // heads
        q = q.view(b, rows, heads, d).transpose(1, 2)
        k, v = (t.view(b, -1, kv_heads, d).transpose(1, 2).repeat_interleave(heads // kv_heads, 1) for t in (k, v))
        return ((q @ k.transpose(-1, -2) / math.sqrt(d) + more).softmax(-1) @ v).transpose(1, 2).reshape(b, rows, width)

    for case, (height, width, side, shift, heads, d, images) in {
        'bias_window3': (3, 6, 3, 0, 2, 8, 1), 'bias_shifted3': (6, 6, 3, 1, 2, 8, 2), 'bias_shifted4': (8, 8, 4, 2, 1, 8, 1),
    }.items():
        positions = SwinRelativePositionBias(heads, (side, side)).double()
        with torch.no_grad():
            positions.relative_position_bias_table.copy_(rand((2 * side - 1) ** 2, heads))
            bias = positions()
        layer = SwinLayer(SwinConfig(window_size=side), heads * d, (height, width), heads, shift_size=shift)
        mask = layer.get_attn_mask(height, width, torch.float64, 'cpu')
        windows, kind = height * width // side ** 2, torch.zeros(height * width // side ** 2, dtype=torch.int64)
        if mask is not None:
            mask, kind = mask.unique(dim=0, return_inverse=True)
            bias = bias + mask[:, None]
        bias = bias.float().double()
        q, k, v = rand(images * windows, side ** 2, heads * d, scale=1.5), rand(images * windows, side ** 2, heads * d), rand(images * windows, side ** 2, heads * d)
        y = scored(q, k, v, heads, heads, bias[kind].repeat(images, 1, 1, 1))
        n = dict(batch=images * windows, rows=side ** 2, keys=side ** 2, heads=heads, kv_heads=heads, head_dim=d, window=0)
        yield case, n, dict(q=q, k=k, v=v, bias=bias, kind=kind, y=y)
    for case, (b, rows, keys, heads, kv_heads, d, window) in {
        'window_1': (1, 5, 5, 2, 1, 8, 1), 'window_3': (2, 7, 7, 2, 2, 8, 3), 'window_of_cache': (1, 4, 45, 4, 2, 8, 17), 'window_wide': (1, 5, 9, 1, 1, 16, 64),
    }.items():
        q, k, v = rand(b, rows, heads * d, scale=1.5), rand(b, keys, kv_heads * d), rand(b, keys, kv_heads * d)
        late = torch.arange(rows)[:, None] + keys - rows - torch.arange(keys)[None]
        hidden = torch.zeros(rows, keys).double().masked_fill((late < 0) | (late >= window), -math.inf)
        n = dict(batch=b, rows=rows, keys=keys, heads=heads, kv_heads=kv_heads, head_dim=d, window=window)
        yield case, n, dict(q=q, k=k, v=v, y=scored(q, k, v, heads, kv_heads, hidden))
    b, rows, keys, heads, d = 2, 5, 11, 2, 8
    q, k, v = rand(b, rows, heads * d, scale=1.5), rand(b, keys, heads * d), rand(b, keys, heads * d)
    least = torch.finfo(torch.float32).min                          # what transformers' masks are made of
    bias = torch.where(torch.rand(1, 1, rows, keys) < 0.5, 0.0, least).double()
    bias[..., 3] = 0
    n = dict(batch=b, rows=rows, keys=keys, heads=heads, kv_heads=heads, head_dim=d, window=0)
    yield 'bias_least', n, dict(q=q, k=k, v=v, bias=bias, kind=torch.zeros(1, dtype=torch.int64), y=scored(q, k, v, heads, heads, bias))


@op
def rel_pos():
    """SAM's decomposed relative positions: transformers' SamVisionAttention in float64, its two projections left out.

    qkv (batch, lines*columns, 3*heads*d); rel_pos_h, rel_pos_w (old, d) as a checkpoint has them; rows_h (2*lines - 1, d) and
    rows_w (2*columns - 1, d), the same interpolated; rel_h (batch*heads, lines*columns, lines), rel_w likewise; y the attention.
    """
    from transformers import SamVisionConfig
    from transformers.models.sam.modeling_sam import SamVisionAttention

    for case, (batch, lines, columns, old, heads, d) in {
        'one': (1, 1, 1, 1, 1, 8), 'window': (2, 4, 4, 4, 2, 8), 'odd': (1, 3, 5, 3, 2, 16), 'shrunk': (1, 3, 2, 7, 1, 8), 'grown': (1, 6, 8, 4, 2, 8),
    }.items():
        attention = SamVisionAttention(SamVisionConfig(hidden_size=heads * d, num_attention_heads=heads), window_size=old).double()
        attention.qkv = attention.proj = torch.nn.Identity()
        tables = rand(2 * old - 1, d, scale=0.5), rand(2 * old - 1, d, scale=0.5)
        with torch.no_grad():
            attention.rel_pos_h.copy_(tables[0])
            attention.rel_pos_w.copy_(tables[1])
            qkv = rand(batch, lines, columns, 3 * heads * d, scale=1.5)
            s = (qkv[..., :heads * d].reshape(batch, lines * columns, heads, d).transpose(1, 2).reshape(batch * heads, lines, columns, d))
            rows = attention.get_rel_pos(lines, lines, tables[0]), attention.get_rel_pos(columns, columns, tables[1])
            rel_h, rel_w = torch.einsum('bhwc,hkc->bhwk', s, rows[0]), torch.einsum('bhwc,wkc->bhwk', s, rows[1])
            # the explicit attention keeps float64 but for its softmax: so that once more
            weights = (s.reshape(batch * heads, -1, d) * d ** -0.5) @ qkv[..., heads * d:2 * heads * d].reshape(batch, -1, heads, d).transpose(1, 2).reshape(batch * heads, -1, d).transpose(1, 2)
            weights = weights + attention.get_decomposed_rel_pos(s.reshape(batch * heads, -1, d), *tables, (lines, columns), (lines, columns)).reshape_as(weights)
            value = qkv[..., 2 * heads * d:].reshape(batch, -1, heads, d).transpose(1, 2).reshape(batch * heads, -1, d)
            y = (weights.softmax(-1) @ value).view(batch, heads, -1, d).transpose(1, 2).reshape(batch, lines * columns, heads * d)
            theirs = attention(qkv)[0].reshape_as(y)
            assert (y - theirs).abs().max() < 1e-6
        full = [F.interpolate(t.T[None], size=2 * n - 1, mode='linear')[0].T for t, n in zip(tables, (lines, columns))]
        n = dict(batch=batch, lines=lines, columns=columns, heads=heads, head_dim=d)
        yield case, n, dict(qkv=qkv.flatten(1, 2), rel_pos_h=tables[0], rel_pos_w=tables[1], rows_h=full[0], rows_w=full[1], rel_h=rel_h.flatten(1, 2), rel_w=rel_w.flatten(1, 2), y=y)


@op
def fourier():
    """Places x (rows, 2) 0..1 by frequencies weight (2, half), by transformers' SAM: y (rows, 2 * half)."""
    from transformers import SamVisionConfig
    from transformers.models.sam.modeling_sam import SamPositionalEmbedding

    for case, (rows, half, scale) in {'few': (7, 8, 1.0), 'sam': (16, 128, 1.0), 'many_turns': (9, 12, 30.0)}.items():
        layer = SamPositionalEmbedding(SamVisionConfig(num_pos_feats=half)).double()
        with torch.no_grad():
            layer.positional_embedding.copy_(rand(2, half, scale=scale))
            x = torch.rand(1, rows, 2).double()
            yield case, {}, dict(x=x[0], weight=layer.positional_embedding.detach(), y=layer(x)[0])


@op
def film():
    """x (tokens, cols) by gamma and beta (prompts, cols), as transformers' CLIPSeg decoder conditions it: y (prompts * tokens, cols)."""
    for case, (prompts, tokens, cols) in {'one': (1, 5, 8), 'few': (3, 7, 16), 'many': (9, 2, 12)}.items():
        x, gamma, beta = rand(tokens, cols), rand(prompts, cols), rand(prompts, cols)
        y = (gamma * x.expand(prompts, -1, -1).permute(1, 0, 2) + beta).permute(1, 0, 2)
        yield case, {}, dict(x=x, gamma=gamma, beta=beta, y=y.flatten(0, 1))


@op
def windows():
    """Pictures x (images, height, width, channels) cut into windows y (windows, side*side, channels), by transformers' SAM and Swin."""
    from transformers import SwinConfig
    from transformers.models.sam.modeling_sam import SamVisionLayer
    from transformers.models.swin.modeling_swin import SwinLayer, window_partition

    for case, (images, height, width, channels, side) in {'sam_fits': (2, 4, 6, 4, 2), 'sam_padded': (1, 5, 7, 8, 3), 'sam_one': (1, 2, 3, 4, 7)}.items():
        x = rand(images, height, width, channels)
        y, _ = SamVisionLayer.window_partition(None, x, side)
        yield case, dict(side=side, shift=0), dict(x=x, y=y.flatten(1, 2))
    for case, (images, height, width, channels, side, shift) in {'swin': (2, 6, 9, 4, 3, 1), 'swin_padded': (1, 7, 10, 8, 4, 2)}.items():
        x = rand(images, height, width, channels)
        layer = SwinLayer(SwinConfig(window_size=side), channels, (height, width), 1, shift_size=shift)
        y = window_partition(layer.cyclic_shift(layer.maybe_pad(x, height, width)[0]), side)
        yield case, dict(side=side, shift=shift), dict(x=x, y=y.reshape(-1, side * side, channels))


@op
def softmax():
    """Over the last axis; x (rows, cols)."""
    for rows, cols in [(1, 1), (3, 7), (5, 64), (4, 196), (2, 1000)]:
        x = rand(rows, cols, scale=3)
        yield f'{rows}x{cols}', {}, dict(x=x, y=x.softmax(-1))
    x = torch.tensor([[1e4, 9999.0, -1e4, 0.0], [-1e30, -1e30, -1e30, 5.0], [-80.0, -81.0, -79.0, -80.5]]).double()
    yield 'extreme', {}, dict(x=x, y=x.softmax(-1))


@op
def argmax():
    """Index of the largest value of each row; of equal ones the first.  x (rows, cols), y int32 (rows)."""
    for rows, cols in [(1, 1), (3, 7), (5, 64), (2, 257), (2, 5000)]:
        x = rand(rows, cols)
        yield f'{rows}x{cols}', {}, dict(x=x, y=torch.from_numpy(np.argmax(x.numpy(), -1)))
    x = torch.tensor([[1.0, 5.0, 5.0, 2.0], [-3.0, -3.0, -3.0, -3.0], [-2.0, -1.0, -9.0, -1.0], [0.0, 0.0, 0.0, 1e-30]]).double()
    yield 'ties', {}, dict(x=x, y=torch.from_numpy(np.argmax(x.numpy(), -1)))


@op
def rope():
    """Rotary positions on x (rows, heads*d) at given positions (rows, int32); pair i turns by position * theta^(-2i/d).

    half         pairs (i, i + d/2): Hugging Face's rotate_half, ggml's "neox"
    interleaved  pairs (2i, 2i + 1): the Llama paper, ggml's "normal", what Llama GGUFs expect
    """
    for style in ('half', 'interleaved'):
        for theta in (10000.0, 100000.0):
            for rows, heads, d, pos in [(5, 3, 8, [0, 1, 2, 3, 4]), (4, 2, 64, [7, 100, 1023, 2047]), (1, 1, 16, [5])]:
                x = rand(rows, heads * d)
                angle = torch.tensor(pos).double()[:, None] * theta ** (-torch.arange(0, d, 2).double() / d)
                c, s = angle.cos()[:, None], angle.sin()[:, None]                     # (rows, 1, d/2)
                t = x.view(rows, heads, d)
                a, b = (t[..., :d // 2], t[..., d // 2:]) if style == 'half' else (t[..., 0::2], t[..., 1::2])
                turned = [a * c - b * s, a * s + b * c]
                y = torch.cat(turned, -1) if style == 'half' else torch.stack(turned, -1)
                yield f'{style}_{int(theta)}_d{d}', dict(style=style, theta=theta, heads=heads, head_dim=d), dict(
                    x=x, positions=torch.tensor(pos), y=y.reshape(rows, heads * d))


@op
def head_norm():
    """RMS norm of each head of q and of k in rows of q, k and v heads; weight (2, d): of q, of k."""
    for rows, heads, kv, d in [(3, 4, 2, 16), (2, 3, 1, 64), (1, 4, 1, 256)]:
        x, w, eps = rand(rows, (heads + 2 * kv) * d), rand(2, d), 1e-6
        t = x.view(rows, heads + 2 * kv, d)
        norm = lambda part, weight: F.rms_norm(part, (d,), weight, eps)
        y = torch.cat([norm(t[:, :heads], w[0]), norm(t[:, heads:heads + kv], w[1]), t[:, heads + kv:]], 1)
        yield f'{rows}x{heads}_{kv}x{d}', dict(heads=heads, kv_heads=kv, head_dim=d, eps=eps), dict(x=x, weight=w, y=y.reshape(rows, -1))


@op
def cross_entropy():
    """-log softmax(x)[target], row by row; target int32."""
    for rows, cols in [(4, 11), (3, 1000), (1, 1)]:
        x = 6 * rand(rows, cols)
        target = torch.arange(rows) * 7 % cols
        yield f'{rows}x{cols}', {}, dict(x=x, target=target, y=F.cross_entropy(x, target, reduction='none'))


@op
def embedding():
    """Row gather: y[r] = weight[ids[r]]; ids int32."""
    for vocab, dim, ids in [(11, 5, [0, 10, 3, 3, 7]), (50, 64, [49, 0, 25]), (3, 1, [2])]:
        w = rand(vocab, dim)
        yield f'{vocab}x{dim}', {}, dict(weight=w, ids=torch.tensor(ids), y=w[torch.tensor(ids)])


@op
def mean_pool():
    """Masked mean over tokens, then unit length: x (batch, tokens, dim), mask int32 (batch, tokens) -> mean, y (batch, dim)."""
    for batch, tokens, dim, lengths in [(1, 1, 5, [1]), (3, 7, 9, [7, 1, 4]), (2, 16, 384, [16, 11])]:
        x = rand(batch, tokens, dim)
        mask = (torch.arange(tokens)[None] < torch.tensor(lengths)[:, None]).int()
        mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        yield f'{batch}x{tokens}x{dim}', {}, dict(x=x, mask=mask, mean=mean, y=F.normalize(mean, dim=-1))


# ------------------------------------------------------------------ images
@op
def conv2d():
    """y = act(conv(x) + bias); x (n, ci, h, w), weight (co, ci, kh, kw); also x_nhwc, y_nhwc and weight_ohwi (co, kh, kw, ci)."""
    cases = {   # name: n, ci, co, h, w, kernel, stride, padding, activation
        'k3': (1, 5, 7, 5, 9, 3, 1, 1, 'none'), 'k3_stride2': (1, 6, 5, 6, 10, 3, 2, 1, 'none'), 'k3_stride2_odd': (2, 3, 4, 5, 7, 3, 2, 1, 'none'),
        'k3_gelu': (1, 4, 8, 6, 6, 3, 1, 1, 'gelu'), 'first_layer': (1, 1, 24, 10, 8, 3, 2, 1, 'gelu'), 'k1': (2, 9, 6, 5, 3, 1, 1, 0, 'none'),
        'k1_gelu': (1, 16, 12, 4, 4, 1, 1, 0, 'gelu'), 'one_pixel': (1, 3, 2, 1, 1, 3, 1, 1, 'none'), 'wide': (1, 20, 20, 4, 5, 3, 1, 1, 'none'),
    }
    for case, (n, ci, co, h, w, k, s, p, a) in cases.items():
        x, wt, b = rand(n, ci, h, w), rand(co, ci, k, k, scale=(ci * k * k) ** -0.5), rand(co, scale=0.3)
        y = ACT[a](F.conv2d(x, wt, b, s, p))
        t = dict(x=x, weight=wt, bias=b, y=y)
        if case != 'wide':
            t['weight_ohwi'] = nhwc(wt)
        yield case, dict(kernel=k, stride=s, padding=p, activation=a), dict(t, x_nhwc=nhwc(x), y_nhwc=nhwc(y))


@op
def conv_transpose2d():
    """2x2, stride 2: y[n, o, 2i+a, 2j+b] = bias[o] + sum_c x[n, c, i, j] weight[c, o, a, b]; weight in PyTorch's (ci, co, 2, 2)."""
    for case, (n, ci, co, h, w, a) in {'plain': (1, 5, 3, 4, 6, 'none'), 'batched': (2, 8, 4, 3, 5, 'none'), 'one_pixel': (1, 7, 9, 1, 1, 'none'), 'gelu': (1, 16, 8, 7, 7, 'gelu')}.items():
        x, wt, b = rand(n, ci, h, w), rand(ci, co, 2, 2, scale=ci ** -0.5), rand(co, scale=0.3)
        y = ACT[a](F.conv_transpose2d(x, wt, b, 2))
        yield case, dict(kernel=2, stride=2, activation=a), dict(x=x, weight=wt, bias=b, y=y, x_nhwc=nhwc(x), y_nhwc=nhwc(y))


def last(x):
    """(n, c, ...) -> (n, ..., c)."""
    return x.movedim(1, -1)


def conv_case(n, ci, co, size, kernel, stride=1, padding=0, dilation=1, groups=1, a='none', bias=True, residual=False):
    """A convolution in as many dimensions as `size` has; y = act(conv(x) + bias + residual), channels last but for the weight."""
    each = lambda v: list(v) if isinstance(v, tuple) else [v] * len(size)
    kernel, stride, padding, dilation = map(each, (kernel, stride, padding, dilation))
    x, wt = rand(n, ci, *size), rand(co, ci // groups, *kernel, scale=(ci // groups * math.prod(kernel)) ** -0.5)
    b = rand(co, scale=0.3) if bias else None
    y = (F.conv2d if len(size) == 2 else F.conv3d)(x, wt, b, stride, padding, dilation, groups)
    t = dict(x=last(x), weight=wt)
    if bias:
        t['bias'] = b
    if residual:
        r = rand(*y.shape)
        y, t['residual'] = y + r, last(r)
    scalars = dict(kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, activation=a)
    return scalars, dict(t, y=last(ACT[a](y)))


@op
def conv():
    """PyTorch's Conv2d as the models use it; x (n, h, w, ci), weight (co, ci / groups, kh, kw), y (n, h, w, co)."""
    cases = dict(
        k7_stride2=(1, 3, 5, (9, 8), 7, 2, 3), k1_stride2=(1, 8, 5, (5, 6), 1, 2), k5=(1, 3, 4, (6, 7), 5, 1, 2), k1x11=(1, 4, 8, (2, 9), (1, 11), 1, (0, 5)),
        k21x1=(1, 4, 8, (9, 2), (21, 1), 1, (10, 0)), padding_over=(1, 2, 16, (2, 3), 3, 1, 5), dilated=(2, 4, 12, (7, 5), 3, (1, 2), (4, 3), (4, 3)),
        patches=(1, 3, 8, (12, 8), 4, 4), grouped=(1, 8, 32, (4, 5), 3, 1, 1, 1, 2), grouped_thin=(1, 15, 20, (4, 3), 3, 1, 1, 1, 5),
        grouped_merged=(1, 8, 16, (3, 4), 3, 1, 1, 1, 4), multiplied=(1, 3, 6, (5, 4), 3, 1, 1, 1, 3))
    for case, arguments in cases.items():
        yield case, *conv_case(*arguments)
    yield 'no_bias', *conv_case(1, 4, 8, (4, 4), 3, 1, 1, bias=False, a='silu')
    yield 'resnet', *conv_case(1, 8, 16, (3, 4), 3, 1, 1, a='relu', residual=True)
    yield 'resnet_point', *conv_case(1, 8, 16, (3, 4), 1, a='relu', residual=True)


@op
def conv3d():
    """Conv3d likewise; x (n, d, h, w, ci), weight (co, ci / groups, kd, kh, kw)."""
    cases = dict(
        point=(1, 5, 18, (2, 3, 2), 1), k3=(1, 5, 5, (4, 5, 3), 3, 1, 1), dilated=(1, 5, 21, (3, 4, 5), 3, 1, 4, 4),
        stem=(1, 1, 8, (3, 8, 7), (3, 7, 7), (1, 2, 2), (1, 3, 3)), stride2=(2, 4, 6, (3, 5, 4), 3, 2, 1))
    for case, arguments in cases.items():
        yield case, *conv_case(*arguments)
    yield 'flat', *conv_case(1, 4, 8, (3, 4, 3), (1, 3, 3), 1, (0, 1, 1), a='gelu')


@op
def conv_depthwise():
    """A group for each channel; otherwise as conv."""
    cases = dict(
        k3=(7, (5, 9), 3, 1, 1), k3_stride2=(8, (6, 7), 3, 2, 1), k5=(8, (6, 5), 5, 1, 2), k7=(4, (8, 9), 7, 1, 3), k1x7=(5, (3, 18), (1, 7), 1, (0, 3)),
        k7x1=(5, (18, 3), (7, 1), 1, (3, 0)), k1x11=(4, (2, 9), (1, 11), 1, (0, 5)), k21x1=(4, (10, 2), (21, 1), 1, (10, 0)), padding_over=(4, (2, 2), 3, 1, 4),
        dilated=(4, (9, 11), 3, (2, 3), 4, (3, 2)), k3d=(6, (3, 4, 5), 3, 1, 1), k3d_stride2=(4, (4, 3, 5), 3, 2, 1))
    for case, (c, size, k, s, p, *d) in cases.items():
        yield case, *conv_case(2 if case == 'k3' else 1, c, c, size, k, s, p, *d, groups=c)
    yield 'gelu_no_bias', *conv_case(1, 4, 4, (4, 5), 3, 1, 1, groups=4, a='gelu', bias=False)
    yield 'joined', *conv_case(1, 8, 8, (4, 5), 5, 1, 2, groups=8, a='relu', residual=True)


@op
def conv_transpose():
    """PyTorch's ConvTranspose2d and 3d whose stride is the kernel; x (n, ..., ci), weight (ci, co, ...), y (n, ..., co)."""
    cases = dict(k2=(2, 8, 6, (3, 4), 2), k4=(1, 5, 3, (2, 3), 4), k4_one=(1, 8, 1, (3, 3), 4), k16_one=(1, 6, 1, (2, 2), 16), k3x1=(1, 4, 4, (2, 3), (3, 1)),
                 k2_3d=(1, 7, 5, (2, 3, 2), 2), k1x2x2=(1, 4, 8, (2, 2, 3), (1, 2, 2)))
    for case, (n, ci, co, size, k) in cases.items():
        kernel = list(k) if isinstance(k, tuple) else [k] * len(size)
        x, wt, b = rand(n, ci, *size), rand(ci, co, *kernel, scale=ci ** -0.5), rand(co, scale=0.3)
        a = 'gelu' if case in ('k2', 'k2_3d') else 'none'
        y = ACT[a]((F.conv_transpose2d if len(size) == 2 else F.conv_transpose3d)(x, wt, b, kernel))
        yield case, dict(kernel=kernel, activation=a), dict(x=last(x), weight=wt, bias=b, y=last(y))


@op
def resample():
    """Bilinear, twice the size, align_corners=False (edges repeat): x (n, c, h, w) -> y (n, c, 2h, 2w)."""
    for n, c, h, w in [(1, 1, 1, 1), (1, 2, 1, 5), (1, 3, 4, 4), (2, 5, 7, 6), (1, 1, 17, 13)]:
        x = rand(n, c, h, w)
        y = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)
        yield f'{n}x{c}x{h}x{w}', dict(scale=2), dict(x=x, y=y, x_nhwc=nhwc(x), y_nhwc=nhwc(y))


@op
def patchify():
    """Cut into p x p patches, row-major: x (n, c, h, w) -> y (n, patches, c*p*p), a patch flattened as (c, row, column),
    i.e. as a PyTorch convolution weight is; y_nhwc flattens it as (row, column, c)."""
    for n, c, h, w, p in [(1, 1, 4, 4, 2), (2, 3, 8, 12, 4), (1, 3, 32, 16, 16), (1, 2, 3, 3, 1)]:
        x = rand(n, c, h, w)
        t = x.view(n, c, h // p, p, w // p, p)
        y = t.permute(0, 2, 4, 1, 3, 5).reshape(n, -1, c * p * p)
        assert torch.equal(y, F.unfold(x, p, stride=p).transpose(1, 2))
        yield f'{n}x{c}x{h}x{w}_p{p}', dict(patch=p), dict(
            x=x, x_nhwc=nhwc(x), y=y, y_nhwc=t.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, p * p * c))


# ------------------------------------------------------------------ element by element
@op
def activate():
    """y = f(x): exact (erf) gelu, silu, relu, sigmoid, gelu by tanh, quick gelu, elu, tanh; one sweep of ordinary and one of very large and very small |x|."""
    edge = [0.0, -0.0, 1e-30, -1e-30, 1e-4, -1e-4, 0.5, -0.5, 3, -3, 5, -5, 5.5, -5.5, 6, -6, 8, -8, 12, -12, 20, -20, 50, -50, 87, -87, 88.5, -88.5,
            89, -89, 100, -100, 1e3, -1e3, 1e5, -1e5, 1e10, -1e10, 1e30, -1e30]
    for a in ('gelu', 'silu', 'relu', 'sigmoid', 'gelutanh', 'quickgelu', 'elu', 'tanh'):
        for case, x in {'': rand(257, scale=2), '_edge': torch.tensor(edge).double()}.items():
            yield a + case, dict(activation=a), dict(x=x, y=ACT[a](x))


@op
def add():
    """y = a + b; b of a's shape, or one row (cols) added to every row."""
    for case, (sa, sb) in {'one': ((1,), (1,)), 'same': ((7, 13), (7, 13)), 'long': ((1031,), (1031,)), 'row': ((9, 17), (17,))}.items():
        a, b = rand(*sa), rand(*sb)
        yield case, {}, dict(a=a, b=b, y=a + b)


@op
def mul():
    """y = a * b; b of a's shape, or one row (cols) times every row."""
    for case, (sa, sb) in {'one': ((1,), (1,)), 'same': ((7, 13), (7, 13)), 'long': ((1031,), (1031,)), 'row': ((9, 17), (17,))}.items():
        a, b = rand(*sa), rand(*sb)
        yield case, {}, dict(a=a, b=b, y=a * b)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--out', default='.', help='folder to write to')
    p.add_argument('ops', nargs='*', help='names of ops (all when none is given)')
    a = p.parse_args()
    for name in a.ops or OPS:
        torch.manual_seed(zlib.crc32(name.encode()))             # an op's numbers do not depend on the others
        tensors, metadata = {}, {}
        for case, params, roles in OPS[name]():
            assert case not in metadata, case
            metadata[case] = json.dumps(params)
            for role, t in roles.items():
                t = t.float() if t.is_floating_point() else t.int()
                assert t.isfinite().all()
                tensors[f'{case}.{role}'] = t.numpy()
        path = Path(a.out) / f'{name}.safetensors'
        size = save(path, tensors, metadata)
        print(f'{path.name:32s} {len(metadata):3d} cases {size:6d} bytes')
        assert size <= LIMIT, name


if __name__ == '__main__':
    main()
