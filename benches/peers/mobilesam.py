"""PyTorch's times for MobileSAM on this processor, beside those of `cargo bench --bench published`.

    python benches/peers/mobilesam.py [threads]

Needs torch, timm and mobilesam-mirror as tests/goldens/requirements.txt has them. Float32, one slice of 1024 x 1024, one box; the
least of three runs of the encoder, of seven of the decoder; the most memory that was held.
"""

import resource
import sys
import warnings

import torch

warnings.filterwarnings('ignore')  # timm: it imports from where things once were
from mobile_sam import sam_model_registry  # noqa: E402
from sam_vit_b import least  # noqa: E402


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print(f'PyTorch {torch.__version__}, {torch.get_num_threads()} threads')
    model = sam_model_registry['vit_t']().eval()
    image = torch.rand(1, 3, 1024, 1024)
    encode = least(lambda: model.image_encoder(image), 3)
    print(f'a slice of 1024 x 1024 encoded  {encode:.3f} s')
    embedding = torch.randn(1, 256, 64, 64)
    box = torch.tensor([[200.0, 300.0, 600.0, 700.0]])

    def decode():
        sparse, dense = model.prompt_encoder(points=None, boxes=box, masks=None)
        return model.mask_decoder(embedding, model.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=False)

    print(f'a box decoded                   {least(decode, 7):.3f} s')
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f'most memory                     {most:.2f} GB')


if __name__ == '__main__':
    main()
