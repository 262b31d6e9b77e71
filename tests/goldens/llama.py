"""Goldens of the Llama family: what transformers makes of small models with seeded weights.

    python llama.py --out .

writes `llama.json`: for each case the `config.json` of a model, the shape of every tensor, token ids, and of the logits in
float64 every 5th of each row.  The weights are not kept: tests make them again, each value a hash of its tensor's name and
its place (see `values`), so every architecture and every way to stretch the positions is a few lines here.
"""
import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

BASE = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96,
            vocab_size=131, max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=False)
CASES = {
    # LLaMA 2 and Vicuna: as many heads of k and v as of q, plain positions
    'llama2': dict(model_type='llama', num_key_value_heads=4, rope_theta=10000.0, hidden_act='silu'),
    'llama_linear': dict(model_type='llama', rope_theta=10000.0, rope_scaling=dict(type='linear', factor=4.0), hidden_act='silu'),
    'llama3': dict(model_type='llama', rope_theta=500000.0, hidden_act='silu', tie_word_embeddings=True, rope_scaling=dict(
        rope_type='llama3', factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)),
    'llama_yarn': dict(model_type='llama', rope_theta=10000.0, hidden_act='silu', rope_scaling=dict(
        rope_type='yarn', factor=4.0, original_max_position_embeddings=64)),
    # since transformers 5
    'llama_parameters': dict(model_type='llama', hidden_act='silu', rope_parameters=dict(rope_type='yarn', rope_theta=20000.0,
                             factor=2.0, original_max_position_embeddings=32, beta_fast=16.0, beta_slow=2.0, attention_factor=1.25)),
    'mistral': dict(model_type='mistral', rope_theta=10000.0, hidden_act='silu', sliding_window=7, head_dim=24),
    'qwen2': dict(model_type='qwen2', rope_theta=1000000.0, hidden_act='silu', use_sliding_window=False, sliding_window=9,
                  max_window_layers=1),
    'qwen2_windows': dict(model_type='qwen2', rope_theta=1000000.0, hidden_act='silu', use_sliding_window=True, sliding_window=9,
                          max_window_layers=1, tie_word_embeddings=True),
    'qwen3': dict(model_type='qwen3', rope_theta=1000000.0, hidden_act='silu', head_dim=32, use_sliding_window=False,
                  attention_bias=False, tie_word_embeddings=True),
    'gemma3': dict(model_type='gemma3_text', hidden_activation='gelu_pytorch_tanh', head_dim=256, query_pre_attn_scalar=256,
                   num_key_value_heads=1, sliding_window=6, rope_theta=1000000.0, rope_local_base_freq=10000.0,
                   num_hidden_layers=7, sliding_window_pattern=6, tie_word_embeddings=True,
                   rope_scaling=dict(rope_type='linear', factor=8.0)),
}
TOKENS = 41


def values(name, count):
    """`count` numbers in [-1, 1), a hash (the finaliser of murmur3) of the tensor's name and the place of each."""
    h = np.uint32(2166136261)
    with np.errstate(over='ignore'):
        for byte in name.encode():
            h = (h ^ np.uint32(byte)) * np.uint32(16777619)                  # FNV-1a
        x = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9) + h
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
        x ^= x >> np.uint32(16)
    return (x >> np.uint32(8)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def weight(name, shape, around_one):
    v = values(name, int(np.prod(shape))).reshape(shape)
    if len(shape) == 2:
        return v * np.float32(2) / np.sqrt(np.float32(shape[1]))
    return v * np.float32(0.25) + np.float32(1 if around_one and 'norm' in name else 0)


def case(changes):
    config = {**BASE, **changes}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / 'config.json').write_text(json.dumps(config))
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), attn_implementation='eager').eval()
    around_one = config['model_type'] != 'gemma3_text'
    names = {name: list(p.shape) for name, p in model.named_parameters()}      # a tied output layer is not among them
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(weight(name, p.shape, around_one)))
        model = model.double()
        ids = [int(abs(v) * config['vocab_size']) for v in values('ids', TOKENS)]
        logits = model(torch.tensor([ids])).logits[0]
    sample = logits.flatten()[::5].float()
    return dict(config=config, tensors=names, ids=ids, logits=[float(f'{v:.7g}') for v in sample])


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--out', type=Path, default=Path('.'))
    a = p.parse_args()
    rows = [f'{json.dumps(name)}: {json.dumps(case(changes))}' for name, changes in CASES.items()]
    text = ',\n'.join([f'"made with": "transformers {transformers.__version__}, torch {torch.__version__}"', *rows])
    (a.out / 'llama.json').write_text('{\n' + text + '\n}\n')


if __name__ == '__main__':
    main()
