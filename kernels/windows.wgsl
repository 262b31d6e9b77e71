// y[b, u, v, i, j, c] = x[b, (u · side + i + shift) mod height', (v · side + j + shift) mod width', c], 0 beyond the picture
//
// A picture cut into windows for attention within each, its lines and columns padded by zeros to whole windows
// (height', width') and first rolled by `shift`, as Swin does in every other layer; BACK puts the windows
// together again and drops the padding. One thread per 4 channels of a pixel of y.

override WG: u32 = 64;
override BACK: u32 = 0;

struct Params {
    images: u32,
    height: u32,  // of the picture
    width: u32,
    quads: u32,   // channels / 4
    side: u32,    // of a window
    down: u32,    // windows, ceil(height / side)
    across: u32,
    shift: u32,   // less than a side
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // (images, height, width, quads) or, BACK, (images, down, across, side, side, quads) of 4
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;  // (images, down, across, side, side, quads) or, BACK, (images, height, width, quads) of 4

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    let c = i % params.quads;
    let pixel = i / params.quads;
    let lines = params.down * params.side;
    let columns = params.across * params.side;
    if BACK == 1u {
        let column = pixel % params.width;
        let line = pixel / params.width % params.height;
        let image = pixel / params.width / params.height;
        // In the rolled picture.
        let down = (line + lines - params.shift) % lines;
        let across = (column + columns - params.shift) % columns;
        let window = (image * params.down + down / params.side) * params.across + across / params.side;
        if image < params.images {
            let from_pixel = (window * params.side + down % params.side) * params.side + across % params.side;
            y[i] = x[from_pixel * params.quads + c];
        }
    } else {
        let window = pixel / (params.side * params.side);
        let image = window / (params.down * params.across);
        let down = window / params.across % params.down * params.side + pixel / params.side % params.side;
        let across = window % params.across * params.side + pixel % params.side;
        let line = (down + params.shift) % lines;
        let column = (across + params.shift) % columns;
        if image < params.images {
            if line < params.height && column < params.width {
                y[i] = x[((image * params.height + line) * params.width + column) * params.quads + c];
            } else {
                y[i] = vec4<f32>(0.0);
            }
        }
    }
}
