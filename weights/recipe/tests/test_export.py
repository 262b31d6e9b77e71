"""The exported file: equal to the training model, and what the engine expects."""

import json
from pathlib import Path

import torch
from safetensors import safe_open

from recipe.export import export, fold, load_exported
from recipe.model import ZeusMini

COMMITTED = Path(__file__).parents[2] / 'zeus-mini.safetensors'


def trained_like(config) -> ZeusMini:
    """A model whose batch norms and whitening are not the identity."""
    torch.manual_seed(0)
    model = ZeusMini(config).eval()
    for name, tensor in model.state_dict().items():
        if '.bn.' in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
        if name.endswith('prompt_encoder.mean'):
            tensor.normal_(std=0.05)
        if name.endswith('prompt_encoder.white'):
            tensor.add_(0.05 * torch.randn_like(tensor))
    return model


@torch.no_grad()
def test_folded_model_equals_the_training_model(small):
    model = trained_like(small)
    plain = ZeusMini(small, plain=True).eval()
    plain.load_state_dict(fold(model))
    image, text = torch.rand(2, 1, 64, 64), torch.randn(2, 5, 384) / 20
    for want, got in zip(model(image, text), plain(image, text), strict=True):
        assert (want - got).abs().max() < 1e-4


def test_names_and_shapes_are_those_of_the_committed_weights():
    with safe_open(COMMITTED, 'pt') as file:
        want = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    got = {name: tuple(tensor.shape) for name, tensor in fold(ZeusMini()).items()}
    assert got == want


def test_file_has_the_committed_metadata_and_type(tmp_path):
    export(ZeusMini(), tmp_path / 'new.safetensors')
    with (safe_open(COMMITTED, 'pt') as want, safe_open(tmp_path / 'new.safetensors', 'pt') as got):
        old, new = dict(want.metadata()), dict(got.metadata())
        assert json.loads(new.pop('config')) == json.loads(old.pop('config'))
        assert new == old
        assert {got.get_slice(name).get_dtype() for name in got.keys()} == {'F16'}


def test_committed_weights_load():
    model = load_exported(COMMITTED)
    logits, dice = model(torch.rand(1, 1, 224, 224), torch.randn(1, 3, 384) / 20)
    assert logits.shape == (1, 3, 112, 112) and dice.shape == (1, 3)
