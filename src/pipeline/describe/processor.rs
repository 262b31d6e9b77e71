//! What is done to a picture before a vision tower sees it, as the model's folder says it and as transformers' image
//! processors do it.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::resample::{Filter, resize};
use crate::error::{Error, Result};
use crate::pipeline::prepare::Slice;
use crate::pipeline::tokenizer::read;

/// No side of a picture becomes longer, whatever the folder says.
const LONGEST: usize = 4096;
/// The most tiles of a picture.
const MOST_TILES: usize = 144;

/// Pictures of one size, ready for a tower.
#[derive(Clone, Debug)]
pub struct Processed {
    /// Red, green, blue and nothing of each pixel, row by row, picture by picture.
    pub pixels: Vec<f32>,
    /// Pictures.
    pub count: usize,
    /// Rows and columns of each.
    pub size: [usize; 2],
    /// Rows and columns of tiles, before a last picture that shows the whole; none where that is all there is.
    pub tiles: [usize; 2],
}

/// Idefics3's and SmolVLM's: stretches a picture, cuts it into tiles, and adds the whole as one more.
#[derive(Debug)]
pub struct Tiling {
    filter: Filter,
    levels: Levels,
    /// What the longest side is brought to first.
    longest: Option<usize>,
    /// The side of a tile.
    pub tile: usize,
    splits: bool,
}

/// CLIP's and LLaVA's: squares a picture.
#[derive(Debug)]
pub struct Squaring {
    path: PathBuf,
    filter: Filter,
    levels: Levels,
    /// The grey that fills up the shorter side, of each colour; not filled if none.
    fill: Option<[u8; 3]>,
    size: Size,
    crop: Option<[usize; 2]>,
}

/// What a picture is brought to.
#[derive(Clone, Copy, Debug)]
enum Size {
    Shortest(usize),
    Exactly([usize; 2]),
}

/// What becomes of a grey level, of each colour: rescaled and normalised.
#[derive(Debug)]
struct Levels([Vec<f32>; 3]);

/// `preprocessor_config.json`, as far as it matters here.
#[derive(Deserialize)]
struct Json {
    do_resize: bool,
    size: Value,
    resample: u64,
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: [f32; 3],
    image_std: [f32; 3],
    #[serde(default)]
    do_image_splitting: bool,
    #[serde(default)]
    max_image_size: Value,
    #[serde(default)]
    do_center_crop: bool,
    #[serde(default)]
    crop_size: Value,
    #[serde(default)]
    do_pad: bool,
}

impl Json {
    /// Of a folder: `preprocessor_config.json`, or since transformers 5 a part of `processor_config.json`. What they do not
    /// say is `usual`.
    fn of(folder: &Path, usual: &Value) -> Result<(PathBuf, Self)> {
        let own = folder.join("preprocessor_config.json");
        let shared = folder.join("processor_config.json");
        let parse = |path: &Path| -> Result<Value> {
            let text = read(path)?;
            serde_json::from_slice(&text).map_err(|e| Error::config(path, e.to_string()))
        };
        let (path, mut given) = match own.is_file() || !shared.is_file() {
            true => (own.clone(), parse(&own)?),
            false => (shared.clone(), parse(&shared)?["image_processor"].take()),
        };
        let mut all: Map<String, Value> = usual.as_object().cloned().unwrap_or_default();
        let Some(given) = given.as_object_mut() else {
            return Err(Error::config(&path, "describes no image processor"));
        };
        given.retain(|_, value| !value.is_null());
        all.append(given);
        let json = serde_json::from_value(Value::Object(all))
            .map_err(|e| Error::config(&path, e.to_string()))?;
        Ok((path, json))
    }

    fn filter(&self) -> std::result::Result<Filter, String> {
        let number = self.resample;
        Filter::numbered(number).ok_or_else(|| {
            format!("`resample` is {number}, expected 1 (Lanczos), 2 (bilinear) or 3 (bicubic)")
        })
    }

    fn levels(&self) -> std::result::Result<Levels, String> {
        if let Some(std) = self
            .image_std
            .iter()
            .find(|std| std.is_nan() || **std <= 0.0)
        {
            return Err(format!("`image_std` holds {std}, expected above 0"));
        }
        let table = |colour: usize| {
            let (mean, std) = (self.image_mean[colour], self.image_std[colour]);
            // Products in double precision, then f32, as transformers computes them.
            let rescaled = |level: u8| match self.do_rescale {
                true => (f64::from(level) * self.rescale_factor) as f32,
                false => f32::from(level),
            };
            let normalised = |v: f32| {
                if self.do_normalize {
                    (v - mean) / std
                } else {
                    v
                }
            };
            (0..=u8::MAX)
                .map(|level| normalised(rescaled(level)))
                .collect()
        };
        Ok(Levels([0, 1, 2].map(table)))
    }
}

/// A side in pixels, from an object or a plain number.
fn side(value: &Value, key: &str, name: &str) -> std::result::Result<usize, String> {
    let number = match value {
        Value::Object(object) => object.get(key).unwrap_or(&Value::Null),
        plain => plain,
    };
    let side = number.as_u64().and_then(|side| usize::try_from(side).ok());
    side.filter(|side| (1..=LONGEST).contains(side))
        .ok_or_else(|| format!("`{name}` is {value}, expected {key:?} of 1 to {LONGEST} pixels"))
}

/// Rows and columns.
fn rectangle(value: &Value, name: &str) -> std::result::Result<[usize; 2], String> {
    Ok([side(value, "height", name)?, side(value, "width", name)?])
}

impl Levels {
    /// Appends a picture of one plane, or one for each colour.
    fn write(&self, planes: &[Slice<u8>], pixels: &mut Vec<f32>) {
        let plane = |colour: usize| &planes[colour.min(planes.len() - 1)];
        for at in 0..planes[0].data.len() {
            pixels.extend([0, 1, 2].map(|c| self.0[c][usize::from(plane(c).data[at])]));
            pixels.push(0.0);
        }
    }
}

/// A part of a picture.
fn cut(picture: &Slice<u8>, [top, left]: [usize; 2], [rows, cols]: [usize; 2]) -> Slice<u8> {
    let lines = picture.data.chunks_exact(picture.cols).skip(top).take(rows);
    Slice {
        rows,
        cols,
        data: lines
            .flat_map(|line| &line[left..left + cols])
            .copied()
            .collect(),
    }
}

impl Tiling {
    /// Reads the folder of a model whose pictures have sides of a multiple of `grain` pixels.
    ///
    /// # Errors
    /// A file that is missing, damaged or does not fit.
    pub fn open(folder: &Path, grain: usize) -> Result<Self> {
        let usual = json!({
            "do_resize": true, "size": {"longest_edge": 4 * 364}, "resample": 1, "do_image_splitting": true,
            "max_image_size": {"longest_edge": 364}, "do_rescale": true, "rescale_factor": 1.0 / 255.0,
            "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        });
        let (path, json) = Json::of(folder, &usual)?;
        Self::of(&json, grain).map_err(|problem| Error::config(&path, problem))
    }

    fn of(json: &Json, grain: usize) -> std::result::Result<Self, String> {
        let tile = side(&json.max_image_size, "longest_edge", "max_image_size")?;
        if !tile.is_multiple_of(grain) {
            return Err(format!(
                "`max_image_size` is {tile}, expected a multiple of {grain}: the pixels of an image token"
            ));
        }
        let longest = match json.do_resize {
            true => Some(side(&json.size, "longest_edge", "size")?),
            false => None,
        };
        let across = longest.unwrap_or(LONGEST).div_ceil(tile);
        if json.do_image_splitting && across * across > MOST_TILES {
            return Err(format!(
                "`size` and `max_image_size` make {across} × {across} tiles, expected at most {MOST_TILES}"
            ));
        }
        Ok(Self {
            filter: json.filter()?,
            levels: json.levels()?,
            longest,
            tile,
            splits: json.do_image_splitting,
        })
    }

    /// A picture as the tower takes it.
    pub fn process(&self, picture: &Slice<u8>) -> Processed {
        let (tile, mut whole) = (self.tile, picture.clone());
        if let Some(longest) = self.longest {
            let size = stretched([whole.rows, whole.cols], longest);
            whole = resize(&whole, size, self.filter);
        }
        let mut pixels = Vec::new();
        let mut tiles = [0, 0];
        if self.splits {
            let size = whole_tiles([whole.rows, whole.cols], tile);
            whole = resize(&whole, size, self.filter);
            let [down, across] = size.map(|side| side / tile);
            if down * across > 1 {
                tiles = [down, across];
                for at in 0..down * across {
                    let corner = [at / across * tile, at % across * tile];
                    let part = cut(&whole, corner, [tile; 2]);
                    self.levels.write(&[part], &mut pixels);
                }
            }
        }
        let global = resize(&whole, [tile; 2], self.filter);
        self.levels.write(&[global], &mut pixels);
        Processed {
            pixels,
            count: tiles[0] * tiles[1] + 1,
            size: [tile; 2],
            tiles,
        }
    }
}

/// The size of a picture whose longest side is to be `longest`, the other one even and in proportion.
fn stretched([rows, cols]: [usize; 2], longest: usize) -> [usize; 2] {
    let aspect = cols as f64 / rows as f64;
    let even = |side: f64| (side as usize).next_multiple_of(2).max(1);
    let size = match cols >= rows {
        true => [even(longest as f64 / aspect), longest],
        false => [longest, even(longest as f64 * aspect)],
    };
    size.map(|side| side.min(LONGEST))
}

/// The size of a picture in whole tiles, the longer side first.
fn whole_tiles([rows, cols]: [usize; 2], tile: usize) -> [usize; 2] {
    let aspect = cols as f64 / rows as f64;
    if cols >= rows {
        let cols = cols.next_multiple_of(tile);
        [
            ((cols as f64 / aspect) as usize).next_multiple_of(tile),
            cols,
        ]
    } else {
        let rows = rows.next_multiple_of(tile);
        [
            rows,
            ((rows as f64 * aspect) as usize).next_multiple_of(tile),
        ]
    }
}

/// Red, green and blue of the pictures that CLIP was trained on, 0 … 1.
const CLIP_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Their deviation.
const CLIP_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

impl Squaring {
    /// Reads the folder of a model.
    ///
    /// # Errors
    /// A file that is missing, damaged or does not fit.
    pub fn open(folder: &Path) -> Result<Self> {
        let usual = json!({
            "do_resize": true, "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": true,
            "crop_size": {"height": 224, "width": 224}, "do_rescale": true, "rescale_factor": 1.0 / 255.0,
            "do_normalize": true, "image_mean": CLIP_MEAN, "image_std": CLIP_STD, "do_pad": false,
        });
        let (path, json) = Json::of(folder, &usual)?;
        Self::of(&path, &json).map_err(|problem| Error::config(&path, problem))
    }

    /// Reads the folder of a CLIPSeg, whose pictures are stretched to a square.
    ///
    /// # Errors
    /// A file that is missing, damaged or does not fit.
    pub fn stretching(folder: &Path) -> Result<Self> {
        let usual = json!({
            "do_resize": true, "size": {"height": 352, "width": 352}, "resample": 2, "do_rescale": true,
            "rescale_factor": 1.0 / 255.0, "do_normalize": true, "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
        });
        Self::stretched(Json::of(folder, &usual)?)
    }

    /// The same of a BiomedCLIPSeg for pictures of `side` pixels, which has no such file of its own: without one it takes
    /// CLIP's mean and deviation.
    ///
    /// # Errors
    /// A file that is damaged or does not fit.
    pub fn stretching_to(folder: &Path, side: usize) -> Result<Self> {
        let usual = json!({
            "do_resize": true, "size": {"height": side, "width": side}, "resample": 2, "do_rescale": true,
            "rescale_factor": 1.0 / 255.0, "do_normalize": true, "image_mean": CLIP_MEAN, "image_std": CLIP_STD,
        });
        let files = ["preprocessor_config.json", "processor_config.json"];
        if files.iter().any(|file| folder.join(file).is_file()) {
            return Self::stretched(Json::of(folder, &usual)?);
        }
        let json = serde_json::from_value(usual);
        let json = json.map_err(|e| Error::config(folder, e.to_string()))?;
        Self::stretched((folder.into(), json))
    }

    fn stretched((path, json): (PathBuf, Json)) -> Result<Self> {
        let exactly = || {
            // Of its processor a plain number is both sides, not the shorter one.
            let size = Size::Exactly(rectangle(&json.size, "size")?);
            Ok(Self {
                size,
                ..Self::of(&path, &json)?
            })
        };
        exactly().map_err(|problem: String| Error::config(&path, problem))
    }

    /// The side of the square that it makes of every picture.
    ///
    /// # Errors
    /// A size of its own for each picture, or none that is square.
    pub fn square(&self) -> Result<usize> {
        match (self.size, self.crop) {
            (Size::Exactly([rows, cols]), None) if rows == cols => Ok(rows),
            (Size::Exactly([rows, cols]), None) => {
                let problem = format!("`size` is {rows} × {cols} pixels, expected a square");
                Err(Error::config(&self.path, problem))
            }
            _ => {
                let problem = "cuts pictures, expected that it stretches them to a square";
                Err(Error::config(&self.path, problem))
            }
        }
    }

    fn of(path: &Path, json: &Json) -> std::result::Result<Self, String> {
        if !json.do_resize {
            return Err("`do_resize` is false: slices have many sizes, the tower takes one".into());
        }
        let shortest = json.size.get("shortest_edge").is_some() || json.size.is_u64();
        Ok(Self {
            path: path.into(),
            filter: json.filter()?,
            levels: json.levels()?,
            fill: json
                .do_pad
                .then(|| json.image_mean.map(|mean| (mean * 255.0) as u8)),
            size: match shortest {
                true => Size::Shortest(side(&json.size, "shortest_edge", "size")?),
                false => Size::Exactly(rectangle(&json.size, "size")?),
            },
            crop: match json.do_center_crop {
                true => Some(rectangle(&json.crop_size, "crop_size")?),
                false => None,
            },
        })
    }

    /// A picture as a tower of `image_size` × `image_size` pixels takes it.
    ///
    /// # Errors
    /// A processor that makes another size of it.
    pub fn process(&self, picture: &Slice<u8>, image_size: usize) -> Result<Processed> {
        let mut planes = match self.fill {
            None => vec![picture.clone()],
            Some(fill) => squared(picture, fill),
        };
        let size = match self.size {
            Size::Exactly(size) => size,
            Size::Shortest(short) => {
                let [rows, cols] = [planes[0].rows, planes[0].cols];
                let long = short * rows.max(cols);
                let long = (long as f64 / rows.min(cols) as f64) as usize;
                match cols <= rows {
                    true => [long, short],
                    false => [short, long],
                }
            }
        };
        // A sliver of a slice would become endless.
        let fits = size.iter().all(|side| *side <= LONGEST);
        let made = self.crop.unwrap_or(size);
        let holds = size.iter().zip(made).all(|(side, crop)| *side >= crop);
        if !fits || !holds || made != [image_size; 2] {
            let [rows, cols] = if fits && holds { made } else { size };
            return Err(Error::config(
                &self.path,
                format!(
                    "makes {rows} × {cols} pixels of a slice of {} × {}, the tower takes {image_size} × {image_size}",
                    picture.rows, picture.cols
                ),
            ));
        }
        for plane in &mut planes {
            *plane = resize(plane, size, self.filter);
            let corner = [(size[0] - made[0]) / 2, (size[1] - made[1]) / 2];
            *plane = cut(plane, corner, made);
        }
        let mut pixels = Vec::new();
        self.levels.write(&planes, &mut pixels);
        Ok(Processed {
            pixels,
            count: 1,
            size: made,
            tiles: [0, 0],
        })
    }
}

/// A picture in the middle of a square, one plane for each colour of what is around it.
fn squared(picture: &Slice<u8>, fill: [u8; 3]) -> Vec<Slice<u8>> {
    let (rows, cols) = (picture.rows, picture.cols);
    let side = rows.max(cols);
    let (top, left) = ((side - rows) / 2, (side - cols) / 2);
    let plane = |fill: u8| {
        let mut data = vec![fill; side * side];
        for (n, line) in picture.data.chunks_exact(cols).enumerate() {
            let first = (top + n) * side + left;
            data[first..first + cols].copy_from_slice(line);
        }
        Slice {
            rows: side,
            cols: side,
            data,
        }
    };
    fill.map(plane).to_vec()
}
