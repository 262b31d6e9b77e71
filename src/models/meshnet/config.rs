//! What a MeshNet's checkpoint says of it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ops::Activation;
use crate::tensor::Checkpoint;

/// What a checkpoint's metadata calls this model under `architecture`.
pub const ARCHITECTURE: &str = "MeshNet";

/// A layer, as a checkpoint's metadata lists it under `layers`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LayerConfig {
    /// What the names of its tensors begin with.
    pub name: String,
    /// Channels that it reads.
    pub in_channels: usize,
    /// Channels that it writes; the last layer's are the classes.
    pub out_channels: usize,
    /// Taps along each axis, an odd number. The volume is padded with zeros to keep its size.
    pub kernel_size: usize,
    /// Voxels from one tap to the next.
    pub dilation: usize,
    /// Epsilon of an instance norm without weights, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_norm: Option<f32>,
    /// `none`, `relu`, `elu` or `gelu` (by erf).
    pub activation: String,
}

impl LayerConfig {
    pub(super) fn activation(&self) -> Option<Activation> {
        Some(match self.activation.as_str() {
            "none" => Activation::None,
            "relu" => Activation::Relu,
            "elu" => Activation::Elu,
            "gelu" => Activation::Gelu,
            _ => return None,
        })
    }

    /// What is wrong with it, after a layer of so many channels.
    fn problem(&self, before: usize) -> Option<String> {
        let sizes = [
            ("in_channels", self.in_channels, 1..=1024),
            ("out_channels", self.out_channels, 1..=1024),
            ("kernel_size", self.kernel_size, 1..=9),
            ("dilation", self.dilation, 1..=256),
        ];
        let odd = sizes.iter().find(|(_, n, range)| !range.contains(n));
        if let Some((key, n, range)) = odd {
            let (least, most) = (range.start(), range.end());
            return Some(format!("`{key}` is {n}, expected {least} to {most}"));
        }
        if self.in_channels != before {
            return Some(format!(
                "`in_channels` is {}, the layer before it has {before}",
                self.in_channels
            ));
        }
        if self.kernel_size.is_multiple_of(2) {
            return Some(format!(
                "`kernel_size` is {}, expected an odd number",
                self.kernel_size
            ));
        }
        if self.activation().is_none() {
            return Some(format!(
                "`activation` is {:?}, expected `none`, `relu`, `elu` or `gelu`",
                self.activation
            ));
        }
        let eps = self.instance_norm.unwrap_or(1.0);
        (!(eps > 0.0 && eps < 1.0) && self.instance_norm.is_some())
            .then(|| format!("`instance_norm` is {eps}, expected an epsilon"))
    }
}

/// What a MeshNet is, as its checkpoint's metadata says.
#[derive(Clone, Debug)]
pub struct MeshNetConfig {
    /// The layers, `layers` in the metadata.
    pub layers: Vec<LayerConfig>,
    /// The name of each class, `classes`; the first is the background.
    pub classes: Vec<String>,
    /// The shares of voxels, `quantiles`, whose intensities become 0 and 1; the least and the largest are 0 and 1.
    pub quantiles: [f64; 2],
}

impl MeshNetConfig {
    /// Reads and checks the metadata of a checkpoint.
    ///
    /// # Errors
    /// No `layers`, or layers, classes or quantiles that do not fit each other.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let metadata = checkpoint.metadata();
        let fault = |problem: String| {
            let problem = format!("metadata: {problem}");
            Error::weights(checkpoint.path(), problem)
        };
        let text = |key: &str| {
            let text = metadata.get(key).map(String::as_str);
            text.ok_or_else(|| fault(format!("`{key}` is missing: not a {ARCHITECTURE}")))
        };
        let layers: Vec<LayerConfig> = serde_json::from_str(text("layers")?)
            .map_err(|error| fault(format!("`layers`: {error}")))?;
        let classes: Vec<String> = serde_json::from_str(text("classes")?)
            .map_err(|error| fault(format!("`classes`: {error}")))?;
        let quantiles: [f64; 2] = match metadata.get("quantiles") {
            None => [0.0, 1.0],
            Some(text) => serde_json::from_str(text)
                .map_err(|error| fault(format!("`quantiles`: {error}")))?,
        };
        if !(0.0 <= quantiles[0] && quantiles[0] < quantiles[1] && quantiles[1] <= 1.0) {
            return Err(fault(format!(
                "`quantiles` are {quantiles:?}, expected two rising shares of 1"
            )));
        }
        let mut channels = 1;
        for layer in &layers {
            if let Some(problem) = layer.problem(channels) {
                return Err(fault(format!("layer `{}`: {problem}", layer.name)));
            }
            channels = layer.out_channels;
        }
        match layers.last() {
            None => return Err(fault("`layers` is empty".into())),
            Some(last) if last.activation != "none" || last.instance_norm.is_some() => {
                return Err(fault(format!(
                    "layer `{}` is the last and has more than a convolution",
                    last.name
                )));
            }
            Some(_) => {}
        }
        if classes.len() != channels || channels < 2 {
            return Err(fault(format!(
                "`classes` has {} names, the last layer {channels} channels",
                classes.len()
            )));
        }
        Ok(Self {
            layers,
            classes,
            quantiles,
        })
    }

    /// Whether a part of a volume gives other values than the whole: norms are over all voxels.
    pub fn needs_whole(&self) -> bool {
        self.layers
            .iter()
            .any(|layer| layer.instance_norm.is_some())
    }

    /// Channels of the widest layer as the adapter holds them.
    pub fn widest(&self) -> usize {
        let widths = self.layers.iter().map(|layer| layer.out_channels);
        widths.max().unwrap_or(1).next_multiple_of(4)
    }
}
