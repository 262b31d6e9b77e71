//! Files that are written whole or not at all.

use keraunos::pipeline::files::{atomic_write, same_file};
use keraunos::pipeline::volume::write_map;

use super::*;

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let folder = Folder::new();
    let path = folder.put("out.nii", b"old");
    let failed = atomic_write(&path, |out| {
        out.write_all(&[1; 1 << 20])?;
        Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
    });
    assert!(matches!(failed, Err(Error::Write { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(folder.names(), ["out.nii"]);
    atomic_write(&path, |out| out.write_all(b"new")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(folder.names(), ["out.nii"]);
    let nowhere = atomic_write(&folder.path("no/out.nii"), |out| out.write_all(b"x"));
    assert!(nowhere.unwrap_err().to_string().contains("out.nii"));
    assert!(
        atomic_write(folder.0.path(), |_| Ok(()))
            .unwrap_err()
            .to_string()
            .contains("a folder")
    );
}

#[cfg(unix)]
#[test]
fn devices_links_and_permissions() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = Folder::new();
    let device = atomic_write(Path::new("/dev/null"), |out| out.write_all(b"x"));
    assert!(
        device
            .unwrap_err()
            .to_string()
            .contains("not a regular file")
    );
    let real = folder.put("real.nii", b"old");
    let link = folder.path("link.nii");
    symlink(&real, &link).unwrap();
    atomic_write(&link, |out| out.write_all(b"new")).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&real).unwrap(), b"new");
    // Readable by whoever a plain `File::create` would let read.
    fs::File::create(folder.path("plain")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&real), mode(&folder.path("plain")));
    // One file under several names.
    fs::hard_link(&real, folder.path("hard.nii")).unwrap();
    assert!(same_file(&real, &link));
    assert!(same_file(&real, &folder.path("hard.nii")));
    assert!(same_file(&folder.path("new"), &folder.path("./new")));
    assert!(!same_file(&real, &folder.path("new")));
    assert!(!same_file(&folder.path("plain"), &real));
}

/// A disk that takes no more: this test runs itself again under a limit on the size of files.
#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    if let Some(folder) = std::env::var_os("KERAUNOS_TEST_FULL_DISK") {
        let folder = PathBuf::from(folder);
        let volume = Volume::read(&folder.join("in.nii.gz")).unwrap();
        // Noise, so that compression does not make it fit.
        let mut state = 1_u32;
        let noise: Vec<f32> = (0..volume.data.len())
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state as f32
            })
            .collect();
        for name in ["out.nii", "out.nii.gz"] {
            let failed = write_map(&folder.join(name), &volume, &noise);
            assert!(matches!(failed, Err(Error::Write { .. })), "{failed:?}");
        }
        return;
    }
    let folder = Folder::new();
    folder.put("in.nii.gz", &gzip(&Made::new([40, 40, 40], 4).counting()));
    let ran = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" --exact atomic::a_full_disk_is_an_error_and_leaves_nothing"])
        .arg(std::env::current_exe().unwrap())
        .env("KERAUNOS_TEST_FULL_DISK", folder.0.path())
        .output()
        .unwrap();
    // A name that means no test is no failure to a test program.
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && told.contains("1 passed"), "{told}");
    assert_eq!(folder.names(), ["in.nii.gz"]);
    // And the real error number, where the system has a full device.
    if Path::new("/dev/full").exists() {
        use std::io::Write;
        let full = atomic_write(&folder.path("out.nii"), |_| {
            fs::OpenOptions::new()
                .write(true)
                .open("/dev/full")?
                .write_all(b"x")
        });
        assert!(full.unwrap_err().to_string().contains("No space left"));
        assert_eq!(folder.names(), ["in.nii.gz"]);
    }
}
