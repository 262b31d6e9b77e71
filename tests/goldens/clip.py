"""Goldens of CLIP and CLIPSeg: what transformers makes of them with seeded weights, and of words with a small vocabulary.

    python clip.py --out .             small models: clip.json, clipseg.json; words: clip_words.json; a slice: clipseg_slice.json
    python clip.py --out . --biomed    biomedclipseg.json
    python clip.py --out . --whole     at their true sizes, some minutes: CLIPSeg rd64-refined at 352 x 352, clipseg_whole.json; CLIP's
                                       ViT-B/32, B/16 and L/14, clip_whole.json; BiomedCLIPSeg-D, biomedclipseg_whole.json; and their
                                       contracts in ../../weights
    python clip.py --out . --vocabulary bpe_simple_vocab_16e6.txt.gz      clip_words.json with CLIP's own vocabulary beside it

A case holds the `config.json` of a model, the shape of every tensor, texts as token ids; of some activations in float64 every
n-th value, the mean and the root of the mean of squares of all.  Weights and pixels are not kept: tests make them again from
the names of the tensors (see `values` in llama.py).  Texts lie side by side, without padding; here they are padded and masked.

CLIP's own vocabulary is published with the package open_clip_torch; of it only ids are kept.
"""
import argparse
import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import CLIPConfig, CLIPModel, CLIPSegConfig, CLIPSegForImageSegmentation
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from llama import values
from sam import med_levels, sampled
from store import contract
from vision import weight

TEXT = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, vocab_size=99, max_position_embeddings=20)
VISION = dict(hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=3, image_size=32, patch_size=8)
# the highest token in the middle, none that ends a text, one token alone
TEXTS = [[97, 5, 98, 33, 7, 98, 2], [97, 11, 90, 12, 98], [97, 3, 4, 5, 6], [90], [97, 1, 2, 3, 98, 4, 90, 5, 90]]

CLIP = {
    'legacy_end': dict(model_type='clip', projection_dim=20, text_config=dict(TEXT, eos_token_id=2), vision_config=VISION),
    'gelu': dict(model_type='clip', projection_dim=32, text_config=dict(TEXT, eos_token_id=90, hidden_act='gelu', layer_norm_eps=1e-3),
                 vision_config=dict(VISION, hidden_act='gelu', layer_norm_eps=1e-3)),
    # ViT-B/32's patches
    'patches': dict(model_type='clip', projection_dim=24, text_config=dict(TEXT, eos_token_id=2),
                    vision_config=dict(VISION, image_size=64, patch_size=32, num_hidden_layers=2)),
    # as early files say it; what they leave out is usual
    'twice': dict(model_type='clip', projection_dim=24, text_config=dict(eos_token_id=2, hidden_act='gelu', hidden_size=99),
                  text_config_dict=dict(TEXT, eos_token_id=90), vision_config=dict(layer_norm_eps=1e-2), vision_config_dict=VISION),
}
DEEP = dict(VISION, num_hidden_layers=5, image_size=64, patch_size=16)
CLIPSEG = {
    # positions stretched from 4 x 4 to 6 x 6
    'refined': dict(size=96, config=dict(
        model_type='clipseg', projection_dim=24, text_config=dict(TEXT, eos_token_id=2), vision_config=DEEP, extract_layers=[1, 2, 3],
        reduce_dim=32, decoder_num_attention_heads=4, decoder_intermediate_size=64, use_complex_transposed_convolution=True)),
    # heads of 4
    'rd16': dict(size=64, config=dict(
        model_type='clipseg', projection_dim=20, text_config=dict(TEXT, eos_token_id=90), vision_config=DEEP, extract_layers=[0, 2, 4],
        reduce_dim=16, decoder_intermediate_size=40)),
    # conditioned later, two blocks, fewer places than were learned
    'later': dict(size=24, config=dict(
        model_type='clipseg', projection_dim=32, text_config=dict(TEXT, eos_token_id=90, hidden_act='gelu'),
        vision_config=dict(VISION, layer_norm_eps=1e-3, hidden_act='gelu'), extract_layers=[0, 2], reduce_dim=24,
        decoder_num_attention_heads=3, decoder_intermediate_size=36, conditional_layer=1)),
    # the phrases have a say after a layer with heads of 4
    'later_narrow': dict(size=32, config=dict(
        model_type='clipseg', projection_dim=32, text_config=dict(TEXT, eos_token_id=90), vision_config=VISION, extract_layers=[1, 2],
        reduce_dim=8, decoder_num_attention_heads=2, decoder_intermediate_size=16, conditional_layer=1)),
}
# OpenAI's published ones
CLIP_WHOLE = {
    'clip-vit-base-patch32': dict(model_type='clip', text_config=dict(eos_token_id=2), vision_config={}),
    'clip-vit-base-patch16': dict(model_type='clip', text_config=dict(eos_token_id=2), vision_config=dict(patch_size=16)),
    'clip-vit-large-patch14': dict(model_type='clip', projection_dim=768,
                text_config=dict(eos_token_id=2, hidden_size=768, intermediate_size=3072, num_attention_heads=12),
                vision_config=dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14)),
}
REFINED = dict(model_type='clipseg', text_config={}, vision_config=dict(patch_size=16), use_complex_transposed_convolution=True)
PHRASES = [[49406, 320, 1125, 539, 320, 2368, 49407], [49406, 4807, 49407]]


def build(config, kind, settings):
    torch.set_default_dtype(torch.float64)
    model = kind._from_config(settings(**{k: v for k, v in config.items() if k != 'model_type'}), attn_implementation='sdpa').eval()
    tensors = {name: list(p.shape) for name, p in model.named_parameters()}
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(np.asarray(weight(name, tuple(p.shape)))))
    return model, tensors


def pixels(size, n=0):
    return torch.from_numpy(values(f'pixels{n}', 3 * size * size).reshape(1, 3, size, size)).double()


def padded(texts):
    most = max(len(t) for t in texts)
    ids = torch.tensor([t + [0] * (most - len(t)) for t in texts])
    mask = torch.tensor([[1] * len(t) + [0] * (most - len(t)) for t in texts])
    return ids, mask


def tower_hooks(clip, mask, found, count, taps):
    """Keeps what the towers compute; of texts only what is no padding."""
    def text(name):
        def hook(module, inputs, output):
            states = output[0] if isinstance(output, tuple) else output
            found[name] = sampled(states[mask.bool()], count)
        return hook

    def image(name):
        def hook(module, inputs, output):
            found[name] = sampled(output[0] if isinstance(output, tuple) else output, count)
        return hook

    clip.text_model.embeddings.register_forward_hook(text('text_embedding'))
    for n in range(len(clip.text_model.encoder.layers)):
        if n in (0, len(clip.text_model.encoder.layers) - 1):
            clip.text_model.encoder.layers[n].register_forward_hook(text(f'text_layer{n}'))
    clip.text_model.final_layer_norm.register_forward_hook(text('text_states'))
    clip.vision_model.pre_layrnorm.register_forward_hook(image('embedding'))
    for n in taps:
        clip.vision_model.encoder.layers[n].register_forward_hook(image(f'layer{n}'))


@torch.no_grad()
def clip_case(config, texts=TEXTS, count=60, taps=None):
    model, tensors = build(config, CLIPModel, CLIPConfig)
    (ids, mask), found = padded(texts), {}
    size = model.config.vision_config.image_size
    stack = torch.cat([pixels(size, n) for n in range(2)])
    # padding must not be taken for what ends a text: each by itself
    pooled = torch.cat([model.get_text_features(torch.tensor([t])).pooler_output for t in texts])
    image = model.get_image_features(stack).pooler_output
    found['text_embeds'], found['image_embeds'] = sampled(pooled, count), sampled(image, count)
    logits = torch.cat([model(input_ids=torch.tensor([t]), pixel_values=stack).logits_per_image for t in texts], 1)
    found['logits_per_image'] = sampled(logits, count)
    tower_hooks(model, mask, found, count, taps or range(model.config.vision_config.num_hidden_layers))
    model(input_ids=ids, pixel_values=stack, attention_mask=mask)
    return dict(config=config, tensors=tensors, texts=texts, size=size, found=found)


@torch.no_grad()
def clipseg_case(config, size, texts=TEXTS, count=60):
    model, tensors = build(config, CLIPSegForImageSegmentation, CLIPSegConfig)
    (ids, mask), found = padded(texts), {}
    conditions = torch.cat([model.clip.get_text_features(torch.tensor([t])).pooler_output for t in texts])
    tower_hooks(model.clip, mask, found, count, model.extract_layers)
    model.clip.get_text_features(ids, attention_mask=mask)
    hooks = []
    decoder, conditional = model.decoder, model.decoder.conditional_layer
    for n, layer in enumerate(decoder.layers):
        if n == conditional:
            hooks.append(layer.register_forward_pre_hook(lambda m, i: found.__setitem__('film', sampled(i[0], count))))
        if n >= conditional:
            hooks.append(layer.register_forward_hook(
                lambda m, i, o, n=n: found.__setitem__(f'decoder{n}', sampled(o[0] if isinstance(o, tuple) else o, count))))
    every = pixels(size).expand(len(texts), -1, -1, -1)
    logits = model(pixel_values=every, conditional_embeddings=conditions).logits.reshape(len(texts), size, size)
    # of the image tower one picture is enough
    for hook in hooks:
        hook.remove()
    model(pixel_values=every[:1], conditional_embeddings=conditions[:1])
    found['conditions'], found['logits'] = sampled(conditions, count), sampled(logits, 4 * count)
    return dict(config=config, tensors=tensors, texts=texts, size=size, found=found)


BIOMED_TEXT = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=1, intermediate_size=96, vocab_size=131, max_position_embeddings=40)
BIOMED = {
    'refined': dict(size=48, tower=dict(patch_size=16, embed_dim=128, mlp_ratio=1), config=dict(
        projection_dim=24, vision_config=dict(DEEP, hidden_size=128, num_attention_heads=2), reduce_dim=32, decoder_intermediate_size=64,
        use_complex_transposed_convolution=True)),
    'plain': dict(size=24, tower=dict(patch_size=8, embed_dim=64, mlp_ratio=2), config=dict(
        projection_dim=20, vision_config=dict(VISION, hidden_size=64, num_attention_heads=1), reduce_dim=16, decoder_intermediate_size=40)),
}
# PubMedBERT and ViT-B/16 as BiomedCLIP has them, CLIPSeg's decoder as refined
BIOMED_WHOLE = dict(
    size=224, tower=dict(patch_size=16, embed_dim=768, mlp_ratio=4), text=dict(vocab_size=30522), middle=640, count=250,
    config=dict(projection_dim=512, vision_config=dict(patch_size=16), reduce_dim=64, use_complex_transposed_convolution=True))


@torch.no_grad()
def biomed_case(size, tower, config, text=BIOMED_TEXT, count=60, middle=44):
    """timm's ViT and transformers' BERT as open_clip has them in BiomedCLIP, and transformers' CLIPSeg decoder on what MedVLSM's
    module gives it: a text is BERT's first state through two layers with GELU between, at the length that it has."""
    import timm
    from transformers import BertConfig, BertModel
    from transformers.models.clipseg.modeling_clipseg import CLIPSegDecoder

    from bert import sentences

    torch.set_default_dtype(torch.float64)
    settings = CLIPSegConfig(**config)
    settings._attn_implementation = 'sdpa'
    projection = config['projection_dim']
    heads = tower['embed_dim'] // 64
    trunk = timm.models.vision_transformer.VisionTransformer(img_size=size, depth=12, num_heads=heads, num_classes=0, **tower)
    model = torch.nn.Module()
    model.biomedclip, model.decoder = torch.nn.Module(), CLIPSegDecoder(settings)
    model.biomedclip.visual, model.biomedclip.text = torch.nn.Module(), torch.nn.Module()
    model.biomedclip.visual.trunk = trunk
    model.biomedclip.visual.head = torch.nn.Sequential()
    model.biomedclip.visual.head.add_module('proj', torch.nn.Linear(trunk.embed_dim, projection, bias=False))
    model.biomedclip.text.transformer = BertModel._from_config(BertConfig(**text), attn_implementation='sdpa', add_pooling_layer=False)
    width = model.biomedclip.text.transformer.config.hidden_size
    model.biomedclip.text.proj = torch.nn.Sequential(torch.nn.Linear(width, middle, bias=False), torch.nn.GELU(),
                                                     torch.nn.Linear(middle, projection, bias=False))
    model.biomedclip.logit_scale = torch.nn.Parameter(torch.ones(()))
    model.eval()
    tensors = {name: list(p.shape) for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        p.copy_(torch.from_numpy(np.asarray(weight(name, tuple(p.shape)))))
    found, states = {}, []
    x = trunk.norm_pre(trunk._pos_embed(trunk.patch_embed(pixels(size))))
    found['embedding'] = sampled(x, count)
    for block in trunk.blocks:
        x = block(x)
        states.append(x)
    read = [i + 1 for i in (3, 6, 9)]                                         # of a list that begins after the first block
    for n in read:
        found[f'block{n}'] = sampled(states[n], count)
    texts, text = sentences(text['vocab_size'], (9, 1, 30)), model.biomedclip.text
    conditions = torch.stack([text.proj(text.transformer(torch.tensor([ids])).last_hidden_state[0, 0]) for ids in texts])
    found['conditions'] = sampled(conditions, count)
    decoder = model.decoder
    decoder.layers[0].register_forward_pre_hook(lambda m, i: found.__setitem__('film', sampled(i[0], count)))
    for n, layer in enumerate(decoder.layers):
        layer.register_forward_hook(
            lambda m, i, o, n=n: found.__setitem__(f'decoder{n}', sampled(o[0] if isinstance(o, tuple) else o, count)))
    taps = [states[n].expand(len(texts), -1, -1) for n in read]
    found['logits'] = sampled(decoder(taps, conditions).logits, 4 * count)
    return dict(tensors=tensors, size=size, texts=texts, found=found)


# Pieces that words are made of: anatomy, punctuation, contractions, capitals, other scripts, letters that compose, spaces.
PIECES = ['left', 'hippocampus', 'Right', 'THALAMUS', 'the', 'of', 'a', 'tumour', 'white matter', "patient's", "don't", "we'll", "they've",
          "I'd", "it's", '3', '12', '2.5mm', 'T1-weighted', 'FLAIR', '(', ')', '...', '?!', '"', "'", '/', '\\', '%', '&amp;', '#1', '@',
          'é', 'e\u0301', 'naïve', 'Ä', 'ß', 'ŠŽ', 'Ελλάς', 'σίγμας', 'ΣΊΣ', 'Йод', 'мозг', 'İstanbul', 'ǅ', 'ﬁbre', '脑', '左侧海马', 'ひらがな',
          'カタカナ', '한국어', 'हिन्दी', 'ไทย', 'عربي', 'עברית', '🧠', '👩‍⚕️', '🇳🇵', '½', '²', '٣', '\u00a0', '\t', '\n', '  ', '\u3000', '\u200b', '\u00ad',
          '_', '-', '–', '—', '…', '•', '€', '∑', '≤', '<|startoftext|>', '<|endoftext|>', '<|x|>', '</w>', 'segmentation', 'cerebellum',
          'lateral', 'ventricle', 'polyp', 'which is a projecting growth of tissue', 'one small pink circle', 'located in', 'of the image']


def strings(count=1000):
    """Texts of one to eight pieces, by chance, with a space between them or none."""
    made = []
    for n in range(count):
        chance = iter((values(f'string{n}', 17).astype(np.float64) + 1) / 2)
        text = ''
        for _ in range(1 + int(next(chance) * 8)):
            text += PIECES[int(next(chance) * len(PIECES))] + (' ' if next(chance) < 0.7 else '')
        made.append(text)
    return made


def small_vocabulary(count=570):
    """A vocabulary in CLIP's layout: letters of bytes, those at the end of a word, merges by how frequent they are, two marks.
    (The library's own trainer settles ties by chance.)"""
    from tokenizers import pre_tokenizers

    shape = CLIPTokenizer()._tokenizer
    structures = json.loads((Path(__file__).parent / '../../weights/structures.json').read_text())
    corpus = [text for s in structures for text in [s['name'], *s['synonyms'], *s['places']]] * 3 + strings(60)
    words = Counter(word for text in corpus for word, _ in shape.pre_tokenizer.pre_tokenize_str(shape.normalizer.normalize_str(text)))
    parts = {word: [*word[:-1], word[-1] + '</w>'] for word in words}
    merges = []
    while len(merges) < count:
        pairs = Counter()
        for word, symbols in parts.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += words[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, symbols in parts.items():
            n = 0
            while n + 1 < len(symbols):
                if (symbols[n], symbols[n + 1]) == best:
                    symbols[n:n + 2] = [best[0] + best[1]]
                n += 1
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return vocabulary(letters, merges), merges


def vocabulary(letters, merges):
    tokens = [*letters, *(letter + '</w>' for letter in letters), *(a + b for a, b in merges), '<|startoftext|>', '<|endoftext|>']
    return {token: n for n, token in enumerate(tokens)}


def true_vocabulary(path):
    """CLIP's own, in the order that its program reads it."""
    lines = gzip.open(path).read().decode().split('\n')[1:49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    plain = [*range(ord('!'), ord('~') + 1), *range(ord('¡'), ord('¬') + 1), *range(ord('®'), ord('ÿ') + 1)]
    letters = [chr(n) for n in plain] + [chr(256 + n) for n in range(256 - len(plain))]
    return vocabulary(letters, merges), merges


def checksum(ids):
    """FNV-1a of all ids, a text's length before them."""
    h = 0xcbf29ce484222325
    for text in ids:
        for n in [len(text), *text]:
            h = ((h ^ n) * 0x100000001b3) & 0xffffffffffffffff
    return f'{h:016x}'


def words(vocab, merges):
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges)
    ids = [tokenizer(text)['input_ids'] for text in strings()]
    return tokenizer, dict(checksum=checksum(ids), first=ids[:30], tokens=sum(map(len, ids)))


def write_words(out, path):
    vocab, merges = small_vocabulary()
    tokenizer, small = words(vocab, merges)
    whole = None
    old = out / 'clip_words.json'
    if path:
        whole = words(*true_vocabulary(path))[1]
    elif old.is_file():
        whole = json.loads(old.read_text())['whole']
    text = {'made with': f'transformers {transformers.__version__}, tokenizers {__import__("tokenizers").__version__}', 'pieces': PIECES,
            'merges': [' '.join(m) for m in merges], 'letters': ''.join(list(vocab)[:256]), 'small': small, 'whole': whole}
    old.write_text('{\n' + ',\n'.join(f'{json.dumps(k)}: {json.dumps(v)}' for k, v in text.items()) + '\n}\n')
    return tokenizer


@torch.no_grad()
def slice_of_a_volume(tokenizer, size=64):
    """An axial slice of a volume that runs left, inferior, anterior, by CLIPSeg's own processor, and a small model's probabilities of
    two phrases in it."""
    import nibabel
    from PIL import Image
    from transformers import CLIPSegProcessor
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    end = tokenizer.eos_token_id
    config = dict(CLIPSEG['refined']['config'])
    config['text_config'] = dict(config['text_config'], vocab_size=end + 1, eos_token_id=end, max_position_embeddings=40)
    model, tensors = build(config, CLIPSegForImageSegmentation, CLIPSegConfig)
    shape, affine = (30, 5, 24), np.array([[-1.2, 0, 0, 14], [0, 0, 1.1, -9], [0, -2, 0, 4], [0, 0, 0, 1.0]])
    volume = np.floor(np.abs(values('volume', int(np.prod(shape))).reshape(shape, order='F')) * np.float32(400))
    volume[:4, 0] = 0
    to = nibabel.orientations.io_orientation(affine)
    canonical = nibabel.orientations.apply_orientation(med_levels(volume, False), to)
    j = 3
    z = shape[1] - 1 - j                                                     # the file's second axis runs downwards
    shown = np.ascontiguousarray(canonical[:, :, z].T[::-1, ::-1])
    processor = CLIPSegProcessor(ViTImageProcessorPil(size=dict(height=size, width=size), image_mean=[0.485, 0.456, 0.406],
                                                      image_std=[0.229, 0.224, 0.225]), tokenizer)
    phrases = ['left hippocampus', 'a tumour of the Cerebellum']
    picture = Image.fromarray(np.stack([shown] * 3, 2))
    torch.set_default_dtype(torch.float32)
    seen = processor(text=phrases, images=[picture] * len(phrases), padding=True, return_tensors='pt')
    torch.set_default_dtype(torch.float64)
    logits = model(input_ids=seen['input_ids'], attention_mask=seen['attention_mask'], pixel_values=seen['pixel_values'].double()).logits
    back = torch.nn.functional.interpolate(logits[:, None], size=shown.shape, mode='bilinear', align_corners=False)[:, 0]
    native = [share[::-1, ::-1].T[::-1] for share in back.sigmoid().numpy()]       # x from the left, then the file's first axis
    kept = {p: [float(f'{v:.7g}') for v in n.flatten(order='F')] for p, n in zip(phrases, native)}
    return dict(config=config, tensors=tensors, size=size, shape=list(shape), affine=affine[:3].tolist(), slice=j, found=kept)


def write(path, cases, more=''):
    made = {'made with': f'transformers {transformers.__version__}, torch {torch.__version__}{more}'}
    rows = [f'{json.dumps(k)}: {json.dumps(v)}' for k, v in {**made, **cases}.items()]
    path.write_text('{\n' + ',\n'.join(rows) + '\n}\n')


def contracted(name, case):
    """With its tensors in a contract."""
    contract(Path(__file__).parents[2] / 'weights' / f'{name}.names', case.pop('tensors'))
    return dict(case, contract=name)


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--out', type=Path, default=Path('.'))
    p.add_argument('--whole', action='store_true')
    p.add_argument('--vocabulary', type=Path)
    p.add_argument('--biomed', action='store_true')
    a = p.parse_args()
    if a.whole:
        import timm
        write(a.out / 'clipseg_whole.json', {'rd64_refined': clipseg_case(REFINED, 352, PHRASES, 250)})
        taps = lambda config: (0, config['vision_config'].get('num_hidden_layers', 12) - 1)          # noqa: E731
        write(a.out / 'clip_whole.json',
              {name: contracted(name, clip_case(config, PHRASES, 250, taps(config))) for name, config in CLIP_WHOLE.items()})
        write(a.out / 'biomedclipseg_whole.json', {'refined': contracted('biomedclipseg-d', biomed_case(**BIOMED_WHOLE))},
              f', timm {timm.__version__}')
        return
    if a.biomed:
        import timm
        write(a.out / 'biomedclipseg.json', {name: biomed_case(**case) for name, case in BIOMED.items()}, f', timm {timm.__version__}')
        return
    tokenizer = write_words(a.out, a.vocabulary)
    write(a.out / 'clip.json', {name: clip_case(config) for name, config in CLIP.items()})
    write(a.out / 'clipseg.json', {name: clipseg_case(**case) for name, case in CLIPSEG.items()})
    write(a.out / 'clipseg_slice.json', {'slice': slice_of_a_volume(tokenizer)})


if __name__ == '__main__':
    main()
