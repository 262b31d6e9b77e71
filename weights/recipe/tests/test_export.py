"""The exported file: equal to the training model, and what the engine expects."""

import json
from pathlib import Path

import torch
from safetensors import safe_open

from recipe.export import TOKENS, export, fold, load_exported
from recipe.model import ZeusMini
from recipe.train import Settings, Trainer

COMMITTED = Path(__file__).parents[2] / 'zeus-mini.safetensors'


def trained_like(config) -> ZeusMini:
    """A model whose batch norms and standardising are not the identity."""
    torch.manual_seed(0)
    model = ZeusMini(config).eval()
    for name, tensor in model.state_dict().items():
        if '.bn.' in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
        if name.endswith('prompt_encoder.mean'):
            tensor.normal_(std=0.05)
        if name.endswith('prompt_encoder.deviation'):
            tensor.uniform_(0.3, 0.6)
            tensor[7] = 1e-30               # a channel of the text encoder that is always zero
        if name.endswith('prompt_encoder.mean'):
            tensor[7] = 0
    return model


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two small slices with five sentences of up to four tokens."""
    states = torch.randn(2, 5, 4, 384) / 2
    states[..., 7] = 0
    return torch.rand(2, 1, 64, 64), states, torch.arange(4) < torch.tensor([4, 3, 2, 1, 4])[:, None]


@torch.no_grad()
def test_folded_model_equals_the_training_model(small):
    model = trained_like(small)
    plain = ZeusMini(small, plain=True).eval()
    plain.load_state_dict(fold(model))
    image, states, real = inputs()
    for want, got in zip(model(image, states, real), plain(image, states, real), strict=True):
        assert (want - got).abs().max() < 1e-4


@torch.no_grad()
def test_padding_has_no_say(small):
    model = trained_like(small)
    image, states, real = inputs()
    real = real.expand(2, -1, -1)
    want = model(image, states, real)[0]
    states = torch.where(real[..., None], states, 50.0)
    assert torch.equal(model(image, states, real)[0], want)
    alone = model(image, states[:, 2:3, :2], real[:, 2:3, :2])[0]
    assert (alone - want[:, 2:3]).abs().max() < 1e-5


@torch.no_grad()
def test_contrasts_of_a_slice_are_fused_as_the_mean_of_their_embeddings(small):
    model = trained_like(small)
    image, states, real = inputs()
    real = real.expand(2, -1, -1)
    want = model(image, states, real)[0]
    twice = image.repeat_interleave(2, 0)
    assert (model(twice, states, real)[0] - want).abs().max() < 1e-4
    assert (model(torch.rand(4, 1, 64, 64), states, real)[0] - want).abs().max() > 1e-2


def test_names_and_shapes_are_those_of_the_committed_weights():
    with safe_open(COMMITTED, 'pt') as file:
        want = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()
                if name != TOKENS}
    got = {name: tuple(tensor.shape) for name, tensor in fold(ZeusMini()).items()}
    assert got == want


def test_file_has_the_committed_metadata_and_type(tmp_path):
    def encoder(texts: list[str]) -> list[torch.Tensor]:
        return [torch.randn(3, 384) for _ in texts]

    export(ZeusMini(), tmp_path / 'new.safetensors', encoder)
    with (safe_open(COMMITTED, 'pt') as want, safe_open(tmp_path / 'new.safetensors', 'pt') as got):
        old, new = dict(want.metadata()), dict(got.metadata())
        for key in ('config', 'instructions'):
            assert json.loads(new.pop(key)) == json.loads(old.pop(key))
        assert new == old and set(got.keys()) == set(want.keys())
        assert {got.get_slice(name).get_dtype() for name in got.keys()} == {'F16'}


def test_committed_weights_load():
    model = load_exported(COMMITTED)
    states = torch.randn(1, 3, 6, 384)
    logits, dice = model(torch.rand(1, 1, 224, 224), states, torch.ones(1, 3, 6, dtype=torch.bool))
    assert logits.shape == (1, 3, 112, 112) and dice.shape == (1, 3)


def test_training_starts_from_an_exported_file_where_it_was(small, bank, tmp_path):
    model = trained_like(small)
    export(model, tmp_path / 'start.safetensors')
    trainer = Trainer(Settings(bf16=False), small, bank, 'cpu')
    images = torch.rand(8, 1, 64, 64)
    assert trainer.start_from(tmp_path / 'start.safetensors', images) == []
    want, got = {}, {}
    load_exported(tmp_path / 'start.safetensors').image_encoder(images, want)
    trainer.model.train().image_encoder(images, got)    # batch norms measure what they measured
    for name in want:
        assert (want[name] - got[name]).abs().max() < 2e-2 * want[name].abs().max(), name


def test_a_started_run_says_what_its_file_says(small, bank, tmp_path):
    """Words alone teach the head to read the file's tokens and leave these as the decoder knows them."""
    model = trained_like(small)
    model.prompt_encoder.mean.copy_(bank.mean)
    model.prompt_encoder.deviation.copy_(bank.deviation)
    export(model, tmp_path / 'start.safetensors')
    trainer = Trainer(Settings(bf16=False), small, bank, 'cpu')
    trainer.start_from(tmp_path / 'start.safetensors', torch.rand(8, 1, 64, 64))
    states, real = bank.look_up(torch.arange(20))
    want = load_exported(tmp_path / 'start.safetensors').prompt_encoder(states, real)
    assert trainer.learn_words(bank, 150, batch=64) > 5 * trainer.learn_words(bank, 1, batch=64)
    got = trainer.averaged.prompt_encoder(states, real)
    assert (want - got).abs().max() < 1e-4 * want.abs().max()
