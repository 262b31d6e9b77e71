//! From a slice to what a language model reads of it: image tokens, and the text that stands around them.

use super::processor::{Processed, Squaring, Tiling};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::idefics3::Idefics3;
use crate::models::kind;
use crate::models::llama::Llama;
use crate::models::llava::Llava;
use crate::models::siglip_vision::Tiles;
use crate::pipeline::prepare::Slice;
use crate::tensor::{Checkpoint, Precision, Tensor};

/// What stands for a picture in a chat template's text, and for each of its tokens in what is made of it.
pub(super) const IMAGE: &str = "<image>";
/// Tiles that go through a tower at once: bounds their memory.
const AT_ONCE: usize = 4;

/// What sees. Each kind of model is one.
pub(super) enum Eye {
    /// Idefics3 and SmolVLM.
    Idefics3(Idefics3, Tiling),
    /// LLaVA.
    Llava(Llava, Squaring),
}

/// A slice as a language model reads it.
pub(super) struct Seen {
    /// The tokens of its pictures, `[tokens, embedding_length]` each.
    pub tokens: Vec<Tensor>,
    /// The text in place of [`IMAGE`], with one of those for each token.
    pub text: String,
}

impl Eye {
    /// Whether a folder of Hugging Face's has an eye that is known.
    ///
    /// # Errors
    /// Another kind of model, or a configuration that is missing or damaged.
    pub(super) fn check(checkpoint: &Checkpoint) -> Result<()> {
        match kind(checkpoint)?.as_str() {
            "idefics3" | "smolvlm" | "llava" => Ok(()),
            other => Err(unknown(checkpoint, other)),
        }
    }

    /// The eye of a folder of Hugging Face's, and the language model that it speaks to.
    ///
    /// # Errors
    /// Another kind of model, files that are missing, damaged or do not fit together, or no memory.
    pub(super) fn open(gpu: &Gpu, checkpoint: &Checkpoint) -> Result<(Self, Llama)> {
        let folder = checkpoint.folder();
        match kind(checkpoint)?.as_str() {
            "idefics3" | "smolvlm" => {
                let (model, llama) = Idefics3::new(gpu, checkpoint, Precision::Auto)?;
                let tiling = Tiling::open(folder, model.grain())?;
                Ok((Self::Idefics3(model, tiling), llama))
            }
            "llava" => {
                let (model, llama) = Llava::new(gpu, checkpoint, Precision::Auto)?;
                Ok((Self::Llava(model, Squaring::open(folder)?), llama))
            }
            other => Err(unknown(checkpoint, other)),
        }
    }

    /// What stands for an image token in a text.
    pub(super) fn image_token_id(&self) -> u32 {
        match self {
            Self::Idefics3(model, _) => model.image_token_id,
            Self::Llava(model, _) => model.image_token_id,
        }
    }

    /// Looks at a slice of grey levels.
    ///
    /// # Errors
    /// A slice that the image processor makes nothing fitting of, no memory, or an adapter that fails.
    pub(super) fn look(&self, gpu: &Gpu, slice: &Slice<u8>) -> Result<Seen> {
        match self {
            Self::Idefics3(model, tiling) => {
                let seen = tiling.process(slice);
                let mut tokens = Vec::new();
                for first in (0..seen.count).step_by(AT_ONCE) {
                    let count = AT_ONCE.min(seen.count - first);
                    let pixels = upload(gpu, &seen, first, count)?;
                    let patch = model.vision_model().config().patch_size;
                    let covered = vec![seen.size.map(|side| side / patch); count];
                    let rec = gpu.record("look");
                    let tiles = Tiles { pixels, covered };
                    tokens.push(model.forward(&rec, &tiles, |_, _| ())?);
                    rec.submit()?;
                }
                gpu.wait()?;
                let side = tiling.tile / model.grain();
                Ok(Seen {
                    tokens,
                    text: tiled(seen.tiles, side * side),
                })
            }
            Self::Llava(model, squaring) => {
                let seen = squaring.process(slice, model.vision_tower().config().image_size)?;
                let pixels = upload(gpu, &seen, 0, seen.count)?;
                let rec = gpu.record("look");
                let tokens = model.forward(&rec, &pixels, |_, _| ());
                rec.submit()?;
                gpu.wait()?;
                Ok(Seen {
                    text: IMAGE.repeat(tokens.matrix()[0]),
                    tokens: vec![tokens],
                })
            }
        }
    }
}

fn unknown(checkpoint: &Checkpoint, kind: &str) -> Error {
    let problem = format!("`model_type` is `{kind}`, expected `idefics3`, `smolvlm` or `llava`");
    Error::config(&checkpoint.folder().join("config.json"), problem)
}

/// Some of the pictures, `[count, rows, cols, 4]`.
fn upload(gpu: &Gpu, seen: &Processed, first: usize, count: usize) -> Result<Tensor> {
    let [rows, cols] = seen.size;
    let each = rows * cols * 4;
    let pixels = &seen.pixels[first * each..(first + count) * each];
    Tensor::upload(gpu, "pictures", [count, rows, cols, 4], pixels)
}

/// How Idefics3 is told of the tiles of a picture, of so many tokens each, and of the whole.
fn tiled([rows, cols]: [usize; 2], tokens: usize) -> String {
    const AROUND: &str = "<fake_token_around_image>";
    let image = IMAGE.repeat(tokens);
    let mut text = String::new();
    for row in 1..=rows {
        for col in 1..=cols {
            text += &format!("{AROUND}<row_{row}_col_{col}>{image}");
        }
        text.push('\n');
    }
    if rows > 0 {
        text.push('\n');
    }
    text + &format!("{AROUND}<global-img>{image}{AROUND}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_told_row_by_row_and_the_whole_last() {
        assert_eq!(
            tiled([0, 0], 2),
            "<fake_token_around_image><global-img><image><image><fake_token_around_image>"
        );
        assert_eq!(
            tiled([2, 1], 1),
            "<fake_token_around_image><row_1_col_1><image>\n\
             <fake_token_around_image><row_2_col_1><image>\n\n\
             <fake_token_around_image><global-img><image><fake_token_around_image>"
        );
    }
}
