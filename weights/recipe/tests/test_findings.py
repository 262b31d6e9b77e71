"""What is said of a slice follows from its areas, and image tokens keep their places."""

from argparse import Namespace

import pytest
import torch
from safetensors.torch import save_file

from recipe.anatomy import TARGET_OF, TARGETS
from recipe.findings import BRAIN, FLAIR, T1, VISIBLE, findings, stated
from recipe.projector import Projector, cells, export, read


def areas(**pixels: int) -> torch.Tensor:
    """Areas by target, `left_thalamus=30`; the brain is large."""
    out = torch.zeros(len(TARGETS))
    out[BRAIN] = 9000
    for name, count in pixels.items():
        side, _, rest = name.partition('_')
        sided = side in ('left', 'right')
        target = ((rest if sided else name).replace('_', ' '), side if sided else '')
        out[TARGET_OF[target]] = count
    return out


def test_sides_and_midline_are_told_apart():
    seen = areas(left_thalamus=50, right_thalamus=40, left_amygdala=VISIBLE, right_amygdala=VISIBLE - 1,
                 right_putamen=90, third_ventricle=30)
    assert findings(T1, 'axial', seen) == (
        'T1-weighted MRI, axial view, level of the basal ganglia. Both sides: thalamus. Left only: amygdala. '
        'Right only: putamen. Midline: third ventricle.')


def test_a_sagittal_slice_says_no_side():
    assert findings(FLAIR, 'sagittal', areas(thalamus=50, brainstem=40)) == (
        'FLAIR MRI, sagittal view, level of the midline. Shown: thalamus, brainstem.')


def test_a_text_is_read_back():
    seen = areas(left_thalamus=50, right_thalamus=40, left_amygdala=VISIBLE, third_ventricle=30)
    read = stated(findings(T1, 'axial', seen))
    assert read[:3] == ('T1-weighted MRI', 'axial', 'basal ganglia')
    assert read.structures == {('left', 'thalamus'), ('right', 'thalamus'), ('left', 'amygdala'), ('', 'third ventricle')}
    assert stated('Nothing of the kind.')[1:] == (None, None, frozenset())


def test_nothing_to_see():
    nothing = areas()
    assert findings(T1, 'coronal', nothing).endswith('level of the poles. No deep structure visible.')
    nothing[BRAIN] = 0
    assert findings(T1, 'coronal', nothing) == 'T1-weighted MRI, coronal view. No brain visible.'


def test_cells_are_squares_of_neighbours_in_rows():
    embedding = torch.arange(16.0).view(1, 1, 4, 4)
    assert cells(embedding).tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]]
    assert Projector(1, 8, 16)(embedding).shape == (1, 4, 8)


def test_an_exported_projector_is_where_the_next_begins(tmp_path):
    vision = tmp_path / 'vision.safetensors'
    vision.write_bytes(b'weights')
    torch.manual_seed(0)
    first, second = Projector(3, 8, 16), Projector(3, 8, 16)
    export(first, Namespace(vision=vision, language=tmp_path / 'Language.gguf'), tmp_path / 'projector.safetensors')
    second.load_state_dict(read(tmp_path / 'projector.safetensors'))
    embedding = torch.randn(2, 3, 4, 4)
    assert torch.allclose(first(embedding), second(embedding), atol=2e-3)


def test_what_is_no_projector_is_named(tmp_path):
    save_file({'linear_1.weight': torch.zeros(1)}, tmp_path / 'other.safetensors')
    with pytest.raises(SystemExit, match='other.safetensors: not a projector'):
        read(tmp_path / 'other.safetensors')
