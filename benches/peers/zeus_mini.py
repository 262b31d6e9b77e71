"""PyTorch's times for zeus-mini on this processor, beside those of `cargo bench --bench models`.

    cd weights && python ../benches/peers/zeus_mini.py [threads]

Needs what weights/recipe/requirements.txt lists. Float32, one slice, 69 prompts; the least of seven runs.
"""

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path.cwd()))
from recipe.export import load_exported  # noqa: E402  (the recipe is found from weights/)

PROMPTS = 69


def least(run, runs: int = 7) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    model = load_exported(Path('zeus-mini.safetensors'))
    decoder, image_pe = model.mask_decoder, model.prompt_encoder.image_pe
    image = torch.rand(1, 1, 224, 224)
    words = torch.ones(1, PROMPTS, 20, dtype=torch.bool)
    text = model.prompt_encoder(torch.randn(1, PROMPTS, 20, 384), words)
    neck, skips = model.image_encoder(image, {})
    encode = least(lambda: model.image_encoder(image, {}))
    upscale = least(lambda: decoder.upscale(neck, skips, {}))
    # The decoder upscales too; what is left are the prompts.
    prompts = least(lambda: decoder(neck, skips, image_pe, text, {})) - upscale
    print(f'PyTorch {torch.__version__}, {torch.get_num_threads()} threads')
    print(f'a slice encoded and upscaled  {encode + upscale:.3f} s')
    print(f'its {PROMPTS} prompts together       {prompts:.3f} s')


if __name__ == '__main__':
    main()
