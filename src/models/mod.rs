//! Floor 5: the models, each a readable file whose fields bear the checkpoint's names.

pub mod bert;
pub mod image_encoder;
pub mod llama;
pub mod mask_decoder;
pub mod prompt_encoder;
pub mod zeus;
