// c[i, j] += sum_k a[i, k] · b[k, j]  in tiles of 8 × 8, a and b f16, c f32
//
// Metal's simdgroup matrices.

const TILE: u32 = 8;

alias MatrixA = coop_mat8x8<f16, A>;
alias MatrixB = coop_mat8x8<f16, B>;
alias MatrixC = coop_mat8x8<f32, C>;
alias Sum = f32;
