"""PyTorch's times for CRIS on RN50 on this processor, beside those of `cargo bench --bench published`.

    python benches/peers/cris_r50.py [threads]

Needs torch and open_clip as tests/goldens/requirements.txt has them; the model is that of tests/goldens/cris.py.  Float32, one slice
of 416 x 416 and one phrase; the least of three runs, and the multiply-adds of the convolutions and layers, twice.  The neck's share
that does not depend on a phrase is keraunos' encoder's and here the decoder's.
"""
import sys
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / 'tests/goldens'))
from cris import PHRASES, R50, Cris  # noqa: E402


def least(run, runs=3) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def operations(model, run) -> float:
    done = [0]

    def count(module, inputs, output):
        if isinstance(module, nn.Conv2d):
            done[0] += 2 * output.numel() * module.weight[0].numel()
        else:
            done[0] += 2 * output.numel() * module.in_features

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    run()
    for hook in hooks:
        hook.remove()
    return done[0] / 1e9


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print(f'PyTorch {torch.__version__}, {torch.get_num_threads()} threads')
    model = Cris(**R50).eval()
    image = torch.rand(1, 3, 416, 416)

    def decode():
        fq = model.neck(maps[1:3] + maps[4:], state)
        read = model.decoder(fq, words, hidden)
        return model.enlarged(model.proj(read.transpose(1, 2).unflatten(2, fq.shape[2:]), state))

    maps, (words, state, hidden) = model.maps(image), model.words(PHRASES[0])
    for name, run in (('a slice of 416 x 416 encoded', lambda: model.maps(image)), ('a phrase encoded', lambda: model.words(PHRASES[0])),
                      ('a phrase decoded', decode)):
        print(f'{name:30} {least(run):.3f} s  {operations(model, run):.1f} GFLOP')


if __name__ == '__main__':
    main()
