"""`python -m recipe STEP`: text bank, training, export and evaluation, or `all` of them."""

import argparse
import json
import math
from pathlib import Path

import torch

from . import stock
from .evaluate import evaluate
from .export import export, load_exported
from .model import Config
from .slices import load_label_maps
from .text import Bank, TextEncoder, build_bank
from .train import Settings, load_averaged, run

STEPS = ('bank', 'train', 'export', 'evaluate')
NEEDS = {'stock': ('text',), 'bank': ('text',), 'train': ('labels',), 'export': (), 'evaluate': ('labels', 'text')}


def arguments() -> argparse.Namespace:
    default = Settings()
    parser = argparse.ArgumentParser(prog='python -m recipe', description=__doc__)
    parser.add_argument('step', choices=(*STEPS, 'stock', 'all'))
    parser.add_argument('--out', type=Path, required=True, help='folder of everything written')
    parser.add_argument('--labels', type=Path, help='folder of FreeSurfer label maps')
    parser.add_argument('--text', type=Path, help='folder of all-MiniLM-L6-v2')
    parser.add_argument('--held-out', type=int, default=3, help='label maps kept for evaluation')
    parser.add_argument('--per-cell', type=int, default=16,
                        help='sentences for each target, contrast and view')
    parser.add_argument('--negatives', type=int, default=6000)
    parser.add_argument('--slices', type=int, default=default.slices)
    parser.add_argument('--batch', type=int, default=default.batch)
    parser.add_argument('--prompts', type=int, default=default.prompts)
    parser.add_argument('--rate', type=float, default=default.rate)
    parser.add_argument('--average', type=float, default=default.average)
    parser.add_argument('--dense', type=float, default=default.dense,
                        help='weight of the training-only dense head; 0 turns it off')
    parser.add_argument('--seed', type=int, default=default.seed)
    parser.add_argument('--minutes', type=float, default=math.inf,
                        help='stop after so many minutes; the same command resumes')
    parser.add_argument('--checkpoint-minutes', type=float, default=10)
    parser.add_argument('--workers', type=int, default=1, help='processes that paint for a CPU')
    parser.add_argument('--threads', type=int,
                        help='of the training process; 1 is fastest where cores are shared')
    parser.add_argument('--device', type=torch.device,
                        default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--evaluate-slices', type=int, default=150)
    args = parser.parse_args()
    for step in STEPS if args.step == 'all' else (args.step,):
        for name in NEEDS[step]:
            if getattr(args, name) is None:
                parser.error(f'`{step}` needs --{name}')
    return args


def bank(args: argparse.Namespace) -> None:
    """Sentences and their embeddings -> bank.safetensors."""
    path = args.out / 'bank.safetensors'
    if args.step == 'all' and path.exists():
        return
    encoder = TextEncoder(args.text, args.device)
    built, sentences = build_bank(encoder, args.per_cell, args.negatives, args.seed)
    built.save(path, sentences)
    print(f'{len(sentences)} sentences, {int(built.count[-1])} of them ask for nothing')


def train(args: argparse.Namespace) -> None:
    """-> checkpoint.pt, log.jsonl, curve.svg."""
    settings = Settings(args.slices, args.batch, args.prompts, args.rate, average=args.average,
                        dense=args.dense, seed=args.seed)
    volumes = load_label_maps(args.labels, slice(None, -args.held_out or None))
    words = Bank.load(args.out / 'bank.safetensors')
    done = run(settings, Config(), volumes, words, args.out, args.device, args.workers,
               args.minutes, args.checkpoint_minutes)
    print('the schedule is done' if done else 'stopped: the same command resumes')


def export_weights(args: argparse.Namespace) -> None:
    """checkpoint.pt -> zeus-mini.safetensors."""
    export(load_averaged(args.out / 'checkpoint.pt'), args.out / 'zeus-mini.safetensors')


def evaluate_weights(args: argparse.Namespace) -> None:
    """zeus-mini.safetensors -> results.json."""
    volumes = load_label_maps(args.labels, slice(-args.held_out, None))
    model = load_exported(args.out / 'zeus-mini.safetensors')
    results = evaluate(model, TextEncoder(args.text), volumes, args.evaluate_slices)
    text = json.dumps(results, indent=2)
    (args.out / 'results.json').write_text(text + '\n')
    print(text)


def stock_instructions(args: argparse.Namespace) -> None:
    """-> stock-instructions.safetensors; no part of `all`, since it depends on no training."""
    path = args.out / 'stock-instructions.safetensors'
    print(f'{stock.write(TextEncoder(args.text, args.device), path)} built-in instructions')


def main() -> None:
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    actions = dict(zip(STEPS, (bank, train, export_weights, evaluate_weights)), stock=stock_instructions)
    for step in STEPS if args.step == 'all' else (args.step,):
        print(f'{step} ...', flush=True)
        actions[step](args)


if __name__ == '__main__':
    main()
