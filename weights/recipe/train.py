"""Training: AdamW, a level rate with a fall at the end, averaged weights; stops and resumes.

A batch is a function of (seed, step, rank) and nothing else draws random numbers after the model's
first weights, so weights, averages, optimiser and step are the whole state: on a CPU a resumed
run repeats an unbroken one to the bit.

On a CPU `ranks` processes of one thread each take a batch of their own and share the mean of their
gradients: small operations leave a second thread idle, a second process never.
"""

import copy
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from .anatomy import DENSE_CLASSES, NOTHING
from .batches import Batch, Stream, batches
from .curve import draw_curve
from .losses import PRESENT, DenseHead, mask_losses
from .model import Config, ConvNorm, ZeusMini
from .text import Bank

MEASURES = ('mask', 'quality', 'dense', 'meaning', 'dice', 'false_positive', 'norm_encoder',
            'norm_decoder')
MAY_CHANGE = ('slices', 'fall')         # of a run that has not reached its fall


@dataclass(frozen=True)
class Settings:
    """What decides the result of a run; kept in its checkpoint."""

    slices: int = 300_000           # length of the run
    fall: int = 60_000              # slices at its end over which the rate falls to its last
    batch: int = 12                 # slices of a rank
    ranks: int = 1
    prompts: int = 32
    rate: float = 8e-4
    last_rate: float = 1e-5
    warmup: int = 150               # steps
    decay: float = 0.03
    clip: float = 1.0               # of the gradients of encoder and decoder, apart
    average: float = 0.998
    quality: float = 0.5            # weight of the predicted Dice
    dense: float = 0.3              # weight of the dense head
    meaning: float = 0.05           # weight of naming a sentence's target from its token
    words: int = 1500               # steps on sentences alone before the first slice
    last_words: int = 1500          # and after the last
    seed: int = 1
    bf16: bool = True

    @property
    def steps(self) -> int:
        return max(1, self.slices // (self.batch * self.ranks))

    @property
    def level_steps(self) -> int:
        """Steps before the rate falls."""
        return max(0, self.slices - self.fall) // (self.batch * self.ranks)

    def rate_at(self, step: int) -> float:
        rise = min(1.0, (step + 1) / self.warmup)
        left = (self.steps - step) / max(1, self.steps - self.level_steps)
        return self.rate * rise * min(1.0, left) + self.last_rate


class WordHead(nn.Module):
    """Training only: which target a prompt token means."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.classify = nn.Linear(dim, NOTHING + 1)

    def forward(self, token: Tensor, target: Tensor) -> Tensor:
        """token [..., D], target [...] -> cross-entropy."""
        return F.cross_entropy(self.classify(token).float().flatten(0, -2), target.flatten())


class Trainer:
    """A model on its way: weights, averaged weights, optimiser, step."""

    def __init__(self, settings: Settings, config: Config, bank: Bank,
                 device: torch.device | str) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, torch.device(device)
        model = ZeusMini(config)
        model.prompt_encoder.mean.copy_(bank.mean)
        model.prompt_encoder.deviation.copy_(bank.deviation)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.head = DenseHead(config.up_dims[-1], DENSE_CLASSES).to(self.device)
        self.word_head = WordHead(config.prompt_dim).to(self.device)
        self.encoder = list(self.model.image_encoder.parameters())
        self.decoder = [*self.model.prompt_encoder.parameters(),
                        *self.model.mask_decoder.parameters(), *self.head.parameters(),
                        *self.word_head.parameters()]
        named = [*self.model.named_parameters(), *self.head.named_parameters(),
                 *self.word_head.named_parameters()]
        decayed = [p for name, p in named if p.ndim > 1 and 'pos_embed' not in name]
        others = [p for name, p in named if not (p.ndim > 1 and 'pos_embed' not in name)]
        self.optimiser = torch.optim.AdamW(
            [{'params': decayed, 'weight_decay': settings.decay},
             {'params': others, 'weight_decay': 0.0}],
            lr=settings.rate, betas=(0.9, 0.98), fused=True)
        self.step, self.seconds = 0, 0.0
        self.speaks = False                 # the text pooling came with the decoder
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)

    def learn_words(self, bank: Bank, steps: int, batch: int = 384) -> float:
        """Trains the pooling of the text alone to tell targets apart; the share it names right.

        Sentences are plenty and cost a thousandth of a slice: the decoder then starts with tokens
        that already say structure and side.  A pooling that came with a decoder stays as the decoder
        knows it; then only the head learns to read its tokens.
        """
        pool = self.model.prompt_encoder
        parameters = [*self.word_head.parameters()]
        if not self.speaks:
            parameters += pool.text_pool.parameters()
        optimiser = torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.98), fused=True)
        draw = torch.Generator().manual_seed(self.settings.seed)
        target = bank.targets()
        right = []
        for step in range(steps):
            for group in optimiser.param_groups:
                group['lr'] = 2e-3 * min(1, (step + 1) / 50) * (1 - step / steps)
            sentence = torch.randint(len(target), (batch,), generator=draw)
            sentence = sentence.to(self.device)
            with self._autocast():
                token = pool(*bank.look_up(sentence))
                loss = self.word_head(token, target[sentence])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            if step >= 0.9 * steps:
                named = self.word_head.classify(token.float()).argmax(1)
                right.append((named == target[sentence]).float().mean())
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        return float(torch.stack(right).mean()) if right else 0.0

    @torch.no_grad()
    def _tokens(self, bank: Bank, batch: int = 1024) -> Tensor:
        """The prompt tokens that the averaged model makes of all sentences of a bank, [n, D]."""
        sentences = torch.arange(len(bank.targets()), device=self.device)
        pool = self.averaged.prompt_encoder
        return torch.cat([pool(*bank.look_up(part)) for part in sentences.split(batch)])

    def settle_words(self, bank: Bank, steps: int, batch: int = 384) -> float:
        """Teaches the averaged text pooling to say the same of all sentences for one target: the mean
        of what it says of them now, so that the decoder hears what it knows.  Returns the mean squared
        distance that is left, in parts of what it was.
        """
        target = bank.targets()
        tokens = self._tokens(bank)
        members = F.one_hot(target, NOTHING + 1).to(tokens.dtype)
        home = (members.T @ tokens) / members.sum(0)[:, None]
        before = (tokens - home[target]).square().mean()
        pool = self.averaged.prompt_encoder
        parameters = list(pool.text_pool.parameters())
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimiser = torch.optim.AdamW(parameters, lr=5e-4, betas=(0.9, 0.98), weight_decay=1e-3)
        draw = torch.Generator().manual_seed(self.settings.seed + 1)
        for step in range(steps):
            for group in optimiser.param_groups:
                group['lr'] = 5e-4 * min(1, (step + 1) / 50) * (1 - step / steps)
            sentence = torch.randint(len(target), (batch,), generator=draw).to(self.device)
            token = pool(*bank.look_up(sentence))
            loss = (token - home[target[sentence]]).square().mean() / before
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
        for parameter in parameters:
            parameter.requires_grad_(False)
        return float((self._tokens(bank) - home[target]).square().mean() / before)

    def train(self, batch: Batch) -> Tensor:
        """One step; returns the MEASURES as a tensor on the device, without waiting for it."""
        settings = self.settings
        batch = batch.to(self.device)
        for group in self.optimiser.param_groups:
            group['lr'] = settings.rate_at(self.step)
        self.model.train()
        taps: dict[str, Tensor] = {}
        row, column = self.step % 2, self.step // 2 % 2
        with self._autocast():
            logits, predicted = self.model(_channels_last(batch.image), batch.states, batch.real,
                                           taps)
            pixels = taps['up2'].permute(0, 2, 3, 1)
            dense = self.head(pixels[:, row::2, column::2],
                              batch.dense[:, row::2, column::2])
            meaning = self.word_head(taps['text_token'], batch.target)
        losses = mask_losses(logits, predicted, batch.mask)
        loss = (losses.mask + settings.quality * losses.quality + settings.dense * dense
                + settings.meaning * meaning)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        _share_gradients([*self.encoder, *self.decoder])
        norms = [nn.utils.clip_grad_norm_(part, settings.clip)
                 for part in (self.encoder, self.decoder)]
        self.optimiser.step()
        self.step += 1
        self._average()
        present = losses.true > PRESENT
        return torch.stack([losses.mask.detach(), losses.quality.detach(), dense.detach().float(),
                            meaning.detach().float(), _mean(losses.dice, present),
                            _mean((losses.drawn > 5).float(), ~present), *norms])

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
                self.averaged(_channels_last(batch.image), batch.states[:, :1], batch.real[:, :1])
        self.averaged.eval()

    @torch.no_grad()
    def start_from(self, path: Path, images: Tensor) -> list[str]:
        """Takes the weights of an exported file; returns the names that it had no use for.

        The file's convolutions have their batch norms folded in.  `images` [B, 1, S, S] show what
        each convolution gives, and its norm starts as that mean and deviation: as the identity.
        Its text pooling reads states as they are, and is made to read standardised ones.
        """
        state = load_file(path)
        own = self.model.state_dict()
        fits = {name: tensor.float() for name, tensor in state.items()
                if name in own and own[name].shape == tensor.shape}
        self.model.load_state_dict(fits, strict=False)
        words = self.model.prompt_encoder
        self.speaks = all(f'prompt_encoder.text_pool.{name}' in fits
                          for name, _ in words.text_pool.named_parameters())
        if self.speaks:
            for layer in (words.text_pool.k_proj, words.text_pool.v_proj):
                layer.bias += layer.weight @ words.mean
                layer.weight *= words.deviation

        def measure(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
            x = inputs[0].float()
            norm.bias.copy_(x.mean((0, 2, 3)))
            norm.running_mean.copy_(norm.bias)
            norm.weight.copy_((x.var((0, 2, 3)) + norm.eps).sqrt())
            norm.running_var.copy_(norm.weight ** 2 - norm.eps)

        hooks = [m.bn.register_forward_pre_hook(measure) for m in self.model.modules()
                 if isinstance(m, ConvNorm)]
        neck, skips = self.model.image_encoder(_channels_last(images.to(self.device)), {})
        self.model.mask_decoder.upscale(neck, skips, {})
        for hook in hooks:
            hook.remove()
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        return sorted(state.keys() - fits.keys())

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
        old = {**asdict(Settings()), **state['settings']}
        changed = [key for key, value in asdict(self.settings).items() if old.get(key) != value]
        level = min(Settings(**old).level_steps, self.settings.level_steps)
        if state['step'] <= level:
            changed = [key for key in changed if key not in MAY_CHANGE]
        if changed:
            raise ValueError(f'the checkpoint was trained with other {", ".join(changed)}: '
                             'give the same settings, or another folder')
        for name in self._modules():
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state['step'], state['seconds']

    @staticmethod
    def _modules() -> tuple[str, ...]:
        return 'model', 'averaged', 'head', 'word_head', 'optimiser'


def load_averaged(path: Path) -> ZeusMini:
    """The averaged model of a checkpoint, in eval mode, on the CPU."""
    state = torch.load(path, map_location='cpu', weights_only=True)
    model = ZeusMini(Config(**state['config']))
    model.load_state_dict(state['averaged'])
    return model.eval()


@dataclass(frozen=True)
class Run:
    """What a run needs beside its settings; none of it decides the result."""

    out: Path                           # checkpoint.pt, level.pt, log.jsonl and curve.svg
    device: torch.device
    start: Path | None = None           # exported weights to begin with
    workers: int = 0                    # processes that paint ahead, for each rank
    minutes: float = math.inf
    checkpoint_minutes: float = 10
    log_every: int = 25
    settle: int = 24


def run(settings: Settings, config: Config, volumes: Tensor, bank: Bank, what: Run) -> bool:
    """Trains until the run ends (True) or `what.minutes` have passed (False).

    Resumes from the checkpoint in `what.out`.  The state before the rate falls is kept as
    `level.pt`: renamed to `checkpoint.pt` it goes on with a longer run.
    """
    if settings.ranks == 1:
        return _run(0, settings, config, volumes, bank, what)
    bank = Bank(*(t.share_memory_() for t in vars(bank).values()))
    meeting = what.out / f'meeting-{time.time_ns()}'
    volumes = volumes.share_memory_()
    try:
        torch.multiprocessing.spawn(_rank, (settings, config, volumes, bank, what, meeting),
                                    settings.ranks)
    finally:
        meeting.unlink(missing_ok=True)
    state = torch.load(what.out / 'checkpoint.pt', map_location='cpu', weights_only=True)
    return state['step'] >= settings.steps


def _rank(rank: int, settings: Settings, config: Config, volumes: Tensor, bank: Bank, what: Run,
          meeting: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{meeting.resolve()}', rank=rank,
                            world_size=settings.ranks)
    try:
        _run(rank, settings, config, volumes, bank, what)
    finally:
        dist.destroy_process_group()


def _run(rank: int, settings: Settings, config: Config, volumes: Tensor, bank: Bank,
         what: Run) -> bool:
    device, out = what.device, what.out
    if device.type == 'cuda':
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    torch.set_flush_denormal(True)          # denormals cost half the speed of a CPU
    checkpoint, log = out / 'checkpoint.pt', out / 'log.jsonl'
    volumes, bank = volumes.to(device), bank.to(device)
    trainer = Trainer(settings, config, bank, device)
    shape = (config.image_size, settings.batch, settings.prompts)
    stream = Stream(volumes, bank, *shape, settings.seed)
    calm = Stream(volumes, bank, *shape, settings.seed + 1_000_000)
    if checkpoint.exists():
        trainer.load(torch.load(checkpoint, map_location=device, weights_only=True))
    else:
        if what.start:
            unused = trainer.start_from(what.start, calm[0].image)
            if rank == 0:
                print(f'begins with `{what.start}`; not used: {", ".join(unused) or "nothing"}')
        named = trainer.learn_words(bank, settings.words)
        if rank == 0:
            print(f'words alone: {named:.3f} of the sentences named', flush=True)
    if rank == 0:
        _forget_after(log, trainer.step)

    def keep(path: Path) -> None:
        if rank == 0:
            trainer.settle(calm, what.settle)
            trainer.save(path)
            draw_curve(log, out / 'curve.svg')

    began_at = trainer.step
    began = saved = mark = time.monotonic()
    window: list[Tensor] = []
    indices = range(trainer.step * settings.ranks + rank, settings.steps * settings.ranks,
                    settings.ranks)
    for batch in batches(stream, indices, what.workers):
        window.append(trainer.train(batch))
        if trainer.step == settings.level_steps:
            keep(out / 'level.pt')
        if trainer.step % what.log_every and trainer.step < settings.steps:
            continue
        now = time.monotonic()
        means = torch.stack(window).nanmean(0).tolist()     # waits for the device
        if not math.isfinite(means[0]):
            raise FloatingPointError(f'the loss is not finite at step {trainer.step}; the '
                                     'checkpoint before it is kept')
        trainer.seconds += now - mark
        if rank == 0:
            slices = len(window) * settings.batch * settings.ranks
            line = {'step': trainer.step, 'slices': trainer.step * settings.batch * settings.ranks,
                    'seconds': round(trainer.seconds, 1),
                    'slices_per_second': round(slices / (now - mark), 2),
                    'rate': settings.rate_at(trainer.step - 1),
                    **{name: round(value, 5) if math.isfinite(value) else None
                       for name, value in zip(MEASURES, means, strict=True)}}
            _append(log, line)
        window, mark = [], now
        stop, save = now - began > 60 * what.minutes, now - saved > 60 * what.checkpoint_minutes
        stop, save = _first_decides((stop, save), device)
        if stop:
            break
        if save:
            keep(checkpoint)
            saved = mark = time.monotonic()
    if rank == 0 and began_at < settings.steps <= trainer.step:
        left = trainer.settle_words(bank, settings.last_words)
        print(f'words settled: {left:.4f} of their spread is left', flush=True)
    keep(checkpoint)
    return trainer.step >= settings.steps


def _share_gradients(parameters: list[nn.Parameter]) -> None:
    """Every rank gets the mean of all."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat.split([g.numel() for g in gradients])
    torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients)])


def _first_decides(flags: tuple[bool, ...], device: torch.device) -> tuple[bool, ...]:
    """The first rank's clock holds for all."""
    if not dist.is_initialized():
        return flags
    shared = torch.tensor(flags, dtype=torch.uint8)
    dist.broadcast(shared, 0)
    return tuple(bool(flag) for flag in shared)


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
