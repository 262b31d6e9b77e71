//! What a preview shows: planes of a volume with its labels drawn in.

use std::collections::BTreeMap;

use embedded_graphics::mono_font::iso_8859_1::{FONT_7X13, FONT_8X13, FONT_9X15_BOLD};
use embedded_graphics::text::Alignment;
use image::Rgb;

use super::{HEAD, MARGIN, Style};
use crate::pipeline::canvas::{Canvas, INK, blend};
use crate::pipeline::geometry::{self, Grid};
use crate::pipeline::modality::{self, Modality};
use crate::pipeline::prepare::{self, View};
use crate::pipeline::volume::{Volume, colour};

/// The width that the three planes share, in pixels.
const PLANES_WIDTH: f64 = 1440.0;
/// The most height of the planes, in pixels.
const PLANES_HEIGHT: f64 = 560.0;
/// How far the planes reach beyond the object, in mm.
const AROUND: f64 = 4.0;
/// The slices of a row of the mosaic, its rows, and pixels between slices.
const ACROSS: u32 = 8;
const ROWS: u32 = 2;
const GAP: u32 = 4;
/// The most height of a slice of the mosaic, in pixels.
const TILE_HEIGHT: f64 = 300.0;
/// How far the mosaic reaches beyond what is labelled, in mm.
const ABOUT: f64 = 25.0;
/// The soft-tissue window that CT is shown in, in Hounsfield units.
const SOFT_TISSUE: (f32, f32) = (-160.0, 240.0);

const CROSS: [u8; 3] = [120, 200, 255];
const LETTER: [u8; 3] = [255, 214, 90];

/// What is shown: canonical arrays and the box of interest.
pub(super) struct Scene {
    pub(super) grid: Grid,
    sizes: [f64; 3],
    data: Vec<f32>,
    pub(super) labels: Vec<u32>,
    /// What the planes show.
    shown: Part,
    /// What the mosaic shows.
    labelled: Part,
    /// The first slice of each RAS axis that is labelled and the one after the last.
    extent: [[usize; 2]; 3],
    pub(super) window: (f32, f32),
    /// The slice of each RAS axis that a plane shows.
    cut: [usize; 3],
    /// Voxels of each label.
    pub(super) counts: BTreeMap<u32, u64>,
}

/// The first voxel shown and the one after the last.
#[derive(Clone, Copy)]
struct Part {
    low: [usize; 3],
    high: [usize; 3],
}

/// Where one slice is on the canvas, in pixels.
pub(super) struct Plane {
    pub(super) view: View,
    pub(super) slice: usize,
    part: Part,
    /// Pixels per millimetre.
    scale: f64,
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Scene {
    pub(super) fn new(volume: &Volume, labels: &[u32]) -> Self {
        let native = volume.grid();
        let orientation = native.orientation();
        let grid = native.canonical();
        let sizes = grid.voxel_sizes();
        let data = geometry::reorient(&volume.data, native.shape, orientation);
        let labels = geometry::reorient(labels, native.shape, orientation);

        let (_, [mut low, mut high]) = prepare::foreground(&data, grid.shape);
        let mut areas = grid.shape.map(|n| vec![0_u64; n]);
        let mut counts = BTreeMap::new();
        let [nx, ny, _] = grid.shape;
        for (index, &label) in labels.iter().enumerate().filter(|&(_, &label)| label > 0) {
            *counts.entry(label).or_insert(0) += 1;
            for (axis, at) in [index % nx, index / nx % ny, index / (nx * ny)]
                .into_iter()
                .enumerate()
            {
                areas[axis][at] += 1;
                low[axis] = low[axis].min(at);
                high[axis] = high[axis].max(at + 1);
            }
        }
        let mut cut = [0; 3];
        let mut extent = [[0; 2]; 3];
        let mut labelled = Part { low, high };
        for axis in 0..3 {
            let of = |mm: f64| (mm / sizes[axis]).ceil() as usize;
            let n = grid.shape[axis];
            low[axis] = low[axis].saturating_sub(of(AROUND));
            high[axis] = high[axis].saturating_add(of(AROUND)).min(n);
            let middle = (low[axis] + high[axis]) / 2;
            // Among equals the slice nearest to the middle; the middle where nothing is labelled.
            let best =
                (0..n).max_by_key(|&at| (areas[axis][at], std::cmp::Reverse(at.abs_diff(middle))));
            cut[axis] = best.unwrap_or(0);
            let is_labelled = |at: &usize| areas[axis][*at] > 0;
            let first = (0..n).find(is_labelled).unwrap_or(low[axis]);
            let end = (0..n)
                .rfind(is_labelled)
                .map_or(high[axis], |last| last + 1);
            extent[axis] = [first, end];
            labelled.low[axis] = first.saturating_sub(of(ABOUT)).max(low[axis]);
            labelled.high[axis] = end.saturating_add(of(ABOUT)).min(high[axis]);
        }

        let window = if modality::estimate(volume).modality == Modality::Ct {
            SOFT_TISSUE
        } else {
            let mut shown: Vec<f32> = View::ALL
                .iter()
                .flat_map(|view| view.indices(grid.shape, cut[view.axis()]))
                .map(|index| data[index])
                .collect();
            let mut at = |percent| prepare::percentile(&mut shown, percent).unwrap_or(0.0);
            (at(0.5), at(99.5))
        };
        Self {
            grid,
            sizes,
            data,
            labels,
            shown: Part { low, high },
            labelled,
            extent,
            window,
            cut,
            counts,
        }
    }

    /// The length of a box in mm.
    fn length(&self, part: &Part, axis: usize) -> f64 {
        (part.high[axis] - part.low[axis]) as f64 * self.sizes[axis]
    }

    /// A slice at a scale, in the canvas's corner.
    fn plane(&self, view: View, slice: usize, part: Part, scale: f64) -> Plane {
        let (down, across) = view.plane();
        let pixels = |axis: usize| ((self.length(&part, axis) * scale).round() as u32).max(1);
        Plane {
            view,
            slice,
            part,
            scale,
            x: 0,
            y: 0,
            width: pixels(across),
            height: pixels(down),
        }
    }

    /// The three planes side by side, their middles on one line.
    pub(super) fn planes(&self) -> Vec<Plane> {
        let length = |axis| self.length(&self.shown, axis);
        let across = 2.0 * length(0) + length(1);
        let down = length(1).max(length(2));
        let scale = (PLANES_WIDTH / across).min(PLANES_HEIGHT / down);
        let of = |view: View| self.plane(view, self.cut[view.axis()], self.shown, scale);
        let mut planes: Vec<Plane> = View::ALL.map(of).into();
        let tallest = planes.iter().map(|plane| plane.height).max().unwrap_or(1);
        let mut x = MARGIN;
        for plane in &mut planes {
            (plane.x, plane.y) = (x, HEAD + MARGIN + (tallest - plane.height) / 2);
            x += plane.width + MARGIN;
        }
        planes
    }

    /// Axial slices in rows of `width` pixels from pixel row `top` on, from the feet upwards.
    pub(super) fn mosaic(&self, top: u32, width: u32) -> Vec<Plane> {
        let part = self.labelled;
        let most = f64::from((width - (ACROSS - 1) * GAP) / ACROSS);
        let scale = (most / self.length(&part, 0)).min(TILE_HEIGHT / self.length(&part, 1));
        let [first, end] = self.extent[2];
        let count = (end - first).min((ACROSS * ROWS) as usize);
        let tiles = (0..count).map(|n| {
            let slice = first + (2 * n + 1) * (end - first) / (2 * count);
            let tile = self.plane(View::Axial, slice, part, scale);
            let (row, column) = (n as u32 / ACROSS, n as u32 % ACROSS);
            Plane {
                x: MARGIN + column * (tile.width + GAP),
                y: top + row * (tile.height + GAP),
                ..tile
            }
        });
        tiles.collect()
    }

    /// The voxel coordinate along `axis` under pixel `at` of a plane: both directions of a
    /// plane run against the axes.
    fn voxel(&self, plane: &Plane, axis: usize, at: u32) -> f64 {
        let from_high = (f64::from(at) + 0.5) / (plane.scale * self.sizes[axis]);
        let high = plane.part.high[axis] as f64;
        (high - 0.5 - from_high).clamp(0.0, (self.grid.shape[axis] - 1) as f64)
    }

    /// The pixel of a plane that shows the middle of voxel `at` of `axis`.
    fn pixel(&self, plane: &Plane, axis: usize, at: usize) -> u32 {
        let from_high = (plane.part.high[axis] - at) as f64 - 0.5;
        (from_high * plane.scale * self.sizes[axis]) as u32
    }

    /// The intensity, interpolated, and the label with the largest share of a point of a plane.
    fn sample(&self, plane: &Plane, row: f64, col: f64) -> (f32, u32) {
        let view = plane.view;
        let (down, across) = view.plane();
        let stride = [
            1,
            self.grid.shape[0],
            self.grid.shape[0] * self.grid.shape[1],
        ];
        let base = plane.slice * stride[view.axis()];
        let mut intensity = 0.0;
        let mut shares = [(0, 0.0); 4];
        for (corner, share) in shares.iter_mut().enumerate() {
            let along = |axis: usize, at: f64, second: bool| {
                let first = at.floor();
                let index = first as usize + usize::from(second);
                let weight = if second {
                    at - first
                } else {
                    1.0 - (at - first)
                };
                (index.min(self.grid.shape[axis] - 1) * stride[axis], weight)
            };
            let (r, row_weight) = along(down, row, corner >= 2);
            let (c, col_weight) = along(across, col, corner % 2 == 1);
            let weight = row_weight * col_weight;
            intensity += weight * f64::from(self.data[base + r + c]);
            *share = (self.labels[base + r + c], weight);
        }
        let share = |label: u32| -> f64 {
            shares
                .iter()
                .filter(|(l, _)| *l == label)
                .map(|(_, weight)| weight)
                .sum()
        };
        let largest = shares
            .iter()
            .max_by(|a, b| share(a.0).total_cmp(&share(b.0)));
        (intensity as f32, largest.map_or(0, |(label, _)| *label))
    }

    /// Draws a slice with what is labelled in it.
    pub(super) fn draw(&self, canvas: &mut Canvas, plane: &Plane, style: Style) {
        let (down, across) = plane.view.plane();
        let samples: Vec<(f32, u32)> = (0..plane.height)
            .flat_map(|r| (0..plane.width).map(move |c| (r, c)))
            .map(|(r, c)| {
                self.sample(
                    plane,
                    self.voxel(plane, down, r),
                    self.voxel(plane, across, c),
                )
            })
            .collect();
        let label = |r: u32, c: u32| samples[(r * plane.width + c) as usize].1;
        let (low, high) = self.window;
        let [line, area] = style.shares();
        for r in 0..plane.height {
            for c in 0..plane.width {
                let (value, own) = samples[(r * plane.width + c) as usize];
                let grey = ((value - low) / (high - low).max(f32::MIN_POSITIVE)).clamp(0.0, 1.0);
                let mut pixel = [(255.0 * grey) as u8; 3];
                if own > 0 {
                    let outline = (r > 0 && label(r - 1, c) != own)
                        || (c > 0 && label(r, c - 1) != own)
                        || (r + 1 < plane.height && label(r + 1, c) != own)
                        || (c + 1 < plane.width && label(r, c + 1) != own);
                    pixel = blend(pixel, colour(own), if outline { line } else { area });
                }
                canvas.0.put_pixel(plane.x + c, plane.y + r, Rgb(pixel));
            }
        }
    }

    /// Where a slice lies along its axis, in mm.
    fn place(&self, plane: &Plane) -> f64 {
        let axis = plane.view.axis();
        let Part { low, high } = self.shown;
        let mut middle = [0, 1, 2].map(|a| (low[a] + high[a]) as f64 / 2.0 - 0.5);
        middle[axis] = plane.slice as f64;
        geometry::apply(&self.grid.affine, middle)[axis]
    }

    /// What a slice of the mosaic is; of the first one the sides, too.
    pub(super) fn title(&self, canvas: &mut Canvas, plane: &Plane, is_first: bool) {
        let text = match is_first {
            true => format!("z = {:.0} mm", self.place(plane)),
            false => format!("{:.0}", self.place(plane)),
        };
        canvas.rimmed(
            &text,
            plane.x + 4,
            plane.y + 3,
            &FONT_7X13,
            INK,
            Alignment::Left,
        );
        if is_first {
            let (middle, far) = (plane.y + plane.height / 2, plane.x + plane.width - 7);
            canvas.rimmed(
                "R",
                plane.x + 7,
                middle - 7,
                &FONT_9X15_BOLD,
                LETTER,
                Alignment::Center,
            );
            canvas.rimmed(
                "L",
                far,
                middle - 7,
                &FONT_9X15_BOLD,
                LETTER,
                Alignment::Center,
            );
        }
    }

    /// A plane's caption in pixel row `below`, the other planes' positions, the letters of the four sides and a scale
    /// bar.
    pub(super) fn annotate(&self, canvas: &mut Canvas, plane: &Plane, below: u32) {
        let caption = format!(
            "{}  {} = {:.1} mm",
            plane.view.name(),
            ["x", "y", "z"][plane.view.axis()],
            self.place(plane)
        );
        let centre = plane.x + plane.width / 2;
        canvas.text(&caption, centre, below, &FONT_8X13, INK, Alignment::Center);
        let (down, across) = plane.view.plane();
        let (row, col) = (
            self.pixel(plane, down, self.cut[down]),
            self.pixel(plane, across, self.cut[across]),
        );
        for r in (0..plane.height).filter(|r| r / 4 % 3 == 0) {
            canvas.tint(plane.x + col.min(plane.width - 1), plane.y + r, CROSS, 0.45);
        }
        for c in (0..plane.width).filter(|c| c / 4 % 3 == 0) {
            canvas.tint(
                plane.x + c,
                plane.y + row.min(plane.height - 1),
                CROSS,
                0.45,
            );
        }
        const ENDS: [[&str; 2]; 3] = [["R", "L"], ["A", "P"], ["S", "I"]];
        let (middle_x, middle_y) = (plane.x + plane.width / 2, plane.y + plane.height / 2);
        let (far_x, far_y) = (plane.x + plane.width - 7, plane.y + plane.height - 17);
        for (letter, x, y) in [
            (ENDS[across][0], plane.x + 7, middle_y - 7),
            (ENDS[across][1], far_x, middle_y - 7),
            (ENDS[down][0], middle_x, plane.y + 3),
            (ENDS[down][1], middle_x, far_y),
        ] {
            canvas.rimmed(letter, x, y, &FONT_9X15_BOLD, LETTER, Alignment::Center);
        }
        // Five centimetres where they fit, otherwise one.
        let length = if 50.0 * plane.scale < f64::from(plane.width) / 2.0 {
            50.0
        } else {
            10.0
        };
        let bar = (length * plane.scale).round() as u32;
        if bar + 8 < plane.width {
            let (x, y) = (plane.x + plane.width - bar - 8, plane.y + plane.height - 8);
            for at in 0..bar + 2 {
                (0..4).for_each(|row| canvas.tint(x + at - 1, y + row - 1, [0; 3], 1.0));
            }
            for at in 0..bar {
                (0..2).for_each(|row| canvas.tint(x + at, y + row, INK, 1.0));
            }
            let text = format!("{length:.0} mm");
            canvas.rimmed(&text, x + bar, y - 16, &FONT_7X13, INK, Alignment::Right);
        }
    }
}
