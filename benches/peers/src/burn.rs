//! burn on wgpu: kernels made of Rust, tried out on the adapter before they are chosen.

use burn::tensor::activation::gelu;
use burn::tensor::module::{attention, conv2d, layer_norm, linear};
use burn::tensor::ops::{AttentionModuleOptions, ConvOptions};
use burn::tensor::{Device, DeviceKind, Tensor, TensorData};

use crate::Fallible;
use crate::cases::{self, Case, DEPTH, DIM, EPS, HEADS, PATCH, numbers, turned, weights};
use crate::contest::Contender;

/// Runs whose results are kept until they are computed: what nobody holds need not be written.
const HELD: usize = 16;

type Step = Box<dyn Fn() -> Tensor<4>>;

struct Burn {
    device: Device,
    step: Step,
    /// From burn's order of a result to keraunos'.
    ours: [usize; 4],
}

impl Contender for Burn {
    fn name(&self) -> String {
        format!("burn {} on wgpu", env!("BURN_VERSION"))
    }

    fn result(&mut self) -> Fallible<Vec<f32>> {
        let data = (self.step)().permute(self.ours).try_into_data()?;
        Ok(data.try_into_vec::<f32>().map_err(|e| format!("{e:?}"))?)
    }

    fn run(&mut self, times: usize) -> Fallible<()> {
        let mut left = times;
        while left > 0 {
            let held: Vec<_> = (0..left.min(HELD)).map(|_| (self.step)()).collect();
            self.device.sync()?;
            left -= held.len();
        }
        Ok(())
    }
}

fn upload<const D: usize>(device: &Device, shape: [usize; D], values: Vec<f32>) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// A weight as burn multiplies it, `[inputs, outputs]`.
struct Layer {
    weight: Tensor<2>,
    bias: Tensor<1>,
}

impl Layer {
    fn new(device: &Device, layer: &cases::Layer) -> Self {
        let shape = [layer.inputs, layer.outputs];
        Self {
            weight: upload(device, shape, turned(&layer.weight, layer.inputs)),
            bias: upload(device, [layer.outputs], layer.bias.clone()),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        linear(x, self.weight.clone(), Some(self.bias.clone()))
    }
}

struct Norm {
    weight: Tensor<1>,
    bias: Tensor<1>,
}

impl Norm {
    fn new(device: &Device, layer: &cases::Layer) -> Self {
        Self {
            weight: upload(device, [DIM], layer.weight.clone()),
            bias: upload(device, [DIM], layer.bias.clone()),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
        layer_norm(x, weight, Some(bias), f64::from(EPS))
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
    fn new(device: &Device, n: usize) -> Self {
        let block = cases::vit_block(n);
        Self {
            norm1: Norm::new(device, &block.norm1),
            qkv: Layer::new(device, &block.qkv),
            proj: Layer::new(device, &block.proj),
            norm2: Norm::new(device, &block.norm2),
            lin1: Layer::new(device, &block.lin1),
            lin2: Layer::new(device, &block.lin2),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let tokens = x.dims()[1];
        let mut qkv = self.qkv.forward(self.norm1.forward(x.clone())).chunk(3, 2);
        let mut heads = || {
            let columns = qkv.remove(0);
            columns
                .reshape([1, tokens, HEADS, DIM / HEADS])
                .swap_dims(1, 2)
        };
        let (q, k, v) = (heads(), heads(), heads());
        let attended = attention(q, k, v, None, None, AttentionModuleOptions::default());
        let attended = attended.swap_dims(1, 2).reshape([1, tokens, DIM]);
        let x = x + self.proj.forward(attended);
        let inner = gelu(self.lin1.forward(self.norm2.forward(x.clone())));
        x + self.lin2.forward(inner)
    }
}

fn vit(device: &Device, tokens: usize) -> Step {
    let patches = upload(device, [1, tokens, PATCH], numbers(0, tokens * PATCH, 1.0));
    let (embed, positions, last) = cases::vit_ends(tokens);
    let positions = upload(device, [1, tokens, DIM], positions);
    let (embed, last) = (Layer::new(device, &embed), Norm::new(device, &last));
    let blocks: Vec<Block> = (0..DEPTH).map(|n| Block::new(device, n)).collect();
    Box::new(move || {
        let mut x = embed.forward(patches.clone()) + positions.clone();
        for block in &blocks {
            x = block.forward(x);
        }
        last.forward(x).unsqueeze()
    })
}

/// A case on the adapter that keraunos has, a processor or the best card; none where burn is not asked.
pub fn contender(case: Case, cpu: bool) -> Option<Box<dyn Contender>> {
    let device = Device::wgpu(match cpu {
        true => DeviceKind::Cpu,
        false => DeviceKind::DefaultDevice,
    });
    let mut ours = [0, 1, 2, 3];
    let step: Step = match case {
        Case::Matmul { side } => {
            let x = upload(&device, [side, side], numbers(0, side * side, 1.0));
            let w = turned(&weights(1, side, side), side);
            let w = upload(&device, [side, side], w);
            Box::new(move || x.clone().matmul(w.clone()).unsqueeze())
        }
        Case::Conv { channels, side } => {
            let x = numbers(0, side * side * channels, 1.0);
            let x = upload(&device, [1, side, side, channels], x).permute([0, 3, 1, 2]);
            let w = weights(1, channels, 9 * channels);
            let w = upload(&device, [channels, 3, 3, channels], w).permute([0, 3, 1, 2]);
            // As pictures and weights lie in burn's models: copied, not seen through strides.
            let [x, w] = [x, w].map(|t| Tensor::<4>::from_data(t.into_data(), &device));
            let bias = upload(&device, [channels], numbers(2, channels, 0.1));
            ours = [0, 2, 3, 1];
            Box::new(move || {
                let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
                conv2d(x.clone(), w.clone(), Some(bias.clone()), options)
            })
        }
        Case::Attention {
            queries,
            keys,
            heads,
            width,
        } => {
            let heads_first = |seed, rows| {
                let values = numbers(seed, rows * heads * width, cases::attention_scale(seed));
                let rows = upload(&device, [1, rows, heads, width], values).swap_dims(1, 2);
                Tensor::<4>::from_data(rows.into_data(), &device)
            };
            let (q, k, v) = (
                heads_first(0, queries),
                heads_first(1, keys),
                heads_first(2, keys),
            );
            ours = [0, 2, 1, 3];
            Box::new(move || {
                let options = AttentionModuleOptions::default();
                attention(q.clone(), k.clone(), v.clone(), None, None, options)
            })
        }
        Case::Vit { pixels } => vit(&device, (pixels / 16) * (pixels / 16)),
        Case::Decoder | Case::Zeus => return None,
    };
    Some(Box::new(Burn { device, step, ours }))
}
