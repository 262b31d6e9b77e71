// y[b, i, j] = bilinear x[b] at ((i + ½) / 2 - ½, (j + ½) / 2 - ½), edges repeated
//
// Doubles both sides of a one-channel picture; PyTorch's `interpolate(scale_factor=2,
// mode="bilinear", align_corners=False)`. One thread per pixel of y.

override WG: u32 = 64;

struct Params {
    images: u32,
    height: u32,  // of x
    width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // (images, height, width)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // (images, 2 · height, 2 · width)

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    if i < params.images * params.height * params.width * 4u {
        let column = i % (2u * params.width);
        let line = i / (2u * params.width) % (2u * params.height);
        let image = i / (4u * params.width * params.height);
        y[i] = doubled(image * params.height * params.width, line, column);
    }
}
