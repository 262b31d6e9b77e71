//! Tokenizers out of GGUF's metadata.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::normalizers::{Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::normalizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, NormalizerWrapper, Tokenizer};

use super::chat::{Described, Kind, SPACE, Spelling};
use super::guarded;
use crate::error::{Error, Result};
use crate::tensor::Gguf;

/// The most bytes of a SentencePiece token, whose every cut is looked up; the longest in common use have about a hundred.
const MAX_PIECE: usize = 1024;

/// The most bytes that all tokens' cuts may have, each counted at its token's length: it bounds the time that finding the merges
/// takes, and their memory. The largest vocabularies in common use have some 20 million.
const MAX_CUTS: usize = 1 << 28;

/// How words are split before the merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    /// GPT-2's pattern.
    Gpt2,
    /// That, after every digit by itself.
    SmolLm,
    /// Llama 3's pattern, which leaves digits in threes, and whole words that are tokens.
    Llama3,
    /// The same with single digits, of composed characters.
    Qwen2,
}

impl Words {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "gpt-2" | "gpt2" => Self::Gpt2,
            "smollm" => Self::SmolLm,
            "llama-bpe" | "llama3" | "llama-v3" => Self::Llama3,
            "qwen2" => Self::Qwen2,
            _ => return None,
        })
    }

    fn pre_tokenizer(self) -> tokenizers::Result<PreTokenizerWrapper> {
        let pattern = |digits: &str| {
            format!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )
        };
        let first = match self {
            Self::Gpt2 => return Ok(ByteLevel::new(false, false, true).into()),
            Self::SmolLm => {
                return Ok(Sequence::new(vec![
                    Digits::new(true).into(),
                    ByteLevel::new(false, false, true).into(),
                ])
                .into());
            }
            Self::Llama3 => pattern(r"\p{N}{1,3}"),
            Self::Qwen2 => pattern(r"\p{N}"),
        };
        let words = Split::new(
            SplitPattern::Regex(first),
            SplitDelimiterBehavior::Isolated,
            false,
        )?;
        Ok(Sequence::new(vec![
            words.into(),
            ByteLevel::new(false, false, false).into(),
        ])
        .into())
    }
}

/// The tokenizer that `tokenizer.ggml` describes.
pub(super) fn described(gguf: &Gguf) -> Result<Described> {
    let path = gguf.path();
    let model = gguf.str("tokenizer.ggml.model")?;
    let words = match model {
        "gpt2" => {
            const PRE: &str = "tokenizer.ggml.pre";
            let pre = gguf.str(PRE)?;
            Some(Words::of(pre).ok_or_else(|| {
                let problem = format!(
                    "metadata `{PRE}` is `{pre}`, expected `smollm`, `gpt-2`, `llama-bpe` or `qwen2`"
                );
                Error::config(path, problem)
            })?)
        }
        "llama" => None,
        other => {
            let problem =
                format!("metadata `tokenizer.ggml.model` is `{other}`, expected `gpt2` or `llama`");
            return Err(Error::config(path, problem));
        }
    };
    let texts = gguf.strings("tokenizer.ggml.tokens")?;
    let kinds = gguf.i32s("tokenizer.ggml.token_type")?;
    if kinds.len() != texts.len() {
        let problem = format!(
            "has {} tokens, but {} token types",
            texts.len(),
            kinds.len()
        );
        return Err(Error::config(path, problem));
    }
    let kind = |kind: &i32| match kind {
        // Unknown and unused tokens are no text either.
        2 | 3 | 5 => Kind::Control,
        4 => Kind::UserDefined,
        6 => Kind::Byte,
        _ => Kind::Normal,
    };
    let tokens: Vec<(String, Kind)> = texts.iter().cloned().zip(kinds.iter().map(kind)).collect();
    let special = |key: &str| -> Result<Option<u32>> {
        if !gguf.has(key) {
            return Ok(None);
        }
        let id = gguf.u32(key)?;
        if id as usize >= texts.len() {
            return Err(Error::config(
                path,
                format!("metadata `{key}` is {id} of {} tokens", texts.len()),
            ));
        }
        Ok(Some(id))
    };
    let flag = |key: &str, default: bool| match gguf.has(key) {
        true => gguf.bool(key),
        false => Ok(default),
    };
    let (tokenizer, spelling) = match words {
        Some(words) => {
            let merges = gguf.strings("tokenizer.ggml.merges")?;
            let tokenizer = guarded(path, || byte_level_bpe(&tokens, merges, words))?;
            (tokenizer, Spelling::ByteLevel)
        }
        None => {
            let scores = gguf.f32s("tokenizer.ggml.scores")?;
            if scores.len() != texts.len() {
                let problem = format!("has {} tokens, but {} scores", texts.len(), scores.len());
                return Err(Error::config(path, problem));
            }
            if let Some(id) = texts.iter().position(|text| text.len() > MAX_PIECE) {
                let problem = format!(
                    "token {id} has {} bytes, expected at most {MAX_PIECE}",
                    texts[id].len()
                );
                return Err(Error::config(path, problem));
            }
            let cuts: usize = texts.iter().map(|text| text.len() * text.len()).sum();
            if cuts > MAX_CUTS {
                let problem = format!(
                    "the squares of its tokens' lengths are {cuts} together, expected at most {MAX_CUTS}"
                );
                return Err(Error::config(path, problem));
            }
            let unknown = special("tokenizer.ggml.unknown_token_id")?;
            let unknown = unknown.map(|id| texts[id as usize].clone());
            let prefix = flag("tokenizer.ggml.add_space_prefix", true)?;
            let tokenizer = guarded(path, || sentence_piece(&tokens, scores, unknown, prefix))?;
            (tokenizer, Spelling::SentencePiece)
        }
    };
    let add_bos = flag("tokenizer.ggml.add_bos_token", words.is_none())?;
    let bos = special("tokenizer.ggml.bos_token_id")?;
    let eos = special("tokenizer.ggml.eos_token_id")?;
    let mut stops = Vec::new();
    stops.extend(eos);
    stops.extend(special("tokenizer.ggml.eot_token_id")?);
    Ok(Described {
        tokenizer,
        tokens,
        spelling,
        bos: bos.filter(|_| add_bos),
        marks: [bos, eos],
        stops,
    })
}

fn vocabulary(tokens: &[(String, Kind)]) -> tokenizers::Result<Vocab> {
    let vocab: Vocab = tokens
        .iter()
        .map(|(text, _)| text.clone())
        .zip(0..)
        .collect();
    if vocab.len() == tokens.len() {
        return Ok(vocab);
    }
    let repeated = tokens.len() - vocab.len();
    Err(format!("{repeated} of {} tokens are repeated", tokens.len()).into())
}

/// Adds the tokens that are matched before the merges.
fn add_whole(tokenizer: &mut Tokenizer, tokens: &[(String, Kind)]) -> tokenizers::Result<()> {
    let added = |wanted: Kind| {
        let of_kind = tokens.iter().filter(move |(_, kind)| *kind == wanted);
        of_kind.map(move |(text, _)| {
            AddedToken::from(text.clone(), wanted == Kind::Control).normalized(false)
        })
    };
    tokenizer.add_special_tokens(added(Kind::Control))?;
    tokenizer.add_tokens(added(Kind::UserDefined))?;
    Ok(())
}

/// BPE over bytes, as GPT-2 has it.
fn byte_level_bpe(
    tokens: &[(String, Kind)],
    merges: &[String],
    words: Words,
) -> tokenizers::Result<Tokenizer> {
    let pairs = merges.iter().map(|merge| match merge.split_once(' ') {
        Some((left, right)) => Ok((left.to_owned(), right.to_owned())),
        None => Err(format!("the merge {merge:?} is not a pair")),
    });
    let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
    let model = BPE::builder()
        .vocab_and_merges(vocabulary(tokens)?, pairs)
        .ignore_merges(words == Words::Llama3);
    let mut tokenizer = Tokenizer::new(model.build()?);
    if words == Words::Qwen2 {
        tokenizer.with_normalizer(Some(NFC))?;
    }
    tokenizer.with_pre_tokenizer(Some(words.pre_tokenizer()?));
    add_whole(&mut tokenizer, tokens)?;
    Ok(tokenizer)
}

/// SentencePiece's BPE: two neighbours are joined if what they make is a token, the one of the best score first. Characters
/// without a token are spelled in bytes.
fn sentence_piece(
    tokens: &[(String, Kind)],
    scores: &[f32],
    unknown: Option<String>,
    prefix: bool,
) -> tokenizers::Result<Tokenizer> {
    let mut model = BPE::builder()
        .vocab_and_merges(vocabulary(tokens)?, merges(tokens, scores))
        .byte_fallback(true)
        .fuse_unk(true);
    if let Some(unknown) = unknown {
        model = model.unk_token(unknown);
    }
    let mut tokenizer = Tokenizer::new(model.build()?);
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    if prefix {
        normalizers.push(Prepend::new(SPACE.into()).into());
    }
    normalizers.push(Replace::new(" ", SPACE)?.into());
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers)))?;
    add_whole(&mut tokenizer, tokens)?;
    Ok(tokenizer)
}

/// The pairs that make each token, the best score first. Of pairs that make one token those come first whose parts do.
fn merges(tokens: &[(String, Kind)], scores: &[f32]) -> Merges {
    let normal = |(n, (text, kind)): (usize, &'_ (String, Kind))| {
        (*kind == Kind::Normal).then_some((n, text.len()))
    };
    let ids: HashMap<&str, usize> = tokens
        .iter()
        .enumerate()
        .filter(|(_, (_, kind))| *kind == Kind::Normal)
        .map(|(n, (text, _))| (text.as_str(), n))
        .collect();
    let mut found: Vec<(usize, usize, usize)> = Vec::new();
    for (whole, _) in tokens.iter().enumerate().filter_map(normal) {
        let text = tokens[whole].0.as_str();
        for (at, _) in text.char_indices().skip(1) {
            let parts = (ids.get(&text[..at]), ids.get(&text[at..]));
            if let (Some(left), Some(right)) = parts {
                found.push((whole, *left, *right));
            }
        }
    }
    found.sort_by(|a, b| {
        let order = scores[b.0].total_cmp(&scores[a.0]);
        order.then((a.1, a.2).cmp(&(b.1, b.2)))
    });
    found
        .into_iter()
        .map(|(_, left, right)| (tokens[left].0.clone(), tokens[right].0.clone()))
        .collect()
}
