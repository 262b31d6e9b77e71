//! Writing files so that they are there whole or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::volume::SUFFIXES;
use crate::error::{Error, Result};
pub use crate::tensor::read_bounded;

/// What nobody is to see yet: it goes if the program is ended.
#[derive(Debug)]
struct Underway {
    /// Files and folders under temporary names.
    parts: BTreeSet<PathBuf>,
    /// Folders that were made for results: they go if they are empty.
    made: BTreeSet<PathBuf>,
}

static UNDERWAY: Mutex<Underway> = Mutex::new(Underway {
    parts: BTreeSet::new(),
    made: BTreeSet::new(),
});

fn underway() -> MutexGuard<'static, Underway> {
    UNDERWAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes everything that is half written. As long as the result is kept no file appears under its
/// final name, and none is begun: whoever ends the program keeps it until the end.
pub fn abandon() -> impl Drop {
    struct Kept(MutexGuard<'static, Underway>);
    impl Drop for Kept {
        fn drop(&mut self) {
            self.0.parts.clear();
        }
    }
    let underway = underway();
    // What cannot be removed has a name that begins with a dot, and the program ends in any case.
    for part in &underway.parts {
        let _ = match part.is_dir() {
            true => fs::remove_dir_all(part),
            false => fs::remove_file(part),
        };
    }
    for folder in underway.made.iter().rev() {
        let _ = fs::remove_dir(folder);
    }
    Kept(underway)
}

/// Makes a folder and those above it; if the program is ended, it goes again unless something is in it.
///
/// # Errors
///
/// [`Error::Write`].
pub fn make_folder(folder: &Path) -> Result<()> {
    let mut underway = underway();
    let mut above = Some(folder);
    while let Some(missing) = above.filter(|path| !path.as_os_str().is_empty() && !path.exists()) {
        underway.made.insert(missing.to_path_buf());
        above = missing.parent();
    }
    fs::create_dir_all(folder).map_err(Error::write(folder))
}

/// [`read_bounded`] of text.
///
/// # Errors
///
/// As [`read_bounded`], and [`Error::Config`] for bytes that are no UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    let bytes = read_bounded(path, most)?;
    String::from_utf8(bytes).map_err(|_| Error::config(path, "is not UTF-8 text"))
}

/// A folder beside results in which they are written under their names, to appear together.
#[derive(Debug)]
pub struct Staging(tempfile::TempDir);

impl Staging {
    /// In the folder of the results.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn new(folder: &Path) -> Result<Self> {
        let mut underway = underway();
        let made = tempfile::Builder::new()
            .prefix(".keraunos-")
            .tempdir_in(folder)
            .map_err(Error::write(folder))?;
        underway.parts.insert(made.path().to_path_buf());
        Ok(Self(made))
    }

    /// Where the results are written first.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Moves the files to `paths`, which name each by its own name. The last one vouches for the others: what
    /// was there under its name goes first, and it comes last.
    ///
    /// # Errors
    ///
    /// [`Error::Write`], if one of them is a folder or no regular file before anything is moved.
    pub fn commit(self, paths: &[PathBuf]) -> Result<()> {
        let targets = paths
            .iter()
            .map(|path| target(path).map_err(Error::write(path)))
            .collect::<Result<Vec<_>>>()?;
        // An end of the program waits until all are there, or comes before the first.
        let underway = underway();
        if let (Some(last), Some(path)) = (targets.last(), paths.last()) {
            match fs::remove_file(last) {
                // None was there, or another process has just removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(Error::write(path))?,
            }
        }
        for (path, target) in paths.iter().zip(&targets) {
            let name = path.file_name().unwrap_or_default();
            fs::rename(self.path().join(name), target).map_err(Error::write(path))?;
        }
        drop(underway);
        for target in &targets {
            sync_folder(&folder_of(target));
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let mut underway = underway();
        // What cannot be removed is tried again as the folder itself is dropped.
        let _ = fs::remove_dir_all(self.path());
        underway.parts.remove(self.path());
    }
}

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
    let target = target(path)?;
    let folder = folder_of(&target);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".keraunos-").suffix(".part");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // What `File::create` would ask for; the process's umask still applies.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let part = {
        let mut underway = underway();
        let part = builder.tempfile_in(&folder)?;
        underway.parts.insert(part.path().to_path_buf());
        part
    };
    let name = part.path().to_path_buf();
    let written = (|| {
        let mut writer = BufWriter::with_capacity(1 << 18, part.as_file());
        fill(&mut writer)?;
        // Dropping a `BufWriter` would lose the error of its last write.
        writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()
    })();
    let mut underway = underway();
    underway.parts.remove(&name);
    if let Err(error) = written {
        drop(part);
        return Err(error);
    }
    part.persist(&target).map_err(|failed| failed.error)?;
    drop(underway);
    sync_folder(&folder);
    Ok(())
}

/// The regular file that `path` is or shall be, through a link.
fn target(path: &Path) -> io::Result<PathBuf> {
    let target = match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(refused("it is a folder")),
        Ok(found) if !found.is_file() => return Err(refused("it is not a regular file")),
        Ok(_) => fs::canonicalize(path)?,
        Err(_) => path.to_path_buf(),
    };
    match target.file_name() {
        Some(_) => Ok(target),
        None => Err(refused("it names no file")),
    }
}

/// Makes new names in a folder durable.
fn sync_folder(folder: &Path) {
    if cfg!(unix) {
        // Some network disks cannot sync a folder; the files are complete there all the same.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
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

/// The volumes in a folder and the folders in it, by path; of a `.hdr` and `.img` pair the
/// header. Names that begin with a dot are passed over.
///
/// # Errors
///
/// [`Error::Read`] for a folder that cannot be listed.
pub fn volumes_under(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_header = |suffix: &&str| !suffix.starts_with(".img");
    let suffixes: Vec<&str> = SUFFIXES.into_iter().filter(is_header).collect();
    files_under(folder, &suffixes)
}

/// The files in a folder and the folders in it whose names end in one of some suffixes, in any case, by path.
/// Names that begin with a dot are passed over.
///
/// # Errors
///
/// [`Error::Read`] for a folder that cannot be listed.
pub fn files_under(folder: &Path, suffixes: &[&str]) -> Result<Vec<PathBuf>> {
    /// Deeper than any data set; a link to a folder above itself ends here.
    const DEEPEST: usize = 12;
    let mut found = Vec::new();
    let mut open = vec![(folder.to_path_buf(), 0)];
    while let Some((folder, depth)) = open.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::read(&folder))? {
            let path = entry.map_err(Error::read(&folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.to_lowercase();
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
    sha256_of(&[path])
}

/// SHA-256 of files one after the other, in lower-case hexadecimal.
///
/// # Errors
///
/// [`Error::Read`].
pub fn sha256_of(paths: &[impl AsRef<Path>]) -> Result<String> {
    use sha2::{Digest, Sha256};
    use std::io::Read;
    let (mut hasher, mut bytes) = (Sha256::new(), vec![0; 1 << 16]);
    for path in paths.iter().map(AsRef::as_ref) {
        let mut file = File::open(path).map_err(Error::read(path))?;
        loop {
            match file.read(&mut bytes).map_err(Error::read(path))? {
                0 => break,
                count => hasher.update(&bytes[..count]),
            }
        }
    }
    Ok(crate::tensor::hex(&hasher.finalize()))
}
