// sum[v] += w · clamp(doubled x[mask, slice, i, j], ±limit),  weight[v] += w,  w = quality[slice, prompt] + 1e-3
//
// Adds one view's masks of one prompt to the volume: late fusion of views and modalities, weighted
// by the predicted Dice. One thread per voxel finds its slice and its pixel there, so the three
// views are one kernel; the grid is the volume, so that no thread divides. Voxels outside the slice's 2 · height by 2 · width window, and those outside
// the half of the volume that a sagittal view of a sided structure may speak for, are left alone.
//
// FIRST starts both sums at zero; LAST divides, and gives -limit to voxels that no view has seen.

override WG: u32 = 64;
override FIRST: u32 = 0;
override LAST: u32 = 0;

struct Params {
    size_x: u32,
    size_y: u32,
    size_z: u32,
    height: u32,        // of x
    width: u32,
    axis: u32,          // across the slices: 0 x, 1 y, 2 z
    column_axis: u32,   // along a slice's columns, the other is along its rows; both run downwards
    row_offset: i32,    // added to a voxel's row in the slice for its row in the window
    column_offset: i32,
    low: u32,           // voxels low .. high along the axis take part
    high: u32,
    mask: u32,          // of x
    slices: u32,        // of a mask
    prompts: u32,
    prompt: u32,
    limit: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;             // (masks, slices, height, width)
@group(0) @binding(2) var<storage, read> quality: array<f32>;       // (slices, prompts, 4), the first of 4
@group(0) @binding(3) var<storage, read_write> sum: array<f32>;     // (size_z, size_y, size_x)
@group(0) @binding(4) var<storage, read_write> weight: array<f32>;  // (size_z, size_y, size_x)

fn along(axis: u32, v: vec3<u32>) -> u32 {
    return select(select(v.z, v.y, axis == 1u), v.x, axis == 0u);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let size = vec3<u32>(params.size_x, params.size_y, params.size_z);
    let voxel = vec3<u32>(group.x * WG + lane, group.yz);
    if voxel.x < size.x {
        let i = (voxel.z * size.y + voxel.y) * size.x + voxel.x;
        let slice = along(params.axis, voxel);
        let row_axis = 3u - params.axis - params.column_axis;
        let row = i32(along(row_axis, size) - 1u - along(row_axis, voxel)) + params.row_offset;
        let column = i32(along(params.column_axis, size) - 1u - along(params.column_axis, voxel)) + params.column_offset;
        let window = row >= 0 && column >= 0 && row < i32(2u * params.height) && column < i32(2u * params.width);
        var total = 0.0;
        var weights = 0.0;
        if FIRST == 0u {
            total = sum[i];
            weights = weight[i];
        }
        if window && slice >= params.low && slice < params.high {
            let w = quality[(slice * params.prompts + params.prompt) * 4u] + 1e-3;
            let picture = params.mask * params.slices + slice;
            let logit = doubled(picture * params.height * params.width, u32(row), u32(column));
            total += w * clamp(logit, -params.limit, params.limit);
            weights += w;
        }
        if LAST == 1u {
            total = select(-params.limit, total / max(weights, 1e-6), weights > 0.0);
        }
        sum[i] = total;
        weight[i] = weights;
    }
}
