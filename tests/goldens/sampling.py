"""What transformers makes of logits before a token is drawn: `sampling.json`.

    python sampling.py --out .

Each case has logits, the tokens that were there, the settings and the tokens that are left with their probabilities, likeliest first.
Steps and order are those of `generate`: repetition penalty, temperature, top_k, top_p, min_p.
"""
import argparse
import json
from pathlib import Path

import torch
from transformers import LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

SETTINGS = [
    dict(temperature=1.0), dict(temperature=0.7), dict(temperature=1.5, top_k=5), dict(temperature=1.0, top_k=1), dict(temperature=1.0, top_p=0.9),
    dict(temperature=0.8, top_p=0.5), dict(temperature=1.0, top_p=0.05), dict(temperature=1.0, min_p=0.1), dict(temperature=2.0, min_p=0.5),
    dict(temperature=1.0, repetition_penalty=1.3), dict(temperature=0.9, top_k=20, top_p=0.95, min_p=0.05, repetition_penalty=1.1),
]
WARPERS = [('repetition_penalty', RepetitionPenaltyLogitsProcessor), ('temperature', TemperatureLogitsWarper), ('top_k', TopKLogitsWarper),
           ('top_p', TopPLogitsWarper), ('min_p', MinPLogitsWarper)]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--out', default='.', type=Path)
    a = p.parse_args()
    torch.manual_seed(3)
    cases = []
    for n, settings in enumerate(SETTINGS):
        logits = (3 * torch.randn(1, 40)).float()
        if n % 3 == 2:
            logits[0, 7] = logits[0].max()                                   # two likeliest
        seen = torch.randint(0, 40, (1, 6))
        steps = LogitsProcessorList([make(settings[name]) for name, make in WARPERS if settings.get(name, 1.0) != 1.0 or name == 'top_k' and name in settings])
        left = steps(seen, logits.double()).softmax(-1)[0]
        order = sorted((i for i in range(40) if left[i] > 0), key=lambda i: (-float(left[i]), i))
        cases.append(dict(settings=settings, logits=[float(v) for v in logits[0]], seen=seen[0].tolist(), left=[[i, float(left[i])] for i in order]))
    (a.out / 'sampling.json').write_text('[\n' + ',\n'.join(json.dumps(c) for c in cases) + '\n]\n')
    print([len(c['left']) for c in cases])


if __name__ == '__main__':
    main()
