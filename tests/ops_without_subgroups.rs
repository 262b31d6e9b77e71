//! The tests of every op once more, by the kernels that adapters without subgroups run.

#[path = "ops/main.rs"]
mod ops;
