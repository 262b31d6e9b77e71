// sum[v] += w · clamp(doubled x[mask, slice, i, j], ±limit),  weight[v] += w,  w = quality[slice, prompt] + 1e-3
//
// Adds one view's masks of one prompt to the volume: late fusion of views and modalities, weighted
// by the predicted Dice. `doubled` is bilinear at twice the size, align_corners false, edges repeated. Voxels
// outside the slice's 2 · height by 2 · width window, and those outside the half of the volume that a sagittal view of a
// sided structure may speak for, are left alone.
//
// Lines 2k - 1 and 2k of the window lie between lines k - 1 and k of x, and so do columns. So a thread
// owns two lines by two columns of one slice: it loads four pixels for four voxels, and the quality once. The grid
// is the volume in such blocks, lanes along x (the columns of axial and coronal slices, the sagittal slices
// themselves), so that neighbouring lanes touch neighbouring voxels in every view.
//
// FIRST starts both sums at zero; LAST divides, gives -limit to voxels that no view has seen, and leaves
// `weight` as it is.

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

// The voxel at a line and a column of the window, which may lie outside of both: window to volume is a flip.
fn add(line: i32, column: i32, slice: u32, w: f32, logit: f32) {
    let size = vec3<u32>(params.size_x, params.size_y, params.size_z);
    let row_axis = 3u - params.axis - params.column_axis;
    let rows = i32(along(row_axis, size));
    let columns = i32(along(params.column_axis, size));
    let r = rows - 1 + params.row_offset - line;
    let c = columns - 1 + params.column_offset - column;
    if r >= 0 && c >= 0 && r < rows && c < columns {
        let stride = vec3<u32>(1u, size.x, size.x * size.y);
        let i = slice * along(params.axis, stride) + u32(r) * along(row_axis, stride) + u32(c) * along(params.column_axis, stride);
        var total = 0.0;
        var weights = 0.0;
        if FIRST == 0u {
            total = sum[i];
            weights = weight[i];
        }
        if w > 0.0 && line >= 0 && column >= 0 && line < i32(2u * params.height) && column < i32(2u * params.width) {
            total += w * clamp(logit, -params.limit, params.limit);
            weights += w;
        }
        if LAST == 1u {
            sum[i] = select(-params.limit, total / max(weights, 1e-6), weights > 0.0);
        } else {
            sum[i] = total;
            weight[i] = weights;
        }
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let x_place = group.x * WG + lane;
    let slice = select(group.y, x_place, params.axis == 0u);
    if slice >= params.slices {
        return;
    }
    // The block's number from the first that the volume reaches; it is made of lines and columns 2k - 1 and 2k.
    let k_column = ((params.column_offset + 1) >> 1u) + i32(select(x_place, group.y, params.axis == 0u));
    let k_line = ((params.row_offset + 1) >> 1u) + i32(group.z);

    let picture = (params.mask * params.slices + slice) * params.height * params.width;
    let i0 = picture + u32(clamp(k_line - 1, 0, i32(params.height) - 1)) * params.width;
    let i1 = picture + u32(clamp(k_line, 0, i32(params.height) - 1)) * params.width;
    let j0 = u32(clamp(k_column - 1, 0, i32(params.width) - 1));
    let j1 = u32(clamp(k_column, 0, i32(params.width) - 1));
    let top = vec2<f32>(x[i0 + j0], x[i0 + j1]);
    let bottom = vec2<f32>(x[i1 + j0], x[i1 + j1]);
    let takes_part = slice >= params.low && slice < params.high;
    let w = select(0.0, quality[(slice * params.prompts + params.prompt) * 4u] + 1e-3, takes_part);

    let left = vec2<f32>(mix(top.x, top.y, 0.25), mix(bottom.x, bottom.y, 0.25));
    let right = vec2<f32>(mix(top.x, top.y, 0.75), mix(bottom.x, bottom.y, 0.75));
    let line = 2 * k_line - 1;
    let column = 2 * k_column - 1;
    add(line, column, slice, w, mix(left.x, left.y, 0.25));
    add(line, column + 1, slice, w, mix(right.x, right.y, 0.25));
    add(line + 1, column, slice, w, mix(left.x, left.y, 0.75));
    add(line + 1, column + 1, slice, w, mix(right.x, right.y, 0.75));
}
