"""Sentences: reproducible, many, and none of the negatives is a fair request."""

import json
import random
from pathlib import Path

import torch

from recipe.anatomy import NOTHING, STRUCTURES, TARGETS
from recipe.prompts import BRAIN_PARTS, UNSEEN, UNSEEN_PARTS, VIEWS, negative
from recipe.rng import Rng
from recipe.text import CELLS, Bank, padded, write_sentences, written_sentences


def test_sentences_are_reproducible_and_cells_ascend():
    sentences, cells = write_sentences(3, 400, 0)
    assert (sentences, cells) == write_sentences(3, 400, 0)
    assert cells == sorted(cells) and set(cells) == set(range(NOTHING * CELLS + 1))
    frames = [(template.split('{')[0], template.split('}')[-1]) for template in UNSEEN]
    assert not any(sentence.startswith(start) and sentence.endswith(end)
                   for sentence in sentences for start, end in frames)


def test_thousands_of_negatives_none_names_a_structure_of_this_image():
    rng = random.Random(0)
    drawn = {negative(rng) for _ in range(5000)}
    assert len(drawn) > 4000
    names = [name for structure in STRUCTURES.values() for name in structure.names
             if len(name) > 7]
    unseen = {part for part in UNSEEN_PARTS if any(part in sentence for sentence in drawn)}
    assert not unseen and len(UNSEEN_PARTS) == 20
    for sentence in drawn:
        for part in BRAIN_PARTS:            # `white matter lesions` are no white matter
            sentence = sentence.replace(part, '').replace(part.capitalize(), '')
        if any(name.lower() in sentence.lower() for name in names):
            # only ever in an image of another kind
            assert ' in this ' in sentence


def test_bank_draws_from_the_right_cell(bank, tmp_path):
    target = torch.tensor([[0, len(TARGETS) - 1, NOTHING]])
    drawn = bank.pick(target, torch.tensor([2]), torch.tensor([1]), Rng('cpu', 0, 0))[0]
    assert (drawn // 2).tolist() == [7, (len(TARGETS) - 1) * CELLS + 7, NOTHING * CELLS]
    assert bank.targets()[drawn].tolist() == target[0].tolist()
    bank.save(tmp_path / 'bank.safetensors', ['a'])
    again = Bank.load(tmp_path / 'bank.safetensors')
    assert all(torch.equal(a, b) for a, b in zip(vars(again).values(), vars(bank).values()))


def test_sentences_come_back_whole_and_padded():
    states = [torch.full((length, 384), float(length)) for length in (3, 1, 2)]
    bank = Bank.build(states, torch.tensor([2, 1]))
    got, real = bank.look_up(torch.tensor([[2, 0]]))
    assert got.shape == (1, 2, 3, 384)
    assert real.tolist() == [[[True, True, False], [True, True, True]]]
    assert (got[0, 0, :2] == 2).all() and (got[0, 1] == 3).all()
    want, want_real = padded([states[2], states[0]])
    assert torch.equal(real[0], want_real)
    assert torch.equal(got[0][real[0]], want[want_real])


def test_written_instructions_join_their_cells():
    line = json.dumps({'structure': 'putamen', 'side': 'left', 'modality': 'pd',
                       'text': 'Outline the left putamen in this PD-weighted <view> MRI.'})
    written = written_sentences([line, line])
    assert len(written) == 3
    sentences, cells = write_sentences(2, 10, 0, written)
    for view in VIEWS:
        at = sentences.index(f'Outline the left putamen in this PD-weighted {view} MRI.')
        target, cell = divmod(cells[at], CELLS)
        assert TARGETS[target] == ('putamen', 'left')
        assert divmod(cell, len(VIEWS)) == (2, VIEWS.index(view))


def test_every_word_the_engine_knows_is_trained_on():
    trained = {structure.names[0]: structure for structure in STRUCTURES.values()}
    for entry in json.loads((Path(__file__).parents[2] / 'structures.json').read_text()):
        structure = trained[entry['name']]
        assert set(entry['synonyms']) <= set(structure.names)
        assert entry['sided'] == structure.sided
