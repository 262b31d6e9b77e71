//! `keraunos evaluate`: how well a map agrees with the truth.

use super::args::EvaluateArgs;
use super::console::Console;
use crate::error::Result;
use crate::pipeline::evaluate::{evaluate_files, evaluate_pairs};

pub(super) fn run(args: &EvaluateArgs, console: &Console) -> Result<()> {
    let evaluation = if args.pair.is_empty() {
        evaluate_files(&args.prediction, &args.truth)?
    } else {
        evaluate_pairs(&args.prediction, &args.truth, &args.pair, args.threshold)?
    };
    if args.json {
        return console.json(&evaluation);
    }
    console.print(&format!("{evaluation}\n"))
}
