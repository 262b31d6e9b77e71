"""Tiny volumes in every format that is read, and what nibabel and SimpleITK say of them, for tests/formats.rs.

usage: python formats.py            makes formats/ and formats.json again, but for the results in it
       python formats.py results    says in formats.json what both say of the results in formats/ (`*_result.nii`,
                                    written by `KERAUNOS_WRITE_RESULTS=1 cargo test --release --test formats`)
needs: nibabel, numpy, pynrrd, SimpleITK
"""
import json
import re
import sys
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import SimpleITK as sitk

HERE = Path(__file__).parent
FOLDER = HERE / 'formats'
SHAPE = (5, 4, 3)


def voxels(dtype, seed):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == 'f':
        return np.round(rng.normal(0, 100, SHAPE), 3).astype(dtype)
    # 2**24 is where f32, in which intensities are kept, stops being exact
    low, high = max(np.iinfo(dtype).min, -2**24), min(np.iinfo(dtype).max, 2**24)
    return rng.integers(low, high, SHAPE, dtype=dtype, endpoint=True)


def rotation(x, y, z):
    """A rotation by three angles in degrees."""
    def about(axis, degrees):
        a, (i, j) = np.radians(degrees), [(1, 2), (2, 0), (0, 1)][axis]
        m = np.eye(3)
        m[i, i] = m[j, j] = np.cos(a)
        m[i, j], m[j, i] = -np.sin(a), np.sin(a)
        return m
    return about(2, z) @ about(1, y) @ about(0, x)


def affine(linear, sizes, origin):
    out = np.eye(4)
    out[:3, :3] = linear @ np.diag(sizes)
    out[:3, 3] = origin
    return out


OBLIQUE = affine(rotation(10, -25, 40), (1.25, 0.8, 3.0), (-61.5, 12.25, 30.75))
LEFT_HANDED = affine(rotation(5, 0, -15) @ np.diag([-1, 1, 1]), (0.9, 0.9, 2.0), (80, -90.5, 3))
CONFORMED = affine(np.array([[-1, 0, 0], [0, 0, 1], [0, -1, 0]]), (1, 1, 1), (128, -127, 128))
PLAIN = affine(np.eye(3), (1, 2, 3), (-10, -20, -30))


def mgh():
    for name, dtype, at, ending in [
        ('mgh_uchar', np.uint8, CONFORMED, 'mgh'), ('mgh_short', np.int16, OBLIQUE, 'mgz'),
        ('mgh_int', np.int32, LEFT_HANDED, 'mgh'), ('mgh_float', np.float32, OBLIQUE, 'mgz'),
    ]:
        nib.save(nib.MGHImage(voxels(dtype, len(name)), at.astype(np.float32)), FOLDER / f'{name}.{ending}')
    # no directions: FreeSurfer takes coronal slices
    image = nib.MGHImage(voxels(np.float32, 1), OBLIQUE.astype(np.float32))
    path = FOLDER / 'mgh_no_ras.mgh'
    nib.save(image, path)
    raw = bytearray(path.read_bytes())
    raw[28:30] = b'\0\0'
    path.write_bytes(raw)


def nifti():
    for name, dtype, at, codes in [
        ('nifti_big_short', '>i2', OBLIQUE, (1, 1)), ('nifti_big_float', '>f4', LEFT_HANDED, (1, 0)),
        ('nifti_sform', '<i2', OBLIQUE, (1, 0)), ('nifti_qform', '<f4', LEFT_HANDED, (0, 1)), ('nifti_both', '<u2', OBLIQUE, (4, 1)),
    ]:
        header = nib.Nifti1Header(endianness=dtype[0])
        header.set_data_dtype(dtype)
        image = nib.Nifti1Image(voxels(np.dtype(dtype).newbyteorder('='), len(name)), None, header)
        image.set_sform(at, codes[0])
        image.set_qform(at, codes[1])
        nib.save(image, FOLDER / f'{name}.nii')


def write_nrrd(name, data, header, **how):
    """pynrrd writes the time too, which must not differ the next time."""
    path = FOLDER / name
    nrrd.write(str(path), data, header, **how)
    raw = path.read_bytes()
    path.write_bytes(re.sub(rb'# on [^\n]*\n', b'', raw, count=1))


def nrrds():
    names = ['int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'int64', 'uint64', 'float32', 'float64']
    spaces = ['left-posterior-superior', 'right-anterior-superior', 'left-anterior-superior', 'LPS', 'RAS', 'LAS']
    for n, name in enumerate(names):
        at = [OBLIQUE, LEFT_HANDED, CONFORMED, PLAIN][n % 4]
        header = {
            'space': spaces[n % 6], 'space directions': at[:3, :3].T, 'space origin': at[:3, 3],
            'kinds': ['domain'] * 3, 'encoding': ['raw', 'gzip', 'ascii'][n % 3], 'endian': ['little', 'big'][n % 2],
        }
        data = voxels(name, n)
        if header['endian'] == 'big':
            # pynrrd writes what it is given
            data = data.astype(data.dtype.newbyteorder('>'))
        if n % 4 == 3:
            write_nrrd(f'nrrd_{name}.nhdr', data, header, detached_header=True)
        else:
            write_nrrd(f'nrrd_{name}.nrrd', data, header)
    # as ITK writes it, and as it was before there were spaces
    image = sitk.GetImageFromArray(voxels(np.int16, 20).transpose(2, 1, 0))
    image.SetSpacing((0.5, 0.75, 2))
    image.SetOrigin((11, -12, 13))
    image.SetDirection(rotation(10, 20, 30).ravel())
    sitk.WriteImage(image, str(FOLDER / 'nrrd_itk.nrrd'), useCompression=True)
    write_nrrd('nrrd_spacings.nrrd', voxels(np.uint8, 21), {'spacings': [0.5, 1, 2], 'encoding': 'raw'})


def by_sitk(path):
    image = sitk.ReadImage(str(path))
    at = np.eye(4)
    at[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    at[:3, 3] = image.GetOrigin()
    return (np.diag([-1, -1, 1, 1]) @ at)[:3], sitk.GetArrayFromImage(image).transpose(2, 1, 0)


def by_nibabel(path):
    image = nib.load(path)
    return image.affine[:3], np.asarray(image.dataobj)


def said(path):
    """What the readers that know the format say; they must agree on voxels. In NIfTI's order, first axis fastest."""
    readers = {'nibabel': by_nibabel, 'SimpleITK': by_sitk}
    if path.suffix in ('.nrrd', '.nhdr'):
        del readers['nibabel']
    if path.suffix in ('.mgh', '.mgz'):
        del readers['SimpleITK']
    read = {name: reader(path) for name, reader in readers.items()}
    (_, data), *others = read.values()
    assert all(np.array_equal(data, other) for _, other in others), path
    if path.suffix in ('.nrrd', '.nhdr'):
        assert np.array_equal(data, nrrd.read(str(path))[0]), path
    if path.stem == 'mgh_no_ras':
        # nibabel has another default than FreeSurfer, whose format it is
        read = {}
    return dict(affine={name: np.asarray(at, float).tolist() for name, (at, _) in read.items()},
                voxels=[v.item() for v in data.ravel(order='F')])


if __name__ == '__main__':
    table = HERE / 'formats.json'
    if sys.argv[1:] == ['results']:
        made = json.loads(table.read_text())
        made['results'] = {path.name: said(path) for path in sorted(FOLDER.glob('*_result.nii'))}
    else:
        FOLDER.mkdir(exist_ok=True)
        mgh(), nifti(), nrrds()
        files = sorted(p for p in FOLDER.iterdir() if p.suffix in ('.mgh', '.mgz', '.nii', '.nrrd', '.nhdr') and '_result' not in p.name)
        made = dict(shape=SHAPE, inputs={path.name: said(path) for path in files})
    table.write_text(json.dumps(made) + '\n')
