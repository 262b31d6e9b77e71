//! A server for one page: GET and HEAD of a fixed table of names, for this machine alone.
//!
//! It listens on 127.0.0.1. A request must begin with a token that nobody can guess, and ask for the host by
//! an address of this machine, so that no page from elsewhere reaches it through a browser. What is asked for is looked up in the table as it
//! stands: no path is ever made from it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Connections that are answered at a time; browsers open six.
const WORKERS: usize = 8;
/// The most bytes of a request, and the most headers.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// How long a request may take to arrive, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait after a connection that the system could not give.
const PAUSE: Duration = Duration::from_millis(50);
/// What a page may do: run and show what is served beside it, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What is sent under a name.
pub(super) struct Served {
    /// Its media type.
    pub(super) kind: &'static str,
    /// Whether it is sent compressed, for the browser to unpack.
    pub(super) gzip: bool,
    /// Its bytes.
    pub(super) content: Content,
}

/// Where bytes come from.
pub(super) enum Content {
    /// They are here.
    Bytes(Cow<'static, [u8]>),
    /// They are read from a file when they are asked for.
    File(PathBuf),
}

/// A page, ready to be asked for.
pub(super) struct Server {
    listener: TcpListener,
    site: Site,
}

/// What is answered, and to whom.
struct Site {
    port: u16,
    token: String,
    table: BTreeMap<String, Served>,
}

/// How a request ends.
struct Status {
    code: u16,
    reason: &'static str,
}

const BAD: Status = Status {
    code: 400,
    reason: "Bad Request",
};
const FORBIDDEN: Status = Status {
    code: 403,
    reason: "Forbidden",
};
const NOT_FOUND: Status = Status {
    code: 404,
    reason: "Not Found",
};
const NOT_ALLOWED: Status = Status {
    code: 405,
    reason: "Method Not Allowed",
};
const TOO_LARGE: Status = Status {
    code: 431,
    reason: "Request Header Fields Too Large",
};
const BROKEN: Status = Status {
    code: 500,
    reason: "Internal Server Error",
};

impl Server {
    /// Listens on `port`, 0 for one that is free. `table` holds what is served; the page itself has the empty name.
    pub(super) fn new(port: u16, table: BTreeMap<String, Served>) -> Result<Self> {
        let refused = |e: io::Error| {
            Error::Argument(format!(
                "port {port} of 127.0.0.1 cannot be listened on: {e}"
            ))
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(refused)?;
        let port = listener.local_addr().map_err(refused)?.port();
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|e| refused(io::Error::other(e)))?;
        let site = Site {
            port,
            token: crate::tensor::hex(&secret),
            table,
        };
        Ok(Self { listener, site })
    }

    /// The page's address.
    pub(super) fn address(&self) -> String {
        format!("http://127.0.0.1:{}/{}/", self.site.port, self.site.token)
    }

    /// Answers until the program ends.
    pub(super) fn run(&self) {
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    loop {
                        match self.listener.accept() {
                            // A connection that breaks is the browser's to make again.
                            Ok((stream, _)) => drop(self.talk(&stream)),
                            // Where the system has no connection left, asking at once would only keep it busy.
                            Err(_) => std::thread::sleep(PAUSE),
                        }
                    }
                });
            }
        });
    }

    fn talk(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        match read_head(&mut stream)? {
            Ok(head) => self.site.answer(&mut stream, &head)?,
            Err(status) => refuse(&mut stream, &status)?,
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        // What was not read, the body of a refused request, would make the system take back the answer.
        io::copy(&mut (&mut &*stream).take(1 << 20), &mut io::sink())?;
        Ok(())
    }
}

impl Site {
    fn answer(&self, stream: &mut impl Write, head: &[u8]) -> io::Result<()> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = match request.parse(head) {
            Ok(status) => status.is_complete(),
            Err(httparse::Error::TooManyHeaders) => return refuse(stream, &TOO_LARGE),
            Err(_) => false,
        };
        let (Some(method), Some(target), true) = (request.method, request.path, parsed) else {
            return refuse(stream, &BAD);
        };
        if !self.is_own_host(request.headers) {
            return refuse(stream, &FORBIDDEN);
        }
        if !matches!(method, "GET" | "HEAD") {
            return refuse(stream, &NOT_ALLOWED);
        }
        let name = target
            .strip_prefix('/')
            .and_then(|rest| rest.strip_prefix(self.token.as_str()))
            .and_then(|rest| rest.strip_prefix('/'));
        let Some(served) = name.and_then(|name| self.table.get(name)) else {
            return refuse(stream, &NOT_FOUND);
        };
        send(stream, served, method == "GET")
    }

    /// Whether the one header `Host` is an address of this machine with the own port.
    fn is_own_host(&self, headers: &[httparse::Header<'_>]) -> bool {
        let hosts: Vec<&[u8]> = headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case("host"))
            .map(|header| header.value)
            .collect();
        let own = ["127.0.0.1", "localhost"].map(|name| format!("{name}:{}", self.port));
        matches!(hosts[..], [host] if own.iter().any(|own| host.eq_ignore_ascii_case(own.as_bytes())))
    }
}

/// The bytes up to the empty line that ends a request's head.
fn read_head(stream: &mut impl Read) -> io::Result<std::result::Result<Vec<u8>, Status>> {
    let began = Instant::now();
    let (mut head, mut chunk) = (Vec::new(), [0; 2048]);
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 || began.elapsed() > PATIENCE {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The end may lie across two reads.
        let from = head.len().saturating_sub(3);
        head.extend_from_slice(&chunk[..read]);
        if head[from..].windows(4).any(|end| end == b"\r\n\r\n") {
            return Ok(Ok(head));
        }
        if head.len() > MAX_HEAD {
            return Ok(Err(TOO_LARGE));
        }
    }
}

fn refuse(stream: &mut impl Write, status: &Status) -> io::Result<()> {
    let Status { code, reason } = status;
    let allow = match code {
        405 => "Allow: GET, HEAD\r\n",
        _ => "",
    };
    let text = format!("{code} {reason}\n");
    write!(
        stream,
        "HTTP/1.1 {code} {reason}\r\n{allow}Content-Type: text/plain\r\nContent-Length: {}\r\n{}\r\n{text}",
        text.len(),
        common()
    )
}

/// What every answer says.
fn common() -> String {
    format!(
        "Connection: close\r\nCache-Control: no-store\r\nContent-Security-Policy: {POLICY}\r\n\
         Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n\
         Referrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\n"
    )
}

fn send(stream: &mut impl Write, served: &Served, with_body: bool) -> io::Result<()> {
    let opened = match &served.content {
        Content::Bytes(bytes) => Ok((bytes.len() as u64, None)),
        Content::File(path) => {
            File::open(path).and_then(|file| Ok((file.metadata()?.len(), Some(file))))
        }
    };
    // It was there when the page was made.
    let Ok((length, file)) = opened else {
        return refuse(stream, &BROKEN);
    };
    let encoding = match served.gzip {
        true => "Content-Encoding: gzip\r\n",
        false => "",
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\n{encoding}Content-Type: {}\r\nContent-Length: {length}\r\n{}\r\n",
        served.kind,
        common()
    )?;
    if !with_body {
        return Ok(());
    }
    match (&served.content, file) {
        (_, Some(file)) => io::copy(&mut file.take(length), stream).map(drop),
        (Content::Bytes(bytes), None) => stream.write_all(bytes),
        (Content::File(_), None) => Ok(()),
    }
}

/// The token of [`answered`].
pub const VIEW_TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// What the server of a page at port 8080 and [`VIEW_TOKEN`] sends back for these bytes, without a connection: for the fuzzer of
/// requests. Nothing if it would only hang up.
pub fn answered(mut request: &[u8]) -> Vec<u8> {
    let page = Served {
        kind: "text/plain",
        gzip: false,
        content: Content::Bytes(Cow::Borrowed(b"the page")),
    };
    let site = Site {
        port: 8080,
        token: VIEW_TOKEN.to_owned(),
        table: BTreeMap::from([(String::new(), page)]),
    };
    let mut answer = Vec::new();
    let told = match read_head(&mut request) {
        Ok(Ok(head)) => site.answer(&mut answer, &head),
        Ok(Err(status)) => refuse(&mut answer, &status),
        Err(hung_up) => Err(hung_up),
    };
    // Memory takes every byte: the only failure is a request that ends too early.
    told.map_or_else(|_| Vec::new(), |()| answer)
}
