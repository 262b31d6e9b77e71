//! Reading a volume: plain or compressed, one file or a pair, and nothing believed unchecked.

use std::path::Path;

use super::header::{Datatype, Endian, Header};
use super::names::{self, Names};
use super::source::{CHUNK, Source};
use super::{Labels, Volume, digits, mgh, nifti, nrrd};
use crate::error::{Error, Result};
use crate::pipeline::geometry::{Affine, Grid};

/// The most bytes between the header and the voxels.
pub(super) const MAX_GAP: u64 = 1 << 28;

impl Volume {
    /// Reads a NIfTI-1 or NIfTI-2 volume from `.nii`, `.nii.gz`, or either file of a
    /// `.hdr`/`.img` pair, in either byte order, compressed or not whatever the name says; or a
    /// volume of FreeSurfer's (`.mgh`, `.mgz`); or NRRD (`.nrrd`, or `.nhdr` with its voxels in
    /// another file). The format is told by the content.
    ///
    /// The intensities are `stored · scl_slope + scl_inter`, computed in `f64`; a slope of zero
    /// or NaN means unscaled. Voxels that are not finite become 0, with a warning. Axes after
    /// the third are accepted if they have length 1, and kept for writing.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if the system cannot read the file; [`Error::Volume`] if it is in
    /// no such format, is damaged or truncated (the checksum of a compressed file is verified), is
    /// not one 3-D volume of real numbers with at least two voxels along each axis, or holds
    /// nothing (all voxels equal or none finite). Sizes are checked against the file before
    /// memory is asked for.
    pub fn read(path: &Path) -> Result<Self> {
        let file = Opened::open(path)?;
        let mut data = reserve(&file)?;
        let (mut broken, mut low, mut high) = (0_u64, f32::INFINITY, f32::NEG_INFINITY);
        let file = file.decode(|value| {
            let mut value = value as f32;
            if !value.is_finite() {
                broken += 1;
                value = 0.0;
            }
            (low, high) = (low.min(value), high.max(value));
            data.push(value);
            Ok(())
        })?;
        let Opened {
            header,
            extensions,
            affine,
            mut warnings,
            ..
        } = file;
        if broken == data.len() as u64 {
            return Err(Error::volume(path, "voxels", "are all NaN or infinite"));
        }
        if low == high {
            return Err(Error::volume(
                path,
                "voxels",
                format!("are all {low}: an empty volume"),
            ));
        }
        if broken > 0 {
            warnings.push(format!("{broken} voxels are NaN or infinite; taken as 0"));
        }
        let shape = header.shape();
        Ok(Self {
            path: path.into(),
            header,
            extensions,
            shape,
            affine,
            data,
            warnings,
        })
    }
}

/// The shape and affine of a volume, from its header alone: no voxel is read.
///
/// # Errors
///
/// Those of [`Volume::read`] that a header and the size of its file show.
pub fn read_grid(path: &Path) -> Result<Grid> {
    let file = Opened::open(path)?;
    Ok(Grid {
        shape: file.header.shape(),
        affine: file.affine,
    })
}

impl Labels {
    /// Reads a label map from the same kinds of file as [`Volume::read`], exact to the unit.
    ///
    /// A map may be empty (all 0). Names come from the BIDS table beside the file or else from
    /// its own label table.
    ///
    /// # Errors
    ///
    /// As [`Volume::read`], and [`Error::Volume`] for a value that is not a whole number from
    /// 0 to 4294967295; [`Error::Config`] if the table beside it is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let file = Opened::open(path)?;
        let shape = file.header.shape();
        let mut data = reserve(&file)?;
        let file = file.decode(|value| {
            // A cast to an integer saturates, and NaN becomes 0: both fail the comparison.
            let label = value as u32;
            if f64::from(label) != value {
                let at = data.len();
                let voxel = [
                    at % shape[0],
                    at / shape[0] % shape[1],
                    at / (shape[0] * shape[1]),
                ];
                return Err(Error::volume(
                    path,
                    "voxels",
                    format!(
                        "{voxel:?} is {value}: a label is a whole number from 0 to {}",
                        u32::MAX
                    ),
                ));
            }
            data.push(label);
            Ok(())
        })?;
        let Opened {
            header,
            affine,
            warnings,
            names: own,
            ..
        } = file;
        let mut names = names::read_names(path)?;
        if names.is_empty() {
            names = own;
        }
        Ok(Self {
            path: path.into(),
            header,
            shape,
            affine,
            data,
            names,
            warnings,
        })
    }
}

/// Room for the voxels of a file whose size was checked.
fn reserve<T>(file: &Opened) -> Result<Vec<T>> {
    let mut data = Vec::new();
    let count = file.voxels();
    data.try_reserve_exact(count).map_err(|_| {
        let need = count * size_of::<T>() / (1 << 20);
        Error::volume(
            &file.source.path,
            "voxels",
            format!("need {need} MiB of memory"),
        )
    })?;
    Ok(data)
}

/// How the voxels lie in their file.
#[derive(Clone, Copy)]
pub(super) struct Stored {
    pub(super) datatype: Datatype,
    pub(super) endian: Endian,
    /// Factor and summand that turn stored numbers into intensities; nothing if unscaled.
    pub(super) scaling: Option<(f64, f64)>,
    /// Whether they are written out in digits instead of as bytes of `datatype`.
    pub(super) digits: bool,
    /// The byte of the first one.
    pub(super) start: u64,
}

impl Stored {
    /// Whether the file can hold as many as the header claims, before memory is asked for.
    pub(super) fn check_size(&self, shape: [usize; 3], source: &Source) -> Result<()> {
        // At most 2³⁰ voxels of 8 bytes behind at most 2²⁸ bytes. Of a number in digits there is at least one, and
        // something between it and the next.
        let voxels: u64 = shape.iter().map(|&n| n as u64).product();
        let wanted = self.start
            + match self.digits {
                true => 2 * voxels - 1,
                false => voxels * self.datatype.size() as u64,
            };
        if wanted > source.capacity {
            let holds = if source.compressed {
                "can at most inflate to"
            } else {
                "holds"
            };
            let problem = format!(
                "is truncated: it {holds} {} bytes, the header asks for {wanted}",
                source.capacity
            );
            return Err(Error::volume(&source.path, "file", problem));
        }
        Ok(())
    }
}

/// A volume whose header is read and whose voxels are to come.
pub(super) struct Opened {
    /// The NIfTI header, or one made of another format's.
    pub(super) header: Header,
    pub(super) stored: Stored,
    pub(super) extensions: Vec<u8>,
    pub(super) affine: Affine,
    /// Names of labels in the file itself.
    pub(super) names: Names,
    /// Whether something of the format's own follows the voxels.
    pub(super) has_footer: bool,
    pub(super) warnings: Vec<String>,
    /// Stands at the first voxel.
    pub(super) source: Source,
}

impl Opened {
    fn open(path: &Path) -> Result<Self> {
        let mut warnings = Vec::new();
        let mut source = Source::open(&nifti::header_path(path), &mut warnings)?;
        let start = source.take(4)?;
        match &start[..] {
            mgh::VERSION => mgh::open(source, warnings),
            nrrd::MAGIC => nrrd::open(source, warnings),
            _ => nifti::open(path, source, start, warnings),
        }
    }

    fn voxels(&self) -> usize {
        self.header.shape().iter().product()
    }

    /// Hands every voxel, scaled, to `each`, in the order of the file; then reads the file to
    /// its end.
    fn decode(mut self, mut each: impl FnMut(f64) -> Result<()>) -> Result<Self> {
        if self.stored.digits {
            let count = self.voxels();
            if digits::decode(&mut self.source, count, each)? {
                self.warnings
                    .push("what follows the voxels was ignored".into());
            }
        } else {
            self.decode_bytes(&mut each)?;
        }
        let rest = self.source.drain()?;
        if rest > 0 && !self.has_footer && !self.stored.digits {
            self.warnings
                .push(format!("{rest} bytes after the voxels were ignored"));
        }
        Ok(self)
    }

    fn decode_bytes(&mut self, mut each: impl FnMut(f64) -> Result<()>) -> Result<()> {
        let Stored {
            datatype,
            endian,
            scaling,
            start,
            ..
        } = self.stored;
        let mut left = self.voxels() * datatype.size();
        let wanted = start + left as u64;
        let mut buffer = vec![0; CHUNK.min(left)];
        while left > 0 {
            let chunk = &mut buffer[..CHUNK.min(left)];
            self.source.fill(chunk, wanted)?;
            match scaling {
                None => decode(datatype, endian, chunk, &mut each)?,
                Some((slope, inter)) => {
                    decode(datatype, endian, chunk, |value| each(value * slope + inter))?;
                }
            }
            left -= chunk.len();
        }
        Ok(())
    }
}

/// Hands each number in `bytes` to `each`.
fn decode(
    datatype: Datatype,
    endian: Endian,
    bytes: &[u8],
    mut each: impl FnMut(f64) -> Result<()>,
) -> Result<()> {
    macro_rules! decode_as {
        ($type:ty) => {{
            let (chunks, _) = bytes.as_chunks::<{ size_of::<$type>() }>();
            match endian {
                Endian::Little => chunks
                    .iter()
                    .try_for_each(|chunk| each(<$type>::from_le_bytes(*chunk) as f64)),
                Endian::Big => chunks
                    .iter()
                    .try_for_each(|chunk| each(<$type>::from_be_bytes(*chunk) as f64)),
            }
        }};
    }
    match datatype {
        Datatype::U8 => decode_as!(u8),
        Datatype::I8 => decode_as!(i8),
        Datatype::U16 => decode_as!(u16),
        Datatype::I16 => decode_as!(i16),
        Datatype::U32 => decode_as!(u32),
        Datatype::I32 => decode_as!(i32),
        Datatype::U64 => decode_as!(u64),
        Datatype::I64 => decode_as!(i64),
        Datatype::F32 => decode_as!(f32),
        Datatype::F64 => decode_as!(f64),
    }
}
