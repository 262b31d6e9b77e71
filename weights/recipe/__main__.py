"""`python -m recipe STEP`: text bank, training, export and evaluation, or `all` of them."""

import argparse
import json
import math
from pathlib import Path

import torch

from .evaluate import evaluate
from .export import export, load_exported
from .model import Config
from .phantoms import write_phantoms
from .slices import load_label_maps
from .text import Bank, TextEncoder, build_bank, written_sentences
from .train import Run, Settings, load_averaged, run

STEPS = ('bank', 'train', 'export', 'evaluate')
NEEDS = {'phantoms': ('labels',), 'bank': ('text',), 'train': ('labels',), 'export': ('text',), 'evaluate': ('labels', 'text')}


def arguments() -> argparse.Namespace:
    default = Settings()
    parser = argparse.ArgumentParser(prog='python -m recipe', description=__doc__)
    parser.add_argument('step', choices=(*STEPS, 'phantoms', 'all'))
    parser.add_argument('--out', type=Path, required=True, help='folder of everything written')
    parser.add_argument('--labels', type=Path, help='folder of FreeSurfer label maps')
    parser.add_argument('--text', type=Path, help='folder of all-MiniLM-L6-v2')
    parser.add_argument('--held-out', type=int, default=3, help='label maps kept for evaluation')
    parser.add_argument('--per-cell', type=int, default=40,
                        help='sentences for each target, contrast and view')
    parser.add_argument('--negatives', type=int, default=18_000)
    parser.add_argument('--written', type=Path,
                        help='instructions that the language model wrote, of `make instructions`')
    parser.add_argument('--slices', type=int, default=default.slices)
    parser.add_argument('--fall', type=int, default=default.fall,
                        help='slices at the end over which the rate falls')
    parser.add_argument('--start', type=Path, help='exported weights to begin with')
    parser.add_argument('--batch', type=int, default=default.batch)
    parser.add_argument('--ranks', type=int, default=default.ranks,
                        help='processes of one thread that share a step, one for each core')
    parser.add_argument('--prompts', type=int, default=default.prompts)
    parser.add_argument('--rate', type=float, default=default.rate)
    parser.add_argument('--average', type=float, default=default.average)
    parser.add_argument('--dense', type=float, default=default.dense,
                        help='weight of the training-only dense head; 0 turns it off')
    parser.add_argument('--seed', type=int, default=default.seed)
    parser.add_argument('--minutes', type=float, default=math.inf,
                        help='stop after so many minutes; the same command resumes')
    parser.add_argument('--checkpoint-minutes', type=float, default=10)
    parser.add_argument('--workers', type=int, default=0,
                        help='processes that paint ahead for each rank, on a CPU')
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
    written = written_sentences(args.written.open()) if args.written else None
    built, sentences = build_bank(encoder, args.per_cell, args.negatives, args.seed, written)
    built.save(path, sentences)
    print(f'{len(sentences)} sentences, {int(built.count[-1])} of them ask for nothing')


def train(args: argparse.Namespace) -> None:
    """-> checkpoint.pt, log.jsonl, curve.svg."""
    settings = Settings(args.slices, args.fall, args.batch, args.ranks, args.prompts, args.rate,
                        average=args.average, dense=args.dense, seed=args.seed)
    volumes = load_label_maps(args.labels, slice(None, -args.held_out or None))
    words = Bank.load(args.out / 'bank.safetensors')
    what = Run(args.out, args.device, args.start, args.workers, args.minutes,
               args.checkpoint_minutes)
    done = run(settings, Config(), volumes, words, what)
    print('the schedule is done' if done else 'stopped: the same command resumes')


def export_weights(args: argparse.Namespace) -> None:
    """checkpoint.pt -> zeus-mini.safetensors."""
    export(load_averaged(args.out / 'checkpoint.pt'), args.out / 'zeus-mini.safetensors',
           TextEncoder(args.text))


def evaluate_weights(args: argparse.Namespace) -> None:
    """zeus-mini.safetensors -> results.json."""
    volumes = load_label_maps(args.labels, slice(-args.held_out, None))
    model = load_exported(args.out / 'zeus-mini.safetensors')
    results = evaluate(model, TextEncoder(args.text), volumes, args.evaluate_slices)
    text = json.dumps(results, indent=2)
    (args.out / 'results.json').write_text(text + '\n')
    print(text)


def phantoms(args: argparse.Namespace) -> None:
    """-> phantoms/; no part of `all`: only the engine needs them."""
    files = sorted(args.labels.glob('*.nii*'))
    held = files[-args.held_out:]
    for path in write_phantoms(held, len(files) - len(held) + 1, args.out / 'phantoms'):
        print(path)


def main() -> None:
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    actions = dict(zip(STEPS, (bank, train, export_weights, evaluate_weights)), phantoms=phantoms)
    for step in STEPS if args.step == 'all' else (args.step,):
        print(f'{step} ...', flush=True)
        actions[step](args)


if __name__ == '__main__':
    main()
