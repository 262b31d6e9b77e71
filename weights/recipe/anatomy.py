"""What can be asked for: classes of the label maps, and structures made of them with their names.

A *class* is one label of the anatomy (left thalamus, third ventricle); index 0 is background.
A *structure* is what a sentence can name: one or more classes, with synonyms and places.
A *target* is a structure with a side, ('thalamus', 'left'), and a row of a membership table.
"""

from dataclasses import dataclass

import numpy as np

SIDES = ('left', 'right')


# ------------------------------------------------------------------------------------- classes

@dataclass(frozen=True)
class Label:
    """A class of the label maps: FreeSurfer ids of the left (or midline) and the right part."""

    name: str
    group: str                      # painted with this group's intensity
    left: tuple[int, ...]
    right: tuple[int, ...] = ()     # empty: a midline class


OUTSIDE_IDS = (502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530)    # tissue outside the brain

LABELS = (
    Label('white', 'white', (2, 77, 78, 251, 252, 253, 254, 255), (41, 79)),
    Label('lesion', 'lesion', (25,), (57,)),
    Label('cortex', 'gray', (3, *range(1000, 2000), *range(11100, 12000)),
          (42, *range(2000, 3000), *range(12100, 13000))),
    Label('lateral', 'fluid', (4,), (43,)),
    Label('choroid', 'choroid', (31, 136), (63, 163)),
    Label('inferior', 'fluid', (5,), (44,)),
    Label('inferior choroid', 'choroid', (137,), (164,)),
    Label('cerebellar white', 'cerebellar white', (7,), (46,)),
    Label('cerebellar cortex', 'cerebellar gray', (8,), (47,)),
    Label('thalamus', 'thalamus', (10,), (49,)),
    Label('caudate', 'caudate', (11,), (50,)),
    Label('putamen', 'putamen', (12,), (51,)),
    Label('pallidum', 'pallidum', (13,), (52,)),
    Label('hippocampus', 'hippocampus', (17,), (53,)),
    Label('amygdala', 'amygdala', (18,), (54,)),
    Label('accumbens', 'accumbens', (26,), (58,)),
    Label('diencephalon', 'diencephalon', (28,), (60,)),
    Label('vessel', 'fluid', (30,), (62,)),
    Label('third', 'fluid', (14, 72)),
    Label('fourth', 'fluid', (15,)),
    Label('stem', 'stem', (16,)),
    Label('chiasm', 'stem', (85,)),
    Label('outer fluid', 'fluid', (24,)),
    *(Label(f'outside {i}', f'outside {i}', (i,)) for i in OUTSIDE_IDS),
)

CLASS_OF: dict[tuple[str, str], int] = {}      # (label name, side or '') -> class
GROUP_OF_CLASS = ['background']                # class -> paint group
CLASS_OF_ID = np.zeros(13000, np.uint8)        # FreeSurfer id -> class
for _label in LABELS:
    _parts = zip(SIDES, (_label.left, _label.right)) if _label.right else [('', _label.left)]
    for _side, _ids in _parts:
        CLASS_OF[_label.name, _side] = len(GROUP_OF_CLASS)
        CLASS_OF_ID[list(_ids)] = len(GROUP_OF_CLASS)
        GROUP_OF_CLASS.append(_label.group)

CLASSES = len(GROUP_OF_CLASS)
OUTSIDE = np.array([group.startswith('outside') for group in GROUP_OF_CLASS])
MIRRORED = np.arange(CLASSES)                  # class -> the same class of the other side
for (_name, _side), _class in CLASS_OF.items():
    if _side:
        MIRRORED[_class] = CLASS_OF[_name, SIDES[_side == 'left']]
BRAIN = ~OUTSIDE
BRAIN[[0, CLASS_OF['outer fluid', '']]] = False

# classes of the training-only dense head: background takes what lies outside the brain, and a
# sagittal slice, which does not show its side, knows left classes only
DENSE = np.where(OUTSIDE, 0, np.arange(CLASSES))
DENSE_SAGITTAL = np.where(OUTSIDE, 0, np.minimum(np.arange(CLASSES), MIRRORED))
DENSE_CLASSES = int(DENSE.max()) + 1


# ---------------------------------------------------------------------------------- structures

@dataclass(frozen=True)
class Structure:
    """Something a sentence can ask for."""

    names: tuple[str, ...]              # synonyms; the first is its plain name
    places: tuple[str, ...]             # phrases for where it lies
    tissue: str = ''                    # decides on words like `bright`: white, gray, fluid
    parts: tuple[str, ...] = ()         # labels with two sides
    midline: tuple[str, ...] = ()       # labels without
    sided: bool = False                 # may be asked for by side
    bilateral: bool = False             # `bilateral thalamus` is good English for both sides
    neighbours: tuple[str, ...] = ()    # structures it is easily taken for
    weight: float = 1.0                 # how often it is drawn, against the others


_WHITE = ('white', 'lesion')
_LATERAL = ('lateral', 'choroid')
_INFERIOR = ('inferior', 'inferior choroid')
_GANGLIA = ('caudate', 'putamen', 'pallidum', 'accumbens')
_DEEP = (*_GANGLIA, 'thalamus', 'hippocampus', 'amygdala', 'diencephalon')
_HEMISPHERE = (*_WHITE, 'cortex', *_LATERAL, *_INFERIOR, *_DEEP, 'vessel')


def _pair(parts, names, places, tissue, neighbours, bilateral=True, weight=1.0) -> Structure:
    return Structure(names, places, tissue, parts, (), True, bilateral, neighbours, weight)


def _whole(parts, midline, names, places, tissue, neighbours=()) -> Structure:
    return Structure(names, places, tissue, parts, midline, neighbours=neighbours, weight=1.6)


STRUCTURES = {
    'cerebral white matter': _pair(
        _WHITE,
        ('cerebral white matter', 'white matter of the cerebrum', 'cerebral WM',
         'supratentorial white matter'),
        ('the inner part of the cerebral hemispheres', 'the tissue beneath the cortex'),
        'white', ('cerebral cortex', 'cerebellar white matter'), bilateral=False),
    'cerebral cortex': _pair(
        ('cortex',),
        ('cerebral cortex', 'cortex', 'cortical gray matter', 'cortical grey matter',
         'cortical ribbon', 'cortical mantle'),
        ('the outer folded layer of the hemispheres', 'the gyri'),
        'gray', ('cerebral white matter', 'cerebellar cortex'), bilateral=False),
    'lateral ventricle': _pair(
        _LATERAL + _INFERIOR,
        ('lateral ventricle', 'lateral cerebral ventricle'),
        ('the fluid-filled cavity inside the cerebral hemisphere',
         'medial to the caudate nucleus'),
        'fluid', ('third ventricle', 'caudate', 'inferior lateral ventricle')),
    'inferior lateral ventricle': _pair(
        _INFERIOR,
        ('inferior lateral ventricle', 'temporal horn of the lateral ventricle',
         'inferior horn of the lateral ventricle'),
        ('the temporal lobe beside the hippocampus',),
        'fluid', ('hippocampus', 'lateral ventricle'), weight=0.6),
    'cerebellar white matter': _pair(
        ('cerebellar white',),
        ('cerebellar white matter', 'cerebellum white matter', 'white matter of the cerebellum',
         'arbor vitae', 'cerebellar WM'),
        ('the core of the cerebellum', 'the posterior fossa'),
        'white', ('cerebellar cortex', 'brainstem')),
    'cerebellar cortex': _pair(
        ('cerebellar cortex',),
        ('cerebellar cortex', 'cerebellum cortex', 'cerebellar gray matter',
         'gray matter of the cerebellum', 'cerebellar grey matter'),
        ('the folia of the cerebellum', 'the posterior fossa'),
        'gray', ('cerebellar white matter', 'cerebral cortex')),
    'thalamus': _pair(
        ('thalamus',),
        ('thalamus', 'thalamic nuclei', 'thalamus proper', 'dorsal thalamus'),
        ('beside the third ventricle', 'medial to the internal capsule'),
        'gray', ('ventral diencephalon', 'caudate', 'putamen')),
    'caudate': _pair(
        ('caudate',),
        ('caudate nucleus', 'caudate', 'nucleus caudatus'),
        ('along the lateral wall of the lateral ventricle', 'the frontal horn'),
        'gray', ('putamen', 'thalamus', 'accumbens', 'lateral ventricle')),
    'putamen': _pair(
        ('putamen',),
        ('putamen', 'putamen nucleus'),
        ('lateral to the globus pallidus', 'between the external capsule and the pallidum'),
        'gray', ('pallidum', 'caudate', 'thalamus')),
    'pallidum': _pair(
        ('pallidum',),
        ('pallidum', 'globus pallidus', 'pallidal nucleus'),
        ('medial to the putamen', 'lateral to the internal capsule'),
        'gray', ('putamen', 'thalamus', 'caudate')),
    'hippocampus': _pair(
        ('hippocampus',),
        ('hippocampus', 'hippocampal formation', 'hippocampus proper'),
        ('the medial temporal lobe', 'the floor of the temporal horn'),
        'gray', ('amygdala', 'inferior lateral ventricle', 'thalamus')),
    'amygdala': _pair(
        ('amygdala',),
        ('amygdala', 'amygdaloid body', 'amygdaloid complex', 'amygdaloid nucleus'),
        ('in front of the hippocampus', 'the anterior medial temporal lobe'),
        'gray', ('hippocampus', 'accumbens')),
    'accumbens': _pair(
        ('accumbens',),
        ('nucleus accumbens', 'accumbens', 'accumbens area'),
        ('the ventral striatum', 'below the head of the caudate'),
        'gray', ('caudate', 'putamen', 'amygdala')),
    'ventral diencephalon': _pair(
        ('diencephalon',),
        ('ventral diencephalon', 'ventral DC', 'subthalamic region and hypothalamus'),
        ('below the thalamus', 'above the brainstem'),
        'gray', ('thalamus', 'brainstem', 'pallidum')),
    'basal ganglia': _pair(
        _GANGLIA,
        ('basal ganglia', 'basal nuclei'),
        ('deep in the cerebral hemisphere', 'lateral to the thalamus'),
        'gray', ('thalamus', 'striatum')),
    'striatum': _pair(
        ('caudate', 'putamen', 'accumbens'),
        ('striatum', 'caudate and putamen', 'neostriatum'),
        ('the basal ganglia',),
        'gray', ('pallidum', 'lentiform nucleus'), weight=0.6),
    'lentiform nucleus': _pair(
        ('putamen', 'pallidum'),
        ('lentiform nucleus', 'lenticular nucleus', 'putamen and globus pallidus'),
        ('lateral to the internal capsule',),
        'gray', ('caudate', 'thalamus'), weight=0.6),
    'hippocampus and amygdala': _pair(
        ('hippocampus', 'amygdala'),
        ('hippocampus and amygdala', 'medial temporal lobe structures',
         'amygdala and hippocampus', 'amygdalohippocampal complex'),
        ('the medial temporal lobe',),
        'gray', ('hippocampus', 'amygdala'), weight=0.6),
    'cerebral hemisphere': _pair(
        _HEMISPHERE,
        ('cerebral hemisphere', 'hemisphere', 'cerebrum', 'half of the cerebrum'),
        ('the supratentorial brain',),
        '', ('cerebellum',)),
    'cerebellum': _pair(
        ('cerebellar white', 'cerebellar cortex'),
        ('cerebellum', 'cerebellar hemisphere'),
        ('the posterior fossa', 'behind the brainstem'),
        '', ('brainstem', 'cerebral hemisphere'), bilateral=False),
    'third ventricle': _whole(
        (), ('third',),
        ('third ventricle', '3rd ventricle'),
        ('the midline between the thalami',),
        'fluid', ('fourth ventricle', 'lateral ventricle')),
    'fourth ventricle': _whole(
        (), ('fourth',),
        ('fourth ventricle', '4th ventricle'),
        ('between the brainstem and the cerebellum',),
        'fluid', ('third ventricle', 'brainstem')),
    'brainstem': _whole(
        (), ('stem',),
        ('brainstem', 'brain stem', 'pons, midbrain and medulla', 'truncus encephali'),
        ('in front of the cerebellum', 'the midline below the diencephalon'),
        'white', ('cerebellum', 'ventral diencephalon')),
    'cerebrospinal fluid': _whole(
        _LATERAL + _INFERIOR, ('outer fluid', 'third', 'fourth'),
        ('cerebrospinal fluid', 'CSF', 'CSF spaces', 'liquor spaces'),
        ('the ventricles and the subarachnoid space', 'around the brain'),
        'fluid', ('ventricles',)),
    'ventricles': _whole(
        _LATERAL + _INFERIOR, ('third', 'fourth'),
        ('ventricles', 'ventricular system', 'cerebral ventricles', 'brain ventricles'),
        ('the fluid-filled cavities of the brain',),
        'fluid', ('cerebrospinal fluid', 'lateral ventricle')),
    'whole brain': _whole(
        (*_HEMISPHERE, 'cerebellar white', 'cerebellar cortex'),
        ('third', 'fourth', 'stem', 'chiasm'),
        ('whole brain', 'brain', 'entire brain', 'intracranial brain tissue',
         'brain parenchyma', 'encephalon'),
        ('inside the skull',),
        '', ('cerebral hemisphere', 'cerebellum')),
    'gray matter': _whole(
        ('cortex', 'cerebellar cortex', *_DEEP), (),
        ('gray matter', 'grey matter', 'all gray matter', 'GM'),
        ('the cortex and the deep nuclei',),
        'gray', ('white matter', 'deep gray matter', 'cerebral cortex')),
    'white matter': _whole(
        (*_WHITE, 'cerebellar white'), (),
        ('white matter', 'all white matter', 'WM'),
        ('the cerebrum and the cerebellum', 'the myelinated tracts'),
        'white', ('gray matter', 'cerebral white matter')),
    'deep gray matter': _whole(
        _DEEP, (),
        ('deep gray matter', 'subcortical gray matter', 'deep grey nuclei',
         'subcortical structures', 'deep gray nuclei'),
        ('the centre of the brain',),
        'gray', ('gray matter', 'basal ganglia', 'thalamus')),
}


# ------------------------------------------------------------------------------------- targets

TARGETS = tuple((name, side) for name, structure in STRUCTURES.items()
                for side in ('', *(SIDES if structure.sided else ())))
TARGET_OF = {target: row for row, target in enumerate(TARGETS)}
NOTHING = len(TARGETS)              # the row of a sentence that asks for nothing in the image


def _members(name: str, side: str) -> np.ndarray:
    """Classes of a target, [CLASSES] bool; both sides where `side` is empty."""
    structure = STRUCTURES[name]
    row = np.zeros(CLASSES, bool)
    row[[CLASS_OF[part, s] for part in structure.parts for s in SIDES if side in ('', s)]] = True
    row[[CLASS_OF[part, ''] for part in structure.midline]] = True
    return row


# [targets + 1, CLASSES]; the last row, `NOTHING`, is empty.  On a sagittal slice, which does not
# show its side, a sided target is the structure of either side.
MEMBERS = np.stack([*(_members(*target) for target in TARGETS), np.zeros(CLASSES, bool)])
MEMBERS_SAGITTAL = np.stack([*(_members(name, '') for name, _ in TARGETS),
                             np.zeros(CLASSES, bool)])

DRAW = np.array([STRUCTURES[name].weight for name, _ in TARGETS], np.float32)


def _partners() -> np.ndarray:
    """[targets + 1, targets + 1]: with which weight a second prompt is drawn beside a first.

    The other side of the same structure above all, then its neighbours on the same side.
    """
    table = np.zeros((len(TARGETS) + 1,) * 2, np.float32)
    for row, (name, side) in enumerate(TARGETS):
        structure = STRUCTURES[name]
        for other in (s for s in SIDES if side and s != side):
            table[row, TARGET_OF[name, other]] = 2 * max(1, len(structure.neighbours))
        for neighbour in structure.neighbours:
            same = (neighbour, side if STRUCTURES[neighbour].sided else '')
            table[row, TARGET_OF[same]] = 1
    table[NOTHING, NOTHING] = 1
    return table


PARTNERS = _partners()


def plain_name(name: str, side: str) -> str:
    """`left thalamus`: how a target is called where one name is enough."""
    return f'{side} {STRUCTURES[name].names[0]}'.strip()
