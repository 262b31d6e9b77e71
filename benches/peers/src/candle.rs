//! candle on the processor, with as many threads as there are cores.

use candle_core::{Device, Result, Tensor};
use candle_nn::ops::{layer_norm, softmax_last_dim};

use crate::Fallible;
use crate::cases::{self, Case, DEPTH, DIM, EPS, HEADS, PATCH, numbers, turned, weights};
use crate::contest::Contender;

type Step = Box<dyn Fn() -> Result<Tensor>>;

struct Candle {
    step: Step,
    /// From candle's order of a result to keraunos'.
    ours: Vec<usize>,
}

impl Contender for Candle {
    fn name(&self) -> String {
        format!("candle {}, processor", env!("CANDLE_VERSION"))
    }

    fn result(&mut self) -> Fallible<Vec<f32>> {
        let y = (self.step)()?.permute(self.ours.clone())?;
        Ok(y.flatten_all()?.to_vec1()?)
    }

    fn run(&mut self, times: usize) -> Fallible<()> {
        for _ in 0..times {
            (self.step)()?;
        }
        Ok(())
    }
}

fn upload(shape: &[usize], values: Vec<f32>) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// A weight as it is multiplied, `[inputs, outputs]`.
struct Layer {
    weight: Tensor,
    bias: Tensor,
}

impl Layer {
    fn new(layer: &cases::Layer) -> Result<Self> {
        let shape = [layer.inputs, layer.outputs];
        Ok(Self {
            weight: upload(&shape, turned(&layer.weight, layer.inputs))?,
            bias: upload(&[layer.outputs], layer.bias.clone())?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weight)?.broadcast_add(&self.bias)
    }
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    fn new(layer: &cases::Layer) -> Result<Self> {
        Ok(Self {
            weight: upload(&[DIM], layer.weight.clone())?,
            bias: upload(&[DIM], layer.bias.clone())?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.weight, &self.bias, EPS)
    }
}

/// q, k and v `[1, heads, rows, width]`, as candle's models compute it.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let scale = 1.0 / (q.dim(3)? as f64).sqrt();
    let scores = ((q * scale)?).matmul(&k.transpose(2, 3)?)?;
    softmax_last_dim(&scores)?.matmul(v)
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
    fn new(n: usize) -> Result<Self> {
        let block = cases::vit_block(n);
        Ok(Self {
            norm1: Norm::new(&block.norm1)?,
            qkv: Layer::new(&block.qkv)?,
            proj: Layer::new(&block.proj)?,
            norm2: Norm::new(&block.norm2)?,
            lin1: Layer::new(&block.lin1)?,
            lin2: Layer::new(&block.lin2)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let tokens = x.dim(0)?;
        let qkv = self.qkv.forward(&self.norm1.forward(x)?)?;
        let heads = |n| {
            let columns = qkv.narrow(1, n * DIM, DIM)?;
            let heads = columns.reshape((1, tokens, HEADS, DIM / HEADS))?;
            heads.transpose(1, 2)?.contiguous()
        };
        let attended = attend(&heads(0)?, &heads(1)?, &heads(2)?)?;
        let attended = attended.transpose(1, 2)?.reshape((tokens, DIM))?;
        let x = (x + self.proj.forward(&attended)?)?;
        let inner = self.lin1.forward(&self.norm2.forward(&x)?)?.gelu_erf()?;
        x + self.lin2.forward(&inner)?
    }
}

fn vit(tokens: usize) -> Result<Step> {
    let patches = upload(&[tokens, PATCH], numbers(0, tokens * PATCH, 1.0))?;
    let (embed, positions, last) = cases::vit_ends(tokens);
    let positions = upload(&[tokens, DIM], positions)?;
    let (embed, last) = (Layer::new(&embed)?, Norm::new(&last)?);
    let blocks = (0..DEPTH).map(Block::new).collect::<Result<Vec<_>>>()?;
    Ok(Box::new(move || {
        let mut x = (embed.forward(&patches)? + &positions)?;
        for block in &blocks {
            x = block.forward(&x)?;
        }
        last.forward(&x)
    }))
}

/// A case; none where candle is not asked.
pub fn contender(case: Case) -> Fallible<Option<Box<dyn Contender>>> {
    let mut ours = vec![0, 1];
    let step: Step = match case {
        Case::Matmul { side } => {
            let x = upload(&[side, side], numbers(0, side * side, 1.0))?;
            let w = upload(&[side, side], turned(&weights(1, side, side), side))?;
            Box::new(move || x.matmul(&w))
        }
        Case::Conv { channels, side } => {
            let x = numbers(0, side * side * channels, 1.0);
            let x = upload(&[1, side, side, channels], x)?;
            let w = weights(1, channels, 9 * channels);
            let w = upload(&[channels, 3, 3, channels], w)?;
            let x = x.permute((0, 3, 1, 2))?.contiguous()?;
            let w = w.permute((0, 3, 1, 2))?.contiguous()?;
            let bias = upload(&[1, channels, 1, 1], numbers(2, channels, 0.1))?;
            ours = vec![0, 2, 3, 1];
            Box::new(move || x.conv2d(&w, 1, 1, 1, 1)?.broadcast_add(&bias))
        }
        Case::Attention {
            queries,
            keys,
            heads,
            width,
        } => {
            let heads_first = |seed, rows| {
                let values = numbers(seed, rows * heads * width, cases::attention_scale(seed));
                let rows = upload(&[1, rows, heads, width], values)?;
                rows.transpose(1, 2)?.contiguous()
            };
            let q = heads_first(0, queries)?;
            let (k, v) = (heads_first(1, keys)?, heads_first(2, keys)?);
            ours = vec![0, 2, 1, 3];
            Box::new(move || attend(&q, &k, &v))
        }
        Case::Vit { pixels } => vit((pixels / 16) * (pixels / 16))?,
        Case::Decoder | Case::Zeus => return Ok(None),
    };
    Ok(Some(Box::new(Candle { step, ours })))
}
