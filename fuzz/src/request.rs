//! What a browser, or whoever has found the port, sends to `keraunos view`.

use keraunos::Result;
use keraunos::cli::{VIEW_TOKEN, answered};

/// Answers it. Nothing may be told to who does not know the token.
pub fn read(bytes: &[u8]) -> Result<()> {
    let answer = answered(bytes);
    if answer.starts_with(b"HTTP/1.1 200 ") {
        let holds = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
        assert!(holds(VIEW_TOKEN.as_bytes()), "an answer without the token");
        assert!(
            bytes.starts_with(b"GET ")
                || bytes.starts_with(b"HEAD ")
                || bytes.starts_with(b"\r")
                || bytes.starts_with(b"\n")
        );
    } else if !answer.is_empty() {
        assert!(
            answer.starts_with(b"HTTP/1.1 4"),
            "{}",
            answer.escape_ascii()
        );
        assert!(
            !answer
                .windows(VIEW_TOKEN.len())
                .any(|w| w == VIEW_TOKEN.as_bytes())
        );
    }
    Ok(())
}
