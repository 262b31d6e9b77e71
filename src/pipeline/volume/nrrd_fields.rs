//! The lines of an NRRD header: fields, and keys with values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::names::Names;
use super::source::Source;
use crate::error::{Error, Result};

/// The most bytes of a header; 3D Slicer writes about a thousand for each segment.
const MAX_HEADER: u64 = 1 << 20;

/// The fields of the format: those that are read, and those that say nothing of voxels or their places.
const KNOWN: [&str; 29] = [
    "dimension",
    "type",
    "sizes",
    "endian",
    "encoding",
    "spacings",
    "kinds",
    "space",
    "space dimension",
    "space directions",
    "space origin",
    "space units",
    "data file",
    "line skip",
    "byte skip",
    "axis maxs",
    "axis mins",
    "block size",
    "centerings",
    "content",
    "labels",
    "max",
    "measurement frame",
    "min",
    "number",
    "old max",
    "old min",
    "thicknesses",
    "units",
];

/// Other spellings.
const ALIASES: [(&str, &str); 10] = [
    ("axismaxs", "axis maxs"),
    ("axismins", "axis mins"),
    ("blocksize", "block size"),
    ("byteskip", "byte skip"),
    ("centers", "centerings"),
    ("datafile", "data file"),
    ("lineskip", "line skip"),
    ("oldmax", "old max"),
    ("oldmin", "old min"),
    ("sample units", "units"),
];

/// A header's fields by name, and its keys.
pub(super) struct Fields {
    path: PathBuf,
    fields: BTreeMap<&'static str, String>,
    keys: BTreeMap<String, String>,
}

impl Fields {
    /// Reads the lines up to the empty one or, where the voxels are in another file, to the end. `NRRD` was read.
    pub(super) fn read(source: &mut Source, warnings: &mut Vec<String>) -> Result<Self> {
        let path = source.path.clone();
        let bad = |problem: String| Error::volume(&path, "header", problem);
        let mut read = Self {
            path: path.clone(),
            fields: BTreeMap::new(),
            keys: BTreeMap::new(),
        };
        let mut line = || {
            let left = MAX_HEADER.saturating_sub(source.position);
            let line = source.line(left)?;
            if source.position >= MAX_HEADER {
                let problem = format!("goes on for more than {MAX_HEADER} bytes");
                return Err(Error::volume(&source.path, "header", problem));
            }
            Ok(line.map(|line| String::from_utf8_lossy(&line).trim_end().to_owned()))
        };
        let version = line()?.unwrap_or_default();
        if !["0001", "0002", "0003", "0004", "0005"].contains(&version.as_str()) {
            let shown: String = version.chars().take(20).collect();
            let problem = format!(
                "begins with `NRRD{}`: versions 0001 to 0005 are known",
                shown.escape_default()
            );
            return Err(bad(problem));
        }
        loop {
            let Some(line) = line()? else {
                if read.fields.contains_key("data file") {
                    return Ok(read);
                }
                return Err(bad("ends without an empty line before the voxels".into()));
            };
            if line.is_empty() {
                return Ok(read);
            }
            if line.starts_with('#') {
                continue;
            }
            let shown = || {
                line.chars()
                    .take(40)
                    .collect::<String>()
                    .escape_default()
                    .to_string()
            };
            let Some((name, value)) = line.split_once(':') else {
                return Err(bad(format!(
                    "has the line `{}`: neither a field nor a key",
                    shown()
                )));
            };
            if let Some(value) = value.strip_prefix('=') {
                read.keys.insert(name.to_owned(), value.to_owned());
                continue;
            }
            let lower = name.trim().to_ascii_lowercase();
            let alias = ALIASES.iter().find(|(other, _)| *other == lower);
            let wanted = alias.map_or(lower.as_str(), |(_, name)| *name);
            let Some(known) = KNOWN.into_iter().find(|known| *known == wanted) else {
                warnings.push(format!(
                    "the header's line `{}` is not NRRD's; passed over",
                    shown()
                ));
                continue;
            };
            if read.fields.insert(known, value.trim().to_owned()).is_some() {
                return Err(bad(format!("has `{known}` twice")));
            }
        }
    }

    /// The file of the header.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A fault in a field.
    pub(super) fn bad(&self, field: &'static str, problem: impl Into<String>) -> Error {
        // Whoever made the file wrote what is quoted.
        let problem: String = problem.into();
        let clean = problem.chars().filter(|c| !c.is_control()).take(300);
        Error::volume(&self.path, field, clean.collect::<String>())
    }

    /// What is said of a field that is not there.
    pub(super) fn missing(&self, field: &'static str) -> Error {
        self.bad(field, "is missing")
    }

    /// A field's value.
    pub(super) fn get(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(String::as_str)
    }

    /// The value of a field that must be there.
    pub(super) fn needed(&self, field: &'static str) -> Result<&str> {
        self.get(field).ok_or_else(|| self.missing(field))
    }

    /// `count` words of a field, read as what they are; nothing without the field.
    pub(super) fn numbers<T: FromStr>(
        &self,
        field: &'static str,
        count: usize,
    ) -> Result<Option<Vec<T>>> {
        let Some(text) = self.get(field) else {
            return Ok(None);
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.len() != count {
            let problem = format!("has {} entries, but there are {count} axes", words.len());
            return Err(self.bad(field, problem));
        }
        let read = words.into_iter().map(|word| {
            let problem = || {
                self.bad(
                    field,
                    format!("has the entry `{word}`: no number that fits"),
                )
            };
            word.parse().map_err(|_| problem())
        });
        read.collect::<Result<_>>().map(Some)
    }

    /// `count` vectors of three numbers, such as `(1,0,0)`, nothing for `none`; nothing without the field.
    pub(super) fn vectors(
        &self,
        field: &'static str,
        count: usize,
    ) -> Result<Option<Vec<Option<[f64; 3]>>>> {
        let Some(mut rest) = self.get(field) else {
            return Ok(None);
        };
        let bad = || {
            let problem = format!(
                "is `{}`, not {count} times `(x,y,z)` or `none`",
                self.fields[field]
            );
            self.bad(field, problem)
        };
        let mut vectors = Vec::new();
        while !rest.is_empty() {
            if vectors.len() == count {
                return Err(bad());
            }
            if rest.len() >= 4 && rest.is_char_boundary(4) && rest[..4].eq_ignore_ascii_case("none")
            {
                vectors.push(None);
                rest = rest[4..].trim_start();
                continue;
            }
            let inner = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
            let (inner, after) = inner.ok_or_else(bad)?;
            let numbers: Vec<f64> = inner
                .split(',')
                .map(|number| number.trim().parse().map_err(|_| bad()))
                .collect::<Result<_>>()?;
            vectors.push(Some(numbers.try_into().map_err(|_| bad())?));
            rest = after.trim_start();
        }
        match vectors.len() == count {
            true => Ok(Some(vectors)),
            false => Err(bad()),
        }
    }

    /// The names of segments, as 3D Slicer keeps them (`Segment0_LabelValue`, `Segment0_Name`).
    pub(super) fn segments(&self) -> Names {
        let labelled = self.keys.iter().filter_map(|(key, value)| {
            let segment = key.strip_suffix("_LabelValue")?;
            let name = self.keys.get(&format!("{segment}_Name"))?;
            Some((value.trim().parse().ok()?, name.clone()))
        });
        labelled.collect()
    }
}
