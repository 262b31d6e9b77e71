"""Checkpoints of other programs, and what is in them, for `keraunos convert`.

    python convert.py --out .

`convert_*.pth` are written by `torch.save`, `convert_torch.safetensors` has their tensors as the safetensors library
writes them.  `convert_tfjs/` is a chain of convolutions with batch norms in TensorFlow.js's layout, written by hand, and
`convert_tfjs.safetensors` an input and what PyTorch makes of it in float64.
"""
import argparse
import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from store import save


def checkpoints(out):
    torch.manual_seed(11)
    base = torch.randn(4, 6)
    state = OrderedDict(
        float64=torch.randn(3, dtype=torch.float64), float32=base, float16=torch.randn(2, 3).half(), bfloat16=torch.randn(5).bfloat16(),
        int64=torch.tensor(-7), int32=torch.arange(4, dtype=torch.int32), int16=torch.tensor([-300, 300], dtype=torch.int16),
        int8=torch.tensor([[-128], [127]], dtype=torch.int8), uint8=torch.tensor([0, 255], dtype=torch.uint8), bool=torch.tensor([True, False]),
        transposed=base.t(), columns=base[1:, 2:5], steps=torch.arange(10.0)[1::3], again=base, empty=torch.zeros(0, 3),
        parameter=nn.Parameter(torch.randn(2, 2)))
    torch.save(state, out / 'convert_plain.pth')
    torch.save(state, out / 'convert_protocol4.pth', pickle_protocol=4)
    torch.save(dict(state, version=3, name='x'), out / 'convert_extra.pth')
    torch.save({'epoch': 4, 'best': 0.5, 'model': {'note': None, 'state_dict': state}}, out / 'convert_wrapped.pth')
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    torch.save(network.state_dict(), out / 'convert_network.pth')
    torch.save(network, out / 'convert_module.pth')
    torch.save({'x': torch.complex(torch.ones(2), torch.ones(2))}, out / 'convert_complex.pth')
    torch.save({'lr': 0.1, 'steps': [1, 2]}, out / 'convert_nothing.pth')
    save_file({k: v.detach().clone().contiguous() for k, v in state.items()}, out / 'convert_torch.safetensors')
    save_file({k: v.clone() for k, v in network.state_dict().items()}, out / 'convert_network.safetensors')


def tfjs(out):
    torch.manual_seed(12)
    folder = out / 'convert_tfjs'
    folder.mkdir(exist_ok=True)
    layers, weights, numbers = [], [], []
    x = torch.rand(7, 5, 6).float()
    y, before, previous = x.double()[None, None], 1, None

    def add(kind, name, config):
        nonlocal previous
        nodes = [] if previous is None else [[[previous, 0, 0, {}]]]
        layers.append({'class_name': kind, 'name': name, 'config': {'name': name, **config}, 'inbound_nodes': nodes})
        previous = name

    def weight(name, value):
        weights.append({'name': name, 'shape': list(value.shape), 'dtype': 'float32'})
        numbers.append(value.contiguous().float().numpy().tobytes())

    add('InputLayer', 'input', {'batch_input_shape': [None, 7, 5, 6, 1]})
    for n, (channels, dilation, use_bias, activation) in enumerate([(4, 1, True, 'relu'), (3, 2, False, 'elu')]):
        kernel = torch.randn(3, 3, 3, before, channels).float() * 0.3
        bias = torch.randn(channels).float() if use_bias else None
        add('Conv3D', f'conv{n}', {'filters': channels, 'kernel_size': [3] * 3, 'strides': [1] * 3, 'dilation_rate': [dilation] * 3, 'padding': 'same',
                                   'data_format': 'channels_last', 'activation': 'linear', 'use_bias': use_bias})
        weight(f'conv{n}/kernel', kernel)
        if use_bias:
            weight(f'conv{n}/bias', bias)
        gamma, beta, mean, var = torch.rand(channels) + 0.5, torch.randn(channels), torch.randn(channels), torch.rand(channels) + 0.1
        add('BatchNormalization', f'norm{n}', {'epsilon': 1e-3})
        for part, value in dict(gamma=gamma, beta=beta, moving_mean=mean, moving_variance=var).items():
            weight(f'norm{n}/{part}', value)
        add('Activation', f'act{n}', {'activation': activation})
        add('Dropout', f'drop{n}', {'rate': 0.1})
        y = F.conv3d(y, kernel.double().permute(4, 3, 0, 1, 2), None if bias is None else bias.double(), padding=dilation, dilation=dilation)
        y = F.batch_norm(y, mean.double(), var.double(), gamma.double(), beta.double(), eps=1e-3)
        y, before = {'relu': F.relu, 'elu': F.elu}[activation](y), channels
    hidden = y
    kernel, bias = torch.randn(1, 1, 1, 3, 2).float(), torch.randn(2).float()
    add('Conv3D', 'output', {'filters': 2, 'kernel_size': [1] * 3, 'padding': 'same', 'dilation_rate': [1] * 3, 'activation': 'linear', 'use_bias': True})
    weight('output/kernel', kernel)
    weight('output/bias', bias)
    y = F.conv3d(y, kernel.double().permute(4, 3, 0, 1, 2), bias.double())
    raw = b''.join(numbers)
    shards = ['group1-shard1of2.bin', 'group1-shard2of2.bin']
    for shard, part in zip(shards, (raw[:1000], raw[1000:])):
        (folder / shard).write_bytes(part)
    model = {'format': 'layers-model', '_comment': 'min = 2% quantile, max = 98% quantile',
             'modelTopology': {'model_config': {'class_name': 'Functional', 'config': {'layers': layers}}},
             'weightsManifest': [{'paths': shards, 'weights': weights}]}
    (folder / 'model.json').write_text(json.dumps(model, indent=1) + '\n')
    (folder / 'colormap.json').write_text(json.dumps({'R': [0, 9], 'labels': ['background', 'brain']}) + '\n')
    print(save(out / 'convert_tfjs.safetensors', {'x': x.numpy(), 'conv1': hidden[0].permute(1, 2, 3, 0).float().contiguous().numpy(),
                                                  'classes': y[0].argmax(0).numpy().astype(np.uint8)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path('.'))
    out = parser.parse_args().out
    checkpoints(out)
    tfjs(out)


if __name__ == '__main__':
    main()
