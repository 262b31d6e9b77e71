//! The NIfTI header: 348 bytes (version 1) or 540 (version 2), in either byte order.
//!
//! The bytes are kept as they came; the fields that matter are read out of them and checked.

use std::path::Path;

use crate::error::{Error, Result};
use crate::pipeline::geometry::{self, Affine, IDENTITY};

/// The most voxels a volume may have: 2³⁰, which is 1024³ and 4 GiB of `f32`.
pub(super) const MAX_VOXELS: u64 = 1 << 30;

/// The version of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// NIfTI-1, a header of 348 bytes.
    One,
    /// NIfTI-2, a header of 540 bytes.
    Two,
}

impl Version {
    /// The length of the header in bytes.
    pub fn header_len(self) -> usize {
        match self {
            Self::One => 348,
            Self::Two => 540,
        }
    }

    /// Where voxels may begin in a single file: after the header and four extender bytes.
    pub(super) fn data_start(self) -> u64 {
        self.header_len() as u64 + 4
    }

    /// The byte offset of each field this crate names.
    pub(super) fn fields(self) -> &'static Fields {
        match self {
            Self::One => &ONE,
            Self::Two => &TWO,
        }
    }
}

/// The order of bytes within a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endian {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// The byte offsets of a version's fields.
pub(super) struct Fields {
    pub(super) dim: usize,
    pub(super) intent_p1: usize,
    pub(super) intent_code: usize,
    pub(super) intent_name: usize,
    pub(super) datatype: usize,
    pub(super) bitpix: usize,
    pub(super) pixdim: usize,
    pub(super) vox_offset: usize,
    pub(super) scl_slope: usize,
    pub(super) scl_inter: usize,
    pub(super) cal_max: usize,
    pub(super) cal_min: usize,
    pub(super) xyzt_units: usize,
    pub(super) descrip: usize,
    pub(super) qform_code: usize,
    pub(super) sform_code: usize,
    pub(super) quatern_b: usize,
    pub(super) qoffset_x: usize,
    pub(super) srow_x: usize,
    pub(super) magic: usize,
}

const ONE: Fields = Fields {
    dim: 40,
    intent_p1: 56,
    intent_code: 68,
    datatype: 70,
    bitpix: 72,
    pixdim: 76,
    vox_offset: 108,
    scl_slope: 112,
    scl_inter: 116,
    xyzt_units: 123,
    cal_max: 124,
    cal_min: 128,
    descrip: 148,
    qform_code: 252,
    sform_code: 254,
    quatern_b: 256,
    qoffset_x: 268,
    srow_x: 280,
    intent_name: 328,
    magic: 344,
};

const TWO: Fields = Fields {
    magic: 4,
    datatype: 12,
    bitpix: 14,
    dim: 16,
    intent_p1: 80,
    pixdim: 104,
    vox_offset: 168,
    scl_slope: 176,
    scl_inter: 184,
    cal_max: 192,
    cal_min: 200,
    descrip: 240,
    qform_code: 344,
    sform_code: 348,
    quatern_b: 352,
    qoffset_x: 376,
    srow_x: 400,
    xyzt_units: 500,
    intent_code: 504,
    intent_name: 508,
};

/// How a voxel is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datatype {
    /// Code 2.
    U8,
    /// Code 4.
    I16,
    /// Code 8.
    I32,
    /// Code 16.
    F32,
    /// Code 64.
    F64,
    /// Code 256.
    I8,
    /// Code 512.
    U16,
    /// Code 768.
    U32,
    /// Code 1024.
    I64,
    /// Code 1280.
    U64,
}

impl Datatype {
    /// The datatype of a header code, or what the code means if it is no real number.
    fn from_code(code: i64) -> Result<Self, &'static str> {
        Ok(match code {
            2 => Self::U8,
            4 => Self::I16,
            8 => Self::I32,
            16 => Self::F32,
            64 => Self::F64,
            256 => Self::I8,
            512 => Self::U16,
            768 => Self::U32,
            1024 => Self::I64,
            1280 => Self::U64,
            1 => return Err("one bit per voxel"),
            32 => return Err("complex numbers (2 × 32 bits)"),
            128 => return Err("RGB colours"),
            1536 => return Err("128-bit floating point"),
            1792 => return Err("complex numbers (2 × 64 bits)"),
            2048 => return Err("complex numbers (2 × 128 bits)"),
            2304 => return Err("RGBA colours"),
            0 => return Err("unknown to its own writer"),
            _ => return Err("not a NIfTI datatype"),
        })
    }

    /// The header's code.
    pub fn code(self) -> i16 {
        match self {
            Self::U8 => 2,
            Self::I16 => 4,
            Self::I32 => 8,
            Self::F32 => 16,
            Self::F64 => 64,
            Self::I8 => 256,
            Self::U16 => 512,
            Self::U32 => 768,
            Self::I64 => 1024,
            Self::U64 => 1280,
        }
    }

    /// The bytes of one voxel.
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }
}

/// A checked header and its raw bytes.
#[derive(Clone, Debug)]
pub struct Header {
    raw: Vec<u8>,
    /// The version of the format.
    pub version: Version,
    /// The byte order of the header and the voxels.
    pub endian: Endian,
    /// Whether the voxels are in a separate `.img` file.
    pub pair: bool,
    /// The number of axes and their lengths, as stored.
    pub dim: [i64; 8],
    /// How a voxel is stored.
    pub datatype: Datatype,
    /// The sign of the third axis of the qform and the voxel sizes in the header's own unit.
    pub pixdim: [f64; 8],
    /// Where the voxels begin in their file, in bytes.
    pub vox_offset: u64,
    /// Factor and summand that turn stored numbers into intensities; nothing if unscaled.
    pub scaling: Option<(f64, f64)>,
    /// How the quaternion form is meant; 0 if it is not set.
    pub qform_code: i32,
    /// How the affine form is meant; 0 if it is not set.
    pub sform_code: i32,
    /// What the values mean; 1002 for labels.
    pub intent_code: i32,
    /// The free text of the header, at most 80 bytes, with control characters removed. Whoever
    /// made the file wrote it: quote it, never obey it.
    pub description: String,
}

/// A number of one byte order at an offset of a byte string.
macro_rules! number_at {
    ($raw:expr, $endian:expr, $at:expr, $type:ty) => {{
        let mut bytes = [0; size_of::<$type>()];
        bytes.copy_from_slice(&$raw[$at..$at + size_of::<$type>()]);
        match $endian {
            Endian::Little => <$type>::from_le_bytes(bytes),
            Endian::Big => <$type>::from_be_bytes(bytes),
        }
    }};
}

pub(super) use number_at;

/// Stores the `index`-th of the version's floats that begin at byte `at`.
pub(super) fn put_real(
    raw: &mut [u8],
    version: Version,
    endian: Endian,
    at: usize,
    index: usize,
    value: f64,
) {
    let mut bytes = match version {
        Version::One => (value as f32).to_le_bytes().to_vec(),
        Version::Two => value.to_le_bytes().to_vec(),
    };
    if endian == Endian::Big {
        bytes.reverse();
    }
    let at = at + index * bytes.len();
    raw[at..at + bytes.len()].copy_from_slice(&bytes);
}

/// What is said of an affine that looks made up.
pub(super) const MADE_UP: &str = "voxel 0 is at the origin and the axes are the world's, as programs write it that know \
                                  no orientation; left and right may be exchanged";

impl Header {
    /// The version and byte order that the first four bytes of a file announce, if any.
    pub(super) fn announced(start: &[u8; 4]) -> Option<(Version, Endian)> {
        let sizes = [
            (i32::from_le_bytes(*start), Endian::Little),
            (i32::from_be_bytes(*start), Endian::Big),
        ];
        sizes.into_iter().find_map(|(size, endian)| match size {
            348 => Some((Version::One, endian)),
            540 => Some((Version::Two, endian)),
            _ => None,
        })
    }

    /// Reads and checks the fields of a whole header.
    ///
    /// `raw` holds exactly `version.header_len()` bytes. What is odd but harmless is added to
    /// `warnings`.
    pub(super) fn parse(
        path: &Path,
        raw: Vec<u8>,
        version: Version,
        endian: Endian,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let fields = version.fields();
        let bad = |field, problem: String| Error::volume(path, field, problem);
        let short = |at: usize| i64::from(number_at!(raw, endian, at, i16));
        let int = |at: usize| number_at!(raw, endian, at, i32);
        // Version 2 widened integers and floats alike.
        let real = |at: usize, index: usize| match version {
            Version::One => f64::from(number_at!(raw, endian, at + 4 * index, f32)),
            Version::Two => number_at!(raw, endian, at + 8 * index, f64),
        };
        let code = |at: usize| match version {
            Version::One => i32::from(number_at!(raw, endian, at, i16)),
            Version::Two => int(at),
        };

        let pair = match (version, &raw[fields.magic..fields.magic + 4]) {
            (Version::One, b"n+1\0") | (Version::Two, b"n+2\0") => false,
            (Version::One, b"ni1\0") | (Version::Two, b"ni2\0") => true,
            (_, other) => {
                let shown = other.escape_ascii();
                return Err(bad(
                    "magic",
                    format!("is `{shown}`: not a NIfTI file (an Analyze 7.5 header has no magic)"),
                ));
            }
        };
        if version == Version::Two && raw[8..12] != *b"\r\n\x1a\n" {
            let problem = "is damaged: the file went through a text-mode transfer";
            return Err(bad("magic", problem.to_owned()));
        }

        let dim: [i64; 8] = std::array::from_fn(|i| match version {
            Version::One => short(fields.dim + 2 * i),
            Version::Two => number_at!(raw, endian, fields.dim + 8 * i, i64),
        });
        check_dim(&dim).map_err(|(field, problem)| bad(field, problem))?;

        let stored = short(fields.datatype);
        let datatype = Datatype::from_code(stored).map_err(|meaning| {
            bad(
                "datatype",
                format!("is {stored}: {meaning}; voxels must be real numbers"),
            )
        })?;
        let (bitpix, bits) = (short(fields.bitpix), 8 * datatype.size() as i64);
        if bitpix != bits {
            warnings.push(format!(
                "bitpix is {bitpix}, but datatype {stored} has {bits} bits; the datatype is used"
            ));
        }

        let pixdim: [f64; 8] = std::array::from_fn(|i| real(fields.pixdim, i));

        let vox_offset = match version {
            Version::One => real(fields.vox_offset, 0),
            // Exact up to 2⁵³, far beyond any file.
            Version::Two => number_at!(raw, endian, fields.vox_offset, i64) as f64,
        };
        let vox_offset = check_offset(vox_offset, version, pair, warnings)
            .map_err(|problem| bad("vox_offset", problem))?;

        let (slope, inter) = (real(fields.scl_slope, 0), real(fields.scl_inter, 0));
        let scaling = if slope == 0.0 || !slope.is_finite() {
            None
        } else if !inter.is_finite() {
            let problem = format!("is {inter} beside a slope of {slope}: no intensity is defined");
            return Err(bad("scl_inter", problem));
        } else {
            Some((slope, inter)).filter(|&pair| pair != (1.0, 0.0))
        };

        let description = String::from_utf8_lossy(&raw[fields.descrip..fields.descrip + 80])
            .split('\0')
            .next()
            .unwrap_or_default()
            .chars()
            .filter(|c| !c.is_control())
            .collect();

        let mut header = Self {
            version,
            endian,
            pair,
            dim,
            datatype,
            pixdim,
            vox_offset,
            scaling,
            qform_code: code(fields.qform_code),
            sform_code: code(fields.sform_code),
            intent_code: code(fields.intent_code),
            description,
            raw,
        };
        header.mend_pixdim(path, warnings)?;
        Ok(header)
    }

    /// Puts the sform's voxel sizes in the place of those that are none, also for the results, as readers make origin
    /// and directions of both.
    ///
    /// # Errors
    ///
    /// [`Error::Volume`] if there is no sform to take them from.
    fn mend_pixdim(&mut self, path: &Path, warnings: &mut Vec<String>) -> Result<()> {
        let is_size = |size: f64| size > 0.0 && size.is_finite();
        let Some(axis) = (1..4).find(|&axis| !is_size(self.pixdim[axis])) else {
            return Ok(());
        };
        let (size, sform) = (self.pixdim[axis], self.sform());
        if self.sform_code <= 0 || !geometry::is_usable(&sform) {
            let problem = format!("[{axis}] is {size}: a voxel size must be positive");
            return Err(Error::volume(path, "pixdim", problem));
        }
        warnings.push(format!(
            "pixdim [{axis}] is {size}: no voxel size; the sform's voxel sizes are used"
        ));
        let at = self.version.fields().pixdim;
        for (axis, size) in (1..4).zip(geometry::voxel_sizes(&sform)) {
            self.pixdim[axis] = size;
            put_real(&mut self.raw, self.version, self.endian, at, axis, size);
        }
        Ok(())
    }

    /// The header's bytes as they were read, but for voxel sizes that were none.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The lengths of the three axes.
    pub fn shape(&self) -> [usize; 3] {
        // `check_dim` made sure that they are positive and few.
        [1, 2, 3].map(|axis| self.dim[axis] as usize)
    }

    /// Millimetres per unit of the header's lengths.
    ///
    /// A file that says metres or microns but has voxels that are only plausible in millimetres
    /// is taken at its numbers.
    fn unit(&self, sizes: [f64; 3], warnings: &mut Vec<String>) -> f64 {
        let at = self.version.fields().xyzt_units;
        let units = match self.version {
            Version::One => i32::from(self.raw[at]),
            Version::Two => self.int(at),
        };
        match units & 7 {
            1 => unit("xyzt_units", "metres", 1000.0, sizes, warnings),
            3 => unit("xyzt_units", "microns", 0.001, sizes, warnings),
            _ => 1.0,
        }
    }

    /// Voxel index to RAS millimetres, by one rule:
    ///
    /// 1. the sform, if its code is above 0 and it is usable (finite, three independent axes);
    /// 2. otherwise the qform, if its code is above 0 and it is usable;
    /// 3. otherwise the voxel sizes alone, axes along right, anterior and superior, voxel 0 at
    ///    the origin (method 1 of the standard), with a warning that sides cannot be trusted.
    ///
    /// A form that is set, is not all zero and cannot be used, with no other form to replace it,
    /// is an error: the third rule would hide the damage.
    pub(super) fn affine(&self, path: &Path, warnings: &mut Vec<String>) -> Result<Affine> {
        let sform = self.sform();
        let sform_ok = self.sform_code > 0 && geometry::is_usable(&sform);
        let qform = self.qform().filter(geometry::is_usable);
        let qform_ok = self.qform_code > 0 && qform.is_some();
        let mut affine = match qform {
            _ if sform_ok => sform,
            Some(qform) if qform_ok => qform,
            _ => {
                let zero = sform.iter().all(|row| row[..3] == [0.0; 3]);
                if self.sform_code > 0 && !zero {
                    let problem = "is singular or not finite, and there is no usable qform";
                    return Err(Error::volume(path, "sform", problem));
                }
                if self.qform_code > 0 {
                    let problem = "is not finite, and there is no usable sform";
                    return Err(Error::volume(path, "qform", problem));
                }
                warnings.push(
                    "neither sform nor qform is set; axes are taken as right, anterior, superior, \
                     so left and right may be exchanged"
                        .to_owned(),
                );
                let mut affine = IDENTITY;
                for (axis, row) in affine.iter_mut().enumerate() {
                    row[axis] = self.pixdim[axis + 1];
                }
                affine
            }
        };
        if (sform_ok || qform_ok) && geometry::is_made_up(&affine) {
            warnings.push(MADE_UP.into());
        }
        if self.sform_code > 0 && !sform_ok && qform_ok {
            warnings.push(format!(
                "sform code is {} but its rows are unusable; the qform is used",
                self.sform_code
            ));
        }
        if let (true, true, Some(qform)) = (sform_ok, qform_ok, qform) {
            let apart = self.farthest_corner(&sform, &qform);
            let size = self.pixdim[1..4]
                .iter()
                .copied()
                .fold(f64::INFINITY, f64::min);
            if apart > 0.1 * size {
                warnings.push(format!(
                    "sform (code {}) and qform (code {}) place voxels up to {apart:.2} apart; \
                     the sform is used",
                    self.sform_code, self.qform_code
                ));
            }
        }
        let sizes = geometry::voxel_sizes(&affine);
        let stored = [self.pixdim[1], self.pixdim[2], self.pixdim[3]];
        if sizes
            .iter()
            .zip(stored)
            .any(|(&size, stored)| (size - stored).abs() > 0.01 * stored)
        {
            warnings.push(format!(
                "the affine's voxels measure {sizes:.3?}, pixdim says {stored:.3?}; the affine is used"
            ));
        }
        let unit = self.unit(sizes, warnings);
        affine.iter_mut().flatten().for_each(|value| *value *= unit);
        if !geometry::is_usable(&affine) {
            let problem = format!("makes voxels of {stored:?}: no place can be computed");
            return Err(Error::volume(path, "pixdim", problem));
        }
        Ok(affine)
    }

    /// The farthest that two affines place a corner of the volume apart.
    pub(super) fn farthest_corner(&self, a: &Affine, b: &Affine) -> f64 {
        let shape = self.shape();
        (0..8)
            .map(|corner| {
                let point = std::array::from_fn(|axis| {
                    if corner >> axis & 1 == 1 {
                        (shape[axis] - 1) as f64
                    } else {
                        0.0
                    }
                });
                let (a, b) = (geometry::apply(a, point), geometry::apply(b, point));
                a.iter()
                    .zip(b)
                    .map(|(a, b)| (a - b).powi(2))
                    .sum::<f64>()
                    .sqrt()
            })
            .fold(0.0, f64::max)
    }

    pub(super) fn sform(&self) -> Affine {
        let at = self.version.fields().srow_x;
        std::array::from_fn(|row| std::array::from_fn(|column| self.real(at, 4 * row + column)))
    }

    /// The affine of the quaternion form; nothing if the quaternion is not finite.
    ///
    /// A quaternion longer than one is brought back to length one, as in the standard's own
    /// library.
    pub(super) fn qform(&self) -> Option<Affine> {
        let fields = self.version.fields();
        let mut quaternion: [f64; 3] = std::array::from_fn(|i| self.real(fields.quatern_b, i));
        let square: f64 = quaternion.iter().map(|v| v * v).sum();
        if !square.is_finite() {
            return None;
        }
        let mut a = (1.0 - square).max(0.0).sqrt();
        if 1.0 - square < 1e-7 {
            a = 0.0;
            quaternion = quaternion.map(|v| v / square.sqrt());
        }
        let [b, c, d] = quaternion;
        let rotation = [
            [
                a * a + b * b - c * c - d * d,
                2.0 * (b * c - a * d),
                2.0 * (b * d + a * c),
            ],
            [
                2.0 * (b * c + a * d),
                a * a + c * c - b * b - d * d,
                2.0 * (c * d - a * b),
            ],
            [
                2.0 * (b * d - a * c),
                2.0 * (c * d + a * b),
                a * a + d * d - b * b - c * c,
            ],
        ];
        let side = if self.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
        let sizes = [self.pixdim[1], self.pixdim[2], self.pixdim[3] * side];
        Some(std::array::from_fn(|row| {
            let [x, y, z] = std::array::from_fn(|axis| rotation[row][axis] * sizes[axis]);
            [x, y, z, self.real(fields.qoffset_x, row)]
        }))
    }

    fn int(&self, at: usize) -> i32 {
        number_at!(self.raw, self.endian, at, i32)
    }

    /// The `index`-th of the version's floats that begin at byte `at`.
    fn real(&self, at: usize, index: usize) -> f64 {
        match self.version {
            Version::One => f64::from(number_at!(self.raw, self.endian, at + 4 * index, f32)),
            Version::Two => number_at!(self.raw, self.endian, at + 8 * index, f64),
        }
    }
}

/// Millimetres per unit of voxels of `sizes`, by what `field` says: `name`, which is `scale` mm, unless only mm are
/// plausible.
pub(super) fn unit(
    field: &str,
    name: &str,
    scale: f64,
    sizes: [f64; 3],
    warnings: &mut Vec<String>,
) -> f64 {
    let is_plausible = |scale: f64| {
        sizes
            .iter()
            .all(|size| (0.005..50.0).contains(&(size * scale)))
    };
    if !is_plausible(scale) && is_plausible(1.0) {
        warnings.push(format!(
            "{field} says {name}, but voxels of {sizes:?} are only plausible in mm; mm are used"
        ));
        return 1.0;
    }
    warnings.push(format!("{field} says {name}; converted to mm"));
    scale
}

/// Whether the axes are those of one 3-D volume of a size that can be held.
pub(super) fn check_dim(dim: &[i64; 8]) -> Result<(), (&'static str, String)> {
    let bad = |problem: String| Err(("dim", problem));
    let axes = match dim[0] {
        3..=7 => dim[0] as usize,
        1 | 2 => {
            return bad(format!(
                "[0] is {}: a single picture; give a 3-D volume",
                dim[0]
            ));
        }
        other => return bad(format!("[0] is {other}: a volume has 3 to 7 axes")),
    };
    for (axis, &n) in dim.iter().enumerate().take(axes + 1).skip(1) {
        if n < 1 {
            return bad(format!("[{axis}] is {n}: an axis has at least one voxel"));
        }
    }
    const MEANING: [&str; 4] = [
        "a time series",
        "a vector per voxel",
        "many volumes",
        "many volumes",
    ];
    for (axis, &n) in dim.iter().enumerate().take(axes + 1).skip(4) {
        if n > 1 {
            return bad(format!(
                "[{axis}] is {n}: {}; give one 3-D volume",
                MEANING[axis - 4]
            ));
        }
    }
    if let Some(axis) = (1..=3).find(|&axis| dim[axis] == 1) {
        return bad(format!("[{axis}] is 1: a single slice; give a 3-D volume"));
    }
    let voxels = dim[1..4]
        .iter()
        .try_fold(1_u64, |product, &n| product.checked_mul(n as u64));
    match voxels {
        Some(voxels) if voxels <= MAX_VOXELS => Ok(()),
        _ => bad(format!(
            "is {} × {} × {}: more than {MAX_VOXELS} voxels",
            dim[1], dim[2], dim[3]
        )),
    }
}

/// The byte at which voxels begin.
fn check_offset(
    stored: f64,
    version: Version,
    pair: bool,
    warnings: &mut Vec<String>,
) -> Result<u64, String> {
    let first = if pair { 0 } else { version.data_start() };
    if stored == 0.0 && !pair {
        warnings.push(format!(
            "vox_offset is 0; {first} is used, where voxels begin at the earliest"
        ));
        return Ok(first);
    }
    // Compared as a float first: NaN and 1e30 are neither finite nor in range.
    if !(stored >= first as f64 && stored <= (1_u64 << 53) as f64) {
        return Err(format!(
            "is {stored}: voxels begin at byte {first} at the earliest"
        ));
    }
    if stored.fract() != 0.0 {
        return Err(format!("is {stored}: not a whole number of bytes"));
    }
    Ok(stored as u64)
}
