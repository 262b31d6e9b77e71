"""How llama.cpp splits words for other models than SmolLM2, by SmolLM2's vocabulary: `tokenizer_pre.json`.

    python pre.py --model SmolLM2-135M-Instruct.Q4_1.gguf --llama <folder with node_modules> --out .

The file is written again with another `tokenizer.ggml.pre` and nothing else changed.
"""
import argparse
import json
import subprocess
from pathlib import Path

import gguf

from models import STRINGS

NAMES = ['gpt-2', 'smollm', 'llama-bpe', 'qwen2']
MORE = ['12345 67890', 'a1b22c333d4444', "I'LL we'Ve", 'x\n\n\n y', '  \n  two', 'tab\tand  spaces   ', '(parentheses) [brackets]', 'e\u0301tude cafe\u0301', '\u0660\u0661\u0662\u0663', 'hip\u00adpo']


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--model', required=True, type=Path)
    p.add_argument('--llama', required=True, type=Path, help='folder in which node finds node-llama-cpp')
    p.add_argument('--out', default='.', type=Path)
    a = p.parse_args()
    reader = gguf.GGUFReader(a.model)
    texts, found = MORE + STRINGS, {}
    for name in NAMES:
        path = a.llama / 'golden.pre.gguf'
        out = gguf.GGUFWriter(path, 'llama')
        for key, field in reader.fields.items():
            if not key.startswith('GGUF.') and key != 'general.architecture':
                value = name if key == 'tokenizer.ggml.pre' else field.contents()
                out.add_key_value(key, value, *field.types[:2])
        for tensor in reader.tensors:
            out.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        out.write_header_to_file(), out.write_kv_data_to_file(), out.write_tensors_to_file(), out.close()
        script, q, r = (a.llama / f'golden.pre.{e}' for e in ('mjs', 'in.json', 'out.json'))
        script.write_text((Path(__file__).parent / 'llama.mjs').read_text())
        q.write_text(json.dumps(dict(tokenize=texts, generate=[], steps=1)))
        subprocess.run(['node', script.name, path.name, q.name, r.name], cwd=a.llama, check=True)
        found[name] = json.loads(r.read_text())['plain']
        for f in (script, q, r, path):
            f.unlink()
    rows = [dict(text=t, **{name: ids[n] for name, ids in found.items()}) for n, t in enumerate(texts)]
    (a.out / 'tokenizer_pre.json').write_text('[\n' + ',\n'.join(json.dumps(r) for r in rows) + '\n]\n')


if __name__ == '__main__':
    main()
