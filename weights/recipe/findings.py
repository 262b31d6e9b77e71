"""What a radiologist would state of a slice: sequence, view, level and the structures that are visible.

The text has one form, so that statements can be counted:

  T1-weighted MRI, axial view, level of the basal ganglia. Both sides: thalamus, putamen. Left only:
  amygdala. Midline: third ventricle.

A sagittal slice does not show its side and says `Shown:` instead.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from .anatomy import STRUCTURES, TARGET_OF

VISIBLE = 20                        # pixels of 1 mm from which on a structure is stated
SEQUENCES = ('T1-weighted MRI', 'T2-weighted MRI', 'FLAIR MRI', 'PD-weighted MRI', 'MRI')
T1, T2, FLAIR, PD, UNKNOWN = range(len(SEQUENCES))

# in the order of the text; the word of the text for each
STATED = {
    'lateral ventricle': 'lateral ventricle', 'caudate': 'caudate nucleus', 'putamen': 'putamen',
    'pallidum': 'pallidum', 'accumbens': 'nucleus accumbens', 'thalamus': 'thalamus',
    'hippocampus': 'hippocampus', 'amygdala': 'amygdala', 'third ventricle': 'third ventricle',
    'fourth ventricle': 'fourth ventricle', 'brainstem': 'brainstem', 'cerebellum': 'cerebellum',
}
BRAIN = TARGET_OF['whole brain', '']


def sides(name: str) -> tuple[str, ...]:
    """The sides that a structure is stated of; one empty side where it has none."""
    return ('left', 'right') if STRUCTURES[name].sided else ('',)


def visible(areas, view: str) -> dict[str, set[str]]:
    """The structures of at least VISIBLE pixels and their sides, from the areas of all targets [targets]."""
    found: dict[str, set[str]] = {}
    for name in STATED:
        asked = ('',) if view == 'sagittal' else sides(name)
        seen = {side for side in asked if areas[TARGET_OF[name, side]] >= VISIBLE}
        if seen:
            found[name] = seen
    return found


def level(found: Mapping[str, set[str]], view: str) -> str:
    """Where a slice lies, from what it shows."""
    def any_of(*names: str) -> bool:
        return any(name in found for name in names)

    if view == 'axial':
        if any_of('putamen', 'thalamus'):
            return 'basal ganglia'
        if any_of('cerebellum', 'brainstem'):
            return 'temporal lobes' if any_of('hippocampus', 'amygdala') else 'posterior fossa'
        return 'lateral ventricles' if any_of('lateral ventricle', 'caudate') else 'convexity'
    if view == 'coronal':
        if 'thalamus' in found:
            return 'thalamus'
        if any_of('putamen', 'caudate'):
            return 'basal ganglia'
        return 'cerebellum' if 'cerebellum' in found else 'poles'
    if any_of('third ventricle', 'fourth ventricle', 'brainstem'):
        return 'midline'
    if any_of('thalamus', 'caudate', 'putamen', 'hippocampus'):
        return 'deep nuclei'
    return 'convexity'


def findings(sequence: int, view: str, areas) -> str:
    """The text for a slice; `areas` [targets] in pixels of 1 mm."""
    start = f'{SEQUENCES[sequence]}, {view} view'
    if areas[BRAIN] < VISIBLE:
        return f'{start}. No brain visible.'
    found = visible(areas, view)
    text = f'{start}, level of the {level(found, view)}.'
    if view == 'sagittal':
        groups = {'Shown': list(found)}
    else:
        groups = {
            'Both sides': [name for name, seen in found.items() if seen == {'left', 'right'}],
            'Left only': [name for name, seen in found.items() if seen == {'left'}],
            'Right only': [name for name, seen in found.items() if seen == {'right'}],
            'Midline': [name for name, seen in found.items() if seen == {''}],
        }
    for title, names in groups.items():
        if names:
            text += f' {title}: {", ".join(STATED[name] for name in names)}.'
    return text if found else f'{text} No deep structure visible.'


class Stated(NamedTuple):
    """What a text says; None where it says nothing of the kind."""

    sequence: str
    view: str | None
    level: str | None
    structures: frozenset[tuple[str, str]]      # (side or '', the word of the text)


def stated(text: str) -> Stated:
    """Reads the text of `findings` back, or what a model made of it."""
    def first(pattern: str) -> str | None:
        found = re.search(pattern, text)
        return found and found.group(1)

    said = {'Both sides': ('left', 'right'), 'Left only': ('left',), 'Right only': ('right',)}
    groups = re.findall(r'(Both sides|Left only|Right only|Midline|Shown): ([^.]*)\.', text)
    structures = frozenset((side, name) for title, names in groups for name in names.split(', ')
                           for side in said.get(title, ('',)))
    return Stated(text.split(',')[0], first(r'(axial|coronal|sagittal) view'),
                  first(r'level of the ([^.]*)\.'), structures)
