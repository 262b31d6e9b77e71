//! Tokenizers in GGUF files, and chat templates, which are programs of whoever made the file.

use super::gguf::{DIM, LINE, described, refused, spoken, weighed};
use super::models::GgufFile;
use super::*;

/// A model whose tokenizer or template `generate` refuses.
fn misspoken(name: &str, says: &str, file: &GgufFile) -> Row {
    row(format!("gguf: {name}"), LINE, format!("`m.gguf`: {says}")).file("m.gguf", file.bytes())
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = tokenizers();
    rows.extend(templates());
    rows
}

fn tokenizers() -> Vec<Row> {
    let unsaid = |key: &str| weighed(spoken(described("llama", ""), key), "");
    let other = |key: &'static str, with: fn(GgufFile) -> GgufFile| {
        weighed(with(spoken(described("llama", ""), key)), "")
    };
    let piece = |texts: &[&str], scores: &[f32]| {
        let kinds: Vec<i32> = (0..texts.len())
            .map(|n| if n == 0 { 3 } else { 1 })
            .collect();
        let file = described("llama", "")
            .str("tokenizer.ggml.model", "llama")
            .strings("tokenizer.ggml.tokens", texts)
            .i32s("tokenizer.ggml.token_type", &kinds)
            .f32s("tokenizer.ggml.scores", scores)
            .u32("tokenizer.ggml.eos_token_id", 0);
        weighed(file, "")
    };
    let long = "a".repeat(3 << 20);
    let twice = described("llama", "")
        .str("tokenizer.ggml.model", "gpt2")
        .str("tokenizer.ggml.pre", "smollm")
        .strings("tokenizer.ggml.tokens", &["a", "a"])
        .i32s("tokenizer.ggml.token_type", &[1, 1])
        .strings("tokenizer.ggml.merges", &[]);
    let twice = weighed(twice, "");
    vec![
        refused(
            "no tokenizer",
            "metadata `tokenizer.ggml.model` is missing, *",
            &unsaid("model"),
        ),
        refused(
            "no tokens",
            "metadata `tokenizer.ggml.tokens` is missing, *",
            &unsaid("tokens"),
        ),
        refused(
            "no merges",
            "metadata `tokenizer.ggml.merges` is missing, *",
            &unsaid("merges"),
        ),
        misspoken(
            "a tokenizer of nobody",
            "metadata `tokenizer.ggml.model` is `bert`, *",
            &other("model", |f| f.str("tokenizer.ggml.model", "bert")),
        ),
        misspoken(
            "words split by nobody's rule",
            "metadata `tokenizer.ggml.pre` is `tekken`, *",
            &other("pre", |f| f.str("tokenizer.ggml.pre", "tekken")),
        ),
        misspoken(
            "types for one token",
            "has 258 tokens, but 1 token types",
            &other("token_type", |f| f.i32s("tokenizer.ggml.token_type", &[1])),
        ),
        refused(
            "types that are texts",
            "metadata `tokenizer.ggml.token_type` is array of 1 string, *",
            &other("token_type", |f| {
                f.strings("tokenizer.ggml.token_type", &["x"])
            }),
        ),
        misspoken(
            "a merge of one",
            "tokenizer: the merge \"aa\" is not a pair",
            &other("merges", |f| f.strings("tokenizer.ggml.merges", &["aa"])),
        ),
        misspoken(
            "a merge of strangers",
            "tokenizer: *",
            &other("merges", |f| f.strings("tokenizer.ggml.merges", &["zz yy"])),
        ),
        misspoken(
            "a merge into nothing",
            "tokenizer: *",
            &other("merges", |f| f.strings("tokenizer.ggml.merges", &["b c"])),
        ),
        misspoken(
            "an end that is no token",
            "metadata `tokenizer.ggml.eos_token_id` is 4000 of 258 tokens",
            &other("eos", |f| f.u32("tokenizer.ggml.eos_token_id", 4000)),
        ),
        misspoken(
            "one token twice",
            "tokenizer: 1 of 2 tokens are repeated",
            &twice,
        ),
        refused(
            "more tokens than rows",
            "its tokenizer has 258 tokens, its table 100",
            &weighed(spoken(described("llama", ""), ""), "token_embd").tensor(
                "token_embd.weight",
                &[DIM, 100],
                0,
                &[0; 12_800],
            ),
        ),
        misspoken(
            "scores for one piece",
            "has 2 tokens, but 1 scores",
            &piece(&["</s>", "a"], &[0.0]),
        ),
        misspoken(
            "a piece of a book's length",
            "*token*",
            &piece(&["</s>", &long], &[0.0, 0.0]),
        ),
    ]
}

fn templates() -> Vec<Row> {
    let told = |name: &str, says: &str, template: &str| {
        let file = weighed(
            spoken(described("llama", ""), "").str("tokenizer.chat_template", template),
            "",
        );
        row(
            format!("template: {name}"),
            "generate --llm m.gguf --max-tokens 3 banana",
            format!("`m.gguf`: chat template{says}"),
        )
        .file("m.gguf", file.bytes())
    };
    let doubled = "{% set ns = namespace(x='banana') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
    vec![
        good(
            "template: as it should be",
            "generate --llm m.gguf --max-tokens 3 banana",
        )
        .file(
            "m.gguf",
            weighed(
                spoken(described("llama", ""), "")
                    .str("tokenizer.chat_template", "{{ messages[0].content }}"),
                "",
            )
            .bytes(),
        ),
        told("not finished", ": *", "{% for"),
        told(
            "without end",
            " does not end within 200000 instructions",
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        ),
        told(
            "that writes without end",
            "*",
            "{% for a in range(99999) %}{{ 'banana' * 999 }}{% endfor %}",
        ),
        told(
            "that doubles a text",
            " does not end within 200000 instructions",
            doubled,
        ),
        told(
            "that doubles a text without a loop",
            " does not end within 200000 instructions",
            &format!(
                "{{% set x = 'banana' %}}{}",
                "{% set x = x ~ x %}".repeat(60)
            ),
        ),
        told(
            "that doubles by a filter",
            "*",
            &format!(
                "{{% set x = 'aa' %}}{}",
                "{% set x = x|replace('a', x) %}".repeat(20)
            ),
        ),
        told(
            "that doubles a list",
            "*",
            &format!(
                "{{% set x = [1, 2] %}}{}{{{{ x }}}}",
                "{% set x = x + x %}".repeat(60)
            ),
        ),
        // On a busy machine it is late before it is large.
        told(
            "that writes a text many times into one",
            " *",
            "{% set x = 'a' * 4000000 %}{{ ([x] * 100000) | string | length }}",
        ),
        told("of a long repetition", "*", "{{ 'x' * 99999999999 }}"),
        told(
            "that calls itself",
            ": *",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        ),
        told(
            "of deep brackets",
            "*",
            &format!("{{{{ {}1{} }}}}", "(".repeat(9999), ")".repeat(9999)),
        ),
        told("that reads a file", ": *", "{% include '/etc/passwd' %}"),
        told(
            "that refuses",
            ": *no bananas*",
            "{{ raise_exception('no bananas') }}",
        ),
        told(
            "longer than any",
            " has 300000 bytes, *",
            &"x".repeat(300_000),
        ),
    ]
}
