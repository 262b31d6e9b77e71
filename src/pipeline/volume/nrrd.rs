//! NRRD, versions 1 to 5: lines of text, then the voxels in the same file or in another beside it.
//!
//! <https://teem.sourceforge.net/nrrd/format.html>. What of a header is needed is in [`fields`](super::nrrd_fields).

use std::path::{Component, Path, PathBuf};

use super::header::{self, Datatype, Endian, check_dim};
use super::made;
use super::nrrd_fields::Fields;
use super::read::{MAX_GAP, Opened, Stored};
use super::source::Source;
use crate::error::Result;
use crate::pipeline::geometry::{self, Affine};

/// With what every file begins.
pub(super) const MAGIC: &[u8] = b"NRRD";

/// Reads the header, of which `MAGIC` was read, and finds the voxels.
pub(super) fn open(mut source: Source, mut warnings: Vec<String>) -> Result<Opened> {
    let path = source.path.clone();
    let fields = Fields::read(&mut source, &mut warnings)?;
    let axes = Axes::of(&fields)?;
    let datatype = datatype(&fields)?;
    let endian = endian(&fields, datatype)?;
    let encoding = encoding(&fields)?;
    let (affine, is_known) = affine(&fields, &axes, &mut warnings)?;
    if let Some(file) = voxel_file(&fields)? {
        source = Source::plain(&file)?;
    }
    skip_lines(&fields, &mut source)?;
    if encoding == Encoding::Gzip {
        source.inflate();
    }
    let mut stored = Stored {
        datatype,
        endian,
        scaling: None,
        digits: encoding == Encoding::Digits,
        start: source.position,
    };
    skip_bytes(&fields, &mut source, &mut stored, axes.shape, encoding)?;
    stored.check_size(axes.shape, &source)?;
    source.skip(stored.start - source.position)?;
    Ok(Opened {
        header: made::header(&path, axes.shape, &affine, datatype, is_known)?,
        stored,
        extensions: Vec::new(),
        affine,
        names: fields.segments(),
        has_footer: false,
        warnings,
        source,
    })
}

/// The file that holds the voxels of the NRRD at `path`, if it is another and the header can be read.
pub(super) fn voxels_of(path: &Path) -> Option<PathBuf> {
    let mut source = Source::open(path, &mut Vec::new()).ok()?;
    if source.take(MAGIC.len() as u64).ok()? != MAGIC {
        return None;
    }
    let fields = Fields::read(&mut source, &mut Vec::new()).ok()?;
    voxel_file(&fields).ok()?
}

/// The file that `data file` names. It must lie beside the header or below it: a header cannot have any file of the
/// machine read.
fn voxel_file(fields: &Fields) -> Result<Option<PathBuf>> {
    let Some(name) = fields.get("data file") else {
        return Ok(None);
    };
    let lists = name == "LIST" || name.starts_with("LIST ") || name.contains('%');
    if lists {
        let problem = format!("is `{name}`: voxels in several files; give one volume in one file");
        return Err(fields.bad("data file", problem));
    }
    let is_beside = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    // What is a folder elsewhere is none here.
    if !is_beside || name.contains('\\') || name.contains(':') {
        let problem = format!("is `{name}`: it must lie beside the header");
        return Err(fields.bad("data file", problem));
    }
    Ok(Some(fields.path().with_file_name(name)))
}

/// How voxels are packed.
#[derive(Clone, Copy, PartialEq)]
enum Encoding {
    Raw,
    Gzip,
    Digits,
}

fn encoding(fields: &Fields) -> Result<Encoding> {
    Ok(
        match fields.needed("encoding")?.to_ascii_lowercase().as_str() {
            "raw" => Encoding::Raw,
            "gzip" | "gz" => Encoding::Gzip,
            "ascii" | "text" | "txt" => Encoding::Digits,
            other => {
                let problem = format!("is `{other}`: raw, gzip and ascii are known");
                return Err(fields.bad("encoding", problem));
            }
        },
    )
}

fn datatype(fields: &Fields) -> Result<Datatype> {
    let name = fields.needed("type")?;
    let words: Vec<&str> = name.split_whitespace().collect();
    Ok(match words.join(" ").to_ascii_lowercase().as_str() {
        "signed char" | "int8" | "int8_t" => Datatype::I8,
        "uchar" | "unsigned char" | "uint8" | "uint8_t" => Datatype::U8,
        "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => {
            Datatype::I16
        }
        "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => Datatype::U16,
        "int" | "signed int" | "int32" | "int32_t" => Datatype::I32,
        "uint" | "unsigned int" | "uint32" | "uint32_t" => Datatype::U32,
        "longlong"
        | "long long"
        | "long long int"
        | "signed long long"
        | "signed long long int"
        | "int64"
        | "int64_t" => Datatype::I64,
        "ulonglong" | "unsigned long long" | "unsigned long long int" | "uint64" | "uint64_t" => {
            Datatype::U64
        }
        "float" => Datatype::F32,
        "double" => Datatype::F64,
        _ => {
            let problem = format!("is `{name}`: voxels must be real numbers");
            return Err(fields.bad("type", problem));
        }
    })
}

fn endian(fields: &Fields, datatype: Datatype) -> Result<Endian> {
    match fields.get("endian").map(str::to_ascii_lowercase).as_deref() {
        Some("little") => Ok(Endian::Little),
        Some("big") => Ok(Endian::Big),
        Some(other) => Err(fields.bad("endian", format!("is `{other}`, not little or big"))),
        None if datatype.size() == 1 || encoding(fields)? == Encoding::Digits => Ok(Endian::Little),
        None => Err(fields.bad("endian", "is missing, but a voxel has several bytes")),
    }
}

/// The three axes of space among those of the file.
struct Axes {
    /// All there are.
    count: usize,
    /// Which of them are space's.
    space: [usize; 3],
    /// Their lengths.
    shape: [usize; 3],
}

impl Axes {
    fn of(fields: &Fields) -> Result<Self> {
        let text = fields.needed("dimension")?;
        let count = match text.parse() {
            Ok(count @ 3..=16) => count,
            Ok(1 | 2) => {
                let problem = format!("is {text}: a single picture; give a 3-D volume");
                return Err(fields.bad("dimension", problem));
            }
            _ => {
                let problem = format!("is `{text}`: a volume has 3 to 16 axes");
                return Err(fields.bad("dimension", problem));
            }
        };
        let lengths: Vec<i64> = fields
            .numbers("sizes", count)?
            .ok_or_else(|| fields.missing("sizes"))?;
        let kinds: Option<Vec<String>> = fields.numbers("kinds", count)?;
        let directions = fields.vectors("space directions", count)?;
        let mut space = Vec::new();
        for axis in 0..count {
            let kind = kinds.as_ref().map_or("???", |kinds| kinds[axis].as_str());
            let kind = kind.to_ascii_lowercase();
            let is_spatial = matches!(kind.as_str(), "domain" | "space" | "???" | "none")
                && directions
                    .as_ref()
                    .is_none_or(|vectors| vectors[axis].is_some());
            if is_spatial {
                space.push(axis);
            } else if lengths[axis] != 1 {
                let what = match kind.as_str() {
                    "time" => "a time series",
                    "list" => "many volumes",
                    kind if kind.ends_with("color") => "colours",
                    _ => "a vector per voxel",
                };
                let problem = format!(
                    "[{}] is {}: {what}; give one 3-D volume",
                    axis + 1,
                    lengths[axis]
                );
                return Err(fields.bad("sizes", problem));
            }
        }
        // As in NIfTI, axes of length 1 may follow.
        while space.len() > 3 && space.last().is_some_and(|&axis| lengths[axis] == 1) {
            space.pop();
        }
        let Ok(space): std::result::Result<[usize; 3], _> = space.try_into() else {
            let problem = format!("are {lengths:?}: not the three axes of one volume");
            return Err(fields.bad("sizes", problem));
        };
        let [x, y, z] = space.map(|axis| lengths[axis]);
        check_dim(&[3, x, y, z, 1, 1, 1, 1])
            .map_err(|(_, problem)| fields.bad("sizes", problem))?;
        Ok(Self {
            count,
            space,
            shape: [x, y, z].map(|n| n as usize),
        })
    }
}

/// Voxel index to RAS millimetres, and whether the file states the directions.
///
/// Without `space directions` voxels have the size that `spacings` say, voxel 0 is at the origin and the axes run to
/// the left, posterior and superior, as ITK takes it.
fn affine(fields: &Fields, axes: &Axes, warnings: &mut Vec<String>) -> Result<(Affine, bool)> {
    const UNKNOWN: &str = "so left and right may be exchanged";
    let name = fields.get("space").unwrap_or_default();
    let lower = name.to_ascii_lowercase();
    let signs = match lower.as_str() {
        "right-anterior-superior" | "ras" => Some([1.0, 1.0, 1.0]),
        "left-anterior-superior" | "las" => Some([-1.0, 1.0, 1.0]),
        "left-posterior-superior" | "lps" => Some([-1.0, -1.0, 1.0]),
        "" | "scanner-xyz" | "3d-right-handed" | "3d-left-handed" => None,
        _ if lower.ends_with("-time") || ["rast", "last", "lpst"].contains(&lower.as_str()) => {
            let problem = format!("is `{name}`: a time series; give one 3-D volume");
            return Err(fields.bad("space", problem));
        }
        _ => {
            let problem = format!("is `{name}`: RAS, LAS, LPS and their long names are known");
            return Err(fields.bad("space", problem));
        }
    };
    if let Some(dimension) = fields.get("space dimension").filter(|text| *text != "3") {
        let problem = format!("is `{dimension}`: a volume lies in 3");
        return Err(fields.bad("space dimension", problem));
    }
    let (steps, sizes): ([[f64; 3]; 3], [f64; 3]) = match fields
        .vectors("space directions", axes.count)?
    {
        Some(vectors) => {
            if signs.is_none() {
                let said = if name.is_empty() {
                    "space is not set"
                } else {
                    "space names no side of the body"
                };
                warnings.push(format!(
                    "{said}; directions are taken as left, posterior, superior, {UNKNOWN}"
                ));
            }
            let steps = axes.space.map(|axis| vectors[axis].unwrap_or_default());
            let length = |step: [f64; 3]| step.iter().map(|v| v * v).sum::<f64>().sqrt();
            (steps, steps.map(length))
        }
        None => {
            warnings.push(format!(
                "space directions are not set; axes are taken as left, posterior, superior, {UNKNOWN}"
            ));
            let sizes = spacings(fields, axes, warnings)?;
            let along = |axis: usize| {
                std::array::from_fn(|row| if row == axis { sizes[axis] } else { 0.0 })
            };
            ([along(0), along(1), along(2)], sizes)
        }
    };
    let is_known = signs.is_some() && fields.get("space directions").is_some();
    let signs = signs.filter(|_| is_known).unwrap_or([-1.0, -1.0, 1.0]);
    let origin = fields
        .vectors("space origin", 1)?
        .map(|vectors| vectors[0].unwrap_or_default());
    if origin.is_none() && is_known {
        warnings.push("space origin is not set; voxel 0 is taken to be at 0".into());
    }
    let origin = origin.unwrap_or_default();
    let scale = units(fields, sizes, warnings);
    let affine = std::array::from_fn(|row| {
        let [x, y, z] = [0, 1, 2].map(|axis| steps[axis][row]);
        [x, y, z, origin[row]].map(|value| value * signs[row] * scale)
    });
    if !geometry::is_usable(&affine) {
        let problem = "are not three independent directions of finite numbers";
        return Err(fields.bad("space directions", problem));
    }
    if is_known && geometry::is_made_up(&affine) {
        warnings.push(header::MADE_UP.into());
    }
    Ok((affine, is_known))
}

/// The voxel sizes of a file without directions; 1 if it has none.
fn spacings(fields: &Fields, axes: &Axes, warnings: &mut Vec<String>) -> Result<[f64; 3]> {
    let Some(all): Option<Vec<f64>> = fields.numbers("spacings", axes.count)? else {
        warnings.push("spacings are not set; voxels of 1 mm are taken".into());
        return Ok([1.0; 3]);
    };
    let sizes = axes.space.map(|axis| all[axis]);
    match sizes
        .iter()
        .position(|size| !(*size > 0.0 && size.is_finite()))
    {
        Some(axis) => {
            let problem = format!(
                "[{}] is {}: a voxel size must be positive",
                axis + 1,
                sizes[axis]
            );
            Err(fields.bad("spacings", problem))
        }
        None => Ok(sizes),
    }
}

/// Millimetres per unit of length, where `space units` says one for all axes.
fn units(fields: &Fields, sizes: [f64; 3], warnings: &mut Vec<String>) -> f64 {
    let text = fields.get("space units").unwrap_or_default();
    let mut names = text
        .split('"')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let first = names.next().unwrap_or_default();
    if names.any(|name| name != first) {
        warnings.push(format!("space units are {text}; mm are taken"));
        return 1.0;
    }
    let (name, scale) = match first {
        "m" | "meter" | "meters" | "metre" | "metres" => ("metres", 1000.0),
        "cm" => ("centimetres", 10.0),
        "um" | "µm" | "micron" | "microns" => ("microns", 0.001),
        _ => return 1.0,
    };
    header::unit("space units", name, scale, sizes, warnings)
}

/// Passes over the lines before the voxels.
fn skip_lines(fields: &Fields, source: &mut Source) -> Result<()> {
    let text = fields.get("line skip").unwrap_or("0");
    let Ok(count) = text.parse::<u64>() else {
        let problem = format!("is `{text}`, not a number of lines");
        return Err(fields.bad("line skip", problem));
    };
    let end = source.position + MAX_GAP;
    for _ in 0..count {
        if source.line(end - source.position)?.is_none() {
            let problem = format!("is {text}: more lines than the file has");
            return Err(fields.bad("line skip", problem));
        }
        if source.position == end {
            let problem = format!("is {text}: implausibly far into the file");
            return Err(fields.bad("line skip", problem));
        }
    }
    Ok(())
}

/// Moves the start of the voxels on by `byte skip`; -1 means that they end the file.
fn skip_bytes(
    fields: &Fields,
    source: &mut Source,
    stored: &mut Stored,
    shape: [usize; 3],
    encoding: Encoding,
) -> Result<()> {
    let text = fields.get("byte skip").unwrap_or("0");
    let bad = |problem: &str| Err(fields.bad("byte skip", format!("is {text}: {problem}")));
    match text.parse::<i64>() {
        Ok(-1) if encoding == Encoding::Raw && !source.compressed => {
            let bytes = shape.iter().product::<usize>() * stored.datatype.size();
            let start = source.capacity.checked_sub(bytes as u64);
            stored.start = start.unwrap_or(0).max(stored.start);
            Ok(())
        }
        Ok(-1) => bad("only a raw file's end is known beforehand"),
        Ok(count @ 0..) if count as u64 <= MAX_GAP => {
            stored.start += count as u64;
            Ok(())
        }
        Ok(0..) => bad("implausibly far into the file"),
        _ => bad("not a number of bytes"),
    }
}
