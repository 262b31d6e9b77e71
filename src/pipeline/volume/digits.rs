//! Voxels that are written out in digits.

use std::path::Path;

use super::source::{CHUNK, Source};
use crate::error::{Error, Result};

/// The longest number: more than any `f64` is printed with.
const LONGEST: usize = 400;

/// Hands `count` numbers, parted by white space or commas, to `each`; whether more follow them.
///
/// # Errors
///
/// [`Error::Volume`] for a word that is no number, and for a file that ends before.
pub(super) fn decode(
    source: &mut Source,
    count: usize,
    mut each: impl FnMut(f64) -> Result<()>,
) -> Result<bool> {
    let path = source.path.clone();
    let (mut word, mut found) = (Vec::new(), 0);
    loop {
        let bytes = source.take(CHUNK as u64)?;
        let is_end = bytes.is_empty();
        // The end of the file ends the last number, too.
        for byte in bytes.into_iter().chain(is_end.then_some(b' ')) {
            if !(byte.is_ascii_whitespace() || byte == b',') {
                if found == count {
                    return Ok(true);
                }
                word.push(byte);
                if word.len() <= LONGEST {
                    continue;
                }
            }
            if !word.is_empty() {
                each(number(&path, &word)?)?;
                word.clear();
                found += 1;
            }
        }
        if is_end && found < count {
            let problem = format!("is truncated: it holds {found} numbers, not {count}");
            return Err(Error::volume(&path, "file", problem));
        }
        if found == count {
            return Ok(false);
        }
    }
}

fn number(path: &Path, word: &[u8]) -> Result<f64> {
    let text = std::str::from_utf8(word).ok();
    let value = text.filter(|text| text.len() <= LONGEST);
    value.and_then(|text| text.parse().ok()).ok_or_else(|| {
        let shown = word[..word.len().min(20)].escape_ascii();
        Error::volume(path, "voxels", format!("hold `{shown}`: no number"))
    })
}
