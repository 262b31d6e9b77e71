"""The sentences a person may write: for a target in a contrast and a view, or for nothing at all.

Sentences that ask for nothing are as important as those that ask for something.  A name alone
(`hippocampus left`) is a fair request in any order, so the shuffled words below hold no structure.
"""

import random

from .anatomy import STRUCTURES

VIEWS = ('axial', 'coronal', 'sagittal')
CONTRASTS = {
    'T1': ('T1-weighted', 'T1', 'T1w', 'MPRAGE T1-weighted'),
    'T2': ('T2-weighted', 'T2', 'T2w', 'turbo spin echo T2-weighted'),
    'FLAIR/PD': ('FLAIR', 'T2-FLAIR', 'proton density', 'PD-weighted'),
    'any': ('MR', 'magnetic resonance', 'MRI', 'unknown-contrast'),
}

# --------------------------------------------------------------------------------- templates
# {n} name, {t} `the` name, {v} verb ({V} capital), {m} contrast, {w} view, {place}, {look}
# (`bright`) and {seems} (`appears bright`)

VERBS = ('segment', 'outline', 'delineate', 'find', 'show', 'mark', 'please segment',
         'highlight', 'contour', 'locate', 'extract', 'identify', 'draw the boundary of',
         'please outline', 'annotate', 'label', 'circle', 'select', 'colour', 'pick out',
         'single out', 'separate', 'display')
SHORT = (
    '{n}', '{n}', '{n} segmentation', 'mask of {t}', '{t}', '{V} {t}', '{V} {t}.', '{V} {n}',
    '{V} {t} in this image.', 'Where is {t}?', 'segmentation mask for {t}', '{n} in the brain',
    'region: {n}', '{n}, please', 'I need {t}.', 'Can you {v} {t}?',
    'The target structure is {t}.', 'structure: {n}', 'class {n}', 'Give me {t}.',
    'Draw {t}.', 'Return a mask covering {t} and nothing else.', 'ROI {n}', '{n}?',
    'Everything that belongs to {t}.', 'How large is {t}?', 'Measure {t}.', 'label map of {t}',
    'I would like to have a map of {t}', 'probability map: {n}', 'Isolate {t}.', 'Crop out {t}.',
)
LONG = (
    '{V} {t} in this {m} {w} MRI.', '{V} {t} on the {w} {m} slice.', '{m} {w} image: {n}',
    'On this {m} {w} image {v} {t}.', 'A {w} slice of a {m} scan of the brain. {V} {t}.',
    '{m} MRI, {w} view. {V} {t}.', 'Given a {w} {m} brain MRI, {v} {t}.',
    '{V} the pixels of {t} in this {m} {w} section.', 'brain {m}, {w}: {n}',
    'This is a {w} {m} image of the head; {v} {t}.', '{V} {t} ({m}, {w}).',
)
REPORT = (
    'On this {m} {w} image {t} {seems}; {v} it.',
    'The {w} {m} slice shows the brain. {V} {t}, which {seems} and lies in the region of {place}.',
    '{V} {t}, located at {place}.',
    'Findings: {n} at {place}, {look} on {m}. {V} it on the {w} image.',
    'In the {w} plane {t} can be seen at {place}. {V} it.',
    'Radiology request: volumetry of {t} on {m} {w} images. It {seems}.',
    'Patient referred for brain MRI. Sequence {m}, {w} orientation. '
    'Please {v} {t} for measurement.',
    '{V} {t} near {place} in this {m} {w} MRI.',
    'There is {n} visible at {place}; {v} its extent on this {w} slice.',
    'The structure at {place}, {t}, {seems}. {V} it.',
    '{V} {t}, the {look} structure {place}, in this {m} {w} MRI.',
    '{V} {t}, the {look} structure in {place}.',
    '{V} {t}, which {seems} on {m}, on every {w} slice.',
    'Your task is to {v} {t}. It is found at {place}.',
    'The radiologist asks to {v} {t}; on {m} images it {seems}.',
)
STYLES, STYLE_SHARES = (SHORT, LONG, REPORT), (0.40, 0.33, 0.27)

# requests put together from parts: thousands of ways to say the same
OPENERS = ('', '', '', 'Hello, ', 'Please, ', 'Next: ', 'Task: ', 'For the study ', 'Doctor, ',
           'As agreed, ', 'For planning, ', 'Quick one: ', 'Follow-up: ', 'Question: ')
REQUESTS = ('{v} {t}', '{v} {t}', 'I need {k} of {t}', 'we would like {k} of {t}',
            'give me {k} for {t}', 'make {k} of {t}', 'draw {k} around {t}', '{k} of {t} is needed',
            'let me have {k} of {t}', 'prepare {k} showing {t}', 'all of {t}', 'just {t}',
            'what belongs to {t}', 'which pixels are {t}', 'where does {t} end',
            '{t} has to be {done}', '{t} is to be {done}', '{t} should be {done}', 'only {t}',
            'tell {t} from the rest', 'cut out {t}', 'fill in {t}', '{n} to be {done}',
            'make {t} {colour}', 'colour {t} in {colour}', '{t} in {colour}', 'put {k} on {t}',
            'put a circle around {t}', 'all voxels that belong to {t}', 'every voxel inside {t}',
            'where {t} lies', 'how does {t} look', 'which area is {t}', 'in what place is {t}',
            'do you see {t}', 'is {t} in it', 'what is the shape of {t}', 'how far does {t} reach',
            'what is the outline of {t}', 'who can draw {t}', 'which of these voxels are {t}',
            'what is {t} here', 'when you see {t}, mark it', 'which side of the line is {t}', 'target: {n}', 'structure of interest: {n}')
PRODUCTS = ('a mask', 'a binary mask', 'the segmentation', 'a contour', 'the outline', 'a map',
            'a label map', 'a binary image', 'the delineation', 'the region', 'an annotation',
            'the boundary', 'a drawing', 'the extent', 'a volume measurement', 'an overlay')
DONE = ('segmented', 'outlined', 'marked', 'drawn', 'delineated', 'measured', 'labelled',
        'highlighted', 'cut out', 'shown', 'traced out', 'found')
COLOURS = ('red', 'green', 'blue', 'yellow', 'white', 'orange')
TAILS = ('', '', '', ' here', ' in this image', ' on this scan', ' in the picture', ' please',
         ', thanks', ' as exactly as you can', ' and leave the rest out', ' on {m}',
         ' in this {w} slice', ' of this patient', ' in the head', ' of the brain', ' for the report')
ENDS = ('', '', '.', '.', '!', '?')
PUT_TOGETHER = 0.3      # of the sentences that ask for something, and of those that do not

CANONICAL = 'Segment the {n} in this {m} {w} MRI.'
UNSEEN = (      # kept out of training, to measure how far the wording matters
    'Could you trace {t} for me?', 'I want a binary map of {t} from this scan.',
    'Please provide the outline for: {n}.', '{n} only, nothing else',
    'We need volumes of {t}; produce its mask from this view.', 'Paint every pixel of {t}.',
    'Which part of this picture is {t}?',
    'Radiologist note: evaluate {t} and return its borders.',
    'The {n} should be separated from everything around it.', 'Help me to see {t} on this MR image.',
)

LOOKS = {
    ('T1', 'fluid'): ('dark', 'hypointense'),
    ('T2', 'fluid'): ('bright', 'hyperintense'),
    ('FLAIR/PD', 'fluid'): ('dark', 'suppressed'),
    ('T1', 'white'): ('bright', 'light'),
    ('T2', 'white'): ('dark', 'darker than gray matter'),
    ('FLAIR/PD', 'white'): ('dark gray', 'slightly darker than gray matter'),
    ('T1', 'gray'): ('gray', 'darker than white matter'),
    ('T2', 'gray'): ('brighter than white matter', 'light gray'),
    ('FLAIR/PD', 'gray'): ('light gray', 'brighter than white matter'),
}
ANY_LOOK = ('visible', 'well seen', 'seen')


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def name_phrase(rng: random.Random, name: str, side: str) -> str:
    """A synonym of the structure, with its side or with words for both sides."""
    structure = STRUCTURES[name]
    word = rng.choice(structure.names)
    if side:
        letter = side[0].upper()
        forms = [f'{side} {word}'] * 5 + [f'{side}-sided {word}', f'{word} on the {side}',
                                          f'{word} ({side})', f'{letter} {word}',
                                          f'{word} ({letter})', f'{word}, {side}']
        if 'hemisphere' not in word:
            forms.append(f'{word} of the {side} hemisphere')
        return rng.choice(forms)
    if structure.bilateral and rng.random() < 0.6:
        return rng.choice((f'bilateral {word}', f'left and right {word}',
                           f'{word} on both sides'))
    return word


def fill(rng: random.Random, template: str, phrase: str, contrast: str, view: str,
         tissue: str = '', places: tuple[str, ...] = ('the region of interest',)) -> str:
    """One sentence from a template; a fifth of them in lower case."""
    verb = rng.choice(VERBS)
    look = rng.choice(LOOKS.get((contrast, tissue), ANY_LOOK))
    sentence = template.format(
        n=phrase, t='the ' + phrase, v=verb, V=_capital(verb),
        m=rng.choice(CONTRASTS[contrast]), w=view, place=rng.choice(places), look=look,
        seems=rng.choice(('appears ', 'is ', 'looks ')) + look)
    return sentence.lower() if rng.random() < 0.2 else sentence


def _template(rng: random.Random) -> str:
    if rng.random() < PUT_TOGETHER:
        request = rng.choice(REQUESTS).replace('{k}', rng.choice(PRODUCTS))
        request = request.replace('{done}', rng.choice(DONE))
        request = request.replace('{colour}', rng.choice(COLOURS))
        whole = rng.choice(OPENERS) + request + rng.choice(TAILS) + rng.choice(ENDS)
        return whole if whole[0] == '{' else _capital(whole)
    return rng.choice(rng.choices(STYLES, STYLE_SHARES)[0])


def positive(rng: random.Random, name: str, side: str, contrast: str, view: str) -> str:
    """A sentence that asks for a target."""
    structure = STRUCTURES[name]
    return fill(rng, _template(rng), name_phrase(rng, name, side), contrast, view,
                structure.tissue, structure.places)


def canonical(name: str, side: str, contrast: str, view: str) -> str:
    """The plainest sentence for a target."""
    return CANONICAL.format(n=f'{side} {STRUCTURES[name].names[0]}'.strip(),
                            m=CONTRASTS[contrast][0], w=view)


# --------------------------------------------------------------------------------- negatives

PAIRED_ORGANS = (
    'kidney', 'lung', 'adrenal gland', 'breast', 'femur', 'tibia', 'humerus', 'clavicle',
    'scapula', 'hip', 'knee', 'ovary', 'testis', 'ureter', 'atrium', 'ventricle of the heart',
    'carotid artery', 'iliac artery', 'renal artery', 'psoas muscle', 'gluteus maximus',
    'parotid gland', 'thyroid lobe', 'eye', 'optic disc', 'eyeball lens', 'ear', 'rib',
    'hand', 'foot', 'patella', 'radius', 'ulna', 'fibula', 'shoulder', 'wrist', 'lower lobe',
    'upper lobe', 'mandible ramus', 'maxillary sinus', 'submandibular gland', 'hip prosthesis',
)
ORGANS = (
    'liver', 'spleen', 'heart', 'pancreas', 'prostate', 'aorta', 'bladder', 'stomach', 'colon',
    'gallbladder', 'thyroid', 'esophagus', 'trachea', 'duodenum', 'small bowel', 'rectum',
    'uterus', 'cervix', 'placenta', 'fetus head', 'umbilical cord', 'inferior vena cava',
    'portal vein', 'pulmonary artery', 'sternum', 'sacrum', 'lumbar vertebra', 'third rib',
    'cervical spine', 'intervertebral disc', 'spinal canal', 'mitral valve', 'myocardium',
    'pericardium', 'diaphragm', 'appendix', 'tooth', 'tongue', 'mandible', 'larynx', 'retina',
    'retinal vessel', 'macula', 'cornea', 'knee cartilage', 'meniscus',
    'anterior cruciate ligament', 'achilles tendon', 'rotator cuff', 'lymph node', 'skin',
    'subcutaneous fat', 'abdominal wall', 'pelvis', 'coronary artery', 'bronchus',
    'spinal cord', 'urethra', 'nasal septum',
)
# what a slice of a head may show and the model has no class for: a wrong answer would look right
BRAIN_PARTS = (
    'corpus callosum', 'insula', 'hypothalamus', 'pituitary gland', 'pineal gland',
    'optic chiasm', 'optic nerve', 'frontal lobe', 'temporal lobe', 'parietal lobe',
    'cingulate gyrus', 'substantia nigra', 'subthalamic nucleus', 'fornix', 'internal capsule',
    'external capsule', 'olfactory bulb', 'skull', 'scalp', 'eye', 'falx cerebri', 'pons',
    'medulla oblongata', 'midbrain', 'dura mater', 'basilar artery', 'entorhinal cortex',
    'parahippocampal gyrus', 'fusiform gyrus', 'prefrontal cortex', 'motor cortex',
    'visual cortex', 'auditory cortex', 'superior temporal gyrus', 'inferior frontal gyrus',
    'postcentral gyrus', 'precuneus', 'choroid plexus', 'cerebral aqueduct', 'corona radiata',
    'septum pellucidum', 'vermis of the cerebellum', 'cerebellar tonsil', 'dentate nucleus',
    'sylvian fissure', 'central sulcus', 'superior sagittal sinus', 'corticospinal tract',
    'arcuate fasciculus', 'uncinate fasciculus', 'locus coeruleus', 'raphe nuclei',
    'superior colliculus', 'lateral geniculate body', 'white matter lesions',
    'white matter hyperintensities', 'perivascular spaces', 'meninges', 'orbit',
    'nasal cavity', 'ethmoid sinus', 'mastoid air cells', 'clivus', 'cochlea',
    'trigeminal nerve', 'internal carotid artery', 'anterior commissure', 'cerebral peduncle',
    'middle cerebellar peduncle', 'temporal pole', 'frontal pole', 'cuneus', 'uncus',
    'bone marrow', 'muscles of the neck', 'operculum', 'area postrema', 'tectum',
)
UNSEEN_PARTS = (    # kept out of training, to measure
    'claustrum', 'precentral gyrus', 'occipital lobe', 'mammillary body', 'habenula',
    'splenium of the corpus callosum', 'red nucleus', 'optic radiation', 'angular gyrus',
    'supramarginal gyrus', 'subiculum', 'tegmentum', 'inferior colliculus',
    'orbitofrontal cortex', 'calvarium', 'tentorium cerebelli', 'multiple sclerosis plaque',
    'middle cerebral artery', 'lingual gyrus', 'olfactory tract',
)
FINDINGS = (
    'brain tumor', 'glioma', 'glioblastoma', 'meningioma', 'enhancing tumor', 'tumor core',
    'edema', 'peritumoral edema', 'hemorrhage', 'subdural hematoma', 'aneurysm', 'infarct',
    'acute stroke', 'abscess', 'arachnoid cyst', 'metastasis', 'microbleed', 'cavernoma',
    'arteriovenous malformation', 'polyp', 'skin lesion', 'melanoma', 'lung nodule',
    'breast mass', 'thyroid nodule', 'kidney stone', 'liver lesion', 'hepatic cyst',
    'pleural effusion', 'pneumothorax', 'consolidation', 'fracture', 'hernia', 'lipoma',
    'colon cancer', 'prostate cancer', 'nodule', 'calcification', 'gallstone', 'ascites',
    'pneumonia', 'stent', 'catheter', 'pacemaker', 'surgical clip', 'drusen', 'microaneurysm',
)
FOREIGN_IMAGES = (
    'chest X-ray', 'abdominal CT', 'chest CT', 'mammogram', 'colonoscopy frame',
    'dermoscopy image', 'fundus photograph', 'histology slide', 'echocardiogram',
    'obstetric ultrasound', 'knee MRI', 'cardiac MRI', 'prostate MRI', 'dental panorama',
    'endoscopy video', 'optical coherence tomogram', 'pelvic radiograph', 'bone scan',
    'satellite image', 'photograph of a street', 'microscope image of cells',
)
EMPTY_WORDS = (
    'it', 'this', 'something', 'anything', 'the image', 'the picture', 'the left side',
    'the right side', 'the left', 'the right', 'the middle', 'the background', 'the noise',
    'nothing', 'the slice', 'the scan', 'the contrast', 'the structure', 'the organ', 'air',
)
WHO = (
    'the train', 'my neighbour', 'a small dog', 'the committee', 'an old sailor', 'the baker',
    'our teacher', 'the orchestra', 'a grey cat', 'the museum', 'the software', 'his sister',
    'the river', 'a bicycle', 'the weather', 'the farmer', 'the parliament', 'her phone',
    'the goalkeeper', 'a stranger', 'the kettle', 'the invoice', 'the patient', 'the nurse',
    'the printer', 'the scanner', 'a student', 'the moon', 'the hotel', 'the recipe',
)
DOES = (
    'leaves', 'forgot', 'paints', 'bought', 'cannot find', 'sings about', 'is looking for',
    'repairs', 'has lost', 'complains about', 'opens', 'waits for', 'talks about', 'sold',
    'photographs', 'dreams of', 'counts', 'carries', 'ignores', 'writes to', 'remembers',
    'laughs at', 'studies', 'follows', 'delivered', 'borrowed', 'measures', 'cleans',
)
WHAT = (
    'a red umbrella', 'the last ticket', 'seven green apples', 'an empty suitcase',
    'the wrong address', 'a wooden chair', 'the evening news', 'two concert tickets',
    'a cup of tea', 'the garden fence', 'an unpaid bill', 'the football match',
    'a purple monkey', 'the kitchen window', 'a bag of flour', 'the summer holiday',
    'a new password', 'the broken lamp', 'an appointment', 'the bus to town', 'a long poem',
    'the blue folder', 'some fresh bread', 'the appendix of the contract', 'a chess board',
    'the insurance form', 'a pair of shoes', 'the coffee machine', 'a map of Norway',
    'the minutes of the meeting', 'a picture of his grandmother', 'the volume of the radio',
    'a mask for the carnival', 'the outline of a novel', 'the borders of the garden',
)
WHEN = (
    '', 'at noon', 'tomorrow', 'on Sunday', 'in the rain', 'before breakfast', 'again',
    'in the old house', 'near the station', 'without a word', 'for the third time', 'in 1987',
    'behind the school', 'at the airport', 'last winter', 'every morning', 'by mistake',
)
QUESTIONS = (
    'Why does {a} think that {b}?', 'Write a story in which {a}.', 'Translate: {a}.',
    'What happens when {a}?', 'Summarise how {a}.', '{a}, and then {b}.', '{a}.', '{a}.', '{a}',
    'Is it true that {a}?', 'Dear Sir, {a}.', 'Order number {k}: {a}.', 'What is {k} plus {j}?',
)
FRAME_WORDS = ('segment outline the in this of image slice scan axial coronal sagittal left right '
               'please T1 T2 MRI mask show region weighted view pixels brightly find at').split()


def _organ(rng: random.Random) -> str:
    pool = rng.choices((PAIRED_ORGANS, ORGANS, FINDINGS, BRAIN_PARTS), (0.22, 0.22, 0.2, 0.36))[0]
    side = rng.choice(('left ', 'right ', '', ''))
    return (side if pool is not ORGANS else '') + rng.choice(pool)


def _other_organ(rng: random.Random) -> str:
    """The same sentences, asking for what no brain slice shows."""
    return fill(rng, _template(rng), _organ(rng), rng.choice(list(CONTRASTS)), rng.choice(VIEWS))


def _wrong_modality(rng: random.Random) -> str:
    """A brain structure or an organ, in an image that this is not."""
    phrase = _organ(rng)
    if rng.random() < 0.5:
        name = rng.choice(list(STRUCTURES))
        phrase = name_phrase(rng, name, '')
    return _capital(f'{rng.choice(VERBS)} the {phrase} in this {rng.choice(FOREIGN_IMAGES)}.')


def _clause(rng: random.Random) -> str:
    return ' '.join(rng.choice(words) for words in (WHO, DOES, WHAT, WHEN)).strip()


def _everyday(rng: random.Random) -> str:
    """A sentence about something else."""
    sentence = rng.choice(QUESTIONS).format(a=_clause(rng), b=_clause(rng),
                                            k=rng.randrange(10000), j=rng.randrange(100))
    return _capital(sentence)


def _shuffled(rng: random.Random) -> str:
    """Words of instructions and of everyday sentences in no order; no structure among them."""
    words = rng.sample(FRAME_WORDS, rng.randint(2, 8))
    if rng.random() < 0.6:
        words += _clause(rng).split()
    rng.shuffle(words)
    return ' '.join(words)


def _gibberish(rng: random.Random) -> str:
    """Words of random letters."""
    def word() -> str:
        letters = 'abcdefghijklmnopqrstuvwxyz' + 3 * 'aeiou'
        return ''.join(rng.choice(letters) for _ in range(rng.randint(2, 9)))
    return ' '.join(word() for _ in range(rng.randint(1, 6)))


def _empty(rng: random.Random) -> str:
    """An instruction without a structure."""
    verb = rng.choice(VERBS)
    tail = rng.choice(('', '.', f' in this {rng.choice(VIEWS)} MRI.', ' please'))
    return _capital(f'{verb} {rng.choice(EMPTY_WORDS)}{tail}')


_KINDS = (_other_organ, _wrong_modality, _everyday, _shuffled, _gibberish, _empty)
_SHARES = (0.50, 0.08, 0.18, 0.10, 0.07, 0.07)


def negative(rng: random.Random) -> str:
    """A sentence that asks for nothing in a brain slice."""
    return rng.choices(_KINDS, _SHARES)[0](rng)
