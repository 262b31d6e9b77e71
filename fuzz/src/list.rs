//! A list of cases, CSV or JSON.

use std::path::Component;

use keraunos::Result;
use keraunos::pipeline::cases;

use super::files::Folder;

/// Reads it as `keraunos segment --cases` does.
pub fn read(bytes: &[u8]) -> Result<()> {
    let folder = Folder::new();
    let cases = cases::of_list(&folder.file("list.csv", bytes))?;
    for case in &cases {
        // A name becomes a file's in the folder of results.
        let mut parts = std::path::Path::new(&case.stem).components();
        let plain = matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        );
        assert!(plain && case.folder.as_os_str().is_empty(), "{case:?}");
        assert!(!case.inputs.is_empty(), "{case:?}");
    }
    assert!(cases.windows(2).all(|pair| pair[0].name != pair[1].name));
    Ok(())
}
