//! One picture of a result: three planes with the structures drawn in, and their names.
//!
//! The planes are shown as radiologists look at them, from the patient's feet and face, at one
//! scale in millimetres; no display server is needed.

use std::collections::BTreeMap;
use std::path::Path;

use embedded_graphics::mono_font::iso_8859_1::{FONT_7X13, FONT_8X13, FONT_9X15_BOLD};
use embedded_graphics::text::Alignment;
use image::{Rgb, RgbImage};

use super::canvas::{Canvas, FAINT, INK, blend, shorten, write_png};
use super::geometry::{self, Grid};
use super::modality::{self, Modality};
use super::prepare::{self, View};
use super::volume::{Names, Volume, colour};
use crate::error::Result;

/// The width that the three planes share, in pixels.
const PLANES_WIDTH: f64 = 1440.0;
/// The most height of the planes, in pixels.
const PLANES_HEIGHT: f64 = 560.0;
/// Pixels around and between everything.
const MARGIN: u32 = 16;
/// Pixels of the two lines above the planes, and of the line of each plane's caption.
const HEAD: u32 = 40;
const CAPTION: u32 = 22;
/// The height of a legend line and the least width of a legend column, in pixels.
const LINE: u32 = 19;
const COLUMN: u32 = 350;
/// The most lines of the legend.
const LINES: usize = 14;
/// How far the planes reach beyond the object, in mm.
const AROUND: f64 = 4.0;
/// How much of a structure's colour covers the image inside its outline.
const FILL: f32 = 0.30;
/// The soft-tissue window that CT is shown in, in Hounsfield units.
const SOFT_TISSUE: (f32, f32) = (-160.0, 240.0);

const CROSS: [u8; 3] = [120, 200, 255];
const LETTER: [u8; 3] = [255, 214, 90];

/// Draws the preview of `labels` on `volume` and writes it as a PNG.
///
/// Each plane goes through the slice with the largest labelled area; dashed lines mark where
/// the other two lie. Grey levels span the 0.5th to the 99.5th percentile of what is shown (CT:
/// the soft-tissue window). The legend lists names and volumes, largest first among what the
/// planes show, then the rest, as many as fit.
///
/// # Errors
///
/// [`Error::Write`](crate::error::Error::Write).
///
/// # Panics
///
/// If `labels` does not hold one label per voxel.
pub fn write_preview<T>(path: &Path, volume: &Volume, labels: &[T], names: &Names) -> Result<()>
where
    T: Copy + Into<u32>,
{
    let picture = render(volume, labels, names);
    write_png(path, &picture)
}

/// The picture that [`write_preview`] writes.
///
/// # Panics
///
/// If `labels` does not hold one label per voxel.
pub fn render<T>(volume: &Volume, labels: &[T], names: &Names) -> RgbImage
where
    T: Copy + Into<u32>,
{
    let native = volume.grid();
    assert_eq!(labels.len(), native.len(), "one label per voxel");
    let labels: Vec<u32> = labels.iter().map(|&label| label.into()).collect();
    let scene = Scene::new(volume, &labels);
    let planes = scene.planes();
    let legend = Legend::new(&scene, &planes, names);

    let bottom = planes
        .iter()
        .map(|plane| plane.y + plane.height)
        .max()
        .unwrap_or(0);
    let right = planes.last().map_or(0, |plane| plane.x + plane.width);
    let width = (right + MARGIN).max(COLUMN + 2 * MARGIN);
    let columns = (width - 2 * MARGIN) / COLUMN;
    let lines = legend.entries.len().div_ceil(columns as usize).min(LINES) as u32;
    let below = bottom + CAPTION + MARGIN;
    let height = below + lines * LINE + 2 * LINE;

    let mut canvas = Canvas::new(width, height);
    let name = volume
        .path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let [nx, ny, nz] = native.shape;
    let [sx, sy, sz] = native.voxel_sizes();
    canvas.text(&name, MARGIN, MARGIN, &FONT_9X15_BOLD, INK, Alignment::Left);
    let about = format!(
        "{nx} \u{d7} {ny} \u{d7} {nz} voxels of {sx:.2} \u{d7} {sy:.2} \u{d7} {sz:.2} mm, {}; \
         grey levels {} to {}",
        native.orientation().letters(),
        level(scene.window.0),
        level(scene.window.1)
    );
    canvas.text(
        &about,
        MARGIN,
        MARGIN + 19,
        &FONT_7X13,
        FAINT,
        Alignment::Left,
    );
    for plane in &planes {
        scene.draw(&mut canvas, plane, &planes);
    }
    legend.draw(&mut canvas, below, columns, lines);
    let foot = "Radiological display: the patient's right is on the left. \
                Volumes are of what the map shows. Not for clinical use.";
    canvas.text(
        foot,
        MARGIN,
        height - LINE,
        &FONT_7X13,
        FAINT,
        Alignment::Left,
    );
    canvas.0
}

/// What is shown: canonical arrays and the box of interest.
struct Scene {
    grid: Grid,
    sizes: [f64; 3],
    data: Vec<f32>,
    labels: Vec<u32>,
    /// The first voxel shown and the one after the last.
    low: [usize; 3],
    high: [usize; 3],
    window: (f32, f32),
    /// The slice of each RAS axis that is shown.
    cut: [usize; 3],
    /// Voxels of each label.
    counts: BTreeMap<u32, u64>,
    /// Pixels per millimetre.
    scale: f64,
}

/// Where one view's plane is on the canvas, in pixels.
struct Plane {
    view: View,
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

impl Scene {
    fn new(volume: &Volume, labels: &[u32]) -> Self {
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
        for axis in 0..3 {
            let around = (AROUND / sizes[axis]).ceil() as usize;
            low[axis] = low[axis].saturating_sub(around);
            high[axis] = high[axis].saturating_add(around).min(grid.shape[axis]);
            let middle = (low[axis] + high[axis]) / 2;
            // Among equals the slice nearest to the middle; the middle where nothing is labelled.
            let best = (0..grid.shape[axis])
                .max_by_key(|&at| (areas[axis][at], std::cmp::Reverse(at.abs_diff(middle))));
            cut[axis] = best.unwrap_or(0);
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
        let extent = |axis: usize| (high[axis] - low[axis]) as f64 * sizes[axis];
        let across = 2.0 * extent(0) + extent(1);
        let down = extent(1).max(extent(2));
        let scale = (PLANES_WIDTH / across).min(PLANES_HEIGHT / down);
        Self {
            grid,
            sizes,
            data,
            labels,
            low,
            high,
            window,
            cut,
            counts,
            scale,
        }
    }

    /// The three planes side by side, their middles on one line.
    fn planes(&self) -> Vec<Plane> {
        let pixels = |axis: usize| {
            let extent = (self.high[axis] - self.low[axis]) as f64 * self.sizes[axis];
            ((extent * self.scale).round() as u32).max(1)
        };
        let tallest = View::ALL
            .map(|view| pixels(view.plane().0))
            .into_iter()
            .max()
            .unwrap_or(1);
        let mut x = MARGIN;
        View::ALL
            .map(|view| {
                let (down, across) = view.plane();
                let (width, height) = (pixels(across), pixels(down));
                let plane = Plane {
                    view,
                    x,
                    y: HEAD + MARGIN + (tallest - height) / 2,
                    width,
                    height,
                };
                x += width + MARGIN;
                plane
            })
            .into()
    }

    /// The voxel coordinate along `axis` under pixel `at` of a plane: both directions of a
    /// plane run against the axes.
    fn voxel(&self, axis: usize, at: u32) -> f64 {
        let from_high = (f64::from(at) + 0.5) / (self.scale * self.sizes[axis]);
        (self.high[axis] as f64 - 0.5 - from_high).clamp(0.0, (self.grid.shape[axis] - 1) as f64)
    }

    /// The pixel of a plane that shows the middle of voxel `at` of `axis`.
    fn pixel(&self, axis: usize, at: usize) -> u32 {
        let from_high = (self.high[axis] - at) as f64 - 0.5;
        (from_high * self.scale * self.sizes[axis]) as u32
    }

    /// The intensity, interpolated, and the label with the largest share of a point of a plane.
    fn sample(&self, view: View, row: f64, col: f64) -> (f32, u32) {
        let (down, across) = view.plane();
        let stride = [
            1,
            self.grid.shape[0],
            self.grid.shape[0] * self.grid.shape[1],
        ];
        let base = self.cut[view.axis()] * stride[view.axis()];
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

    fn draw(&self, canvas: &mut Canvas, plane: &Plane, planes: &[Plane]) {
        let (down, across) = plane.view.plane();
        let samples: Vec<(f32, u32)> = (0..plane.height)
            .flat_map(|r| (0..plane.width).map(move |c| (r, c)))
            .map(|(r, c)| self.sample(plane.view, self.voxel(down, r), self.voxel(across, c)))
            .collect();
        let label = |r: u32, c: u32| samples[(r * plane.width + c) as usize].1;
        let (low, high) = self.window;
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
                    pixel = blend(pixel, colour(own), if outline { 0.95 } else { FILL });
                }
                canvas.0.put_pixel(plane.x + c, plane.y + r, Rgb(pixel));
            }
        }
        self.annotate(canvas, plane);
        // The caption of every plane on one line, below the tallest.
        let bottom = planes
            .iter()
            .map(|plane| plane.y + plane.height)
            .max()
            .unwrap_or(0);
        let axis = plane.view.axis();
        let mut middle = [0, 1, 2].map(|a| (self.low[a] + self.high[a]) as f64 / 2.0 - 0.5);
        middle[axis] = self.cut[axis] as f64;
        let mm = geometry::apply(&self.grid.affine, middle)[axis];
        let caption = format!(
            "{}  {} = {mm:.1} mm",
            plane.view.name(),
            ["x", "y", "z"][axis]
        );
        let centre = plane.x + plane.width / 2;
        canvas.text(
            &caption,
            centre,
            bottom + 6,
            &FONT_8X13,
            INK,
            Alignment::Center,
        );
    }

    /// The other planes' positions, the letters of the four sides and a scale bar.
    fn annotate(&self, canvas: &mut Canvas, plane: &Plane) {
        let (down, across) = plane.view.plane();
        let (row, col) = (
            self.pixel(down, self.cut[down]),
            self.pixel(across, self.cut[across]),
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
        let length = if 50.0 * self.scale < f64::from(plane.width) / 2.0 {
            50.0
        } else {
            10.0
        };
        let bar = (length * self.scale).round() as u32;
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

/// The structures by name, colour and volume.
struct Legend {
    /// Label, name and volume in ml.
    entries: Vec<(u32, String, f64)>,
}

impl Legend {
    fn new(scene: &Scene, planes: &[Plane], names: &Names) -> Self {
        let seen: std::collections::BTreeSet<u32> = planes
            .iter()
            .flat_map(|plane| {
                plane
                    .view
                    .indices(scene.grid.shape, scene.cut[plane.view.axis()])
            })
            .map(|index| scene.labels[index])
            .collect();
        let voxel_ml = scene.grid.voxel_volume() / 1000.0;
        let mut entries: Vec<_> = scene
            .counts
            .iter()
            .map(|(&label, &count)| {
                let name = names
                    .get(&label)
                    .cloned()
                    .unwrap_or_else(|| format!("label {label}"));
                (label, name, count as f64 * voxel_ml)
            })
            .collect();
        entries.sort_by(|a, b| {
            (!seen.contains(&a.0))
                .cmp(&!seen.contains(&b.0))
                .then(b.2.total_cmp(&a.2))
        });
        Self { entries }
    }

    /// Fills `columns` columns of `lines` lines from pixel row `top` on, column by column.
    fn draw(&self, canvas: &mut Canvas, top: u32, columns: u32, lines: u32) {
        if self.entries.is_empty() {
            canvas.text(
                "nothing is labelled",
                MARGIN,
                top,
                &FONT_8X13,
                FAINT,
                Alignment::Left,
            );
            return;
        }
        let room = (columns * lines) as usize;
        let all_fit = self.entries.len() <= room;
        let shown = if all_fit {
            self.entries.len()
        } else {
            room - 1
        };
        let width = (canvas.0.width() - 2 * MARGIN) / columns;
        let place = |index: usize| {
            let (column, line) = (index as u32 / lines, index as u32 % lines);
            (MARGIN + column * width, top + line * LINE)
        };
        for (index, (label, name, ml)) in self.entries.iter().take(shown).enumerate() {
            let (x, y) = place(index);
            for dy in 0..12 {
                for dx in 0..12 {
                    canvas.tint(x + dx, y + dy, colour(*label), 1.0);
                }
            }
            let volume = if *ml < 10.0 {
                format!("{ml:.2} ml")
            } else {
                format!("{ml:.1} ml")
            };
            // 20 pixels of swatch, 24 of gap on the right, 8 a letter.
            let letters = (width.saturating_sub(20 + 24) / 8) as usize;
            let fits = letters.saturating_sub(volume.len() + 2);
            canvas.text(
                &shorten(name, fits),
                x + 20,
                y - 1,
                &FONT_8X13,
                INK,
                Alignment::Left,
            );
            canvas.text(
                &volume,
                x + width - 24,
                y - 1,
                &FONT_8X13,
                FAINT,
                Alignment::Right,
            );
        }
        if !all_fit {
            let (x, y) = place(shown);
            let more = format!("and {} more", self.entries.len() - shown);
            canvas.text(&more, x + 20, y - 1, &FONT_8X13, FAINT, Alignment::Left);
        }
    }
}

/// A grey level with as many decimals as it needs.
fn level(value: f32) -> String {
    if value.abs() >= 10.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}
