//! Writing a file so that it is there whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes `path` through `fill`, atomically.
///
/// The bytes go to a temporary file in the same folder, which is flushed, synced to the disk and
/// only then renamed to `path`; a symbolic link is followed, so that it keeps pointing at what
/// was written. When anything fails (`fill` itself, a full disk, a read-only folder) the
/// temporary file is removed and whatever `path` held before is untouched.
///
/// # Errors
///
/// [`Error::Write`] with the system's reason; also when `path` is a folder, a device or a pipe,
/// which a rename would replace.
pub fn atomic_write(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    replace(path, fill).map_err(Error::write(path))
}

fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let target = match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(refused("it is a folder")),
        Ok(found) if !found.is_file() => return Err(refused("it is not a regular file")),
        Ok(_) => fs::canonicalize(path)?,
        Err(_) => path.to_path_buf(),
    };
    if target.file_name().is_none() {
        return Err(refused("it names no file"));
    }
    let folder = folder_of(&target);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".keraunos-").suffix(".part");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // What `File::create` would ask for; the process's umask still applies.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let part = builder.tempfile_in(&folder)?;
    let mut writer = BufWriter::with_capacity(1 << 18, part.as_file());
    fill(&mut writer)?;
    // Dropping a `BufWriter` would lose the error of its last write.
    writer
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()?;
    part.persist(&target).map_err(|failed| failed.error)?;
    if cfg!(unix) {
        // The new name is durable once its folder is. Some network disks cannot sync one; the
        // file is complete there all the same.
        let _ = File::open(&folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.to_owned())
}

/// The folder that holds `path`: its parent, or `.` for a bare name.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Whether two paths name one file, through links and relative parts; neither has to exist.
///
/// Two hard links of one file are one file. A file that does not exist yet is compared by its
/// folder and name.
pub fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((identity(a), identity(b)), (Some(a), Some(b)) if a == b)
}

#[derive(PartialEq)]
enum Identity {
    #[cfg(unix)]
    Node(u64, u64),
    Path(PathBuf),
}

fn identity(path: &Path) -> Option<Identity> {
    #[cfg(unix)]
    if let Ok(found) = fs::metadata(path) {
        use std::os::unix::fs::MetadataExt;
        return Some(Identity::Node(found.dev(), found.ino()));
    }
    if let Ok(whole) = fs::canonicalize(path) {
        return Some(Identity::Path(whole));
    }
    let folder = fs::canonicalize(folder_of(path)).ok()?;
    Some(Identity::Path(folder.join(path.file_name()?)))
}

/// The NIfTI volumes in a folder and the folders in it, by path; of a `.hdr` and `.img` pair the
/// header. Names that begin with a dot are passed over.
///
/// # Errors
///
/// [`Error::Read`] for a folder that cannot be listed.
pub fn volumes_under(folder: &Path) -> Result<Vec<PathBuf>> {
    /// Deeper than any data set; a link to a folder above itself ends here.
    const DEEPEST: usize = 12;
    let mut found = Vec::new();
    let mut open = vec![(folder.to_path_buf(), 0)];
    while let Some((folder, depth)) = open.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::read(&folder))? {
            let path = entry.map_err(Error::read(&folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.to_lowercase();
            let suffixes = [".nii", ".nii.gz", ".hdr", ".hdr.gz"];
            if name.starts_with('.') {
                continue;
            } else if path.is_dir() {
                if depth < DEEPEST {
                    open.push((path, depth + 1));
                }
            } else if suffixes.iter().any(|suffix| name.ends_with(suffix)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// SHA-256 of a file, in lower-case hexadecimal.
///
/// # Errors
///
/// [`Error::Read`].
pub fn sha256(path: &Path) -> Result<String> {
    use sha2::{Digest, Sha256};
    use std::io::Read;
    let mut file = File::open(path).map_err(Error::read(path))?;
    let (mut hasher, mut bytes) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut bytes).map_err(Error::read(path))? {
            0 => return Ok(crate::tensor::hex(&hasher.finalize())),
            count => hasher.update(&bytes[..count]),
        }
    }
}
