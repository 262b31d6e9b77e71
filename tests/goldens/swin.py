"""Goldens of Swin: what transformers makes of it with seeded weights.

    python swin.py --out .             small models: swin.json
    python swin.py --out . --whole     Swin-T at its true size: swin_whole.json, and its contract
                                       ../../weights/swin-tiny-patch4-window7-224.names

A case is as those of bert.py, of pictures instead of sentences, whose pixels are made of the names `pixels0`, `pixels1` ...
"""
import argparse
import json
import re
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import SwinConfig, SwinForImageClassification, SwinModel

from llama import values
from sam import sampled
from store import contract
from vision import weight

SMALL = dict(model_type='swin', image_size=64, patch_size=4, embed_dim=16, depths=[2, 2, 2], num_heads=[2, 4, 2], window_size=4, mlp_ratio=2.0)
CASES = {
    'small': dict(config=SMALL, pictures=[[64, 64], [64, 64]]),
    # no multiple of a patch, of a window, or of two
    'padded': dict(config=SMALL, pictures=[[58, 50]]),
    # an odd window, no bias of q, k and v, another epsilon and activation, and a head for classes
    'other': dict(config=dict(SMALL, image_size=32, patch_size=2, embed_dim=24, depths=[1, 3], num_heads=[1, 3], window_size=3, qkv_bias=False,
                              layer_norm_eps=1e-3, hidden_act='gelu_pytorch_tanh'), pictures=[[21, 34]], of=SwinForImageClassification),
}
# as microsoft/swin-tiny-patch4-window7-224
TINY = dict(architectures=['SwinForImageClassification'], model_type='swin', image_size=224, patch_size=4, num_channels=3, embed_dim=96,
            depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7, mlp_ratio=4.0, qkv_bias=True, hidden_act='gelu',
            use_absolute_embeddings=False, layer_norm_eps=1e-5)


def filed(name):
    """What files call a tensor of transformers' module."""
    for ours, theirs in (('attention.q_proj', 'attention.self.query'), ('attention.k_proj', 'attention.self.key'),
                         ('attention.v_proj', 'attention.self.value'), ('attention.o_proj', 'attention.output.dense'),
                         ('attention.relative_position_bias.', 'attention.self.'), ('mlp.fc1', 'intermediate.dense'), ('mlp.fc2', 'output.dense')):
        name = name.replace(ours, theirs)
    return name


def seeded(model, prefix=''):
    """Weights by the names that files have; those, with the index that older releases kept."""
    tensors = {filed(prefix + name): list(p.shape) for name, p in model.named_parameters()}
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(weight(filed(prefix + name), p.shape)))
    for name, shape in list(tensors.items()):
        if name.endswith('relative_position_bias_table'):
            side = (int(shape[0] ** 0.5) + 1) // 2
            tensors[re.sub('bias_table$', 'index', name)] = [side * side, side * side]
    return tensors


def pixels(sizes):
    return torch.stack([torch.from_numpy(values(f'pixels{n}', 3 * h * w).reshape(3, h, w)).double() for n, (h, w) in enumerate(sizes)])


def watched(model, count, keep=lambda name: True):
    """What the parts of a Swin give from now on."""
    found = {}

    def hook(name):
        return lambda m, i, o: found.__setitem__(name, sampled(o[0] if isinstance(o, tuple) else o, count))

    parts = {'embedding': model.embeddings, 'tower': model.layernorm}
    for n, stage in enumerate(model.encoder.layers):
        parts[f'layer{n}'] = stage
        parts.update({f'layer{n}.block{m}': block for m, block in enumerate(stage.blocks)})
    for name, part in parts.items():
        if keep(name):
            part.register_forward_hook(hook(name))
    return found


@torch.no_grad()
def case(config, pictures, of=SwinModel, count=60, keep=lambda name: True):
    torch.set_default_dtype(torch.float64)
    whole = of._from_config(SwinConfig(**{k: v for k, v in config.items() if k != 'model_type'}), attn_implementation='sdpa').eval()
    model = getattr(whole, 'swin', whole)
    tensors = seeded(whole)
    found = watched(model, count, keep)
    found['pooled'] = sampled(model(pixels(pictures)).pooler_output, count)
    return dict(config=config, tensors=tensors, pictures=pictures, found=found)


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--out', type=Path, default=Path('.'))
    p.add_argument('--whole', action='store_true')
    a = p.parse_args()
    if a.whole:
        one = case(TINY, [[224, 224]], SwinForImageClassification, 300, lambda name: not name.startswith('layer2.') or name == 'layer2.block3')
        contract(Path(__file__).parents[2] / 'weights' / 'swin-tiny-patch4-window7-224.names', one.pop('tensors'))
        name, cases = 'swin_whole.json', {'swin_tiny': dict(one, names='swin-tiny-patch4-window7-224')}
    else:
        name, cases = 'swin.json', {name: case(**c) for name, c in CASES.items()}
    rows = [f'{json.dumps(name)}: {json.dumps(c)}' for name, c in cases.items()]
    made = f'transformers {transformers.__version__}, torch {torch.__version__}'
    (a.out / name).write_text('{\n' + ',\n'.join([f'"made with": {json.dumps(made)}', *rows]) + '\n}\n')


if __name__ == '__main__':
    main()
