//! The LVLM of Zeus (arXiv 2504.07336, section 3.2) at the size of the built-in model: the segmentation model's own image
//! embedding, a projector, and the language model that writes instructions. It states of a slice the sequence, the view, the
//! level and the structures that are visible.

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::projector::Projector;
use crate::models::zeus::Zeus;
use crate::pipeline::Observer;
use crate::pipeline::describe::findings::Findings;
use crate::pipeline::designed::DesignedPrompt;
use crate::pipeline::language::{LanguageModel, Progress};
use crate::pipeline::prepare::{Prepared, View};
use crate::pipeline::prompt::Prompt;
use crate::pipeline::sampling::Sampling;
use crate::tensor::{Checkpoint, Tensor};

/// The built-in projector, part of the program.
static PROJECTOR: &[u8] = include_bytes!("../../../weights/zeus-mini-projector.safetensors");
/// The designed prompt.
const PROMPT: &str = include_str!("../../../weights/prompts/findings.json");
/// What stands for the picture in it.
const IMAGE: &str = "<image>";
/// The most tokens of a text, as in training.
const MAX_TOKENS: usize = 96;
/// Slices that are encoded at once: bounds the memory of the stem.
const AT_ONCE: usize = 8;

/// The projector, between a segmentation model and a language model.
pub struct Lvlm<'a> {
    zeus: &'a Zeus,
    language: &'a LanguageModel,
    projector: Projector,
}

/// The built-in projector's checkpoint.
///
/// # Errors
/// None that a user could meet.
pub fn projector() -> Result<Checkpoint> {
    Checkpoint::from_bytes(PROJECTOR, "zeus-mini-projector (embedded)")
}

impl<'a> Lvlm<'a> {
    /// Puts the built-in projector between two models. `zeus_sha256` is the hash of the segmentation model's checkpoint.
    ///
    /// # Errors
    /// Another segmentation model or another width of language model than it was trained for, or no memory.
    pub fn new(
        gpu: &Gpu,
        zeus: &'a Zeus,
        zeus_sha256: &str,
        language: &'a LanguageModel,
    ) -> Result<Self> {
        let checkpoint = projector()?;
        let metadata = checkpoint.metadata();
        let said = |key: &str| metadata.get(key).map_or("", String::as_str);
        if said("vision") != zeus_sha256 {
            return Err(Error::Argument(
                "only the built-in weights can state findings: their projector was not trained for others".into(),
            ));
        }
        let config = zeus.config();
        let projector = Projector::new(gpu, &checkpoint, config.grid, config.prompt_dim)?;
        let (has, wants) = (
            language.llama().config().embedding_length,
            projector.width(),
        );
        if has != wants {
            let problem = format!(
                "its embeddings have {has} values; the model that states findings was trained with {}, of {wants}",
                said("language")
            );
            return Err(Error::weights(language.path(), problem));
        }
        Ok(Self {
            zeus,
            language,
            projector,
        })
    }

    /// States the findings of slices of a volume.
    ///
    /// # Errors
    /// A language model without a chat template, no memory, or an adapter that fails.
    ///
    /// # Panics
    /// If there is no such slice.
    pub fn findings(
        &self,
        gpu: &Gpu,
        volume: &Prepared,
        places: &[(View, usize)],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Findings>> {
        let messages = DesignedPrompt::embedded(PROMPT).messages(str::to_owned);
        let [before, after] = self.language.chat_around(&messages, IMAGE)?;
        let mut prompts = Vec::new();
        for some in places.chunks(AT_ONCE) {
            observer.progress("looking", prompts.len() as f64 / places.len() as f64);
            let tokens = self.look(gpu, volume, some)?;
            let each = tokens.matrix()[0] / some.len();
            for n in 0..some.len() {
                let mut prompt = Prompt::from(before.clone());
                // The id stands for nothing: any of the text's will do.
                prompt.push_rows(&tokens, n * each..(n + 1) * each, after[0]);
                prompt.push_text(&after);
                prompts.push(prompt);
            }
        }
        let tell = &mut |progress: Progress| {
            if let Progress::Share(share) = progress {
                observer.progress("stating findings", share);
            }
        };
        let how = Sampling::default();
        let answers = self
            .language
            .generate(gpu, &prompts, &how, MAX_TOKENS, tell)?;
        Ok(answers
            .iter()
            .map(|answer| Findings::read(&answer.text))
            .collect())
    }

    /// The image tokens of slices, one slice after the other, `[slices · cells, embedding_length]`.
    ///
    /// # Errors
    /// No memory, or an adapter that fails.
    ///
    /// # Panics
    /// If there is no such slice.
    pub fn look(&self, gpu: &Gpu, volume: &Prepared, places: &[(View, usize)]) -> Result<Tensor> {
        let size = self.zeus.config().image_size;
        let mut pixels = vec![0.0; places.len() * size * size * 4];
        for ((view, index), picture) in places.iter().zip(pixels.chunks_exact_mut(size * size * 4))
        {
            let values = volume.input(*view, *index);
            picture
                .chunks_exact_mut(4)
                .zip(values)
                .for_each(|(pixel, value)| pixel[0] = value);
        }
        let image = Tensor::upload(gpu, "slices", [places.len(), size, size, 4], &pixels)?;
        let rec = gpu.record("look");
        let neck = self.zeus.encode(&rec, &image, |_, _| ()).neck;
        let tokens = self.projector.forward(&rec, &neck);
        rec.submit()?;
        gpu.wait()?;
        Ok(tokens)
    }
}
