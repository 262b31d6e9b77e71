//! The structures of a preview by name, colour and volume.

use std::collections::BTreeSet;

use embedded_graphics::mono_font::iso_8859_1::FONT_8X13;
use embedded_graphics::text::Alignment;

use super::scene::{Plane, Scene};
use super::{LINE, LINES, MARGIN};
use crate::pipeline::canvas::{Canvas, FAINT, INK, shorten};
use crate::pipeline::volume::{Names, colour};

/// The structures by name, colour and volume.
pub(super) struct Legend {
    /// Label, name and volume in ml.
    entries: Vec<(u32, String, f64)>,
}

impl Legend {
    pub(super) fn new(scene: &Scene, planes: &[Plane], names: &Names) -> Self {
        let seen: BTreeSet<u32> = planes
            .iter()
            .flat_map(|plane| plane.view.indices(scene.grid.shape, plane.slice))
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

    /// The lines that it takes in so many columns.
    pub(super) fn lines(&self, columns: u32) -> u32 {
        self.entries.len().div_ceil(columns as usize).min(LINES) as u32
    }

    /// Fills `columns` columns of `lines` lines from pixel row `top` on, column by column.
    pub(super) fn draw(&self, canvas: &mut Canvas, top: u32, columns: u32, lines: u32) {
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
