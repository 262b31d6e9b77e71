"""Runs stop and go on as if they had not; the losses mean what they say."""

import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F

from recipe.batches import Stream
from recipe.evaluate import spearman
from recipe.export import export, load_exported
from recipe.losses import PRESENT, SMOOTH_AREA, SMOOTH_DICE, mask_losses
from recipe.train import Run, Settings, Trainer, load_averaged, run

CPU = torch.device('cpu')


def settings(**changes) -> Settings:
    small = {'slices': 12, 'fall': 4, 'batch': 2, 'prompts': 4, 'warmup': 2, 'words': 2,
             'last_words': 2, 'bf16': False}
    return Settings(**small | changes)


def losses_of(out) -> list[float]:
    return [json.loads(line)['mask'] for line in (out / 'log.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('bf16', [False, True])
def test_a_resumed_run_repeats_an_unbroken_one(phantom, bank, small, tmp_path, bf16):
    def go(name: str, **options) -> bool:
        (tmp_path / name).mkdir(exist_ok=True)
        what = Run(tmp_path / name, CPU, log_every=1, settle=2, **options)
        return run(settings(bf16=bf16), small, phantom, bank, what)

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
    image = torch.rand(1, 1, 64, 64)
    states, real = bank.look_up(torch.arange(4)[None])
    exported = load_exported(tmp_path / 'small.safetensors')
    exact, rounded = (m(image, states, real)[0] for m in (model, exported))
    assert (exact - rounded).abs().max() < 0.05             # f16


def test_log_of_work_that_was_lost_is_dropped(phantom, bank, small, tmp_path):
    run(settings(), small, phantom, bank, Run(tmp_path, CPU, minutes=0, log_every=1, settle=1))
    with (tmp_path / 'log.jsonl').open('a') as log:
        log.write('{"step": 2, "mask": 9}\n')
    run(settings(), small, phantom, bank, Run(tmp_path, CPU, log_every=1, settle=1))
    assert 9 not in losses_of(tmp_path)


def test_other_settings_are_refused(phantom, bank, small, tmp_path):
    one_step = Run(tmp_path, CPU, minutes=0, log_every=1, settle=1)
    run(settings(), small, phantom, bank, one_step)
    with pytest.raises(ValueError, match='rate'):
        run(settings(rate=1e-4), small, phantom, bank, one_step)
    with pytest.raises(ValueError, match='slices'):
        run(settings(slices=4), small, phantom, bank, one_step)     # would have fallen by now
    run(settings(slices=40), small, phantom, bank, one_step)        # a longer run: still level


def test_ranks_step_with_the_mean_of_their_gradients(phantom, bank, small, tmp_path):
    both = settings(ranks=2, slices=4, fall=0)
    assert run(both, small, phantom, bank, Run(tmp_path, CPU, log_every=1, settle=1))
    assert len(losses_of(tmp_path)) == both.steps == 1
    got = torch.load(tmp_path / 'checkpoint.pt', weights_only=True)['model']

    one = Trainer(both, small, bank, CPU)
    one.learn_words(bank, both.words)
    stream = Stream(phantom, bank, 64, 2, 4, both.seed)
    parameters = [*one.encoder, *one.decoder]
    step, one.optimiser.step = one.optimiser.step, lambda: None
    gradients = []
    for index in (0, 1):
        one.step, one.settings = 0, settings(ranks=2, slices=4, fall=0, clip=math.inf)
        one.train(stream[index])
        gradients.append([p.grad.clone() for p in parameters])
    for parameter, a, b in zip(parameters, *gradients, strict=True):
        parameter.grad = (a + b) / 2
    for part in (one.encoder, one.decoder):
        torch.nn.utils.clip_grad_norm_(part, both.clip)
    step()
    for name, parameter in one.model.named_parameters():
        assert (parameter - got[name]).abs().max() < 1e-5, name


def test_loss_falls_on_one_batch_again_and_again(phantom, bank, small):
    trainer = Trainer(settings(slices=100, rate=3e-3), small, bank, CPU)
    batch = Stream(phantom, bank, 64, 2, 4, 0)[0]
    mask = [float(trainer.train(batch)[0]) for _ in range(25)]
    assert mask[-1] < 0.8 * mask[0]


def test_rate_rises_stays_and_falls():
    s = settings(slices=600, fall=200)
    assert s.rate_at(0) < s.rate_at(2) == s.rate_at(s.level_steps - 1)
    assert s.rate_at(s.level_steps + 50) < s.rate_at(s.level_steps)
    assert math.isclose(s.rate_at(s.steps), s.last_rate)


def test_words_alone_learn_to_name_their_target(bank, small):
    trainer = Trainer(settings(), small, bank, CPU)
    assert trainer.learn_words(bank, 150, batch=64) > 5 * trainer.learn_words(bank, 1, batch=64)


def test_settled_words_say_the_same_of_a_target(bank, small):
    trainer = Trainer(settings(), small, bank, CPU)
    trainer.learn_words(bank, 150, batch=64)

    def named():
        found = trainer.word_head.classify(trainer._tokens(bank)).argmax(1)
        return float((found == bank.targets()).float().mean())
    before, image = named(), copy.deepcopy(trainer.averaged.image_encoder.state_dict())
    assert trainer.settle_words(bank, 0) == pytest.approx(1)
    assert trainer.settle_words(bank, 150, batch=64) < 0.5
    assert named() > before
    after = trainer.averaged.image_encoder.state_dict()
    assert all(torch.equal(image[name], after[name]) for name in image)


def test_the_fused_loss_has_the_gradient_of_its_formula():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 12, 12, dtype=torch.double, requires_grad=True)
    mask = (torch.rand(2, 3, 12, 12) < 0.3).double() * torch.rand(2, 3, 12, 12)
    mask[0, 0] = 0
    mask_losses(logits, torch.zeros(2, 3), mask).mask.backward()
    got, logits.grad = logits.grad.clone(), None
    x, t = logits.flatten(2), mask.flatten(2)
    p = x.sigmoid()
    soft = 1 - (2 * (p * t).sum(2) + SMOOTH_DICE) / (p.sum(2) + t.sum(2) + SMOOTH_DICE)
    soft = torch.where(t.sum(2) > PRESENT, soft, 0.3 * soft)
    entropy = F.binary_cross_entropy_with_logits(x, t, reduction='none').sum(2)
    (soft + entropy / (t.sum(2) + p.sum(2).detach() + SMOOTH_AREA)).mean().backward()
    assert (got - logits.grad).abs().max() < 1e-6 * logits.grad.abs().max() + 1e-8


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
