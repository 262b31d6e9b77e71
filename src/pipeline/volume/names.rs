//! Names and colours of labels: the table inside a NIfTI file and the BIDS table beside it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::header::Endian;
use super::suffix;
use crate::error::{Error, Result};
use crate::pipeline::files;

/// The name of each label.
pub type Names = BTreeMap<u32, String>;

/// The extension code of a Caret XML label table, which viewers read names and colours from.
const CARET: i32 = 30;

/// The most bytes of a label table that are read.
const MAX_TABLE: u64 = 16 << 20;

/// The display colour of a label as RGB: hand-picked for the first ones, then hues a golden
/// section apart, so that neighbours always differ. Label 0 is black.
pub fn colour(label: u32) -> [u8; 3] {
    const FIRST: [[u8; 3]; 12] = [
        [230, 75, 60],
        [70, 180, 240],
        [255, 200, 40],
        [80, 200, 110],
        [200, 110, 230],
        [255, 140, 40],
        [60, 215, 205],
        [245, 130, 190],
        [170, 210, 60],
        [110, 125, 245],
        [200, 150, 100],
        [250, 240, 150],
    ];
    let Some(index) = label.checked_sub(1) else {
        return [0; 3];
    };
    if let Some(colour) = FIRST.get(index as usize) {
        return *colour;
    }
    let hue = (f64::from(index) * 0.618_033_988_75).fract() * 6.0;
    let value = [1.0, 0.8, 0.9][index as usize % 3];
    let saturation = [0.75, 0.6, 0.45][index as usize / 3 % 3];
    [5.0, 3.0, 1.0].map(|shift| {
        let k = (shift + hue) % 6.0;
        let share = k.min(4.0 - k).clamp(0.0, 1.0);
        (255.0 * value * (1.0 - saturation * share)) as u8
    })
}

/// The table that belongs to an image: the same name with `.tsv` for `.nii.gz` or what else it ends in.
pub fn sidecar(image: &Path) -> PathBuf {
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    let cut = suffix(image).map_or(0, str::len);
    image.with_file_name(format!("{}.tsv", &name[..name.len() - cut]))
}

/// The names in the BIDS table beside `image` (columns `index` and `name`); empty without one.
///
/// # Errors
///
/// [`Error::Read`] if the table is there and cannot be read, [`Error::Config`] if it lacks a
/// column or an index is no whole number.
pub fn read_names(image: &Path) -> Result<Names> {
    let path = sidecar(image);
    if !path.is_file() {
        return Ok(Names::new());
    }
    let mut text = String::new();
    let file = fs::File::open(&path).map_err(Error::read(&path))?;
    file.take(MAX_TABLE)
        .read_to_string(&mut text)
        .map_err(Error::read(&path))?;
    let mut lines = text
        .trim_start_matches('\u{feff}')
        .lines()
        .filter(|line| !line.is_empty());
    let columns: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split('\t')
        .map(str::trim)
        .collect();
    let column = |wanted: &str| {
        columns
            .iter()
            .position(|column| column.eq_ignore_ascii_case(wanted))
            .ok_or_else(|| Error::config(&path, format!("has no column `{wanted}`")))
    };
    let (index, name) = (column("index")?, column("name")?);
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split('\t').map(str::trim).collect();
            let cell = |at: usize| cells.get(at).copied().unwrap_or_default();
            let label = cell(index).parse().map_err(|_| {
                Error::config(&path, format!("index `{}` is no whole number", cell(index)))
            })?;
            Ok((label, cell(name).to_owned()))
        })
        .collect()
}

/// Writes the BIDS table beside `image`: index, name and colour. Returns its path.
///
/// # Errors
///
/// [`Error::Write`].
pub fn write_names(image: &Path, names: &Names) -> Result<PathBuf> {
    let path = sidecar(image);
    let mut table = String::from("index\tname\tcolor\n");
    for (&label, name) in names {
        let name: String = name
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let [r, g, b] = colour(label);
        // Writing to a string cannot fail.
        let _ = writeln!(table, "{label}\t{name}\t#{r:02x}{g:02x}{b:02x}");
    }
    files::atomic_write(&path, |out| out.write_all(table.as_bytes()))?;
    Ok(path)
}

/// A table of labels as another program reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelTable {
    /// 3D Slicer's colour table, `.ctbl`.
    Ctbl,
    /// ITK-SNAP's label description.
    Itksnap,
    /// FreeSurfer's colour look-up table.
    Freesurfer,
    /// FSLeyes' look-up table, `.lut`.
    Fsleyes,
    /// niivue's label colour map, JSON.
    Niivue,
}

impl LabelTable {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Ctbl,
        Self::Itksnap,
        Self::Freesurfer,
        Self::Fsleyes,
        Self::Niivue,
    ];

    /// What the file's name ends in, after that of its case.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Ctbl => "seg-keraunos_dseg.ctbl",
            Self::Itksnap => "seg-keraunos_itksnap.txt",
            Self::Freesurfer => "seg-keraunos_freesurfer.txt",
            Self::Fsleyes => "seg-keraunos_dseg.lut",
            Self::Niivue => "seg-keraunos_niivue.json",
        }
    }

    /// The table of some names, with the colours of [`colour`]. Where a space would end a name an underscore
    /// stands for it.
    pub fn text(self, names: &Names) -> String {
        if self == Self::Niivue {
            return niivue(names);
        }
        let mut text = String::from(match self {
            Self::Ctbl => "# Color table file\n0 Background 0 0 0 0\n",
            Self::Itksnap => {
                "# ITK-SnAP Label Description File\n# IDX R G B A VIS MESH LABEL\n    \
                 0     0    0    0        0  0  0    \"Clear Label\"\n"
            }
            Self::Freesurfer => "#No. Label Name: R G B A\n0 Unknown 0 0 0 0\n",
            // FSLeyes leaves 0 out, and takes every line for a label.
            Self::Fsleyes | Self::Niivue => "",
        });
        for (&label, name) in names.iter().filter(|(label, _)| **label > 0) {
            let [r, g, b] = colour(label);
            let word: String = name
                .chars()
                .map(|c| match c.is_whitespace() || c.is_control() {
                    true => '_',
                    false => c,
                })
                .collect();
            let quoted: String = name
                .chars()
                .map(|c| match c {
                    '"' => '\'',
                    c if c.is_control() => ' ',
                    c => c,
                })
                .collect();
            // Writing to a string cannot fail.
            let _ = match self {
                Self::Ctbl => writeln!(text, "{label} {word} {r} {g} {b} 255"),
                Self::Itksnap => writeln!(
                    text,
                    "{label:>5}  {r:>4} {g:>4} {b:>4}        1  1  1    \"{quoted}\""
                ),
                // FreeSurfer's last number is the transparency.
                Self::Freesurfer => writeln!(text, "{label} {word} {r} {g} {b} 0"),
                Self::Fsleyes | Self::Niivue => {
                    let [r, g, b] = [r, g, b].map(|channel| f64::from(channel) / 255.0);
                    writeln!(text, "{label} {r:.5} {g:.5} {b:.5} {quoted}")
                }
            };
        }
        text
    }
}

/// A column for each channel; 0 is seen through.
fn niivue(names: &Names) -> String {
    let labelled = names.iter().filter(|(label, _)| **label > 0);
    let (mut indices, mut labels, mut channels) = (vec![0], vec!["background"], vec![[0; 4]]);
    for (&label, name) in labelled {
        let [r, g, b] = colour(label);
        indices.push(label);
        labels.push(name);
        channels.push([r, g, b, 255]);
    }
    let channel = |n: usize| channels.iter().map(|rgba| rgba[n]).collect::<Vec<u8>>();
    let table = serde_json::json!({
        "R": channel(0),
        "G": channel(1),
        "B": channel(2),
        "A": channel(3),
        "I": indices,
        "labels": labels,
    });
    format!("{table}\n")
}

/// One header extension: the bytes from `start` (size and code included) to `end`.
struct Extension {
    code: i32,
    start: usize,
    end: usize,
}

/// The extensions in `raw`, and the size field at which the chain breaks, if it does.
fn extensions(raw: &[u8], endian: Endian) -> (Vec<Extension>, Option<i32>) {
    let int = |at: usize| {
        let bytes: [u8; 4] = raw.get(at..at + 4)?.try_into().ok()?;
        Some(match endian {
            Endian::Little => i32::from_le_bytes(bytes),
            Endian::Big => i32::from_be_bytes(bytes),
        })
    };
    let (mut found, mut start) = (Vec::new(), 0);
    while let (Some(size), Some(code)) = (int(start), int(start + 4)) {
        if size == 0 && raw[start..].iter().all(|&byte| byte == 0) {
            break; // padding up to the voxels
        }
        let end = usize::try_from(size)
            .ok()
            .and_then(|size| start.checked_add(size));
        match end {
            Some(end) if size >= 8 && end <= raw.len() => {
                found.push(Extension { code, start, end })
            }
            _ => return (found, Some(size)),
        }
        start = found.last().map_or(start, |extension| extension.end);
    }
    (found, None)
}

/// Whether an extension is a Caret label table, by its code or, since some writers leave the
/// code at 0, by its text.
fn is_label_table(raw: &[u8], extension: &Extension) -> bool {
    const ROOT: &[u8] = b"<CaretExtension";
    let text = &raw[extension.start + 8..extension.end];
    let start = &text[..text.len().min(200)];
    extension.code == CARET || start.windows(ROOT.len()).any(|window| window == ROOT)
}

/// What is whole of the extensions in the bytes after the extender, and the size field of the
/// first damaged one.
pub(super) fn whole_extensions(mut raw: Vec<u8>, endian: Endian) -> (Vec<u8>, Option<i32>) {
    let (found, broken) = extensions(&raw, endian);
    raw.truncate(found.last().map_or(0, |extension| extension.end));
    (raw, broken)
}

/// `raw` with the label table of `names` in place of any it has; unchanged without names.
pub(super) fn with_label_table(raw: &[u8], endian: Endian, names: &Names) -> Vec<u8> {
    if names.is_empty() {
        return raw.to_vec();
    }
    let (found, _) = extensions(raw, endian);
    let mut out: Vec<u8> = found
        .iter()
        .filter(|extension| !is_label_table(raw, extension))
        .flat_map(|extension| &raw[extension.start..extension.end])
        .copied()
        .collect();
    let text = label_table(names);
    let size = (8 + text.len()).next_multiple_of(16);
    // A table beyond 2 GiB would need a hundred million names.
    for number in [size as i32, CARET] {
        out.extend(match endian {
            Endian::Little => number.to_le_bytes(),
            Endian::Big => number.to_be_bytes(),
        });
    }
    out.extend(text.as_bytes());
    out.resize(out.len() + size - 8 - text.len(), 0);
    out
}

/// The Caret XML text of a label table.
fn label_table(names: &Names) -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CaretExtension>\n\
         <VolumeInformation Index=\"0\">\n<LabelTable>\n",
    );
    for (&label, name) in names {
        let [r, g, b] = colour(label).map(|channel| f64::from(channel) / 255.0);
        let name = name.replace("]]>", "]] >");
        let _ = writeln!(
            xml,
            "<Label Key=\"{label}\" Red=\"{r:.4}\" Green=\"{g:.4}\" Blue=\"{b:.4}\" Alpha=\"1\">\
             <![CDATA[{name}]]></Label>"
        );
    }
    xml.push_str(
        "</LabelTable>\n<StudyMetaDataLinkSet>\n</StudyMetaDataLinkSet>\n\
         <VolumeType><![CDATA[Label]]></VolumeType>\n</VolumeInformation>\n</CaretExtension>\n",
    );
    xml
}

/// The names in the label table among the extensions, if there is one.
pub(super) fn embedded(raw: &[u8], endian: Endian) -> Names {
    let (found, _) = extensions(raw, endian);
    let Some(table) = found
        .iter()
        .find(|extension| is_label_table(raw, extension))
    else {
        return Names::new();
    };
    let text = String::from_utf8_lossy(&raw[table.start + 8..table.end]);
    let mut names = Names::new();
    for label in text.split("<Label ").skip(1) {
        let Some((attributes, rest)) = label.split_once('>') else {
            continue;
        };
        let key = attributes
            .split_once("Key=\"")
            .and_then(|(_, value)| value.split_once('"'));
        let Some(Ok(key)) = key.map(|(key, _)| key.parse()) else {
            continue;
        };
        let name = match rest.strip_prefix("<![CDATA[") {
            Some(raw) => raw.split("]]>").next().unwrap_or_default().to_owned(),
            None => rest
                .split('<')
                .next()
                .unwrap_or_default()
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&apos;", "'")
                .replace("&amp;", "&"),
        };
        names.insert(key, name);
    }
    names
}
