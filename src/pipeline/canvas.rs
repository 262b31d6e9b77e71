//! A picture that lines of text and marks are drawn on: the preview and the plots.

use std::convert::Infallible;
use std::path::Path;

use embedded_graphics::Drawable;
use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::text::{Alignment, Baseline, Text, TextStyleBuilder};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage};

use super::files;
use crate::error::Result;

pub(super) const PAPER: [u8; 3] = [14, 16, 20];
pub(super) const INK: [u8; 3] = [232, 234, 237];
pub(super) const FAINT: [u8; 3] = [150, 156, 166];

/// Writes a picture as a PNG.
///
/// # Errors
/// [`Error::Write`](crate::error::Error::Write).
pub(super) fn write_png(path: &Path, picture: &RgbImage) -> Result<()> {
    files::atomic_write(path, |out| {
        PngEncoder::new(out)
            .write_image(
                picture,
                picture.width(),
                picture.height(),
                ExtendedColorType::Rgb8,
            )
            .map_err(std::io::Error::other)
    })
}

/// A name cut to `most` letters, with dots where it was cut.
pub(super) fn shorten(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars()
        .take(most.saturating_sub(2))
        .chain("..".chars())
        .collect()
}

pub(super) fn blend(below: [u8; 3], above: [u8; 3], share: f32) -> [u8; 3] {
    std::array::from_fn(|i| {
        (f32::from(below[i]) * (1.0 - share) + f32::from(above[i]) * share).round() as u8
    })
}

/// A picture that text can be drawn on.
pub(super) struct Canvas(pub(super) RgbImage);

impl Canvas {
    /// An empty picture.
    pub(super) fn new(width: u32, height: u32) -> Self {
        Self(RgbImage::from_pixel(width, height, Rgb(PAPER)))
    }

    /// Fills a rectangle with a colour that lets `1 - share` of the ground through.
    pub(super) fn fill(&mut self, [x, y, width, height]: [u32; 4], with: [u8; 3], share: f32) {
        for dy in 0..height {
            (0..width).for_each(|dx| self.tint(x + dx, y + dy, with, share));
        }
    }

    /// Mixes a colour into one pixel; outside the picture nothing happens.
    pub(super) fn tint(&mut self, x: u32, y: u32, with: [u8; 3], share: f32) {
        if let Some(pixel) = self.0.get_pixel_mut_checked(x, y) {
            pixel.0 = blend(pixel.0, with, share);
        }
    }

    /// Draws a line of text whose upper border is at `y` and which lies at, before or about
    /// `x`. Letters that the font lacks become question marks.
    pub(super) fn text(
        &mut self,
        text: &str,
        x: u32,
        y: u32,
        font: &MonoFont<'_>,
        ink: [u8; 3],
        alignment: Alignment,
    ) {
        let [r, g, b] = ink;
        let style = MonoTextStyle::new(font, Rgb888::new(r, g, b));
        let placed = TextStyleBuilder::new()
            .alignment(alignment)
            .baseline(Baseline::Top)
            .build();
        let at = Point::new(x as i32, y as i32);
        // Drawing on a canvas cannot fail.
        let _ = Text::with_text_style(text, at, style, placed).draw(self);
    }

    /// Text with a dark rim, legible on any image.
    pub(super) fn rimmed(
        &mut self,
        text: &str,
        x: u32,
        y: u32,
        font: &MonoFont<'_>,
        ink: [u8; 3],
        alignment: Alignment,
    ) {
        for (dx, dy) in [
            (0, 0),
            (1, 0),
            (2, 0),
            (0, 1),
            (2, 1),
            (0, 2),
            (1, 2),
            (2, 2),
        ] {
            let at = ((x + dx).saturating_sub(1), (y + dy).saturating_sub(1));
            self.text(text, at.0, at.1, font, [0; 3], alignment);
        }
        self.text(text, x, y, font, ink, alignment);
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Infallible>
    where
        I: IntoIterator<Item = Pixel<Rgb888>>,
    {
        for Pixel(at, colour) in pixels {
            // A negative coordinate becomes one far outside.
            let with = [colour.r(), colour.g(), colour.b()];
            self.tint(at.x as u32, at.y as u32, with, 1.0);
        }
        Ok(())
    }
}
