//! The adapter's floor: the same answer every time, from every thread and without bounds checks, and
//! errors in words instead of panics.

mod support;

use std::sync::Arc;

use keraunos::error::Error;
use keraunos::gpu::{Bind, Gpu, GpuOptions, Kernel, Profile, Recorder, Variant};
use keraunos::ops::*;
use keraunos::tensor::{Matrix, Tensor};
use support::{Random, gpu, open, read, weights};

/// A short forward pass through kernels of every kind; the bits of its result.
fn forward(gpu: &Gpu, seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed);
    let upload = |shape: [usize; 2], values: &[f32]| match Tensor::upload(gpu, "x", shape, values) {
        Ok(tensor) => tensor,
        Err(error) => panic!("{error}"),
    };
    let qkv = weights(gpu, &mut random, "q4_1", [192, 64]).matrix;
    let out = weights(gpu, &mut random, "q8_0", [64, 64]).matrix;
    let taps = weights(gpu, &mut random, "f16", [64, 9 * 64]).matrix;
    let bias = upload([1, 192], &random.values(192)).reshape(192);
    let norm = upload([1, 64], &random.values(64)).reshape(64);
    let short = upload([1, 64], &random.values(64)).reshape(64);
    let mut x = upload([35, 64], &random.values(35 * 64));
    let rec = gpu.record("forward");
    for _ in 0..3 {
        let normed = layer_norm(&rec, &x, &norm, &short, 1e-6);
        let stacked = linear(&rec, &normed, &qkv, &bias, Activation::None, None);
        let heads = Heads {
            q: 4,
            kv: 4,
            width: 16,
        };
        let [q, k, v] = [0, 64, 128].map(|first| Columns::from(&stacked, first));
        let attended = attention(&rec, q, k, v, heads, 1, true);
        x = linear(&rec, &attended, &out, &short, Activation::Gelu, Some(&x));
        let picture = x.reshape([1, 5, 7, 64]);
        x = conv(
            &rec,
            &picture,
            &Window::square(3, 1, 1),
            &taps,
            &short,
            Activation::Relu,
            Residual::After(&picture),
        )
        .reshape([35, 64]);
        x = rms_norm(&rec, &x, &norm, 1e-5);
    }
    let last = gather_rows(&rec, &x, 1, 34, 1);
    let y = linear(&rec, &last, &out, &short, Activation::Silu, None);
    let y = add(&rec, &x, &y);
    read::<u32>(rec, &[&y]).swap_remove(0)
}

/// What is read late is what its own recording computed, whatever came after it and in whatever order it is read.
#[test]
fn recordings_overlap_and_keep_their_values_apart() {
    let gpu = open(true);
    let x = match Tensor::upload(&gpu, "x", [1, 64], &[1f32; 64]) {
        Ok(tensor) => tensor,
        Err(error) => panic!("{error}"),
    };
    let mut readings = Vec::new();
    for times in 1..=9 {
        let rec = gpu.record("overlapping");
        let mut sum = add(&rec, &x, &x);
        for _ in 1..times {
            sum = add(&rec, &sum, &x);
        }
        let reading = rec.begin_read(&[(&sum, 64), (&x, 1)]).unwrap();
        readings.push((times, reading));
    }
    let first = readings.remove(0);
    readings.reverse();
    readings.insert(4, first);
    for (times, reading) in readings {
        let values = reading.finish::<f32>().unwrap();
        assert_eq!(values, [vec![(times + 1) as f32; 64], vec![1.0]], "{times}");
    }
    let empty = gpu.record("empty").begin_read(&[]).unwrap();
    assert!(empty.finish::<f32>().unwrap().is_empty());
    let submission = gpu.record("empty").submit().unwrap();
    gpu.wait_for(&submission).unwrap();
    gpu.wait_for(&submission).unwrap();
}

#[test]
fn ten_runs_give_the_same_bits() {
    let first = forward(gpu(), 1);
    assert!(first.iter().all(|bits| f32::from_bits(*bits).is_finite()));
    for _ in 1..10 {
        assert_eq!(forward(gpu(), 1), first);
    }
}

/// What users run is compiled without bounds checks and without zeroed workgroup memory.
#[test]
fn unchecked_kernels_give_the_same_bits() {
    let unchecked = open(false);
    for seed in 0..4 {
        assert_eq!(forward(&unchecked, seed), forward(gpu(), seed));
    }
}

#[test]
fn two_threads_record_at_once() {
    let own = open(true);
    let want: Vec<_> = (0..2).map(|seed| forward(gpu(), seed)).collect();
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (own, want) = (&own, &want[seed as usize]);
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(forward(own, seed), *want);
                }
            });
        }
    });
}

/// Two recordings open on one thread do not take each other's memory, whichever ends first; a third
/// reads what the first left behind.
#[test]
fn recordings_may_overlap() {
    let gpu = gpu();
    let x = Tensor::upload(gpu, "x", [4], &[1f32, 2.0, 3.0, 4.0]).unwrap();
    let (a, b) = (gpu.record("a"), gpu.record("b"));
    let kept = add(&a, &x, &x);
    let mut y = add(&b, &x, &x);
    for _ in 0..10 {
        drop(add(&a, &kept, &x));
        y = add(&b, &y, &x);
    }
    a.submit().unwrap();
    let c = gpu.record("c");
    let z = add(&c, &kept, &x);
    // The memory behind `kept` is free once more, but not before `c` has read it.
    drop(kept);
    let taken = add(&b, &x, &x);
    assert_eq!(
        read::<f32>(b, &[&y, &taken]),
        [[12.0, 24.0, 36.0, 48.0], [2.0, 4.0, 6.0, 8.0]]
    );
    assert_eq!(read::<f32>(c, &[&z])[0], [3.0, 6.0, 9.0, 12.0]);
}

/// More parameters than one 64 KiB buffer holds.
#[test]
fn a_recording_may_be_long() {
    let gpu = gpu();
    let one = Tensor::upload(gpu, "one", [4], &[1f32; 4]).unwrap();
    let rec = gpu.record("long");
    let mut x = add_scaled(&rec, &one, &one, 0.0);
    for n in 0..1000 {
        // Every dispatch has its own parameters.
        x = add_scaled(&rec, &x, &one, if n % 2 == 0 { 1.0 } else { 0.5 });
    }
    assert_eq!(rec.dispatches(), 1001);
    let got = read::<f32>(rec, &[&x]).swap_remove(0);
    let mut want = 0f32;
    for n in 0..1000 {
        want = (want + 1.0) * if n % 2 == 0 { 1.0 } else { 0.5 };
    }
    assert_eq!(got, [want; 4]);
}

/// A driver's watchdog ends what takes seconds, so a graphics card gets a long recording in several submissions.
#[test]
fn a_recording_is_cut_where_a_card_would_take_long() {
    let matrix = |gpu: &Gpu| {
        let mut random = support::Random::new(3);
        Matrix::f32(gpu, "w", [512, 512], &random.values(512 * 512)).unwrap()
    };
    let run = |gpu: &Gpu| {
        let (w, bias) = (matrix(gpu), support::upload_to(gpu, [512], &[0.1f32; 512]));
        let rec = gpu.record("cut");
        let mut x = support::upload_to(gpu, [1024, 512], &[0.01f32; 1024 * 512]);
        for _ in 0..40 {
            x = linear(&rec, &x, &w, &bias, Activation::QuickGelu, None);
        }
        let submissions = rec.submissions();
        (submissions, read::<f32>(rec, &[&x]).swap_remove(0))
    };
    let as_card = GpuOptions {
        as_card: true,
        ..GpuOptions::default()
    };
    let card = Gpu::open(&as_card).unwrap();
    // 0.54 GFLOP each at the pace of a slow card, 50 GFLOP a second: a quarter of a second holds 22 of them.
    let (submissions, got) = run(&card);
    assert_eq!(submissions, 2);
    let (whole, want) = run(&Gpu::open(&GpuOptions::default()).unwrap());
    assert_eq!(whole, 1, "a software adapter has no watchdog");
    support::close(&got, &want, 1e-5, 1e-5);
}

#[test]
fn a_lost_adapter_is_an_error_everywhere() {
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    let one = Tensor::upload(&gpu, "one", [4], &[1f32; 4]).unwrap();
    let recorded = gpu.record("before");
    let y = add_scaled(&recorded, &one, &one, 1.0);
    let begun = gpu.record("begun");
    let z = add_scaled(&begun, &one, &one, 1.0);
    let reading = begun.begin_read(&[(&z, 4)]).unwrap();
    gpu.lose();
    let lost = |result: keraunos::Result<()>| {
        let error = result.expect_err("the adapter is lost").to_string();
        assert!(error.contains("was lost"), "{error}");
    };
    lost(reading.finish::<f32>().map(drop));
    lost(y.read(recorded).map(drop));
    lost(Tensor::upload(&gpu, "two", [4], &[2f32; 4]).map(drop));
    lost(gpu.wait());
    let rec = gpu.record("after");
    let y = add_scaled(&rec, &one, &one, 1.0);
    lost(y.read(rec).map(drop));
    // Another device on the same adapter is not concerned.
    let again = Gpu::open(&GpuOptions::default()).unwrap();
    let one = Tensor::upload(&again, "one", [4], &[1f32; 4]).unwrap();
    let rec = again.record("again");
    let y = add_scaled(&rec, &one, &one, 1.0);
    assert_eq!(y.read(rec).unwrap(), [2.0; 4]);
}

#[test]
fn nothing_can_be_read_back() {
    let gpu = gpu();
    let rec = gpu.record("empty");
    let none = Tensor::empty(&rec, [0, 4]);
    assert!(none.read(rec).unwrap().is_empty());
    gpu.record("empty").submit().unwrap();
}

#[test]
fn a_profile_times_every_dispatch() {
    let profile = Arc::new(Profile::default());
    let options = GpuOptions {
        profile: Some(profile.clone()),
        checked: true,
        ..GpuOptions::default()
    };
    let gpu = match Gpu::open(&options) {
        Ok(gpu) => gpu,
        Err(Error::Gpu(message)) if message.contains("timestamp") => return,
        Err(other) => panic!("{other}"),
    };
    gpu.record("empty").submit().unwrap();
    assert!(profile.timings().is_empty());
    let x = Tensor::upload(&gpu, "x", [4096], &vec![1f32; 4096]).unwrap();
    let rec = gpu.record("adds");
    let y = add(&rec, &x, &x);
    let z = add_scaled(&rec, &y, &y, 2.0);
    assert!(z.read(rec).unwrap().iter().all(|v| *v == 8.0));
    // More dispatches than one query set holds.
    let rec = gpu.record("many");
    let mut sum = add(&rec, &x, &x);
    for _ in 0..2100 {
        sum = add(&rec, &sum, &x);
    }
    drop(sum);
    rec.submit().unwrap();
    let timings = profile.timings();
    assert_eq!(timings.len(), 2 + 2101);
    assert!(timings.iter().all(|t| t.label == "add" && t.seconds < 1.0));
    // x twice counts once, and so does y.
    assert!(timings[..2].iter().all(|t| t.bytes == 2 * 4 * 4096));
    assert!(timings[2099..].iter().any(|t| t.seconds > 0.0));
}

/// What the self-check finds wrong is not used, and its stand-in computes the same.
#[test]
fn a_distrusted_kernel_is_left_out() {
    let profile = Arc::new(Profile::default());
    let options = GpuOptions {
        profile: Some(profile.clone()),
        checked: true,
        ..GpuOptions::default()
    };
    let gpu = match Gpu::open(&options) {
        Ok(gpu) => gpu,
        Err(Error::Gpu(message)) if message.contains("timestamp") => return,
        Err(other) => panic!("{other}"),
    };
    let ones = |rows: usize, cols: usize| {
        Tensor::upload(&gpu, "ones", [rows, cols], &vec![1f32; rows * cols]).unwrap()
    };
    let weight = Matrix::f32(&gpu, "w", [64, 32], &[0.5; 64 * 32]).unwrap();
    let picture = Matrix::f32(&gpu, "w", [64, 36], &[0.5; 64 * 36]).unwrap();
    let bias = Tensor::upload(&gpu, "b", [64], &[1f32; 64]).unwrap();
    let (wide, narrow) = (ones(20, 32), ones(20, 16));
    let pixels = ones(25, 4).reshape([1, 1, 5, 5, 4]);
    let heads = |width: usize| Heads { q: 1, kv: 1, width };
    let run = || {
        let before = profile.timings().len();
        let rec = gpu.record("all");
        let many = linear(&rec, &wide, &weight, &bias, Activation::None, None);
        let one = linear(&rec, &ones(1, 32), &weight, &bias, Activation::None, None);
        let window = Window::square(3, 1, 1);
        let none = Residual::None;
        let conv = conv(
            &rec,
            &pixels,
            &window,
            &picture,
            &bias,
            Activation::None,
            none,
        );
        let attend = |x: &Tensor, width: usize| {
            let all = Columns::all(x);
            attention(&rec, all, all, all, heads(width), 1, false)
        };
        let (wide, narrow) = (attend(&wide, 32), attend(&narrow, 16));
        let all = [&many, &one, &conv, &wide, &narrow];
        let wanted: Vec<(&dyn Bind, usize)> =
            all.iter().map(|t| (*t as &dyn Bind, t.len())).collect();
        let values = rec.read::<f32>(&wanted).unwrap();
        let labels = profile.timings()[before..]
            .iter()
            .map(|t| t.label.split([' ', '+']).next().unwrap().to_owned())
            .collect::<Vec<_>>();
        (values, labels)
    };
    let (want, _) = run();
    for (kernel, _) in STAND_INS {
        gpu.distrust(kernel, format!("{} is wrong", kernel.name));
    }
    let (got, labels) = run();
    assert_eq!(
        labels,
        ["linear", "linear", "conv", "attention", "attention"]
    );
    assert_eq!(want, got);
    assert_eq!(gpu.distrusted().len(), STAND_INS.len());
}

fn gpu_error<T>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Gpu(message)) => message,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("no error"),
    }
}

#[test]
fn more_than_a_binding_holds_is_an_error() {
    let own = open(true);
    let limit = own.max_binding_bytes() as usize;
    let message = gpu_error(own.upload("table", &vec![0u8; limit + 4]));
    assert!(
        message.contains("`table`") && message.contains(&limit.to_string()),
        "{message}"
    );
    gpu_error(Tensor::zeros(&own, "cache", [limit / 4 + 1]));
    // In the middle of a recording too, when it ends; and the adapter goes on.
    let x = Tensor::upload(&own, "x", [4], &[1f32; 4]).unwrap();
    let rec = own.record("big");
    let rows = limit / 16 + 1;
    let big = gather_from_one_row(&rec, &x, rows);
    let message = gpu_error(add(&rec, &big, &x).read(rec));
    assert!(message.contains(&limit.to_string()), "{message}");
    // A result that fills a binding is no error, whatever the pool rounds its size to.
    let rec = own.record("full");
    let full = gather_from_one_row(&rec, &x, limit / 16 - 1);
    let last = gather_rows(&rec, &full, 1, limit / 16 - 2, 1);
    assert_eq!(last.read(rec).unwrap(), [1.0; 4]);
}

fn gather_from_one_row(rec: &Recorder, x: &Tensor, rows: usize) -> Tensor {
    let y = Tensor::empty(rec, [rows, 4]);
    copy_rows(rec, &x.reshape([1, 4]), &y, rows, 0, 1);
    y
}

static BROKEN: Kernel = Kernel::new(
    "broken",
    "// y = x\n\n@compute @workgroup_size(64)\nfn main() {\n    let x = 1u + 1.0;\n}\n",
    &[],
);

static TOO_WIDE: Kernel = Kernel::new(
    "too_wide",
    "override WG: u32 = 64;\n@compute @workgroup_size(WG)\nfn main() {\n}\n",
    &[],
);

/// Refused by naga before the driver sees it, with the line; or by the device, with its reason.
#[test]
fn a_faulty_kernel_is_named_with_its_line() {
    let own = open(true);
    match own.prepare(&Variant::from(&BROKEN)) {
        Err(Error::Kernel { name, problem }) => {
            assert_eq!(name, "broken");
            assert!(problem.contains("broken:5"), "{problem}");
        }
        other => panic!("{other:?}"),
    }
    match own.prepare(&TOO_WIDE.set("WG", 1 << 20)) {
        Err(Error::Kernel { name, .. }) => assert_eq!(name, "too_wide WG=1048576"),
        other => panic!("{other:?}"),
    }
    // In a recording the first failure is kept, what follows is not recorded, and others are not hit.
    let x = Tensor::upload(&own, "x", [4], &[1f32; 4]).unwrap();
    let rec = own.record("faulty");
    rec.dispatch(&BROKEN, 0u32, &[], 1);
    let y = add(&rec, &x, &x);
    assert!(matches!(y.read(rec), Err(Error::Kernel { .. })));
    let rec = own.record("sound");
    assert_eq!(add(&rec, &x, &x).read(rec).unwrap(), [2.0; 4]);
}

/// A recording that the driver refuses fails itself; another one is not blamed for it.
#[test]
fn a_refused_recording_fails_alone() {
    let own = open(true);
    let x = Tensor::upload(&own, "x", [4], &[1f32; 4]).unwrap();
    let rec = own.record("refused");
    // One buffer read and written by one dispatch.
    copy_rows(&rec, &x.reshape([1, 4]), &x.reshape([1, 4]), 1, 0, 1);
    let message = gpu_error(rec.submit());
    assert!(!message.is_empty());
    let rec = own.record("sound");
    assert_eq!(add(&rec, &x, &x).read(rec).unwrap(), [2.0; 4]);
}

#[test]
fn an_unknown_device_is_answered_with_those_there_are() {
    let options = GpuOptions {
        device: Some("no such adapter".into()),
        ..GpuOptions::default()
    };
    let error = Gpu::open(&options).unwrap_err().to_string();
    let name = &Gpu::adapters()[0].name;
    assert!(
        error.contains("`no such adapter`") && error.contains(name),
        "{error}"
    );
}

/// The buffer of a tensor that is dropped goes to the next one of its size.
#[test]
fn dropped_memory_is_taken_again() {
    let own = open(true);
    let x = Tensor::upload(&own, "x", [1000], &vec![1f32; 1000]).unwrap();
    let rec = own.record("chain");
    let mut y = add(&rec, &x, &x);
    let mut sizes = vec![y.buffer().bytes()];
    for _ in 0..10 {
        y = add(&rec, &y, &x);
        sizes.push(y.buffer().bytes());
    }
    assert!(sizes.iter().all(|bytes| *bytes == sizes[0]));
    assert_eq!(y.read(rec).unwrap(), [12.0; 1000]);
}

keraunos::kernel! {
    /// The example's kernel, as somebody else's crate would declare it.
    WINDOW = "../examples/add_a_kernel.wgsl"; { len: u32, low: f32, high: f32 }
}

/// It may be wrong, so its bounds are checked even where the engine's own kernels go without.
#[test]
fn a_kernel_from_outside_runs_with_bounds_checks() {
    let gpu = open(false);
    let values = [-5f32, 0.0, 20.0, 40.0, 60.0, 80.0, 90.0, 8.0];
    let Ok(x) = Tensor::upload(&gpu, "x", values.len(), &values) else {
        panic!("no memory");
    };
    let rec = gpu.record("window");
    let y = Tensor::empty(&rec, values.len());
    // Far more than there are: without checks this would end the program or spoil other memory.
    let params = Params {
        len: u32::MAX,
        low: 0.0,
        high: 80.0,
    };
    rec.dispatch(&WINDOW, params, &[("x", &x), ("y", &y)], 60_000);
    let got = match y.read(rec) {
        Ok(got) => got,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(got[..7], [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0]);
}
