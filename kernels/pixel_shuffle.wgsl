// y[b, 2i + u, 2j + v, c] = activate(x[b, i, j, 2u + v, c] + skip[b, 2i + u, 2j + v, c])
//
// The second half of a 2 × 2 transposed convolution of stride 2, NHWC: a linear product has made the
// four pixels of each input pixel side by side, here they move to their places and the skip
// connection is added. One thread per 4 channels of an output pixel.

override WG: u32 = 64;

struct Params {
    images: u32,
    height: u32,  // of x
    width: u32,
    quads: u32,   // output channels / 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // (images, height, width, 4, quads) of 4 channels
@group(0) @binding(2) var<storage, read> skip: array<vec4<f32>>;     // (images, 2 · height, 2 · width, quads) of 4 channels
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // (images, 2 · height, 2 · width, quads) of 4 channels

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    if i < params.images * params.height * params.width * 4u * params.quads {
        let c = i % params.quads;
        let pixel = i / params.quads;
        let column = pixel % (2u * params.width);
        let line = pixel / (2u * params.width);
        // Lines of all images in one: an image has an even number of them.
        let from_pixel = line / 2u * params.width + column / 2u;
        let part = line % 2u * 2u + column % 2u;
        y[i] = activate(x[(from_pixel * 4u + part) * params.quads + c] + skip[i]);
    }
}
