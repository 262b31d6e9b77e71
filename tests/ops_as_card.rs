//! The tests of every op once more, by the kernels and shares of work that a graphics card gets.

#[path = "ops/main.rs"]
mod ops;
