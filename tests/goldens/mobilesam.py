"""Goldens of MobileSAM: what its own code makes of seeded weights.

    python mobilesam.py --out .             a small model: mobile_sam.json
    python mobilesam.py --out . --whole     the published sizes: mobile_sam_whole.json, and its contract
                                             ../../weights/mobile_sam.names

A case is as those of sam.py, but without a `config.json`, which MobileSAM has none of.  Pictures have 1024 x 1024 pixels in both,
since its image encoder ends on 64 x 64 tokens whatever it is given.  Image encoder and mask decoder are computed in float64, the
prompt encoder in float32: it casts places.
"""
import argparse
import json
import warnings
from pathlib import Path

import torch

warnings.filterwarnings('ignore')                                            # timm: it imports from where things once were
import mobile_sam                                                            # noqa: E402
from mobile_sam.modeling import MaskDecoder, PromptEncoder, TinyViT, TwoWayTransformer   # noqa: E402

from sam import nhwc, pixels, prompts, sampled, tensor_of                    # noqa: E402
from store import contract                                                    # noqa: E402
from vision import weight                                                    # noqa: E402

SIZE, GRID = 1024, 64


def small():
    # windows that fit (8 in 64 tokens) and that do not; the width of the last stage is one that MobileSAM does not halve the grid for
    dim = 256
    transformer = TwoWayTransformer(depth=2, embedding_dim=dim, mlp_dim=96, num_heads=8)
    return torch.nn.ModuleDict(dict(
        image_encoder=TinyViT(img_size=SIZE, num_classes=5, embed_dims=[8, 16, 24, 320], depths=[1, 2, 1, 1], num_heads=[1, 2, 3, 10],
                              window_sizes=[7, 5, 14, 8], mlp_ratio=0.5, mbconv_expand_ratio=2.0, drop_path_rate=0.0),
        prompt_encoder=PromptEncoder(embed_dim=dim, image_embedding_size=(GRID, GRID), input_image_size=(SIZE, SIZE), mask_in_chans=16),
        mask_decoder=MaskDecoder(num_multimask_outputs=3, transformer=transformer, transformer_dim=dim, iou_head_depth=3,
                                 iou_head_hidden_dim=64)))


def whole():
    return mobile_sam.sam_model_registry['vit_t']()


def seeded(model):
    """Weights by name; `eval` afterwards, since it is what spreads `attention_biases`."""
    tensors = {name: list(p.shape) for name, p in model.state_dict().items()}
    for name, p in model.state_dict().items():
        if not name.endswith('num_batches_tracked'):
            p.copy_(torch.from_numpy(weight(name, p.shape)))
    model.image_encoder.double()
    model.mask_decoder.double()
    model.eval()
    return tensors


def rows(x):
    return nhwc(x) if x.ndim == 4 else x


@torch.no_grad()
def case(model, count, is_whole):
    tensors, found, encoder = seeded(model), {}, model.image_encoder

    def watch(name, part):
        part.register_forward_hook(lambda m, i, o: found.__setitem__(name, sampled(rows(o), count)))

    watch('embedding', encoder.patch_embed)
    for n, layer in enumerate(encoder.layers):
        watch(f'layer{n}', layer)
        for m, block in enumerate(layer.blocks):
            if not is_whole or m == 0:
                watch(f'layer{n}.block{m}', block)
    image = encoder(pixels(SIZE))
    found['neck'] = sampled(nhwc(image), count)
    places, decoder, decoded = model.prompt_encoder.get_dense_pe().double(), model.mask_decoder, {}
    for name, prompt in prompts(SIZE, True).items():
        points, labels, boxes, mask = tensor_of(prompt, 4 * GRID)
        first = lambda t: None if t is None else t[0].float()                 # noqa: E731
        given = None if points is None else (first(points), labels[0])
        sparse, dense = model.prompt_encoder(given, first(boxes), None if mask is None else mask.float())
        both = [decoder(image, places, sparse.double(), dense.double(), several) for several in (False, True)]
        kept = dict(sparse=sampled(sparse, count), low_res=sampled(torch.cat([b[0] for b in both], 1), 2 * count),
                    iou=sampled(torch.cat([b[1] for b in both], 1), 2 * count))
        decoded[name] = dict(prompt, found=kept)
    return dict(tensors=tensors, found=found, prompts=decoded)


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--out', type=Path, default=Path('.'))
    p.add_argument('--whole', action='store_true')
    a = p.parse_args()
    if a.whole:
        one = case(whole(), 400, True)
        contract(Path(__file__).parents[2] / 'weights' / 'mobile_sam.names', one.pop('tensors'))
        name, cases = 'mobile_sam_whole.json', {'mobile_sam': dict(one, contract='mobile_sam')}
    else:
        name, cases = 'mobile_sam.json', {'small': case(small(), 60, False)}
    lines = [f'{json.dumps(name)}: {json.dumps(c)}' for name, c in cases.items()]
    made = f'mobilesam-mirror 1.0.0, torch {torch.__version__}'
    (a.out / name).write_text('{\n' + ',\n'.join([f'"made with": {json.dumps(made)}', *lines]) + '\n}\n')


if __name__ == '__main__':
    main()
