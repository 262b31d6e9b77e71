// y[2i], y[2i + 1] = f16(x[i]): two values a word, eight a vec4<u32>, of which the first four lie in x and y

fn halves(v: vec4<f32>) -> vec2<u32> {
    let c = clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0));
    return vec2<u32>(pack2x16float(c.xy), pack2x16float(c.zw));
}

// The i-th four values of a row, of which `eight` holds them and their neighbours.
fn four_of(eight: vec4<u32>, i: u32) -> vec4<f32> {
    let own = select(eight.xy, eight.zw, i % 2u == 1u);
    return vec4<f32>(unpack2x16float(own.x), unpack2x16float(own.y));
}
