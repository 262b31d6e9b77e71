"""PyTorch's times for MedCLIP's and BiomedCLIP's towers on this processor, beside those of `cargo bench --bench published`.

    python benches/peers/clips.py [threads]

Needs torch, transformers and timm as tests/goldens/requirements.txt has them. Float32, a picture of 224 x 224 and a text of 32
tokens; the least of five runs after one that is not counted.
"""

import sys
import time

import timm
import torch
import transformers
from transformers import BertConfig, BertModel, SwinConfig, SwinModel


def least(run, runs: int = 5) -> float:
    """Seconds of the fastest of some runs."""
    run()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print(f'PyTorch {torch.__version__}, transformers {transformers.__version__}, timm {timm.__version__}, {torch.get_num_threads()} threads')
    image, ids = torch.rand(1, 3, 224, 224), torch.arange(101, 133)[None]
    swin = SwinModel._from_config(SwinConfig(), attn_implementation='sdpa').eval()
    print(f'a picture of 224 x 224 by Swin-T    {least(lambda: swin(image)):.3f} s')
    bert = BertModel._from_config(BertConfig(vocab_size=28996), attn_implementation='sdpa').eval()
    print(f'32 tokens by BERT-base              {least(lambda: bert(ids)):.3f} s')
    vit = timm.create_model('vit_base_patch16_224', num_classes=0).eval()
    print(f'a picture of 224 x 224 by ViT-B/16  {least(lambda: vit(image)):.3f} s')


if __name__ == '__main__':
    main()
