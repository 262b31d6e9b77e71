// key(i), value(i) = four columns of a cache: as f32, or with F16 out of eight that are kept as f16
//
// For kernels that bind k and v as vec4<u32> and have the override F16. Whatever is kept, i counts columns by fours.

fn key(i: u32) -> vec4<f32> {
    if F16 == 0u {
        return bitcast<vec4<f32>>(k[i]);
    }
    return four_of(k[i / 2u], i);
}

fn value(i: u32) -> vec4<f32> {
    if F16 == 0u {
        return bitcast<vec4<f32>>(v[i]);
    }
    return four_of(v[i / 2u], i);
}
