//! What a language model is asked: text, and image tokens where a picture is spoken of.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::models::llama::Given;
use crate::tensor::Tensor;

/// The tokens of a prompt. Those of a picture have embeddings of their own and an id that stands for nothing.
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    ids: Vec<u32>,
    /// In the order of their rows.
    given: Vec<Given>,
}

impl From<Vec<u32>> for Prompt {
    fn from(ids: Vec<u32>) -> Self {
        Self {
            ids,
            given: Vec::new(),
        }
    }
}

impl Prompt {
    /// A text in whose tokens each `placeholder` stands for the next token of the images, `[tokens, embedding_length]` each.
    ///
    /// # Errors
    /// More or fewer placeholders than image tokens.
    pub fn with_images(ids: Vec<u32>, placeholder: u32, images: &[Tensor]) -> Result<Self> {
        let places = ids.iter().filter(|id| **id == placeholder).count();
        let tokens: usize = images.iter().map(|image| image.matrix()[0]).sum();
        if places != tokens {
            return Err(Error::Argument(format!(
                "the prompt has room for {places} image tokens, its images have {tokens}"
            )));
        }
        let mut this = Self::default();
        let mut left = images.iter().flat_map(|image| {
            let rows = 0..image.matrix()[0];
            rows.map(move |row| (image, row))
        });
        for run in ids.chunk_by(|a, b| (*a == placeholder) == (*b == placeholder)) {
            if run[0] == placeholder {
                for (image, row) in left.by_ref().take(run.len()) {
                    this.push_rows(image, row..row + 1, placeholder);
                }
            } else {
                this.push_text(run);
            }
        }
        Ok(this)
    }

    /// Appends tokens of text.
    pub fn push_text(&mut self, ids: &[u32]) {
        self.ids.extend(ids);
    }

    /// Appends the tokens of an image, `[tokens, embedding_length]`. `id` is any of the vocabulary; it counts as seen where
    /// repetition is punished.
    pub fn push_image(&mut self, tokens: &Tensor, id: u32) {
        self.push_rows(tokens, 0..tokens.matrix()[0], id);
    }

    /// Appends some of the tokens of images, as [`push_image`](Self::push_image) all.
    pub(super) fn push_rows(&mut self, tokens: &Tensor, rows: Range<usize>, id: u32) {
        let (row, count) = (self.ids.len(), rows.len());
        self.ids.resize(row + count, id);
        match self.given.last_mut() {
            Some(last)
                if last.row + last.count == row
                    && last.first + last.count == rows.start
                    && last.tokens.is(tokens) =>
            {
                last.count += count;
            }
            _ => self.given.push(Given {
                row,
                count,
                tokens: tokens.clone(),
                first: rows.start,
            }),
        }
    }

    /// The ids, those of image tokens among them.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The image tokens among these, as rows of a batch in which the first of the range is row `at`.
    pub(super) fn given(&self, range: Range<usize>, at: usize) -> impl Iterator<Item = Given> {
        let parts = self.given.iter().filter_map(move |g| g.part(&range));
        parts.map(move |given| Given {
            row: given.row + at,
            ..given
        })
    }

    /// How many tokens both begin with: the same ids, and the same memory where they are an image's.
    pub(super) fn common(&self, other: &Self) -> usize {
        (0..self.len().min(other.len()))
            .take_while(|n| self.ids[*n] == other.ids[*n] && same(self.image(*n), other.image(*n)))
            .count()
    }

    /// Where the embedding of a token is given, if it is: the tensor and its row.
    fn image(&self, n: usize) -> Option<(&Tensor, usize)> {
        let at = self.given.partition_point(|given| given.row <= n);
        let given = self.given.get(at.checked_sub(1)?)?;
        (n < given.row + given.count).then(|| (&given.tokens, given.first + n - given.row))
    }
}

fn same(a: Option<(&Tensor, usize)>, b: Option<(&Tensor, usize)>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some((a, row)), Some((b, other))) => row == other && a.is(b),
        _ => false,
    }
}
