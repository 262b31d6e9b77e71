// y[b, DEEP · d + t, HIGH · i + u, WIDE · j + v, c] = activate(x[b, d, i, j, (t, u, v), c] (+ skip[…]))
//
// The second half of a transposed convolution whose stride is its kernel, NHWC or NDHWC: a linear product has made
// the DEEP · HIGH · WIDE pixels of each input pixel side by side, here they move to their places and a skip
// connection is added where there is one. One thread per 4 channels of an output pixel.

override WG: u32 = 64;
override DEEP: u32 = 1;
override HIGH: u32 = 2;
override WIDE: u32 = 2;
override SKIP: u32 = 1;

struct Params {
    images: u32,
    depth: u32,   // of x; a picture has one slice
    height: u32,
    width: u32,
    quads: u32,   // output channels / 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // (images, depth, height, width, DEEP · HIGH · WIDE, quads) of 4 channels
@group(0) @binding(2) var<storage, read> skip: array<vec4<f32>>;     // (images, DEEP · depth, HIGH · height, WIDE · width, quads) of 4 channels, any buffer if SKIP is 0
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // (images, DEEP · depth, HIGH · height, WIDE · width, quads) of 4 channels

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    if i < params.images * params.depth * params.height * params.width * DEEP * HIGH * WIDE * params.quads {
        let c = i % params.quads;
        let pixel = i / params.quads;
        let column = pixel % (WIDE * params.width);
        let line = pixel / (WIDE * params.width);
        // Lines of all slices in one: a slice has a multiple of HIGH of them.
        var from_line = line / HIGH;
        var part = line % HIGH;
        if DEEP > 1u {
            // Likewise slices of all images.
            let slice = from_line / params.height;
            from_line = slice / DEEP * params.height + from_line % params.height;
            part += slice % DEEP * HIGH;
        }
        let from_pixel = from_line * params.width + column / WIDE;
        part = part * WIDE + column % WIDE;
        var v = x[(from_pixel * (DEEP * HIGH * WIDE) + part) * params.quads + c];
        if SKIP == 1u {
            v += skip[i];
        }
        y[i] = activate(v);
    }
}
