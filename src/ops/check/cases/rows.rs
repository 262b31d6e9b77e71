//! Norms, and what is done to rows and elements.

use super::subgroup_team;
use crate::error::Result;
use crate::gpu::{Gpu, Variant};
use crate::ops::check::inputs::{numbers, random, upload};
use crate::ops::check::{Ran, bits, values};
use crate::ops::{
    Activation, LAYER_NORM, LAYER_NORM_SUBGROUP, RMS_NORM, RMS_NORM_SUBGROUP, add_scaled, argmax,
    copy_rows, cross_entropy, film, fourier, gather_rows, instance_norm, layer_norm_by, mean_pool,
    mean_rows, merged_moments, moments, naive, plain_team, rms_norm_by,
};

pub(super) fn check_add(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (a, b) = (random(1, 7 * 36), random(2, 36));
    let want = naive::add(&a, &b, 0.5);
    let (a, b) = (upload(gpu, [7, 36], &a)?, upload(gpu, 36, &b)?);
    values(gpu, want, |rec| vec![add_scaled(rec, &a, &b, 0.5)])
}

pub(super) fn check_argmax(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    // 1009 columns of few different values: ties, of which the first counts.
    let x: Vec<f32> = numbers(3, 3 * 1012)
        .map(|bits| (bits % 31) as f32)
        .collect();
    let want = naive::argmax(&x, 1012, 1009);
    let x = upload(gpu, [3, 1012], &x)?;
    bits(gpu, &want, |rec| vec![argmax(rec, &x, 1009)])
}

pub(super) fn check_copy_rows(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (x, mut want) = (random(12, 3 * 12), random(13, 20 * 12));
    let y = upload(gpu, [20, 12], &want)?;
    naive::copy_rows(&x, &mut want, 12, 6, 2, 3);
    let x = upload(gpu, [3, 12], &x)?;
    values(gpu, want, |rec| {
        copy_rows(rec, &x, &y, 6, 2, 3);
        vec![y.clone()]
    })
}

pub(super) fn check_instance_norm(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let x = random(31, 37 * 12);
    let moments = naive::moments(&x, 37, 12);
    let want = naive::instance_norm(&x, &moments, 1e-5, Activation::Gelu);
    let (x, moments) = (
        upload(gpu, [37, 12], &x)?,
        upload(gpu, [1, 2, 12], &moments)?,
    );
    values(gpu, want, |rec| {
        vec![instance_norm(rec, &x, &moments, 1e-5, Activation::Gelu)]
    })
}

pub(super) fn check_moments(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let x = random(32, 5 * 7 * 12);
    let want = [naive::moments(&x, 7, 12), naive::moments(&x, 5 * 7, 12)];
    let x = upload(gpu, [5 * 7, 12], &x)?;
    values(gpu, want.concat(), |rec| {
        let lines = moments(rec, &x, 7);
        let all = merged_moments(rec, &lines, 5);
        vec![lines, all]
    })
}

pub(super) fn check_gather_rows(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let x = random(19, 20 * 12);
    let want = naive::gather_rows(&x, 12, 6, 2, 3);
    let x = upload(gpu, [20, 12], &x)?;
    values(gpu, want, |rec| vec![gather_rows(rec, &x, 6, 2, 3)])
}

pub(super) fn check_film(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (x, gamma, beta) = (random(72, 7 * 12), random(73, 5 * 12), random(74, 5 * 12));
    let want = naive::film(&x, &gamma, &beta, 12);
    let x = upload(gpu, [7, 12], &x)?;
    let (gamma, beta) = (upload(gpu, [5, 12], &gamma)?, upload(gpu, [5, 12], &beta)?);
    values(gpu, want, |rec| vec![film(rec, &x, &gamma, &beta)])
}

pub(super) fn check_fourier(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (x, weight) = (random(70, 67 * 2), random(71, 2 * 68));
    let weight: Vec<f32> = weight.iter().map(|v| 3.0 * v).collect();
    let want = naive::fourier(&x, &weight);
    let (x, weight) = (upload(gpu, [67, 2], &x)?, upload(gpu, [2, 68], &weight)?);
    values(gpu, want, |rec| vec![fourier(rec, &x, &weight)])
}

pub(super) fn check_layer_norm(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    check_layer_norm_by(gpu, &plain_team(gpu, &LAYER_NORM))
}

pub(super) fn check_layer_norm_subgroup(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    check_layer_norm_by(gpu, &subgroup_team(gpu, &LAYER_NORM_SUBGROUP))
}

fn check_layer_norm_by(gpu: &Gpu, team: &Variant) -> Result<Ran> {
    let (x, w, b) = (random(20, 67 * 132), random(21, 132), random(22, 132));
    let want = naive::layer_norm(&x, &w, &b, 1e-6);
    let x = upload(gpu, [67, 132], &x)?;
    let (w, b) = (upload(gpu, 132, &w)?, upload(gpu, 132, &b)?);
    values(gpu, want, |rec| {
        vec![layer_norm_by(
            rec,
            team.clone(),
            &x,
            &w,
            &b,
            1e-6,
            Activation::None,
        )]
    })
}

pub(super) fn check_mean_pool(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let spans: [[u32; 2]; 4] = [[0, 1], [39, 1], [3, 17], [0, 40]];
    let x = random(30, 40 * 260);
    let mut want = naive::mean_pool(&x, &spans, 260);
    want.extend(naive::mean_rows(&x, &spans, 260));
    let x = upload(gpu, [40, 260], &x)?;
    let span = upload(gpu, [spans.len(), 2], spans.as_flattened())?;
    values(gpu, want, |rec| {
        vec![mean_pool(rec, &x, &span), mean_rows(rec, &x, &span)]
    })
}

pub(super) fn check_rms_norm(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    check_rms_norm_by(gpu, &plain_team(gpu, &RMS_NORM))
}

pub(super) fn check_rms_norm_subgroup(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    check_rms_norm_by(gpu, &subgroup_team(gpu, &RMS_NORM_SUBGROUP))
}

fn check_rms_norm_by(gpu: &Gpu, team: &Variant) -> Result<Ran> {
    let (x, w) = (random(35, 67 * 132), random(36, 132));
    let want = naive::rms_norm(&x, &w, 1e-5);
    let (x, w) = (upload(gpu, [67, 132], &x)?, upload(gpu, 132, &w)?);
    values(gpu, want, |rec| {
        vec![rms_norm_by(rec, team.clone(), &x, &w, 1e-5)]
    })
}

pub(super) fn check_cross_entropy(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (rows, stride, cols) = (5, 332, 331);
    let x: Vec<f32> = random(53, rows * stride).iter().map(|v| 30.0 * v).collect();
    let tokens = [0u32, 330, 17, 64, 255];
    let want = naive::cross_entropy(&x, &tokens, stride, cols);
    let (x, tokens) = (
        upload(gpu, [rows, stride], &x)?,
        upload(gpu, rows, &tokens)?,
    );
    values(gpu, want, |rec| vec![cross_entropy(rec, &x, &tokens, cols)])
}
