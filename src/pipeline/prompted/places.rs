//! Boxes and points as they are written, and where they lie in the slices of a volume.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::models::sam::Prompt;
use crate::pipeline::geometry::{Affine, Grid, Orientation, apply, inverse};
use crate::pipeline::prepare::View;

/// A box in a slice: `x0,y0,x1,y1` or `x0,y0,x1,y1,z`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corners {
    /// Two opposite corners, along the two axes that lie in the slice, in the file's order.
    pub corners: [[f64; 2]; 2],
    /// Where along the third; the middle slice if nothing is said.
    pub slice: Option<f64>,
}

/// A place in the object or, `-`, outside it: `x,y` or `x,y,z`, then `,+` or `,-`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Along the first and the second axis; of two numbers along those that lie in the slice.
    pub at: [f64; 2],
    /// Along the third.
    pub third: Option<f64>,
    /// Whether it lies in the object.
    pub inside: bool,
}

/// Numbers between commas.
fn numbers(text: &str, counts: [usize; 2]) -> std::result::Result<Vec<f64>, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if !counts.contains(&parts.len()) {
        let (n, [few, many]) = (parts.len(), counts);
        return Err(format!("{n} numbers, expected {few} or {many}"));
    }
    let number = |part: &&str| match part.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(format!("`{part}` is no number")),
    };
    parts.iter().map(number).collect()
}

impl FromStr for Corners {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let all = numbers(text, [4, 5])?;
        Ok(Self {
            corners: [[all[0], all[1]], [all[2], all[3]]],
            slice: all.get(4).copied(),
        })
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let text = text.trim();
        let (text, inside) = match (text.strip_suffix(",+"), text.strip_suffix(",-")) {
            (Some(text), _) => (text, true),
            (_, Some(text)) => (text, false),
            _ => (text, true),
        };
        let all = numbers(text, [2, 3])?;
        Ok(Self {
            at: [all[0], all[1]],
            third: all.get(2).copied(),
            inside,
        })
    }
}

impl fmt::Display for Corners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [[a, b], [c, d]] = self.corners;
        write!(f, "{a},{b},{c},{d}")?;
        self.slice.map_or(Ok(()), |slice| write!(f, ",{slice}"))
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = self.at;
        write!(f, "{a},{b}")?;
        self.third.map_or(Ok(()), |third| write!(f, ",{third}"))?;
        f.write_str(if self.inside { ",+" } else { ",-" })
    }
}

/// What shows an object: pixels of one slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The slice of the view, of the volume in canonical axes.
    pub slice: usize,
    /// In pixels of the slice as it is displayed: columns and rows.
    pub prompt: Prompt,
}

/// A volume's own grid beside the slices of a view.
#[derive(Debug)]
pub struct Frame {
    shape: [usize; 3],
    orientation: Orientation,
    view: View,
    /// Voxels to millimetres, and back where places are in millimetres.
    affine: Affine,
    voxels: Option<Affine>,
}

impl Frame {
    /// Of a grid whose places are voxels, or millimetres of its world.
    pub fn new(grid: &Grid, view: View, millimetres: bool) -> Self {
        Self {
            shape: grid.shape,
            orientation: grid.orientation(),
            view,
            affine: grid.affine,
            voxels: millimetres.then(|| inverse(&grid.affine)).flatten(),
        }
    }

    /// The number of voxels along the canonical axes.
    pub fn canonical(&self) -> [usize; 3] {
        let mut shape = [0; 3];
        for (axis, n) in self.orientation.axes.into_iter().zip(self.shape) {
            shape[axis] = n;
        }
        shape
    }

    /// A slice of the view as the file counts it.
    pub fn native_slice(&self, slice: usize) -> usize {
        let axis = self.along();
        match self.orientation.flips[axis] {
            true => self.shape[axis] - 1 - slice,
            false => slice,
        }
    }

    /// The file's axis that slices are stacked along.
    fn along(&self) -> usize {
        let axes = self.orientation.axes;
        (0..3).find(|n| axes[*n] == self.view.axis()).unwrap_or(2)
    }

    /// The two axes in the slice and the one through it: the file's for voxels, the world's for millimetres.
    fn axes(&self) -> ([usize; 2], usize) {
        let through = match self.voxels {
            Some(_) => self.view.axis(),
            None => self.along(),
        };
        match through {
            0 => ([1, 2], 0),
            1 => ([0, 2], 1),
            _ => ([0, 1], 2),
        }
    }

    /// The voxel of the file, in canonical axes, of three numbers.
    fn canonical_voxel(&self, at: [f64; 3]) -> [f64; 3] {
        let voxel = match &self.voxels {
            Some(voxels) => apply(voxels, at),
            None => at,
        };
        let mut canonical = [0.0; 3];
        for (axis, at) in voxel.into_iter().enumerate() {
            let (to, last) = (self.orientation.axes[axis], self.shape[axis] - 1);
            canonical[to] = match self.orientation.flips[axis] {
                true => last as f64 - at,
                false => at,
            };
        }
        canonical
    }

    /// Two numbers in a slice and where it is, as three; the middle slice where nothing is said.
    fn whole(&self, at: [f64; 2], slice: Option<f64>) -> [f64; 3] {
        let ([first, second], through) = self.axes();
        let mut place = [0.0; 3];
        place[first] = at[0];
        place[second] = at[1];
        place[through] = slice.unwrap_or_else(|| {
            let middle = self.shape.map(|n| (n / 2) as f64);
            match self.voxels {
                Some(_) => apply(&self.affine, middle)[through],
                None => middle[through],
            }
        });
        place
    }

    /// The slice and the pixel, column and row, of a place.
    fn pixel(&self, what: &dyn fmt::Display, at: [f64; 3]) -> Result<(f64, [f32; 2])> {
        let (voxel, shape) = (self.canonical_voxel(at), self.canonical());
        let inside = |axis: usize| (-0.5..=shape[axis] as f64 - 0.5).contains(&voxel[axis]);
        if !(0..3).all(inside) {
            let [x, y, z] = self.shape;
            let unit = match self.voxels {
                Some(_) => "in millimetres".to_owned(),
                None => format!("voxels 0,0,0 to {},{},{}", x - 1, y - 1, z - 1),
            };
            return Err(Error::Argument(format!(
                "{what} lies outside the volume of {x} x {y} x {z} voxels ({unit})"
            )));
        }
        let (down, across) = self.view.plane();
        let back = |axis: usize| (shape[axis] as f64 - 1.0 - voxel[axis]) as f32;
        Ok((voxel[self.view.axis()], [back(across), back(down)]))
    }

    /// An object's box and points.
    ///
    /// # Errors
    /// A place outside the volume, or places in several slices.
    pub fn place(&self, corners: Option<&Corners>, points: &[Point]) -> Result<Placed> {
        let mut slices: Vec<(String, f64)> = Vec::new();
        let mut prompt = Prompt::default();
        if let Some(given) = corners {
            let [[a, b], [c, d]] = given.corners;
            let what = format!("--box {given}");
            let mut low = [f32::INFINITY; 2];
            let mut high = [f32::NEG_INFINITY; 2];
            let mut slice = 0.0;
            // All four: an oblique volume turns them.
            for at in [[a, b], [c, b], [a, d], [c, d]] {
                let (through, pixel) = self.pixel(&what, self.whole(at, given.slice))?;
                slice += through / 4.0;
                for axis in 0..2 {
                    low[axis] = low[axis].min(pixel[axis]);
                    high[axis] = high[axis].max(pixel[axis]);
                }
            }
            slices.push((what, slice));
            prompt.corners = Some([low, high]);
        }
        // Points without a third number lie in the box's slice.
        let known = corners.and_then(|given| given.slice);
        for given in points {
            let what = format!("--point {given}");
            let [a, b] = given.at;
            let at = match given.third {
                Some(c) => [a, b, c],
                None => self.whole(given.at, known),
            };
            let (through, pixel) = self.pixel(&what, at)?;
            slices.push((what, through));
            prompt.points.push((pixel, given.inside));
        }
        let count = self.canonical()[self.view.axis()];
        let nearest = |through: f64| (through.round().max(0.0) as usize).min(count - 1);
        let Some((first, through)) = slices.first() else {
            return Err(Error::Argument("neither --box nor --point is given".into()));
        };
        let slice = nearest(*through);
        match slices.iter().find(|(_, other)| nearest(*other) != slice) {
            Some((other, _)) => Err(Error::Argument(format!(
                "{first} and {other} lie in two {} slices; what shows one object lies in one",
                self.view.name()
            ))),
            None => Ok(Placed { slice, prompt }),
        }
    }
}
