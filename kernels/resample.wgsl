// y[b, i, j, c] = bilinear x[b, ·, ·, c] at ((i + ½) / 2 - ½, (j + ½) / 2 - ½), edges repeated
//
// Doubles both sides of pictures (NHWC); PyTorch's `interpolate(scale_factor=2, mode="bilinear", align_corners=False)`.
//
// Lines 2k - 1 and 2k of y lie between lines k - 1 and k of x, a quarter and three quarters of the way, and so do
// columns. So a thread owns two lines by two columns of y, of 4 channels: four loads for four pixels. At an edge both
// neighbours are the same, and what would lie outside is not stored.

override WG: u32 = 64;

struct Params {
    images: u32,
    height: u32,  // of x
    width: u32,
    quads: u32,   // channels / 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // (images, height, width, quads) of 4 channels
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;  // (images, 2 · height, 2 · width, quads) of 4 channels

// The pixels 2l - 1 and 2l of a line of y, from those on either side of them.
fn store(line: u32, l: u32, c: u32, before: vec4<f32>, after: vec4<f32>) {
    let at = (line * 2u * params.width + 2u * l) * params.quads + c;
    if l > 0u {
        y[at - params.quads] = mix(before, after, 0.25);
    }
    if l < params.width {
        y[at] = mix(before, after, 0.75);
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    let down = params.height + 1u;
    let across = params.width + 1u;
    if i < params.images * down * across * params.quads {
        let c = i % params.quads;
        let block = i / params.quads;
        let l = block % across;
        let k = block / across % down;
        let image = block / across / down;
        let upper = (image * params.height + max(k, 1u) - 1u) * params.width;
        let lower = (image * params.height + min(k, params.height - 1u)) * params.width;
        let left = max(l, 1u) - 1u;
        let right = min(l, params.width - 1u);
        let a = x[(upper + left) * params.quads + c];
        let b = x[(upper + right) * params.quads + c];
        let d = x[(lower + left) * params.quads + c];
        let e = x[(lower + right) * params.quads + c];
        let line = image * 2u * params.height + 2u * k;
        if k > 0u {
            store(line - 1u, l, c, mix(a, d, 0.25), mix(b, e, 0.25));
        }
        if k < params.height {
            store(line, l, c, mix(a, d, 0.75), mix(b, e, 0.75));
        }
    }
}
