//! Embeddings, and what the storage formats hold.

use super::*;

#[track_caller]
fn check_embed(format: &str, [rows, cols]: [usize; 2], tokens: usize) {
    let mut random = Random::new((rows * cols + tokens) as u64);
    let w = weights(gpu(), &mut random, format, [rows, cols]);
    let ids: Vec<u32> = (0..tokens).map(|_| random.below(rows) as u32).collect();
    let want = naive::embed(
        &ids,
        &pad(&w.values, cols, w.matrix.inputs),
        w.matrix.inputs,
    );
    let ids = upload(tokens, &ids);
    // Dequantising is exact: one product of short numbers, one rounded sum.
    check(gpu().record("embed"), &want, 0.0, 0.0, |rec| {
        embed(rec, &ids, &w.matrix)
    });
}

#[test]
fn embed_in_every_format() {
    for format in FORMATS {
        for tokens in [1, 7, 63, 64, 65, 131] {
            check_embed(format, [133, whole_blocks(format, 64)], tokens);
        }
        check_embed(format, [9, whole_blocks(format, 32)], 40);
        check_embed(format, [70, 768], 70);
    }
    check_embed("f16", [5, 3], 11);
    check_embed("f32", [65, 6], 100);
}

#[test]
fn embed_like_pytorch() {
    let golden = Golden::open("embedding");
    for case in golden.cases.keys() {
        let &[rows, cols] = golden.shape(case, "weight") else {
            panic!("shape of {case}")
        };
        let matrix =
            Matrix::f32(gpu(), case, [rows, cols], &golden.values(case, "weight")).unwrap();
        let ids = golden.numbers(case, "ids");
        let want = pad(&golden.values(case, "y"), cols, cols.next_multiple_of(4));
        let ids = upload(ids.len(), &ids);
        check(gpu().record("embed"), &want, 0.0, 0.0, |rec| {
            embed(rec, &ids, &matrix)
        });
    }
}

/// The rows of a packed table are ggml's dequantised values, bit for bit.
#[test]
fn dequantize_like_ggml() {
    let golden = Golden::open("dequantize");
    for format in &FORMATS[3..] {
        let &[blocks, per_block] = golden.shape(format, "y") else {
            panic!("shape of {format}")
        };
        let raw = golden.bytes(format, "raw");
        let want: Vec<u32> = golden
            .values(format, "y")
            .iter()
            .map(|v| v.to_bits())
            .collect();
        // A block to a row, all in one row, and the same 70 times, beyond a group of 64 rows.
        for (rows, cols, times) in [
            (blocks, per_block, 1),
            (1, blocks * per_block, 1),
            (70, blocks * per_block, 70),
        ] {
            let raw = raw.repeat(times);
            let matrix = Matrix::quantised(gpu(), format, [rows, cols], encoding(format), &raw);
            let ids: Vec<u32> = (0..rows as u32).collect();
            let ids = upload(rows, &ids);
            let rec = gpu().record("embed");
            let y = embed(&rec, &ids, &matrix.unwrap());
            let got = read::<u32>(rec, &[&y]).swap_remove(0);
            assert_eq!(got, want.repeat(times), "{format}");
        }
    }
}

/// What five formats take on the adapter beside what they take in a file.
#[test]
fn packed_matrices_are_hardly_larger_than_in_the_file() {
    for (format, percent) in [
        ("bf16", 0),
        ("q8_0", 0),
        ("q4_0", 0),
        ("q4_1", 0),
        ("q5_0", 0),
        ("q5_1", 0),
        ("q4_k", 3),
        ("q5_k", 3),
        ("q6_k", 0),
    ] {
        let (outputs, inputs) = (128, 512);
        let w = weights(gpu(), &mut Random::new(1), format, [outputs, inputs]);
        let count = (outputs * inputs) as u64;
        let in_file = match format {
            "bf16" => 2 * count,
            _ => encoding(format).byte_len(count).unwrap(),
        };
        let taken = w.matrix.bytes();
        assert!(
            (in_file..=in_file + in_file * percent / 100).contains(&taken),
            "{format}: {taken} bytes on the adapter, {in_file} in the file"
        );
    }
}

/// A table in parts: each writes the rows that are its own and leaves the others as they are.
#[test]
fn embed_into_writes_what_is_its_own() {
    let (rows, cols) = (37, 12);
    let mut random = Random::new(5);
    let table = random.values(rows * cols);
    let ids = [36u32, 0, 15, 16, 31, 32, 15, 7];
    let part = |from: usize, to: usize| {
        Matrix::f32(
            gpu(),
            "part",
            [to - from, cols],
            &table[from * cols..to * cols],
        )
        .unwrap()
    };
    let parts = [(0, part(0, 16)), (16, part(16, 32)), (32, part(32, rows))];
    let want: Vec<f32> = naive::embed(&ids, &table, cols)
        .iter()
        .map(|v| 2.5 * v)
        .collect();
    let rec = gpu().record("embed");
    let numbers = upload(ids.len(), &ids);
    check(rec, &want, 0.0, 0.0, |rec| {
        let y = Tensor::empty(rec, [ids.len(), cols]);
        for (first, part) in &parts {
            embed_into(rec, &numbers, part, *first, 2.5, &y);
        }
        y
    });
}
