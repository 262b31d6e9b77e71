//! JSON Schemas of what is written for machines, and of what users write for the program; the files are in `schema/`.

/// A schema, and the name by which documents refer to it in `$schema`.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Its `$id`. The number grows when documents of before no longer fit.
    pub id: &'static str,
    /// All of it.
    pub text: &'static str,
}

/// Of the report of a segmentation.
pub const REPORT: Schema = Schema {
    id: "urn:keraunos:report:1",
    text: include_str!("../../schema/report.schema.json"),
};

/// Of an evaluation: of two maps, of two folders, or of instructions.
pub const EVALUATION: Schema = Schema {
    id: "urn:keraunos:evaluation:1",
    text: include_str!("../../schema/evaluation.schema.json"),
};

/// Of what a model is put together from.
pub const MODEL: Schema = Schema {
    id: "urn:keraunos:model:1",
    text: include_str!("../../schema/model.schema.json"),
};
