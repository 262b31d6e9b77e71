//! BiomedCLIPSeg and BiomedCLIPSeg-D (MedVLSM, arXiv 2308.07706): CLIPSeg's decoder on the image tower of BiomedCLIP (arXiv
//! 2303.00915).
//!
//! The two differ in what their decoder was trained from, not in their layers. The blocks that are read are not those of CLIPSeg:
//! its list of states begins with those before the first block, MedVLSM's with those after it, and both are read one behind 3, 6
//! and 9. So CLIPSeg reads the states after blocks 3, 6 and 9, counted from 0, and this model those after 4, 7 and 10.
//!
//! A phrase is the vector that BiomedCLIP's text tower makes of it, at the length that it has.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::models::bert::{self, BertConfig};
use crate::models::biomedclip::{TEXT_WITHOUT_BIAS, TextTower};
use crate::models::clipseg::{ClipSegDecoder, ClipSegDecoderConfig, TELLTALE};
use crate::models::shapes::Shapes;
use crate::models::vit::{Trunk, VitConfig};
use crate::models::{check_biases, likely, wrapper};
use crate::ops::Heads;
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};

/// The blocks that are read, from 0.
const READ: [usize; 3] = [4, 7, 10];
/// Heads of the decoder, and the epsilon of its norms, as CLIPSeg's configuration has them.
const DECODER_HEADS: usize = 4;
const DECODER_EPS: f32 = 1e-5;
/// The most tokens along a side of a picture.
const LARGEST_GRID: usize = 44;
/// What is called before BiomedCLIP's own names.
const PLACE: &str = "biomedclip";

/// The sizes of a model, read off its tensors.
#[derive(Clone, Debug)]
pub struct BiomedClipSegConfig {
    /// The image tower, up to the last block that is read.
    pub vision: VitConfig,
    /// The text tower.
    pub text: BertConfig,
    /// Width between the layers of the text's projection.
    pub proj_dim: usize,
    /// What draws.
    pub decoder: ClipSegDecoderConfig,
}

impl BiomedClipSegConfig {
    /// Reads a checkpoint's shapes.
    ///
    /// # Errors
    /// A missing tensor, or sizes that do not fit each other or the kernels.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let fault = |problem: String| Error::weights(checkpoint.path(), problem);
        let shapes = Shapes {
            checkpoint,
            kind: "BiomedCLIPSeg",
        };
        let wrapper = wrapper(checkpoint, TELLTALE);
        let at = |name: &str| format!("{wrapper}{name}");
        let tower = |name: &str| format!("{wrapper}{PLACE}.{name}");
        let mut vision = VitConfig::of_shapes(&shapes, &tower("visual.trunk"))?;
        let text = BertConfig::of_shapes(&shapes, &tower("text.transformer"))?;
        let [proj_dim, _] = shapes.of(&tower("text.proj.0.weight"))?;
        let [reduce_dim, projection_dim] = shapes.of(&at(TELLTALE))?;
        let [hidden, _] = shapes.of(&at("decoder.layers.0.mlp.fc1.weight"))?;
        let complex = checkpoint
            .tensor(&at("decoder.transposed_convolution.0.weight"))
            .is_some();
        let needed = READ[2] + 1;
        if vision.depth < needed {
            let problem = format!(
                "the image tower has {} blocks, expected {needed}",
                vision.depth
            );
            return Err(fault(problem));
        }
        vision.depth = needed;
        let (patch, grid) = (vision.patch_size, vision.image_size / vision.patch_size);
        let grain = if complex { 16 } else { 4 };
        if grid > LARGEST_GRID || !patch.is_multiple_of(grain) {
            return Err(fault(format!(
                "{grid} patches of {patch} pixels a side, expected at most {LARGEST_GRID}, of a multiple of {grain}"
            )));
        }
        let wide = [proj_dim, hidden, projection_dim];
        let odd = |n: &&usize| !(1..=1 << 16).contains(*n) || !n.is_multiple_of(4);
        if let Some(odd) = wide.iter().find(odd) {
            return Err(fault(format!("a width of {odd}, expected a multiple of 4")));
        }
        let width = reduce_dim / DECODER_HEADS;
        if !reduce_dim.is_multiple_of(4 * DECODER_HEADS) || !(4..=128).contains(&width) {
            return Err(fault(format!(
                "the decoder has a width of {reduce_dim}, expected {DECODER_HEADS} heads of a multiple of 4 up to 128"
            )));
        }
        Ok(Self {
            decoder: ClipSegDecoderConfig {
                hidden_size: vision.dim,
                projection_dim,
                layers: READ.len(),
                reduce_dim,
                heads: Heads {
                    q: DECODER_HEADS,
                    kv: DECODER_HEADS,
                    width,
                },
                intermediate_size: hidden,
                layer_norm_eps: DECODER_EPS,
                conditional_layer: 0,
                use_complex_transposed_convolution: complex,
                patch_size: patch,
                grid,
            },
            vision,
            text,
            proj_dim,
        })
    }
}

/// BiomedCLIP's towers, that of images up to the last block that is read, and CLIPSeg's decoder.
#[derive(Debug)]
pub struct BiomedClipSeg {
    config: BiomedClipSegConfig,
    trunk: Trunk,
    text: TextTower,
    decoder: ClipSegDecoder,
}

impl BiomedClipSeg {
    /// Loads a checkpoint with the names of MedVLSM's module: `biomedclip.…` and `decoder.…`, as they are or below `net`. What lies
    /// behind the last block that is read is not loaded.
    ///
    /// # Errors
    /// A missing, misshapen or unknown tensor, sizes that do not fit, or no memory; what the checkpoint seems to be is said.
    pub fn new(gpu: &Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let load = || {
            let config = BiomedClipSegConfig::of(checkpoint)?;
            let wrapper = wrapper(checkpoint, TELLTALE);
            check_biases(checkpoint, |stem| {
                let stem = stem.strip_prefix(wrapper).unwrap_or(stem);
                let text = stem.strip_prefix("biomedclip.text.");
                stem == "biomedclip.visual.head.proj"
                    || text.is_some_and(|stem| TEXT_WITHOUT_BIAS.contains(&stem))
                    || bert::is_without_bias(stem)
            })?;
            let w = Weights::new(gpu, checkpoint, precision).within(wrapper);
            Self::load(config, &w)?.finished(checkpoint, &w, wrapper)
        };
        load().map_err(|error| likely::named(error, checkpoint))
    }

    fn load(config: BiomedClipSegConfig, w: &Weights) -> Result<Self> {
        let place = w.at(PLACE);
        let widths = [config.proj_dim, config.decoder.projection_dim];
        Ok(Self {
            trunk: Trunk::load(config.vision.clone(), &place.at("visual").at("trunk"))?,
            text: TextTower::load(config.text.clone(), widths, &place.at("text"))?,
            decoder: ClipSegDecoder::new(&config.decoder, &w.at("decoder"))?,
            config,
        })
    }

    /// The model, if all of the checkpoint was read but what lies behind the last block that is read.
    fn finished(self, checkpoint: &Checkpoint, w: &Weights, wrapper: &str) -> Result<Self> {
        let behind = |name: &str| {
            let name = name.strip_prefix(wrapper).unwrap_or(name);
            let block = name.strip_prefix("biomedclip.visual.trunk.blocks.");
            let block = block.and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
            block.is_some_and(|n| n > READ[2])
                || name.starts_with("biomedclip.visual.trunk.norm.")
                || name.starts_with("biomedclip.visual.head.")
                || name == "biomedclip.logit_scale"
                || bert::is_position_ids(name)
        };
        let names = checkpoint.tensors().map(|entry| entry.name);
        w.finish(&names.filter(|name| behind(name)).collect::<Vec<_>>())?;
        Ok(self)
    }

    /// The model's sizes.
    pub fn config(&self) -> &BiomedClipSegConfig {
        &self.config
    }

    /// What phrases, given as token ids that include the special tokens, condition the decoder by: `[phrases, projection_dim]`.
    /// `keep` is shown what [`Bert::forward`](bert::Bert::forward) shows.
    ///
    /// # Errors
    /// A phrase without tokens or too long, an id beyond the table, or no memory.
    pub fn conditions(
        &self,
        rec: &Recorder,
        phrases: &[Vec<u32>],
        keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        self.text.forward(rec, phrases, keep)
    }

    /// What the decoder reads of a picture `[1, image_size, image_size, 4]` (red, green, blue and nothing): of each block that
    /// is read, the last first, `[tokens, reduce_dim]`. `keep` is shown what [`Trunk::forward`] shows.
    pub fn encode(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Vec<Tensor> {
        let size = self.config.vision.image_size;
        pixels.expect([1, size, size, 4]);
        let read = READ.map(|n| format!("block{n}"));
        let mut taps = Vec::new();
        self.trunk.forward(rec, pixels, &mut |name, x| {
            keep(name, x);
            if read.iter().any(|block| block == name) {
                taps.push(x.clone());
            }
        });
        self.decoder.reduce(rec, &taps)
    }

    /// The logits of each phrase on an encoded picture, `[phrases, image_size, image_size]`. `keep` is shown what
    /// [`ClipSeg`](super::clipseg::ClipSeg) shows.
    ///
    /// # Errors
    /// No memory.
    ///
    /// # Panics
    /// If `reduced` or `conditions` are not of this model.
    pub fn decode(
        &self,
        rec: &Recorder,
        reduced: &[Tensor],
        conditions: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        self.decoder.forward(rec, reduced, conditions, &mut keep)
    }
}
