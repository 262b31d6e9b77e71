"""Goldens of SAM: what transformers and segment-anything make of it with seeded weights.

    python sam.py --out .             a small model by either: sam.json; pictures, masks and a slice of a volume: sam_slices.json
    python sam.py --out . --whole     ViT-B at 1024 x 1024, some minutes: sam_whole.json, and ../../weights/sam-vit-base.names
    python sam.py --out . --large     ViT-L and ViT-H likewise: sam_large.json, sam-vit-large.names and sam-vit-huge.names

A case holds the `config.json` of a model, the shape of every tensor, and prompts; of some activations in float64 every n-th
value, the mean and the root of the mean of squares of all.  Weights and pixels are not kept: tests make them again from the
names of the tensors (see `values` in llama.py).

`segment_anything` has the names of that package for the same tensors, and what it makes of them (float32: it casts places).
Its renaming is written here from its own modules and shares nothing with the engine's.
"""
import argparse
import json
import re
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import SamConfig, SamModel

from llama import values
from store import contract
from vision import weight

SMALL = dict(
    model_type='sam',
    vision_config=dict(hidden_size=32, output_channels=128, num_hidden_layers=4, num_attention_heads=2, image_size=64, patch_size=8,
                       window_size=3, global_attn_indexes=[1, 3], num_pos_feats=64, mlp_dim=64),
    prompt_encoder_config=dict(hidden_size=128, image_size=64, patch_size=8, mask_input_channels=16),
    mask_decoder_config=dict(hidden_size=128, mlp_dim=96, num_hidden_layers=2, num_attention_heads=8, iou_head_hidden_dim=64))
# windows that fit, another epsilon, wider heads, other heads in the decoder, other numbers of masks
OTHER = dict(
    model_type='sam',
    vision_config=dict(hidden_size=48, output_channels=64, num_hidden_layers=2, num_attention_heads=2, image_size=48, patch_size=6,
                       window_size=4, global_attn_indexes=[0], num_pos_feats=32, mlp_ratio=2.0, layer_norm_eps=1e-3, qkv_bias=False),
    prompt_encoder_config=dict(hidden_size=64, image_size=48, patch_size=6, mask_input_channels=32, layer_norm_eps=1e-3),
    mask_decoder_config=dict(hidden_size=64, mlp_dim=48, num_hidden_layers=3, num_attention_heads=4, iou_head_hidden_dim=32,
                             num_multimask_outputs=2, layer_norm_eps=1e-2))
VIT_B = dict(model_type='sam', vision_config={}, prompt_encoder_config={}, mask_decoder_config={})
VIT_L = dict(VIT_B, vision_config=dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, global_attn_indexes=[5, 11, 17, 23]))
VIT_H = dict(VIT_B, vision_config=dict(hidden_size=1280, num_hidden_layers=32, num_attention_heads=16, global_attn_indexes=[7, 15, 23, 31]))


def prompts(size, whole):
    """Points (prompts, points, 2), labels, corners (prompts, 4), and whether a mask goes with them; in pixels of a picture."""
    at = lambda *p: [size * v for v in p]                                    # noqa: E731
    box = [at(0.1, 0.2, 0.55, 0.7)]
    few = {
        'point': dict(points=[[at(0.4, 0.3)]], labels=[[1]]),
        'box': dict(boxes=box),
        'mask': dict(boxes=box, mask=True),
        'many': dict(boxes=box + [at(0.5, 0.1, 0.9, 0.9), at(0.0, 0.0, 1.0, 1.0)]),
    }
    more = {
        'points': dict(points=[[at(0.4, 0.3), at(0.9, 0.05), at(0.45, 0.6)]], labels=[[1, 0, 1]]),
        'box_points': dict(points=[[at(0.4, 0.3), at(0.2, 0.6)]], labels=[[1, 0]], boxes=box),
        'mask_point': dict(points=[[at(0.7, 0.7)]], labels=[[0]], mask=True),
        'many_points': dict(points=[[at(0.4, 0.3), at(0.2, 0.6)], [at(0.8, 0.9), at(0.1, 0.1)]], labels=[[1, 0], [0, 1]]),
    }
    return few if whole else {**few, **more}


def sampled(x, count):
    flat = x.detach().double().flatten()
    stride = max(1, len(flat) // count) | 1
    seven = lambda v: float(f'{v:.7g}')                                      # noqa: E731
    return [stride, [seven(v) for v in flat[::stride]], seven(flat.mean()), seven(flat.square().mean().sqrt())]


def tensor_of(prompt, side):
    t = lambda key, dtype: torch.tensor(prompt[key], dtype=dtype)[None] if key in prompt else None   # noqa: E731
    mask = None
    if prompt.get('mask'):
        mask = torch.from_numpy(values('mask', side * side).reshape(1, 1, side, side) * np.float32(8)).double()
    return t('points', torch.float64), t('labels', torch.int64), t('boxes', torch.float64), mask


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def build(config):
    torch.set_default_dtype(torch.float64)
    folder = {k: v for k, v in config.items() if k != 'model_type'}
    model = SamModel._from_config(SamConfig(**folder), attn_implementation='sdpa').eval()
    # the frequencies are shared by two modules
    tensors = {name: list(p.shape) for name, p in model.named_parameters() if name != 'prompt_encoder.shared_embedding.positional_embedding'}
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name in tensors:
                p.copy_(torch.from_numpy(weight(name, p.shape)))
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(model.shared_image_embedding.positional_embedding)
    return model, tensors


def pixels(size):
    return torch.from_numpy(values('pixels', 3 * size * size).reshape(1, 3, size, size)).double()


@torch.no_grad()
def case(config, count=60, whole=False):
    model, tensors = build(config)
    size, depth = model.config.vision_config.image_size, model.config.vision_config.num_hidden_layers
    found, encoder = {}, model.vision_encoder
    some = (0, 2, 7, 11) if depth == 12 else (0, model.config.vision_config.global_attn_indexes[0], depth - 1)
    for n in range(depth):
        if not whole or n in some:
            encoder.layers[n].register_forward_hook(
                lambda m, i, o, n=n: found.__setitem__(f'block{n}', sampled(o[0] if isinstance(o, tuple) else o, count)))
    encoder.layers[0].register_forward_pre_hook(lambda m, i: found.__setitem__('embedding', sampled(i[0], count)))
    image = encoder(pixels(size)).last_hidden_state
    found['neck'] = sampled(nhwc(image), count)
    places, decoder, decoded = model.get_image_wide_positional_embeddings(), model.mask_decoder, {}
    for name, prompt in prompts(size, whole).items():
        points, labels, boxes, mask = tensor_of(prompt, 4 * image.shape[-1])
        sparse, dense = model.prompt_encoder(points, labels, boxes, mask)
        kept, hooks = {'sparse': sampled(sparse, count)}, []
        for n, layer in enumerate(decoder.transformer.layers):
            def keep(m, i, o, n=n):
                kept[f'tokens{n}'], kept[f'image{n}'] = sampled(o[0], count), sampled(o[1], count)
            hooks.append(layer.register_forward_hook(keep))
        hooks.append(decoder.transformer.layer_norm_final_attn.register_forward_hook(
            lambda m, i, o: kept.__setitem__('tokens', sampled(o, count))))
        both = [decoder(image_embeddings=image, image_positional_embeddings=places, sparse_prompt_embeddings=sparse,
                        dense_prompt_embeddings=dense, multimask_output=several) for several in (False, True)]
        for hook in hooks:
            hook.remove()
        kept['low_res'] = sampled(torch.cat([one[0] for one in both], 2), 2 * count)
        kept['iou'] = sampled(torch.cat([one[1] for one in both], 2), 2 * count)
        decoded[name] = dict(prompt, found=kept)
    return dict(config=config, tensors=tensors, found=found, prompts=decoded)


def renamed(name):
    """segment-anything's name of a tensor of transformers'."""
    name = name.replace('shared_image_embedding.positional_embedding', 'prompt_encoder.pe_layer.positional_encoding_gaussian_matrix')
    head, _, rest = name.partition('.')
    if head == 'vision_encoder':
        rest = rest.replace('patch_embed.projection', 'patch_embed.proj')
        rest = re.sub(r'^layers\.', 'blocks.', rest)
        rest = re.sub(r'^(blocks\.\d+)\.layer_norm', r'\1.norm', rest)
        for n, part in enumerate(('conv1', 'layer_norm1', 'conv2', 'layer_norm2')):
            rest = rest.replace(f'neck.{part}', f'neck.{n}')
        return 'image_encoder.' + rest
    if head == 'prompt_encoder':
        rest = re.sub(r'^point_embed\.', 'point_embeddings.', rest)
        for n, part in ((0, 'conv1'), (1, 'layer_norm1'), (3, 'conv2'), (4, 'layer_norm2'), (6, 'conv3')):
            rest = rest.replace(f'mask_embed.{part}', f'mask_downscaling.{n}')
        return 'prompt_encoder.' + rest
    rest = rest.replace('layer_norm_final_attn', 'norm_final_attn')
    rest = re.sub(r'^(transformer\.layers\.\d+)\.layer_norm', r'\1.norm', rest)
    for n, part in ((0, 'upscale_conv1'), (1, 'upscale_layer_norm'), (3, 'upscale_conv2')):
        rest = rest.replace(part, f'output_upscaling.{n}')
    if rest.startswith(('output_hypernetworks_mlps', 'iou_prediction_head')):
        rest = rest.replace('layers.0', 'layers.1').replace('proj_in', 'layers.0').replace('proj_out', 'layers.2')
    return 'mask_decoder.' + rest


@torch.no_grad()
def by_segment_anything(config, count=60):
    """The small model in the package itself."""
    from functools import partial

    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer

    model, tensors = build(config)
    torch.set_default_dtype(torch.float32)
    v, d = model.config.vision_config, model.config.mask_decoder_config
    grid, size = v.image_size // v.patch_size, v.image_size
    # as build_sam.py builds them
    parts = torch.nn.ModuleDict(dict(
        image_encoder=ImageEncoderViT(depth=v.num_hidden_layers, embed_dim=v.hidden_size, img_size=size, mlp_ratio=v.mlp_dim / v.hidden_size,
                                      norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), num_heads=v.num_attention_heads,
                                      patch_size=v.patch_size, qkv_bias=True, use_rel_pos=True, global_attn_indexes=v.global_attn_indexes,
                                      window_size=v.window_size, out_chans=v.output_channels),
        prompt_encoder=PromptEncoder(embed_dim=d.hidden_size, image_embedding_size=(grid, grid), input_image_size=(size, size), mask_in_chans=16),
        mask_decoder=MaskDecoder(num_multimask_outputs=3, transformer=TwoWayTransformer(depth=d.num_hidden_layers, embedding_dim=d.hidden_size,
                                 mlp_dim=d.mlp_dim, num_heads=8), transformer_dim=d.hidden_size, iou_head_depth=3,
                                 iou_head_hidden_dim=d.iou_head_hidden_dim))).eval()
    state = {renamed(name): p.float() for name, p in model.named_parameters() if name in tensors}
    parts.load_state_dict(state)                                              # strict: every name, every shape
    image = parts.image_encoder(pixels(size).float())
    found, decoded = {'neck': sampled(nhwc(image), count)}, {}
    for name, prompt in prompts(size, False).items():
        points, labels, boxes, mask = tensor_of(prompt, 4 * grid)
        first = lambda t: None if t is None else t[0].float()                 # noqa: E731
        given = None if points is None else (first(points), labels[0])
        sparse, dense = parts.prompt_encoder(given, first(boxes), None if mask is None else mask.float())
        both = [parts.mask_decoder(image, parts.prompt_encoder.get_dense_pe(), sparse, dense, several) for several in (False, True)]
        kept = dict(sparse=sampled(sparse, count), low_res=sampled(torch.cat([b[0] for b in both], 1), 2 * count),
                    iou=sampled(torch.cat([b[1] for b in both], 1), 2 * count))
        decoded[name] = dict(prompt, found=kept)
    return dict(config=config, tensors=tensors, names={name: renamed(name) for name in tensors}, found=found, prompts=decoded)


def grey(name, *shape):
    """Grey levels, made again by the test."""
    return ((values(name, int(np.prod(shape))).reshape(shape) + 1) * 128).astype(np.uint8)


def processor(size):
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    return SamImageProcessorPil(size=dict(longest_edge=size), pad_size=dict(height=size, width=size))


def picture(n, rows, cols, size=64):
    """A picture as SAM and as MedSAM see it, and logits brought back to it."""
    from PIL import Image
    from skimage import transform
    from transformers import SamProcessor

    image = grey(f'picture{n}', rows, cols)
    sam = processor(size)
    seen = sam(Image.fromarray(np.stack([image] * 3, 2)), return_tensors='np')
    logits = torch.from_numpy(values(f'logits{n}', 256) * np.float32(8)).reshape(1, 1, 16, 16)
    back = sam.post_process_masks([logits], [[rows, cols]], seen['reshaped_input_sizes'], binarize=False)[0]
    corners = SamProcessor(sam)._normalize_coordinates(size, np.array([[cols * 0.25, rows * 0.5]]), (rows, cols))[0]
    # as MedSAM_Inference.py has it
    square = transform.resize(np.repeat(image[:, :, None], 3, axis=-1), (size, size), order=3, preserve_range=True, anti_aliasing=True)
    square = square[:, :, :1].astype(np.uint8).astype(np.float64)
    square = (square - square.min()) / np.clip(square.max() - square.min(), 1e-8, None)
    share = torch.nn.functional.interpolate(logits.sigmoid(), size=(rows, cols), mode='bilinear', align_corners=False)
    return dict(size=size, rows=rows, cols=cols, at=[float(v) for v in corners],
                sam=sampled(torch.from_numpy(np.asarray(seen['pixel_values'][0]).transpose(1, 2, 0).copy()), 300), sam_back=sampled(back, 300),
                medsam=sampled(torch.from_numpy(square.repeat(3, axis=2)), 300), medsam_back=sampled(share - 0.5, 300))


def med_levels(volume, ct):
    """pre_CT_MR.py of MedSAM."""
    if ct:
        low, high = 40 - 400 / 2, 40 + 400 / 2
    else:
        low, high = np.percentile(volume[volume > 0], 0.5), np.percentile(volume[volume > 0], 99.5)
    cut = np.clip(volume, low, high)
    level = (cut - low) / (high - low) * 255
    if not ct:
        level[volume == 0] = 0
    return np.uint8(level)


@torch.no_grad()
def slice_of_a_volume():
    """An axial slice of a volume that runs left, inferior, anterior, and the small model's logits of a box in it."""
    import nibabel
    from PIL import Image

    model, _ = build(SMALL)
    shape, affine = (30, 5, 24), np.array([[-1.2, 0, 0, 14], [0, 0, 1.1, -9], [0, -2, 0, 4], [0, 0, 0, 1.0]])
    volume = np.floor(np.abs(values('volume', int(np.prod(shape))).reshape(shape, order='F')) * np.float32(400))
    volume[:4, 0] = 0
    i0, k0, i1, k1, j = box = [6, 4, 19, 17, 3]
    to = nibabel.orientations.io_orientation(affine)
    canonical = nibabel.orientations.apply_orientation(med_levels(volume, False), to)
    z = shape[1] - 1 - j                                                     # the file's second axis runs downwards
    shown = np.ascontiguousarray(canonical[:, :, z].T[::-1, ::-1])
    # columns run from the patient's right, as the file's first axis; rows from the front, against its third
    corners = np.array([[i0, shape[2] - 1 - k1, i1, shape[2] - 1 - k0]], dtype=np.float64)
    sam = processor(64)
    seen = sam(Image.fromarray(np.stack([shown] * 3, 2)), return_tensors='np')
    scale = np.array(seen['reshaped_input_sizes'][0])[[1, 0, 1, 0]] / np.array(shown.shape)[[1, 0, 1, 0]]
    out = model(pixel_values=torch.from_numpy(np.asarray(seen['pixel_values'])).double(), input_boxes=torch.from_numpy(corners * scale)[None],
                multimask_output=False)
    back = sam.post_process_masks([out.pred_masks[0]], [shown.shape], seen['reshaped_input_sizes'], binarize=False)[0][0, 0]
    native = back.numpy()[::-1, ::-1].T[:, :].copy()                         # canonical x, y
    native = native[::-1]                                                    # the first axis runs to the left
    return dict(shape=list(shape), affine=affine[:3].tolist(), box=box, values=[float(f'{v:.7g}') for v in native.flatten(order='F')],
                iou=float(out.iou_scores[0, 0, 0]))


def slices(out):
    torch.set_default_dtype(torch.float32)
    pictures = [picture(n, *shape) for n, shape in enumerate([(50, 37), (20, 64), (90, 130), (64, 64), (7, 100)])]
    volume = np.round(values('intensities', 120) * np.float32(300))
    volume[::7] = 0
    text = dict(**{'made with': f'transformers {transformers.__version__}, torch {torch.__version__}'}, pictures=pictures,
                levels=dict(mr=med_levels(volume, False).tolist(), ct=med_levels(volume, True).tolist()), slice=slice_of_a_volume())
    rows = [f'{json.dumps(k)}: {json.dumps(v)}' for k, v in text.items()]
    (out / 'sam_slices.json').write_text('{\n' + ',\n'.join(rows) + '\n}\n')


def whole(config, name, count):
    """A published size; its tensors go into a contract."""
    one = case(config, count, True)
    contract(Path(__file__).parents[2] / 'weights' / f'sam-vit-{name}.names', one.pop('tensors'))
    return dict(one, contract=f'sam-vit-{name}')


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--out', type=Path, default=Path('.'))
    p.add_argument('--whole', action='store_true')
    p.add_argument('--large', action='store_true')
    a = p.parse_args()
    if not (a.whole or a.large):
        slices(a.out)
    if a.large:
        name, cases = 'sam_large.json', {'vit_l': whole(VIT_L, 'large', 200), 'vit_h': whole(VIT_H, 'huge', 200)}
    elif a.whole:
        name, cases = 'sam_whole.json', {'vit_b': whole(VIT_B, 'base', 400)}
    else:
        name, cases = 'sam.json', {'small': case(SMALL), 'other': case(OTHER), 'segment_anything': by_segment_anything(SMALL)}
    rows = [f'{json.dumps(name)}: {json.dumps(c)}' for name, c in cases.items()]
    made = f'transformers {transformers.__version__}, segment-anything 1.0, torch {torch.__version__}'
    (a.out / name).write_text('{\n' + ',\n'.join([f'"made with": {json.dumps(made)}', *rows]) + '\n}\n')


if __name__ == '__main__':
    main()
