//! Files that are none: folders, pipes, devices, links into nothing, names that clear the screen; and places that results
//! cannot go to.

use super::made::Made;
use super::*;

/// A volume of four voxels a side, one of them 7.
fn small() -> Vec<u8> {
    let mut values = [0.0; 64];
    values[21] = 7.0;
    Made::new([4, 4, 4], 2).file(&values)
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        row(
            "place: a folder for a volume among several",
            "segment a.nii --t2 sub -o out",
            "`sub`: file is a folder; *",
        )
        .file("a.nii", small())
        .file("sub/b.nii", small()),
        row(
            "place: two folders",
            "segment sub sub2 -o out",
            "`sub` is a folder; give it alone, *",
        )
        .usage()
        .file("sub/b.nii", small())
        .file("sub2/b.nii", small()),
        row(
            "place: a folder for weights",
            "segment a.nii -o out --weights sub",
            "weights `sub`: has neither *",
        )
        .file("a.nii", small())
        .file("sub/b.nii", small()),
        row(
            "place: results below a file",
            "segment a.nii -o b/out",
            "cannot write `b/out`: *",
        )
        .file("a.nii", small())
        .file("b", "text"),
        row("place: results in a file", "segment a.nii -o b", "*`b`*")
            .file("a.nii", small())
            .file("b", "text"),
        row(
            "place: no result folder",
            "segment a.nii",
            "no folder for the results; give one by --output",
        )
        .usage()
        .file("a.nii", small()),
        row(
            "place: a map onto its truth",
            "evaluate a.nii b.nii --csv b.nii",
            "the result would overwrite the input `b.nii`",
        )
        .usage()
        .file("a.nii", small())
        .file("b.nii", small()),
        row(
            "place: a table into no folder",
            "evaluate a.nii b.nii --csv no/t.csv",
            "cannot write `no/t.csv`: *",
        )
        .file("a.nii", small())
        .file("b.nii", small()),
        row(
            "place: a plot into no folder beside a table",
            "evaluate a.nii b.nii --csv t.csv --plot no/p.png",
            "cannot write `no/p.png`: *",
        )
        .file("a.nii", small())
        .file("b.nii", small()),
        row("place: pages in a file", "man -o b", "*`b`*").file("b", "text"),
        row(
            "place: pages below a file",
            "man -o b/man1",
            "cannot write `b/man1`: *",
        )
        .file("b", "text"),
        row(
            "place: a page over a folder",
            "man -o sub",
            "cannot write `sub/keraunos.1`: *",
        )
        .file("sub/keraunos.1/b", "text"),
        row(
            "place: pages without a place",
            "man --output",
            "a value is required for '--output <DIR>' but none was supplied",
        )
        .usage(),
        row(
            "word: a shell of nobody",
            "completions tcsh",
            "invalid value 'tcsh' for '<SHELL>'",
        )
        .usage(),
        row(
            "word: a schema of nothing",
            "schema scan",
            "invalid value 'scan' for '<WHAT>'",
        )
        .usage(),
        row(
            "word: a model that is not known",
            "pull --json llama",
            "no model is called `llama`; known are *",
        )
        .usage(),
        row(
            "word: JSON beside a comparison",
            "bench --json --compare b",
            "the argument '--json' cannot be used with '--compare <FILE>'",
        )
        .usage(),
        row(
            "place: an empty name",
            "inspect ",
            "a value is required for '<FILE>' but none was supplied*",
        )
        .usage(),
        row(
            "place: a name that clears the screen",
            "inspect a\x1b[2J\x07b",
            "cannot read `*b`: *",
        ),
        row(
            "place: a name of two lines",
            "inspect a\nerror:",
            "cannot read `*`: *",
        ),
    ];
    #[cfg(unix)]
    rows.extend(unix());
    rows
}

#[cfg(unix)]
fn unix() -> Vec<Row> {
    fn pipe(here: &Path) {
        let made = Command::new("mkfifo").arg(here.join("p")).status();
        assert!(made.expect("mkfifo").success());
    }
    fn pipes_of_a_model(here: &Path) {
        fs::create_dir(here.join("m")).expect("a folder");
        for name in ["config.json", "tokenizer.json", "model.safetensors"] {
            let made = Command::new("mkfifo")
                .arg(here.join("m").join(name))
                .status();
            assert!(made.expect("mkfifo").success());
        }
    }
    fn link_into_nothing(here: &Path) {
        std::os::unix::fs::symlink("nowhere", here.join("p")).expect("a link");
    }
    fn link_in_a_circle(here: &Path) {
        std::os::unix::fs::symlink("p", here.join("p")).expect("a link");
    }
    vec![
        row(
            "pipe: for a volume",
            "segment p -o out",
            "`p`: file is not a regular file",
        )
        .with(pipe),
        row(
            "pipe: for a map",
            "evaluate p p",
            "`p`: file is not a regular file",
        )
        .with(pipe),
        row(
            "pipe: for weights",
            "inspect p",
            "weights `p`: is not a regular file",
        )
        .with(pipe),
        row(
            "pipe: for a language model",
            "generate --llm p banana",
            "weights `p`: is not a regular file",
        )
        .with(pipe),
        row(
            "pipe: for a list of cases",
            "segment --cases p -o out",
            "`p`: is not a regular file *",
        )
        .with(pipe),
        row(
            "pipe: for a text",
            "perplexity p p",
            "`p` is not a regular file *",
        )
        .usage()
        .with(pipe),
        row(
            "pipe: for an earlier run",
            "bench --filter copy_rows --compare p",
            "`p`: is not a regular file *",
        )
        .with(pipe),
        row(
            "pipe: for what is quantised",
            "quantize p -o q --format q8_0",
            "weights `p`: is not a regular file",
        )
        .with(pipe),
        row(
            "pipe: in a folder of a model",
            "generate --llm m banana",
            "*`m*",
        )
        .with(pipes_of_a_model),
        row(
            "device: for a volume",
            "segment /dev/zero -o out",
            "`/dev/zero`: file is not a regular file",
        ),
        row(
            "device: for weights",
            "inspect /dev/zero",
            "weights `/dev/zero`: is not a regular file",
        ),
        row(
            "device: for a list of cases",
            "segment --cases /dev/zero -o out",
            "`/dev/zero`: is not a regular file *",
        ),
        row(
            "device: for an earlier run",
            "bench --filter copy_rows --compare /dev/zero",
            "`/dev/zero`: is not a regular file *",
        ),
        row(
            "device: for results",
            "segment a.nii -o /dev/full",
            "*`/dev/full`*",
        )
        .file("a.nii", small()),
        row(
            "device: for a quantised model",
            "quantize w -o /dev/full --format q8_0",
            "cannot write `/dev/full`*",
        )
        .file(
            "w",
            super::models::safetensors(
                r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                &[0; 4],
            ),
        ),
        row(
            "link: into nothing",
            "segment p -o out",
            "cannot read `p`: *",
        )
        .with(link_into_nothing),
        row("link: in a circle", "inspect p", "cannot read `p`: *").with(link_in_a_circle),
    ]
}
