//! Keraunos as a library: `cargo run --release --example segment -- T1.nii.gz out/ "left hippocampus"`.

use std::error::Error;

use keraunos::pipeline::{Input, Instruct, Options, Request, Segmenter};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(volume), Some(folder)) = (words.next(), words.next()) else {
        return Err("a volume, a folder for the results, and what to find".into());
    };
    // Opens the adapter and loads the built-in model once, for any number of volumes.
    let segmenter = Segmenter::open(&Options::default())?;
    println!("on {}", segmenter.gpu().summary().name);

    let mut request = Request::new(vec![Input::new(volume)]);
    for structure in words {
        request = request.find(&structure)?;
    }
    // The template writes the instructions, so no language model has to be fetched.
    request.instruct = Instruct::Stock;

    let result = segmenter.segment(&request, &mut ())?;
    for structure in &result.structures {
        match structure.volume_ml {
            Some(ml) => println!("{}: {ml:.2} ml, label {}", structure.name, structure.label),
            None => println!("{}: not found", structure.name),
        }
    }
    // The map is `result.labels`, on the grid of `result.reference`; or as files:
    for path in result.write(folder.as_ref())? {
        println!("{}", path.display());
    }
    Ok(())
}
