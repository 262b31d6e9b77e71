//! keraunos, through its ops.

use std::path::Path;

use keraunos::gpu::{Gpu, Recorder};
use keraunos::models::zeus::Zeus;
use keraunos::ops::{
    Activation, Columns, Heads, Residual, Window, attention, conv, layer_norm, linear, matmul,
};
use keraunos::tensor::{Checkpoint, Matrix, Precision, Tensor};

use crate::Fallible;
use crate::cases::{self, Case, DEPTH, DIM, EPS, HEADS, PATCH, numbers, weights};
use crate::contest::Contender;
use crate::decoder;

pub type Step<'g> = Box<dyn Fn(&Recorder<'g>) -> Tensor + 'g>;

struct Ours<'g> {
    gpu: &'g Gpu,
    name: &'static str,
    half: bool,
    step: Step<'g>,
}

impl Contender for Ours<'_> {
    fn name(&self) -> String {
        format!("keraunos, {}", self.name)
    }

    fn is_half(&self) -> bool {
        self.half
    }

    fn result(&mut self) -> Fallible<Vec<f32>> {
        let rec = self.gpu.record("result");
        let y = (self.step)(&rec);
        Ok(y.read(rec)?)
    }

    fn run(&mut self, times: usize) -> Fallible<()> {
        let rec = self.gpu.record("run");
        for _ in 0..times {
            drop((self.step)(&rec));
        }
        rec.submit()?;
        Ok(self.gpu.wait()?)
    }
}

/// A packed weight and a padded bias.
pub struct Layer {
    weight: Matrix,
    bias: Tensor,
}

impl Layer {
    pub fn new(gpu: &Gpu, half: bool, layer: &cases::Layer) -> Fallible<Self> {
        let shape = [layer.outputs, layer.inputs];
        let pack = if half { Matrix::f16 } else { Matrix::f32 };
        let mut bias = layer.bias.clone();
        bias.resize(layer.outputs.next_multiple_of(8), 0.0);
        Ok(Self {
            weight: pack(gpu, "weight", shape, &layer.weight)?,
            bias: Tensor::upload(gpu, "bias", bias.len(), &bias)?,
        })
    }

    pub fn forward(
        &self,
        rec: &Recorder,
        x: &Tensor,
        then: Activation,
        plus: Option<&Tensor>,
    ) -> Tensor {
        linear(rec, x, &self.weight, &self.bias, then, plus)
    }
}

pub struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    pub fn new(gpu: &Gpu, layer: &cases::Layer) -> Fallible<Self> {
        Ok(Self {
            weight: Tensor::upload(gpu, "weight", layer.outputs, &layer.weight)?,
            bias: Tensor::upload(gpu, "bias", layer.outputs, &layer.bias)?,
        })
    }

    pub fn forward(&self, rec: &Recorder, x: &Tensor, eps: f32) -> Tensor {
        layer_norm(rec, x, &self.weight, &self.bias, eps)
    }
}

struct Block {
    norm1: Norm,
    qkv: Layer,
    proj: Layer,
    norm2: Norm,
    lin1: Layer,
    lin2: Layer,
}

impl Block {
    fn new(gpu: &Gpu, half: bool, n: usize) -> Fallible<Self> {
        let block = cases::vit_block(n);
        Ok(Self {
            norm1: Norm::new(gpu, &block.norm1)?,
            qkv: Layer::new(gpu, half, &block.qkv)?,
            proj: Layer::new(gpu, half, &block.proj)?,
            norm2: Norm::new(gpu, &block.norm2)?,
            lin1: Layer::new(gpu, half, &block.lin1)?,
            lin2: Layer::new(gpu, half, &block.lin2)?,
        })
    }

    fn forward(&self, rec: &Recorder, x: Tensor) -> Tensor {
        let plain = Activation::None;
        let heads = Heads {
            q: HEADS,
            kv: HEADS,
            width: DIM / HEADS,
        };
        let qkv = self
            .qkv
            .forward(rec, &self.norm1.forward(rec, &x, EPS), plain, None);
        let [q, k, v] = [0, DIM, 2 * DIM].map(|first| Columns::from(&qkv, first));
        let attended = attention(rec, q, k, v, heads, 1, false);
        let x = self.proj.forward(rec, &attended, plain, Some(&x));
        let inner = self.lin1.forward(
            rec,
            &self.norm2.forward(rec, &x, EPS),
            Activation::Gelu,
            None,
        );
        self.lin2.forward(rec, &inner, plain, Some(&x))
    }
}

fn vit<'g>(gpu: &'g Gpu, tokens: usize, half: bool) -> Fallible<Step<'g>> {
    let (embed, positions, last) = cases::vit_ends(tokens);
    let patches = Tensor::upload(
        gpu,
        "patches",
        [tokens, PATCH],
        &numbers(0, tokens * PATCH, 1.0),
    )?;
    let positions = Tensor::upload(gpu, "positions", [tokens, DIM], &positions)?;
    let (embed, last) = (Layer::new(gpu, half, &embed)?, Norm::new(gpu, &last)?);
    let blocks = (0..DEPTH)
        .map(|n| Block::new(gpu, half, n))
        .collect::<Fallible<Vec<_>>>()?;
    Ok(Box::new(move |rec| {
        let mut x = embed.forward(rec, &patches, Activation::None, Some(&positions));
        for block in &blocks {
            x = block.forward(rec, x);
        }
        last.forward(rec, &x, EPS)
    }))
}

fn step<'g>(gpu: &'g Gpu, case: Case, half: bool) -> Fallible<Step<'g>> {
    Ok(match case {
        Case::Matmul { side } => {
            let x = Tensor::upload(gpu, "x", [side, side], &numbers(0, side * side, 1.0))?;
            let layer = cases::Layer {
                outputs: side,
                inputs: side,
                weight: weights(1, side, side),
                bias: vec![0.0; side],
            };
            let layer = Layer::new(gpu, half, &layer)?;
            Box::new(move |rec| layer.forward(rec, &x, Activation::None, None))
        }
        Case::Conv { channels, side } => {
            let shape = [1, side, side, channels];
            let x = Tensor::upload(gpu, "x", shape, &numbers(0, side * side * channels, 1.0))?;
            let layer = cases::Layer {
                outputs: channels,
                inputs: 9 * channels,
                weight: weights(1, channels, 9 * channels),
                bias: numbers(2, channels, 0.1),
            };
            let Layer { weight, bias } = Layer::new(gpu, half, &layer)?;
            let (window, plain) = (Window::square(3, 1, 1), Activation::None);
            Box::new(move |rec| conv(rec, &x, &window, &weight, &bias, plain, Residual::None))
        }
        Case::Attention {
            queries,
            keys,
            heads,
            width,
        } => {
            let upload = |seed, rows| {
                let values = numbers(seed, rows * heads * width, cases::attention_scale(seed));
                Tensor::upload(gpu, "rows", [rows, heads * width], &values)
            };
            let (q, k, v) = (upload(0, queries)?, upload(1, keys)?, upload(2, keys)?);
            let heads = Heads {
                q: heads,
                kv: heads,
                width,
            };
            Box::new(move |rec| {
                let [q, k, v] = [&q, &k, &v].map(Columns::all);
                attention(rec, q, k, v, heads, 1, false)
            })
        }
        Case::Vit { pixels } => vit(gpu, (pixels / 16) * (pixels / 16), half)?,
        Case::Decoder => decoder::step(gpu, half)?,
        Case::Zeus => {
            let path =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../../weights/zeus-mini.safetensors");
            let zeus = Zeus::new(gpu, &Checkpoint::open(&path)?, Precision::Auto)?;
            let size = zeus.config().image_size;
            let gray = numbers(0, size * size, 0.5);
            let image: Vec<f32> = gray.iter().flat_map(|v| [v + 0.5, 0.0, 0.0, 0.0]).collect();
            let image = Tensor::upload(gpu, "image", [1, size, size, 4], &image)?;
            Box::new(move |rec| zeus.encode(rec, &image, |_, _| ()).neck)
        }
    })
}

/// The product of two activations, neither of them packed.
fn unpacked<'g>(gpu: &'g Gpu, side: usize) -> Fallible<Step<'g>> {
    let a = Tensor::upload(gpu, "a", [side, side], &numbers(0, side * side, 1.0))?;
    let b = Tensor::upload(gpu, "b", [side, side], &weights(1, side, side))?;
    Ok(Box::new(move |rec| matmul(rec, &a, &b, false)))
}

/// As the case says: f32 weights, where it has any.
pub fn contender<'g>(gpu: &'g Gpu, case: Case) -> Fallible<Box<dyn Contender + 'g>> {
    let name = match case {
        Case::Matmul { .. } => "`linear`",
        Case::Conv { .. } => "`conv`",
        Case::Attention { .. } => "`attention`",
        Case::Decoder | Case::Vit { .. } => "f32 weights",
        Case::Zeus => "its own weights",
    };
    let step = step(gpu, case, false)?;
    Ok(Box::new(Ours {
        gpu,
        name,
        half: false,
        step,
    }))
}

/// The case itself, and what else of ours computes it.
pub fn contenders<'g>(gpu: &'g Gpu, case: Case) -> Fallible<Vec<Box<dyn Contender + 'g>>> {
    let mut all = vec![contender(gpu, case)?];
    let more = match case {
        Case::Matmul { side } => ("`matmul`", false, unpacked(gpu, side)?),
        Case::Conv { .. } | Case::Decoder | Case::Vit { .. } => {
            ("f16 weights", true, step(gpu, case, true)?)
        }
        Case::Attention { .. } | Case::Zeus => return Ok(all),
    };
    let (name, half, step) = more;
    all.push(Box::new(Ours {
        gpu,
        name,
        half,
        step,
    }));
    Ok(all)
}
