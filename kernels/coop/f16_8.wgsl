// c[i, j] += sum_k a[i, k] · b[k, j]  in tiles of 8 × 8, all of it f16
//
// What the software driver offers since Mesa 25. Sums of hundreds lose digits in f16, so no op takes it by itself;
// it is here so that the kernels run somewhere without a card.

const TILE: u32 = 8;

alias MatrixA = coop_mat8x8<f16, A>;
alias MatrixB = coop_mat8x8<f16, B>;
alias MatrixC = coop_mat8x8<f16, C>;
alias Sum = f16;
