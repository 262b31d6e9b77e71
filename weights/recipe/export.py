"""The trained model as the file the engine reads: plain weights in f16 safetensors.

Batch norms become part of their convolutions, the standardising of text states part of the keys and
values that pool them; everything is folded in float64.  The prompt tokens of the built-in instructions
go into the same file.
"""

import json
from dataclasses import asdict, fields
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .model import Config, ConvNorm, ZeusMini
from .stock import instructions, prompt_tokens
from .text import ENCODER, TextEncoder

TOKENS = 'instruction_tokens'        # beside the model's own tensors
DEAD = 1e-6                          # a text channel that deviates less


@torch.no_grad()
def fold(model: ZeusMini) -> dict[str, Tensor]:
    """The state of the plain model that equals `model` in eval mode, float32."""
    state = {name: tensor.double() for name, tensor in model.state_dict().items()
             if tensor.is_floating_point()}
    for name, module in model.named_modules():
        if isinstance(module, ConvNorm):
            bn = {key: state.pop(f'{name}.bn.{key}')
                  for key in ('weight', 'bias', 'running_mean', 'running_var')}
            gain = bn['weight'] / (bn['running_var'] + module.bn.eps).sqrt()
            weight = state[f'{name}.conv.weight'] * gain[:, None, None, None]
            state[f'{name}.conv.weight'] = weight
            bias = (state[f'{name}.conv.bias'] - bn['running_mean']) * gain + bn['bias']
            state[f'{name}.conv.bias'] = bias
    mean, deviation = (state.pop(f'prompt_encoder.{name}') for name in ('mean', 'deviation'))
    for name in ('k_proj', 'v_proj'):
        name = f'prompt_encoder.text_pool.{name}'
        weight = state[f'{name}.weight'] / deviation
        state[f'{name}.bias'] = state[f'{name}.bias'] - weight @ mean
        # all-MiniLM-L6-v2 has three channels that are always zero: nothing to weigh
        state[f'{name}.weight'] = torch.where(deviation > DEAD, weight, 0)
    return {name: tensor.float().contiguous().cpu() for name, tensor in state.items()}


def export(model: ZeusMini, path: Path, encoder: TextEncoder | None = None) -> None:
    """Writes the plain weights of `model` and, with an encoder, the tokens of the built-in
    instructions as the f16 weights make them."""
    state = {name: tensor.half() for name, tensor in fold(model).items()}
    metadata = {'config': json.dumps(asdict(model.config)), 'format': 'pt',
                'text_encoder': ENCODER}
    if encoder:
        plain = ZeusMini(model.config, plain=True)
        plain.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        texts = instructions()
        state[TOKENS] = prompt_tokens(plain.eval(), encoder, texts).half()
        metadata['instructions'] = json.dumps(texts)
    bad = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if bad:
        raise ValueError(f'not finite in f16: {", ".join(bad)}')
    save_file(state, path, metadata)


def load_exported(path: Path) -> ZeusMini:
    """The plain model of an exported file, float32, in eval mode."""
    with safe_open(path, 'pt') as file:
        raw = json.loads(file.metadata()['config'])
        state = {name: file.get_tensor(name).float() for name in file.keys() if name != TOKENS}
    unknown = raw.keys() - {field.name for field in fields(Config)}
    if unknown:
        raise ValueError(f'unknown sizes in the metadata of `{path}`: {", ".join(unknown)}')
    config = Config(**{key: tuple(value) if isinstance(value, list) else value
                       for key, value in raw.items()})
    model = ZeusMini(config, plain=True)
    model.load_state_dict(state)
    return model.eval()
