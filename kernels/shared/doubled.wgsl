// doubled(base, i, j) = bilinear x[base ..] at ((i + ½) / 2 - ½, (j + ½) / 2 - ½), edges repeated
//
// One pixel of a picture of `params.height` by `params.width` at twice its size, align_corners
// false. The weights are ¼ and ¾ by the pixel's parity; at an edge both neighbours are the same.

fn doubled(base: u32, line: u32, column: u32) -> f32 {
    let top = max(line, 1u) - 1u;
    let left = max(column, 1u) - 1u;
    let i0 = top / 2u;
    let j0 = left / 2u;
    let i1 = min(i0 + select(1u, 0u, line == 0u), params.height - 1u);
    let j1 = min(j0 + select(1u, 0u, column == 0u), params.width - 1u);
    let v = select(0.25, 0.75, (line & 1u) == 0u);
    let h = select(0.25, 0.75, (column & 1u) == 0u);
    let a = mix(x[base + i0 * params.width + j0], x[base + i0 * params.width + j1], h);
    let b = mix(x[base + i1 * params.width + j0], x[base + i1 * params.width + j1], h);
    return mix(a, b, v);
}
