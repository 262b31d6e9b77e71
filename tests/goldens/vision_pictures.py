"""Goldens of describing pictures: what Pillow and transformers' processors make of grey pictures and questions, and what small
models with seeded weights answer.

    python vision_pictures.py --out .

writes `vision_pictures.json`: `resize` has pictures in other sizes, `folders` has for each of some models all that its folder
holds but the weights (which tests make again, see vision.py), and of some pictures the processor's tiles, every n-th pixel, the
token ids of prompt and picture, and the greedy answer in float64.  Pictures are hashes of their names (see `picture`).
"""
import argparse
import json
from pathlib import Path

import numpy as np
import PIL
import torch
import transformers
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava.processing_llava import LlavaProcessor

from llama import values
from vision import CLIP, LLAMA, SIGLIP, sampled, weight

SIZES = [((37, 53), (91, 20)), ((64, 64), (64, 17)), ((29, 29), (80, 80)), ((181, 217), (96, 115)), ((5, 300), (40, 33)),
         ((50, 40), (50, 40)), ((1, 7), (9, 3))]
QUESTION = 'Which view is this? <image> Naïve "quotes".'

# Written like those of SmolVLM and LLaVA 1.5: parts of a turn, tags that mark what an assistant says.
BY_TURNS = ('<|im_start|>{% for m in messages %}{{ m["role"] | capitalize }}{% if m["content"][0]["type"] == "image" %}:{% else %}: '
            '{% endif %}{% for part in m["content"] %}{% if part["type"] == "text" %}{{ part["text"] }}{% elif part["type"] == "image" %}'
            '<image>{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}')
IMAGES_FIRST = ('{% for m in messages %}{{ m["role"].upper() + ": " }}{% for part in m["content"] | selectattr("type", "equalto", '
                '"image") %}{{ "<image>\n" }}{% endfor %}{% if m["role"] != "assistant" %}{% for part in m["content"] | '
                'selectattr("type", "equalto", "text") %}{{ part["text"] + " " }}{% endfor %}{% else %}{% generation %}'
                '{{ m["content"][0]["text"] }}{% endgeneration %}{% endif %}{% endfor %}'
                '{% if add_generation_prompt %}{{ "ASSISTANT:" }}{% endif %}')

TEXT = dict(LLAMA, vocab_size=400, max_position_embeddings=1024)


def idefics3(tile, longest, scale, **more):
    return dict(
        config=dict(model_type='idefics3', scale_factor=scale, text_config=TEXT, vision_config=dict(SIGLIP, model_type='idefics3_vision')),
        processor=dict(size=dict(longest_edge=longest), max_image_size=dict(longest_edge=tile), **more))


def llava(**more):
    return dict(config=dict(model_type='llava', text_config=TEXT, vision_config=CLIP, image_seq_length=9), processor=more)


FOLDERS = {
    # 2 x 2, 2 x 1 and 1 x 2 tiles, and the whole
    'smolvlm': dict(idefics3(48, 96, 3), pictures=[(37, 53), (90, 40), (20, 96), (61, 61)]),
    # tiles of another size than the tower's, other grey levels
    'idefics3': dict(idefics3(32, 64, 2, resample=3, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4]), pictures=[(45, 61)]),
    'whole': dict(idefics3(48, 60, 3, do_image_splitting=False), pictures=[(33, 70)]),
    'one_tile': dict(idefics3(48, 48, 3), pictures=[(21, 48)]),
    'llava': dict(llava(size=dict(shortest_edge=42), crop_size=dict(height=42, width=42)), pictures=[(50, 61), (91, 33)]),
    'llava_padded': dict(llava(size=42, crop_size=42, do_pad=True), pictures=[(50, 61), (91, 33)]),
    'llava_exact': dict(llava(size=dict(height=42, width=42), do_center_crop=False, resample=2), pictures=[(50, 61)]),
}
# As they are published: only their tiles and pixels.
PUBLISHED = {
    'SmolVLM-256M': dict(idefics3(512, 2048, 4), pictures=[(181, 217), (217, 181)]),
    'Idefics3-8B': dict(idefics3(364, 1820, 2), pictures=[(181, 217), (100, 300)]),
    'llava-1.5-7b': dict(llava(size=dict(shortest_edge=336), crop_size=dict(height=336, width=336)), pictures=[(181, 217)]),
}


def picture(rows, cols):
    """Grey levels of a picture, a hash of its size."""
    return ((values(f'picture {rows} {cols}', rows * cols) + np.float32(1)) * np.float32(128)).astype(np.uint8).reshape(rows, cols)


def coloured(grey):
    return Image.fromarray(np.repeat(grey[:, :, None], 3, axis=2))


def resize():
    rows = []
    for (rows_, cols), (to_rows, to_cols) in SIZES:
        for number in (1, 2, 3):
            grey = Image.fromarray(picture(rows_, cols)).resize((to_cols, to_rows), resample=number)
            flat = np.asarray(grey).flatten()
            rows.append(dict(size=[rows_, cols], to=[to_rows, to_cols], resample=number, sum=int(flat.sum()),
                             levels=flat[::max(1, len(flat) // 60) | 1].tolist()))
    return rows


def tokenizer(kind):
    """Every byte is a token; what steers the model stands after them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ['<s>', '</s>', '<|im_start|>', '<end_of_utterance>', '<image>', '<fake_token_around_image>', '<global-img>']
    special += [f'<row_{r}_col_{c}>' for r in range(1, 4) for c in range(1, 4)]
    t = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(letters)}, merges=[]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    if kind == 'llava':
        t.post_processor = processors.TemplateProcessing(single='<s> $A', special_tokens=[('<s>', t.token_to_id('<s>'))])
    return t


def processed(kind, given, grey):
    image = (Idefics3ImageProcessorPil if kind == 'idefics3' else LlavaImageProcessorPil)(**given)
    more = dict(return_row_col_info=True) if kind == 'idefics3' else {}
    return image(coloured(grey), return_tensors='pt', **more)


def folder(config, processor, pictures):
    kind = config['model_type']
    t = tokenizer(kind)
    template = BY_TURNS if kind == 'idefics3' else IMAGES_FIRST
    image = t.token_to_id('<image>')
    config = dict(config, **{'image_token_id' if kind == 'idefics3' else 'image_token_index': image})
    config['text_config'] = dict(config['text_config'], eos_token_id=t.token_to_id('<end_of_utterance>' if kind == 'idefics3' else '</s>'))
    fast = PreTrainedTokenizerFast(tokenizer_object=t, bos_token='<s>', eos_token='</s>')
    whole = dict(config)
    torch.set_default_dtype(torch.float64)
    model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(whole.pop('model_type'), **whole)).eval()
    with torch.no_grad():
        tensors = {name: list(p.shape) for name, p in model.named_parameters()}
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(weight(name, p.shape)))
    if kind == 'idefics3':
        side = processor['max_image_size']['longest_edge'] // config['vision_config']['patch_size'] // config['scale_factor']
        whole = Idefics3Processor(Idefics3ImageProcessorPil(**processor), fast, image_seq_len=side * side, chat_template=template)
    else:
        whole = LlavaProcessor(LlavaImageProcessorPil(**processor), fast, patch_size=14, vision_feature_select_strategy='default',
                               num_additional_image_tokens=1, chat_template=template)
    cases = []
    for rows, cols in pictures:
        turn = [dict(role='user', content=[dict(type='image'), dict(type='text', text=QUESTION.replace('<image>', ''))])]
        text = whole.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        given = whole(images=[coloured(picture(rows, cols))], text=[text], return_tensors='pt')
        given['pixel_values'] = given['pixel_values'].double()
        allowed = {k: v for k, v in given.items() if k in ('input_ids', 'attention_mask', 'pixel_values', 'pixel_attention_mask')}
        with torch.no_grad():
            out = model.generate(**allowed, max_new_tokens=10, do_sample=False)
        ids = given['input_ids'][0].tolist()
        answer = out[0, len(ids):].tolist()
        cases.append(dict(size=[rows, cols], ids=ids, answer=answer, **look(kind, processor, rows, cols)))
    return dict(config=config, tensors=tensors, processor=processor, tokenizer=json.loads(t.to_str()), template=template,
                question=QUESTION, pictures=cases)


def look(kind, processor, rows, cols):
    seen = processed(kind, processor, picture(rows, cols))
    pixels = seen['pixel_values']
    pixels = pixels[0] if kind == 'idefics3' else pixels                      # [pictures, 3, rows, cols]
    tiles = [int(seen['rows'][0][0]), int(seen['cols'][0][0])] if kind == 'idefics3' else [0, 0]
    return dict(tiles=tiles, shape=list(pixels.shape), pixels=sampled(pixels.permute(0, 2, 3, 1), 200))


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--out', type=Path, default=Path('.'))
    a = p.parse_args()
    published = {name: dict(processor=f['processor'], pictures=[dict(size=[*size], **look(f['config']['model_type'], f['processor'], *size))
                 for size in f['pictures']]) for name, f in PUBLISHED.items()}
    rows = [f'"made with": "transformers {transformers.__version__}, torch {torch.__version__}, pillow {PIL.__version__}"',
            f'"resize": {json.dumps(resize())}', f'"published": {json.dumps(published)}', '"folders": {']
    folders = [f'{json.dumps(name)}: {json.dumps(folder(**f))}' for name, f in FOLDERS.items()]
    (a.out / 'vision_pictures.json').write_text('{\n' + ',\n'.join(rows) + '\n' + ',\n'.join(folders) + '\n}}\n')


if __name__ == '__main__':
    main()
