//! How much longer a tokenizer's definition may make a text. Its steps follow each other, so a few lines of JSON that each
//! double what comes in would fill any memory, which no caught panic undoes.

use serde_json::Value;
use tokenizers::Tokenizer;

/// The most that all steps together may multiply a text's bytes or tokens by; those in common use reach 12.
const MAX_GROWTH: usize = 1 << 16;
/// What a table of replacements is counted as, which cannot be looked into: there may be one.
const TABLE: usize = 1 << 9;

/// A tokenizer out of its `tokenizer.json`.
pub(super) fn loaded(bytes: &[u8]) -> tokenizers::Result<Tokenizer> {
    let tokenizer = Tokenizer::from_bytes(bytes)?;
    // As it was understood, not as it was written.
    let parts = [
        serde_json::to_value(tokenizer.get_normalizer())?,
        serde_json::to_value(tokenizer.get_pre_tokenizer())?,
        serde_json::to_value(tokenizer.get_post_processor())?,
    ];
    let growth = parts.iter().map(growth).fold(1, usize::saturating_mul);
    if growth > MAX_GROWTH {
        let problem = "its steps can make a text";
        return Err(
            format!("{problem} {growth} times as long, expected at most {MAX_GROWTH}").into(),
        );
    }
    Ok(tokenizer)
}

/// By how much a step, or a sequence of steps, multiplies what comes in. What is only put before or behind it counts for
/// nothing: it takes as much memory as in the file.
fn growth(step: &Value) -> usize {
    let steps = ["normalizers", "pretokenizers", "processors"];
    let steps = steps.iter().filter_map(|key| step[*key].as_array());
    if let Some(steps) = steps.into_iter().next() {
        return steps.iter().map(growth).fold(1, usize::saturating_mul);
    }
    match step["type"].as_str().unwrap_or_default() {
        // A letter for each byte, of two bytes.
        "ByteLevel" => 2,
        "Replace" => {
            let content = step["content"].as_str().unwrap_or_default().len();
            match step["pattern"]["String"].as_str().map(str::len) {
                Some(pattern @ 1..) => content.div_ceil(pattern).max(1),
                // It may match between any two letters.
                _ => content + 1,
            }
        }
        "Precompiled" => TABLE,
        "TemplateProcessing" => {
            let pieces = step["single"].as_array().into_iter().flatten();
            let texts = pieces.filter(|piece| piece.get("Sequence").is_some());
            texts.count().max(1)
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_multiply() {
        let double = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aa" });
        let insert = json!({ "type": "Replace", "pattern": { "Regex": "" }, "content": "xyz" });
        let twice = json!({ "type": "TemplateProcessing", "single": [{ "Sequence": {} }, { "SpecialToken": {} }, { "Sequence": {} }] });
        for (step, want) in [
            (Value::Null, 1),
            (json!({ "type": "Lowercase" }), 1),
            (double.clone(), 2),
            (insert.clone(), 4),
            (twice, 2),
            (
                json!({ "type": "Replace", "pattern": { "String": "abc" }, "content": "" }),
                1,
            ),
            (
                json!({ "type": "Sequence", "normalizers": [double, { "type": "Sequence", "normalizers": [insert] }] }),
                8,
            ),
            (
                json!({ "type": "Sequence", "pretokenizers": vec![json!({ "type": "ByteLevel" }); 200] }),
                usize::MAX,
            ),
        ] {
            assert_eq!(growth(&step), want, "{step}");
        }
    }
}
