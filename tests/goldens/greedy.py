"""What llama.cpp says of a whole GGUF model, through the npm package node-llama-cpp: `NAME.json`.

    python greedy.py NAME --model FILE.gguf --llama <folder with node_modules> --out .

Holds the ids of awkward strings, of 20 texts 128 greedy tokens each, and the perplexity of a licence in pieces of 256 tokens.  Each
of the file as it is, where llama.cpp rounds activations to 8 bits, and (`reference`) of a float32 copy.
"""
import argparse
import json
import math
import subprocess
from pathlib import Path

import gguf
import numpy as np

from models import STRINGS

PROMPTS = [
    'The hippocampus is a part of the brain that', 'A radiologist looks at a CT scan and', 'The left kidney lies', 'In a T1-weighted image the white matter is',
    'Once upon a time there was a', 'The capital of France is', 'def fibonacci(n):', 'The three primary colours are', 'Water boils at', 'The first law of thermodynamics says that',
    'Dear Dr. Smith,\n\nThank you for referring', 'Ingredients for pancakes:\n-', 'import numpy as np\n\n', 'Q: What is the largest planet?\nA:', 'The brainstem consists of the midbrain,',
    '1, 1, 2, 3, 5, 8,', 'Shakespeare wrote', 'La capitale de la France est', 'The opposite of hot is', 'MRI stands for',
]
STEPS, CONTEXT = 128, 256
TEXT = Path(__file__).resolve().parents[2] / 'LICENSE-APACHE'


def write_f32(source, path):
    """The same model with every tensor in float32."""
    reader = gguf.GGUFReader(source)
    out = gguf.GGUFWriter(path, reader.fields['general.architecture'].contents())
    for key, field in reader.fields.items():
        if not key.startswith('GGUF.') and key not in ('general.architecture', 'general.file_type'):
            out.add_key_value(key, field.contents(), *field.types[:2])
    out.add_file_type(0)
    for tensor in reader.tensors:
        out.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    out.write_header_to_file(), out.write_kv_data_to_file(), out.write_tensors_to_file(), out.close()


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('name')
    p.add_argument('--model', required=True, type=Path)
    p.add_argument('--llama', required=True, type=Path, help='folder in which node finds node-llama-cpp')
    p.add_argument('--out', default='.', type=Path)
    a = p.parse_args()

    def ask(questions, model=a.model):
        script, q, r = (a.llama / f'golden.{e}' for e in ('mjs', 'in.json', 'out.json'))
        script.write_text((Path(__file__).parent / 'llama.mjs').read_text())
        q.write_text(json.dumps(questions))
        subprocess.run(['node', script.name, str(model.resolve()), q.name, r.name], cwd=a.llama, check=True)
        answers = json.loads(r.read_text())
        for f in (script, q, r):
            f.unlink()
        return answers

    meta = {k: f.contents() for k, f in gguf.GGUFReader(a.model).fields.items()}
    bos = [meta['tokenizer.ggml.bos_token_id']] if meta.get('tokenizer.ggml.add_bos_token') else []
    said = ask(dict(tokenize=PROMPTS + [TEXT.read_text()] + STRINGS, generate=[], steps=1))
    prompts = [bos + ids for ids in said['plain'][:len(PROMPTS)]]
    text = bos + said['plain'][len(PROMPTS)]
    pieces = [bos + text[n + len(bos):n + CONTEXT] for n in range(0, len(text) - CONTEXT + 1, CONTEXT)]
    questions = dict(tokenize=[], generate=prompts, steps=STEPS, score=pieces)
    wide = a.llama / 'golden.f32.gguf'
    write_f32(a.model, wide)
    reference, quantised = ask(questions, wide), ask(questions)
    wide.unlink()
    perplexity = lambda losses: math.exp(np.mean([loss for piece in losses for loss in piece]))
    rows = [dict(text=t, prompt=i, reference=r, llama_cpp=q) for t, i, r, q in zip(PROMPTS, prompts, reference['generate'], quantised['generate'])]
    strings = [dict(text=t, ids=p) for t, p in zip(STRINGS, said['plain'][len(PROMPTS) + 1:])]
    result = dict(llama_cpp=said['version'], context=CONTEXT, tokens=len(text), perplexity=perplexity(reference['score']),
                  llama_cpp_perplexity=perplexity(quantised['score']), strings=strings, texts=rows)
    (a.out / f'{a.name}.json').write_text(json.dumps(result, separators=(',', ':')).replace('{"text"', '\n{"text"') + '\n')
    same = [next((i for i, (x, y) in enumerate(zip(r['reference'], r['llama_cpp'])) if x != y), STEPS) for r in rows]
    print(a.name, 'perplexity', result['perplexity'], result['llama_cpp_perplexity'], 'alike until', same)


if __name__ == '__main__':
    main()
