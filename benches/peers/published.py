"""PyTorch, onnxruntime and tinygrad beside keraunos on the networks that others published: one after the other in turns, each in a process of
its own, with the most memory that it held.

    cargo bench --bench published --no-run
    pip install -r tests/goldens/requirements.txt -r benches/peers/requirements.txt
    python benches/peers/published.py [--threads N] [--rounds N] sam clipseg meshnet

Float32, numbers for weights.  `sam` is ViT-B's encoder on a slice of 1024 x 1024, `clipseg` the ten blocks of rd64-refined's image tower
that its decoder reads, on one of 352 x 352.  keraunos runs them on its adapter, the others on the processor; PyTorch by both of
transformers' attentions, and where it finds CUDA there in f16 too, which nobody has run yet.  onnxruntime's results are compared with PyTorch's first; keraunos' are in tests/sam.rs and
tests/clip.rs.  Seconds are the least of three runs in each turn; on a software adapter memory is the adapter's too.

`meshnet` is brainchop's network of 30 channels with its published weights, out of the folder KERAUNOS_SHARED (or ../shared), on all
256 x 256 x 256 voxels of a real scan and up to the class of each; it runs once a turn.  tinygrad's is brainchop's own class as its
program calls it (`TINYGRAD_BEAM=2` lets it look for kernels first); its kernels
are compiled before the clock, on the same volume.  tinygrad 0.14 cuts its kernels for threads and runs the pieces one after the other, so it
has one thread however many it is given.  Its classes are compared with PyTorch's, keraunos' are in tests/meshnet.rs.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RUNS = 3
# What a row of the bench begins with.
ROWS = {'sam': 'SAM ViT-B, f32: a slice of 1024 x 1024 encoded', 'clipseg': 'CLIPSeg rd64-refined, f32: a slice of 352 x 352 encoded',
        'meshnet': 'MeshNet, 30 channels: 256 x 256 x 256 voxels'}
# The most voxels of 16,777,216 that rounding may give another class.
OTHER_VOXELS = 100


def tower(name, attention):
    """The network and a picture."""
    import torch
    import transformers

    torch.manual_seed(7)
    if name == 'sam':
        model = transformers.SamModel._from_config(transformers.SamConfig(), attn_implementation=attention).eval()
        return model.vision_encoder, torch.rand(1, 3, 1024, 1024)
    config = transformers.CLIPSegConfig(vision_config=dict(patch_size=16), use_complex_transposed_convolution=True)
    model = transformers.CLIPSegForImageSegmentation._from_config(config, attn_implementation=attention).eval()
    vision = model.clip.vision_model
    vision.encoder.layers = vision.encoder.layers[:10]
    return vision, torch.rand(1, 3, 352, 352)


def least(run):
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def by_torch(name, attention, threads):
    import torch

    torch.set_num_threads(threads)
    model, image = tower(name, attention)
    with torch.inference_mode():
        print(least(lambda: model(image)))


def by_cuda(name, attention, _threads):
    import torch

    model, image = tower(name, attention)
    model, image = model.half().cuda(), image.half().cuda()

    def run():
        model(image)
        torch.cuda.synchronize()

    with torch.inference_mode():
        run()
        print(least(run))


def exported(name, path):
    """Writes the network as ONNX, with a picture and what PyTorch makes of it."""
    import numpy as np
    import torch

    class First(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x).last_hidden_state

    model, image = tower(name, 'eager')
    model = First(model)
    with torch.inference_mode():
        wanted = model(image)
    torch.onnx.export(model, (image,), str(path / 'model.onnx'), opset_version=17, dynamo=False, input_names=['x'], output_names=['y'])
    np.savez(path / 'case.npz', x=image.numpy(), y=wanted.numpy())


def by_onnxruntime(path, threads):
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(Path(path) / 'model.onnx'), options, providers=['CPUExecutionProvider'])
    case = np.load(Path(path) / 'case.npz')
    x, wanted = case['x'], case['y']
    off = np.abs(session.run(None, {'x': x})[0] - wanted).max() / np.abs(wanted).max()
    if off > 1e-4:
        raise SystemExit(f'onnxruntime is off by {off:.1e}')
    print(least(lambda: session.run(None, {'x': x})))


def meshnet():
    """The layers of brainchop's network as tests/goldens/meshnet.py reads them, and a scan, conformed and scaled."""
    import numpy as np

    sys.path.insert(0, str(ROOT / 'tests/goldens'))
    from meshnet import prepare, read

    data = ROOT / os.environ.get('KERAUNOS_SHARED', '../shared') / 'data/meshnet'
    layers, quantiles = read(data / 'model30chan18cls')
    volume, _, _, _ = prepare(data / 't1_crop.nii.gz', quantiles)
    return layers, np.ascontiguousarray(volume)


def meshnet_by_torch(folder, threads):
    import numpy as np
    import torch

    layers, volume = meshnet()
    from meshnet import forward

    torch.set_num_threads(threads)
    with torch.inference_mode():
        start = time.perf_counter()
        classes = forward(layers, torch.from_numpy(volume)).argmax(0)
        print(time.perf_counter() - start)
    np.save(Path(folder) / 'classes.npy', classes.numpy().astype(np.uint8))


def meshnet_by_tinygrad(folder, threads):
    """After PyTorch, whose classes it is compared with."""
    import numpy as np

    layers, volume = meshnet()
    os.environ.update(DEV='CPU', NUM_CPU_THREADS=str(threads), BEAM=os.environ.get('TINYGRAD_BEAM', '0'))
    from brainchop.tiny_meshnet import MeshNet
    from tinygrad import Tensor

    sizes = [dict(in_channels=weight.shape[1], out_channels=weight.shape[0], kernel_size=weight.shape[-1], stride=1, dilation=dilation,
                  padding=weight.shape[-1] // 2 * dilation, bias=True) for _, weight, _, dilation, _, _ in layers]
    config = Path(folder) / 'config.json'
    config.write_text(json.dumps(dict(layers=sizes, bnorm=False, elu=True, dropout_p=0)))
    model = MeshNet(1, sizes[-1]['out_channels'], sizes[0]['out_channels'], config)
    for own, (_, weight, bias, *_) in zip((layer for layer in model.model if hasattr(layer, 'weight')), layers):
        own.weight, own.bias = Tensor(weight.numpy()).realize(), Tensor(bias.numpy()).realize()
    model.init_seq_conv_argmax()
    for _ in range(2):
        start = time.perf_counter()
        classes = model(Tensor(volume)[None, None], fuse_chunk=model.n_classes).numpy()
        spent = time.perf_counter() - start
    other = int((classes[0] != np.load(Path(folder) / 'classes.npy')).sum())
    if other > OTHER_VOXELS:
        raise SystemExit(f'tinygrad gives {other} voxels another class than PyTorch')
    print(spent)


def contenders(name, folder, program, me):
    """The command of each."""
    if name == 'meshnet':
        return {'keraunos': [program, '--bench', 'meshnet_whole'], 'PyTorch': [*me, 'meshnet-torch', folder],
                'tinygrad': [*me, 'meshnet-tinygrad', folder]}
    # Apart, as exporting takes memory of its own.
    code = f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import published, pathlib; published.exported({name!r}, pathlib.Path({folder!r}))'
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    import torch

    cuda = {f'PyTorch, {way}, CUDA in f16': [*me, 'cuda', name, way] for way in ('sdpa', 'eager') if torch.cuda.is_available()}
    return {'keraunos': [program, '--bench', name], 'PyTorch, sdpa': [*me, 'torch', name, 'sdpa'],
            'PyTorch, eager': [*me, 'torch', name, 'eager'], **cuda, 'onnxruntime': [*me, 'onnx', folder]}


def measured(command):
    """What a process prints, and the most gigabytes that it held."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f'{command} ended with {process.returncode}')
    return text, usage.ru_maxrss / 2**20


def keraunos():
    """The bench's own program, so that its memory is not cargo's."""
    made = subprocess.run(['cargo', 'bench', '--bench', 'published', '--no-run', '--message-format', 'json'], cwd=ROOT, text=True, check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return re.findall(r'"executable":"([^"]*published[^"]*)"', made)[-1]


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument('--threads', type=int, default=os.cpu_count())
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--as', dest='kind', nargs='+', help=argparse.SUPPRESS)
    p.add_argument('names', nargs='*')
    a = p.parse_args()
    if a.kind:
        kind, *rest = a.kind
        ways = {'torch': by_torch, 'cuda': by_cuda, 'onnx': by_onnxruntime, 'meshnet-torch': meshnet_by_torch, 'meshnet-tinygrad': meshnet_by_tinygrad}
        return ways[kind](*rest, a.threads)
    me, program = [sys.executable, __file__, '--threads', str(a.threads), '--as'], keraunos()
    for name in a.names:
        with tempfile.TemporaryDirectory() as folder:
            commands = contenders(name, folder, program, me)
            times, memory = {who: [] for who in commands}, dict.fromkeys(commands, 0.0)
            for _ in range(a.rounds):
                for who, command in commands.items():
                    text, most = measured(command)
                    if who == 'keraunos':
                        row = next(line for line in text.splitlines() if line.startswith(ROWS[name]))
                        text = re.search(r'([0-9.]+) (m?s)\b', row[len(ROWS[name]):])
                        text = float(text[1]) / (1000 if text[2] == 'ms' else 1)
                    times[who].append(float(text))
                    memory[who] = max(memory[who], most)
                    print(f'{name}, {who}: {times[who][-1]:.2f} s, {most:.2f} GB', file=sys.stderr, flush=True)
            print(ROWS[name])
            for who in commands:
                turns = [ours / theirs for ours, theirs in zip(times['keraunos'], times[who])]
                spread = f'{min(times[who]):.2f} to {max(times[who]):.2f} s'
                print(f'  {who:15} {spread:16} {memory[who]:5.2f} GB   keraunos takes {statistics.median(turns):.2f} times as long')


if __name__ == '__main__':
    main()
