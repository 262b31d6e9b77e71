// c[i, j] += sum_k a[i, k] · b[k, j]  in tiles of 16 × 16, a and b f16, c f32
//
// Tensor cores by Vulkan: what NVIDIA, AMD and Intel cards with cooperative matrices have.

const TILE: u32 = 16;

alias MatrixA = coop_mat16x16<f16, A>;
alias MatrixB = coop_mat16x16<f16, B>;
alias MatrixC = coop_mat16x16<f32, C>;
alias Sum = f32;
