//! One picture of a result: three planes with the structures drawn in, a mosaic of axial slices through them, and
//! their names and volumes.
//!
//! Everything is shown as radiologists look at it, from the patient's feet and face, at one scale in millimetres; no
//! display server is needed.

mod legend;
mod scene;

use std::path::Path;

use embedded_graphics::mono_font::iso_8859_1::{FONT_7X13, FONT_9X15_BOLD};
use embedded_graphics::text::Alignment;
use image::RgbImage;

use self::legend::Legend;
use self::scene::Scene;
use super::canvas::{Canvas, FAINT, INK, write_png};
use super::volume::{Names, Volume};
use crate::error::Result;

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

/// How structures are drawn over the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Outlines, and a tint inside that lets the image through.
    #[default]
    Both,
    /// Outlines alone.
    Contour,
    /// Areas alone.
    Fill,
}

impl Style {
    /// How much of a structure's colour covers the image on its outline and inside.
    fn shares(self) -> [f32; 2] {
        match self {
            Self::Both => [0.95, 0.30],
            Self::Contour => [0.95, 0.0],
            Self::Fill => [0.55, 0.55],
        }
    }
}

/// Draws the preview of `labels` on `volume` and writes it as a PNG.
///
/// Each plane goes through the slice with the largest labelled area; dashed lines mark where
/// the other two lie. The mosaic has up to sixteen axial slices from the lowest labelled one to the highest, about
/// what is labelled. Grey levels span the 0.5th to the 99.5th percentile of what the planes show (CT:
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
pub fn write_preview<T>(
    path: &Path,
    volume: &Volume,
    labels: &[T],
    names: &Names,
    style: Style,
) -> Result<()>
where
    T: Copy + Into<u32>,
{
    let picture = render(volume, labels, names, style);
    write_png(path, &picture)
}

/// The picture that [`write_preview`] writes.
///
/// # Panics
///
/// If `labels` does not hold one label per voxel.
pub fn render<T>(volume: &Volume, labels: &[T], names: &Names, style: Style) -> RgbImage
where
    T: Copy + Into<u32>,
{
    let native = volume.grid();
    assert_eq!(labels.len(), native.len(), "one label per voxel");
    let labels: Vec<u32> = labels.iter().map(|&label| label.into()).collect();
    let scene = Scene::new(volume, &labels);
    let planes = scene.planes();
    let legend = Legend::new(&scene, &planes, names);

    let right = planes.last().map_or(0, |plane| plane.x + plane.width);
    let width = (right + MARGIN).max(COLUMN + 2 * MARGIN);
    let captions = planes
        .iter()
        .map(|plane| plane.y + plane.height)
        .max()
        .unwrap_or(0);
    let tiles = scene.mosaic(captions + CAPTION + MARGIN, width - 2 * MARGIN);
    let below = tiles
        .last()
        .map_or(captions + CAPTION, |tile| tile.y + tile.height)
        + MARGIN;
    let columns = (width - 2 * MARGIN) / COLUMN;
    let lines = legend.lines(columns);
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
        scene.draw(&mut canvas, plane, style);
        scene.annotate(&mut canvas, plane, captions + 6);
    }
    for (n, tile) in tiles.iter().enumerate() {
        scene.draw(&mut canvas, tile, style);
        scene.title(&mut canvas, tile, n == 0);
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

/// A grey level with as many decimals as it needs.
fn level(value: f32) -> String {
    if value.abs() >= 10.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}
