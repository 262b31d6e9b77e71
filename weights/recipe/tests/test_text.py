"""Sentences: reproducible, many, and none of the negatives is a fair request."""

import json
import random
from pathlib import Path

import numpy as np
import torch

from recipe.anatomy import NOTHING, STRUCTURES, TARGETS
from recipe.prompts import UNSEEN, negative
from recipe.rng import Rng
from recipe.text import CELLS, Bank, whitening, write_sentences


def test_sentences_are_reproducible_and_cells_ascend():
    sentences, cells = write_sentences(3, 400, 0)
    assert (sentences, cells) == write_sentences(3, 400, 0)
    assert cells == sorted(cells) and set(cells) == set(range(NOTHING * CELLS + 1))
    frames = [template.split('{')[0] for template in UNSEEN if not template.startswith('{')]
    assert not any(sentence.startswith(frame) for sentence in sentences for frame in frames)


def test_thousands_of_negatives_none_names_a_structure_of_this_image():
    rng = random.Random(0)
    drawn = {negative(rng) for _ in range(5000)}
    assert len(drawn) > 4000
    names = [name for structure in STRUCTURES.values() for name in structure.names
             if len(name) > 7]
    for sentence in drawn:
        if any(name.lower() in sentence.lower() for name in names):
            # only ever in an image of another kind
            assert ' in this ' in sentence


def test_bank_draws_from_the_right_cell(bank, tmp_path):
    bank.embeddings = torch.arange(len(bank.embeddings)).float()[:, None].expand(-1, 384)
    target = torch.tensor([[0, len(TARGETS) - 1, NOTHING]])
    drawn = bank.draw(target, torch.tensor([2]), torch.tensor([1]), Rng('cpu', 0, 0))[0, :, 0] // 2
    assert drawn.tolist() == [7, (len(TARGETS) - 1) * CELLS + 7, NOTHING * CELLS]
    bank.save(tmp_path / 'bank.safetensors', ['a'])
    assert torch.equal(Bank.load(tmp_path / 'bank.safetensors').embeddings, bank.embeddings)


def test_whitening_shrinks_what_differs_within_a_target():
    random_ = np.random.default_rng(0)
    target = np.repeat(np.arange(8), 50)
    noise = random_.normal(size=(400, 2)) * (5, 0.1)
    embeddings = torch.from_numpy(np.stack([target, target], 1) + noise).float()
    mean, white = whitening(embeddings, target, shrink=1e-3)
    x = ((embeddings - mean) @ white).numpy()
    within = np.concatenate([x[target == t] - x[target == t].mean(0) for t in range(8)])
    assert abs(np.log(within.std(0)[0] / within.std(0)[1])) < 1.2    # it was log 50


def test_every_word_the_engine_knows_is_trained_on():
    trained = {structure.names[0]: structure for structure in STRUCTURES.values()}
    for entry in json.loads((Path(__file__).parents[2] / 'structures.json').read_text()):
        structure = trained[entry['name']]
        assert set(entry['synonyms']) <= set(structure.names)
        assert entry['sided'] == structure.sided
