"""Goldens of models that see: what transformers makes of Idefics3, SmolVLM and LLaVA with seeded weights.

    python vision.py --out .             small models: vision.json
    python vision.py --out . --whole     models of the true sizes, a few minutes and 8 GB: vision_whole.json

Each case holds the `config.json` of a model, the shape of every tensor, pictures (their shape and, where they do not fill it,
the pixels that they cover), token ids, and of some activations in float64 every n-th value: the tower's embedding, some of its
layers, what the connector makes of them, and the logits.  The weights are not kept: tests make them again from the names of
the tensors (see `values` in llama.py), as they make the pixels from the names `pixels0`, `pixels1` ...

The language model of LLaVA at its true size has one layer of 32: all are alike, one is 0.8 GB in single precision, and
llama.json checks what comes of several.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForImageTextToText

from llama import values

LLAMA = dict(model_type='llama', hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             intermediate_size=96, vocab_size=131, max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=10000.0,
             tie_word_embeddings=False)
SIGLIP = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=3, image_size=48, patch_size=8)
CLIP = dict(model_type='clip_vision_model', hidden_size=32, intermediate_size=72, num_hidden_layers=3, num_attention_heads=2,
            image_size=42, patch_size=14, projection_dim=16)

IDEFICS3 = dict(model_type='idefics3', image_token_id=130, scale_factor=3, tie_word_embeddings=False,
                vision_config=dict(SIGLIP, model_type='idefics3_vision'), text_config=LLAMA)
LLAVA = dict(model_type='llava', image_token_index=130, vision_config=CLIP, text_config=LLAMA, image_seq_length=9)

SMALL = {
    'idefics3': dict(config=IDEFICS3, pictures=[[48, 48], [48, 48]]),
    # pictures that cover a part of their square: positions are stretched, the rest is hidden
    'idefics3_padded': dict(config=IDEFICS3, pictures=[[48, 48], [48, 48], [48, 48]], covered=[[48, 24], [48, 48], [16, 40]]),
    # tiles smaller than what the positions were learned for
    'smolvlm': dict(config=dict(IDEFICS3, model_type='smolvlm', tie_word_embeddings=True, scale_factor=1,
                                vision_config=dict(SIGLIP, model_type='smolvlm_vision'),
                                text_config=dict(LLAMA, tie_word_embeddings=True)), pictures=[[24, 24], [24, 24]]),
    'llava': dict(config=LLAVA, pictures=[[42, 42], [42, 42]]),
    'llava_full': dict(config=dict(LLAVA, vision_feature_layer=2, vision_feature_select_strategy='full', multimodal_projector_bias=False,
                                   text_config=dict(LLAMA, model_type='mistral', sliding_window=None)), pictures=[[42, 42]]),
}
WHOLE = {
    # SmolVLM-256M
    'smolvlm_256m': dict(config=dict(
        model_type='smolvlm', image_token_id=49190, scale_factor=4, tie_word_embeddings=False,
        vision_config=dict(model_type='smolvlm_vision', hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                           num_attention_heads=12, image_size=512, patch_size=16),
        text_config=dict(model_type='llama', hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                         num_key_value_heads=3, head_dim=64, vocab_size=49280, max_position_embeddings=8192, rms_norm_eps=1e-5,
                         rope_theta=100000.0, tie_word_embeddings=False)), pictures=[[512, 512]]),
    # LLaVA-1.5-7B, one layer of its 32; its config.json leaves out what LLaMA has by default
    'llava_7b': dict(config=dict(
        model_type='llava', image_token_index=32000, vision_feature_layer=-2, vision_feature_select_strategy='default',
        vision_config=dict(model_type='clip_vision_model', hidden_size=1024, intermediate_size=4096, num_hidden_layers=24,
                           num_attention_heads=16, image_size=336, patch_size=14, projection_dim=768, vocab_size=32000),
        text_config=dict(model_type='llama', max_position_embeddings=4096, rms_norm_eps=1e-5, vocab_size=32064,
                         num_hidden_layers=1)), pictures=[[336, 336]]),
}


def weight(name, shape):
    v = values(name, int(np.prod(shape))).reshape(shape)
    if len(shape) > 1:
        return v * np.float32(2) / np.sqrt(np.float32(np.prod(shape[1:])))
    return v * np.float32(0.25) + np.float32('norm' in name.lower() or '.bn.' in name)


def sampled(x, count):
    """The stride that leaves about `count` values, and those."""
    flat = x.detach().flatten()
    stride = max(1, len(flat) // count) | 1
    return [stride, [float(f'{v:.7g}') for v in flat[::stride]]]


def case(config, pictures, covered=None, count=150):
    folder = dict(config)
    cfg = AutoConfig.for_model(folder.pop('model_type'), **folder)
    torch.set_default_dtype(torch.float64)
    model = AutoModelForImageTextToText.from_config(cfg, attn_implementation='sdpa').eval()
    with torch.no_grad():
        tensors = {name: list(p.shape) for name, p in model.named_parameters()}     # a tied output layer is not among them
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(weight(name, p.shape)))
    pixels = [torch.from_numpy(values(f'pixels{n}', 3 * h * w).reshape(3, h, w)).double() for n, (h, w) in enumerate(pictures)]
    stack = torch.stack(pixels)
    found = {}
    inner = model.model

    def keep(name):
        def hook(module, inputs, output):
            found[name] = sampled(output[0] if isinstance(output, tuple) else output, count)
        return hook

    llava = config['model_type'] == 'llava'
    tower = inner.vision_tower if llava else inner.vision_model
    tower = getattr(tower, 'vision_model', tower)
    (tower.pre_layrnorm if llava else tower.embeddings).register_forward_hook(keep('embedding'))
    layers = tower.encoder.layers
    layer = config.get('vision_feature_layer', -2)
    read = (layer + len(layers) + 1 if layer < 0 else layer) if llava else len(layers)
    for n in {0, read // 2, read - 1}:
        layers[n].register_forward_hook(keep(f'layer{n}'))
    if not llava:
        tower.post_layernorm.register_forward_hook(keep('tower'))
    (inner.multi_modal_projector if llava else inner.connector).register_forward_hook(keep('connector'))

    extra = {}
    if llava:
        side = config['vision_config']['image_size'] // config['vision_config']['patch_size']
        tokens = side * side + (config.get('vision_feature_select_strategy') == 'full')
        image, given = config['image_token_index'], stack
    else:
        patch, scale = config['vision_config']['patch_size'], config['scale_factor']
        tokens = (pictures[0][0] // patch // scale) * (pictures[0][1] // patch // scale)
        image, given = config['image_token_id'], stack[None]
        if covered:
            mask = torch.zeros(1, len(pictures), *pictures[0], dtype=torch.int64)
            for n, (h, w) in enumerate(covered):
                mask[0, n, :h, :w] = 1
            extra = dict(pixel_attention_mask=mask)
    vocab = min(config['text_config']['vocab_size'] - 1, image)
    words = [int(abs(v) * vocab) for v in values('ids', 12)]
    ids = words[:3]
    for n in range(len(pictures)):
        ids += [image] * tokens + words[3 + 2 * n:5 + 2 * n]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), pixel_values=given, **extra).logits[0]
    found['logits'] = sampled(logits, 3 * count)
    return dict(config=config, tensors=tensors, pictures=pictures, covered=covered, ids=ids, image=image, found=found)


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--out', type=Path, default=Path('.'))
    p.add_argument('--whole', action='store_true')
    a = p.parse_args()
    name, cases, count = ('vision_whole.json', WHOLE, 400) if a.whole else ('vision.json', SMALL, 150)
    rows = [f'{json.dumps(name)}: {json.dumps(case(**c, count=count))}' for name, c in cases.items()]
    text = ',\n'.join([f'"made with": "transformers {transformers.__version__}, torch {torch.__version__}"', *rows])
    (a.out / name).write_text('{\n' + text + '\n}\n')


if __name__ == '__main__':
    main()
