"""Runs stop and go on as if they had not; the losses mean what they say."""

import json
import math

import pytest
import torch

from recipe.batches import Stream
from recipe.evaluate import spearman
from recipe.export import export, load_exported
from recipe.losses import mask_losses
from recipe.train import Settings, Trainer, load_averaged, run

CPU = torch.device('cpu')


def settings(**changes) -> Settings:
    small = {'slices': 12, 'batch': 2, 'prompts': 4, 'warmup': 2, 'bf16': False}
    return Settings(**small | changes)


def losses_of(out) -> list[float]:
    return [json.loads(line)['mask'] for line in (out / 'log.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('bf16', [False, True])
def test_a_resumed_run_repeats_an_unbroken_one(phantom, bank, small, tmp_path, bf16):
    def go(name: str, **options) -> bool:
        (tmp_path / name).mkdir(exist_ok=True)
        return run(settings(bf16=bf16), small, phantom, bank, tmp_path / name, CPU, log_every=1,
                   settle=2, **options)

    assert go('whole', workers=0)
    for _ in range(settings().steps - 1):
        assert not go('broken', workers=1, minutes=0)       # one step each time
    assert go('broken', workers=1, minutes=0)
    assert len(losses_of(tmp_path / 'whole')) == settings().steps
    assert losses_of(tmp_path / 'broken') == losses_of(tmp_path / 'whole')
    whole, broken = (load_averaged(tmp_path / name / 'checkpoint.pt').state_dict()
                     for name in ('whole', 'broken'))
    assert all(torch.equal(whole[key], broken[key]) for key in whole)
    assert (tmp_path / 'whole' / 'curve.svg').read_text().endswith('</svg>')

    model = load_averaged(tmp_path / 'whole' / 'checkpoint.pt')
    export(model, tmp_path / 'small.safetensors')
    image, text = torch.rand(1, 1, 64, 64), bank.embeddings[None, :4]
    exported = load_exported(tmp_path / 'small.safetensors')
    exact, rounded = (m(image, text)[0] for m in (model, exported))
    assert (exact - rounded).abs().max() < 0.05             # f16


def test_log_of_work_that_was_lost_is_dropped(phantom, bank, small, tmp_path):
    run(settings(), small, phantom, bank, tmp_path, CPU, 0, minutes=0, log_every=1, settle=1)
    with (tmp_path / 'log.jsonl').open('a') as log:
        log.write('{"step": 2, "mask": 9}\n')
    run(settings(), small, phantom, bank, tmp_path, CPU, 0, log_every=1, settle=1)
    assert 9 not in losses_of(tmp_path)


def test_other_settings_are_refused(phantom, bank, small, tmp_path):
    run(settings(), small, phantom, bank, tmp_path, CPU, 0, minutes=0, log_every=1, settle=1)
    with pytest.raises(ValueError, match='rate'):
        run(settings(rate=1e-4), small, phantom, bank, tmp_path, CPU, 0, settle=1)


def test_loss_falls_on_one_batch_again_and_again(phantom, bank, small):
    trainer = Trainer(settings(slices=100, rate=3e-3), small, bank.mean, bank.white, CPU)
    batch = Stream(phantom, bank, 64, 2, 4, 0)[0]
    mask = [float(trainer.train(batch)[0]) for _ in range(25)]
    assert mask[-1] < 0.8 * mask[0]


def test_dense_head_fades_and_rate_falls():
    s = settings(slices=600)
    assert s.dense_at(0) == s.dense and s.dense_at(150) == 0
    assert s.rate_at(0) < s.rate_at(2) and math.isclose(s.rate_at(s.steps), s.last_rate)


def test_small_masks_weigh_as_much_as_large():
    mask = torch.zeros(1, 2, 64, 64)
    mask[0, 0, :16, :16] = 1
    mask[0, 1, :48, :48] = 1
    missed = torch.full_like(mask, -6.0)
    small, large = (mask_losses(missed[:, n:n + 1], torch.zeros(1, 1), mask[:, n:n + 1]).mask
                    for n in (0, 1))
    assert 0.6 < small / large < 1
    perfect = mask_losses(40 * mask - 20, torch.ones(1, 2), mask)
    assert perfect.mask < 1e-3 and perfect.quality == 0 and (perfect.dice == 1).all()


def test_rank_correlation():
    assert spearman(torch.tensor([1., 2, 3]).numpy(), torch.tensor([10., 30, 70]).numpy()) == 1
