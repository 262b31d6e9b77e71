//! TensorFlow.js's layers models: `model.json`, and beside it the files of numbers that it names. What is read are chains
//! of 3-D convolutions as brainchop has them, and what is written is a MeshNet.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;
use serde_json::Value;

use super::{Found, Read};
use crate::error::{Error, Result};
use crate::models::meshnet::{ARCHITECTURE, LayerConfig};
use crate::pipeline::files::read_bounded;
use crate::tensor::Encoding;

/// The largest `model.json`, in bytes.
const MAX_JSON_BYTES: u64 = 16 << 20;
/// The largest file of numbers.
const MAX_SHARD_BYTES: u64 = 1 << 30;
/// The epsilon of brainchop's norms.
const NORM_EPS: f32 = 1e-5;
/// Keras' epsilon of a batch norm that does not say its own.
const BATCH_NORM_EPS: f64 = 1e-3;

#[derive(Deserialize)]
struct Model {
    /// What brainchop's authors say of the intensities.
    #[serde(default)]
    _comment: String,
    #[serde(rename = "modelTopology")]
    topology: Topology,
    #[serde(rename = "weightsManifest")]
    manifest: Vec<Group>,
}

#[derive(Deserialize)]
struct Topology {
    model_config: ModelConfig,
}

#[derive(Deserialize)]
struct ModelConfig {
    config: Layers,
}

#[derive(Deserialize)]
struct Layers {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    class_name: String,
    config: Value,
    #[serde(default)]
    inbound_nodes: Value,
}

#[derive(Deserialize)]
struct Group {
    paths: Vec<String>,
    weights: Vec<Weight>,
}

#[derive(Deserialize)]
struct Weight {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    #[serde(default)]
    quantization: Value,
}

/// The numbers of a weight and its dimensions.
type Weights = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The network of a `model.json`.
pub(super) fn read(path: &Path) -> Result<Read> {
    let text = read_bounded(path, MAX_JSON_BYTES)?;
    let fault = |problem: String| Error::config(path, problem);
    let model: Model = serde_json::from_slice(&text)
        .map_err(|error| fault(format!("is no layers model of TensorFlow.js: {error}")))?;
    let mut weights = numbers(path, &model.manifest)?;
    let (layers, tensors) =
        chain(&model.topology.model_config.config.layers, &mut weights).map_err(fault)?;
    if let Some(name) = weights.keys().next() {
        return Err(fault(format!("weight `{name}` belongs to no layer")));
    }
    let Some(last) = layers.last() else {
        return Err(fault("has no convolution".into()));
    };
    let classes = class_names(path, last.out_channels)?;
    let json = |value: Value| value.to_string();
    let mut metadata = BTreeMap::from([
        ("architecture".to_owned(), ARCHITECTURE.to_owned()),
        (
            "layers".to_owned(),
            json(serde_json::to_value(&layers).unwrap_or_default()),
        ),
        ("classes".to_owned(), json(classes.into())),
    ]);
    if let Some(quantiles) = quantiles(&model._comment) {
        metadata.insert("quantiles".into(), json(quantiles.to_vec().into()));
    }
    Ok(Read {
        tensors,
        metadata,
        left_out: Vec::new(),
    })
}

/// All weights of the manifest.
fn numbers(path: &Path, manifest: &[Group]) -> Result<Weights> {
    let fault = |problem: String| Error::config(path, problem);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut weights = Weights::new();
    for group in manifest {
        let mut bytes = Vec::new();
        for name in &group.paths {
            let mut parts = Path::new(name).components();
            if !matches!(parts.next(), Some(Component::Normal(_))) || parts.next().is_some() {
                return Err(fault(format!(
                    "names the file {name:?}, expected one beside it"
                )));
            }
            bytes.extend(read_bounded(&folder.join(name), MAX_SHARD_BYTES)?);
        }
        let mut at = 0;
        for weight in &group.weights {
            let Weight {
                name,
                shape,
                dtype,
                quantization,
            } = weight;
            if dtype != "float32" || !quantization.is_null() {
                return Err(fault(format!(
                    "weight `{name}` is stored as {dtype} or quantised, expected float32"
                )));
            }
            let count = shape.iter().try_fold(4usize, |n, dim| n.checked_mul(*dim));
            let end = count.and_then(|count| at_end(at, count, bytes.len()));
            let Some(end) = end else {
                return Err(fault(format!(
                    "weight `{name}` of shape {shape:?} ends beyond the {} bytes of {:?}",
                    bytes.len(),
                    group.paths
                )));
            };
            let values = bytes[at..end]
                .as_chunks()
                .0
                .iter()
                .map(|four| f32::from_le_bytes(*four));
            if weights
                .insert(name.clone(), (shape.clone(), values.collect()))
                .is_some()
            {
                return Err(fault(format!("weight `{name}` is there twice")));
            }
            at = end;
        }
        if at != bytes.len() {
            return Err(fault(format!(
                "{:?} has {} bytes, the weights are {at}",
                group.paths,
                bytes.len()
            )));
        }
    }
    Ok(weights)
}

fn at_end(at: usize, count: usize, len: usize) -> Option<usize> {
    at.checked_add(count).filter(|end| *end <= len)
}

/// The layers in order, and their tensors.
fn chain(
    layers: &[Layer],
    weights: &mut Weights,
) -> std::result::Result<(Vec<LayerConfig>, Vec<Found>), String> {
    let (mut listed, mut tensors) = (Vec::<LayerConfig>::new(), Vec::<Found>::new());
    let mut before: Option<&str> = None;
    let mut channels = 1;
    for layer in layers {
        let config = &layer.config;
        let name = config["name"].as_str().ok_or("a layer has no name")?;
        let says = |problem: String| format!("layer `{name}` {problem}");
        if let Some(before) = before
            && layer.inbound_nodes[0][0][0].as_str() != Some(before)
        {
            return Err(says(format!(
                "does not follow `{before}`: only chains are converted"
            )));
        }
        let expect = |key: &str, wanted: Value| match &config[key] {
            Value::Null => Ok(()),
            found if *found == wanted => Ok(()),
            found => Err(says(format!("has `{key}` {found}, expected {wanted}"))),
        };
        match layer.class_name.as_str() {
            "InputLayer" => {
                if before.is_some() || config["batch_input_shape"][4] != 1 {
                    return Err(says("is no input of one channel, the last".into()));
                }
            }
            "Conv3D" => {
                expect("strides", [1, 1, 1].as_slice().into())?;
                expect("padding", "same".into())?;
                expect("data_format", "channels_last".into())?;
                expect("groups", 1.into())?;
                let [dilation, kernel_size] =
                    ["dilation_rate", "kernel_size"].map(|key| cubic(&config[key]));
                let (Some(dilation), Some(kernel_size)) = (dilation, kernel_size) else {
                    return Err(says("has a kernel or dilation that differs by axis".into()));
                };
                let (shape, values) = weights
                    .remove(&format!("{name}/kernel"))
                    .ok_or_else(|| says("has no weight `kernel`".into()))?;
                let out_channels = *shape.last().unwrap_or(&0);
                let wanted = [
                    kernel_size,
                    kernel_size,
                    kernel_size,
                    channels,
                    out_channels,
                ];
                if shape != wanted || out_channels == 0 {
                    return Err(says(format!(
                        "has a `kernel` of shape {shape:?}, expected {wanted:?}"
                    )));
                }
                let taps = kernel_size.pow(3);
                let moved = |o: usize, i: usize, tap: usize| {
                    values[(tap * channels + i) * out_channels + o]
                };
                let weight = (0..out_channels).flat_map(|o| {
                    (0..channels).flat_map(move |i| (0..taps).map(move |tap| (o, i, tap)))
                });
                let weight: Vec<f32> = weight.map(|(o, i, tap)| moved(o, i, tap)).collect();
                let shape = vec![
                    out_channels,
                    channels,
                    kernel_size,
                    kernel_size,
                    kernel_size,
                ];
                tensors.push(found(format!("{name}.weight"), shape, &weight));
                match (
                    weights.remove(&format!("{name}/bias")),
                    config["use_bias"].as_bool(),
                ) {
                    (None, Some(false)) => {}
                    (Some((shape, bias)), _) if shape == [out_channels] => {
                        tensors.push(found(format!("{name}.bias"), shape, &bias));
                    }
                    (found, _) => {
                        let shape = found.map(|(shape, _)| shape);
                        return Err(says(format!(
                            "has a `bias` of shape {shape:?}, expected [{out_channels}]"
                        )));
                    }
                }
                listed.push(LayerConfig {
                    name: name.to_owned(),
                    in_channels: channels,
                    out_channels,
                    kernel_size,
                    dilation,
                    // So brainchop marks what its script normalises.
                    instance_norm: name.ends_with("_gn").then_some(NORM_EPS),
                    activation: activation(&config["activation"]).map_err(says)?,
                });
                channels = out_channels;
            }
            "BatchNormalization" => {
                let conv = listed
                    .last()
                    .filter(|conv| conv.activation == "none" && conv.instance_norm.is_none());
                let conv = conv.ok_or_else(|| says("follows no convolution".into()))?;
                fold(name, config, conv, &mut tensors, weights).map_err(says)?;
            }
            "Activation" => {
                let last = listed.last_mut().filter(|conv| conv.activation == "none");
                let last = last.ok_or_else(|| says("follows no convolution".into()))?;
                last.activation = activation(&config["activation"]).map_err(says)?;
            }
            // Nothing but in training.
            "Dropout" | "SpatialDropout3D" => {}
            other => return Err(says(format!("is a `{other}`, which is not converted"))),
        }
        before = Some(name);
    }
    Ok((listed, tensors))
}

/// Multiplies a batch norm into the convolution before it: both are linear, and the zeros around a volume come before both.
fn fold(
    name: &str,
    config: &Value,
    conv: &LayerConfig,
    tensors: &mut Vec<Found>,
    weights: &mut Weights,
) -> std::result::Result<(), String> {
    let channels = conv.out_channels;
    let mut own =
        |part: &str, usual: Option<f32>| match (weights.remove(&format!("{name}/{part}")), usual) {
            (Some((shape, values)), _) if shape == [channels] => Ok(values),
            (None, Some(usual)) => Ok(vec![usual; channels]),
            (found, _) => {
                let shape = found.map(|(shape, _)| shape);
                Err(format!(
                    "has a `{part}` of shape {shape:?}, expected [{channels}]"
                ))
            }
        };
    let (gamma, beta) = (own("gamma", Some(1.0))?, own("beta", Some(0.0))?);
    let (mean, variance) = (own("moving_mean", None)?, own("moving_variance", None)?);
    let eps = config["epsilon"].as_f64().unwrap_or(BATCH_NORM_EPS);
    let scale = |c: usize| f64::from(gamma[c]) / (f64::from(variance[c]) + eps).sqrt();
    let bias_name = format!("{}.bias", conv.name);
    let bias = match tensors.pop_if(|tensor| tensor.name == bias_name) {
        Some(bias) => bias.values(),
        None => vec![0.0; channels],
    };
    let Some(weight) = tensors.last_mut() else {
        return Err("follows no convolution".into());
    };
    let values = weight.values();
    let per_channel = values.len() / channels;
    let scaled = values
        .iter()
        .enumerate()
        .map(|(n, v)| (f64::from(*v) * scale(n / per_channel)) as f32);
    *weight = found(
        weight.name.clone(),
        weight.shape.clone(),
        &scaled.collect::<Vec<_>>(),
    );
    let shifted = (0..channels).map(|c| {
        ((f64::from(bias[c]) - f64::from(mean[c])) * scale(c) + f64::from(beta[c])) as f32
    });
    tensors.push(found(
        bias_name,
        vec![channels],
        &shifted.collect::<Vec<_>>(),
    ));
    Ok(())
}

fn found(name: String, shape: Vec<usize>, values: &[f32]) -> Found {
    Found {
        name,
        encoding: Encoding::F32,
        shape,
        bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

impl Found {
    fn values(&self) -> Vec<f32> {
        self.encoding.decode(&self.bytes).unwrap_or_default()
    }
}

/// The one number of `[3, 3, 3]`.
fn cubic(value: &Value) -> Option<usize> {
    let values: Vec<usize> = serde_json::from_value(value.clone()).ok()?;
    match *values {
        [x, y, z] if x == y && y == z && (1..=256).contains(&x) => Some(x),
        _ => None,
    }
}

fn activation(value: &Value) -> std::result::Result<String, String> {
    match value.as_str() {
        Some("linear") | None => Ok("none".into()),
        Some(known @ ("relu" | "elu" | "gelu")) => Ok(known.into()),
        Some(other) => Err(format!(
            "has `activation` `{other}`, expected `linear`, `relu`, `elu` or `gelu`"
        )),
    }
}

/// The names of so many classes: the labels of the first `colormap….json` beside the model that has as many, else numbers.
fn class_names(model: &Path, count: usize) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Colours {
        labels: Vec<String>,
    }
    let folder = model
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut tables = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let path = entry.map_err(Error::read(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("colormap") && name.ends_with(".json") {
            tables.push(path);
        }
    }
    tables.sort();
    for table in tables {
        let text = read_bounded(&table, MAX_JSON_BYTES)?;
        let colours: Colours = serde_json::from_slice(&text)
            .map_err(|error| Error::config(&table, error.to_string()))?;
        let plain = |label: &String| !label.is_empty() && !label.chars().any(char::is_control);
        if let Some(label) = colours.labels.iter().find(|label| !plain(label)) {
            return Err(Error::config(&table, format!("has the label {label:?}")));
        }
        if colours.labels.len() == count {
            return Ok(colours.labels);
        }
    }
    let numbered = (1..count).map(|n| format!("class {n}"));
    Ok(std::iter::once("background".to_owned())
        .chain(numbered)
        .collect())
}

/// What a comment such as "min = 5% quantile, max = 95% quantile" says of the intensities.
fn quantiles(comment: &str) -> Option<[f64; 2]> {
    let percent = |key: &str| {
        let (_, after) = comment.split_once(key)?;
        let (number, _) = after
            .split_once('%')
            .filter(|(_, rest)| rest.trim_start().starts_with("quantile"))?;
        let number: f64 = number.trim().parse().ok()?;
        (0.0..=100.0).contains(&number).then_some(number / 100.0)
    };
    let [low, high] = [percent("min =")?, percent("max =")?];
    (low < high).then_some([low, high])
}

#[cfg(test)]
mod tests {
    use super::quantiles;

    #[test]
    fn quantiles_are_those_of_the_comment() {
        let text = "Normalize the data for this model with min = 5% quantile, max = 95% quantile";
        assert_eq!(quantiles(text), Some([0.05, 0.95]));
        for other in [
            "",
            "min = 5, max = 95%",
            "min = 95% quantile, max = 5% quantile",
            "min = x% quantile, max = 9% quantile",
        ] {
            assert_eq!(quantiles(other), None, "{other}");
        }
    }
}
