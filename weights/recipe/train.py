"""Training: AdamW, cosine schedule, averaged weights; stops and resumes at any checkpoint.

A batch is a function of (seed, step) and nothing else draws random numbers after the model's first
weights, so weights, averages, optimiser and step are the whole state: on a CPU a resumed run
repeats an unbroken one to the bit.
"""

import copy
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn as nn
from torch import Tensor

from .anatomy import DENSE_CLASSES
from .batches import Batch, Stream, batches
from .curve import draw_curve
from .losses import PRESENT, DenseHead, mask_losses
from .model import Config, ZeusMini
from .text import Bank

MEASURES = ('mask', 'quality', 'dense', 'dice', 'false_positive', 'norm_encoder', 'norm_decoder')


@dataclass(frozen=True)
class Settings:
    """What decides the result of a run; kept in its checkpoint."""

    slices: int = 300_000           # length of the schedule
    batch: int = 12
    prompts: int = 32
    rate: float = 1.2e-3
    last_rate: float = 1e-5
    warmup: int = 60                # steps
    decay: float = 0.03
    clip: float = 1.0               # of the gradients of encoder and decoder, apart
    average: float = 0.997
    quality: float = 0.5            # weight of the predicted Dice
    dense: float = 0.3              # weight of the dense head at the start
    dense_until: float = 1 / 3      # share of the run at which it has faded to 0
    seed: int = 1
    bf16: bool = True

    @property
    def steps(self) -> int:
        return max(1, self.slices // self.batch)

    def rate_at(self, step: int) -> float:
        rise = min(1.0, (step + 1) / self.warmup)
        fall = 0.5 + 0.5 * math.cos(math.pi * step / self.steps)
        return self.rate * rise * fall + self.last_rate

    def dense_at(self, step: int) -> float:
        return self.dense * max(0.0, 1 - step / max(1, self.dense_until * self.steps))


class Trainer:
    """A model on its way: weights, averaged weights, optimiser, step."""

    def __init__(self, settings: Settings, config: Config, mean: Tensor, white: Tensor,
                 device: torch.device | str) -> None:
        """mean and white: the whitening of the sentence embeddings, `Bank.mean` and `.white`."""
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, torch.device(device)
        model = ZeusMini(config)
        model.prompt_encoder.mean.copy_(mean)
        model.prompt_encoder.white.copy_(white)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.head = DenseHead(config.up_dims[-1], DENSE_CLASSES).to(self.device)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self.encoder = list(self.model.image_encoder.parameters())
        self.decoder = [*self.model.prompt_encoder.parameters(),
                        *self.model.mask_decoder.parameters(), *self.head.parameters()]
        named = [*self.model.named_parameters(), *self.head.named_parameters()]
        decayed = [p for name, p in named if p.ndim > 1 and 'pos_embed' not in name]
        others = [p for name, p in named if not (p.ndim > 1 and 'pos_embed' not in name)]
        self.optimiser = torch.optim.AdamW(
            [{'params': decayed, 'weight_decay': settings.decay},
             {'params': others, 'weight_decay': 0.0}],
            lr=settings.rate, betas=(0.9, 0.98), fused=self.device.type == 'cuda')
        self.step, self.seconds = 0, 0.0

    def train(self, batch: Batch) -> Tensor:
        """One step; returns the MEASURES as a tensor on the device, without waiting for it."""
        settings = self.settings
        batch = batch.to(self.device)
        for group in self.optimiser.param_groups:
            group['lr'] = settings.rate_at(self.step)
        self.model.train()
        taps: dict[str, Tensor] = {}
        dense_weight = settings.dense_at(self.step)
        with self._autocast():
            logits, predicted = self.model(_channels_last(batch.image), batch.text, taps)
            dense = self.head(taps['up2'], batch.dense) if dense_weight else logits.new_zeros(())
        losses = mask_losses(logits, predicted, batch.mask)
        loss = losses.mask + settings.quality * losses.quality + dense_weight * dense
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norms = [nn.utils.clip_grad_norm_(part, settings.clip)
                 for part in (self.encoder, self.decoder)]
        self.optimiser.step()
        self.step += 1
        self._average()
        present = batch.mask.float().sum((2, 3)) > PRESENT
        drawn = (logits.detach() > 0).sum((2, 3)) > 5
        return torch.stack([losses.mask.detach(), losses.quality.detach(), dense.detach().float(),
                            _mean(losses.dice, present), _mean(drawn.float(), ~present), *norms])

    def _autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bf16)

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.settings.average, (self.step + 1) / (self.step + 20))
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()),
                             1 - keep)

    @torch.no_grad()
    def settle(self, stream: Stream, count: int) -> None:
        """Batch norm statistics of the averaged weights, from the first `count` batches of a
        stream: those of the running weights are not theirs."""
        norms = [m for m in self.averaged.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None            # a plain mean over all batches
        self.averaged.train()
        for index in range(count):
            batch = stream[index].to(self.device)
            with self._autocast():
                self.averaged(_channels_last(batch.image), batch.text[:, :1])
        self.averaged.eval()

    def save(self, path: Path) -> None:
        """Writes the whole state; never leaves half a file behind."""
        state = {'settings': asdict(self.settings), 'config': asdict(self.model.config),
                 'step': self.step, 'seconds': self.seconds,
                 **{name: getattr(self, name).state_dict() for name in self._modules()}}
        partial = path.with_suffix('.partial')
        torch.save(state, partial)
        partial.replace(path)

    def load(self, state: dict) -> None:
        """Continues from `torch.load` of a saved file."""
        if state['settings'] != asdict(self.settings):
            changed = [key for key, value in asdict(self.settings).items()
                       if state['settings'].get(key) != value]
            raise ValueError(f'the checkpoint was trained with other {", ".join(changed)}: '
                             'give the same settings, or another folder')
        for name in self._modules():
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state['step'], state['seconds']

    @staticmethod
    def _modules() -> tuple[str, ...]:
        return 'model', 'averaged', 'head', 'optimiser'


def load_averaged(path: Path) -> ZeusMini:
    """The averaged model of a checkpoint, in eval mode, on the CPU."""
    state = torch.load(path, map_location='cpu', weights_only=True)
    model = ZeusMini(Config(**state['config']))
    model.load_state_dict(state['averaged'])
    return model.eval()


def run(settings: Settings, config: Config, volumes: Tensor, bank: Bank, out: Path,
        device: torch.device, workers: int = 1, minutes: float = math.inf,
        checkpoint_minutes: float = 10, log_every: int = 25, settle: int = 24) -> bool:
    """Trains until the schedule ends (True) or `minutes` have passed (False).

    Resumes from the checkpoint in `out`; writes `checkpoint.pt`, `log.jsonl` and `curve.svg`
    there.  Painting happens on a GPU where there is one, else in `workers` processes.
    """
    if device.type == 'cuda':
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    torch.set_flush_denormal(True)          # denormals cost half the speed of a CPU
    checkpoint, log = out / 'checkpoint.pt', out / 'log.jsonl'
    trainer = Trainer(settings, config, bank.mean, bank.white, device)
    if checkpoint.exists():
        trainer.load(torch.load(checkpoint, map_location=device, weights_only=True))
    _forget_after(log, trainer.step)
    shape = (config.image_size, settings.batch, settings.prompts)
    volumes = volumes.to(device)
    stream = Stream(volumes, bank, *shape, settings.seed)
    calm = Stream(volumes, bank, *shape, settings.seed + 1_000_000)

    def keep() -> None:
        trainer.settle(calm, settle)
        trainer.save(checkpoint)
        draw_curve(log, out / 'curve.svg')

    began = saved = mark = time.monotonic()
    window: list[Tensor] = []
    for batch in batches(stream, range(trainer.step, settings.steps), workers):
        window.append(trainer.train(batch))
        if trainer.step % log_every and trainer.step < settings.steps:
            continue
        now = time.monotonic()
        means = torch.stack(window).nanmean(0).tolist()     # waits for the device
        if not math.isfinite(means[0]):
            raise FloatingPointError(f'the loss is not finite at step {trainer.step}; the '
                                     'checkpoint before it is kept')
        trainer.seconds += now - mark
        line = {'step': trainer.step, 'slices': trainer.step * settings.batch,
                'seconds': round(trainer.seconds, 1),
                'slices_per_second': round(len(window) * settings.batch / (now - mark), 2),
                'rate': settings.rate_at(trainer.step - 1),
                **{name: round(value, 5) if math.isfinite(value) else None
                   for name, value in zip(MEASURES, means, strict=True)}}
        _append(log, line)
        window, mark = [], now
        if now - began > 60 * minutes:
            break
        if now - saved > 60 * checkpoint_minutes:
            keep()
            saved = mark = time.monotonic()
    keep()
    return trainer.step >= settings.steps


def _channels_last(image: Tensor) -> Tensor:
    return image.to(memory_format=torch.channels_last)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean of the chosen values; where there are none NaN, which the mean of the log skips."""
    return (values * where).sum() / where.sum()


def _append(log: Path, line: dict) -> None:
    text = json.dumps(line)
    with log.open('a') as file:
        file.write(text + '\n')
    print(text, flush=True)


def _forget_after(log: Path, step: int) -> None:
    """Drops what was logged after the checkpoint was written: it will be run again."""
    if log.exists():
        lines = [line for line in log.read_text().splitlines() if json.loads(line)['step'] <= step]
        log.write_text(''.join(line + '\n' for line in lines))
