// x[image, origin + tap · dilation, i] = 0 outside the image
//
// Where the taps of a convolution's output pixel lie. Each axis has one bit per tap that is set if that tap is in
// the image; columns, rows and slices lie side by side in one word, so that one comparison answers for a tap of
// all three. Kernel columns, rows and slices are together at most 31. Pictures are volumes of one slice. Columns that
// are never outside may come as one column of so many times the channels.

// What the taps of an output pixel read.
struct Pixel {
    origin: u32,  // the vec4 of x under tap (0, 0, 0); wraps below zero where that tap is outside
    inside: u32,  // a bit for each kernel column, then row, then slice
}

// The multiples of `dilation` in 0 .. length, `taps` at most. Both are small whole numbers, half away from rounding.
fn multiples(length: i32, dilation: u32, taps: u32) -> u32 {
    let reach = clamp(length, 0, i32(dilation * taps));
    return u32((f32(reach) + f32(dilation) - 0.5) / f32(dilation));
}

// A bit for each tap of one axis; `first` is where tap 0 lies, below zero outside.
fn taps_inside(first: u32, size: u32, dilation: u32, taps: u32) -> u32 {
    let at = bitcast<i32>(first);
    let end = multiples(i32(size) - at, dilation, taps);
    let begin = min(multiples(-at, dilation, taps), end);
    return (1u << end) - (1u << begin);
}

fn pixel(column: u32, row: u32, slice: u32, image: u32) -> Pixel {
    let left = column * params.stride_width - params.padding_width;
    let top = row * params.stride_height - params.padding_height;
    let front = slice * params.stride_depth - params.padding_depth;
    let columns = taps_inside(left, params.width, params.dilation_width, params.kernel_width);
    let rows = taps_inside(top, params.height, params.dilation_height, params.kernel_height);
    let slices = taps_inside(front, params.depth, params.dilation_depth, params.kernel_depth);
    let origin = (((image * params.depth + front) * params.height + top) * params.width + left) * params.quads;
    return Pixel(origin, columns | (rows << params.kernel_width) | (slices << (params.kernel_width + params.kernel_height)));
}

// A step through the taps: 4 input channels of one of them.
struct Tap {
    channel: u32,  // of the group, in fours
    column: u32,   // its bit among the kernel's columns
    row: u32,
    slice: u32,
    offset: u32,   // from a pixel's origin
}

fn first_tap(group: u32) -> Tap {
    let row = 1u << params.kernel_width;
    return Tap(0u, 1u, row, row << params.kernel_height, group * params.group_quads);
}

// Input channels run fastest, then kernel columns, rows, slices.
fn next_tap(t: Tap) -> Tap {
    let rows = 1u << params.kernel_width;
    let slices = rows << params.kernel_height;
    let to_column = params.dilation_width * params.quads - params.group_quads;
    let to_row = (params.dilation_height * params.width - params.kernel_width * params.dilation_width) * params.quads;
    let to_slice = (params.dilation_depth * params.height - params.kernel_height * params.dilation_height) * params.width * params.quads;
    let tap_ends = t.channel + 1u == params.group_quads;
    let column = t.column << u32(tap_ends);
    let row_ends = column == rows;
    let row = t.row << u32(row_ends);
    let slice_ends = row == slices;
    return Tap(
        select(t.channel + 1u, 0u, tap_ends),
        select(column, 1u, row_ends),
        select(row, rows, slice_ends),
        t.slice << u32(slice_ends),
        t.offset + 1u + select(0u, to_column, tap_ends) + select(0u, to_row, row_ends) + select(0u, to_slice, slice_ends),
    );
}

fn tap_value(p: Pixel, t: Tap) -> vec4<f32> {
    let bits = t.column | t.row | t.slice;
    let inside = (p.inside & bits) == bits;
    return select(vec4<f32>(0.0), x[select(0u, p.origin + t.offset, inside)], inside);
}
