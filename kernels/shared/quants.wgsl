// q = low + 16 · high, s = the bytes and f16s of words: what storage formats are made of, as vec4s of 4 columns
//
// A tile of nibbles is a word for each of 4 k, columns 0..3 in its low 16 bits and 4..7 in the high ones. The bits
// beyond four of a tile lie k by k: a byte for each k of five-bit quants, two of six-bit ones.

fn low_bits(low: u32) -> vec4<u32> {
    return (vec4<u32>(low) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
}

fn nibbles(low: u32) -> vec4<f32> {
    return vec4<f32>(low_bits(low));
}

fn fives(low: u32, high: u32) -> vec4<f32> {
    return vec4<f32>(low_bits(low) | ((vec4<u32>(high) << vec4<u32>(4u, 3u, 2u, 1u)) & vec4<u32>(16u)));
}

fn sixes(low: u32, high: u32) -> vec4<f32> {
    let upper = (vec4<u32>(high) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u);
    return vec4<f32>(low_bits(low) | (upper << vec4<u32>(4u)));
}

// Four bytes, lowest first.
fn bytes(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u));
}

// Four signed bytes, lowest first.
fn signed_bytes(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<i32>(bitcast<i32>(word)) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// Four f16s of two words.
fn halves(low: u32, high: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(low), unpack2x16float(high));
}

// Pairs of f16s of 4 columns.
struct Pairs {
    first: vec4<f32>,
    second: vec4<f32>,
}

fn pairs(words: vec4<u32>) -> Pairs {
    let x = unpack2x16float(words.x);
    let y = unpack2x16float(words.y);
    let z = unpack2x16float(words.z);
    let w = unpack2x16float(words.w);
    return Pairs(vec4<f32>(x.x, y.x, z.x, w.x), vec4<f32>(x.y, y.y, z.y, w.y));
}
