//! Lists of cases, folders of cases, label maps, and options that make no sense.

use super::made::Made;
use super::*;

fn map(values: &[f64], datatype: i16) -> Vec<u8> {
    Made::new([4, 4, 4], datatype).file(values)
}

fn labels() -> Vec<u8> {
    let mut values = [0.0; 64];
    values[21..30].fill(17.0);
    map(&values, 4)
}

/// A list of cases that `segment` refuses.
fn list(name: &str, says: &str, text: impl Into<Vec<u8>>) -> Row {
    row(
        format!("list: {name}"),
        "segment --cases l -o out",
        format!("`l`: {says}"),
    )
    .file("l", text)
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = lists();
    rows.extend(folders());
    rows.extend(maps());
    rows.extend(options());
    rows
}

fn lists() -> Vec<Row> {
    vec![
        row(
            "list: not there",
            "segment --cases l -o out",
            "cannot read `l`: *",
        ),
        list("of nothing", "names no case", ""),
        list("of a head alone", "names no case", "case,t1\n"),
        list(
            "that is no text",
            "is not UTF-8 text",
            vec![b'c', 255, 254, 0],
        ),
        list("of no JSON", "is no JSON: *", "[{"),
        list(
            "without end",
            "is no JSON: recursion limit *",
            "[".repeat(99_999),
        ),
        list("of an object", "is no array of cases", "{\"case\":\"a\"}"),
        list("of numbers", "case 1: is no object", "[1]"),
        list(
            "of a case whose name is a number",
            "case 1: `case` is 7, not a text",
            "[{\"case\":7,\"t1\":\"a.nii\"}]",
        ),
        list(
            "of a case whose volume is a list",
            "case 1: `t1` is [\"a.nii\"], not a text",
            "[{\"case\":\"a\",\"t1\":[\"a.nii\"]}]",
        ),
        list(
            "with a value of a book's length",
            "case 1: `case` is *",
            format!("[{{\"case\":{:?}}}]", vec![1; 50_000]),
        ),
        list(
            "of a column of nobody",
            "has a column `pet`; known are *",
            "case,pet\na,a.nii\n",
        ),
        list(
            "of rows of two lengths",
            "is no CSV: *",
            "case,t1\na,a.nii,b.nii\n",
        ),
        list("of an open quotation", "*", "case,t1\n\"a,a.nii\n"),
        list(
            "of a case without a name",
            "case 1: has no name in the column `case`",
            "t1\na.nii\n",
        ),
        list(
            "of a case without a volume",
            "case 2: names no volume",
            "case,t1\na,a.nii\nb,\n",
        ),
        list(
            "of a case that climbs out",
            "case 1: `../../a` cannot be part of a file's name",
            "case,t1\n../../a,a.nii\n",
        ),
        list(
            "of a hidden case",
            "case 1: `.a` cannot be part of a file's name",
            "case,t1\n.a,a.nii\n",
        ),
        list(
            "of a case that rings",
            "case 1: `a*` cannot be part of a file's name",
            "[{\"case\":\"a\\u0007\",\"t1\":\"a.nii\"}]",
        ),
        list(
            "of a case of a book's length",
            "case 1: its name has 5000 bytes, expected at most 180",
            format!("case,t1\n{},a.nii\n", "a".repeat(5000)),
        ),
        row(
            "list: of one case twice",
            "segment --cases l -o out",
            "two cases are called `a`",
        )
        .usage()
        .file("l", "case,t1\na,a.nii\na,b.nii\n"),
        row(
            "list: with modalities beside it",
            "segment --cases l --modality t1 -o out",
            "--modality with --cases; *",
        )
        .usage()
        .file("l", "case,t1\na,a.nii\n"),
        row(
            "list: with a layout beside it",
            "segment --cases l --layout bids -o out",
            "--layout is for a folder; *",
        )
        .usage()
        .file("l", "case,t1\na,a.nii\n"),
        row(
            "list: with a volume beside it",
            "segment a.nii --cases l -o out",
            "--cases names all volumes; *",
        )
        .usage()
        .file("l", "case,t1\na,a.nii\n"),
    ]
}

fn folders() -> Vec<Row> {
    let flat = |name: &str, line: &str, says: &str| {
        row(format!("cases: {name}"), line, says)
            .usage()
            .file("in/a.nii", labels())
            .file("in/b_0000.nii", labels())
            .file("bids/sub-1/anat/sub-1_T1w.nii", labels())
            .file("none/notes.txt", "nothing")
            .file("twice/a.nii", labels())
            .file("twice/a.nii.gz", labels())
    };
    vec![
        flat(
            "no volume",
            "segment none -o out",
            "`none` has no volume (NIfTI, MGH or NRRD)",
        ),
        flat(
            "neither cases nor channels",
            "segment in -o out",
            "`in`: 1 of 2 volumes are named as nnU-Net's channels *",
        ),
        flat(
            "no subject",
            "segment none -o out --layout bids",
            "`none` has no sub-*",
        ),
        flat(
            "no channel",
            "segment twice -o out --layout nnunet",
            "`twice` has no volume named *",
        ),
        flat(
            "two of one name",
            "segment twice -o out",
            "two cases are called `a`",
        ),
        flat(
            "results among the cases",
            "segment in -o in --layout flat",
            "the output folder is the input `in`; *",
        ),
        flat(
            "results in a subject",
            "segment bids -o bids/sub-1/out",
            "the output folder lies in the input's `sub-1`; *",
        ),
        flat(
            "part 3 of 2",
            "segment in -o out --layout flat --num-parts 2 --part 3",
            "--part 3 of 2; *",
        ),
        flat(
            "part of nothing",
            "segment in -o out --layout flat --num-parts 0 --part 0",
            "--part 0 of 0; *",
        ),
        flat(
            "part without parts",
            "segment in -o out --part 1",
            "the following required arguments *",
        ),
        flat(
            "two modalities of one volume",
            "segment in -o out --layout flat --modality t1 --modality t2",
            "2 times --modality, *",
        ),
    ]
}

fn maps() -> Vec<Row> {
    let two = |name: &str, says: &str, truth: Vec<u8>| {
        row(format!("map: {name}"), "evaluate a.nii b.nii", says)
            .file("a.nii", labels())
            .file("b.nii", truth)
    };
    let mut values = [0.0; 64];
    values[9] = 2.5;
    let half = map(&values, 16);
    values[9] = -3.0;
    let negative = map(&values, 4);
    values[9] = f64::NAN;
    let broken = map(&values, 16);
    values[9] = 5e9;
    let huge = map(&values, 64);
    let other = Made::new([4, 4, 5], 4).counting();
    let mut moved = Made::new([4, 4, 4], 4);
    moved.rows.1[0][3] = 100.0;
    vec![
        Row {
            code: 0,
            ..two("as it should be", "", labels())
        },
        two(
            "half a label",
            "`b.nii`: voxels [1, 2, 0] is 2.5: a label is a whole number *",
            half,
        ),
        two(
            "a label below nothing",
            "`b.nii`: voxels [1, 2, 0] is -3: *",
            negative,
        ),
        two(
            "a label that is no number",
            "`b.nii`: voxels [1, 2, 0] is NaN: *",
            broken,
        ),
        two(
            "a label beyond all labels",
            "`b.nii`: voxels [1, 2, 0] is 5000000000: *",
            huge,
        ),
        two(
            "another shape",
            "`a.nii`: shape is [4, 4, 4], the other map's is [4, 4, 5]: not one grid",
            other,
        ),
        two(
            "another place",
            "`a.nii`: affine differs from the other map's by up to 103.000 mm *",
            moved.counting(),
        ),
        two(
            "cut",
            "`b.nii`: file is truncated: *",
            labels()[..400].to_vec(),
        ),
        two(
            "a table without names",
            "`b.tsv`: has no column `name`",
            labels(),
        )
        .file("b.tsv", "index\tcolour\n1\tred\n"),
        two(
            "a table of no numbers",
            "`b.tsv`: index `one` is no whole number",
            labels(),
        )
        .file("b.tsv", "index\tname\none\tx\n"),
        two(
            "a table of numbers below nothing",
            "`b.tsv`: index `-1` is no whole number",
            labels(),
        )
        .file("b.tsv", "index\tname\n-1\tx\n"),
        two("a table that is no text", "*`b.tsv`: *", labels()).file("b.tsv", vec![255, 0, 1]),
        row(
            "map: against a folder",
            "evaluate a.nii in",
            "`in` is a folder and `a.nii` is none; *",
        )
        .usage()
        .file("a.nii", labels())
        .file("in/a.nii", labels()),
        row(
            "map: not there",
            "evaluate a.nii b.nii",
            "cannot read `b.nii`: *",
        )
        .file("a.nii", labels()),
        row(
            "map: folders with nothing in common",
            "evaluate in in2",
            "*",
        )
        .usage()
        .file("in/x.txt", "")
        .file("in2/y.txt", ""),
    ]
}

fn options() -> Vec<Row> {
    let maps = |name: &str, line: &str, says: &str| {
        row(format!("option: {name}"), line, says)
            .usage()
            .file("a.nii", labels())
            .file("b.nii", labels())
    };
    let plain =
        |name: &str, line: &str, says: &str| row(format!("option: {name}"), line, says).usage();
    vec![
        maps(
            "a pair of nothing",
            "evaluate a.nii b.nii --pair =",
            "invalid value '=' for '--pair *",
        ),
        maps(
            "a pair of the background",
            "evaluate a.nii b.nii --pair 0",
            "invalid value '0' for '--pair *",
        ),
        maps(
            "a pair beyond all labels",
            "evaluate a.nii b.nii --pair 99999999999",
            "invalid value '99999999999' for '--pair *",
        ),
        maps(
            "a range backwards",
            "evaluate a.nii b.nii --pair 9-3",
            "invalid value '9-3' for '--pair *",
        ),
        maps(
            "a threshold without a pair",
            "evaluate a.nii b.nii --threshold 3",
            "the following required arguments *",
        ),
        maps(
            "a threshold for two pairs",
            "evaluate a.nii b.nii --threshold 3 --pair 1 --pair 2",
            "*",
        ),
        maps(
            "a distance below nothing",
            "evaluate a.nii b.nii --tolerance=-1",
            "invalid value '-1' for '--tolerance *",
        ),
        maps(
            "a distance of no number",
            "evaluate a.nii b.nii --tolerance nan",
            "invalid value 'nan' for '--tolerance *",
        ),
        maps(
            "instructions without a model's scan",
            "evaluate a.nii --instructions",
            "*",
        ),
        plain(
            "a command of nobody",
            "frobnicate",
            "unrecognized subcommand 'frobnicate'*",
        ),
        plain(
            "nothing to segment",
            "segment -o out",
            "no volume is given; see --help",
        ),
        plain(
            "a structure of nobody",
            "segment a.nii -o out --find liver",
            "unknown structure `liver`; the nearest names are *",
        ),
        plain(
            "an instruction of nothing",
            "segment a.nii -o out --instruction ",
            "*says nothing*",
        ),
        plain(
            "more instructions than structures",
            "segment a.nii -o out --find thalamus --instruction a --instruction b",
            "*",
        ),
        plain(
            "fast in all views",
            "segment a.nii -o out --fast --view all",
            "--fast looks at one view; *",
        ),
        plain(
            "a device of nobody",
            "embed --device Voodoo banana",
            "no adapter matches `Voodoo`; found: *",
        ),
        plain(
            "a device beyond all",
            "embed --device 99 banana",
            "no adapter matches `99`; found: *",
        ),
        plain("no prompt", "generate", "no prompt is given; see --help"),
        plain(
            "a temperature below nothing",
            "generate --temperature -1 banana",
            "temperature is -1, *",
        ),
        plain(
            "a temperature of no number",
            "generate --temperature nan banana",
            "temperature is NaN, *",
        ),
        plain(
            "a share of three",
            "generate --top-p 3 banana",
            "top_p is 3, *",
        ),
        plain(
            "a penalty of nothing",
            "generate --repetition-penalty 0 banana",
            "repetition penalty is 0, *",
        ),
        plain(
            "a choice of nothing",
            "generate --choice= banana",
            "a stop text or a choice is empty",
        ),
        plain(
            "tokens below nothing",
            "generate --max-tokens=-3 banana",
            "invalid value '-3' for '--max-tokens *",
        ),
        plain(
            "more seeds than there are",
            "generate --seed 99999999999999999999 banana",
            "invalid value *",
        ),
        plain("no text", "embed", "no text is given; see --help"),
        plain(
            "a model of nobody",
            "pull gpt --offline",
            "no model is called `gpt`*",
        ),
        plain(
            "a source of nobody",
            "pull --from ftp",
            "invalid value 'ftp' for '--from *",
        ),
        plain(
            "a kernel of nobody",
            "bench --filter banana",
            "no kernel or case contains `banana`*",
        ),
        row(
            "option: an earlier run that is none",
            "bench --filter copy_rows --compare e",
            "`e`: is no `keraunos bench --json`*",
        )
        .file("e", "{}"),
        row(
            "option: a model that is not there",
            "pull --offline",
            "*--offline*",
        ),
        row(
            "option: a language model that is not there",
            "generate banana",
            "SmolLM2-135M-Instruct-Q4_1 is not on this machine *",
        ),
    ]
}
