"""Goldens of the two language models, from the published weights.

    python models.py minilm  --model <all-MiniLM-L6-v2 folder> --out .
    python models.py smollm2 --model <SmolLM2-135M-Instruct.Q4_1.gguf> --llama <folder with node_modules> --out .

minilm writes `minilm_sentences.json` (50 sentences and their token ids) and `minilm.safetensors`
(embeddings [50, 384]; activations of one short sentence).  They are computed in float64 and compared
with sentence-transformers.

smollm2 writes `smollm2.json` (chats, templated text, token ids, greedy continuations),
`smollm2_logits.safetensors`, `dequantize.safetensors` and `tokenizer_smollm2.json`.  Token ids come from
llama.cpp (llama.mjs).  There are two continuations: `reference`, of the dequantised weights, by the float64
evaluation below and, identically, by llama.cpp on a float32 copy of the model; and `llama_cpp`, of the
quantised file, where llama.cpp also rounds the activations to 8 bits and so leaves the reference wherever
two logits are close.  A faithful engine reproduces `reference`.
"""
import argparse
import json
import math
import subprocess
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from store import save

SENTENCES = [
    'Segment the left hippocampus in this T1-weighted axial MRI.', 'Segment the right caudate nucleus in this T1-weighted sagittal MRI.',
    'Segment the whole brain in this T1-weighted coronal MRI.', 'left hippocampus', 'right hippocampus', 'Left Hippocampus', 'LEFT HIPPOCAMPUS',
    'hippocampus, left', 'gray matter', 'grey matter', 'white matter', 'CSF', 'brainstem', 'third ventricle', '3rd ventricle', 'fourth ventricle.',
    'Could you trace the putamen for me?', 'I want a binary map of the cerebellum from this scan.', 'Please provide the outline for: globus pallidus.',
    'Radiologist note: evaluate the amygdala; produce its mask from the coronal view.', 'thalamus only, nothing else', 'Where is the corpus callosum?',
    'Findings: lateral ventricle at the frontal horn, hypointense on T1-weighted. Mark it on the axial image.',
    'Patient referred for brain MRI. Sequence FLAIR, axial orientation. Please outline the white matter hyperintensities for measurement.',
    'On this T2-weighted sagittal image the cerebrospinal fluid appears bright; delineate it.', 'liver', 'left kidney', 'spleen (portal venous phase CT)',
    'Segment the 12 mm nodule in the right upper lobe, HU -650 to +40, slice 3/5.', 'C5-C6 disc; T2*: 0.5x0.5x7.5 mm^3', 'asdf qwer zxcv', 'the train leaves at noon',
    '', ' ', '.', 'a', '   leading and   inner    spaces\tand\ttabs\n\nand newlines  ', 'no-break\u00a0space, zero\u200bwidth, soft\u00adhyphen, \u2028line separator',
    'L\u00e9sion de l\u2019hippocampe gauche \u00e0 d\u00e9limiter', 'Gro\u00dfhirnrinde und Kleinhirn, \u00d6dem', 'e\u0301 composed against \u00e9 precomposed', '\u6d77\u9a6c\u4f53\u3092\u30bb\u30b0\u30e1\u30f3\u30c8\u3057\u3066', '\u0433\u0438\u043f\u043f\u043e\u043a\u0430\u043c\u043f \u0441\u043b\u0435\u0432\u0430',
    '\u062d\u0635\u064a\u0646', 'tumour \U0001f9e0\U0001f480 emoji \u2764\ufe0f', '[CLS] hippocampus [SEP] [MASK] [PAD] [UNK]', 'supercalifragilisticexpialidocious electroencephalographically',
    'x' * 120 + ' caudate', 'Segment the ' + ', the '.join(['hippocampus', 'amygdala', 'caudate nucleus', 'putamen', 'pallidum', 'thalamus'] * 16) + ' in this MRI.',
    ' '.join(f'{i} mm' for i in range(200)),
]


# ------------------------------------------------------------------ MiniLM
def minilm(a):
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoTokenizer
    assert len(SENTENCES) == 50
    published = SentenceTransformer(str(a.model), device='cpu')
    tokenizer, net = AutoTokenizer.from_pretrained(a.model), AutoModel.from_pretrained(a.model).eval().double()
    ids, embeddings, kept = [], [], {}
    with torch.no_grad():
        for text in SENTENCES:
            t = tokenizer(text, truncation=True, max_length=published.max_seq_length, return_tensors='pt')
            assert published.tokenize([text])['input_ids'][0].tolist() == t['input_ids'][0].tolist(), text
            h = net(**t, output_hidden_states=True).hidden_states
            ids.append(t['input_ids'][0].tolist())
            embeddings.append(F.normalize(h[-1].mean(1), dim=-1)[0])
            if not kept:                                                  # the first sentence
                kept = {f'hidden{n}': h[n][0] for n in (0, 1, 6)}
    embeddings = torch.stack(embeddings)
    other = torch.from_numpy(published.encode(SENTENCES, batch_size=8))
    print('max_seq_length', published.max_seq_length, 'longest', max(map(len, ids)), 'max |difference| to sentence-transformers', float((embeddings - other).abs().max()))
    rows = [dict(text=s, ids=i) for s, i in zip(SENTENCES, ids)]
    (a.out / 'minilm_sentences.json').write_text('[\n' + ',\n'.join(json.dumps(r) for r in rows) + '\n]\n')
    size = save(a.out / 'minilm.safetensors', {'embeddings': embeddings.float().numpy(), **{k: v.float().numpy() for k, v in kept.items()}},
                dict(hidden='of sentence 0, (tokens, 384): hidden0 after the embedding norm, hidden1 after the first layer, hidden6 after the last'))
    print('minilm.safetensors', size)


# ------------------------------------------------------------------ SmolLM2: plain evaluation of a Llama GGUF
class Llama:
    """A GGUF of architecture llama in float64, with a key/value cache.  GGUF stores the rows of q and k
    permuted, so rotary pairs are neighbours (2i, 2i + 1)."""

    def __init__(self, path):
        import gguf
        reader = gguf.GGUFReader(path)
        self.meta = {k: f.contents() for k, f in reader.fields.items()}
        self.raw = {t.name: t for t in reader.tensors}
        self.w = {n: torch.tensor(gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64)) for n, t in self.raw.items()}
        self.fields = {k: (f.contents(), *f.types[:2]) for k, f in reader.fields.items() if not k.startswith('GGUF.')}
        m = lambda k: self.meta['llama.' + k]
        self.layers, self.heads, self.kv_heads = m('block_count'), m('attention.head_count'), m('attention.head_count_kv')
        self.d, self.eps = m('embedding_length') // self.heads, m('attention.layer_norm_rms_epsilon')
        self.frequency = m('rope.freq_base') ** (-torch.arange(0, self.d, 2).double() / self.d)
        self.head = self.w.get('output.weight', self.w['token_embd.weight'])      # tied when absent

    def write_f32(self, path):
        """The same model as a GGUF of float32 tensors."""
        import gguf
        out = gguf.GGUFWriter(path, 'llama')
        for key, (value, *kind) in self.fields.items():
            if key not in ('general.architecture', 'general.file_type'):
                out.add_key_value(key, value, *kind)
        out.add_file_type(0)
        for name, tensor in self.w.items():
            out.add_tensor(name, tensor.float().numpy())
        out.write_header_to_file(), out.write_kv_data_to_file(), out.write_tensors_to_file(), out.close()

    def norm(self, x, name):
        return x / (x.square().mean(-1, keepdim=True) + self.eps).sqrt() * self.w[name + '.weight']

    def rope(self, x, start):
        angle = (start + torch.arange(x.shape[0]))[:, None, None] * self.frequency
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1).flatten(-2)

    @torch.no_grad()
    def __call__(self, ids, cache=None, keep=None):
        """Logits (tokens, vocab) of `ids`, which follow what `cache` (a dict, extended here) already holds."""
        cache = {} if cache is None else cache
        x, n = self.w['token_embd.weight'][ids], len(ids)
        if keep is not None:
            keep['embedding'] = x
        for i in range(self.layers):
            w = lambda name, x, i=i: x @ self.w[f'blk.{i}.{name}.weight'].T
            h = self.norm(x, f'blk.{i}.attn_norm')
            past_k, past_v = cache.get(i, (torch.empty(0, self.kv_heads, self.d).double(),) * 2)
            start = len(past_k)
            q = self.rope(w('attn_q', h).view(n, self.heads, self.d), start)
            k = torch.cat([past_k, self.rope(w('attn_k', h).view(n, self.kv_heads, self.d), start)])
            v = torch.cat([past_v, w('attn_v', h).view(n, self.kv_heads, self.d)])
            cache[i] = k, v
            k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
            s = torch.einsum('qhd,khd->hqk', q, k) / math.sqrt(self.d)
            s = s.masked_fill(torch.arange(len(k))[None] > torch.arange(n)[:, None] + start, -math.inf)
            x = x + w('attn_output', torch.einsum('hqk,khd->qhd', s.softmax(-1), v).reshape(n, -1))
            h = self.norm(x, f'blk.{i}.ffn_norm')
            x = x + w('ffn_down', F.silu(w('ffn_gate', h)) * w('ffn_up', h))
            if keep is not None and i in (0, self.layers - 1):
                keep[f'layer{i}'] = x
        x = self.norm(x, 'output_norm')
        if keep is not None:
            keep['norm'] = x
        return x @ self.head.T

    def greedy(self, ids, steps, end):
        """-> tokens, and per step the lead of the best logit over the second."""
        cache, tokens, margins, feed = {}, [], [], ids
        while len(tokens) < steps and end not in tokens:
            two = self(feed, cache)[-1].topk(2)
            tokens.append(int(two.indices[0]))
            margins.append(float(two.values[0] - two.values[1]))
            feed = tokens[-1:]
        return tokens, margins


CHATS = [   # one list of messages per chat
    [dict(role='user', content='What is the capital of France?')],
    [dict(role='user', content='Write one sentence that a radiologist would use to ask for a segmentation of the left hippocampus in a T1-weighted axial MRI.')],
    [dict(role='system', content='You are a radiologist. Answer with one short instruction.'), dict(role='user', content='Organ: right caudate nucleus. Modality: FLAIR. Write the segmentation instruction.')],
    [dict(role='user', content='Count from 1 to 10, separated by commas.')],
    [dict(role='user', content='Translate to French: "The brain is 1.4 kg."'), dict(role='assistant', content='Le cerveau p\u00e8se 1,4 kg.'), dict(role='user', content='Thanks! Now in Spanish, please.')],
]
STEPS = 64
PROBE = 'Segment the left hippocampus in this T1-weighted MRI.'
STRINGS = [
    '', ' ', '  ', '   ', 'a', ' a', '  a', 'a ', 'Hello, world!', 'hello  world   again', '\n', '\n\n', ' \n ', '\t\tif x:\n\t\t\treturn\r\n', 'line one\nline two\n\n\nline five',
    '0', '7', '42', '123456789', ' 2024', '3.14159e-10', '1,000,000 mm^3', "it's they're I'd we'll you've I'm don't CAN'T IT'S", '\u2019s it\u2019s', 'T1-weighted (MPRAGE) axial 256x256x180 @ 1.0mm\u00b3',
    '\u00e9 e\u0301 na\u00efve fa\u00e7ade', '\u00bd \u00b2 \u2167 \u0663\u0664', '\u6d77\u9a6c\u4f53 \u30d2\u30c3\u30dd\u30ad\u30e3\u30f3\u30d1\u30b9 \ud574\ub9c8', '\u0433\u0438\u043f\u043f\u043e\u043a\u0430\u043c\u043f', '\u062d\u0635\u064a\u0646 \u05d4\u05d9\u05e4\u05d5', '\U0001f9e0', 'emoji \U0001f468\u200d\u2695\ufe0f\U0001f1ea\U0001f1fa\u2764\ufe0f end',
    'no\u00a0break \u3000wide\u2003em', 'zero\u200bwidth \ufeffbom', '\x00\x01\x7f control', '<|im_start|>user\nHi<|im_end|>\n', '<|endoftext|>', '<|im_start|> spaces <|im_end|> around', '<|im_star|> <im_end> |im_start|>', '<repo_name>x<file_sep> <empty_output>',
    '_snake_case CamelCase kebab-case __init__', '!!!???...---===###', '{"json": [1, 2.5, null], "k": "v"}', 'electroencephalographically', 'x' * 50, 'supra\u00adtentorial \ud7a3 \U0001d54f \u0e2a\u0e21\u0e2d\u0e07',
]


def from_gguf(meta):
    """The same tokenizer out of the GGUF's keys with the `tokenizers` library: what a Rust program would build."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    tokens, kinds = meta['tokenizer.ggml.tokens'], meta['tokenizer.ggml.token_type']
    merges = [tuple(m.split(' ')) for m in meta['tokenizer.ggml.merges']]
    t = Tokenizer(models.BPE({s: i for i, s in enumerate(tokens)}, merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r'\p{N}'), 'isolated'), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s, kind in zip(tokens, kinds) if kind == 3])
    return t


def smollm2(a):
    import gguf
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    net = Llama(a.model)
    # dequantisation: blocks of the file, and blocks of random bytes for formats it does not use
    rng, blocks = np.random.default_rng(1), {}
    for name, tensor, rows in [('q8_0', 'token_embd.weight', 2), ('q4_1', 'blk.0.ffn_down.weight', 1)]:
        raw = net.raw[tensor].data[:rows]
        block = gguf.GGML_QUANT_SIZES[net.raw[tensor].tensor_type][1]
        blocks[name] = net.raw[tensor].tensor_type, np.array(raw).reshape(-1, block)[:12]
    for name, count, scales in [('q4_0', 6, (0,)), ('q5_0', 6, (0,)), ('q5_1', 6, (0, 2)), ('q4_k', 3, (0, 2)), ('q5_k', 3, (0, 2)), ('q6_k', 3, (208,))]:
        kind = gguf.GGMLQuantizationType[name.upper()]
        raw = rng.integers(0, 256, (count, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)
        for at in scales:                                                  # where the block's float16 factors are
            raw[:, at:at + 2] = rng.normal(0, 0.02, (count, 1)).astype(np.float16).view(np.uint8)
        blocks[name] = kind, raw
    out = {}
    for name, (kind, raw) in blocks.items():
        out[name + '.raw'], out[name + '.y'] = raw, gguf.quants.dequantize(raw, kind).astype(np.float32).reshape(len(raw), -1)
    print('dequantize.safetensors', save(a.out / 'dequantize.safetensors', out, {k: json.dumps(dict(block_bytes=r.shape[1])) for k, (_, r) in blocks.items()}))

    # tokens and continuations
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)          # as transformers does
    template = net.meta['tokenizer.chat_template']
    texts = [env.from_string(template).render(messages=c, add_generation_prompt=True) for c in CHATS]
    tokenizer = from_gguf(net.meta)

    def ask(questions, model=a.model):
        script, q, r = (a.llama / f'golden.{e}' for e in ('mjs', 'in.json', 'out.json'))
        script.write_text((Path(__file__).parent / 'llama.mjs').read_text())
        q.write_text(json.dumps(questions))
        subprocess.run(['node', script.name, str(model.resolve()), q.name, r.name], cwd=a.llama, check=True)
        answers = json.loads(r.read_text())
        for f in (script, q, r):
            f.unlink()
        return answers

    first = ask(dict(tokenize=texts + [PROBE] + STRINGS, generate=[], steps=STEPS))
    prompts, probe, ids = first['tokenize'][:len(texts)], first['tokenize'][len(texts)], first['tokenize'][len(texts) + 1:]
    plain = first['plain'][len(texts) + 1:]
    rows = [dict(text=s, ids=i) if i == p else dict(text=s, ids=i, plain=p) for s, i, p in zip(STRINGS, ids, plain)]
    (a.out / 'tokenizer_smollm2.json').write_text('[\n' + ',\n'.join(json.dumps(r) for r in rows) + '\n]\n')
    wrong = [s for s, i in zip(texts + STRINGS, prompts + ids) if tokenizer.encode(s).ids != i]
    print(len(STRINGS), 'strings; tokenizer built from the GGUF differs on', [(s, tokenizer.encode(s).ids) for s in wrong])

    questions = dict(tokenize=[], generate=prompts, steps=STEPS)
    said = ask(questions)['generate']
    wide = a.llama / 'golden.f32.gguf'
    net.write_f32(wide)
    said_f32 = ask(questions, wide)['generate']
    wide.unlink()
    end, chats = net.meta['tokenizer.ggml.eos_token_id'], []
    for chat, text, prompt, tokens, tokens_f32 in zip(CHATS, texts, prompts, said, said_f32):
        reference, margins = net.greedy(prompt, STEPS, end)
        assert tokens_f32 == reference, 'llama.cpp on float32 weights disagrees with the float64 evaluation'
        logits = net(prompt + tokens[:-1])[len(prompt) - 1:]               # along llama.cpp's own path
        two = logits.topk(2).values
        agree = (logits.argmax(-1) == torch.tensor(tokens)).tolist()
        same = next((i for i, (x, y) in enumerate(zip(tokens, reference)) if x != y), min(len(tokens), len(reference)))
        print(f'{len(prompt)} + {len(tokens)} tokens; llama.cpp = float64 for {same}; argmax along its path {sum(agree)}/{len(agree)}; least margin {min(margins):.4f}', repr(tokenizer.decode(tokens)))
        chats.append(dict(messages=chat, text=text, prompt=prompt, llama_cpp=tokens, llama_cpp_text=tokenizer.decode(tokens), llama_cpp_margins=[round(float(x), 4) for x in two[:, 0] - two[:, 1]],
                          llama_cpp_agrees=agree, reference=reference, reference_text=tokenizer.decode(reference), reference_margins=[round(m, 4) for m in margins], same_until=same))
    (a.out / 'smollm2.json').write_text(json.dumps(dict(llama_cpp=first['version'], template=template, chats=chats), indent=None, separators=(',', ':')).replace('{"messages"', '\n{"messages"') + '\n')

    keep = {}
    logits = net(probe, keep=keep)[-1]
    size = save(a.out / 'smollm2_logits.safetensors', {'logits': logits.float().numpy(), **{k: v[:, :64].float().numpy() for k, v in keep.items()}, 'ids': np.array(probe, np.int32)},
                dict(text=PROBE, shapes='logits: last position, (49152); embedding, layer0, layer29, norm: first 64 values of every position, (tokens, 64)'))
    print('smollm2_logits.safetensors', size, 'argmax', int(logits.argmax()), 'range', float(logits.min()), float(logits.max()))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('which', choices=['minilm', 'smollm2'])
    p.add_argument('--model', required=True, type=Path)
    p.add_argument('--out', default='.', type=Path)
    p.add_argument('--llama', type=Path, help='folder in which node finds node-llama-cpp')
    a = p.parse_args()
    {'minilm': minilm, 'smollm2': smollm2}[a.which](a)


if __name__ == '__main__':
    main()
