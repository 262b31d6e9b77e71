"""Goldens of CRIS and of CLIP's ResNets: what open_clip and PyTorch make of them with seeded weights.

    python cris.py --out .            small models: clip_resnet.json, cris.json; a slice: cris_slice.json
    python cris.py --out . --whole    CRIS on RN50 at 416 x 416, minutes and 4 GB: cris_whole.json, and ../../weights/cris-r50.names

The towers are open_clip's, whose names are OpenAI's.  What CRIS adds is written here after its paper (arXiv 2111.15174) and its
repository, of PyTorch's own layers: the last attention without a class token, the neck, the decoder and the projector.  A case
holds the shape of every tensor, phrases as token ids, and samples of activations as in clip.py; of phrases each by itself, their
number before the name.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import nn

from clip import small_vocabulary
from llama import values
from sam import med_levels, sampled

TEXT = dict(context_length=20, vocab_size=99, width=64, heads=1, layers=2)
# the highest token in the middle, one token alone
TEXTS = [[97, 5, 33, 7, 98], [97, 11, 98, 12, 98, 4], [90], [97, 1, 2, 3, 4, 90, 5, 96]]
SMALL = {
    # positions stretched from 3 x 3 to 4 x 4, widths that all differ
    'stretched': dict(size=128, learned=3, layers=(1, 2, 1, 1), width=8, embed=48, text=TEXT, neck=(24, 64, 40), ffn=96, depth=2),
    # as MedVLSM keeps it: phrases are filled up with what ends them
    'net': dict(size=64, learned=2, layers=(2, 1, 1, 2), width=8, embed=32, text=TEXT, neck=(16, 64, 32), ffn=64, depth=1, fills=True),
}
R50 = dict(size=416, learned=7, layers=(3, 4, 6, 3), width=64, embed=1024, neck=(256, 512, 1024), ffn=2048, depth=3,
           text=dict(context_length=77, vocab_size=49408, width=512, heads=8, layers=12))
PHRASES = [[49406, 320, 1125, 539, 320, 2368, 49407], [49406, 4807, 49407]]


def seed(model):
    """Weights by name; those of norms, and variances, are about 1."""
    state = model.state_dict()
    for name, t in state.items():
        if t.is_floating_point():
            shape = tuple(t.shape)
            v = values(name, int(np.prod(shape))).reshape(shape)
            if len(shape) > 1:
                v = v * np.float32(2) / np.sqrt(np.float32(np.prod(shape[1:])))
            else:
                stem, last = name.rpartition('.')[::2]
                norm = 'norm' in name.lower() or '.ln_' in f'.{name}'
                batch = f'{stem}.running_var' in state and last in ('weight', 'running_var')
                v = v * np.float32(0.25) + np.float32(norm or batch)
            t.copy_(torch.from_numpy(np.asarray(v)))
    return {name: list(t.shape) for name, t in state.items() if 'attn_mask' not in name}


def tower(size, layers, width, embed, text):
    return CLIP(embed, CLIPVisionCfg(layers=list(layers), width=width, image_size=size), CLIPTextCfg(**text), quick_gelu=True)


def pixels(size, n=0):
    return torch.from_numpy(values(f'pixels{n}', 3 * size * size).reshape(1, 3, size, size)).double()


def convolved(inputs, outputs, kernel):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Coord(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv1 = convolved(dim + 2, dim, 3)

    def forward(self, x):
        n, _, h, w = x.shape
        rows, columns = torch.linspace(-1, 1, h)[:, None].expand(h, w), torch.linspace(-1, 1, w)[None].expand(h, w)
        return self.conv1(torch.cat([x, torch.stack([columns, rows])[None].expand(n, -1, -1, -1)], 1))


class Neck(nn.Module):
    def __init__(self, maps, outputs):
        super().__init__()
        (m3, m4, m5), (c3, c4, c5) = maps, outputs
        self.txt_proj = nn.Sequential(nn.Linear(m5, c5, bias=False), nn.BatchNorm1d(c5), nn.ReLU())
        self.f1_v_proj, self.norm_layer = convolved(m5, c5, 1), nn.Sequential(nn.BatchNorm2d(c5), nn.ReLU())
        self.f2_v_proj, self.f2_cat = convolved(m4, c4, 3), convolved(c5 + c4, c4, 1)
        self.f3_v_proj, self.f3_cat = convolved(m3, c3, 3), convolved(c3 + c4, c4, 1)
        self.f4_proj5, self.f4_proj4, self.f4_proj3 = convolved(c5, c4, 3), convolved(c4, c4, 3), convolved(c4, c4, 3)
        self.aggr = convolved(3 * c4, c4, 1)
        self.coordconv = nn.Sequential(Coord(c4), convolved(c4, c4, 3))

    def forward(self, maps, state):
        double = lambda x: F.interpolate(x, scale_factor=2, mode='bilinear')   # noqa: E731
        m3, m4, m5 = maps
        f5 = self.norm_layer(self.f1_v_proj(m5) * self.txt_proj(state)[..., None, None])
        f4 = self.f2_cat(torch.cat([self.f2_v_proj(m4), double(f5)], 1))
        f3 = self.f3_cat(torch.cat([F.avg_pool2d(self.f3_v_proj(m3), 2), f4], 1))
        return self.coordconv(self.aggr(torch.cat([self.f4_proj3(f3), self.f4_proj4(f4), double(self.f4_proj5(f5))], 1)))


class DecoderLayer(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.self_attn, self.multihead_attn = (nn.MultiheadAttention(dim, 8, batch_first=True) for _ in range(2))
        self.self_attn_norm, self.cross_attn_norm, self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(5))
        self.ffn = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(0), nn.LayerNorm(hidden), nn.Linear(hidden, dim))

    def forward(self, x, words, places, order, hidden):
        own = self.norm1(x)
        x = x + self.self_attn_norm(self.self_attn(own + places, own + places, own)[0])
        read = self.multihead_attn(self.norm2(x) + places, words + order, words, key_padding_mask=hidden)[0]
        x = x + self.cross_attn_norm(read)
        return x + self.ffn(self.norm3(x))


def waves(count, dim):
    """Of each place sines and cosines in turn, the longest wave 10,000 times the shortest."""
    turns = torch.arange(count)[:, None] * torch.exp(torch.arange(0, dim, 2) * (-np.log(10000.0) / dim))
    return torch.stack([turns.sin(), turns.cos()], 2).reshape(count, dim)


class Decoder(nn.Module):
    def __init__(self, dim, hidden, depth):
        super().__init__()
        self.layers, self.norm = nn.ModuleList(DecoderLayer(dim, hidden) for _ in range(depth)), nn.LayerNorm(dim)

    def forward(self, fq, words, hidden):
        n, dim, side, _ = fq.shape
        half = waves(side, dim // 2)
        places = torch.cat([half[None].expand(side, -1, -1), half[:, None].expand(-1, side, -1)], 2).reshape(side * side, dim)
        x = fq.flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x, words, places, waves(words.shape[1], dim), hidden)
        return self.norm(x)


class Projector(nn.Module):
    def __init__(self, words, dim):
        super().__init__()
        double = lambda: nn.Upsample(scale_factor=2, mode='bilinear')          # noqa: E731
        self.vis = nn.Sequential(double(), convolved(2 * dim, 2 * dim, 3), double(), convolved(2 * dim, dim, 3), nn.Conv2d(dim, dim, 1))
        self.txt = nn.Linear(words, dim * 9 + 1)

    def forward(self, x, state):
        x = self.vis(x)
        made = self.txt(state)
        return torch.cat([F.conv2d(one[None], m[:-1].reshape(1, -1, 3, 3), m[-1:], padding=1) for one, m in zip(x, made)])


class Cris(nn.Module):
    def __init__(self, size, learned, layers, width, embed, text, neck, ffn, depth, fills=False):
        super().__init__()
        self.size, self.fills, self.backbone = size, fills, tower(32 * learned, layers, width, embed, text)
        pool = self.backbone.visual.attnpool
        pool.connect = nn.Sequential(nn.Conv2d(32 * width, embed, 1, bias=False), nn.BatchNorm2d(embed))
        dim = neck[1]
        self.neck = Neck((8 * width, 16 * width, embed), neck)
        self.decoder, self.proj = Decoder(dim, ffn, depth), Projector(embed, dim // 2)

    def maps(self, image):
        visual, pool = self.backbone.visual, self.backbone.visual.attnpool
        c2 = visual.layer1(visual.stem(image))
        c3 = visual.layer2(c2)
        c4 = visual.layer3(c3)
        c5 = visual.layer4(c4)
        n, dim, h, w = c5.shape
        side = round((len(pool.positional_embedding) - 1) ** 0.5)
        grid = pool.positional_embedding[1:].reshape(1, side, side, dim).permute(0, 3, 1, 2)
        x = (c5 + F.interpolate(grid, size=(h, w), mode='bicubic', align_corners=False)).flatten(2).transpose(1, 2)
        split = lambda t: t.unflatten(2, (pool.num_heads, -1)).transpose(1, 2)  # noqa: E731
        seen = F.scaled_dot_product_attention(*(split(p(x)) for p in (pool.q_proj, pool.k_proj, pool.v_proj)))
        seen = pool.c_proj(seen.transpose(1, 2).flatten(2)).transpose(1, 2).unflatten(2, (h, w))
        return [c2, c3, c4, c5, F.relu(seen + pool.connect(c5))]

    def words(self, ids):
        most = self.backbone.context_length
        ids = ids + [ids[-1] if self.fills else 0] * (most - len(ids))
        ids = torch.tensor([ids])
        clip = self.backbone
        mask = torch.full((most, most), -np.inf).triu(1)
        x = clip.transformer(clip.token_embedding(ids) + clip.positional_embedding, attn_mask=mask)
        x = clip.ln_final(x)
        return x, x[:, ids[0].argmax()] @ clip.text_projection, ids == 0

    def enlarged(self, logits):
        return F.interpolate(logits, size=(self.size, self.size), mode='bicubic', align_corners=True)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


@torch.no_grad()
def cris_case(texts=TEXTS, count=40, **sizes):
    torch.set_default_dtype(torch.float64)
    model = Cris(**sizes).double().eval()
    tensors, found, enlarged = seed(model), {}, []
    maps = model.maps(pixels(sizes['size']))
    for name, x in zip(('c2', 'c3', 'c4', 'c5', 'pool'), maps):
        found[name] = sampled(nhwc(x), count)
    vectors = []
    for n, ids in enumerate(texts):
        words, state, hidden = model.words(ids)
        vectors.append(state)
        found[f'{n}.words'] = sampled(words[:, :words.shape[1] if model.fills else len(ids)], count)
        fq = model.neck(maps[1:3] + maps[4:], state)
        found[f'{n}.fq'] = sampled(nhwc(fq), count)
        hooks = [layer.register_forward_hook(lambda m, i, o, k=k: found.__setitem__(f'{n}.decoder{k}', sampled(o, count)))
                 for k, layer in enumerate(model.decoder.layers)]
        read = model.decoder(fq, words, hidden)
        found[f'{n}.decoder'] = sampled(read, count)
        hooks.append(model.proj.vis.register_forward_hook(lambda m, i, o: found.__setitem__(f'{n}.vis', sampled(nhwc(o), count))))
        logits = model.proj(read.transpose(1, 2).unflatten(2, fq.shape[2:]), state)
        found[f'{n}.logits'] = sampled(logits, 4 * count)
        enlarged.append(sampled(model.enlarged(logits), 4 * count))
        for hook in hooks:
            hook.remove()
    found['vectors'] = sampled(torch.cat(vectors), count)
    return dict(tensors=tensors, texts=texts, size=sizes['size'], wrapper='net.' if model.fills else '', found=found,
                enlarged=enlarged)


@torch.no_grad()
def resnet_case(learned, count=60, **sizes):
    torch.set_default_dtype(torch.float64)
    model = tower(32 * learned, **sizes).double().eval()
    tensors, found, visual = seed(model), {}, model.visual
    stack = torch.cat([pixels(32 * learned, n) for n in range(2)])
    parts = visual.forward_intermediates(stack, intermediates_only=True)['image_intermediates']
    for name, x in zip(('stem', 'c2', 'c3', 'c4', 'c5'), parts):
        found[name] = sampled(nhwc(x), count)
    images = model.encode_image(stack)
    most = model.context_length
    texts = torch.cat([model.encode_text(torch.tensor([ids + [0] * (most - len(ids))])) for ids in TEXTS])
    found['image_embeds'], found['text_embeds'] = sampled(images, count), sampled(texts, count)
    return dict(tensors=tensors, texts=TEXTS, size=32 * learned, found=found)


@torch.no_grad()
def slice_of_a_volume():
    """As in clip.py: a slice of a turned volume, stretched by Pillow as torchvision's Resize does, and probabilities of two phrases."""
    import nibabel
    from PIL import Image
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    tokenizer = CLIPTokenizer(**dict(zip(('vocab', 'merges'), small_vocabulary())))
    torch.set_default_dtype(torch.float64)
    size, end = 64, tokenizer.eos_token_id
    text = dict(TEXT, vocab_size=end + 1, context_length=40)
    model = Cris(**dict(SMALL['net'], fills=False, text=text)).double().eval()
    tensors = seed(model)
    shape, affine = (30, 5, 24), np.array([[-1.2, 0, 0, 14], [0, 0, 1.1, -9], [0, -2, 0, 4], [0, 0, 0, 1.0]])
    volume = np.floor(np.abs(values('volume', int(np.prod(shape))).reshape(shape, order='F')) * np.float32(400))
    volume[:4, 0] = 0
    to = nibabel.orientations.io_orientation(affine)
    canonical = nibabel.orientations.apply_orientation(med_levels(volume, False), to)
    j = 3
    shown = np.ascontiguousarray(canonical[:, :, shape[1] - 1 - j].T[::-1, ::-1])
    seen = np.asarray(Image.fromarray(shown).resize((size, size), Image.Resampling.BILINEAR), np.float64) / 255
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    picture = (torch.from_numpy(seen).expand(1, 3, -1, -1) - mean[:, None, None]) / std[:, None, None]
    maps, kept = model.maps(picture), {}
    for phrase in ['left hippocampus', 'a tumour of the Cerebellum']:
        words, state, hidden = model.words(tokenizer(phrase)['input_ids'])
        fq = model.neck(maps[1:3] + maps[4:], state)
        logits = model.proj(model.decoder(fq, words, hidden).transpose(1, 2).unflatten(2, fq.shape[2:]), state)
        back = F.interpolate(model.enlarged(logits), size=shown.shape, mode='bilinear', align_corners=False)[0, 0]
        native = back.sigmoid().numpy()[::-1, ::-1].T[::-1]
        kept[phrase] = [float(f'{v:.7g}') for v in native.flatten(order='F')]
    return dict(tensors=tensors, size=size, shape=list(shape), affine=affine[:3].tolist(), slice=j, found=kept)


def write(path, cases):
    made = {'made with': f'open_clip {open_clip.__version__}, torch {torch.__version__}'}
    path.write_text('{\n' + ',\n'.join(f'{json.dumps(k)}: {json.dumps(v)}' for k, v in {**made, **cases}.items()) + '\n}\n')


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--out', type=Path, default=Path('.'))
    p.add_argument('--whole', action='store_true')
    a = p.parse_args()
    if a.whole:
        case = cris_case(PHRASES, 250, **R50)
        rows = sorted(case['tensors'].items())
        (Path(__file__).parent / '../../weights/cris-r50.names').write_text(''.join(f'{name} {shape}\n' for name, shape in rows))
        write(a.out / 'cris_whole.json', {'r50': case})
        return
    resnet = {'rn': dict(learned=3, layers=(1, 2, 1, 2), width=8, embed=40, text=TEXT)}
    write(a.out / 'clip_resnet.json', {name: resnet_case(**case) for name, case in resnet.items()})
    write(a.out / 'cris.json', {name: cris_case(**case) for name, case in SMALL.items()})
    write(a.out / 'cris_slice.json', {'slice': slice_of_a_volume()})


if __name__ == '__main__':
    main()
