//! The versions that Cargo.lock has, for the table.

use std::fs;

fn main() {
    println!("cargo:rerun-if-changed=Cargo.lock");
    let lock = fs::read_to_string("Cargo.lock").expect("Cargo.lock");
    for (name, package) in [
        ("KERAUNOS_VERSION", "keraunos"),
        ("WGPU_VERSION", "wgpu"),
        ("BURN_VERSION", "burn"),
        ("CANDLE_VERSION", "candle-core"),
    ] {
        let head = format!("name = \"{package}\"\nversion = \"");
        let (_, rest) = lock.split_once(&head).expect(package);
        let (version, _) = rest.split_once('"').expect(package);
        println!("cargo:rustc-env={name}={version}");
    }
}
