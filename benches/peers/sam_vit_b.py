"""PyTorch's times for SAM ViT-B on this processor, beside those of `cargo bench --bench published`.

    python benches/peers/sam_vit_b.py [threads]

Needs torch and transformers as tests/goldens/requirements.txt has them. Float32, one slice of 1024 x 1024, one box; the least of
three runs of the encoder by either of transformers' attentions, of seven of the decoder; the most memory that was held.
"""

import resource
import sys
import time

import torch
import transformers
from transformers import SamConfig, SamModel


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
    image = torch.rand(1, 3, 1024, 1024)
    for attention in ('sdpa', 'eager'):
        model = SamModel._from_config(SamConfig(), attn_implementation=attention).eval()
        encode = least(lambda: model.vision_encoder(image), 3)
        print(f'a slice of 1024 x 1024 encoded, {attention:5}  {encode:.3f} s')
        embedding = torch.randn(1, 256, 64, 64)
        box = torch.tensor([[[200.0, 300.0, 600.0, 700.0]]])
        decode = least(lambda: model(image_embeddings=embedding, input_boxes=box), 7)
        print(f'a box decoded, {attention:5}                   {decode:.3f} s')
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f'most memory so far, {attention:5}              {most:.2f} GB')


if __name__ == '__main__':
    main()
