//! Painted heads that no training saw, and real scans that another network has labelled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keraunos::pipeline::modality::Modality;
use keraunos::pipeline::prepare::View;
use keraunos::pipeline::structures::Target;
use keraunos::pipeline::volume::Labels;
use keraunos::pipeline::{Fusion, Request, Segmenter};
use keraunos::{Error, Result};

use crate::threshold::{self, Judged};
use crate::{Scores, asking_for, dice, mean, real, request, show};

/// Contrasts by the suffixes of a phantom's files, and what the engine is told.
const CONTRASTS: [(&[&str], Modality); 4] = [
    (&["T1w"], Modality::T1),
    (&["T2w"], Modality::T2),
    (&["FLAIR"], Modality::Flair),
    (&["any", "any2", "any3"], Modality::T1),
];

/// MeshNet's structures and the FreeSurfer labels that make ours of them.
const MESHNET: [(&str, &[u32]); 17] = [
    ("cerebral white matter", &[2]),
    ("cerebral cortex", &[3]),
    ("lateral ventricle", &[4, 5]),
    ("inferior lateral ventricle", &[5]),
    ("cerebellar white matter", &[7]),
    ("cerebellar cortex", &[8]),
    ("thalamus", &[10]),
    ("caudate nucleus", &[11]),
    ("putamen", &[12]),
    ("pallidum", &[13]),
    ("third ventricle", &[14]),
    ("fourth ventricle", &[15]),
    ("brainstem", &[16]),
    ("hippocampus", &[17]),
    ("amygdala", &[18]),
    ("nucleus accumbens", &[26]),
    ("ventral diencephalon", &[28]),
];

/// The Dice of every target asked for by its built-in instruction, all views.
fn scores(
    segmenter: &Segmenter,
    scan: &Path,
    modality: Modality,
    truths: &[(Target, Vec<u8>)],
) -> Result<Vec<Option<f64>>> {
    answer(segmenter, request(scan, modality), truths)
}

fn answer(
    segmenter: &Segmenter,
    asking: Request,
    truths: &[(Target, Vec<u8>)],
) -> Result<Vec<Option<f64>>> {
    let asking = asking_for(asking, truths);
    let mut scores = Scores::new(truths.iter().map(|(_, truth)| vec![&truth[..]]).collect());
    segmenter.segment(&asking, &mut scores)?;
    Ok(scores.dice.into_iter().map(|dice| dice[0]).collect())
}

fn mask(labels: &Labels, wanted: &[u32]) -> Vec<u8> {
    labels
        .data
        .iter()
        .map(|label| u8::from(wanted.contains(label)))
        .collect()
}

/// The label maps of a folder of painted heads.
fn subjects(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut subjects: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(Error::read(folder))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with("_dseg.nii.gz"))
        .collect();
    subjects.sort();
    Ok(subjects)
}

/// Every target with its mask in a label map.
fn truths(folder: &Path, subject: &Path) -> Result<Vec<(Target, Vec<u8>)>> {
    let path = folder.join("targets.json");
    let text = std::fs::read_to_string(&path).map_err(Error::read(&path))?;
    let targets: BTreeMap<String, Vec<u32>> =
        serde_json::from_str(&text).map_err(|e| Error::Argument(e.to_string()))?;
    let labels = Labels::read(subject)?;
    targets
        .iter()
        .map(|(name, wanted)| Ok((Target::find(name)?, mask(&labels, wanted))))
        .collect()
}

/// The painted heads of a folder: by structure and contrast, and what other thresholds would have given.
pub fn phantoms(segmenter: &Segmenter, folder: &Path) -> Result<()> {
    // By structure, sides together: one list of scores for each contrast.
    let mut found: BTreeMap<&str, [Vec<[Option<Judged>; 3]>; 4]> = BTreeMap::new();
    for subject in &subjects(folder)? {
        let truths = truths(folder, subject)?;
        let contrasts = CONTRASTS.into_iter().enumerate();
        let scans = contrasts.flat_map(|(n, (suffixes, modality))| {
            suffixes.iter().map(move |suffix| (n, suffix, modality))
        });
        for (n, suffix, modality) in scans {
            let scan = subject.to_string_lossy().replace("dseg", suffix);
            if !Path::new(&scan).exists() {
                continue;
            }
            eprintln!("== {scan}");
            let judged = threshold::judge(segmenter, Path::new(&scan), modality, &truths)?;
            for ((target, _), rules) in truths.iter().zip(judged) {
                let name = &target.structure.expect("a known structure").name;
                found.entry(name).or_default()[n].push(rules);
            }
        }
    }
    println!("| held-out heads | T1 | T2 | FLAIR/PD | any | mean |\n|---|---|---|---|---|---|");
    let row = |name: &str, values: [Option<f64>; 4]| {
        let all = mean(values.into_iter());
        let cells: Vec<String> = values.into_iter().chain([all]).map(show).collect();
        println!("| {name} | {} |", cells.join(" | "));
    };
    // One number of each structure in each contrast, by one rule.
    let means = |rule: usize, number: fn(&Judged) -> f64| -> Vec<(&str, [Option<f64>; 4])> {
        let of = |list: &Vec<[Option<Judged>; 3]>| {
            let values = list.iter().map(|rules| rules[rule].as_ref().map(number));
            mean(values)
        };
        let by_contrast = |lists: &[Vec<_>; 4]| [0, 1, 2, 3].map(|n| of(&lists[n]));
        let all = found
            .iter()
            .map(|(name, lists)| (*name, by_contrast(lists)));
        all.collect()
    };
    let of_all = |rule, number| {
        let means = means(rule, number);
        [0, 1, 2, 3].map(|n| mean(means.iter().map(|(_, values)| values[n])))
    };
    for (name, values) in means(0, |judged| judged.dice) {
        row(name, values);
    }
    row("**mean**", of_all(0, |judged| judged.dice));
    println!();
    println!(
        "| mean of the structures, cut | T1 | T2 | FLAIR/PD | any | mean |\n|---|---|---|---|---|---|"
    );
    for (rule, name) in threshold::RULES.iter().enumerate() {
        row(&format!("{name}: Dice"), of_all(rule, |judged| judged.dice));
        let volume = of_all(rule, |judged| judged.volume);
        row(&format!("{name}: volume, true one 1"), volume);
        let off = of_all(rule, |judged| (judged.volume - 1.0).abs());
        row(&format!("{name}: volume off by"), off);
    }
    println!();
    Ok(())
}

/// Real scans on which MeshNet was run: how far the two agree.
pub fn meshnet(segmenter: &Segmenter, shared: &Path, folder: &Path) -> Result<()> {
    let cases = [
        ("t1_crop", "data/meshnet/t1_crop.nii.gz"),
        ("chris_t1", "data/chris/chris_t1.nii.gz"),
    ];
    let mut columns = Vec::new();
    for (name, scan) in cases {
        eprintln!("== {name}");
        let labels = Labels::read(&folder.join(format!("{name}.nii.gz")))?;
        let truths = MESHNET
            .iter()
            .map(|(name, wanted)| Ok((Target::find(name)?, mask(&labels, wanted))))
            .collect::<Result<Vec<_>>>()?;
        columns.push(scores(
            segmenter,
            &shared.join(scan),
            Modality::T1,
            &truths,
        )?);
    }
    println!("| agreement with MeshNet-18 | t1_crop | chris_t1 |\n|---|---|---|");
    for (n, (name, _)) in MESHNET.iter().enumerate() {
        let cells: Vec<String> = columns.iter().map(|column| show(column[n])).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    let means = columns
        .iter()
        .map(|column| show(mean(column.iter().copied())));
    println!("| **mean** | {} |\n", means.collect::<Vec<_>>().join(" | "));
    Ok(())
}

/// How far mutual information of Colin27 and AAL says that the atlas lies from the picture, in voxels to the
/// right, forwards and up (`python -m recipe.atlas`): moved by this, it fits best.
const ALIGNED: [i32; 3] = [0, -1, -2];

/// Masks of a grid moved by whole voxels; what comes from outside is nothing.
fn moved(mask: &[u8], shape: [usize; 3], by: [i32; 3]) -> Vec<u8> {
    let [nx, ny, nz] = shape.map(|n| i32::try_from(n).expect("a volume's side"));
    let mut out = vec![0; mask.len()];
    let mut at = 0;
    for z in 0..nz {
        for y in 0..ny {
            for x in 0..nx {
                let [x, y, z] = [x - by[0], y - by[1], z - by[2]];
                if (0..nx).contains(&x) && (0..ny).contains(&y) && (0..nz).contains(&z) {
                    out[at] = mask[((z * ny + y) * nx + x) as usize];
                }
                at += 1;
            }
        }
    }
    out
}

/// What MeshNet drew of a target of AAL's, its two sides cut apart in the middle of the picture.
fn rival(labels: &Labels, target: &Target) -> Vec<u8> {
    let name = &target.structure.expect("a known structure").name;
    let wanted: &[u32] = match name.as_str() {
        "cerebellum" => &[7, 8],
        _ => {
            let known = MESHNET.iter().find(|(known, _)| known == name);
            known.expect("a structure of MeshNet's").1
        }
    };
    // Colin27 is stored right, anterior, superior, its middle at x = 0.
    let middle = (-labels.affine[0][3]).round() as usize;
    let mut mask = mask(labels, wanted);
    for (at, voxel) in mask.iter_mut().enumerate() {
        let x = at % labels.shape[0];
        let own = match target.side.map(|side| side.name()) {
            Some("left") => x < middle,
            Some(_) => x > middle,
            None => true,
        };
        *voxel &= u8::from(own);
    }
    mask
}

/// Colin27 against AAL, as the atlas is stored and as it fits the picture, beside MeshNet: what the
/// atlas allows.
pub fn atlas(segmenter: &Segmenter, shared: &Path, folder: &Path) -> Result<()> {
    let colin = shared.join("data/colin27");
    let truths = real::atlas(&colin.join("aal.nii.gz"))?;
    for scan in ["ch2", "ch2bet"] {
        eprintln!("== {scan}, against AAL and MeshNet");
        let labels = Labels::read(&folder.join(format!("{scan}.nii.gz")))?;
        let rivals: Vec<_> = truths
            .iter()
            .map(|(target, _)| rival(&labels, target))
            .collect();
        let aligned: Vec<_> = truths
            .iter()
            .map(|(_, truth)| moved(truth, labels.shape, ALIGNED))
            .collect();
        let path = colin.join(format!("{scan}.nii.gz"));
        let asking = asking_for(request(&path, Modality::T1), &truths);
        let compared = truths.iter().zip(&aligned).zip(&rivals);
        let mut scores = Scores::new(
            compared
                .map(|(((_, truth), aligned), rival)| vec![&truth[..], aligned, rival])
                .collect(),
        );
        segmenter.segment(&asking, &mut scores)?;
        println!(
            "| {scan} | zeus-mini, AAL | MeshNet-18, AAL | zeus-mini, AAL moved | MeshNet-18, AAL moved | zeus-mini, MeshNet-18 |\n\
             |---|---|---|---|---|---|"
        );
        let rows: Vec<[Option<f64>; 5]> = (0..truths.len())
            .map(|n| {
                let ours = &scores.dice[n];
                let theirs = |truth| dice(&rivals[n], truth);
                [
                    ours[0],
                    theirs(&truths[n].1),
                    ours[1],
                    theirs(&aligned[n]),
                    ours[2],
                ]
            })
            .collect();
        let print = |name: &str, row: [Option<f64>; 5]| {
            println!("| {name} | {} |", row.map(show).join(" | "));
        };
        for ((target, _), row) in truths.iter().zip(&rows) {
            print(&target.name, *row);
        }
        let column = |n: usize| mean(rows.iter().map(|row| row[n]));
        print("**mean**", [0, 1, 2, 3, 4].map(column));
        println!();
    }
    Ok(())
}

/// Three contrasts of each painted head, axial slices: alone, fused late and fused as embeddings.
pub fn fusion(segmenter: &Segmenter, folder: &Path) -> Result<()> {
    let mut columns = vec![Vec::new(); 5];
    for subject in &subjects(folder)? {
        eprintln!("== {}, fusion", subject.display());
        let truths = truths(folder, subject)?;
        let asking = |contrasts: &[(&[&str], Modality)], fusion| {
            let mut inputs = Vec::new();
            for (suffixes, modality) in contrasts {
                let scan = subject.to_string_lossy().replace("dseg", suffixes[0]);
                inputs.extend(request(Path::new(&scan), *modality).inputs);
            }
            let mut asking = Request::new(inputs);
            (asking.views, asking.fusion) = (vec![View::Axial], fusion);
            asking
        };
        let three = &CONTRASTS[..3];
        let ways = (0..3)
            .map(|n| asking(&three[n..=n], Fusion::Late))
            .chain([asking(three, Fusion::Late), asking(three, Fusion::Hybrid)]);
        for (column, asking) in columns.iter_mut().zip(ways) {
            column.extend(answer(segmenter, asking, &truths)?);
        }
    }
    let means: Vec<String> = columns
        .iter()
        .map(|column| show(mean(column.iter().copied())))
        .collect();
    println!(
        "| axial view | T1 | T2 | FLAIR | all three, late | all three, hybrid |\n|---|---|---|---|---|---|"
    );
    println!("| mean Dice over all targets | {} |\n", means.join(" | "));
    Ok(())
}
