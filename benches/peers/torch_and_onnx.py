"""PyTorch, onnxruntime and wonnx beside keraunos: the same case, the same numbers, in turns.

    cargo build --release --manifest-path benches/peers/Cargo.toml
    pip install -r benches/peers/requirements.txt
    python benches/peers/torch_and_onnx.py [--threads N] [--rounds N] [--long] matmul conv attention decoder vit zeus

PyTorch and onnxruntime run f32 on the processor with as many threads as there are cores; where PyTorch finds
CUDA it runs there too, eager and compiled, without TF32. wonnx runs matmul and conv through wgpu on keraunos'
adapter. Every result is compared with keraunos' before it is timed. What is printed are medians and the median of
the ratios of turns. `zeus` needs what weights/recipe/requirements.txt lists.
"""

import argparse
import io
import itertools
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import wonnx
from torch import nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DIM, HIDDEN, HEADS, DEPTH = 768, 3072, 12, 12
# Of SAM's mask decoder.
TOKEN, CROSS, TOKEN_HEADS = 256, 128, 8
# The largest difference in terms of the largest value: what the order of f32 sums makes of twelve blocks.
TOLERANCE = 1e-3
TURN = 0.3                # seconds that a turn should take at least


def numbers(seed: int, *shape: int, scale: float = 1.0) -> torch.Tensor:
    """Numbers of -scale ... scale, as `cases.rs` makes them."""
    h = np.arange(math.prod(shape), dtype=np.uint32)
    h += np.uint32(seed * 0x9E3779B9 % 2**32)
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    values = (h >> np.uint32(8)).astype(np.float32) / np.float32(2**23) - np.float32(1)
    return torch.from_numpy(values * np.float32(scale)).reshape(shape)


def weights(seed: int, outputs: int, inputs: int) -> torch.Tensor:
    return numbers(seed, outputs, inputs, scale=math.sqrt(3 / inputs))


class Case(nn.Module):
    """A model with its input, `example`; wonnx has no attention and no product of more than two dimensions."""

    wonnx = False

    def canonical(self, y):
        """The result in keraunos' order: channels inside, heads within a token."""
        return y


class Matmul(Case):
    wonnx = True

    def __init__(self, side: int) -> None:
        super().__init__()
        # The right side as it is multiplied, so that nobody transposes while the clock runs.
        self.register_buffer('right', weights(1, side, side).T.contiguous())
        self.example = numbers(0, side, side)

    def forward(self, x):
        return x @ self.right


class Conv(Case):
    wonnx = True

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        taps = weights(1, channels, 9 * channels).reshape(channels, 3, 3, channels)
        self.register_buffer('weight', taps.permute(0, 3, 1, 2).contiguous())
        self.register_buffer('bias', numbers(2, channels, scale=0.1))
        self.example = numbers(0, 1, side, side, channels).permute(0, 3, 1, 2).contiguous()

    def forward(self, x):
        return functional.conv2d(x, self.weight, self.bias, padding=1)

    def canonical(self, y):
        return y.permute(0, 2, 3, 1)


class Attention(Case):
    def __init__(self, queries: int, keys: int, heads: int, width: int) -> None:
        super().__init__()
        # A large q makes scores that prefer some keys.
        q, k, v = (numbers(seed, 1, rows, heads, width, scale=scale).transpose(1, 2).contiguous()
                   for seed, (rows, scale) in enumerate(((queries, 4), (keys, 1), (keys, 1))))
        self.register_buffer('k', k)
        self.register_buffer('v', v)
        self.example = q

    def forward(self, q):
        return functional.scaled_dot_product_attention(q, self.k, self.v)

    def canonical(self, y):
        return y.transpose(1, 2)


def linear(seed: int, outputs: int, inputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    layer.weight.data = weights(seed, outputs, inputs)
    layer.bias.data = numbers(seed + 1, outputs, scale=0.1)
    return layer


def norm(seed: int, outputs: int = DIM, eps: float = 1e-6) -> nn.LayerNorm:
    layer = nn.LayerNorm(outputs, eps=eps)
    layer.weight.data = 1 + numbers(seed, outputs, scale=0.1)
    layer.bias.data = numbers(seed + 1, outputs, scale=0.1)
    return layer


class Block(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        seed = 100 + 16 * n
        self.norm1, self.qkv = norm(seed), linear(seed + 2, 3 * DIM, DIM)
        self.proj, self.norm2 = linear(seed + 4, DIM, DIM), norm(seed + 6)
        self.lin1, self.lin2 = linear(seed + 8, HIDDEN, DIM), linear(seed + 10, DIM, HIDDEN)

    def forward(self, x):
        tokens = x.shape[1]
        qkv = self.qkv(self.norm1(x)).reshape(1, tokens, 3, HEADS, DIM // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(attended.transpose(1, 2).reshape(1, tokens, DIM))
        return x + self.lin2(functional.gelu(self.lin1(self.norm2(x))))


class Vit(Case):
    def __init__(self, pixels: int) -> None:
        super().__init__()
        tokens = (pixels // 16) ** 2
        self.embed, self.norm = linear(1, DIM, 768), norm(4)
        self.register_buffer('positions', numbers(3, 1, tokens, DIM))
        self.blocks = nn.Sequential(*(Block(n) for n in range(DEPTH)))
        self.example = numbers(0, 1, tokens, 768)

    def forward(self, x):
        return self.norm(self.blocks(self.embed(x) + self.positions))


class TokenAttention(nn.Module):
    def __init__(self, seed: int, inner: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (linear(seed + more, inner, TOKEN) for more in (0, 2, 4))
        self.out = linear(seed + 6, TOKEN, inner)

    def forward(self, q, k, v):
        def heads(x):
            return x.reshape(1, x.shape[1], TOKEN_HEADS, -1).transpose(1, 2)
        y = functional.scaled_dot_product_attention(heads(self.q(q)), heads(self.k(k)), heads(self.v(v)))
        return self.out(y.transpose(1, 2).reshape(1, q.shape[1], -1))


class TwoWay(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        seed = 1000 + 100 * n
        self.first = n == 0
        self.itself, self.norm1 = TokenAttention(seed, TOKEN), norm(seed + 8, TOKEN, 1e-5)
        self.to_image, self.norm2 = TokenAttention(seed + 10, CROSS), norm(seed + 18, TOKEN, 1e-5)
        self.lin1, self.lin2 = linear(seed + 20, 2048, TOKEN), linear(seed + 22, TOKEN, 2048)
        self.norm3 = norm(seed + 24, TOKEN, 1e-5)
        self.to_tokens, self.norm4 = TokenAttention(seed + 26, CROSS), norm(seed + 34, TOKEN, 1e-5)

    def forward(self, q, k, tokens, positions):
        # The first layer's queries are the tokens alone.
        q = self.norm1(self.itself(q, q, q) if self.first else q + self.itself(q + tokens, q + tokens, q))
        q = self.norm2(q + self.to_image(q + tokens, k + positions, k))
        q = self.norm3(q + self.lin2(functional.relu(self.lin1(q))))
        k = self.norm4(k + self.to_tokens(k + positions, q + tokens, q))
        return q, k


class Decoder(Case):
    """SAM's mask decoder: two-way transformer, upscaling, four masks of 256 x 256; without its quality."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWay(n) for n in range(2))
        self.attention, self.norm = TokenAttention(1200, CROSS), norm(1208, TOKEN, 1e-5)
        self.up1, self.up2 = (self.upscaling(*sizes) for sizes in ((1300, 64, TOKEN), (1304, 32, 64)))
        self.up_norm = norm(1302, 64)
        self.masks = nn.ModuleList(
            nn.Sequential(linear(seed, TOKEN, TOKEN), nn.ReLU(), linear(seed + 2, TOKEN, TOKEN), nn.ReLU(),
                          linear(seed + 4, 32, TOKEN)) for seed in range(1400, 1440, 10))
        self.register_buffer('tokens', numbers(10, 1, 7, TOKEN))
        self.register_buffer('positions', numbers(12, 1, 4096, TOKEN))
        self.example = numbers(11, 1, 4096, TOKEN)

    @staticmethod
    def upscaling(seed: int, outputs: int, inputs: int) -> nn.ConvTranspose2d:
        layer = nn.ConvTranspose2d(inputs, outputs, 2, 2)
        layer.weight.data = weights(seed, 4 * outputs, inputs).reshape(2, 2, outputs, inputs).permute(3, 2, 0, 1).contiguous()
        layer.bias.data = numbers(seed + 1, outputs, scale=0.1)
        return layer

    def forward(self, k):
        q = self.tokens
        for layer in self.layers:
            q, k = layer(q, k, self.tokens, self.positions)
        q = self.norm(q + self.attention(q + self.tokens, k + self.positions, k))
        x = self.up1(k.transpose(1, 2).reshape(1, TOKEN, 64, 64))
        x = functional.gelu(self.up_norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        x = functional.gelu(self.up2(x))
        made = torch.stack([mlp(q[:, 1 + n]) for n, mlp in enumerate(self.masks)], 1)
        return made @ x.reshape(1, 32, 65536)


class Zeus(Case):
    """The image encoder of the embedded weights; its neck."""

    def __init__(self) -> None:
        super().__init__()
        sys.path.insert(0, str(ROOT / 'weights'))
        from recipe.export import load_exported
        self.encoder = load_exported(ROOT / 'weights/zeus-mini.safetensors').image_encoder
        self.example = numbers(0, 1, 1, 224, 224, scale=0.5) + 0.5

    def forward(self, image):
        return self.encoder(image, {})[0]

    def canonical(self, y):
        return y.permute(0, 2, 3, 1) if y.dim() == 4 else y


CASES = {
    **{f'matmul-{side}': (Matmul, side) for side in (512, 1024, 4096)},
    **{f'conv-{channels}x{side}': (Conv, channels, side) for channels, side in ((64, 56), (96, 28))},
    **{f'attention-{q}x{k}': (Attention, q, k, heads, width)
       for q, k, heads, width in ((7, 4096, 8, 16), (4096, 7, 8, 16), (196, 196, HEADS, 64))},
    **{f'vit-{pixels}': (Vit, pixels) for pixels in (224, 1024)},
    'decoder-sam': (Decoder,),
    'zeus': (Zeus,),
}
LONG = ('matmul-4096', 'vit-1024')


class Keraunos:
    """`peers serve`, asked over a pipe."""

    def __init__(self) -> None:
        folder = Path(os.environ.get('CARGO_TARGET_DIR', HERE / 'target'))
        program = folder / 'release' / ('peers.exe' if os.name == 'nt' else 'peers')
        self.process = subprocess.Popen([program, 'serve'], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.name = 'keraunos'

    def ask(self, *words) -> str:
        self.process.stdin.write(' '.join(map(str, words)) + '\n')
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer or answer.startswith('error:'):
            raise RuntimeError(f'keraunos: {answer or "ended"}')
        return answer

    def contender(self, case: str):
        return Turns('keraunos', lambda times: float(self.ask('time', case, times)),
                     int(self.ask('warm', case)))

    def result(self, case: str) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'result'
            self.ask('result', case, path)
            return np.fromfile(path, '<f4')


class Turns:
    """A contender's seconds, turn by turn."""

    def __init__(self, name: str, seconds, times: int | None = None, apart: float = 0.0) -> None:
        self.name, self.seconds, self.apart, self.turns = name, seconds, apart, []
        self.times = times or self.warm_up()

    def warm_up(self) -> int:
        last, times = math.inf, 1
        for n in range(1, 13):
            now = self.seconds(times)
            times = min(max(math.ceil(TURN / now), 1), 1000)
            # Where a run is long two are enough: what had to be compiled or tried was in the first.
            if n >= 3 and abs(now / last - 1) < 0.2 or n >= 2 and now > 3:
                break
            last = now
        return times

    def turn(self) -> None:
        self.turns.append(self.seconds(self.times))


def timed(run, wait=lambda: None):
    """A function from a number of runs to the seconds of one."""
    def seconds(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            run()
        wait()
        return (time.perf_counter() - start) / times
    return seconds


def compared(name: str, case: str, got: np.ndarray, want: np.ndarray) -> float:
    got = np.asarray(got, np.float64).ravel()
    if got.shape != want.shape:
        sys.exit(f'{name}, {case}: {got.size} values instead of {want.size}')
    apart = float(np.max(np.abs(got - want)) / np.max(np.abs(want)))
    if not apart <= TOLERANCE:
        sys.exit(f'{name} computes something else at {case}: {apart:.2e} apart')
    return apart


def pytorch(module, case: str, want, device: str, compiled: bool):
    module = deepcopy(module).to(device)
    x = module.example.to(device)
    forward = torch.compile(module, mode='max-autotune') if compiled else module
    name = f'PyTorch {torch.__version__}, {device}{", compiled" if compiled else ""}'
    apart = compared(name, case, module.canonical(forward(x)).cpu().numpy(), want)
    wait = torch.cuda.synchronize if device == 'cuda' else lambda: None
    return Turns(name, timed(lambda: forward(x), wait), apart=apart)


def exported(module, opset: int) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        # By tracing: no function of a later opset, which onnxruntime would have to inline.
        torch.onnx.export(module, (module.example,), file, input_names=['x'], output_names=['y'],
                          opset_version=opset, dynamo=False)
    return file.getvalue()


def webgpu(module, case: str, want):
    session = wonnx.Session.from_bytes(exported(module, 13))
    given = {'x': module.example.numpy().ravel()}
    name = f'wonnx {version("wonnx")}, same adapter'
    got = torch.tensor(session.run(given)['y']).reshape(module(module.example).shape)
    apart = compared(name, case, module.canonical(got).numpy(), want)
    return Turns(name, timed(lambda: session.run(given)), apart=apart)


def onnx(module, case: str, want, threads: int):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that go on spinning after a run would take the others' turns.
    options.add_session_config_entry('session.force_spinning_stop', '1')
    session = onnxruntime.InferenceSession(exported(module, 17), options, ['CPUExecutionProvider'])
    given = {'x': module.example.numpy()}
    name = f'onnxruntime {onnxruntime.__version__}, processor'
    got = module.canonical(torch.from_numpy(session.run(None, given)[0]))
    apart = compared(name, case, got.numpy(), want)
    return Turns(name, timed(lambda: session.run(None, given)), apart=apart)


@torch.inference_mode()
def contest(keraunos: Keraunos, case: str, threads: int, rounds: int) -> None:
    kind, *sizes = CASES[case]
    module = kind(*sizes).eval()
    want = keraunos.result(case)
    contenders = [keraunos.contender(case),
                  onnx(module, case, want, threads), pytorch(module, case, want, 'cpu', False)]
    if module.wonnx and case not in LONG:
        contenders.append(webgpu(module, case, want))
    if torch.cuda.is_available():
        contenders += [pytorch(module, case, want, 'cuda', compiled) for compiled in (False, True)]
    for n in range(rounds):
        for contender in itertools.chain(contenders[n % len(contenders):],
                                         contenders[:n % len(contenders)]):
            contender.turn()
    ours = contenders[0].turns
    for contender in contenders:
        ratio = statistics.median(a / b for a, b in zip(contender.turns, ours, strict=True))
        print(f'| {case} | {contender.name} | {statistics.median(contender.turns) * 1e3:.2f} '
              f'| {min(contender.turns) * 1e3:.2f} | {ratio:.2f} | {contender.apart:.1e} |', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('case', nargs='+')
    parser.add_argument('--threads', type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--long', action='store_true', help='also those that take two cores minutes')
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    keraunos = Keraunos()
    adapter = keraunos.ask('adapter')
    # What wonnx asks for: a part of the adapter's name, in lower case.
    os.environ.setdefault('WGPU_ADAPTER_NAME', adapter.split(' (')[0].lower())
    print(f'{adapter}; rivals on the processor have {given.threads} threads\n')
    print('| case | engine | ms, median | least | its time / keraunos\' | differs by |')
    print('|---|---|---:|---:|---:|---:|')
    for word in given.case:
        family = [case for case in CASES if case == word or case.split('-')[0] == word]
        if not family:
            parser.error(f'no case `{word}`')
        for case in family:
            if case == word or given.long or case not in LONG:
                contest(keraunos, case, given.threads, given.rounds)


if __name__ == '__main__':
    main()
