//! A small case for each kernel: sizes that are no multiple of a tile, a workgroup or each other.

mod attentions;
mod pictures;
mod products;
mod rows;

use attentions::*;
use pictures::*;
use products::*;
use rows::*;

use super::{Case, Ran};
use crate::error::Result;
use crate::gpu::{Gpu, Kernel, Variant};
use crate::ops::{team, team_lanes};

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

/// A norm's kernel that adds up by subgroups, as an adapter with [`team_lanes`] takes it.
fn subgroup_team(gpu: &Gpu, kernel: &'static Kernel) -> Variant {
    team(gpu, kernel, team_lanes(gpu).expect("subgroups"))
}
