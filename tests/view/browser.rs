//! A browser without a screen, spoken to through pipes in the DevTools protocol.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a page may take; software renders it.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    sent: u64,
    session: Option<String>,
    /// What it told unasked.
    pub events: Vec<Value>,
    _profile: tempfile::TempDir,
}

/// The browser that KERAUNOS_CHROMIUM names, or the first of the usual names.
pub fn found() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("KERAUNOS_CHROMIUM") {
        return Some(named.into());
    }
    let folders = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let all = std::env::split_paths(&folders).flat_map(|f| names.map(|name| f.join(name)));
    all.into_iter().find(|path| path.is_file())
}

impl Browser {
    /// Opens a window of some size in pixels, for a page in light or dark colours.
    pub fn open(program: &std::path::Path, [width, height]: [u32; 2], scheme: &str) -> Self {
        let profile = tempfile::tempdir().expect("a folder");
        // The protocol is spoken on descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args([
                "-c",
                "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1",
                "sh",
            ])
            .arg(program)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--remote-debugging-pipe",
                "--no-first-run",
            ])
            .args([
                "--use-gl=angle",
                "--use-angle=swiftshader",
                "--enable-unsafe-swiftshader",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-lcd-text",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let mut browser = Self {
            child,
            to: to.expect("a pipe"),
            from: BufReader::new(from.expect("a pipe")),
            sent: 0,
            session: None,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        browser.call("Emulation.setDeviceMetricsOverride", size);
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.call("Emulation.setEmulatedMedia", media);
        browser
    }

    /// The result of one command.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        write!(self.to, "{message}\0").expect("the browser listens");
        loop {
            let mut bytes = Vec::new();
            self.from
                .read_until(0, &mut bytes)
                .expect("the browser talks");
            assert_eq!(bytes.pop(), Some(0), "the browser went away");
            let mut answer: Value = serde_json::from_slice(&bytes).expect("JSON");
            if answer["id"] != json!(self.sent) {
                self.events.push(answer);
                continue;
            }
            assert!(answer.get("error").is_none(), "{method}: {answer}");
            return answer["result"].take();
        }
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub fn eval(&mut self, expression: &str) -> Value {
        let asked =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", asked);
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].take()
    }

    /// Goes to a page and waits until it says what has become of it.
    pub fn visit(&mut self, url: &str) -> String {
        self.call("Page.navigate", json!({ "url": url }));
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let state = self.eval("document.documentElement?.dataset.state ?? ''");
            if matches!(state.as_str(), Some("ready" | "failed")) {
                return state.as_str().unwrap_or_default().to_owned();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the page is not ready: {:?}", self.events.last());
    }

    /// Presses a key and lets it go.
    pub fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key });
            if key.chars().count() == 1 && kind == "keyDown" {
                event["text"] = json!(key);
            }
            if key == "Tab" {
                event["windowsVirtualKeyCode"] = json!(9);
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// What the window shows, once it is drawn.
    pub fn picture(&mut self) -> image::RgbImage {
        self.eval("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))");
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let png = base64(shot["data"].as_str().expect("a picture"));
        image::load_from_memory(&png).expect("a PNG").to_rgb8()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let letters: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(value).collect();
    let bytes = letters.chunks(4).flat_map(|four| {
        let bits = (0..4).fold(0_u32, |bits, i| {
            bits << 6 | u32::from(*four.get(i).unwrap_or(&0))
        });
        bits.to_be_bytes()[1..four.len()].to_vec()
    });
    bytes.collect()
}
