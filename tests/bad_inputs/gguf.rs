//! GGUF language models with one fault each.

use super::models::GgufFile;
use super::*;

/// Width of a token, which is also that of the MLP.
pub(super) const DIM: i64 = 32;
/// Heads of 16 columns.
const HEADS: u32 = 2;

/// The letters that GPT-2 spells the bytes with, behind a control token.
fn tokens() -> Vec<String> {
    let letters = ('!'..='~')
        .chain('¡'..='¬')
        .chain('®'..='ÿ')
        .chain('Ā'..='Ń');
    ["<|im_end|>".to_owned()]
        .into_iter()
        .chain(letters.map(String::from))
        .chain(["aa".to_owned()])
        .collect()
}

/// The metadata and the tokenizer of the model, under the names of an architecture; `skip` is left out.
pub(super) fn described(architecture: &str, skip: &str) -> GgufFile {
    let mut file = GgufFile::default().str("general.architecture", architecture);
    for (key, value) in [
        ("embedding_length", DIM as u32),
        ("block_count", 1),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", HEADS),
        ("feed_forward_length", DIM as u32),
        ("context_length", 64),
    ] {
        if key != skip {
            file = file.u32(&format!("{architecture}.{key}"), value);
        }
    }
    if skip != "eps" {
        file = file.f32(
            &format!("{architecture}.attention.layer_norm_rms_epsilon"),
            1e-5,
        );
    }
    file
}

/// A tokenizer of bytes; `skip` is left out.
pub(super) fn spoken(file: GgufFile, skip: &str) -> GgufFile {
    let texts = tokens();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut kinds = vec![1; texts.len()];
    kinds[0] = 3;
    let mut file = file;
    if skip != "model" {
        file = file.str("tokenizer.ggml.model", "gpt2");
    }
    if skip != "pre" {
        file = file.str("tokenizer.ggml.pre", "smollm");
    }
    if skip != "tokens" {
        file = file.strings("tokenizer.ggml.tokens", &texts);
    }
    if skip != "token_type" {
        file = file.i32s("tokenizer.ggml.token_type", &kinds);
    }
    if skip != "merges" {
        file = file.strings("tokenizer.ggml.merges", &["a a"]);
    }
    if skip != "eos" {
        file = file.u32("tokenizer.ggml.eos_token_id", 0);
    }
    file
}

/// The model's tensors; `skip` is left out.
pub(super) fn weighed(mut file: GgufFile, skip: &str) -> GgufFile {
    let vocab = tokens().len() as i64;
    let mut add = |name: &str, dims: &[i64]| {
        if name != skip {
            let values =
                (0..dims.iter().product::<i64>()).map(|n| (n * 37 % 64 - 32) as f32 / 64.0);
            let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
            file = file
                .clone()
                .tensor(&format!("{name}.weight"), dims, 0, &bytes);
        }
    };
    add("token_embd", &[DIM, vocab]);
    add("output_norm", &[DIM]);
    for norm in ["attn_norm", "ffn_norm"] {
        add(&format!("blk.0.{norm}"), &[DIM]);
    }
    for matrix in [
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_gate",
        "ffn_up",
        "ffn_down",
    ] {
        add(&format!("blk.0.{matrix}"), &[DIM, DIM]);
    }
    file
}

/// The model.
pub(super) fn sound() -> GgufFile {
    weighed(spoken(described("llama", ""), ""), "")
}

/// The command line that loads the model and writes a few tokens.
pub(super) const LINE: &str = "generate --llm m.gguf --raw --max-tokens 3 banana";

/// A model that `generate` refuses as a damaged file.
pub(super) fn refused(name: &str, says: &str, file: &GgufFile) -> Row {
    raw(name, says, file.bytes())
}

fn raw(name: &str, says: &str, bytes: Vec<u8>) -> Row {
    row(
        format!("gguf: {name}"),
        LINE,
        format!("weights `m.gguf`: {says}"),
    )
    .file("m.gguf", bytes)
}

/// The model with another number or text in its metadata, under a key of the architecture's.
fn stated(key: &str, with: impl FnOnce(GgufFile, &str) -> GgufFile) -> GgufFile {
    let file = with(described("llama", key), &format!("llama.{key}"));
    weighed(spoken(file, ""), "")
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = containers();
    rows.extend(models());
    rows
}

fn containers() -> Vec<Row> {
    let whole = sound().bytes();
    let text = |len: u64| GgufFile::default().entry("general.name", 8, &len.to_le_bytes());
    let array = |kind: u32, count: u64| {
        let head = [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
        GgufFile::default().entry("list", 9, &head)
    };
    let tensor = |name: &str, dims: &[i64], kind: u32| sound().tensor(name, dims, kind, &[0; 64]);
    vec![
        good("gguf: as it should be", LINE).file("m.gguf", whole.clone()),
        raw(
            "only its name",
            "the version at byte 4 takes 4 bytes, *",
            b"GGUF".to_vec(),
        ),
        raw("cut in its metadata", "*bytes*", whole[..900].to_vec()),
        raw(
            "cut in its tensors",
            "tensor `*` takes * bytes from offset *, past the end of the file (* bytes)",
            whole[..whole.len() - 500].to_vec(),
        ),
        refused("a version of tomorrow", "*version 4*", &sound().version(4)),
        refused(
            "the other byte order",
            "*big-endian*",
            &sound().version(3_u32.swap_bytes()),
        ),
        refused(
            "entries that are not there",
            "claims 1000000000000 metadata entries, *",
            &sound().claimed_entries(1_000_000_000_000),
        ),
        refused(
            "tensors that are not there",
            "claims 18446744073709551615 tensors, *",
            &sound().claimed_tensors(u64::MAX),
        ),
        refused(
            "a tensor fewer than are there",
            "*",
            &sound().claimed_tensors(3),
        ),
        refused(
            "a text without end",
            "metadata `general.name` claims 18446744073709551615 bytes *",
            &text(u64::MAX),
        ),
        refused(
            "a text beyond the file",
            "metadata `general.name` claims 4000000000 bytes *",
            &text(4_000_000_000),
        ),
        refused(
            "a list without end",
            "claims 18446744073709551615 items in metadata `list`, *",
            &array(5, u64::MAX),
        ),
        refused(
            "a list of texts without end",
            "claims 4611686018427387904 items in *",
            &array(8, 1 << 62),
        ),
        refused(
            "a list of nobody's type",
            "metadata `list` is an array of the unknown type 77",
            &array(77, 1),
        ),
        refused(
            "a value of nobody's type",
            "metadata `odd` has the unknown type 13",
            &GgufFile::default().entry("odd", 13, &[0; 8]),
        ),
        refused(
            "lists in lists in lists",
            "metadata `list` nests arrays more than 4 deep",
            &{
                let mut inner = [&0_u32.to_le_bytes()[..], &0_u64.to_le_bytes()].concat();
                for _ in 0..2000 {
                    inner = [&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &inner].concat();
                }
                GgufFile::default().entry("list", 9, &inner)
            },
        ),
        refused(
            "one key twice",
            "metadata `general.architecture` appears twice",
            &sound().str("general.architecture", "llama"),
        ),
        refused(
            "a key that clears the screen",
            "a metadata key is \"\\u{1b}[2J\", expected a printable name",
            &sound().u32("\x1b[2J", 1),
        ),
        refused(
            "a dimension of nothing",
            "tensor `x` has shape [0], *",
            &tensor("x", &[0], 0),
        ),
        refused(
            "a dimension below nothing",
            "tensor `x` has shape [-32, 2], *",
            &tensor("x", &[-32, 2], 0),
        ),
        refused(
            "more dimensions than there are",
            "tensor `x` has 5 dimensions, *",
            &tensor("x", &[1; 5], 0),
        ),
        refused(
            "a size that overflows",
            "tensor `x` has shape [*], whose size overflows",
            &tensor("x", &[1 << 40, 1 << 40], 0),
        ),
        refused(
            "rows of no whole blocks",
            "tensor `x` has rows of 33, *",
            &tensor("x", &[33], 8),
        ),
        refused(
            "a quantisation that is not known",
            "tensor `x` is Q3_K, *",
            &tensor("x", &[256], 11),
        ),
        refused(
            "a type of nobody",
            "tensor `x` is ggml type 4000000000, *",
            &tensor("x", &[1], 4_000_000_000),
        ),
        refused(
            "an offset beyond all files",
            "tensor `x` takes *, past the end of the file *",
            &sound().tensor_at("x", &[1], 0, u64::MAX - 31),
        ),
        refused(
            "an offset between",
            "tensor `x` starts at offset 3, *",
            &sound().tensor_at("x", &[1], 0, 3),
        ),
        refused(
            "two tensors in one place",
            "tensors `*` and `*` overlap",
            &sound().tensor_at("x", &[1], 0, 0),
        ),
        refused(
            "one tensor twice",
            "tensor `output_norm.weight` appears twice",
            &tensor("output_norm.weight", &[1], 0),
        ),
        refused(
            "an alignment of three",
            "metadata `general.alignment` is 3, *",
            &sound().u32("general.alignment", 3),
        ),
        refused(
            "an alignment of nothing",
            "metadata `general.alignment` is 0, *",
            &sound().u32("general.alignment", 0),
        ),
    ]
}

fn models() -> Vec<Row> {
    let unsaid = |key: &str| weighed(spoken(described("llama", key), ""), "");
    let lacking = |name: &str| weighed(spoken(described("llama", ""), ""), name);
    let number = |key: &'static str, value: u32| stated(key, |file, key| file.u32(key, value));
    let real = |key: &'static str, value: f32| stated(key, |file, key| file.f32(key, value));
    let eps = |value: f32| {
        let key = "llama.attention.layer_norm_rms_epsilon";
        weighed(spoken(described("llama", "eps").f32(key, value), ""), "")
    };
    let shaped = lacking("blk.0.ffn_up").tensor("blk.0.ffn_up.weight", &[64, 16], 0, &[0; 4096]);
    let wide = lacking("output_norm").tensor("output_norm.weight", &[DIM], 26, &[0; 128]);
    // SentencePiece's tokens, whose every cut is looked up.
    let texts: Vec<String> = (0..300)
        .map(|n| format!("{n:03}") + &"a".repeat(1020))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let long = described("llama", "")
        .str("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", &texts)
        .i32s("tokenizer.ggml.token_type", &[1; 300])
        .f32s("tokenizer.ggml.scores", &[0.0; 300]);
    let long = weighed(long, "");
    vec![
        refused(
            "an architecture of nobody",
            "`general.architecture` is `mamba`, *",
            &weighed(spoken(described("mamba", ""), ""), ""),
        ),
        refused(
            "an architecture that clears the screen",
            "`general.architecture` is `*",
            &GgufFile::default().str("general.architecture", "\x1b[2J\nerror: yes"),
        ),
        refused(
            "an architecture of a novel's length",
            "`general.architecture` is `*",
            &GgufFile::default().str("general.architecture", &"call me Ishmael. ".repeat(10_000)),
        ),
        refused(
            "no architecture",
            "metadata `general.architecture` is missing, *",
            &GgufFile::default(),
        ),
        refused(
            "an architecture that is a number",
            "metadata `general.architecture` is u32 7, *",
            &GgufFile::default().u32("general.architecture", 7),
        ),
        refused(
            "no width",
            "metadata `llama.embedding_length` is missing, *",
            &unsaid("embedding_length"),
        ),
        refused(
            "a width of nothing",
            "embedding length is 0, *",
            &number("embedding_length", 0),
        ),
        refused(
            "a width without measure",
            "embedding length is 4294967295, *",
            &number("embedding_length", u32::MAX),
        ),
        refused(
            "a width below nothing",
            "metadata `llama.embedding_length` is i32 -32, *",
            &stated("embedding_length", |file, key| {
                file.entry(key, 5, &(-32_i32).to_le_bytes())
            }),
        ),
        refused(
            "a width that is a text",
            "metadata `llama.embedding_length` is string, *",
            &stated("embedding_length", |file, key| file.str(key, "32")),
        ),
        refused("no block", "block count is 0, *", &number("block_count", 0)),
        refused(
            "blocks without end",
            "block count is 1000000, *",
            &number("block_count", 1_000_000),
        ),
        refused(
            "a block that is not there",
            "tensor `blk.1.* is missing*",
            &number("block_count", 2),
        ),
        refused(
            "no head",
            "head count is 0, *",
            &number("attention.head_count", 0),
        ),
        refused(
            "heads that do not divide",
            "5 heads do not fit a width of 32",
            &number("attention.head_count", 5),
        ),
        refused(
            "heads that cannot share",
            "2 heads cannot share 3 key-value heads",
            &number("attention.head_count_kv", 3),
        ),
        refused(
            "no context",
            "context length is 0, *",
            &number("context_length", 0),
        ),
        refused(
            "angles of nothing",
            "*`llama.rope.freq_base`*",
            &real("rope.freq_base", 0.0),
        ),
        refused(
            "angles of no number",
            "*`llama.rope.freq_base`*",
            &real("rope.freq_base", f32::NAN),
        ),
        refused(
            "an epsilon below nothing",
            "*`llama.attention.layer_norm_rms_epsilon`*",
            &eps(-1.0),
        ),
        refused(
            "an epsilon of no number",
            "*`llama.attention.layer_norm_rms_epsilon`*",
            &eps(f32::NAN),
        ),
        refused(
            "positions stretched by nobody's rule",
            "`llama.rope.scaling.type` is `longrope`, *",
            &stated("rope.scaling.type", |file, key| file.str(key, "longrope")),
        ),
        refused(
            "angles beyond any number",
            "positions of base 10000 scaled by Linear * turn by no finite angle",
            &stated("rope.scaling.type", |file, key| {
                file.str(key, "linear")
                    .f32("llama.rope.scaling.factor", 1e-45)
            }),
        ),
        row(
            "gguf: tokens that could be cut for hours",
            LINE,
            "`m.gguf`: the squares of its tokens' lengths are *, expected at most 268435456",
        )
        .file("m.gguf", long.bytes()),
        refused(
            "a tensor missing",
            "tensor `blk.0.attn_v.weight` is missing*",
            &lacking("blk.0.attn_v"),
        ),
        refused(
            "no token table",
            "tensor `token_embd.weight` is missing",
            &lacking("token_embd"),
        ),
        refused(
            "a tensor of another shape",
            "tensor `blk.0.ffn_up.weight` has shape [16, 64], *",
            &shaped,
        ),
        refused("a tensor of whole numbers", "*`output_norm.weight`*", &wide),
        refused(
            "a tensor too many",
            "*`blk.0.left_over*",
            &sound().tensor("blk.0.left_over.weight", &[4], 0, &[0; 16]),
        ),
        row(
            "gguf: a prompt longer than the context",
            "generate --llm m.gguf --raw BANANA",
            "the prompt has * tokens; the context of 4 has no room for an answer",
        )
        .usage()
        .file("m.gguf", number("context_length", 4).bytes()),
        row(
            "gguf: no chat template",
            "generate --llm m.gguf banana",
            "the model has no chat template; *",
        )
        .usage()
        .file("m.gguf", sound().bytes()),
        row(
            "gguf: weights for a map",
            "segment none.nii -o out --weights m.gguf",
            "weights `m.gguf`: no `config` in its metadata: not a Zeus model",
        )
        .file("m.gguf", sound().bytes()),
        row(
            "gguf: a text that is none",
            "perplexity m.gguf text",
            "`text` is not UTF-8 text",
        )
        .usage()
        .file("m.gguf", sound().bytes())
        .file("text", [255; 9]),
        row(
            "gguf: a text of nothing",
            "perplexity m.gguf text",
            "`text`: *",
        )
        .usage()
        .file("m.gguf", sound().bytes())
        .file("text", ""),
        row(
            "gguf: a context of nothing",
            "perplexity m.gguf text --context 0",
            "*context*",
        )
        .usage()
        .file("m.gguf", sound().bytes())
        .file("text", "banana ".repeat(99)),
    ]
}
