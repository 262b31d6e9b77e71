//! Describing pictures beside Pillow and transformers: sizes, tiles, grey levels, prompts and answers.

#[path = "support/model_files.rs"]
mod model_files;
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use keraunos::pipeline::describe::Describer;
use keraunos::pipeline::describe::processor::{Processed, Squaring, Tiling};
use keraunos::pipeline::describe::resample::{Filter, resize};
use keraunos::pipeline::describe::slices::pictures;
use keraunos::pipeline::prepare::{Prepared, Slice, View};
use keraunos::pipeline::sampling::Sampling;
use keraunos::pipeline::volume::Volume;
use model_files::{hashed, model_folder};
use serde::Deserialize;
use serde_json::{Value, json};
use support::{close, gpu};

/// `vision_pictures.json`.
#[derive(Deserialize)]
struct Goldens {
    resize: Vec<Resized>,
    published: BTreeMap<String, Published>,
    folders: BTreeMap<String, Folder>,
}

#[derive(Deserialize)]
struct Resized {
    size: [usize; 2],
    to: [usize; 2],
    resample: u64,
    sum: u64,
    levels: Vec<u8>,
}

#[derive(Deserialize)]
struct Published {
    processor: Value,
    pictures: Vec<Looked>,
}

/// All that a model's folder holds but the weights, and what is made of pictures.
#[derive(Deserialize)]
struct Folder {
    config: Value,
    tensors: BTreeMap<String, Vec<usize>>,
    processor: Value,
    tokenizer: Value,
    template: String,
    question: String,
    pictures: Vec<Looked>,
}

#[derive(Deserialize)]
struct Looked {
    size: [usize; 2],
    tiles: [usize; 2],
    /// Pictures, colours, rows and columns.
    shape: [usize; 4],
    /// A stride and every so-manyth value, colours innermost.
    pixels: (usize, Vec<f32>),
    #[serde(default)]
    ids: Vec<u32>,
    #[serde(default)]
    answer: Vec<u32>,
}

fn goldens() -> Goldens {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/vision_pictures.json");
    let text = std::fs::read_to_string(path).expect("the goldens");
    serde_json::from_str(&text).expect("JSON")
}

/// Grey levels, as goldens/vision_pictures.py makes them.
fn picture([rows, cols]: [usize; 2]) -> Slice<u8> {
    let values = hashed(&format!("picture {rows} {cols}"), rows * cols);
    Slice {
        rows,
        cols,
        data: values.iter().map(|v| ((v + 1.0) * 128.0) as u8).collect(),
    }
}

fn same_pixels(name: &str, got: &Processed, want: &Looked) {
    let [count, _, rows, cols] = want.shape;
    assert_eq!((got.count, got.size), (count, [rows, cols]), "{name}");
    assert_eq!(got.tiles, want.tiles, "{name}");
    let colours = got.pixels.chunks_exact(4).flat_map(|pixel| &pixel[..3]);
    let got: Vec<f32> = colours.step_by(want.pixels.0).copied().collect();
    // The same f32 numbers, written with seven digits.
    close(&got, &want.pixels.1, 1e-6, 1e-6);
}

#[test]
fn pictures_are_resized_as_pillow_does_to_the_grey_level() {
    for case in goldens().resize {
        let filter = Filter::numbered(case.resample).expect("a filter");
        let got = resize(&picture(case.size), case.to, filter);
        let name = format!("{:?} to {:?}, {filter:?}", case.size, case.to);
        assert_eq!([got.rows, got.cols], case.to, "{name}");
        assert_eq!(
            got.data.iter().map(|v| u64::from(*v)).sum::<u64>(),
            case.sum,
            "{name}"
        );
        let stride = (got.data.len() / 60).max(1) | 1;
        let some: Vec<u8> = got.data.iter().step_by(stride).copied().collect();
        assert_eq!(some, case.levels, "{name}");
    }
    assert_eq!(Filter::numbered(0), None);
}

/// A folder with an image processor and nothing else.
fn processor_folder(file: &str, json: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(file), json.to_string()).expect("written");
    folder
}

#[test]
fn published_processors_make_the_tiles_and_pixels_of_transformers() {
    for (name, case) in goldens().published {
        let folder = processor_folder("preprocessor_config.json", &case.processor);
        let nested = json!({ "image_processor": case.processor });
        let nested = processor_folder("processor_config.json", &nested);
        for folder in [folder, nested] {
            for want in &case.pictures {
                let picture = picture(want.size);
                let got = match name.starts_with("llava") {
                    true => Squaring::open(folder.path())
                        .expect("a processor")
                        .process(&picture, 336),
                    false => Ok(Tiling::open(folder.path(), 4)
                        .expect("a processor")
                        .process(&picture)),
                };
                same_pixels(&name, &got.expect("a picture"), want);
            }
        }
    }
}

#[test]
fn prompts_and_answers_equal_transformers() {
    for (name, case) in goldens().folders {
        let folder = case.folder();
        let describer = Describer::open(gpu(), folder.path()).expect("a model");
        let mut asked = Vec::new();
        for want in &case.pictures {
            let picture = picture(want.size);
            let got = match case.config["model_type"] == "llava" {
                true => Squaring::open(folder.path())
                    .expect("a processor")
                    .process(&picture, 42),
                false => Ok(Tiling::open(folder.path(), 8)
                    .expect("a processor")
                    .process(&picture)),
            };
            same_pixels(&name, &got.expect("a picture"), want);
            let prompt = describer
                .prompt(gpu(), &picture, &case.question)
                .expect("a prompt");
            assert_eq!(prompt.ids(), want.ids, "{name}");
            asked.push((picture, case.question.clone()));
        }
        let how = Sampling::default();
        let answers = describer
            .answer(gpu(), &asked, &how, 10, &mut ())
            .expect("answers");
        for (answer, want) in answers.iter().zip(&case.pictures) {
            let ended = want.answer.len() < 10;
            let words = &want.answer[..want.answer.len() - usize::from(ended)];
            assert_eq!(answer.tokens, words, "{name} {:?}", want.size);
            assert_eq!(answer.ended, ended, "{name} {:?}", want.size);
        }
    }
}

impl Folder {
    fn folder(&self) -> tempfile::TempDir {
        let folder = model_folder(&self.config, &self.tensors, str::to_owned);
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write("preprocessor_config.json", &self.processor.to_string());
        write("tokenizer.json", &self.tokenizer.to_string());
        write(
            "chat_template.json",
            &json!({ "chat_template": self.template }).to_string(),
        );
        folder
    }
}

#[test]
fn the_command_answers_about_each_slice_of_a_scan() {
    let scan =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/volumes_ch2_axial2.nii.gz");
    let run = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_keraunos"));
        command.arg("describe").arg(&scan).args(more);
        command.output().expect("the program starts")
    };
    // The built-in model answers no questions.
    let refused = run(&["--prompt", "Is there a lesion?"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--model"));
    for case in goldens().folders.values() {
        let folder = case.folder();
        let model = folder.path().to_str().expect("a name");
        let options = [
            "--model",
            model,
            "--prompt",
            &case.question,
            "--max-tokens",
            "5",
            "--json",
        ];
        let out = run(&options);
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{error}");
        let got: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        let found = got["findings"].as_array().expect("findings");
        let volume = Volume::read(&scan).expect("a volume");
        let prepared = Prepared::new(&volume).expect("a head");
        assert_eq!(found.len(), 3);
        let describer = Describer::open(gpu(), folder.path()).expect("a model");
        for (found, view) in found.iter().zip(View::ALL) {
            let (index, picture) = pictures(&prepared, view, 1).remove(0);
            assert_eq!(index, prepared.slices(view) / 2);
            let asked = [(picture, case.question.clone())];
            let want = describer
                .answer(gpu(), &asked, &Sampling::default(), 5, &mut ())
                .expect("an answer");
            assert_eq!(found["view"], view.name());
            assert_eq!(found["slice"], index);
            assert_eq!(found["text"], want[0].text);
        }
    }
}
