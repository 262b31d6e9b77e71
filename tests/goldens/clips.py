"""Goldens of MedCLIP and BiomedCLIP with seeded weights: towers of transformers and timm, put together as those models are.

    python clips.py --out .             small models: clips.json; the state of a tiny one as open_clip publishes it: convert_open_clip.bin
    python clips.py --out . --whole     both at their true sizes: clips_whole.json, and their contracts ../../weights/medclip-vit.names
                                        and ../../weights/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224.names

MedCLIP: its vision model is `SwinModel`'s pooled output through a projection; its text model the mean over the tokens of the mean of
BERT's states after layers 1, 2 and the last, through another; neither has a bias.  BiomedCLIP is open_clip's `CustomTextCLIP`: timm's
ViT at its class token through a linear layer, and BERT's first state through two with GELU between, none of them with a bias.  What
they give is scaled to unit length.

A case is as those of bert.py and swin.py.
"""
import argparse
import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import timm
import torch
import transformers
from timm.models.vision_transformer import VisionTransformer
from transformers import BertConfig, BertModel, SwinConfig, SwinModel

from bert import BASE, sentences
from sam import sampled
from store import contract
from swin import TINY, pixels, seeded, watched
from vision import weight

SWIN = dict(patch_size=4, image_size=32, embed_dim=16, depths=[2, 2], num_heads=[1, 2], window_size=4)
BERT = dict(hidden_size=128, num_hidden_layers=3, num_attention_heads=2, intermediate_size=96, vocab_size=131, max_position_embeddings=40)
VIT = dict(img_size=32, patch_size=8, embed_dim=128, depth=3, num_heads=2, mlp_ratio=1.5)

TINY_BERT = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=23, max_position_embeddings=16)
TINY_VIT = dict(img_size=16, patch_size=8, embed_dim=16, depth=1, num_heads=2, mlp_ratio=1)


def published(tensors, path):
    """`open_clip_pytorch_model.bin`: a state dict in order, whole numbers among it."""
    def value(name, shape):
        return torch.arange(shape[1])[None] if name.endswith('position_ids') else torch.from_numpy(np.asarray(weight(name, shape))).float()
    torch.save(OrderedDict((name, value(name, shape)) for name, shape in tensors.items()), path)


def unit(x):
    return torch.nn.functional.normalize(x, dim=-1)


def settled(parts):
    """Seeded weights for tensors that are no part of a tower, by name and shape."""
    return {name: torch.from_numpy(np.asarray(weight(name, shape))).double() for name, shape in parts.items()}


def bert_of(config, prefix, pooler):
    model = BertModel._from_config(BertConfig(**config), attn_implementation='sdpa', add_pooling_layer=pooler).eval()
    tensors = {prefix + name: list(p.shape) for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        p.copy_(torch.from_numpy(weight(prefix + name, p.shape)))
    tensors[f'{prefix}embeddings.position_ids'] = [1, config.get('max_position_embeddings', 512)]
    return model, tensors


def read(model, ids, count, keep, of):
    """Each sentence alone: `of` what the model says of it, and the states after some layers, one after the other."""
    outs = [model(torch.tensor([one]), output_hidden_states=True) for one in ids]
    found = {f'hidden{n}': sampled(torch.cat([o.hidden_states[n][0] for o in outs]), count) for n in keep}
    return torch.stack([of(o) for o in outs]), found


@torch.no_grad()
def medclip(swin, bert, pictures, lengths, proj=32, count=120, keep=(0, 3), watch=lambda name: True):
    torch.set_default_dtype(torch.float64)
    vision = SwinModel._from_config(SwinConfig(**swin), attn_implementation='sdpa').eval()
    tensors = seeded(vision, 'vision_model.model.')
    text, own = bert_of(bert, 'text_model.model.', True)
    heads = {'vision_model.projection_head.weight': [proj, vision.num_features], 'text_model.projection_head.weight': [proj, text.config.hidden_size],
             'logit_scale': []}
    tensors.update(own, **heads)
    w = settled(heads)
    found = watched(vision, count, watch)
    images = unit(vision(pixels(pictures)).pooler_output @ w['vision_model.projection_head.weight'].T)
    ids = sentences(text.config.vocab_size, lengths)
    layers = lambda o: torch.stack([o.hidden_states[n] for n in (1, 2, -1)]).permute(1, 0, 2, 3)[0].mean(0).mean(0)         # noqa: E731
    pooled, states = read(text, ids, count, keep, layers)
    texts = unit(pooled @ w['text_model.projection_head.weight'].T)
    scale = w['logit_scale'].clamp(0, 4.6052).exp()
    found.update(states, image=sampled(images, 2 * count), text=sampled(texts, 2 * count))
    return dict(tensors=tensors, pictures=pictures, sentences=ids, found=found, logit_scale=float(scale), logits=(scale * images @ texts.T).tolist())


@torch.no_grad()
def biomedclip(vit, bert, pictures, lengths, proj=32, middle=80, count=120, keep=(0, 3), watch=lambda name: True):
    torch.set_default_dtype(torch.float64)
    trunk = (timm.create_model(vit, num_classes=0) if isinstance(vit, str) else VisionTransformer(**vit, num_classes=0)).eval()
    trunk = trunk.double()
    place = 'visual.trunk.'
    tensors = {place + name: list(p.shape) for name, p in trunk.named_parameters()}
    for name, p in trunk.named_parameters():
        p.copy_(torch.from_numpy(weight(place + name, p.shape)))
    text, own = bert_of(bert, 'text.transformer.', False)
    heads = {'visual.head.proj.weight': [proj, trunk.num_features], 'text.proj.0.weight': [middle, text.config.hidden_size],
             'text.proj.2.weight': [proj, middle], 'logit_scale': []}
    tensors.update(own, **heads)
    w, found = settled(heads), {}
    for n, block in enumerate(trunk.blocks):
        if watch(f'block{n}'):
            block.register_forward_hook(lambda m, i, o, n=n: found.__setitem__(f'block{n}', sampled(o, count)))
    trunk.blocks[0].register_forward_pre_hook(lambda m, i: found.__setitem__('embedding', sampled(i[0], count)))
    trunk.norm.register_forward_hook(lambda m, i, o: found.__setitem__('tower', sampled(o, count)))
    images = unit(trunk(pixels(pictures)) @ w['visual.head.proj.weight'].T)
    ids = sentences(text.config.vocab_size, lengths)
    pooled, states = read(text, ids, count, keep, lambda o: o.last_hidden_state[0, 0])
    texts = unit(torch.nn.functional.gelu(pooled @ w['text.proj.0.weight'].T) @ w['text.proj.2.weight'].T)
    scale = w['logit_scale'].exp()
    found.update(states, image=sampled(images, 2 * count), text=sampled(texts, 2 * count))
    return dict(tensors=tensors, pictures=pictures, sentences=ids, found=found, logit_scale=float(scale), logits=(scale * images @ texts.T).tolist())


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--out', type=Path, default=Path('.'))
    p.add_argument('--whole', action='store_true')
    a = p.parse_args()
    if a.whole:
        some = lambda name: name in ('block0', 'block5', 'block11', 'embedding', 'tower', 'layer0', 'layer1', 'layer2')     # noqa: E731
        common = dict(lengths=(40, 9), proj=512, count=300, keep=(1, 2, 12), watch=some)
        base = {k: v for k, v in BASE.items() if k not in ('architectures', 'model_type')}
        swin = {k: v for k, v in TINY.items() if k not in ('architectures', 'model_type')}
        cases = {'medclip': medclip(swin, base, [[224, 224]], **common),
                 'biomedclip': biomedclip('vit_base_patch16_224', dict(base, vocab_size=30522), [[224, 224]], middle=640, **common)}
        for name, kept in (('medclip', 'medclip-vit'), ('biomedclip', 'BiomedCLIP-PubMedBERT_256-vit_base_patch16_224')):
            contract(Path(__file__).parents[2] / 'weights' / f'{kept}.names', cases[name].pop('tensors'))
            cases[name]['names'] = kept
        name = 'clips_whole.json'
    else:
        cases = {'medclip': medclip(SWIN, BERT, [[32, 32], [32, 32]], (17, 1, 40)), 'biomedclip': biomedclip(VIT, BERT, [[32, 32], [32, 32]], (17, 1, 40))}
        published(biomedclip(TINY_VIT, TINY_BERT, [[16, 16]], (5, 2), proj=16, middle=24, keep=(0, 1))['tensors'], a.out / 'convert_open_clip.bin')
        name = 'clips.json'
    rows = [f'{json.dumps(name)}: {json.dumps(c)}' for name, c in cases.items()]
    made = f'transformers {transformers.__version__}, timm {timm.__version__}, torch {torch.__version__}'
    (a.out / name).write_text('{\n' + ',\n'.join([f'"made with": {json.dumps(made)}', *rows]) + '\n}\n')


if __name__ == '__main__':
    main()
