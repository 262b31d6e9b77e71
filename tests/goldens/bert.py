"""Goldens of BERT: what transformers makes of it with seeded weights, and how its tokenizer splits seeded texts.

    python bert.py --out .             small models: bert.json; 1,000 texts by each of several settings: bert_tokens.json
    python bert.py --out . --whole     BERT-base at its true size: bert_whole.json, and its contract ../../weights/Bio_ClinicalBERT.names

A case holds the `config.json` of a model, the name and shape of every tensor as a file has it, sentences as token ids, and of some
activations in float64 every n-th value, the mean and the root of the mean of squares of all.  Weights are not kept: tests make them
again from the names (see `values` in llama.py).  The states of a case are those of its sentences one after the other, each read
alone.  Texts are not kept either: they are made of `pieces` by the same numbers.
"""
import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertModel, BertTokenizer

from llama import values
from sam import sampled
from store import contract
from vision import weight

SMALL = dict(model_type='bert', hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, vocab_size=131,
             max_position_embeddings=40)
CASES = {
    'plain': dict(config=SMALL, of=BertModel),
    # as TensorFlow's checkpoints were converted: norms called otherwise, heads for masked words and next sentences
    'legacy': dict(config=dict(SMALL, hidden_act='gelu_new', type_vocab_size=1, layer_norm_eps=1e-3), of=BertForPreTraining, legacy=True),
    # no pooler, heads of 24 columns, nothing said of its kind
    'masked': dict(config=dict(SMALL, hidden_size=48, num_attention_heads=2, hidden_act='relu'), of=BertForMaskedLM, untyped=True),
}
# as emilyalsentzer/Bio_ClinicalBERT
BASE = dict(architectures=['BertForMaskedLM'], model_type='bert', vocab_size=28996)


def build(config, of, legacy=False):
    """The model without its head, and the tensors of the whole as a file has them."""
    torch.set_default_dtype(torch.float64)
    whole = of._from_config(BertConfig(**{k: v for k, v in config.items() if k != 'model_type'}), attn_implementation='sdpa').eval()
    model = getattr(whole, 'bert', whole)
    def filed(name):
        return name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta') if legacy else name
    tensors = {filed(name): list(p.shape) for name, p in whole.state_dict().items()}
    prefix = '' if model is whole else 'bert.'
    tensors[f'{prefix}embeddings.position_ids'] = [1, model.config.max_position_embeddings]
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(weight(filed(prefix + name), p.shape)))
    return model, tensors


def sentences(vocab, lengths):
    return [[int(abs(v) * np.float32(vocab)) for v in values(f'sentence{n}', length)] for n, length in enumerate(lengths)]


@torch.no_grad()
def case(config, of, lengths=(17, 1, 40), count=120, keep=None, legacy=False, untyped=False):
    model, tensors = build(config, of, legacy)
    ids = sentences(config['vocab_size'], lengths)
    outs = [model(torch.tensor([one]), output_hidden_states=True) for one in ids]
    depth = model.config.num_hidden_layers
    found = {f'hidden{n}': sampled(torch.cat([o.hidden_states[n][0] for o in outs]), count) for n in (keep or range(depth + 1))}
    found['mean'] = sampled(torch.stack([o.last_hidden_state[0].mean(0) for o in outs]), count)
    found['cls'] = sampled(torch.stack([o.last_hidden_state[0, 0] for o in outs]), count)
    if model.pooler is not None:
        found['pooler'] = sampled(torch.cat([o.pooler_output for o in outs]), count)
    if untyped:
        config = {k: v for k, v in config.items() if k != 'model_type'}
    return dict(config=config, tensors=tensors, sentences=ids, found=found)


# ------------------------------------------------------------------ tokens
SPECIAL = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
WORDS = ('the of and left right liver lung heart brain nodule opacity effusion pneumothorax cardio mri ct scan Brain Liver ÉTAT état etat naïve '
         'naive Ω ω μ µ straße strasse İstanbul istanbul i̇stanbul Σίσυφος σίσυφος 中 文 医 学 肝 こん かた 한국 кошка Кошка 1 2 10 2024 3d mm cm '
         'don t x ray').split()
SUFFIXES = '##s ##es ##ed ##ing ##al ##ular ##thorax ##mega ##ly ##er ##phy ##с ##а ##국 ##ん ##た ##文 ##学 ##é ##ï ##0 ##24 ##mm'.split()
LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGLMRSäöüßéïçñøåÅſﬁ'
MARKS = list('.,;:!?-_/\\()[]{}<>|@#$%^&*+=~`\'"') + ['–', '—', '’', '“', '”', '…', '°', '±', '×', '²', '½', '。', '、', '，', '「', '」', '¿', '«', '€', '™']
PIECES = (
    ['the', 'liver', 'Liver', 'LIVER', 'livers', 'nodular', 'opacities', 'pneumothorax', 'cardiomegaly', 'MRI', 'x-ray', "don't", '3D', '10mm', '2024',
     'naïve', 'naïve', 'NAÏVE', 'état', 'ÉTAT', 'État', 'Å', 'Å', 'å', 'straße', 'STRASSE', 'STRAẞE', 'İstanbul', 'ISTANBUL', 'ıŞik', 'Σίσυφος',
     'ΣΊΣΥΦΟΣ', 'ὈΔΥΣΣΕΎΣ', 'μm', 'µm', 'Ω', 'Ω', 'кошка', 'КОШКА', 'й', 'Ёлка', '中文', '医学', '肝脏', '㐀', '𠀀', '豈', '龥', 'こんかた', 'がぎ', 'カタカナ',
     '한국', '한국', 'العربية', 'مُحَمَّد', 'עִבְרִית', 'हिन्दी', 'ไทย', 'ﬁne', 'ﬃ', 'ſ', 'ｆｕｌｌ', '１２', 'Ⅳ', '①', 'ℝ', 'ª', 'Ǆ', 'ǆ', 'ñ', 'ñ', '😀', '👩‍⚕️', '🇨🇭', '🏽']
    + SPECIAL + ['[mask]', '[ MASK ]', '[UNK', '##s', '##ing', '[CLS][SEP]']
    + ['a' * 99, 'a' * 100, 'a' * 101, 'e' + '\u0301' * 101, '\u0301', 'q' * 40]
    + ['\t', '\n', '\r', '\r\n', '\x00', '\x07', '\x1b', '\x7f', '\x85', '\u00a0', '\u00ad', '\u1680', '\u2003', '\u2009', '\u200b', '\u200d', '\u200e', '\u2028',
       '\u2029', '\u202f', '\u205f', '\u2060', '\u3000', '\ufeff', '\ufffd', '\ue000', '\U000e0001', '\u0378', ' ', '   ']
    + MARKS + ['٪', '؟', '՞', '·', '·', '‧', '٬', '〜', '～', '！', '⸮', '𐄀'])
SETTINGS = {
    'nothing said': None,
    'uncased': dict(do_lower_case=True),
    'cased': dict(do_lower_case=False),
    'accents kept': dict(do_lower_case=True, strip_accents=False),
    'accents alone': dict(do_lower_case=False, strip_accents=True),
    'chinese as words': dict(do_lower_case=True, tokenize_chinese_chars=False),
}


def text(n):
    """Pieces by the numbers of `text{n}`: how many, then for each which, and whether a space follows."""
    v = values(f'text{n}', 32)
    many = 1 + int(abs(v[0]) * np.float32(15))
    pick = lambda i: PIECES[min(int(abs(v[1 + 2 * i]) * np.float32(len(PIECES))), len(PIECES) - 1)]         # noqa: E731
    return ''.join(pick(i) + (' ' if v[2 + 2 * i] > 0 else '') for i in range(min(many, 15)))


def tokens():
    vocab = list(dict.fromkeys(SPECIAL + WORDS + SUFFIXES + list(LETTERS) + [f'##{c}' for c in LETTERS] + MARKS))
    texts = [text(n) for n in range(1000)]
    found = {}
    for name, setting in SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / 'vocab.txt').write_text('\n'.join(vocab) + '\n', encoding='utf-8')
            if setting is not None:
                (Path(folder) / 'tokenizer_config.json').write_text(json.dumps(setting))
            tokenizer = BertTokenizer.from_pretrained(folder)
        ids = [tokenizer(one)['input_ids'] for one in texts]
        together = hashlib.sha256(b''.join(np.array(one + [0xFFFFFFFF], dtype='<u4').tobytes() for one in ids)).hexdigest()
        assert any(1 in one for one in ids) and len({tuple(one) for one in ids}) > 900, name
        found[name] = dict(setting=setting, some={str(n): ids[n] for n in range(0, 1000, 67)}, sha256=together)
    assert len({one['sha256'] for one in found.values()}) == len(found) - 1, 'nothing said means uncased, all others differ'
    return dict(vocab=vocab, pieces=PIECES, some={str(n): texts[n] for n in range(0, 1000, 67)}, settings=found)


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--out', type=Path, default=Path('.'))
    p.add_argument('--whole', action='store_true')
    a = p.parse_args()
    made = f'transformers {transformers.__version__}, torch {torch.__version__}'
    def write(name, entries):
        rows = [f'{json.dumps(k)}: {json.dumps(v)}' for k, v in dict({'made with': made}, **entries).items()]
        (a.out / name).write_text('{\n' + ',\n'.join(rows) + '\n}\n')
    if not a.whole:
        write('bert.json', {name: case(**one) for name, one in CASES.items()})
        write('bert_tokens.json', tokens())
        return
    whole = case(BASE, BertForPreTraining, (64, 9), 300, (0, 1, 2, 6, 12))
    contract(Path(__file__).parents[2] / 'weights' / 'Bio_ClinicalBERT.names', whole.pop('tensors'))
    write('bert_whole.json', {'bert_base': dict(whole, names='Bio_ClinicalBERT')})


if __name__ == '__main__':
    main()
