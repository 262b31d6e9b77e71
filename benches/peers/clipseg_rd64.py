"""PyTorch's times for CLIPSeg rd64-refined on this processor, beside those of `cargo bench --bench published`.

    python benches/peers/clipseg_rd64.py [threads]

Needs torch and transformers as tests/goldens/requirements.txt has them. Float32, one slice of 352 x 352, one phrase and eight; the
least of three runs of the image tower by either of transformers' attentions, of seven of the others; the most memory that was held.
transformers runs the tower to its end; the blocks that the decoder reads are the first ten of twelve.
"""

import resource
import sys
import time

import torch
import transformers
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation


def least(run, runs: int) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print(f'PyTorch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads')
    image = torch.rand(1, 3, 352, 352)
    ids = torch.tensor([[49406, 320, 1125, 539, 320, 2368, 49407]])
    config = CLIPSegConfig(vision_config=dict(patch_size=16), use_complex_transposed_convolution=True)
    for attention in ('sdpa', 'eager'):
        model = CLIPSegForImageSegmentation._from_config(config, attn_implementation=attention).eval()
        tower = model.clip.vision_model
        whole = least(lambda: tower(image), 3)
        print(f'a slice of 352 x 352 encoded, {attention:5}, 12 blocks  {whole:.3f} s')
        tower.encoder.layers = tower.encoder.layers[:10]
        read = least(lambda: tower(image), 3)
        print(f'a slice of 352 x 352 encoded, {attention:5}, 10 blocks  {read:.3f} s')
        text = least(lambda: model.clip.get_text_features(ids.expand(8, -1)), 7)
        print(f'eight phrases encoded, {attention:5}                    {text:.4f} s')
        for count in (1, 8):
            taps = [torch.randn(count, 485, 768) for _ in range(3)]
            condition = torch.randn(count, 512)
            decode = least(lambda: model.decoder(taps, condition), 7)
            print(f'{count} decoded, {attention:5}                                {decode:.4f} s')
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f'most memory so far, {attention:5}                       {most:.2f} GB')


if __name__ == '__main__':
    main()
