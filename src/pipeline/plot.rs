//! Dice and HD95 of each label over cases, as a picture: a box from quarter to quarter with the
//! median, whiskers to the ends, a point a case; a bar where there is but one case.

use std::path::Path;

use embedded_graphics::mono_font::iso_8859_1::{FONT_7X13, FONT_8X13, FONT_9X15_BOLD};
use embedded_graphics::text::Alignment;
use image::RgbImage;

use super::canvas::{Canvas, FAINT, INK, shorten, write_png};
use super::cohort::{Cohort, SUMMED, Spread};
use super::volume::colour;
use crate::error::Result;

const MARGIN: u32 = 16;
/// Pixels of the title and of the panels' heads.
const HEAD: u32 = 66;
/// Pixels of a label's row, of its name, of a panel, and of the words to the right of a panel.
const ROW: u32 = 22;
const NAME: u32 = 250;
const PANEL: u32 = 420;
const NOTE: u32 = 110;
/// The most labels of a picture.
const MOST: usize = 150;
const GRID: [u8; 3] = [52, 57, 66];

/// Draws the plot and writes it as a PNG.
///
/// # Errors
///
/// [`Error::Write`](crate::error::Error::Write).
pub fn write_plot(path: &Path, cohort: &Cohort) -> Result<()> {
    write_png(path, &render(cohort))
}

/// The picture that [`write_plot`] writes.
pub fn render(cohort: &Cohort) -> RgbImage {
    // What no case has cannot be drawn.
    let labels: Vec<_> = cohort.labels.iter().filter(|l| l.cases > 0).collect();
    let drawn = &labels[..labels.len().min(MOST)];
    let left = MARGIN + NAME;
    let width = left + 2 * (PANEL + NOTE) + MARGIN;
    let height = HEAD + ROW * (drawn.len() as u32 + 2) + 2 * MARGIN;
    let mut canvas = Canvas::new(width, height);
    let title = match cohort.cases.as_slice() {
        [case] => shorten(&case.case, 120),
        cases => format!("{} cases", cases.len()),
    };
    canvas.text(
        &title,
        MARGIN,
        MARGIN,
        &FONT_9X15_BOLD,
        INK,
        Alignment::Left,
    );
    for (row, label) in drawn.iter().enumerate() {
        let y = HEAD + ROW * (row as u32 + 1);
        let name = shorten(&label.name, NAME as usize / 8 - 2);
        canvas.text(&name, left - 12, y + 4, &FONT_8X13, INK, Alignment::Right);
    }
    let panels = [
        ("dice", "Dice", Some(1.0)),
        ("hd95_mm", "95 % Hausdorff distance, mm", None),
    ];
    for (n, (name, title, most)) in panels.into_iter().enumerate() {
        let x = left + n as u32 * (PANEL + NOTE);
        let greatest = drawn.iter().flat_map(|label| cohort.rows(label.label));
        let measure = SUMMED.iter().find(|(known, _)| *known == name);
        let Some((_, measure)) = measure else {
            continue;
        };
        let greatest = greatest.filter_map(measure).filter(|v| v.is_finite());
        let most = most.unwrap_or_else(|| round_up(greatest.fold(0.0, f64::max)));
        let scale = Scale { x, most };
        scale.draw(&mut canvas, title, drawn.len() as u32);
        for (row, label) in drawn.iter().enumerate() {
            let y = HEAD + ROW * (row as u32 + 1);
            let values: Vec<f64> = cohort.rows(label.label).filter_map(measure).collect();
            let note = scale.spread(&mut canvas, y, &values, colour(label.label));
            canvas.text(
                &note,
                x + PANEL + 8,
                y + 4,
                &FONT_7X13,
                FAINT,
                Alignment::Left,
            );
        }
    }
    if drawn.len() < labels.len() {
        let more = format!("and {} more", labels.len() - drawn.len());
        let y = height - ROW - MARGIN / 2;
        canvas.text(&more, left - 12, y, &FONT_8X13, FAINT, Alignment::Right);
    }
    canvas.0
}

/// 1, 2 or 5 times a power of ten, not below `value`; 1 for 0.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|s| *s >= value).unwrap_or(value)
}

/// A panel whose numbers run from 0 at `x` to `most`, [`PANEL`] pixels on.
struct Scale {
    x: u32,
    most: f64,
}

impl Scale {
    fn at(&self, value: f64) -> u32 {
        let share = (value / self.most).clamp(0.0, 1.0);
        self.x + (share * f64::from(PANEL - 1)).round() as u32
    }

    fn draw(&self, canvas: &mut Canvas, title: &str, rows: u32) {
        let middle = self.x + PANEL / 2;
        canvas.text(title, middle, HEAD - 24, &FONT_8X13, INK, Alignment::Center);
        for tick in 0..=5 {
            let value = self.most * f64::from(tick) / 5.0;
            let x = self.at(value);
            canvas.fill([x, HEAD + ROW / 2, 1, ROW * (rows + 1)], GRID, 1.0);
            let decimals = usize::from(self.most < 5.0) + usize::from(self.most < 0.5);
            let text = format!("{value:.decimals$}");
            canvas.text(&text, x, HEAD - 6, &FONT_7X13, FAINT, Alignment::Center);
        }
    }

    /// Draws one label's values and says what they come to.
    fn spread(&self, canvas: &mut Canvas, y: u32, values: &[f64], ink: [u8; 3]) -> String {
        let (finite, infinite): (Vec<f64>, Vec<f64>) = values.iter().partition(|v| v.is_finite());
        let lost = match infinite.len() {
            0 => String::new(),
            count => format!(", {count} inf"),
        };
        let spread = Spread::of(finite.iter().copied());
        let (Some(min), Some(q25), Some(median), Some(q75), Some(max)) = (
            spread.min,
            spread.q25,
            spread.median,
            spread.q75,
            spread.max,
        ) else {
            return lost.trim_start_matches(", ").to_owned();
        };
        let (middle, decimals) = (y + ROW / 2, if self.most > 1.0 { 1 } else { 3 });
        if let [value] = finite.as_slice() {
            let width = self.at(*value) - self.x + 1;
            canvas.fill([self.x, middle - 6, width, 12], ink, 0.85);
        } else {
            let span = |from: f64, to: f64| self.at(to) - self.at(from) + 1;
            canvas.fill([self.at(min), middle, span(min, max), 1], ink, 0.9);
            for end in [min, max] {
                canvas.fill([self.at(end), middle - 4, 1, 9], ink, 0.9);
            }
            canvas.fill([self.at(q25), middle - 7, span(q25, q75), 15], ink, 0.45);
            for value in &finite {
                canvas.fill(
                    [self.at(*value).saturating_sub(1), middle - 1, 3, 3],
                    ink,
                    1.0,
                );
            }
            canvas.fill([self.at(median), middle - 7, 2, 15], INK, 1.0);
        }
        format!("{median:.decimals$}{lost}")
    }
}

#[cfg(test)]
mod tests {
    use super::round_up;

    #[test]
    fn scales_end_at_round_numbers() {
        for (value, want) in [
            (0.0, 1.0),
            (0.3, 0.5),
            (1.0, 1.0),
            (7.2, 10.0),
            (12.0, 20.0),
        ] {
            assert!((round_up(value) - want).abs() < 1e-12, "{value}");
        }
    }
}
