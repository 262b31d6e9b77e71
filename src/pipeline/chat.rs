//! Chat templates: how a conversation becomes the one text that a language model continues.
//!
//! The template is a Jinja program that comes with the model file, so it is run like one from a
//! stranger: it sees the messages and nothing else, stops after a fixed number of instructions,
//! and may not write more than a fixed number of bytes. It is rendered with the settings of the
//! `transformers` library (`trim_blocks`, `lstrip_blocks`, loop controls, Python's string
//! methods, `raise_exception`), but without its clock: the same words give the same prompt on
//! any day. What it makes costs fuel too, 64 bytes an instruction. Lists that are put together
//! cost nothing before they are walked, and a long text in a list that is repeated costs once until all are written
//! into one, so it runs in a thread of its own with a large stack and limits of time and memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, State, Value, context};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::error::{Error, Result};
use crate::pipeline::guard::guarded;
use crate::pipeline::memory::resident;
use crate::pipeline::tokenizer::read;
use crate::tensor::Gguf;

/// Instructions that one rendering may take; a long conversation needs some thousands.
const FUEL: u64 = 200_000;
/// The largest template that is accepted, in bytes; the largest in common use take 20 KB.
const MAX_SOURCE: usize = 256 << 10;
/// The longest text that a template may write, in bytes.
const MAX_OUTPUT: usize = 4 << 20;
/// How long one rendering may take; it takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much memory one rendering may take, in GB, where the system tells; it takes some megabytes.
const MOST_GIGABYTES: u64 = 1;
/// How often time and memory are looked at.
const GLANCE: Duration = Duration::from_millis(20);
/// The stack of a rendering, in bytes: a list that was put together item by item is walked and dropped item in item.
const STACK: usize = 256 << 20;
/// The widest indent of JSON that a template may ask for; templates that list tools have 2 or 4.
const MAX_INDENT: usize = 64;
/// How deep loops and macros may nest.
const MAX_RECURSION: usize = 64;
/// What the template is called inside its own environment.
const NAME: &str = "chat_template";

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// A part of a turn, for templates of models that see: `{"type": "image"}` or `{"type": "text", "text": …}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A picture; the template writes what stands for one.
    Image,
    /// What is said.
    Text(String),
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    environment: Arc<Environment<'static>>,
    /// `bos_token` and `eos_token`.
    marks: [String; 2],
}

impl ChatTemplate {
    /// The template of a GGUF file, its metadata `tokenizer.chat_template`.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] if the file has none, [`Error::Config`] if it is too long or does not
    /// compile.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        Self::new(gguf.path(), gguf.str("tokenizer.chat_template")?)
    }

    /// The template of a Hugging Face folder: `chat_template.jinja`, else `chat_template` in `chat_template.json` (of models
    /// that see) or `tokenizer_config.json`, of several the one called `default`. `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if a file cannot be read, [`Error::Config`] if it is no JSON, or the template is too long or does not
    /// compile.
    pub fn from_folder(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("chat_template.jinja");
        if path.is_file() {
            let source = String::from_utf8(read(&path)?)
                .map_err(|_| Error::config(&path, "chat template is not UTF-8 text"))?;
            return Self::new(&path, &source).map(Some);
        }
        for name in ["chat_template.json", "tokenizer_config.json"] {
            let path = folder.join(name);
            if !path.is_file() {
                continue;
            }
            let text = read(&path)?;
            let json: serde_json::Value =
                serde_json::from_slice(&text).map_err(|e| Error::config(&path, e.to_string()))?;
            let named = |template: &&serde_json::Value| template["name"] == "default";
            let source = match &json["chat_template"] {
                serde_json::Value::Array(all) => all.iter().find(named).map(|one| &one["template"]),
                one => Some(one),
            };
            if let Some(source) = source.and_then(serde_json::Value::as_str) {
                return Self::new(&path, source).map(Some);
            }
        }
        Ok(None)
    }

    /// The same template, told what tokens begin and end a text (`bos_token`, `eos_token`).
    #[must_use]
    pub fn with_marks(self, bos: String, eos: String) -> Self {
        Self {
            marks: [bos, eos],
            ..self
        }
    }

    /// Compiles `source`; `path` only names it in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the template is too long or does not compile.
    pub fn new(path: &Path, source: &str) -> Result<Self> {
        if source.len() > MAX_SOURCE {
            let problem = format!(
                "chat template has {} bytes, expected at most {MAX_SOURCE}",
                source.len()
            );
            return Err(Error::config(path, problem));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.expect("the standard delimiters are valid"));
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(MAX_RECURSION);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<String, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment.add_filter("tojson", tojson);
        let compiled = guarded(|| environment.add_template_owned(NAME, without_generation(source)));
        match compiled {
            Some(Ok(())) => {}
            Some(Err(e)) => return Err(Error::config(path, format!("chat template: {e}"))),
            None => {
                return Err(Error::config(
                    path,
                    "chat template makes its compiler panic",
                ));
            }
        }
        Ok(Self {
            path: path.into(),
            environment: Arc::new(environment),
            marks: Default::default(),
        })
    }

    /// The text of a conversation. With `add_generation_prompt` it ends where the assistant's
    /// answer is to begin. A template may put a default system message before the first turn.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the template refuses the conversation (`raise_exception`), fails, does
    /// not end in time or writes too much.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let messages = messages
            .iter()
            .map(|turn| context! { role => turn.role.as_str(), content => turn.content.as_str() });
        self.fill(messages.collect(), add_generation_prompt)
    }

    /// As [`render`](Self::render), a conversation of one turn of the user's, in parts.
    ///
    /// # Errors
    ///
    /// As for [`render`](Self::render).
    pub fn render_parts(&self, parts: &[Part], add_generation_prompt: bool) -> Result<String> {
        let part = |part: &Part| match part {
            Part::Image => Value::from_pairs([("type", "image")]),
            Part::Text(text) => Value::from_pairs([("type", "text"), ("text", text)]),
        };
        let content: Value = parts.iter().map(part).collect();
        let turn = context! { role => "user", content };
        self.fill([turn].into_iter().collect(), add_generation_prompt)
    }

    fn fill(&self, messages: Value, add_generation_prompt: bool) -> Result<String> {
        let environment = self.environment.clone();
        let marks = self.marks.clone();
        let (sender, receiver) = mpsc::channel();
        let work = move || {
            let text = guarded(|| rendered(&environment, &messages, add_generation_prompt, &marks));
            // What panicked is heard by its silence.
            if let Some(text) = text {
                // Nobody listens after the time is up.
                let _ = sender.send(text);
            }
        };
        let fault = |problem: String| Error::config(&self.path, format!("chat template{problem}"));
        let thread = thread::Builder::new().stack_size(STACK).spawn(work);
        thread.map_err(|e| fault(format!(": no thread to render it: {e}")))?;
        // A thread cannot be ended from outside: one that is late works on until it is out of fuel or the program ends.
        watched(&receiver).map_err(fault)
    }
}

/// What a rendering sends, if it does so within its limits.
fn watched(receiver: &Receiver<Result<String, String>>) -> Result<String, String> {
    let (began, before) = (Instant::now(), resident());
    loop {
        match receiver.recv_timeout(GLANCE) {
            Ok(rendered) => return rendered,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(" makes its interpreter panic".into());
            }
            Err(RecvTimeoutError::Timeout) if began.elapsed() > PATIENCE => {
                let seconds = PATIENCE.as_secs();
                return Err(format!(" does not end within {seconds} seconds"));
            }
            Err(RecvTimeoutError::Timeout) => {
                let taken = resident().saturating_sub(before);
                if taken > MOST_GIGABYTES * 1_000_000_000 {
                    return Err(format!(" takes more than {MOST_GIGABYTES} GB of memory"));
                }
            }
        }
    }
}

/// The text of a conversation, or what follows "chat template" in words.
fn rendered(
    environment: &Environment,
    messages: &Value,
    add_generation_prompt: bool,
    [bos_token, eos_token]: &[String; 2],
) -> Result<String, String> {
    let fail = |e: minijinja::Error| match e.kind() {
        ErrorKind::OutOfFuel => format!(" does not end within {FUEL} instructions"),
        ErrorKind::WriteFailure => format!(" writes more than {MAX_OUTPUT} bytes"),
        _ => format!(": {e}"),
    };
    let mut text = Bounded(Vec::new());
    let template = environment.get_template(NAME).map_err(fail)?;
    template
        .render_captured_to(
            context! { messages, add_generation_prompt, bos_token, eos_token },
            &mut text,
        )
        .map_err(fail)?;
    String::from_utf8(text.0).map_err(|_| " writes text that is not UTF-8".into())
}

/// The filter `tojson` as transformers has it: Python's `json.dumps` with `ensure_ascii=False` and an `indent`. The interpreter's
/// own writes as much as it is told to before it counts, and escapes what HTML would misread.
fn tojson(
    state: &State,
    value: &Value,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, minijinja::Error> {
    let refuse = |problem: String| minijinja::Error::new(ErrorKind::InvalidOperation, problem);
    let indent = match indent {
        Some(indent) => Some(indent),
        None => kwargs.get::<Option<Value>>("indent")?,
    };
    // What is done anyway; some templates say it all the same.
    let ascii = kwargs.get::<Option<bool>>("ensure_ascii")?;
    kwargs.assert_all_used()?;
    if ascii == Some(true) {
        return Err(refuse("tojson with ensure_ascii is not supported".into()));
    }
    let mut text = Bounded(Vec::new());
    let written = match indent.filter(|indent| !indent.is_none()) {
        None => value.serialize(&mut Serializer::with_formatter(&mut text, Spaced)),
        Some(indent) => {
            let width = usize::try_from(indent).ok();
            let width = width.filter(|width| *width <= MAX_INDENT);
            let width =
                width.ok_or_else(|| refuse(format!("tojson indents by 0 to {MAX_INDENT}")))?;
            let indent = " ".repeat(width);
            let pretty = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut text, pretty))
        }
    };
    written.map_err(|e| refuse(format!("tojson: {e}")))?;
    // The interpreter counts the bytes of the result; this is for the way through the value.
    state.consume_fuel(text.0.len() as u64 / 64)?;
    String::from_utf8(text.0).map_err(|e| refuse(e.to_string()))
}

/// JSON on one line as Python writes it, with a space behind each comma and colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.begin_array_value(out, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

/// A template whose blocks `generation` are plain ones: transformers' own tag, which marks what an assistant has said for
/// training and writes nothing.
fn without_generation(source: &str) -> String {
    let mut parts = source.split("{%");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text += "{%";
        let Some((tag, rest)) = part.split_once("%}") else {
            text += part;
            continue;
        };
        let name = tag.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        match name {
            "generation" => text += &tag.replace(name, "if true"),
            "endgeneration" => text += &tag.replace(name, "endif"),
            _ => text += tag,
        }
        text += "%}";
        text += rest;
    }
    text
}

/// A writer that fails once it holds [`MAX_OUTPUT`] bytes.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > MAX_OUTPUT - self.0.len() {
            return Err(io::Error::other("the text is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
