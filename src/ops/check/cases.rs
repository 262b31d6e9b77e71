//! A small case for each kernel: sizes that are no multiple of a tile, a workgroup or each other.

use super::inputs::{bias, numbers, random, upload, weights, whole_blocks};
use super::{Case, Ran, bits, values};
use crate::error::Result;
use crate::gpu::{Gpu, Kernel, Recorder, Variant};
use crate::ops::naive;
use crate::ops::{
    Activation, Added, Columns, HEAD_NORM, HEAD_NORM_SUBGROUP, Heads, LAYER_NORM,
    LAYER_NORM_SUBGROUP, Operand, Pairs, Placement, RMS_NORM, RMS_NORM_SUBGROUP, Residual,
    Rotation, Scores, Window, add_scaled, argmax, attention_broadcast, attention_coop,
    attention_merge, attention_narrow, attention_spans, attention_split, attention_tile,
    conv_broadcast, conv_depthwise, conv_tile, copy_rows, cross_entropy, embed, film, fourier,
    fuse_view, gather_rows, head_norm_by, instance_norm, joined_windows, layer_norm_by,
    linear_broadcast, linear_coop, linear_tile, linear_vec, matmul, mean_pool, mean_rows,
    merged_moments, moments, pack_half, pixel_shuffle, plain_team, rel_pos, resample, rms_norm_by,
    rope_cache, slice_masks, team, team_lanes, unpack_half, windows,
};
use crate::tensor::{Matrix, Tensor};

/// A linear layer by one kernel or another.
type LinearOp = fn(&Recorder, &Tensor, &Matrix, &Tensor, Activation, Option<&Tensor>) -> Tensor;
/// A convolution likewise.
type ConvOp = fn(&Recorder, &Tensor, &Window, &Matrix, &Tensor, Activation, Residual) -> Tensor;

/// All cases, in the order of `KERNELS`.
pub(super) const ALL: &[Case] = &[
    case("add", "", 1e-6, check_add),
    case("argmax", "", 0.0, check_argmax),
    case("attention", "", 2e-5, check_attention),
    case("attention_broadcast", "", 2e-5, check_attention_broadcast),
    case("attention_coop", "", 4e-3, check_attention_coop),
    case("attention_merge", "", 2e-5, check_attention_merge),
    case("attention_narrow", "", 2e-5, check_attention_narrow),
    case("attention_spans", "", 2e-5, check_attention_spans),
    case("attention_split", "", 2e-5, check_attention_split),
    case("conv", "f32", 2e-5, check_conv),
    case("conv", "f16", 2e-5, check_conv),
    case("conv", "bf16", 2e-5, check_conv),
    case("conv", "q8_0", 2e-5, check_conv),
    case("conv", "q4_0", 2e-5, check_conv),
    case("conv", "q4_1", 2e-5, check_conv),
    case("conv", "q5_0", 2e-5, check_conv),
    case("conv", "q5_1", 2e-5, check_conv),
    case("conv", "q4_k", 2e-5, check_conv),
    case("conv", "q5_k", 2e-5, check_conv),
    case("conv", "q6_k", 2e-5, check_conv),
    case("conv_broadcast", "f32", 2e-5, check_conv_broadcast),
    case("conv_broadcast", "f16", 2e-5, check_conv_broadcast),
    case("conv_broadcast", "bf16", 2e-5, check_conv_broadcast),
    case("conv_broadcast", "q8_0", 2e-5, check_conv_broadcast),
    case("conv_broadcast", "q4_0", 2e-5, check_conv_broadcast),
    case("conv_broadcast", "q4_1", 2e-5, check_conv_broadcast),
    case("conv_broadcast", "q5_0", 2e-5, check_conv_broadcast),
    case("conv_broadcast", "q5_1", 2e-5, check_conv_broadcast),
    case("conv_broadcast", "q4_k", 2e-5, check_conv_broadcast),
    case("conv_broadcast", "q5_k", 2e-5, check_conv_broadcast),
    case("conv_broadcast", "q6_k", 2e-5, check_conv_broadcast),
    case("conv_depthwise", "", 2e-5, check_conv_depthwise),
    case("copy_rows", "", 0.0, check_copy_rows),
    case("cross_entropy", "", 1e-5, check_cross_entropy),
    case("embed", "f32", 0.0, check_embed),
    case("embed", "f16", 0.0, check_embed),
    case("embed", "bf16", 0.0, check_embed),
    case("embed", "q8_0", 0.0, check_embed),
    case("embed", "q4_0", 0.0, check_embed),
    case("embed", "q4_1", 0.0, check_embed),
    case("embed", "q5_0", 0.0, check_embed),
    case("embed", "q5_1", 0.0, check_embed),
    case("embed", "q4_k", 0.0, check_embed),
    case("embed", "q5_k", 0.0, check_embed),
    case("embed", "q6_k", 0.0, check_embed),
    case("film", "", 1e-6, check_film),
    case("fourier", "", 1e-5, check_fourier),
    case("fuse_view", "", 2e-5, check_fuse_view),
    case("gather_rows", "", 0.0, check_gather_rows),
    case("head_norm", "", 1e-5, check_head_norm),
    case("head_norm_subgroup", "", 1e-5, check_head_norm_subgroup),
    case("instance_norm", "", 2e-5, check_instance_norm),
    case("layer_norm", "", 2e-5, check_layer_norm),
    case("layer_norm_subgroup", "", 2e-5, check_layer_norm_subgroup),
    case("linear", "f32", 2e-5, check_linear),
    case("linear", "f16", 2e-5, check_linear),
    case("linear", "bf16", 2e-5, check_linear),
    case("linear", "q8_0", 2e-5, check_linear),
    case("linear", "q4_0", 2e-5, check_linear),
    case("linear", "q4_1", 2e-5, check_linear),
    case("linear", "q5_0", 2e-5, check_linear),
    case("linear", "q5_1", 2e-5, check_linear),
    case("linear", "q4_k", 2e-5, check_linear),
    case("linear", "q5_k", 2e-5, check_linear),
    case("linear", "q6_k", 2e-5, check_linear),
    case("linear_broadcast", "f32", 2e-5, check_linear_broadcast),
    case("linear_broadcast", "f16", 2e-5, check_linear_broadcast),
    case("linear_broadcast", "bf16", 2e-5, check_linear_broadcast),
    case("linear_broadcast", "q8_0", 2e-5, check_linear_broadcast),
    case("linear_broadcast", "q4_0", 2e-5, check_linear_broadcast),
    case("linear_broadcast", "q4_1", 2e-5, check_linear_broadcast),
    case("linear_broadcast", "q5_0", 2e-5, check_linear_broadcast),
    case("linear_broadcast", "q5_1", 2e-5, check_linear_broadcast),
    case("linear_broadcast", "q4_k", 2e-5, check_linear_broadcast),
    case("linear_broadcast", "q5_k", 2e-5, check_linear_broadcast),
    case("linear_broadcast", "q6_k", 2e-5, check_linear_broadcast),
    case("linear_coop", "f32", 4e-3, check_linear_coop),
    case("linear_coop", "f16", 4e-3, check_linear_coop),
    case("linear_coop", "bf16", 4e-3, check_linear_coop),
    case("linear_coop", "q8_0", 4e-3, check_linear_coop),
    case("linear_coop", "q4_0", 4e-3, check_linear_coop),
    case("linear_coop", "q4_1", 4e-3, check_linear_coop),
    case("linear_coop", "q5_0", 4e-3, check_linear_coop),
    case("linear_coop", "q5_1", 4e-3, check_linear_coop),
    case("linear_coop", "q4_k", 4e-3, check_linear_coop),
    case("linear_coop", "q5_k", 4e-3, check_linear_coop),
    case("linear_coop", "q6_k", 4e-3, check_linear_coop),
    case("linear_vec", "f32", 2e-5, check_linear_vec),
    case("linear_vec", "f16", 2e-5, check_linear_vec),
    case("linear_vec", "bf16", 2e-5, check_linear_vec),
    case("linear_vec", "q8_0", 2e-5, check_linear_vec),
    case("linear_vec", "q4_0", 2e-5, check_linear_vec),
    case("linear_vec", "q4_1", 2e-5, check_linear_vec),
    case("linear_vec", "q5_0", 2e-5, check_linear_vec),
    case("linear_vec", "q5_1", 2e-5, check_linear_vec),
    case("linear_vec", "q4_k", 2e-5, check_linear_vec),
    case("linear_vec", "q5_k", 2e-5, check_linear_vec),
    case("linear_vec", "q6_k", 2e-5, check_linear_vec),
    case("matmul", "", 2e-5, check_matmul),
    case("mean_pool", "", 2e-5, check_mean_pool),
    case("moments", "", 2e-5, check_moments),
    case("pack_half", "", 0.0, check_pack_half),
    case("unpack_half", "", 0.0, check_unpack_half),
    case("pixel_shuffle", "", 2e-5, check_pixel_shuffle),
    case("rel_pos", "", 2e-5, check_rel_pos),
    case("resample", "", 1e-6, check_resample),
    case("rms_norm", "", 2e-5, check_rms_norm),
    case("rms_norm_subgroup", "", 2e-5, check_rms_norm_subgroup),
    case("rope_cache", "", 1e-4, check_rope_cache),
    // Keys and values of eleven bits.
    case("rope_cache", "f16", 5e-4, check_rope_cache),
    case("slice_masks", "", 2e-5, check_slice_masks),
    case("windows", "", 0.0, check_windows),
];

const fn case(
    name: &'static str,
    format: &'static str,
    tolerance: f64,
    run: fn(&Gpu, &'static str) -> Result<Ran>,
) -> Case {
    Case {
        name,
        format,
        tolerance,
        run,
    }
}

fn check_add(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (a, b) = (random(1, 7 * 36), random(2, 36));
    let want = naive::add(&a, &b, 0.5);
    let (a, b) = (upload(gpu, [7, 36], &a)?, upload(gpu, 36, &b)?);
    values(gpu, want, |rec| vec![add_scaled(rec, &a, &b, 0.5)])
}

fn check_argmax(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    // 1009 columns of few different values: ties, of which the first counts.
    let x: Vec<f32> = numbers(3, 3 * 1012)
        .map(|bits| (bits % 31) as f32)
        .collect();
    let want = naive::argmax(&x, 1012, 1009);
    let x = upload(gpu, [3, 1012], &x)?;
    bits(gpu, &want, |rec| vec![argmax(rec, &x, 1009)])
}

type Attention = fn(&Recorder, Columns, Columns, Columns, Heads, usize, Scores) -> Tensor;

/// All that hides keys, then what places add: two programs, for the switches are many. An accumulator that a driver does not carry rightly over the blocks of keys
/// shows in the last rows, which go through five of 64 and ten of 32.
fn attend(gpu: &Gpu, heads: Heads, op: Attention) -> Result<Ran> {
    let (batch, queries, keys) = (2, 33, 300);
    let columns = 12;
    let (q_cols, kv_cols) = (heads.q * heads.width, heads.kv * heads.width);
    let q: Vec<f32> = random(4, batch * queries * q_cols)
        .iter()
        .map(|v| 3.0 * v)
        .collect();
    let kv = random(5, batch * keys * 2 * kv_cols);
    // The last row sees no key.
    let mut bias = random(48, queries * keys);
    bias[(queries - 1) * keys..].fill(f32::MIN);
    let places = random(49, batch * heads.q * (keys / columns + columns) * 36);
    let wanted = [
        naive::Scores {
            causal: true,
            window: Some(40),
            bias: Some((&bias, 1, &[0])),
            places: None,
        },
        naive::Scores {
            places: Some((&places, columns)),
            ..false.into()
        },
    ];
    let plain = |values, stride, first| naive::Columns {
        values,
        stride,
        first,
    };
    let mut want = Vec::new();
    for scores in wanted {
        want.extend(naive::attention(
            plain(&q, q_cols, 0),
            plain(&kv, 2 * kv_cols, 0),
            plain(&kv, 2 * kv_cols, kv_cols),
            heads,
            batch,
            scores,
        ));
    }
    let q = upload(gpu, [batch * queries, q_cols], &q)?;
    let kv = upload(gpu, [batch * keys, 2 * kv_cols], &kv)?;
    let bias = upload(gpu, [1, 1, queries, keys], &bias)?;
    let places = upload(gpu, [batch, heads.q, keys / columns + columns, 36], &places)?;
    values(gpu, want, |rec| {
        let (k, v) = (Columns::all(&kv), Columns::from(&kv, kv_cols));
        let bias = Added::Bias {
            bias: &bias,
            kind: None,
        };
        let places = Added::Relative {
            places: &places,
            columns,
        };
        let asked = [
            Scores {
                causal: true,
                window: Some(40),
                added: bias,
            },
            Scores {
                added: places,
                ..false.into()
            },
        ];
        let run = |scores| op(rec, Columns::all(&q), k, v, heads, batch, scores);
        asked.map(run).into()
    })
}

/// Grouped heads of so many columns.
const fn grouped(width: usize) -> Heads {
    Heads { q: 4, kv: 2, width }
}

fn check_attention(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    attend(gpu, grouped(40), attention_tile)
}

fn check_attention_broadcast(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    attend(gpu, grouped(40), attention_broadcast)
}

fn check_attention_coop(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    // Whole tiles of either size, the last of their three blocks of 32 columns half a block.
    attend(gpu, grouped(80), attention_coop)
}

fn check_attention_merge(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (splits, rows, heads, width) = (5, 3, 7, 12);
    let part = random(50, splits * rows * heads * width);
    // Sums of at least 1; of one row and head nothing was seen.
    let mut state: Vec<f32> = random(51, splits * rows * heads * 2)
        .chunks_exact(2)
        .flat_map(|pair| [20.0 * pair[0], 2.0 + pair[1]])
        .collect();
    for split in 0..splits {
        state[2 * split * rows * heads..][..2].copy_from_slice(&[-1e30, 0.0]);
    }
    let want = naive::attention_merge(&part, &state, splits, width);
    let part = upload(gpu, [splits, rows, heads * width], &part)?;
    let state = upload(gpu, [splits, rows, heads, 2], &state)?;
    values(gpu, want, |rec| vec![attention_merge(rec, &part, &state)])
}

fn check_attention_narrow(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let heads = Heads {
        q: 3,
        kv: 3,
        width: 16,
    };
    let (batch, queries, keys, cols) = (2, 33, 65, 3 * 16);
    let q: Vec<f32> = random(4, batch * queries * cols)
        .iter()
        .map(|v| 3.0 * v)
        .collect();
    let kv = random(5, batch * keys * 2 * cols);
    let plain = |values, stride, first| naive::Columns {
        values,
        stride,
        first,
    };
    let want = naive::attention_narrow(
        plain(&q, cols, 0),
        plain(&kv, 2 * cols, 0),
        plain(&kv, 2 * cols, cols),
        heads,
        batch,
    );
    let q = upload(gpu, [batch * queries, cols], &q)?;
    let kv = upload(gpu, [batch * keys, 2 * cols], &kv)?;
    values(gpu, want, |rec| {
        let (k, v) = (Columns::all(&kv), Columns::from(&kv, cols));
        vec![attention_narrow(rec, Columns::all(&q), k, v, heads, batch)]
    })
}

/// Spans that all rows see a prefix beside, by one kernel or another: the last of them is many blocks of keys.
fn attend_spans(
    gpu: &Gpu,
    spans: &[[u32; 2]],
    op: fn(&Recorder, [Columns; 3], &Tensor, usize, Heads) -> Tensor,
) -> Result<Ran> {
    let heads = Heads {
        q: 9,
        kv: 3,
        width: 64,
    };
    let (q_cols, kv_cols, keys, prefix) = (9 * 64, 3 * 64, 1300, 37);
    let q_values: Vec<f32> = random(6, spans.len() * q_cols)
        .iter()
        .map(|v| 3.0 * v)
        .collect();
    let (k_values, v_values) = (random(7, keys * kv_cols), random(8, keys * kv_cols));
    let columns = |values, stride| naive::Columns {
        values,
        stride,
        first: 0,
    };
    let mut want = naive::attention_spans(
        columns(&q_values, q_cols),
        columns(&k_values, kv_cols),
        columns(&v_values, kv_cols),
        spans,
        prefix,
        heads,
    );
    let q = upload(gpu, [spans.len(), q_cols], &q_values)?;
    let (k, v) = (
        upload(gpu, [keys, kv_cols], &k_values)?,
        upload(gpu, [keys, kv_cols], &v_values)?,
    );
    let span = upload(gpu, [spans.len(), 2], spans.as_flattened())?;
    // The same once more with keys and values kept as f16.
    let kept = |values: &[f32]| naive::unpack_half(&naive::pack_half(values));
    let half = [kept(&k_values), kept(&v_values)];
    want.extend(naive::attention_spans(
        columns(&q_values, q_cols),
        columns(&half[0], kv_cols),
        columns(&half[1], kv_cols),
        spans,
        prefix,
        heads,
    ));
    let packed = |values: &[f32]| upload(gpu, [keys, kv_cols / 2], &naive::pack_half(values));
    let (k_half, v_half) = (packed(&k_values)?, packed(&v_values)?);
    values(gpu, want, |rec| {
        let all = [&q, &k, &v].map(Columns::all);
        let half = [
            Columns::all(&q),
            Columns::halves(&k_half),
            Columns::halves(&v_half),
        ];
        [all, half]
            .map(|kept| op(rec, kept, &span, prefix, heads))
            .into()
    })
}

fn check_attention_spans(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    // So many rows that they are not split.
    let spans: Vec<[u32; 2]> = (0..9).map(|r| [37 + r, 1 + r * r * 15]).collect();
    attend_spans(gpu, &spans, |rec, [q, k, v], span, prefix, heads| {
        attention_spans(rec, q, k, v, span, prefix, heads)
    })
}

fn check_attention_split(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let spans = [[38, 2], [100, 1200]];
    attend_spans(gpu, &spans, |rec, [q, k, v], span, prefix, heads| {
        attention_split(rec, q, k, v, span, prefix, heads, 2)
    })
}

fn check_conv(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    check_conv_with(gpu, format, conv_tile)
}

fn check_conv_broadcast(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    check_conv_with(gpu, format, conv_broadcast)
}

/// 3 × 5 × 2 taps: every axis has a stride, a padding or a dilation of its own.
const SKEWED: Window = Window {
    kernel: [3, 5, 2],
    stride: [1, 2, 3],
    padding: [[2, 1], [4, 3], [0, 1]],
    dilation: [2, 3, 1],
    groups: 1,
};

fn check_conv_with(gpu: &Gpu, format: &'static str, op: ConvOp) -> Result<Ran> {
    let (size, outputs) = ([2, 4, 9, 7, whole_blocks(format, 32)], 68);
    let (matrix, plain) = weights(gpu, format, [outputs, SKEWED.taps() * size[4]])?;
    let x = random(9, size.iter().product());
    let b = random(10, outputs);
    let [depth, height, width] = SKEWED.out([4, 9, 7]);
    let added = random(11, 2 * depth * height * width * outputs);
    let residual = Residual::Before(&added[..]);
    let want = naive::conv(&x, &plain, &b, size, &SKEWED, Activation::Relu, residual);
    let (x, b) = (upload(gpu, size, &x)?, bias(gpu, &b)?);
    let added = upload(gpu, [2, depth, height, width, outputs], &added)?;
    values(gpu, want, |rec| {
        let residual = Residual::Before(&added);
        vec![op(
            rec,
            &x,
            &SKEWED,
            &matrix,
            &b,
            Activation::Relu,
            residual,
        )]
    })
}

fn check_conv_depthwise(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let size = [2, 4, 9, 27, 12];
    let (x, b) = (random(9, size.iter().product()), random(10, 12));
    let w = random(11, SKEWED.taps() * 12);
    let want = naive::conv_depthwise(&x, &w, &b, size, &SKEWED, Activation::Gelu, Residual::None);
    let (x, b) = (upload(gpu, size, &x)?, bias(gpu, &b)?);
    let w = upload(gpu, [SKEWED.taps(), 12], &w)?;
    values(gpu, want, |rec| {
        let (activation, residual) = (Activation::Gelu, Residual::None);
        vec![conv_depthwise(
            rec, &x, &SKEWED, &w, &b, activation, residual,
        )]
    })
}

fn check_copy_rows(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (x, mut want) = (random(12, 3 * 12), random(13, 20 * 12));
    let y = upload(gpu, [20, 12], &want)?;
    naive::copy_rows(&x, &mut want, 12, 6, 2, 3);
    let x = upload(gpu, [3, 12], &x)?;
    values(gpu, want, |rec| {
        copy_rows(rec, &x, &y, 6, 2, 3);
        vec![y.clone()]
    })
}

fn check_instance_norm(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let x = random(31, 37 * 12);
    let moments = naive::moments(&x, 37, 12);
    let want = naive::instance_norm(&x, &moments, 1e-5, Activation::Gelu);
    let (x, moments) = (
        upload(gpu, [37, 12], &x)?,
        upload(gpu, [1, 2, 12], &moments)?,
    );
    values(gpu, want, |rec| {
        vec![instance_norm(rec, &x, &moments, 1e-5, Activation::Gelu)]
    })
}

fn check_moments(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let x = random(32, 5 * 7 * 12);
    let want = [naive::moments(&x, 7, 12), naive::moments(&x, 5 * 7, 12)];
    let x = upload(gpu, [5 * 7, 12], &x)?;
    values(gpu, want.concat(), |rec| {
        let lines = moments(rec, &x, 7);
        let all = merged_moments(rec, &lines, 5);
        vec![lines, all]
    })
}

fn check_embed(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    let inputs = whole_blocks(format, 64);
    let (matrix, plain) = weights(gpu, format, [133, inputs])?;
    let ids: Vec<u32> = numbers(14, 67).map(|bits| (bits % 133) as u32).collect();
    let want = naive::embed(&ids, &plain, inputs);
    let ids = upload(gpu, ids.len(), &ids)?;
    values(gpu, want, |rec| vec![embed(rec, &ids, &matrix)])
}

fn check_fuse_view(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let ([size_z, size_y, size_x], height, width) = ([5, 11, 9], 8, 8);
    let voxels = size_z * size_y * size_x;
    let place = |axis: usize, column_axis: usize, slices| Placement {
        axis,
        column_axis,
        row_offset: 3,
        column_offset: 4,
        slices,
    };
    // Axial, then the upper part of the sagittal slices.
    let views = [
        (place(2, 0, 0..size_z), size_z),
        (place(0, 1, 4..9), size_x),
    ];
    let (mut sum, mut weight) = (vec![0.0; voxels], vec![0.0; voxels]);
    let mut inputs = Vec::new();
    for (n, (place, slices)) in views.into_iter().enumerate() {
        let seed = 15 + 2 * n as u64;
        let x: Vec<f32> = random(seed, slices * height * width)
            .iter()
            .map(|v| 40.0 * v)
            .collect();
        let quality: Vec<f32> = random(seed + 1, slices * 3 * 4)
            .iter()
            .map(|v| v.abs())
            .collect();
        naive::fuse_view(
            &x,
            [height, width],
            &quality,
            (3, 1),
            &place,
            20.0,
            [size_z, size_y, size_x],
            (&mut sum, &mut weight),
            (n == 0, n == 1),
        );
        inputs.push((
            upload(gpu, [1, slices, height, width], &x)?,
            upload(gpu, [slices, 3, 4], &quality)?,
            place,
        ));
    }
    values(gpu, sum, |rec| {
        let sum = Tensor::empty(rec, [size_z, size_y, size_x]);
        let weight = Tensor::empty(rec, [size_z, size_y, size_x]);
        for (n, (x, quality, place)) in inputs.iter().enumerate() {
            let ends = (n == 0, n == 1);
            fuse_view(
                rec,
                (x, 0),
                (quality, 1),
                place,
                20.0,
                (&sum, &weight),
                ends,
            );
        }
        vec![sum]
    })
}

fn check_gather_rows(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let x = random(19, 20 * 12);
    let want = naive::gather_rows(&x, 12, 6, 2, 3);
    let x = upload(gpu, [20, 12], &x)?;
    values(gpu, want, |rec| vec![gather_rows(rec, &x, 6, 2, 3)])
}

fn check_film(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (x, gamma, beta) = (random(72, 7 * 12), random(73, 5 * 12), random(74, 5 * 12));
    let want = naive::film(&x, &gamma, &beta, 12);
    let x = upload(gpu, [7, 12], &x)?;
    let (gamma, beta) = (upload(gpu, [5, 12], &gamma)?, upload(gpu, [5, 12], &beta)?);
    values(gpu, want, |rec| vec![film(rec, &x, &gamma, &beta)])
}

fn check_fourier(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (x, weight) = (random(70, 67 * 2), random(71, 2 * 68));
    let weight: Vec<f32> = weight.iter().map(|v| 3.0 * v).collect();
    let want = naive::fourier(&x, &weight);
    let (x, weight) = (upload(gpu, [67, 2], &x)?, upload(gpu, [2, 68], &weight)?);
    values(gpu, want, |rec| vec![fourier(rec, &x, &weight)])
}

/// A norm's kernel that adds up by subgroups, as an adapter with [`team_lanes`] takes it.
fn subgroup_team(gpu: &Gpu, kernel: &'static Kernel) -> Variant {
    team(gpu, kernel, team_lanes(gpu).expect("subgroups"))
}

fn check_layer_norm(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    check_layer_norm_by(gpu, &plain_team(gpu, &LAYER_NORM))
}

fn check_layer_norm_subgroup(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    check_layer_norm_by(gpu, &subgroup_team(gpu, &LAYER_NORM_SUBGROUP))
}

fn check_layer_norm_by(gpu: &Gpu, team: &Variant) -> Result<Ran> {
    let (x, w, b) = (random(20, 67 * 132), random(21, 132), random(22, 132));
    let want = naive::layer_norm(&x, &w, &b, 1e-6);
    let x = upload(gpu, [67, 132], &x)?;
    let (w, b) = (upload(gpu, 132, &w)?, upload(gpu, 132, &b)?);
    values(gpu, want, |rec| {
        vec![layer_norm_by(
            rec,
            team.clone(),
            &x,
            &w,
            &b,
            1e-6,
            Activation::None,
        )]
    })
}

fn check_linear(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    check_linear_with(gpu, format, linear_tile)
}

fn check_linear_coop(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    check_linear_with(gpu, format, linear_coop)
}

fn check_linear_broadcast(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    check_linear_with(gpu, format, linear_broadcast)
}

fn check_linear_with(gpu: &Gpu, format: &'static str, op: LinearOp) -> Result<Ran> {
    let (rows, inputs, outputs) = (13, whole_blocks(format, 96), 68);
    let (matrix, plain) = weights(gpu, format, [outputs, inputs])?;
    let (x, b) = (random(23, rows * inputs), random(24, outputs));
    let residual = random(25, rows * outputs);
    let want = naive::linear(&x, &plain, &b, inputs, Activation::Gelu, Some(&residual));
    let (x, b) = (upload(gpu, [rows, inputs], &x)?, bias(gpu, &b)?);
    let residual = upload(gpu, [rows, outputs], &residual)?;
    values(gpu, want, |rec| {
        vec![op(rec, &x, &matrix, &b, Activation::Gelu, Some(&residual))]
    })
}

fn check_linear_vec(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    let (rows, inputs, outputs) = (2, whole_blocks(format, 288), 196);
    let (matrix, plain) = weights(gpu, format, [outputs, inputs])?;
    let (x, b) = (random(26, rows * inputs), random(27, outputs));
    // As they are, after a norm, and as the shares of an attention with one head.
    let (own, state) = (random(31, inputs), random(32, 2 * 2 * rows));
    let state: Vec<f32> = state.into_iter().map(f32::abs).collect();
    let part = random(33, 2 * rows * inputs);
    let silu = Activation::Silu;
    let operands = [
        x.clone(),
        naive::rms_norm(&x, &own, 1e-5),
        naive::attention_merge(&part, &state, 2, inputs),
    ];
    let want = operands.map(|x| naive::linear_vec(&x, &plain, &b, inputs, silu, None));
    let (x, b) = (upload(gpu, [rows, inputs], &x)?, bias(gpu, &b)?);
    let own = upload(gpu, [inputs], &own)?;
    let part = upload(gpu, [2, rows, inputs], &part)?;
    let state = upload(gpu, [2, rows, 1, 2], &state)?;
    values(gpu, want.concat(), |rec| {
        let operands = [
            Operand::Rows(&x),
            Operand::Normed {
                x: &x,
                weight: &own,
                eps: 1e-5,
            },
            Operand::Shares {
                part: &part,
                state: &state,
            },
        ];
        let product = |x| linear_vec(rec, x, &matrix, &b, silu, None);
        operands.map(product).into()
    })
}

fn check_matmul(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (a, b) = (random(28, 17 * 36), random(29, 68 * 32));
    let want = naive::matmul(&a, 36, &b, 32, true);
    let (a, b) = (upload(gpu, [17, 36], &a)?, upload(gpu, [68, 32], &b)?);
    values(gpu, want, |rec| vec![matmul(rec, &a, &b, true)])
}

fn check_mean_pool(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let spans: [[u32; 2]; 4] = [[0, 1], [39, 1], [3, 17], [0, 40]];
    let x = random(30, 40 * 260);
    let mut want = naive::mean_pool(&x, &spans, 260);
    want.extend(naive::mean_rows(&x, &spans, 260));
    let x = upload(gpu, [40, 260], &x)?;
    let span = upload(gpu, [spans.len(), 2], spans.as_flattened())?;
    values(gpu, want, |rec| {
        vec![mean_pool(rec, &x, &span), mean_rows(rec, &x, &span)]
    })
}

fn check_pack_half(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    // Exact values, one too large, one below the normal range.
    let mut x = random(31, 65 * 8);
    (x[0], x[9]) = (1e9, 3.0 * 2f32.powi(-24));
    let want = naive::pack_half(&x);
    let x = upload(gpu, x.len(), &x)?;
    bits(gpu, &want, |rec| {
        let y = Tensor::empty(rec, want.len());
        pack_half(rec, &x, &y, 0);
        vec![y]
    })
}

fn check_unpack_half(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    // Exact values, the largest, one below the normal range.
    let mut x = random(31, 9 * 8);
    (x[0], x[9]) = (65504.0, 3.0 * 2f32.powi(-24));
    let packed = naive::pack_half(&x);
    let x = upload(gpu, [9, 4], &packed)?;
    values(gpu, naive::unpack_half(&packed), |rec| {
        vec![unpack_half(rec, &x, 9)]
    })
}

fn check_pixel_shuffle(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (size, factors) = ([2, 2, 3, 5, 12], [2, 3, 2]);
    let x = random(32, 2 * 2 * 3 * 5 * 12 * 12);
    let skip = random(33, 2 * 4 * 9 * 10 * 12);
    let want = naive::pixel_shuffle(&x, Some(&skip), size, factors, Activation::Gelu);
    let x = upload(gpu, [2, 2, 3, 5, 12 * 12], &x)?;
    let skip = upload(gpu, [2, 4, 9, 10, 12], &skip)?;
    values(gpu, want, |rec| {
        let skip = Some(&skip);
        vec![pixel_shuffle(rec, &x, factors, skip, Activation::Gelu)]
    })
}

fn check_rel_pos(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (batch, lines, columns) = (2, 3, 9);
    let q = random(44, batch * lines * columns * 4 * 40);
    let tables = [
        random(45, (2 * lines - 1) * 40),
        random(46, (2 * columns - 1) * 40),
    ];
    let plain = naive::Columns {
        values: &q,
        stride: 160,
        first: 0,
    };
    let want = naive::rel_pos(plain, grouped(40), batch, [&tables[0], &tables[1]]);
    let q = upload(gpu, [batch * lines * columns, 160], &q)?;
    let down = upload(gpu, [2 * lines - 1, 40], &tables[0])?;
    let across = upload(gpu, [2 * columns - 1, 40], &tables[1])?;
    values(gpu, want, |rec| {
        vec![rel_pos(
            rec,
            Columns::all(&q),
            grouped(40),
            batch,
            [&down, &across],
        )]
    })
}

fn check_resample(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let x = random(34, 3 * 7 * 5 * 12);
    let want = naive::resample(&x, [3, 7, 5, 12]);
    let x = upload(gpu, [3, 7, 5, 12], &x)?;
    values(gpu, want, |rec| vec![resample(rec, &x)])
}

fn check_rms_norm(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    check_rms_norm_by(gpu, &plain_team(gpu, &RMS_NORM))
}

fn check_rms_norm_subgroup(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    check_rms_norm_by(gpu, &subgroup_team(gpu, &RMS_NORM_SUBGROUP))
}

fn check_rms_norm_by(gpu: &Gpu, team: &Variant) -> Result<Ran> {
    let (x, w) = (random(35, 67 * 132), random(36, 132));
    let want = naive::rms_norm(&x, &w, 1e-5);
    let (x, w) = (upload(gpu, [67, 132], &x)?, upload(gpu, 132, &w)?);
    values(gpu, want, |rec| {
        vec![rms_norm_by(rec, team.clone(), &x, &w, 1e-5)]
    })
}

fn check_rope_cache(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    let heads = Heads {
        q: 9,
        kv: 3,
        width: 64,
    };
    let (tokens, slots, kv_cols) = (7, 11, 3 * 64);
    let row = 15 * 64;
    let qkv = random(37, tokens * row);
    let position: Vec<u32> = (0..tokens as u32).map(|t| 29 * t).collect();
    let slot: Vec<u32> = (0..tokens as u32).map(|t| 10 - t).collect();
    let frequency = naive::rope_frequencies(heads.width, 1e5);
    let both = [Pairs::Neighbours, Pairs::Halves];
    let mut want = Vec::new();
    let mut caches = Vec::new();
    for pairs in both {
        let (mut k, mut v) = (random(38, slots * kv_cols), random(39, slots * kv_cols));
        let kept = |values: &[f32]| match format {
            "f16" => upload(gpu, [slots, kv_cols / 2], &naive::pack_half(values)),
            _ => upload(gpu, [slots, kv_cols], values),
        };
        caches.push((kept(&k)?, kept(&v)?));
        let halves = pairs == Pairs::Halves;
        let into = (&mut k[..], &mut v[..]);
        want.extend(naive::rope_cache(
            &qkv, &position, &slot, heads, &frequency, 1.25, halves, into,
        ));
        want.extend(k);
        want.extend(v);
    }
    let qkv = upload(gpu, [tokens, row], &qkv)?;
    let (position, slot) = (upload(gpu, tokens, &position)?, upload(gpu, tokens, &slot)?);
    let frequency = upload(gpu, frequency.len(), &frequency)?;
    values(gpu, want, |rec| {
        let mut got = Vec::new();
        for (pairs, (k, v)) in both.into_iter().zip(&caches) {
            let rotation = Rotation {
                frequency: &frequency,
                scale: 1.25,
                pairs,
            };
            let half = format == "f16";
            let columns = if half { Columns::halves } else { Columns::all };
            let into = (columns(k), columns(v));
            got.push(rope_cache(
                rec, &qkv, &position, &slot, heads, rotation, into,
            ));
            got.extend([k, v].map(|kept| match half {
                true => unpack_half(rec, kept, slots),
                false => kept.clone(),
            }));
        }
        got
    })
}

fn check_head_norm(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    check_head_norm_by(gpu, &plain_team(gpu, &HEAD_NORM))
}

fn check_head_norm_subgroup(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    check_head_norm_by(gpu, &subgroup_team(gpu, &HEAD_NORM_SUBGROUP))
}

fn check_head_norm_by(gpu: &Gpu, team: &Variant) -> Result<Ran> {
    let heads = Heads {
        q: 5,
        kv: 2,
        width: 36,
    };
    let (x, w) = (random(51, 7 * 9 * 36), random(52, 2 * 36));
    let want = naive::head_norm(&x, &w, heads, 1e-6);
    let (x, w) = (upload(gpu, [7, 9 * 36], &x)?, upload(gpu, [2, 36], &w)?);
    values(gpu, want, |rec| {
        vec![head_norm_by(rec, team.clone(), &x, &w, heads, 1e-6)]
    })
}

fn check_cross_entropy(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (rows, stride, cols) = (5, 332, 331);
    let x: Vec<f32> = random(53, rows * stride).iter().map(|v| 30.0 * v).collect();
    let tokens = [0u32, 330, 17, 64, 255];
    let want = naive::cross_entropy(&x, &tokens, stride, cols);
    let (x, tokens) = (
        upload(gpu, [rows, stride], &x)?,
        upload(gpu, rows, &tokens)?,
    );
    values(gpu, want, |rec| vec![cross_entropy(rec, &x, &tokens, cols)])
}

fn check_slice_masks(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (size, count, channels) = ([3, 5, 20], 36, 16);
    let (hyper, pixels) = (random(41, 3 * 5 * 20), random(42, 3 * count * channels));
    let mut want = random(43, 3 * 7 * count);
    let y = upload(gpu, [3, 7, count], &want)?;
    naive::slice_masks(&hyper, size, &pixels, channels, 2..5, (&mut want, 1));
    let hyper = upload(gpu, size, &hyper)?;
    let packed = naive::pack_half(&pixels);
    let pixels = upload(gpu, packed.len(), &packed)?;
    values(gpu, want, |rec| {
        slice_masks(rec, &hyper, &pixels, channels, 2..5, &y, 1);
        vec![y.clone()]
    })
}

fn check_windows(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (size, side, shift) = ([2, 7, 10, 12], 4, 1);
    let x = random(47, size.iter().product());
    let mut want = naive::windows(&x, size, side, shift);
    want.extend(&x);
    let x = upload(gpu, size, &x)?;
    values(gpu, want, |rec| {
        let cut = windows(rec, &x, side, shift);
        let whole = joined_windows(rec, &cut, [2, 7, 10], side, shift);
        vec![cut, whole]
    })
}
