//! keraunos' turns among the rivals of a script: one request a line, one answer a line.
//!
//!     adapter                  name, backend, driver and versions
//!     warm CASE                how many runs make a turn; a case is also SmolLM2's `prefill-512` or `decode-128`
//!     time CASE N              seconds of one of N runs
//!     result CASE FILE         the values, f32, little-endian
//!     greedy ID,ID,… N         the N tokens that SmolLM2 finds likeliest after these

use std::collections::HashMap;
use std::io::{BufRead, Write, stdin, stdout};

use keraunos::gpu::Gpu;
use keraunos::layers::KvCache;
use keraunos::models::llama::Batch;
use keraunos::ops::argmax;
use keraunos::pipeline::home::Home;
use keraunos::pipeline::instruct::Writer;

use crate::Fallible;
use crate::cases::Case;
use crate::contest::{Contender, seconds, warm_up};
use crate::ours;

const PREFILL: usize = 512;
const DECODE: usize = 128;

/// SmolLM2 with room for what is measured.
struct Language<'g> {
    gpu: &'g Gpu,
    writer: Writer,
    cache: KvCache,
}

impl<'g> Language<'g> {
    fn open(gpu: &'g Gpu) -> Fallible<Self> {
        let writer = Writer::open(gpu, &Home::new(None)?)?;
        let cache = writer.llama().cache(gpu, PREFILL + DECODE, keraunos::tensor::Precision::Auto)?;
        Ok(Self { gpu, writer, cache })
    }

    /// The likeliest token after `ids`, which begin at `position`.
    fn next(&self, ids: &[u32], position: usize) -> Fallible<u32> {
        let llama = self.writer.llama();
        let rec = self.gpu.record("language");
        let hidden = llama.forward(
            &rec,
            &Batch::sequence(ids, position),
            &self.cache,
            |_, _| (),
        )?;
        let best = argmax(
            &rec,
            &llama.logits(&rec, &hidden),
            llama.config().vocab_size,
        );
        let best = rec.read::<u32>(&[(&best, ids.len())])?;
        Ok(best[0][ids.len() - 1])
    }

    /// `count` tokens, each after those before.
    fn greedy(&self, prompt: &[u32], count: usize) -> Fallible<Vec<u32>> {
        let mut written = vec![self.next(prompt, 0)?];
        while written.len() < count {
            let last = written[written.len() - 1];
            written.push(self.next(&[last], prompt.len() + written.len() - 1)?);
        }
        Ok(written)
    }
}

/// 512 tokens read at once, without logits, which only the last would need.
struct Prefill<'a>(&'a Language<'a>);

impl Contender for Prefill<'_> {
    fn name(&self) -> String {
        format!("prefill-{PREFILL}")
    }

    fn result(&mut self) -> Fallible<Vec<f32>> {
        Err("its result is `greedy`".into())
    }

    fn run(&mut self, times: usize) -> Fallible<()> {
        let Language { gpu, writer, cache } = self.0;
        let ids: Vec<u32> = (0..PREFILL as u32).map(|n| 1000 + 37 * n).collect();
        for _ in 0..times {
            let rec = gpu.record("prefill");
            let hidden =
                writer
                    .llama()
                    .forward(&rec, &Batch::sequence(&ids, 0), cache, |_, _| ())?;
            rec.read::<f32>(&[(&hidden, 4)])?;
        }
        Ok(())
    }
}

/// 128 tokens, one after the other, from nothing.
struct Decode<'a>(&'a Language<'a>);

impl Contender for Decode<'_> {
    fn name(&self) -> String {
        format!("decode-{DECODE}")
    }

    fn result(&mut self) -> Fallible<Vec<f32>> {
        Err("its result is `greedy`".into())
    }

    fn run(&mut self, times: usize) -> Fallible<()> {
        for _ in 0..times {
            self.0.greedy(&[1234], DECODE)?;
        }
        Ok(())
    }
}

/// The contenders so far: a case is prepared when it is first named.
struct Table<'g> {
    gpu: &'g Gpu,
    language: Option<&'g Language<'g>>,
    open: HashMap<String, Box<dyn Contender + 'g>>,
}

impl<'g> Table<'g> {
    fn language(&mut self) -> Fallible<&'g Language<'g>> {
        if self.language.is_none() {
            // As long as the process: contenders borrow it.
            self.language = Some(Box::leak(Box::new(Language::open(self.gpu)?)));
        }
        Ok(self.language.expect("just opened"))
    }

    fn contender(&mut self, name: &str) -> Fallible<&mut dyn Contender> {
        if !self.open.contains_key(name) {
            let contender: Box<dyn Contender + 'g> = match name {
                "prefill-512" => Box::new(Prefill(self.language()?)),
                "decode-128" => Box::new(Decode(self.language()?)),
                _ => {
                    let case = Case::named(name).ok_or_else(|| format!("no case `{name}`"))?;
                    ours::contender(self.gpu, case)?
                }
            };
            self.open.insert(name.to_owned(), contender);
        }
        Ok(&mut **self.open.get_mut(name).expect("just put in"))
    }

    fn answer(&mut self, words: &[&str]) -> Fallible<String> {
        Ok(match words {
            ["adapter"] => {
                let adapter = self.gpu.summary();
                format!(
                    "{} ({}, {}), keraunos {}, wgpu {}",
                    adapter.name,
                    adapter.backend,
                    adapter.driver,
                    env!("KERAUNOS_VERSION"),
                    env!("WGPU_VERSION"),
                )
            }
            ["warm", name] => warm_up(self.contender(name)?)?.to_string(),
            ["time", name, times] => seconds(self.contender(name)?, times.parse()?)?.to_string(),
            ["result", name, file] => {
                let values = self.contender(name)?.result()?;
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                std::fs::write(file, bytes)?;
                values.len().to_string()
            }
            ["greedy", ids, count] => {
                let ids = ids
                    .split(',')
                    .map(str::parse)
                    .collect::<Result<Vec<u32>, _>>()?;
                let written = self.language()?.greedy(&ids, count.parse()?)?;
                written
                    .iter()
                    .map(u32::to_string)
                    .collect::<Vec<_>>()
                    .join(",")
            }
            _ => return Err("a request that is none".into()),
        })
    }
}

/// Answers until the input ends; what fails is an answer that begins with `error:`.
pub fn serve(gpu: &Gpu) -> Fallible<()> {
    let mut table = Table {
        gpu,
        language: None,
        open: HashMap::new(),
    };
    for line in stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = table
            .answer(&words)
            .unwrap_or_else(|fault| format!("error: {fault}"));
        println!("{answer}");
        stdout().flush()?;
    }
    Ok(())
}
