"""The projector of Zeus' LVLM: image tokens in the embedding space of a language model.

A frozen zeus-mini encodes a slice to a grid of tokens; neighbours of 2 x 2 are put side by side and two
linear layers bring each to the width of a frozen language model, which reads them where a prompt says
`<image>` and states the findings. Only the two layers learn: first that a token means the words for what its
part of the slice shows, then, through the language model, the text of recipe.findings.

`python -m recipe.projector --labels LABELS --language SmolLM2.gguf --vision zeus-mini.safetensors --out DIR`
writes `projector.pt` (resumes), `projector.jsonl` and `zeus-mini-projector.safetensors`; `--evaluate 48` counts what the
file of that name in DIR says of so many slices of the held-out heads instead.
"""

import argparse
import hashlib
import json
import math
import time
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from .anatomy import CLASS_OF, STRUCTURES
from .batches import Targets
from .export import load_exported
from .findings import FLAIR, PD, SEQUENCES, STATED, T1, T2, UNKNOWN, findings, sides, stated
from .paint import FLAIR_PD, picture, tissue
from .prompts import VIEWS
from .rng import Rng
from .slices import Slicer, load_label_maps

FILE = 'zeus-mini-projector.safetensors'
EVALUATED = 99                      # seed of the slices that are counted
PROMPT = Path(__file__).parents[1] / 'prompts' / 'findings.json'
SHARES = (0.35, 0.2, 0.3, 0.15)     # of the contrasts of paint: each sequence is to be told apart
CELL = 2                            # tokens of the image grid that become one, along each axis
HIDDEN = 1024
FLUID = CLASS_OF['third', '']


class Projector(nn.Module):
    """Two linear layers with GELU between, [.., CELL * CELL * image] -> [.., language]."""

    def __init__(self, image: int, language: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(CELL * CELL * image, hidden)
        self.linear_2 = nn.Linear(hidden, language)

    def forward(self, embedding: Tensor) -> Tensor:
        """Image embeddings [B, C, G, G] -> [B, G/2 * G/2, language], rows first."""
        return self.linear_2(F.gelu(self.linear_1(cells(embedding))))


def cells(embedding: Tensor) -> Tensor:
    """[B, C, G, G] -> [B, G/2 * G/2, 4 * C]: of each 2 x 2 first the upper left, the upper right, the lower left."""
    batch, channels, grid, _ = embedding.shape
    split = embedding.view(batch, channels, grid // CELL, CELL, grid // CELL, CELL)
    return split.permute(0, 2, 4, 3, 5, 1).reshape(batch, (grid // CELL) ** 2, -1)


class LanguageModel:
    """A frozen language model, unpacked from the GGUF file that the engine reads, and the designed prompt."""

    def __init__(self, file: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
        self.tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        self.network = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True)).eval()
        self.network.requires_grad_(False)
        prompt = json.loads(PROMPT.read_text())
        text = turn('system', prompt['system'])
        for example in prompt['examples']:
            text += turn('user', example['ask']) + turn('assistant', example['answer'])
        before, after = (text + turn('user', prompt['ask'])).split('<image>')
        self.before = self.ids(before)
        self.after = self.ids(after + '<|im_start|>assistant\n')
        self.end = self.ids('<|im_end|>')
        with torch.no_grad():           # what the prompt says before the image is computed once
            seen = self.network.model(self.before[None], use_cache=True).past_key_values
        self.seen = [(layer.keys, layer.values) for layer in seen.layers]

    def ids(self, text: str) -> Tensor:
        return torch.tensor(self.tokenizer(text, add_special_tokens=False)['input_ids'])

    @property
    def table(self) -> Tensor:
        """Embeddings of all tokens, [vocabulary, width]."""
        return self.network.get_input_embeddings().weight

    def meaning(self, words: str) -> Tensor:
        """The mean embedding of some words, [width]."""
        return self.table[self.ids(f' {words}')].float().mean(0)

    def cache(self, count: int):
        """Keys and values of the prompt before the image, for so many texts side by side."""
        from transformers import DynamicCache
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self.seen):
            cache.update(keys.expand(count, -1, -1, -1), values.expand(count, -1, -1, -1), layer)
        return cache

    def loss(self, image: Tensor, texts: list[str]) -> Tensor:
        """Cross-entropy of the texts after the prompt with image tokens [B, N, width]."""
        answers = [torch.cat([self.ids(text), self.end]) for text in texts]
        count, tokens, _ = image.shape
        longest = max(len(answer) for answer in answers)
        padded = torch.stack([F.pad(answer, (0, longest - len(answer))) for answer in answers])
        real = torch.arange(longest) < torch.tensor([[len(answer)] for answer in answers])
        table = self.table
        x = torch.cat([image.to(table.dtype), table[self.after].expand(count, -1, -1),
                       table[padded[:, :-1]]], 1)
        states = self.network.model(inputs_embeds=x, past_key_values=self.cache(count)).last_hidden_state
        first = tokens + len(self.after) - 1
        logits = self.network.lm_head(states[:, first:][real])
        return F.cross_entropy(logits.float(), padded[real])

    @torch.no_grad()
    def answer(self, image: Tensor, most: int = 96) -> list[str]:
        """Greedy answers to image tokens [B, N, width]."""
        count, table = len(image), self.table
        x = torch.cat([table[self.before].expand(count, -1, -1), image.to(table.dtype),
                       table[self.after].expand(count, -1, -1)], 1)
        out = self.network.generate(inputs_embeds=x, max_new_tokens=most, do_sample=False,
                                    attention_mask=torch.ones(x.shape[:2], dtype=torch.long),
                                    eos_token_id=int(self.end), pad_token_id=int(self.end))
        return self.tokenizer.batch_decode(out, skip_special_tokens=True)


def turn(role: str, content: str) -> str:
    return f'<|im_start|>{role}\n{content}<|im_end|>\n'


class Slices:
    """Batches of encoded slices and what is true of them: a function of seed and index."""

    def __init__(self, volumes: Tensor, vision, seed: int) -> None:
        self.vision, self.seed = vision, seed
        self.slicer, self.targets = Slicer(volumes, vision.config.image_size), Targets('cpu')

    @torch.no_grad()
    def __call__(self, index: int, count: int) -> tuple[Tensor, list[str], Tensor, Tensor, Tensor]:
        """-> image embeddings [B, C, G, G], texts, classes [B, S, S], sequences [B], views [B]."""
        rng = Rng('cpu', self.seed, index)
        labels, view = self.slicer.cut(count, rng)
        mean, spread, contrast = tissue(count, rng, SHARES)
        proton = (contrast == FLAIR_PD) & (mean[:, FLUID] > 0.5)
        order = torch.tensor([T1, T2, FLAIR, UNKNOWN])
        sequence = torch.where(proton, PD, order[contrast])
        embedding, _ = self.vision.image_encoder(picture(labels, mean, spread, rng), {})
        areas = self.targets.areas(self.targets.shares(labels), view)
        texts = [findings(int(s), VIEWS[v], a) for s, v, a in zip(sequence, view, areas)]
        return embedding, texts, labels, sequence, view


class Words:
    """What each image token should mean before the language model has a say: the words for what its part of
    the slice shows, with the sequence and the view."""

    def __init__(self, language: LanguageModel) -> None:
        rows, self.groups = [], []
        for name, word in STATED.items():
            structure = STRUCTURES[name]
            for side in sides(name):
                classes = [CLASS_OF[part, s] for part in structure.parts for s in (('left', 'right') if not side else (side,))]
                self.groups.append((classes + [CLASS_OF[part, ''] for part in structure.midline]))
                rows.append(language.meaning(f'{side} {word}'.strip()))
        self.things = torch.stack(rows)
        self.plain = torch.stack([language.meaning(word) for name, word in STATED.items() for _ in sides(name)])
        self.sequences = torch.stack([language.meaning(word) for word in SEQUENCES])
        self.views = torch.stack([language.meaning(word) for word in VIEWS])
        self.scale = self.things.norm(dim=1).mean()

    def __call__(self, labels: Tensor, sequence: Tensor, view: Tensor, grid: int) -> Tensor:
        """[B, S, S] classes -> [B, grid * grid, width]."""
        size = labels.shape[1] // grid
        part = labels.view(len(labels), grid, size, grid, size).permute(0, 1, 3, 2, 4).flatten(3).flatten(1, 2)
        shares = torch.stack([torch.isin(part, torch.tensor(group, dtype=part.dtype)).float().mean(2)
                              for group in self.groups], 2)
        weight = shares.clamp_max(0.05) / 0.05              # a twentieth of the part is enough to be named
        table = torch.where((view == VIEWS.index('sagittal'))[:, None, None], self.plain, self.things)
        things = weight @ table / weight.sum(2, keepdim=True).clamp_min(1)
        return things + 0.3 * (self.sequences[sequence] + self.views[view])[:, None]


def train(args: argparse.Namespace) -> None:
    begun = read(args.start) if args.start else None
    vision = load_exported(args.vision).requires_grad_(False)
    language = LanguageModel(args.language)
    torch.manual_seed(args.seed)
    projector = Projector(vision.config.prompt_dim, language.table.shape[1])
    optimiser = torch.optim.AdamW(projector.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.01)
    state = args.out / 'projector.pt'
    step = 0
    if begun:
        projector.load_state_dict(begun)
    if state.exists():
        kept = torch.load(state, weights_only=True)
        projector.load_state_dict(kept['projector'])
        optimiser.load_state_dict(kept['optimiser'])
        step = kept['step']
    slices = Slices(load_label_maps(args.labels, slice(None, -args.held_out or None)), vision, args.seed)
    words = Words(language)
    grid = vision.config.grid // CELL

    def save() -> None:
        kept = dict(projector=projector.state_dict(), optimiser=optimiser.state_dict(), step=step)
        torch.save(kept, state.with_suffix('.tmp'))
        state.with_suffix('.tmp').rename(state)
        export(projector, args, args.out / FILE)

    began = saved = time.monotonic()
    losses: list[float] = []
    log = (args.out / 'projector.jsonl').open('a')
    while step < args.words + args.steps:
        alone = step < args.words
        embedding, texts, labels, sequence, view = slices(step, 4 * args.batch if alone else args.batch)
        part = (step - args.words) / args.steps
        rate = args.rate if alone else args.rate * min(1.0, (step - args.words + 1) / 20) * max(
            0.02, 1.0 if part < 0.5 else 0.5 + 0.5 * math.cos(2 * math.pi * (part - 0.5)))
        for group in optimiser.param_groups:
            group['lr'] = rate
        image = projector(embedding)
        if alone:
            want = words(labels, sequence, view, grid)
            loss = F.mse_loss(image, want) / want.var()
        else:
            loss = language.loss(image, texts)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(projector.parameters(), 1.0)
        optimiser.step()
        step += 1
        losses.append(float(loss.detach()))
        now = time.monotonic()
        if step % 20 == 0 or step == args.words:
            row = dict(step=step, stage='words' if alone else 'text', loss=sum(losses) / len(losses),
                       rate=rate, seconds=now - began)
            print(json.dumps(row), file=log, flush=True)
            print(row, flush=True)
            losses.clear()
        if now - saved > 180 or now - began > 60 * args.minutes:
            save()
            saved = now
        if now - began > 60 * args.minutes:
            return
    save()


def evaluate(args: argparse.Namespace) -> dict:
    """Greedy answers on painted slices of the heads that training never sees."""
    vision = load_exported(args.vision).requires_grad_(False)
    language = LanguageModel(args.language)
    projector = Projector(vision.config.prompt_dim, language.table.shape[1])
    projector.load_state_dict(read(args.out / FILE))
    slices = Slices(load_label_maps(args.labels, slice(-args.held_out, None)), vision, EVALUATED)
    right = dict(sequence=0, view=0, level=0)
    both = said = there = count = 0
    while count < args.evaluate:
        embedding, texts, *_ = slices(count, min(8, args.evaluate - count))
        with torch.no_grad():
            answers = language.answer(projector(embedding))
        for want, got in zip(map(stated, texts), map(stated, answers), strict=True):
            for name in right:
                right[name] += getattr(want, name) == getattr(got, name)
            both += len(want.structures & got.structures)
            said += len(got.structures)
            there += len(want.structures)
        count += len(texts)
    return dict(slices=count, **right, precision=both / max(1, said), recall=both / max(1, there))


def read(path: Path) -> dict[str, Tensor]:
    """An exported projector's layers, whatever vision model they were trained on."""
    state = {name: tensor.float() for name, tensor in load_file(path).items()}
    layers = {f'linear_{n}.{part}' for n in (1, 2) for part in ('weight', 'bias')}
    if state.keys() != layers:
        raise SystemExit(f'{path}: not a projector, whose tensors are {", ".join(sorted(layers))}')
    return state


def export(projector: Projector, args: argparse.Namespace, path: Path) -> None:
    """The two layers in f16, as the engine reads them; it takes them only with the vision model that they were trained on."""
    state = {name: tensor.detach().half().contiguous() for name, tensor in projector.state_dict().items()}
    vision = hashlib.sha256(args.vision.read_bytes()).hexdigest()
    save_file(state, path, {'format': 'pt', 'cell': str(CELL), 'vision': vision, 'language': args.language.stem})


def main() -> None:
    parser = argparse.ArgumentParser(prog='python -m recipe.projector', description=__doc__.splitlines()[0])
    parser.add_argument('--labels', type=Path, required=True, help='folder of FreeSurfer label maps')
    parser.add_argument('--language', type=Path, required=True, help='GGUF file of the language model')
    parser.add_argument('--vision', type=Path, required=True, help='zeus-mini.safetensors')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--held-out', type=int, default=3)
    parser.add_argument('--words', type=int, default=400, help='steps without the language model')
    parser.add_argument('--steps', type=int, default=600, help='steps through it')
    parser.add_argument('--batch', type=int, default=8, help='slices of a step; four times as many without it')
    parser.add_argument('--rate', type=float, default=1e-3)
    parser.add_argument('--start', type=Path, metavar='FILE', help='begin with an exported projector, of weights before these')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--minutes', type=float, default=math.inf, help='stop after so many; the same command resumes')
    parser.add_argument('--evaluate', type=int, metavar='SLICES', help='no training: count what is said of so many')
    parser.add_argument('--threads', type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.evaluate:
        print(json.dumps(evaluate(args), indent=2))
    else:
        train(args)


if __name__ == '__main__':
    main()
