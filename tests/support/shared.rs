//! Real volumes, where they are at hand.

use std::path::{Path, PathBuf};

/// The folder `KERAUNOS_SHARED`, `../shared` by default; a test says so where it has no data, and holds nothing then.
pub fn shared() -> Option<PathBuf> {
    let root = std::env::var_os("KERAUNOS_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let found = root.join("data").is_dir();
    if !found {
        println!("skipped: no shared data in {}", root.display());
    }
    found.then_some(root)
}
