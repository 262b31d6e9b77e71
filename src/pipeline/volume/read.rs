//! Reading a volume: plain or compressed, one file or a pair, and nothing believed unchecked.

use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::header::{Datatype, Endian, Header};
use super::names;
use super::{Labels, Volume};
use crate::error::{Error, Result};
use crate::pipeline::geometry::{Affine, Grid};

/// Deflate cannot shrink data further than this factor.
const MAX_RATIO: u64 = 1032;
/// The most bytes between the header and the voxels.
const MAX_GAP: u64 = 1 << 28;
/// The most bytes that may follow the voxels.
const MAX_TAIL: u64 = 1 << 26;
/// The bytes decoded at a time; a multiple of every voxel's size.
const CHUNK: usize = 1 << 18;

impl Volume {
    /// Reads a NIfTI-1 or NIfTI-2 volume from `.nii`, `.nii.gz`, or either file of a
    /// `.hdr`/`.img` pair, in either byte order, compressed or not whatever the name says.
    ///
    /// The intensities are `stored · scl_slope + scl_inter`, computed in `f64`; a slope of zero
    /// or NaN means unscaled. Voxels that are not finite become 0, with a warning. Axes after
    /// the third are accepted if they have length 1, and kept for writing.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if the system cannot read the file; [`Error::Volume`] if it is not a
    /// NIfTI file, is damaged or truncated (the checksum of a compressed file is verified), is
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
            extensions,
            affine,
            warnings,
            ..
        } = file;
        let mut names = names::read_names(path)?;
        if names.is_empty() {
            names = names::embedded(&extensions, header.endian);
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

/// A file of bytes, inflated on the way if it is compressed.
struct Source {
    path: PathBuf,
    reader: Box<dyn Read>,
    compressed: bool,
    /// The most bytes that can come out of it.
    capacity: u64,
    /// The bytes that came out so far.
    position: u64,
}

impl Source {
    /// Opens a regular file and looks at its first bytes.
    fn open(path: &Path, warnings: &mut Vec<String>) -> Result<Self> {
        let found = fs::metadata(path).map_err(Error::read(path))?;
        let refused = |problem: &str| Err(Error::volume(path, "file", problem));
        if found.is_dir() {
            return refused("is a folder; give one volume");
        }
        if !found.is_file() {
            return refused("is not a regular file");
        }
        if found.len() == 0 {
            return refused("is empty");
        }
        let mut file = File::open(path).map_err(Error::read(path))?;
        let mut magic = Vec::new();
        file.by_ref()
            .take(2)
            .read_to_end(&mut magic)
            .map_err(Error::read(path))?;
        let compressed = magic == [0x1f, 0x8b];
        let named = path
            .extension()
            .is_some_and(|suffix| suffix.eq_ignore_ascii_case("gz"));
        match (compressed, named) {
            (true, false) => warnings.push("the file is gzip-compressed, unlike its name".into()),
            (false, true) => warnings.push("the file is not compressed, unlike its name".into()),
            _ => {}
        }
        let start = BufReader::with_capacity(CHUNK, Cursor::new(magic).chain(file));
        let (reader, capacity): (Box<dyn Read>, u64) = if compressed {
            let capacity = found.len().saturating_mul(MAX_RATIO);
            (Box::new(MultiGzDecoder::new(start)), capacity)
        } else {
            (Box::new(start), found.len())
        };
        Ok(Self {
            path: path.into(),
            reader,
            compressed,
            capacity,
            position: 0,
        })
    }

    /// What to say about a failed read.
    fn failed(&self, error: io::Error) -> Error {
        match error.kind() {
            ErrorKind::UnexpectedEof if self.compressed => Error::volume(
                &self.path,
                "gzip stream",
                "ends too early: the file is truncated",
            ),
            ErrorKind::InvalidInput | ErrorKind::InvalidData if self.compressed => {
                Error::volume(&self.path, "gzip stream", format!("is damaged: {error}"))
            }
            _ => Error::read(&self.path)(error),
        }
    }

    /// Up to `count` further bytes; fewer only at the end of the file.
    fn take(&mut self, count: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(count).read_to_end(&mut bytes);
        read.map_err(|error| self.failed(error))?;
        self.position += bytes.len() as u64;
        Ok(bytes)
    }

    /// Fills `bytes`, of which `wanted` in all should be there.
    fn fill(&mut self, bytes: &mut [u8], wanted: u64) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.reader.read(&mut bytes[done..]) {
                Ok(0) => {
                    let found = self.position + done as u64;
                    return Err(Error::volume(
                        &self.path,
                        "file",
                        format!(
                            "is truncated: it holds {found} bytes, the header asks for {wanted}"
                        ),
                    ));
                }
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Reads and counts what is left, which makes a decoder check its checksum.
    fn drain(&mut self) -> Result<u64> {
        let copied = io::copy(&mut (&mut self.reader).take(MAX_TAIL + 1), &mut io::sink());
        let rest = copied.map_err(|error| self.failed(error))?;
        if rest > MAX_TAIL {
            let problem = format!("goes on for more than {MAX_TAIL} bytes after the voxels");
            return Err(Error::volume(&self.path, "file", problem));
        }
        Ok(rest)
    }
}

/// A volume whose header is read and whose voxels are to come.
struct Opened {
    header: Header,
    extensions: Vec<u8>,
    affine: Affine,
    warnings: Vec<String>,
    /// Stands at the first voxel.
    source: Source,
}

impl Opened {
    fn open(path: &Path) -> Result<Self> {
        let mut warnings = Vec::new();
        let mut source = Source::open(&header_path(path), &mut warnings)?;
        let header = read_header(&mut source, &mut warnings)?;
        let affine = header.affine(path, &mut warnings)?;
        let start = source.position;
        let mut after_header = if header.pair {
            let rest = source.take(MAX_GAP)?;
            source.drain()?;
            source = Source::open(&voxel_path(&source.path)?, &mut warnings)?;
            check_size(&header, &source)?;
            let mut skipped = source.take(header.vox_offset)?;
            skipped.clear();
            rest
        } else {
            check_size(&header, &source)?;
            source.take(header.vox_offset - start)?
        };
        let mut extensions = Vec::new();
        if after_header.len() > 4 && after_header[0] != 0 {
            let (whole, broken) = names::whole_extensions(after_header.split_off(4), header.endian);
            extensions = whole;
            if let Some(size) = broken {
                warnings.push(format!(
                    "a header extension claims {size} bytes; skipped, the voxels begin at byte {}",
                    header.vox_offset
                ));
            }
        }
        Ok(Self {
            header,
            extensions,
            affine,
            warnings,
            source,
        })
    }

    fn voxels(&self) -> usize {
        self.header.shape().iter().product()
    }

    /// Hands every voxel, scaled, to `each`, in the order of the file; then reads the file to
    /// its end.
    fn decode(mut self, mut each: impl FnMut(f64) -> Result<()>) -> Result<Self> {
        let Header {
            datatype,
            endian,
            scaling,
            vox_offset,
            ..
        } = self.header;
        let mut left = self.voxels() * datatype.size();
        let wanted = vox_offset + left as u64;
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
        let rest = self.source.drain()?;
        if rest > 0 {
            self.warnings
                .push(format!("{rest} bytes after the voxels were ignored"));
        }
        Ok(self)
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

fn read_header(source: &mut Source, warnings: &mut Vec<String>) -> Result<Header> {
    let path = source.path.clone();
    let mut raw = source.take(348)?;
    let announced = raw.first_chunk().and_then(Header::announced);
    let Some((version, endian)) = announced else {
        let problem = match foreign(&raw) {
            Some(what) => format!("is {what}"),
            None => {
                "is not a NIfTI file: it does not begin with a header size of 348 or 540".into()
            }
        };
        return Err(Error::volume(&path, "file", problem));
    };
    raw.extend(source.take((version.header_len() - 348) as u64)?);
    if raw.len() < version.header_len() {
        let (found, wanted) = (raw.len(), version.header_len());
        let problem = format!("is truncated: {found} bytes, the header alone has {wanted}");
        return Err(Error::volume(&path, "file", problem));
    }
    Header::parse(&path, raw, version, endian, warnings)
}

/// What a file that is not NIfTI is, by its first bytes, and what to do with it.
fn foreign(start: &[u8]) -> Option<&'static str> {
    const KNOWN: [(usize, &[u8], &str); 14] = [
        (
            128,
            b"DICM",
            "a DICOM file; convert the series with dcm2niix",
        ),
        (0, b"\x89PNG", "a PNG picture; give a NIfTI volume"),
        (0, b"\xff\xd8\xff", "a JPEG picture; give a NIfTI volume"),
        (0, b"GIF8", "a GIF picture; give a NIfTI volume"),
        (0, b"II*\0", "a TIFF picture; give a NIfTI volume"),
        (0, b"MM\0*", "a TIFF picture; give a NIfTI volume"),
        (
            0,
            b"NRRD",
            "an NRRD file; convert it to NIfTI, for instance with 3D Slicer",
        ),
        (
            0,
            b"ObjectType",
            "a MetaImage header; convert it to NIfTI, for instance with SimpleITK",
        ),
        (
            0,
            b"\x89HDF",
            "an HDF5 or MINC 2 file; convert MINC with mnc2nii",
        ),
        (
            0,
            b"CDF\x01",
            "a NetCDF or MINC 1 file; convert it with mnc2nii",
        ),
        (
            0,
            b"\0\0\0\x01",
            "perhaps a FreeSurfer MGH file; convert it with mri_convert",
        ),
        (
            0,
            b"PK\x03\x04",
            "a zip archive; extract the NIfTI volume from it",
        ),
        (0, b"%PDF", "a PDF document"),
        (0, b"\x1f\x8b", "compressed twice"),
    ];
    KNOWN
        .iter()
        .find(|(at, magic, _)| start[(*at).min(start.len())..].starts_with(magic))
        .map(|(_, _, what)| *what)
}

/// Whether the file can hold what the header claims, before memory is asked for.
fn check_size(header: &Header, source: &Source) -> Result<()> {
    let path = &source.path;
    let gap = header.vox_offset;
    if gap > MAX_GAP + header.version.data_start() {
        let problem = format!("is {gap}: implausibly far into the file");
        return Err(Error::volume(path, "vox_offset", problem));
    }
    // At most 2³⁰ voxels of 8 bytes behind at most 2²⁸ bytes.
    let voxels: u64 = header.shape().iter().map(|&n| n as u64).product();
    let wanted = gap + voxels * header.datatype.size() as u64;
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
        return Err(Error::volume(path, "file", problem));
    }
    Ok(())
}

/// `path` with the first of `suffixes` it ends in, in any case, replaced by each of `by`, in
/// both cases.
fn siblings(path: &Path, suffixes: &[&str], by: [&str; 2]) -> Vec<PathBuf> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    let lower = name.to_ascii_lowercase();
    let Some(suffix) = suffixes.iter().find(|suffix| lower.ends_with(*suffix)) else {
        return Vec::new();
    };
    let stem = &name[..name.len() - suffix.len()];
    by.iter()
        .flat_map(|new| [(*new).to_owned(), new.to_ascii_uppercase()])
        .map(|new| path.with_file_name(format!("{stem}{new}")))
        .collect()
}

/// The file that holds the header: the `.hdr` beside a `.img`, otherwise the file itself.
fn header_path(path: &Path) -> PathBuf {
    siblings(path, &[".img", ".img.gz"], [".hdr", ".hdr.gz"])
        .into_iter()
        .find(|header| header.is_file())
        .unwrap_or_else(|| path.into())
}

/// The `.img` that belongs to a header of a pair.
fn voxel_path(header: &Path) -> Result<PathBuf> {
    let suffixes = [".hdr", ".hdr.gz", ".nii", ".nii.gz"];
    siblings(header, &suffixes, [".img", ".img.gz"])
        .into_iter()
        .find(|file| file.is_file())
        .ok_or_else(|| {
            let problem = "says that the voxels are in a `.img` file, but there is none beside it";
            Error::volume(header, "magic", problem)
        })
}
