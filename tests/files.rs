//! Model files, good and bad: every damaged file is a typed error that names what is wrong, and
//! nothing panics, hangs or allocates what a file merely claims.

#[path = "support/model_files.rs"]
mod support;

use std::path::Path;

use keraunos::tensor::Encoding;
use keraunos::tensor::{Array, Gguf, Value};
use keraunos::tensor::{Checkpoint, Container};
use proptest::prelude::*;
use support::{GgufFile, leak, safetensors, temp_file};

/// The message of a GGUF file that must be refused.
fn gguf_error(bytes: &[u8]) -> String {
    let error = Gguf::parse(Path::new("bad.gguf"), bytes)
        .expect_err("a bad file is accepted")
        .to_string();
    assert!(error.starts_with("weights `bad.gguf`: "), "{error}");
    error
}

/// The message of a safetensors file that must be refused.
fn checkpoint_error(bytes: Vec<u8>) -> String {
    let error =
        Checkpoint::from_bytes(leak(bytes), "bad.safetensors").expect_err("a bad file is accepted");
    let error = error.to_string();
    assert!(error.starts_with("weights `bad.safetensors`: "), "{error}");
    error
}

/// Asserts that `message` contains every one of `parts`.
#[track_caller]
fn names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

/// A file with one of everything.
fn good() -> GgufFile {
    GgufFile::default()
        .u32("llama.block_count", 30)
        .f32("llama.rope.freq_base", 1e5)
        .bool("tokenizer.ggml.add_bos_token", false)
        .str("general.name", "tiny")
        .strings("tokenizer.ggml.tokens", &["a", "b", ""])
        .entry(
            "deep",
            9,
            &[
                &9_u32.to_le_bytes()[..],
                &1_u64.to_le_bytes(),
                &0_u32.to_le_bytes(),
                &2_u64.to_le_bytes(),
                &[7, 8],
            ]
            .concat(),
        )
        .tensor("norm", &[3], 0, &[0_u8; 12])
        .tensor("weight", &[32, 2], 3, &[0_u8; 40])
}

#[test]
fn a_good_gguf_file_gives_its_metadata_and_tensors() {
    let bytes = good().bytes();
    let gguf = Gguf::parse(Path::new("good.gguf"), &bytes).unwrap();
    assert_eq!(gguf.version(), 3);
    assert_eq!(gguf.u32("llama.block_count").unwrap(), 30);
    assert_eq!(gguf.u64("llama.block_count").unwrap(), 30);
    assert_eq!(gguf.f32("llama.rope.freq_base").unwrap(), 1e5);
    assert!(!gguf.bool("tokenizer.ggml.add_bos_token").unwrap());
    assert_eq!(gguf.str("general.name").unwrap(), "tiny");
    assert_eq!(
        gguf.strings("tokenizer.ggml.tokens").unwrap(),
        ["a", "b", ""]
    );
    assert_eq!(
        gguf.metadata()["deep"],
        Value::Array(Array::Array(vec![Array::U8(vec![7, 8])]))
    );
    let [norm, weight] = gguf.tensors() else {
        panic!("two tensors")
    };
    assert_eq!(
        (norm.name.as_str(), norm.dims.as_slice(), norm.encoding),
        ("norm", &[3][..], Encoding::F32)
    );
    assert_eq!(
        (weight.dims.as_slice(), weight.encoding, weight.range.len()),
        (&[32, 2][..], Encoding::Q4_1, 40)
    );
    assert_eq!(weight.range.start % 32, 0);
}

#[test]
fn gguf_getters_name_file_key_expected_and_found() {
    let file = good().entry("negative", 5, &(-1_i32).to_le_bytes()).bytes();
    let gguf = Gguf::parse(Path::new("some.gguf"), &file).unwrap();
    let missing = gguf.u32("llama.head_count").unwrap_err().to_string();
    names(
        &missing,
        &["`some.gguf`", "`llama.head_count` is missing", "u32"],
    );
    let wrong = gguf.u32("general.name").unwrap_err().to_string();
    names(
        &wrong,
        &["`some.gguf`", "`general.name` is string", "expected u32"],
    );
    names(
        &gguf.str("tokenizer.ggml.tokens").unwrap_err().to_string(),
        &["array of 3 string", "expected string"],
    );
    names(
        &gguf.u32("negative").unwrap_err().to_string(),
        &["i32 -1", "expected u32"],
    );
    names(
        &gguf.i32s("tokenizer.ggml.tokens").unwrap_err().to_string(),
        &["expected array of i32"],
    );
}

#[test]
fn a_gguf_file_cut_anywhere_in_its_header_or_data_is_refused() {
    let bytes = good().bytes();
    let end = bytes.len() - 24; // the last tensor's 40 bytes are padded to 64
    assert!(Gguf::parse(Path::new("whole.gguf"), &bytes[..end]).is_ok());
    for len in 0..end {
        gguf_error(&bytes[..len]);
    }
}

#[test]
fn gguf_versions_and_byte_order_are_named() {
    for version in [0_u32, 1, 4] {
        names(
            &gguf_error(&good().version(version).bytes()),
            &[&format!("version {version}")],
        );
    }
    names(
        &gguf_error(&good().version(3_u32.swap_bytes()).bytes()),
        &["big-endian"],
    );
    assert!(Gguf::parse(Path::new("v2.gguf"), &good().version(2).bytes()).is_ok());
}

#[test]
fn gguf_counts_and_lengths_are_bounded_by_the_file() {
    for claim in [1_000, 1 << 40, u64::MAX, 1 << 63] {
        names(
            &gguf_error(&good().claimed_tensors(claim).bytes()),
            &["tensors", &claim.to_string()],
        );
        names(
            &gguf_error(&good().claimed_entries(claim).bytes()),
            &["metadata entries", &claim.to_string()],
        );
        let text = good().entry("text", 8, &claim.to_le_bytes());
        names(
            &gguf_error(&text.bytes()),
            &["metadata `text`", &claim.to_string()],
        );
        for item in [0_u32, 4, 7, 8, 9, 12] {
            let array = [&item.to_le_bytes()[..], &claim.to_le_bytes()].concat();
            names(
                &gguf_error(&good().entry("items", 9, &array).bytes()),
                &["metadata `items`"],
            );
        }
    }
}

#[test]
fn gguf_arrays_nest_only_so_deep() {
    let nested = |depth: usize| {
        let mut array = [&0_u32.to_le_bytes()[..], &0_u64.to_le_bytes()].concat();
        for _ in 1..depth {
            array = [&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &array].concat();
        }
        good().entry("nest", 9, &array).bytes()
    };
    assert!(Gguf::parse(Path::new("nest.gguf"), &nested(4)).is_ok());
    names(
        &gguf_error(&nested(5)),
        &["metadata `nest`", "more than 4 deep"],
    );
    names(
        &gguf_error(&nested(1_000)),
        &["metadata `nest`", "more than 4 deep"],
    );
}

#[test]
fn gguf_metadata_is_well_formed() {
    names(
        &gguf_error(&good().u32("general.name", 1).bytes()),
        &["`general.name` appears twice"],
    );
    names(
        &gguf_error(&good().u32("", 1).bytes()),
        &["metadata key", "printable"],
    );
    names(
        &gguf_error(&good().u32("a\0b", 1).bytes()),
        &["metadata key", "printable"],
    );
    names(
        &gguf_error(&good().u32(&"k".repeat(70_000), 1).bytes()),
        &["metadata key", "70000"],
    );
    names(
        &gguf_error(&good().entry("odd", 13, &[0; 8]).bytes()),
        &["`odd`", "unknown type 13"],
    );
    names(
        &gguf_error(&good().entry("truth", 7, &[2]).bytes()),
        &["`truth`", "bool"],
    );
    let text = [&2_u64.to_le_bytes()[..], &[0xff, 0xfe]].concat();
    names(
        &gguf_error(&good().entry("text", 8, &text).bytes()),
        &["`text`", "UTF-8"],
    );
    for alignment in [0, 3, 48] {
        let file = good().u32("general.alignment", alignment).bytes();
        names(&gguf_error(&file), &["`general.alignment`", "power of two"]);
    }
    let file = good().u32("general.alignment", 1 << 31).bytes();
    names(&gguf_error(&file), &["`norm`", "past the end"]);
    names(
        &gguf_error(&good().str("general.alignment", "32").bytes()),
        &["`general.alignment` is string"],
    );
}

#[test]
fn gguf_tensors_are_whole_named_once_and_of_a_known_type() {
    let add = |name: &str, dims: &[i64], kind: u32| {
        gguf_error(&good().tensor(name, dims, kind, &[0; 64]).bytes())
    };
    names(&add("norm", &[1], 0), &["`norm` appears twice"]);
    names(&add("", &[1], 0), &["tensor name"]);
    names(&add("a\0", &[1], 0), &["tensor name"]);
    names(&add(&"n".repeat(300), &[1], 0), &["tensor name", "300"]);
    names(&add("x", &[], 0), &["`x` has 0 dimensions"]);
    names(&add("x", &[1, 1, 1, 1, 1], 0), &["`x` has 5 dimensions"]);
    names(&add("x", &[0], 0), &["`x` has shape [0]"]);
    names(&add("x", &[4, 0], 0), &["`x` has shape [4, 0]"]);
    names(&add("x", &[-1], 0), &["`x` has shape [-1]"]);
    names(&add("x", &[i64::MIN, 2], 0), &["`x` has shape"]);
    names(&add("x", &[i64::MAX, 4], 0), &["`x` has shape", "overflow"]);
    names(
        &add("x", &[1 << 32, 1 << 32], 1),
        &["`x` has shape", "overflow"],
    );
    names(&add("x", &[i64::MAX - 31], 0), &["`x`", "overflow"]);
    names(
        &add("x", &[33], 8),
        &["`x` has rows of 33", "multiple of 32", "Q8_0"],
    );
    names(
        &add("x", &[1 << 20], 0),
        &["`x` takes 4194304 bytes", "past the end"],
    );
    names(
        &add("x", &[256], 11),
        &["`x` is Q3_K", "expected one of F32"],
    );
    names(&add("x", &[256], 39), &["`x` is MXFP4"]);
    names(&add("x", &[1], 1234), &["`x` is ggml type 1234"]);
}

#[test]
fn gguf_tensors_lie_aligned_inside_the_file_and_apart() {
    names(
        &gguf_error(&good().tensor_at("x", &[1], 0, 4).bytes()),
        &["`x` starts at offset 4", "multiple of 32"],
    );
    names(
        &gguf_error(&good().tensor_at("x", &[1], 0, 0).bytes()),
        &["`norm`", "`x`", "overlap"],
    );
    names(
        &gguf_error(&good().tensor_at("x", &[2], 0, 32).bytes()),
        &["`weight`", "`x`", "overlap"],
    );
    for offset in [1 << 20, 1 << 62, u64::MAX - 31] {
        names(
            &gguf_error(&good().tensor_at("x", &[1], 0, offset).bytes()),
            &["`x`", "past the end"],
        );
    }
}

#[test]
fn safetensors_and_gguf_give_the_same_tensors_whatever_they_are_called() {
    let values: Vec<u8> = [1.0_f32, -2.5, 3.0, 4.0, 5.0, 6.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let header = r#"{"__metadata__":{"names":"liver, spleen"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;
    let plain = temp_file("w.gguf", &safetensors(header, &values));
    let ggml = temp_file(
        "w.safetensors",
        &GgufFile::default()
            .str("names", "liver, spleen")
            .tensor("w", &[3, 2], 0, &values)
            .bytes(),
    );
    for file in [&plain, &ggml] {
        for checkpoint in [
            Checkpoint::open(file.path()).unwrap(),
            Checkpoint::read(file.path()).unwrap(),
        ] {
            let tensor = checkpoint.tensor("w").unwrap();
            assert_eq!(
                (tensor.shape, tensor.encoding),
                (&[2, 3][..], Encoding::F32)
            );
            assert_eq!(tensor.decode().unwrap(), [1.0, -2.5, 3.0, 4.0, 5.0, 6.0]);
            assert_eq!(checkpoint.tensors().len(), 1);
            assert!(checkpoint.tensor("v").is_none());
            assert_eq!(checkpoint.metadata()["names"], "liver, spleen");
            assert!(checkpoint.expect_finite().is_ok());
        }
    }
    assert!(matches!(
        Checkpoint::open(ggml.path()).unwrap().container(),
        Container::Gguf(_)
    ));
    let refused = Checkpoint::open(plain.path())
        .unwrap()
        .expect_gguf()
        .unwrap_err()
        .to_string();
    names(&refused, &["is a safetensors file, expected GGUF"]);
}

#[test]
fn a_safetensors_header_is_checked_beyond_its_reader() {
    let tensor = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let twice = format!(r#"{{"w":{tensor},"w":{tensor}}}"#);
    names(
        &checkpoint_error(safetensors(&twice, &[0; 4])),
        &["`w` appears twice"],
    );
    let texts = r#"{"__metadata__":{"k":"1","k":"2"}}"#;
    names(
        &checkpoint_error(safetensors(texts, &[])),
        &["`k` appears twice"],
    );
    let field = r#"{"w":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}"#;
    names(
        &checkpoint_error(safetensors(field, &[0; 4])),
        &["duplicate field `dtype`"],
    );
    let nul = format!(r#"{{"w\u0000":{tensor}}}"#);
    names(
        &checkpoint_error(safetensors(&nul, &[0; 4])),
        &["\"w\\0\"", "control character"],
    );
    let space = format!(r#" {{"w":{tensor}}}"#);
    names(
        &checkpoint_error(safetensors(&space, &[0; 4])),
        &["does not start with `{`"],
    );
    let deep = format!(r#"{{"w":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    names(&checkpoint_error(safetensors(&deep, &[])), &["header: "]);
    let deep = format!(
        r#"{{"w":{{"data_offsets":[0,0],"x":{}1{}}}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    checkpoint_error(safetensors(&deep, &[]));
    names(
        &checkpoint_error(safetensors(r#"{"w":3}"#, &[])),
        &["header: "],
    );
    names(&checkpoint_error(safetensors("{", &[])), &["header: "]);
}

#[test]
fn safetensors_sizes_and_offsets_must_agree() {
    let one = |dtype: &str, shape: &str, offsets: &str, data: usize| {
        let header =
            format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#);
        checkpoint_error(safetensors(&header, &vec![0; data]))
    };
    one("F32", "[2]", "[0,4]", 4); // shape and bytes disagree
    one("F32", "[1]", "[4,8]", 8); // a hole before
    one("F32", "[1]", "[0,4]", 8); // bytes nobody owns
    one("F32", "[1]", "[4,0]", 4); // backwards
    one("F32", "[-1]", "[0,4]", 4);
    one("F32", "[18446744073709551615,2]", "[0,4]", 4);
    one("F7", "[1]", "[0,4]", 4);
    names(&one("F32", "[2]", "[0,8]", 4), &["`w` ends at byte 8 of 4"]);
    names(&one("C64", "[1]", "[0,8]", 8), &["`w` is C64"]);
    names(&one("F8_E4M3", "[4]", "[0,4]", 4), &["`w` is F8_E4M3"]);
    let overlap = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
    checkpoint_error(safetensors(overlap, &[0; 6]));
}

#[test]
fn safetensors_offsets_that_overflow_the_readers_own_sum_are_refused() {
    // eight tensors of almost 2^61 bytes end just below 2^64; adding the header's length wraps
    let size = (1_u64 << 61) - 1;
    let mut entries: Vec<String> = (0..8)
        .map(|i| {
            format!(
                r#""t{i}":{{"dtype":"U8","shape":[{size}],"data_offsets":[{},{}]}}"#,
                i * size,
                (i + 1) * size
            )
        })
        .collect();
    entries.push(format!(
        r#""end":{{"dtype":"U8","shape":[7],"data_offsets":[{},{}]}}"#,
        8 * size,
        8 * size + 7
    ));
    let header = format!("{{{}}}", entries.join(","));
    names(
        &checkpoint_error(safetensors(&header, &[])),
        &["of 0 bytes of data"],
    );
}

#[test]
fn a_safetensors_file_cut_anywhere_is_refused() {
    let header = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let whole = safetensors(header, &[0; 8]);
    assert!(Checkpoint::from_bytes(leak(whole.clone()), "good").is_ok());
    for len in 0..whole.len() {
        checkpoint_error(whole[..len].to_vec());
    }
    for claim in [101_000_000, u64::MAX, 1 << 63] {
        let mut lying = whole.clone();
        lying[..8].copy_from_slice(&claim.to_le_bytes());
        names(
            &checkpoint_error(lying),
            &["claims a header of", &claim.to_string()],
        );
    }
}

#[test]
fn files_that_are_something_else_are_called_by_their_name() {
    for (start, what) in [
        (&b"PK\x03\x04................"[..], "zip archive"),
        (b"\x80\x02}q\x00.............", "pickle"),
        (b"\x89HDF\r\n\x1a\n..........", "HDF5"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "Git LFS pointer",
        ),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"{\"a\": 1, \"b\": 2, \"c\": 3}", "JSON"),
    ] {
        names(&checkpoint_error(start.to_vec()), &[what]);
    }
    // a header of 640 bytes begins like a pickle and is fine all the same
    let header = format!("{{}}{}", " ".repeat(638));
    assert!(Checkpoint::from_bytes(leak(safetensors(&header, &[])), "good").is_ok());
}

#[test]
fn paths_that_are_no_file_are_refused_before_they_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    names(&error, &["has neither `model.safetensors`"]);
    let error = Checkpoint::open(&folder.path().join("none.safetensors"))
        .unwrap_err()
        .to_string();
    names(&error, &["cannot read", "none.safetensors"]);
    let empty = temp_file("empty.safetensors", &[]);
    names(
        &Checkpoint::open(empty.path()).unwrap_err().to_string(),
        &["has 0 bytes"],
    );
}

#[test]
fn weights_that_are_not_numbers_are_found() {
    let f32s = |values: &[f32]| {
        values
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let file = GgufFile::default()
        .tensor("good", &[2], 0, &f32s(&[1.0, f32::MIN_POSITIVE / 2.0]))
        .tensor("poison", &[3], 0, &f32s(&[1.0, f32::NAN, f32::INFINITY]));
    let checkpoint = Checkpoint::from_bytes(leak(file.bytes()), "nan.gguf").unwrap();
    names(
        &checkpoint.expect_finite().unwrap_err().to_string(),
        &["`poison` holds NaN at element 1"],
    );

    // an infinite scale spoils a whole block of a quantised tensor, here the second
    let mut block = [0_u8; 40];
    block[20..22].copy_from_slice(&0x7c00_u16.to_le_bytes());
    let file = GgufFile::default().tensor("q", &[64], 3, &block);
    let checkpoint = Checkpoint::from_bytes(leak(file.bytes()), "inf.gguf").unwrap();
    assert_eq!(
        checkpoint
            .tensor("q")
            .unwrap()
            .first_non_finite()
            .unwrap()
            .0,
        32
    );
}

#[test]
fn block_encodings_decode_to_the_reference_bits() {
    let goldens = Checkpoint::open(Path::new("tests/goldens/dequantize.safetensors")).unwrap();
    for encoding in [
        Encoding::Q8_0,
        Encoding::Q4_0,
        Encoding::Q4_1,
        Encoding::Q5_0,
        Encoding::Q5_1,
        Encoding::Q4_K,
        Encoding::Q5_K,
        Encoding::Q6_K,
    ] {
        let name = encoding.to_string().to_lowercase();
        let raw = goldens.tensor(&format!("{name}.raw")).unwrap();
        let want = goldens
            .tensor(&format!("{name}.y"))
            .unwrap()
            .decode()
            .unwrap();
        assert_eq!(raw.encoding, Encoding::U8);
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(
            bits(&encoding.decode(raw.bytes).unwrap()),
            bits(&want),
            "{encoding}"
        );
    }
}

#[test]
fn plain_encodings_decode_exactly() {
    assert_eq!(
        Encoding::F16
            .decode(&[0x00, 0x3c, 0x01, 0x00, 0xff, 0xfb])
            .unwrap(),
        [1.0, 2.0_f32.powi(-24), -65504.0]
    );
    assert_eq!(
        Encoding::BF16.decode(&[0x80, 0x3f, 0x49, 0xc0]).unwrap(),
        [1.0, -3.140625]
    );
    assert_eq!(
        Encoding::F64.decode(&0.1_f64.to_le_bytes()).unwrap(),
        [0.1_f32]
    );
    assert_eq!(Encoding::I64.decode(&[0; 8]), None);
    assert_eq!(Encoding::Q4_1.byte_len(33), None);
    assert_eq!(Encoding::Q6_K.byte_len(512), Some(420));
    assert_eq!(Encoding::Q6_K.byte_len(288), None);
    assert_eq!(Encoding::F64.byte_len(u64::MAX), None);
}

#[test]
fn a_hash_is_that_of_the_whole_file() {
    let file = temp_file("abc.bin", &safetensors("{}", &[]));
    let checkpoint = Checkpoint::open(file.path()).unwrap();
    assert_eq!(
        checkpoint.sha256(),
        "411a485216e432ece6b9af94fa32154cf79a2a56d4f81266baa50063f45092bd"
    );
}

proptest! {
    #[test]
    fn no_change_of_a_few_bytes_makes_the_parsers_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let plain = safetensors(r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[0; 8]);
        for mut bytes in [good().bytes(), plain] {
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes.truncate(cut.index(bytes.len() * 8) + 1);
            let file = temp_file("fuzz.bin", &bytes);
            if let Ok(checkpoint) = Checkpoint::read(file.path()) {
                for tensor in checkpoint.tensors() {
                    prop_assert_eq!(tensor.encoding.byte_len(tensor.elements() as u64), Some(tensor.bytes.len() as u64));
                    tensor.first_non_finite();
                }
            }
        }
    }
}
