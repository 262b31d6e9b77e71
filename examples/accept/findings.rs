//! What the built-in model states of slices of real scans (`keraunos describe`), beside what is known of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use keraunos::Result;
use keraunos::pipeline::Segmenter;
use keraunos::pipeline::describe::findings::Findings;
use keraunos::pipeline::describe::slices::places;
use keraunos::pipeline::modality::Modality;
use keraunos::pipeline::prepare::{Prepared, View};
use keraunos::pipeline::volume::{Labels, Volume};

/// Slices of each view.
const SLICES: usize = 10;
/// A slice shows a structure from so many voxels of 1 mm on, as in training (`weights/recipe/findings.py`).
const VISIBLE: usize = 20;

/// Structures in the words of findings, with AAL's labels on the left and on the right; labels of the vermis are on neither.
const AAL: [(&str, &[u32], &[u32]); 7] = [
    ("hippocampus", &[37], &[38]),
    ("amygdala", &[41], &[42]),
    ("caudate nucleus", &[71], &[72]),
    ("putamen", &[73], &[74]),
    ("pallidum", &[75], &[76]),
    ("thalamus", &[77], &[78]),
    (
        "cerebellum",
        &[91, 93, 95, 97, 99, 101, 103, 105, 107],
        &[92, 94, 96, 98, 100, 102, 104, 106, 108],
    ),
];
/// The same with MeshNet's labels, which tell no sides.
const MESHNET: [(&str, &[u32]); 12] = [
    ("lateral ventricle", &[4, 5]),
    ("caudate nucleus", &[11]),
    ("putamen", &[12]),
    ("pallidum", &[13]),
    ("nucleus accumbens", &[26]),
    ("thalamus", &[10]),
    ("hippocampus", &[17]),
    ("amygdala", &[18]),
    ("third ventricle", &[14]),
    ("fourth ventricle", &[15]),
    ("brainstem", &[16]),
    ("cerebellum", &[7, 8]),
];

/// A structure on a volume's prepared grid: its words, and its voxels.
type Truth = (String, Vec<bool>);

/// A real scan.
struct Scan {
    name: &'static str,
    path: PathBuf,
    modality: Modality,
    /// A label map of the same grid, by whom, and whether it tells sides.
    labels: Option<(PathBuf, &'static str, bool)>,
}

fn scans(shared: &Path, second: &Path) -> Vec<Scan> {
    let data = shared.join("data");
    let colin = |file: &str| data.join("colin27").join(file);
    let aal = Some((colin("aal.nii.gz"), "AAL, by side", true));
    let meshnet = |name: &str| {
        let path = second.join(format!("{name}.nii.gz"));
        path.exists().then_some((path, "MeshNet-18", false))
    };
    let scan = |name, path, modality, labels| Scan {
        name,
        path,
        modality,
        labels,
    };
    let mni = "mni152/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz";
    vec![
        scan("ch2", colin("ch2.nii.gz"), Modality::T1, aal.clone()),
        scan("ch2bet", colin("ch2bet.nii.gz"), Modality::T1, aal),
        scan("mni152", data.join(mni), Modality::T1, None),
        scan(
            "t1_crop",
            data.join("meshnet/t1_crop.nii.gz"),
            Modality::T1,
            meshnet("t1_crop"),
        ),
        scan(
            "chris_t1",
            data.join("chris/chris_t1.nii.gz"),
            Modality::T1,
            meshnet("chris_t1"),
        ),
        scan(
            "chris_PD",
            data.join("chris/chris_PD.nii.gz"),
            Modality::Pd,
            None,
        ),
    ]
}

/// The structures of a label map, on the scan's prepared grid.
fn truths(
    volume: &Volume,
    prepared: &Prepared,
    path: &Path,
    has_sides: bool,
) -> Result<Vec<Truth>> {
    let labels = Labels::read(path)?;
    let mut wanted: Vec<(String, Vec<u32>)> = Vec::new();
    if has_sides {
        for (name, left, right) in AAL {
            wanted.push((format!("left {name}"), left.to_vec()));
            wanted.push((format!("right {name}"), right.to_vec()));
            wanted.push((name.to_owned(), [left, right].concat()));
        }
    } else {
        wanted.extend(MESHNET.map(|(name, labels)| (name.to_owned(), labels.to_vec())));
    }
    let on_grid = |(words, wanted): (String, Vec<u32>)| {
        let mask = labels
            .data
            .iter()
            .map(|label| f32::from(u8::from(wanted.contains(label))));
        let mask = Volume {
            data: mask.collect(),
            ..volume.clone()
        };
        let (mask, _) = prepared.join(&mask)?;
        Ok((words, mask.data.iter().map(|share| *share > 0.5).collect()))
    };
    wanted.into_iter().map(on_grid).collect()
}

/// What a slice shows of the structures of a label map: with sides where the map tells them and the view shows them.
fn shown<'a>(
    truths: &'a [Truth],
    sides: bool,
    prepared: &Prepared,
    (view, index): (View, usize),
) -> BTreeSet<&'a str> {
    let of_kind = |words: &str| !sides || words.starts_with("left ") || words.starts_with("right ");
    let known = truths.iter().filter(|(words, _)| of_kind(words));
    let area = |mask: &[bool]| {
        view.indices(prepared.grid.shape, index)
            .filter(|at| mask[*at])
            .count()
    };
    known
        .filter(|(_, mask)| area(mask) >= VISIBLE)
        .map(|(words, _)| words.as_str())
        .collect()
}

/// Counts of statements: right ones, all that were made, all that should have been.
#[derive(Default)]
struct Counts([usize; 3]);

impl Counts {
    fn add(&mut self, want: &BTreeSet<&str>, got: &BTreeSet<String>) {
        let right = want.iter().filter(|words| got.contains(**words)).count();
        let more = [right, got.len(), want.len()];
        self.0
            .iter_mut()
            .zip(more)
            .for_each(|(sum, more)| *sum += more);
    }

    /// Precision and recall, with the counts.
    fn show(&self) -> String {
        let [right, said, there] = self.0;
        let share = |of: usize| right as f64 / of.max(1) as f64;
        format!(
            "{:.2} ({right} of {said}) | {:.2} ({right} of {there})",
            share(said),
            share(there)
        )
    }
}

/// The statements of a slice that a label map can judge.
fn judged(stated: &Findings, truths: &[Truth], sides: bool) -> BTreeSet<String> {
    let words = stated.structures.iter().map(|shown| match sides {
        true => shown.words(),
        false => shown.name.clone(),
    });
    words
        .filter(|words| truths.iter().any(|(known, _)| known == words))
        .collect()
}

pub fn accept(segmenter: &Segmenter, shared: &Path, second: &Path) -> Result<()> {
    println!("| scan | slices | sequence right | view right |\n|---|---|---|---|");
    let mut structures = Vec::new();
    for scan in scans(shared, second) {
        eprintln!("== {}", scan.name);
        let volume = Volume::read(&scan.path)?;
        let prepared = Prepared::new(&volume)?;
        let looked: Vec<(View, usize)> = View::ALL
            .into_iter()
            .flat_map(|view| places(&prepared, view, SLICES).map(move |index| (view, index)))
            .collect();
        let findings = segmenter.findings(&prepared, &looked, &mut ())?;
        let all = findings.len();
        let right = |is: &dyn Fn(&Findings, View) -> bool| {
            let pairs = findings.iter().zip(&looked);
            pairs
                .filter(|(stated, (view, _))| is(stated, *view))
                .count()
        };
        let sequence = right(&|stated, _| stated.modality() == Some(scan.modality));
        let view = right(&|stated, view| stated.is_of(view));
        println!(
            "| {} ({}) | {all} | {sequence} | {view} |",
            scan.name, scan.modality
        );
        let Some((labels, by, has_sides)) = &scan.labels else {
            continue;
        };
        let truths = truths(&volume, &prepared, labels, *has_sides)?;
        let mut counts = Counts::default();
        for (stated, place) in findings.iter().zip(&looked) {
            let sides = *has_sides && place.0 != View::Sagittal;
            // A label map without sides is asked of names alone; so is a sagittal slice, which shows none.
            let want = shown(&truths, sides, &prepared, *place);
            let want = match *has_sides && !sides {
                true => want
                    .into_iter()
                    .filter(|words| AAL.iter().any(|(name, ..)| name == words))
                    .collect(),
                false => want,
            };
            counts.add(&want, &judged(stated, &truths, sides));
        }
        structures.push(format!("| {} | {by} | {} |", scan.name, counts.show()));
    }
    println!(
        "\n| scan | structures of | stated that is there | there that is stated |\n|---|---|---|---|"
    );
    for row in structures {
        println!("{row}");
    }
    println!();
    Ok(())
}
