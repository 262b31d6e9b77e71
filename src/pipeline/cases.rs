//! Many cases: found in a folder by their names, or read from a list.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files;
use super::finish;
use super::modality::Modality;
use super::request::Input;
use crate::error::{Error, Result};

/// The most bytes of a list of cases.
const MAX_LIST: u64 = 16 << 20;
/// The name by which a BIDS derivative calls the dataset that it was made of.
pub const RAW: &str = "raw";
/// The most bytes of a case's name: with what is put behind it it names files, of which most disks take 255.
const MAX_NAME: usize = 180;

/// One patient at one time: volumes that are segmented together.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is called in messages and tables; no two cases share it.
    pub name: String,
    /// Its volumes.
    pub inputs: Vec<Input>,
    /// Where its results go, in the folder of all results.
    pub folder: PathBuf,
    /// What its results are called.
    pub stem: String,
    /// Its volumes as BIDS calls them, `bids:raw:sub-01/anat/sub-01_T1w.nii.gz`; none outside a BIDS dataset.
    pub sources: Vec<String>,
    /// What was odd about its files.
    pub warnings: Vec<String>,
    /// Why it cannot be segmented, if that is known already.
    pub fault: Option<String>,
}

/// How a folder names its cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz`, one case a subject and session.
    Bids,
    /// `case_0000.nii.gz`, `case_0001.nii.gz`, ..., a channel each.
    Nnunet,
    /// A case a file.
    Flat,
}

impl Layout {
    /// The layout that a folder seems to have: BIDS with a `sub-*` folder, nnU-Net's where every volume's name
    /// ends in four digits, else flat.
    ///
    /// # Errors
    /// A folder that cannot be listed.
    pub fn of(folder: &Path) -> Result<Self> {
        if subfolders(folder, "sub-")?.next().is_some() {
            return Ok(Self::Bids);
        }
        let volumes = volumes_in(folder)?;
        let channels = volumes.iter().filter(|path| channel(path).is_some());
        Ok(match channels.count() {
            0 => Self::Flat,
            count if count == volumes.len() => Self::Nnunet,
            count => {
                return Err(Error::Argument(format!(
                    "`{}`: {count} of {} volumes are named as nnU-Net's channels (case_0000); say by --layout \
                     whether all are cases (flat) or channels (nnunet)",
                    folder.display(),
                    volumes.len()
                )));
            }
        })
    }
}

/// The cases of a folder, by name. `modalities` are those of nnU-Net's channels in turn, the one of all files of a
/// flat folder, or those that are taken from a BIDS tree, the first of which gives the grid.
///
/// # Errors
/// A folder that cannot be listed or has no case, or more modalities than the layout has a use for.
pub fn in_folder(folder: &Path, layout: Layout, modalities: &[Modality]) -> Result<Vec<Case>> {
    let cases = match layout {
        Layout::Bids => bids(folder, modalities)?,
        Layout::Nnunet => nnunet(folder, modalities)?,
        Layout::Flat => flat(folder, modalities)?,
    };
    if cases.is_empty() {
        let what = match layout {
            Layout::Bids => "no sub-*/[ses-*/]anat/*_{T1w,T2w,FLAIR,PDw}.nii[.gz]",
            Layout::Nnunet => "no volume named case_0000.nii[.gz]",
            Layout::Flat => "no volume (NIfTI, MGH or NRRD)",
        };
        let folder = folder.display();
        return Err(Error::Argument(format!("`{folder}` has {what}")));
    }
    distinct(cases)
}

/// The cases in the order of their names, which must differ.
fn distinct(mut cases: Vec<Case>) -> Result<Vec<Case>> {
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some([one, _]) = cases
        .windows(2)
        .find(|pair| pair[0].name == pair[1].name)
        .and_then(|pair| <&[Case; 2]>::try_from(pair).ok())
    {
        let problem = format!("two cases are called `{}`", one.name);
        return Err(Error::Argument(problem));
    }
    Ok(cases)
}

/// The volumes that lie in the folder itself.
fn volumes_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut volumes = files::volumes_under(folder)?;
    volumes.retain(|path| path.parent() == Some(folder));
    Ok(volumes)
}

/// The folders in a folder whose names begin so, by name.
fn subfolders(folder: &Path, begin: &str) -> Result<impl Iterator<Item = PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::read(folder))? {
        let path = entry.map_err(Error::read(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(begin) && path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found.into_iter())
}

fn case(name: &str, stem: &str, inputs: Vec<Input>) -> Case {
    Case {
        name: name.to_owned(),
        inputs,
        folder: PathBuf::new(),
        stem: stem.to_owned(),
        sources: Vec::new(),
        warnings: Vec::new(),
        fault: None,
    }
}

fn flat(folder: &Path, modalities: &[Modality]) -> Result<Vec<Case>> {
    if modalities.len() > 1 {
        return Err(Error::Argument(format!(
            "{} times --modality, but every volume of `{}` is a case; one is for all of them",
            modalities.len(),
            folder.display()
        )));
    }
    let volumes = volumes_in(folder)?.into_iter().map(|path| {
        let stem = finish::stem(&path);
        let modality = modalities.first().copied();
        case(&stem, &stem, vec![Input { path, modality }])
    });
    Ok(volumes.collect())
}

/// nnU-Net's name of a case and number of a channel: `a_b` and 1 of `a_b_0001.nii.gz`.
fn channel(path: &Path) -> Option<(String, usize)> {
    let stem = finish::stem(path);
    let (case, digits) = stem.rsplit_once('_')?;
    let is_channel = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| is_channel)?;
    (!case.is_empty()).then(|| (case.to_owned(), number))
}

fn nnunet(folder: &Path, modalities: &[Modality]) -> Result<Vec<Case>> {
    let mut found: BTreeMap<String, BTreeMap<usize, PathBuf>> = BTreeMap::new();
    let mut all: BTreeSet<usize> = (0..modalities.len()).collect();
    for path in volumes_in(folder)? {
        if let Some((case, number)) = channel(&path) {
            all.insert(number);
            found.entry(case).or_default().insert(number, path);
        }
    }
    let of = |number: usize| match modalities.get(number) {
        Some(modality) => format!("{number:04} ({modality})"),
        None => format!("{number:04}"),
    };
    let cases = found.into_iter().map(|(name, channels)| {
        let missing = all.iter().filter(|number| !channels.contains_key(number));
        let missing: Vec<String> = missing.map(|number| of(*number)).collect();
        let inputs = channels.into_iter().map(|(number, path)| Input {
            path,
            modality: modalities.get(number).copied(),
        });
        let mut case = case(&name, &name, inputs.collect());
        if !missing.is_empty() {
            case.fault = Some(format!("has no channel {}", missing.join(", ")));
        }
        case
    });
    Ok(cases.collect())
}

/// The modality of a BIDS suffix.
fn suffix(path: &Path) -> Option<Modality> {
    let stem = finish::stem(path);
    Some(match stem.rsplit_once('_')?.1 {
        "T1w" => Modality::T1,
        "T2w" => Modality::T2,
        "FLAIR" => Modality::Flair,
        "PDw" => Modality::Pd,
        _ => return None,
    })
}

fn bids(folder: &Path, modalities: &[Modality]) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for subject in subfolders(folder, "sub-")? {
        let mut places: Vec<PathBuf> = subfolders(&subject, "ses-")?.collect();
        places.insert(0, subject);
        for place in places {
            let anat = place.join("anat");
            if anat.is_dir() {
                cases.extend(bids_case(folder, &anat, modalities)?);
            }
        }
    }
    Ok(cases)
}

/// The case of one `anat` folder, if it has a volume.
fn bids_case(root: &Path, anat: &Path, modalities: &[Modality]) -> Result<Option<Case>> {
    let mut found: BTreeMap<Modality, Vec<PathBuf>> = BTreeMap::new();
    for path in volumes_in(anat)? {
        if let Some(modality) = suffix(&path) {
            found.entry(modality).or_default().push(path);
        }
    }
    let inside = anat.strip_prefix(root).unwrap_or(anat);
    let name: Vec<_> = inside
        .iter()
        .map(|part| part.to_string_lossy())
        .filter(|part| part != "anat")
        .collect();
    let name = name.join("_");
    let wanted: Vec<Modality> = match modalities {
        [] => found.keys().copied().collect(),
        named => named.to_vec(),
    };
    let missing: Vec<String> = wanted
        .iter()
        .filter(|modality| !found.contains_key(modality))
        .map(Modality::to_string)
        .collect();
    let (mut inputs, mut warnings) = (Vec::new(), Vec::new());
    for modality in wanted {
        let Some([first, others @ ..]) = found.get(&modality).map(Vec::as_slice) else {
            continue;
        };
        if !others.is_empty() {
            warnings.push(format!(
                "`{}` is taken; {} more of {modality} beside it are not",
                first.display(),
                others.len()
            ));
        }
        inputs.push(Input {
            path: first.clone(),
            modality: Some(modality),
        });
    }
    if inputs.is_empty() && missing.is_empty() {
        return Ok(None);
    }
    // The entities stay, the suffix goes: a result has one of its own, `dseg`.
    let stem = inputs.first().and_then(|input| {
        let stem = finish::stem(&input.path);
        Some(stem.rsplit_once('_')?.0.to_owned())
    });
    let sources = inputs.iter().map(|input| {
        let inside = input.path.strip_prefix(root).unwrap_or(&input.path);
        let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
        format!("bids:{RAW}:{}", parts.join("/"))
    });
    Ok(Some(Case {
        stem: stem.unwrap_or_else(|| name.clone()),
        name,
        sources: sources.collect(),
        inputs,
        folder: inside.to_path_buf(),
        warnings,
        fault: (!missing.is_empty()).then(|| format!("has no {}", missing.join(", "))),
    }))
}

/// The columns of a list that hold a volume, in the order in which a case's volumes are taken.
const COLUMNS: [(&str, Option<Modality>); 6] = [
    ("t1", Some(Modality::T1)),
    ("t2", Some(Modality::T2)),
    ("flair", Some(Modality::Flair)),
    ("pd", Some(Modality::Pd)),
    ("ct", Some(Modality::Ct)),
    ("volume", None),
];

/// The cases of a list: CSV with a head, or JSON, an array of objects. `case` names a case, `t1`, `t2`, `flair`, `pd`, `ct` and
/// `volume` (modality by name or estimate) its files, relative to the list's folder; what is empty is not there.
///
/// # Errors
/// A list that cannot be read, is neither, names a column that is none of these, or names no case.
pub fn of_list(list: &Path) -> Result<Vec<Case>> {
    let text = files::read_text(list, MAX_LIST)?;
    let text = text.trim_start_matches('\u{feff}');
    let rows = match text.trim_start().starts_with(['[', '{']) {
        true => json_rows(list, text)?,
        false => csv_rows(list, text)?,
    };
    if rows.is_empty() {
        return Err(Error::config(list, "names no case"));
    }
    let base = list.parent().unwrap_or(Path::new(""));
    let cases = rows.into_iter().enumerate().map(|(n, mut row)| {
        let name = row.remove("case").unwrap_or_default();
        let inputs: Vec<Input> = COLUMNS
            .iter()
            .filter_map(|(column, modality)| {
                let path = base.join(row.remove(*column)?);
                Some(Input {
                    path,
                    modality: *modality,
                })
            })
            .collect();
        if let Some(column) = row.keys().next() {
            let known: Vec<&str> = COLUMNS.iter().map(|(column, _)| *column).collect();
            let problem = format!(
                "has a column `{column}`; known are case, {}",
                known.join(", ")
            );
            return Err(Error::config(list, problem));
        }
        let fault = |what: &str| Error::config(list, format!("case {}: {what}", n + 1));
        if inputs.is_empty() {
            return Err(fault("names no volume"));
        }
        if name.is_empty() {
            return Err(fault("has no name in the column `case`"));
        }
        // The name becomes a file's.
        if name.len() > MAX_NAME {
            let problem = format!(
                "its name has {} bytes, expected at most {MAX_NAME}",
                name.len()
            );
            return Err(fault(&problem));
        }
        if name.contains(['/', '\\']) || name.starts_with('.') || name.chars().any(char::is_control)
        {
            return Err(fault(&format!("`{name}` cannot be part of a file's name")));
        }
        Ok(case(&name, &name, inputs))
    });
    distinct(cases.collect::<Result<_>>()?)
}

type Row = BTreeMap<String, String>;

fn csv_rows(list: &Path, text: &str) -> Result<Vec<Row>> {
    let damaged = |e: csv::Error| Error::config(list, format!("is no CSV: {e}"));
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let heads = reader.headers().map_err(damaged)?.clone();
    let heads: Vec<String> = heads.iter().map(str::to_lowercase).collect();
    let rows = reader.records().map(|record| {
        let record = record.map_err(damaged)?;
        let cells = heads.iter().cloned().zip(record.iter().map(str::to_owned));
        // An unknown column is one even where it is empty.
        let known = |head: &str| head == "case" || COLUMNS.iter().any(|(c, _)| *c == head);
        Ok(cells
            .filter(|(head, cell)| !cell.is_empty() || !known(head))
            .collect())
    });
    rows.collect()
}

fn json_rows(list: &Path, text: &str) -> Result<Vec<Row>> {
    let value: Value =
        serde_json::from_str(text).map_err(|e| Error::config(list, format!("is no JSON: {e}")))?;
    let Value::Array(rows) = value else {
        return Err(Error::config(list, "is no array of cases"));
    };
    let rows = rows.into_iter().enumerate().map(|(n, row)| {
        let Value::Object(fields) = row else {
            let problem = format!("case {}: is no object", n + 1);
            return Err(Error::config(list, problem));
        };
        let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
        let fields = fields.map(|(key, value)| match value {
            Value::String(text) => Ok((key.to_lowercase(), text)),
            other => {
                let problem = format!("case {}: `{key}` is {other}, not a text", n + 1);
                Err(Error::config(list, problem))
            }
        });
        fields.collect()
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_four_digits_at_the_end() {
        for (name, want) in [
            ("a_0000.nii.gz", Some(("a", 0))),
            ("x/la_003_0012.nii", Some(("la_003", 12))),
            ("a_000.nii", None),
            ("a_00000.nii", None),
            ("_0001.nii", None),
            ("a0000.nii", None),
        ] {
            let want = want.map(|(case, number)| (case.to_owned(), number));
            assert_eq!(channel(name.as_ref()), want, "{name}");
        }
    }
}
