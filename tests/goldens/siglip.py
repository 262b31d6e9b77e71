"""Goldens of SigLIP: what transformers makes of it with seeded weights.

    python siglip.py --out .            small models: siglip.json
    python siglip.py --out . --whole    base, patches of 16, 224 x 224: siglip_whole.json, and its contract
                                        ../../weights/siglip-base-patch16-224.names

A case is as those of clip.py.  Texts are given as they are; its processor fills them up to 64 tokens, which the model reads too.
"""
import argparse
import json
from pathlib import Path

import torch
import transformers
from transformers import SiglipConfig, SiglipModel

from clip import build, pixels
from sam import sampled
from store import contract

TEXT = dict(hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, vocab_size=99, max_position_embeddings=12)
VISION = dict(hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=3, image_size=32, patch_size=8)
TEXTS = [[5, 33, 7, 1, 1, 1, 1, 1, 1, 1, 1, 1], [11, 98, 12, 40, 41, 2, 3, 4, 5, 6, 7, 1], [90], [3, 4, 1]]
CASES = {
    'small': dict(model_type='siglip', text_config=TEXT, vision_config=VISION),
    # another width of the texts, and what its kin have otherwise
    'other': dict(model_type='siglip', text_config=dict(TEXT, hidden_size=32, projection_size=48, layer_norm_eps=1e-3, hidden_act='gelu'),
                  vision_config=dict(VISION, num_attention_heads=2, patch_size=16, hidden_act='gelu', layer_norm_eps=1e-3)),
}
BASE = dict(model_type='siglip', text_config={}, vision_config=dict(patch_size=16))


@torch.no_grad()
def case(config, texts, count=60, keep=None):
    model, tensors = build(config, SiglipModel, SiglipConfig)
    size, found = model.config.vision_config.image_size, {}
    stack = torch.cat([pixels(size, n) for n in range(2)])

    def image(name):
        def hook(module, inputs, output):
            found[name] = sampled(output[0] if isinstance(output, tuple) else output, count)
        return hook

    vision, text = model.vision_model, model.text_model
    vision.embeddings.register_forward_hook(image('embedding'))
    for n, layer in enumerate(vision.encoder.layers):
        if keep is None or n in keep:
            layer.register_forward_hook(image(f'layer{n}'))
    vision.post_layernorm.register_forward_hook(image('tower'))
    states = []
    text.final_layer_norm.register_forward_hook(lambda m, i, o: states.append(o[0]))
    # texts of different lengths, each by itself
    pooled = torch.cat([model.get_text_features(torch.tensor([t])).pooler_output for t in texts])
    found['text_states'] = sampled(torch.cat(states), count)
    images = model.get_image_features(stack).pooler_output
    found['text_embeds'], found['image_embeds'] = sampled(pooled, count), sampled(images, count)
    logits = torch.cat([model(input_ids=torch.tensor([t]), pixel_values=stack).logits_per_image for t in texts], 1)
    found['logits_per_image'] = sampled(logits, count)
    return dict(config=config, tensors=tensors, texts=texts, size=size, found=found)


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--out', type=Path, default=Path('.'))
    p.add_argument('--whole', action='store_true')
    a = p.parse_args()
    if a.whole:
        sentence = [260, 9731, 1119, 31, 1, 1] + [1] * 58
        cases = {'base': case(BASE, [sentence, sentence[3:] + [7, 1, 1]], 300, (0, 5, 11))}
        contract(Path(__file__).parents[2] / 'weights' / 'siglip-base-patch16-224.names', cases['base'].pop('tensors'))
        cases['base']['contract'] = 'siglip-base-patch16-224'
        name = 'siglip_whole.json'
    else:
        cases, name = {n: case(c, TEXTS) for n, c in CASES.items()}, 'siglip.json'
    made = f'transformers {transformers.__version__}, torch {torch.__version__}'
    rows = [f'"made with": {json.dumps(made)}'] + [f'{json.dumps(n)}: {json.dumps(c)}' for n, c in cases.items()]
    (a.out / name).write_text('{\n' + ',\n'.join(rows) + '\n}\n')


if __name__ == '__main__':
    main()
