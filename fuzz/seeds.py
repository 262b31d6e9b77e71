"""The fuzzers' first inputs: small files of every kind that the readers accept, written into corpus/<target>/ under names
that begin with `sound`.  Python's standard library alone; byte for byte the same on every run.

    python3 fuzz/seeds.py

What tests/fuzz_corpus.rs asks of them: that each is read without a complaint.
"""
import gzip
import json
import struct
import zipfile
from pathlib import Path

HERE = Path(__file__).parent / 'corpus'


def keep(target, name, data):
    folder = HERE / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'sound_{name}').write_bytes(data.encode() if isinstance(data, str) else data)


# ------------------------------------------------------------------ GGUF
def text(s):
    raw = s.encode()
    return struct.pack('<Q', len(raw)) + raw


U32, I32, F32, BOOL, STR = 4, 5, 6, 7, 8
PACK = {U32: lambda v: struct.pack('<I', v), I32: lambda v: struct.pack('<i', v), F32: lambda v: struct.pack('<f', v),
        BOOL: lambda v: bytes([v]), STR: text}
BLOCK = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 12: (256, 144),
         13: (256, 176), 14: (256, 210), 30: (1, 2)}


def gguf(entries, tensors, version=3):
    """entries: (key, type or [type], value); tensors: (name, dimensions innermost first, ggml's type)."""
    out = b'GGUF' + struct.pack('<IQQ', version, len(tensors), len(entries))
    for key, kind, value in entries:
        if isinstance(kind, list):
            out += text(key) + struct.pack('<IIQ', 9, kind[0], len(value)) + b''.join(map(PACK[kind[0]], value))
        else:
            out += text(key) + struct.pack('<I', kind) + PACK[kind](value)
    data = b''
    for name, dims, kind in tensors:
        out += text(name) + struct.pack('<I', len(dims)) + struct.pack(f'<{len(dims)}Q', *dims)
        out += struct.pack('<IQ', kind, len(data))
        count = 1
        for dim in dims:
            count *= dim
        per, size = BLOCK[kind]
        data += b'\x00\x3c' * (count // per * size // 2)
        data += bytes(-len(data) % 32)
    return out + bytes(-len(out) % 32) + data


def sizes(name, **more):
    plain = dict(embedding_length=32, block_count=1, feed_forward_length=32, context_length=64)
    entries = [('general.architecture', STR, name)]
    entries += [(f'{name}.{key}', U32, value) for key, value in plain.items()]
    entries += [(f'{name}.attention.head_count', U32, 2), (f'{name}.attention.head_count_kv', U32, 1),
                (f'{name}.attention.layer_norm_rms_epsilon', F32, 1e-5)]
    for key, (kind, value) in more.items():
        entries.append((f'{name}.{key.replace("__", ".")}', kind, value))
    return entries


def letters():
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in own] + [chr(0x100 + n) for n in range(256 - len(own))]


def byte_level(pre, spelled=256, **more):
    tokens = ['<|im_end|>', '<|im_start|>', *letters()[:spelled], 'he', 'ip', 'hip']
    kinds = [3, 3] + [1] * (len(tokens) - 2)
    entries = [('tokenizer.ggml.model', STR, 'gpt2'), ('tokenizer.ggml.pre', STR, pre),
               ('tokenizer.ggml.tokens', [STR], tokens), ('tokenizer.ggml.token_type', [I32], kinds),
               ('tokenizer.ggml.merges', [STR], ['h e', 'i p', 'h ip']), ('tokenizer.ggml.eos_token_id', U32, 0)]
    return entries + [(f'tokenizer.ggml.{key}', *value) for key, value in more.items()], len(tokens)


def sentence_piece(spelled=256):
    tokens = ['<unk>', '<s>', '</s>', *[f'<0x{b:02X}>' for b in range(spelled)], '\u2581', 't', 'h', 'e', 'he', 'the', '\u2581the']
    kinds = [2, 3, 3] + [6] * spelled + [1] * (len(tokens) - spelled - 3)
    scores = [-float(n) for n in range(len(tokens))]
    return [('tokenizer.ggml.model', STR, 'llama'), ('tokenizer.ggml.tokens', [STR], tokens),
            ('tokenizer.ggml.token_type', [I32], kinds), ('tokenizer.ggml.scores', [F32], scores),
            ('tokenizer.ggml.unknown_token_id', U32, 0), ('tokenizer.ggml.bos_token_id', U32, 1),
            ('tokenizer.ggml.eos_token_id', U32, 2), ('tokenizer.ggml.add_bos_token', BOOL, True),
            ('tokenizer.ggml.add_space_prefix', BOOL, True)], len(tokens)


CHAT = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def language_model(name, data):
    keep('gguf', name, data)
    keep('vocabulary', name, data)


def models():
    words, count = byte_level('smollm')
    chat = [('tokenizer.chat_template', STR, CHAT)]
    language_model('llama', gguf(sizes('llama') + words + chat, [('token_embd.weight', [32, count], 8), ('output_norm.weight', [32], 0)]))
    words, count = byte_level('qwen2', 80)
    language_model('qwen2', gguf(sizes('qwen2', rope__freq_base=(F32, 1e6)) + words, [('token_embd.weight', [32, count], 2)], 2))
    words, count = byte_level('llama-bpe', 80, bos_token_id=(U32, 1), add_bos_token=(BOOL, True))
    language_model('llama3', gguf(sizes('llama') + words, [('rope_freqs.weight', [8], 0), ('token_embd.weight', [32, count], 30)]))
    words, count = sentence_piece(0)
    yarn = dict(rope__scaling__type=(STR, 'yarn'), rope__scaling__factor=(F32, 4.0),
                rope__scaling__original_context_length=(U32, 16))
    language_model('yarn', gguf(sizes('llama', **yarn) + words, [('token_embd.weight', [32, count], 6)]))
    window = dict(attention__sliding_window=(U32, 8), attention__key_length=(U32, 16))
    language_model('gemma3', gguf(sizes('gemma3', **window) + words, [('token_embd.weight', [32, count], 7)]))
    words, count = sentence_piece()
    language_model('qwen3', gguf(sizes('qwen3', rope__scaling__type=(STR, 'linear'), rope__scaling__factor=(F32, 2.0)) + words, [
        ('token_embd.weight', [32, count], 3), ('k', [256, 1, 1, 2], 12), ('l', [256, 1], 13), ('m', [256], 14)]))


# ------------------------------------------------------------------ safetensors
WIDTH = {'F64': 8, 'F32': 4, 'F16': 2, 'BF16': 2, 'I64': 8, 'I32': 4, 'I16': 2, 'I8': 1, 'U8': 1, 'BOOL': 1}


def header(tensors, metadata=None):
    entries, at = {}, 0
    if metadata:
        entries['__metadata__'] = metadata
    for name, dtype, shape in tensors:
        size = WIDTH[dtype]
        for dim in shape:
            size *= dim
        entries[name] = {'dtype': dtype, 'shape': shape, 'data_offsets': [at, at + size]}
        at += size
    return json.dumps(entries, separators=(',', ':')), at


def containers():
    every = [(f't.{dtype}', dtype, [2, 3]) for dtype in WIDTH]
    keep('safetensors', 'types', header(every)[0])
    keep('safetensors', 'scalar', header([('a', 'F32', []), ('empty', 'F16', [0, 4])], {'format': 'pt'})[0])
    packed = [('w', 'I8', [2, 32]), ('w.scale', 'F16', [2, 1]), ('v', 'U8', [2, 32]), ('v.scale', 'F16', [2, 2]),
              ('u', 'U8', [1, 16]), ('u.scale', 'F16', [1, 1]), ('u.min', 'F16', [1, 1]), ('bias', 'F32', [2])]
    packed.sort(key=lambda tensor: -WIDTH[tensor[1]])
    keep('safetensors', 'packed', header(packed)[0])
    raw, size = header([('a.weight', 'F32', [2, 2]), ('a.bias', 'BF16', [2])])
    keep('safetensors', 'file', struct.pack('<Q', len(raw)) + raw.encode() + bytes(size))
    zeus = dict(image_size=224, grid=14, channels=1, stem=[16, 32, 64, 96], dim=96, depth=2, heads=6, mlp_ratio=4, text_dim=384,
                prompt_dim=64, decoder_depth=2, decoder_heads=4, decoder_mlp=128, attention_downsample=2, up_dims=[32, 16, 8],
                low_res=112, ln_eps=1e-6, decoder_ln_eps=1e-5)
    keep('safetensors', 'zeus', header([('a', 'F32', [4])], {'config': json.dumps(zeus)})[0])


# ------------------------------------------------------------------ NIfTI
KIND = {2: 'B', 4: 'h', 8: 'i', 16: 'f', 64: 'd', 256: 'b', 512: 'H', 768: 'I', 1024: 'q', 1280: 'Q'}


def nifti(code, end='<', two=False, pair=False, extension=b'', scaling=(0.0, 0.0), form='sform', shape=(3, 4, 2)):
    size = struct.calcsize(KIND[code])
    data = [n % 4 for n in range(shape[0] * shape[1] * shape[2])]
    voxels = struct.pack(f'{end}{len(data)}{KIND[code]}', *data)
    begin = (544 if two else 352) + len(extension)
    head = bytearray(540 if two else 348)
    real = 'd' if two else 'f'
    whole = 'q' if two else 'h'
    code_kind = 'i' if two else 'h'

    def put(at, kind, *values):
        struct.pack_into(end + kind, head, at, *values)

    at = dict(dim=16, datatype=12, bitpix=14, pixdim=104, offset=168, slope=176, qform=344, sform=348, quatern=352, srow=400,
              units=500) if two else dict(dim=40, datatype=70, bitpix=72, pixdim=76, offset=108, slope=112, qform=252,
                                          sform=254, quatern=256, srow=280, units=123)
    put(0, 'i', len(head))
    put(at['dim'], '8' + whole, 3, *shape, 1, 1, 1, 1)
    put(at['datatype'], 'h', code)
    put(at['bitpix'], 'h', 8 * size)
    put(at['pixdim'], '8' + real, -1, 1, 1.5, 2, 1, 1, 1, 1)
    put(at['offset'], 'q' if two else 'f', 0 if pair else begin)
    put(at['slope'], '2' + real, *scaling)
    if two:
        put(at['units'], 'i', 2)
    else:
        head[at['units']] = 2
    if form == 'sform':
        put(at['sform'], code_kind, 1)
        put(at['srow'], '12' + real, 0, -1.5, 0, 4, 1, 0, 0, -3, 0, 0, 2, 5)
    elif form == 'qform':
        put(at['qform'], code_kind, 1)
        put(at['quatern'], '6' + real, 0.5, 0.5, 0.5, -1, -2, -3)
    magic = (b'ni' if pair else b'n+') + (b'2\0\r\n\x1a\n' if two else b'1\0')
    head[(4 if two else 344):(4 if two else 344) + len(magic)] = magic
    return bytes(head) + bytes([bool(extension), 0, 0, 0]) + extension + voxels


def extension(code, payload, end='<'):
    size = (8 + len(payload) + 15) // 16 * 16
    return struct.pack(end + 'ii', size, code) + payload.ljust(size - 8, b'\0')


def volumes():
    table = (b'<CaretExtension><VolumeInformation><LabelTable><Label Key="1" Red="1"><![CDATA[left]]></Label>'
             b'<Label Key="2">a &amp; b</Label></LabelTable></VolumeInformation></CaretExtension>')
    for code in KIND:
        keep('nifti', f'type_{code}', nifti(code, '>' if code in (4, 64) else '<', two=code in (8, 64, 1280)))
    keep('nifti', 'scaled', nifti(4, scaling=(0.5, -1.0), form='qform'))
    keep('nifti', 'labels', nifti(2, extension=extension(30, table) + extension(6, b'a comment')))
    keep('nifti', 'pair', nifti(512, pair=True))
    keep('nifti', 'pair_two', nifti(16, '>', two=True, pair=True, form=''))
    keep('nifti', 'gzip', gzip.compress(nifti(2), mtime=0))


# ------------------------------------------------------------------ MGH and NRRD
def others():
    for code, kind in {0: 'B', 1: 'i', 3: 'f', 4: 'h'}.items():
        place = struct.pack('>h15f', 1, 1, 1.5, 2, -1, 0, 0, 0, 0, -1, 0, 1, 0, 3, -2, 1) if code else bytes(62)
        head = struct.pack('>7i', 1, 3, 4, 2, 1, code, 0) + place
        keep('mgh', f'type_{code}', head.ljust(284, b'\0') + struct.pack(f'>24{kind}', *(n % 4 for n in range(24))) + bytes(20))
    grid = ('space: left-posterior-superior\nspace directions: (-1,0,0) (0,1.5,0) (0,0.5,2)\nspace origin: (3,-2,1)\n'
            'kinds: domain domain domain\n')
    plain = 'dimension: 3\nsizes: 3 4 2\n'
    voxels = struct.pack('<24h', *(n % 4 for n in range(24)))
    little = 'type: short\nendian: little\n'
    keep('nrrd', 'raw', f'NRRD0005\n# a comment\n{little}{plain}{grid}encoding: raw\na key:=its value\n\n'.encode() + voxels)
    keep('nrrd', 'gzip', f'NRRD0004\n{little}{plain}{grid}encoding: gzip\n\n'.encode() + gzip.compress(voxels, mtime=0))
    keep('nrrd', 'digits', f'NRRD0001\ntype: uchar\n{plain}spacings: 1 1.5 2\nencoding: ascii\n\n' + ' 1 2\n0' * 8)
    keep('nrrd', 'skip', f'NRRD0005\ntype: float\nendian: big\n{plain}{grid}line skip: 1\nbyte skip: 2\nencoding: raw\n\nx\nyy'.encode()
         + struct.pack('>24f', *(n / 4 for n in range(24))))


# ------------------------------------------------------------------ checkpoints to be converted
def checkpoints():
    goldens = HERE.parent.parent / 'tests' / 'goldens'
    for name in ['plain', 'protocol4', 'wrapped', 'extra']:
        with zipfile.ZipFile(goldens / f'convert_{name}.pth') as archive:
            pickle = next(file for file in archive.namelist() if file.endswith('data.pkl'))
            keep('pickle', name, archive.read(pickle))
    network = goldens / 'convert_tfjs'
    model = json.loads((network / 'model.json').read_text())
    data = b''.join((network / path).read_bytes() for path in model['weightsManifest'][0]['paths'])
    model['weightsManifest'][0]['paths'] = ['weights.bin']
    colors = (network / 'colormap.json').read_bytes()
    for name, indent in [('small', None), ('indented', 1)]:
        text = json.dumps(model, indent=indent).encode()
        keep('tfjs', name, b'== model.json\n' + text + b'\n== weights.bin\n' + data)
    keep('tfjs', 'named', b'== model.json\n' + text + b'\n== colormap.json\n' + colors + b'\n== weights.bin\n' + data)


# ------------------------------------------------------------------ templates
TEMPLATES = {
    'chatml': CHAT,
    'parts': "{% for m in messages %}{{ m.role | capitalize }}: {% if m.content is string %}{{ m.content }}{% else %}"
             "{% for p in m.content %}{% if p.type == 'image' %}<image>{% else %}{{ p.text }}{% endif %}{% endfor %}"
             "{% endif %}<end>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}",
    'namespace': "{{ bos_token }}{%- set ns = namespace(first=true) -%}{%- for m in messages -%}{%- if not ns.first -%}"
                 "{{ eos_token }}{%- endif -%}{%- set ns.first = false -%}{{ m['content'] | trim }}{%- endfor -%}",
    'refuses': "{% if messages[0].role == 'tool' %}{{ raise_exception('no tools: ' ~ messages[0].role) }}{% endif %}"
               "{{ messages | length }}",
    'macro': "{% macro say(m) %}[{{ m.role.upper() }}] {{ m.content | string | replace('\\n', ' ') }}{% endmacro %}"
             "{% for m in messages if m.role != 'tool' %}{{ say(m) }}{% if loop.last %}{% break %}{% endif %}{% endfor %}",
    'generation': "{% for m in messages %}{% generation %}{{ m.content }}{%- endgeneration %}{% endfor %}",
    'filters': "{{ messages | map(attribute='role') | list | tojson }}{{ 'a,b'.split(',') | join('-') }}"
               "{{ [1, 2.5, none, true] | last }}{{ {'a': 1} | items | first }}{{ 'x' * 3 }}{{ 7 // 2 }}{{ 'ab'[::-1] }}"
               "{{ range(3) | sum }}{{ messages[-1:] | length }}{{ 'A'.lower().startswith('a') }}",
}


def templates():
    for name, source in TEMPLATES.items():
        keep('template', name, source)


# ------------------------------------------------------------------ folders
def folder(name, **files):
    parts = []
    for file, content in files.items():
        content = content if isinstance(content, str) else json.dumps(content, indent=1)
        parts.append(f'== {file.replace("__", ".")}\n{content}\n')
    keep('folder', name, ''.join(parts))


def folders():
    small = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=64,
                 max_position_embeddings=128, rms_norm_eps=1e-5, vocab_size=64, tie_word_embeddings=True)
    llama3 = dict(rope_type='llama3', factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                  original_max_position_embeddings=32)
    folder('llama3', config__json=dict(small, model_type='llama', rope_theta=5e5, rope_scaling=llama3),
           tokenizer_config__json=dict(chat_template=CHAT))
    folder('mistral', config__json=dict(small, model_type='mistral', sliding_window=16, head_dim=16, hidden_act='silu'))
    folder('qwen2', config__json=dict(small, model_type='qwen2', use_sliding_window=True, max_window_layers=1,
                                      sliding_window=8, rope_scaling=dict(type='yarn', factor=2.0)),
           tokenizer_config__json=dict(chat_template=[dict(name='tool', template='x'), dict(name='default', template=CHAT)]))
    folder('qwen3', config__json=dict(small, model_type='qwen3', layer_types=['full_attention', 'sliding_attention'],
                                      sliding_window=8, rope_parameters=dict(rope_type='linear', rope_theta=1e4, factor=2.0)))
    kinds = dict(full_attention=dict(rope_theta=1e6, rope_type='default'), sliding_attention=dict(rope_theta=1e4))
    folder('gemma3', config__json=dict(small, model_type='gemma3_text', hidden_activation='gelu_pytorch_tanh',
                                       query_pre_attn_scalar=16, sliding_window=8, sliding_window_pattern=2,
                                       rope_parameters=kinds))
    folder('bert_named', config__json=dict(model_type='bert', hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
                                           vocab_size=64, max_position_embeddings=128, type_vocab_size=1, hidden_act='gelu_new'))
    folder('swin', config__json=dict(model_type='swin', image_size=32, patch_size=4, embed_dim=16, depths=[1, 2], num_heads=[1, 2],
                                     window_size=4, mlp_ratio=2.0, qkv_bias=False, layer_norm_eps=1e-5))
    tower = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32,
                 patch_size=8)
    mean = dict(image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5])
    folder('idefics3', config__json=dict(model_type='idefics3', scale_factor=2, image_token_id=0, vision_config=tower,
                                         text_config=dict(small, model_type='llama')),
           preprocessor_config__json=dict(mean, do_resize=True, size=dict(longest_edge=64), resample=1,
                                          do_image_splitting=True, max_image_size=dict(longest_edge=32), do_rescale=True,
                                          rescale_factor=1 / 255, do_normalize=True),
           chat_template__json=dict(chat_template=TEMPLATES['parts']))
    folder('llava', config__json=dict(model_type='llava', image_token_index=0, vision_feature_layer=-2,
                                      vision_feature_select_strategy='default', vision_config=dict(tower, model_type='clip_vision_model'),
                                      text_config=dict(small, model_type='llama')),
           processor_config__json=dict(image_processor=dict(mean, size=dict(shortest_edge=32), resample=3, do_center_crop=True,
                                                            crop_size=dict(height=32, width=32), do_pad=True)))
    folder('bert', config__json=dict(model_type='bert', vocab_size=64, hidden_size=32, num_hidden_layers=2,
                                     num_attention_heads=2, intermediate_size=64, max_position_embeddings=64,
                                     type_vocab_size=2, layer_norm_eps=1e-12, hidden_act='gelu'))
    letters = [*'abcdefghijklmnopqrstuvwxyz0123456789,']
    tokens = [*letters, *(letter + '</w>' for letter in letters), 'le', '<|startoftext|>', '<|endoftext|>']
    folder('clipseg', config__json=dict(model_type='clipseg', extract_layers=[0, 1], reduce_dim=16, vision_config=dict(tower, patch_size=16),
                                        text_config=dict(small, vocab_size=len(tokens))),
           preprocessor_config__json=dict(mean, do_resize=True, size=32, resample=2),
           vocab__json={token: n for n, token in enumerate(tokens)}, merges__txt='#version: 0.2\nl e\n')
    names = ['model.embed_tokens.weight', 'model.text_model.embed_tokens.weight', 'model.language_model.embed_tokens.weight',
             'model.vision_tower.embeddings.class_embedding', 'model.multi_modal_projector.linear_1.weight',
             'embeddings.word_embeddings.weight']
    index = dict(metadata={}, weight_map={name: 'model-00001-of-00001.safetensors' for name in names})
    folder('sharded', config__json=dict(small, model_type='llama'), model__safetensors__index__json=index,
           chat_template__jinja=CHAT)


# ------------------------------------------------------------------ tokenizers
def tokenizer(model, **more):
    control = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    added = [dict(control, id=0, content='</s>'), dict(control, id=1, content='[UNK]')]
    whole = dict(version='1.0', truncation=None, padding=None, added_tokens=added, normalizer=None, pre_tokenizer=None,
                 post_processor=None, decoder=None, model=model)
    return json.dumps(dict(whole, **more), ensure_ascii=False, indent=1)


def tokenizers():
    def vocab(*words):
        return {word: n for n, word in enumerate(['</s>', '[UNK]', *words])}

    keep('tokenizer', 'word_level', tokenizer(dict(type='WordLevel', vocab=vocab('the', 'left'), unk_token='[UNK]'),
                                              pre_tokenizer=dict(type='Whitespace')))
    pair = [dict(Sequence=dict(id='A', type_id=0)), dict(SpecialToken=dict(id='</s>', type_id=0))]
    post = dict(type='TemplateProcessing', single=pair, pair=pair + [dict(Sequence=dict(id='B', type_id=1))],
                special_tokens={'</s>': dict(id='</s>', ids=[0], tokens=['</s>'])})
    keep('tokenizer', 'word_piece', tokenizer(
        dict(type='WordPiece', unk_token='[UNK]', continuing_subword_prefix='##', max_input_chars_per_word=100,
             vocab=vocab('the', 'left', 'hip', '##po', '##campus')),
        normalizer=dict(type='BertNormalizer', clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True),
        pre_tokenizer=dict(type='BertPreTokenizer'), post_processor=post, decoder=dict(type='WordPiece', prefix='##', cleanup=True),
        truncation=dict(direction='Right', max_length=8, strategy='LongestFirst', stride=2),
        padding=dict(strategy=dict(Fixed=8), direction='Right', pad_to_multiple_of=None, pad_id=0, pad_type_id=0, pad_token='</s>')))
    level = dict(type='ByteLevel', add_prefix_space=False, trim_offsets=True, use_regex=True)
    keep('tokenizer', 'byte_level', tokenizer(
        dict(type='BPE', dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False,
             byte_fallback=False, ignore_merges=False, vocab=vocab(*letters(), 'he', 'the'), merges=[['h', 'e'], ['t', 'he']]),
        normalizer=dict(type='NFC'), pre_tokenizer=level, decoder=level, post_processor=level))
    pieces = [['</s>', 0.0], ['[UNK]', -1.0], ['\u2581', -2.0], ['\u2581the', -3.0], ['l', -4.0], ['eft', -5.0]]
    meta = dict(type='Metaspace', replacement='\u2581', prepend_scheme='always', split=True)
    keep('tokenizer', 'unigram', tokenizer(
        dict(type='Unigram', unk_id=1, vocab=pieces, byte_fallback=False), pre_tokenizer=meta, decoder=meta,
        normalizer=dict(type='Sequence', normalizers=[dict(type='Strip', strip_left=True, strip_right=True),
                                                      dict(type='Lowercase'), dict(type='NFKD'), dict(type='StripAccents'),
                                                      dict(type='Replace', pattern=dict(Regex=' {2,}'), content=' '),
                                                      dict(type='Prepend', prepend='\u2581')])))
    split = dict(type='Split', pattern=dict(Regex="[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)|\\s+"), behavior='Isolated', invert=False)
    keep('tokenizer', 'split', tokenizer(
        dict(type='BPE', unk_token='[UNK]', byte_fallback=True, fuse_unk=True,
             vocab=vocab('t', 'h', 'e', 'th', *[f'<0x{b:02X}>' for b in range(0x40, 0x50)]), merges=['t h']),
        pre_tokenizer=dict(type='Sequence', pretokenizers=[split, dict(type='Digits', individual_digits=True),
                                                           dict(type='Punctuation', behavior='Contiguous')]),
        decoder=dict(type='Sequence', decoders=[dict(type='ByteFallback'), dict(type='Fuse')])))


def word_lists():
    special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
    words = special + ['the', 'left', 'hip', '##po', '##campus', 'é', '中', ',', 'the']
    keep('word_list', 'alone', '== vocab.txt\n' + '\n'.join(words) + '\n')
    cased = dict(do_lower_case=False, strip_accents=True, tokenize_chinese_chars=False)
    keep('word_list', 'cased', f'== tokenizer_config.json\n{json.dumps(cased)}\n== vocab.txt\n' + '\r\n'.join(words))
    piece = dict(type='WordPiece', unk_token='[UNK]', continuing_subword_prefix='##', max_input_chars_per_word=100,
                 vocab={word: n for n, word in enumerate(['</s>', '[UNK]', 'the', '##po'])})
    normalizer = dict(type='BertNormalizer', clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    keep('word_list', 'settled', f'== tokenizer_config.json\n{json.dumps(cased)}\n== tokenizer.json\n{tokenizer(piece, normalizer=normalizer)}')
    named = dict(cls_token='<s>', sep_token=dict(content='</s>', lstrip=False), unk_token='<unk>', pad_token='<pad>', mask_token='<mask>')
    keep('word_list', 'named', f'== tokenizer_config.json\n{json.dumps(named)}\n== vocab.txt\n'
         + '\n'.join(['<s>', '<pad>', '</s>', '<unk>', '<mask>', 'a', '##b', '', '##']) + '\n')


# ------------------------------------------------------------------ lists, results, requests
def rest():
    keep('list', 'csv', 'case,t1,flair\nsub-01,a.nii.gz,b.nii\n"sub 02",../c.nii,\n')
    keep('list', 'mark', '\ufeffcase,volume\r\na,"x, y.nii"\r\n')
    keep('list', 'json', json.dumps([dict(case='a', t1='a.nii', t2=None), dict(Case='b', ct='b.nii.gz')]))
    here = dict(card=dict(name='mine', licence='MIT', limits=['few']), views=['axial'], fusion='hybrid',
                labels=[dict(name='ring', look='dark', places=['in the middle'], labels=dict(both=1)),
                        dict(name='lump', synonyms=['bump'], sided=True, tissue='gm', parts=2, labels=dict(both=2, left=3, right=4))])
    asked = dict(system='You are a radiologist. <facts>', ask='<instance>, <look>, <place>, <modality> <view> <kind>', examples=[dict(ask='a', answer='b')])
    words = dict(stock='Segment the <instance> in this <view> <kind>.', instruction=asked, region='the pelvis')
    sam = dict(image_encoders=dict(t1='a', t2='b'), image_encoder='c', mask_decoder='d', text_projection='e', preprocessing='medsam',
               text_encoder=dict(path='f', pooling='cls'), language_model=dict(id='g'))
    keep('model', 'sam', f'== model.json\n{json.dumps(dict(here, parts=sam, prompts=words), indent=1)}\n')
    there = dict({'$schema': 'urn:keraunos:model:1'}, card=dict(name='mine'), labels='structures.json', prompts=dict(instruction='instruction.json'),
                 parts=dict(segmentation='a', text_encoder=dict(id='b')))
    keep('model', 'whole', f'== model.json\n{json.dumps(there, indent=1)}\n== structures.json\n{json.dumps(here["labels"])}\n'
         f'== instruction.json\n{json.dumps(asked)}\n')
    keep('model', 'bare', f'== model.json\n{json.dumps(dict(card=dict(name="mine"), parts=dict(segmentation="a", text_encoder=dict(path="b"))))}\n')
    row = dict(label=1, name='left thalamus', present=True, volume_ml=1.5, mean_intensity=2.0, median_intensity=2.0,
               touches_border=False, predicted_dice=0.9, labelled_voxels=6)
    none = dict(row, label=2, name='fornix', present=False, volume_ml=None, mean_intensity=None, touches_border=None)
    report = dict(version='keraunos 0.1.0', disclaimer='not a medical device', adapter=dict(name='llvmpipe'),
                  inputs=[dict(path='scan.nii', sha256='0' * 64, modality='T1')], warnings=['an estimate'],
                  instructions=[dict(structure='left thalamus', modality='T1', text='deep and grey', author='stock')])
    batch = dict(version='1', cases=dict(a=dict(status='done', inputs=['a.nii'], volumes_ml=dict(fornix=None, thalamus=2.5))))
    parts = [('scan_report.json', json.dumps(report, indent=1)), ('scan_stats.json', json.dumps([row, none], indent=1)),
             ('scan_seg-keraunos_dseg.tsv', 'index\tname\tcolor\n1\tleft thalamus\t#e64b3c\n2\tfornix\t#46b4f0'),
             ('keraunos_batch.json', json.dumps(batch, indent=1))]
    keep('report', 'whole', ''.join(f'== {name}\n{content}\n' for name, content in parts))
    keep('report', 'view', ''.join(f'== {name}\n{content}\n' for name, content in parts[:2]))
    keep('report', 'batch', f'== keraunos_batch.json\n{parts[3][1]}\n')
    token = '0123456789abcdef0123456789abcdef'
    keep('request', 'get', f'GET /{token}/ HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept: */*\r\n\r\n')
    keep('request', 'head', f'HEAD /{token}/ HTTP/1.0\r\nhost: LOCALHOST:8080\r\n\r\n')
    keep('request', 'post', f'POST /{token}/ HTTP/1.1\r\nHost: localhost:8080\r\nContent-Length: 2\r\n\r\n{{}}')
    keep('request', 'elsewhere', f'GET /{token}/../x?y HTTP/1.1\r\nHost: example.org\r\nOrigin: null\r\n\r\n')


models()
containers()
volumes()
others()
checkpoints()
templates()
folders()
tokenizers()
word_lists()
rest()
print(sum(file.stat().st_size for file in HERE.rglob('*') if file.is_file()), 'bytes')
