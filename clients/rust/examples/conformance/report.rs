//! What the calls ended with, as JSON; see tests/conformance/README.md. serde_json writes NaN as null.

use serde_json::{json, Value};
use siglip_client::v1::{self, classification_result, embed_stream_result, embedding_result};
use siglip_client::{code_name, Code, Error, StreamCounts};

pub fn failure(error: &Error) -> Value {
    let mut line = json!({"code": code_name(error.code), "message": error.message});
    if !error.reason.is_empty() {
        line["reason"] = json!(error.reason);
        line["domain"] = json!(error.domain);
        line["metadata"] = json!(error.metadata);
    }
    if !error.violations.is_empty() {
        let each = error.violations.iter();
        let told = each.map(|one| json!({"field": one.field, "description": one.description}));
        line["field_violations"] = told.collect();
    }
    if let Some(delay) = error.retry_delay {
        line["retry_delay_ms"] = json!(delay.as_millis() as u64);
    }
    line
}

pub fn counts(counts: &StreamCounts, line: &mut Value) {
    line["results"] = json!(counts.results);
    line["duplicates"] = json!(counts.duplicates);
    line["most_unanswered"] = json!(counts.most_unanswered);
    line["allowed_unanswered"] = json!(counts.allowed_unanswered.unwrap_or(0));
    line["streams"] = json!(counts.streams);
}

/// Vectors and errors by the places of their items.
pub struct Items {
    vectors: Vec<Value>,
    dtypes: Vec<Value>,
    errors: Vec<Value>,
    undecodable: Vec<usize>,
}

impl Items {
    pub fn new(shown: usize) -> Self {
        let nulls = vec![Value::Null; shown];
        Self { vectors: nulls.clone(), dtypes: nulls, errors: vec![], undecodable: vec![] }
    }

    pub fn add_streamed(&mut self, result: v1::EmbedStreamResult) {
        let index = result.id as usize;
        match result.result {
            Some(embed_stream_result::Result::Embedding(vector)) => self.add_vector(index, &vector),
            Some(embed_stream_result::Result::Error(error)) => self.errors.push(item_error(index, &error)),
            None => self.undecodable.push(index),
        }
    }

    fn add(&mut self, index: usize, result: &v1::EmbeddingResult) {
        match &result.result {
            Some(embedding_result::Result::Embedding(vector)) => self.add_vector(index, vector),
            Some(embedding_result::Result::Error(error)) => self.errors.push(item_error(index, error)),
            None => self.undecodable.push(index),
        }
    }

    fn add_vector(&mut self, index: usize, vector: &v1::Vector) {
        if index >= self.vectors.len() {
            return;
        }
        let (numbers, dtype) = (vector.numbers(), v1::Dtype::try_from(vector.dtype));
        self.vectors[index] = json!(numbers);
        self.dtypes[index] = json!(dtype.ok().map(|dtype| dtype.as_str_name()));
        if numbers.is_none() {
            self.undecodable.push(index);
        }
    }

    pub fn report(&self, line: &mut Value) {
        line["vectors"] = json!(self.vectors);
        line["dtypes"] = json!(self.dtypes);
        line["item_errors"] = json!(self.errors);
        line["undecodable"] = json!(self.undecodable);
    }
}

fn item_error(index: usize, error: &v1::ItemError) -> Value {
    json!({
        "index": index,
        "code": code_name(Code::from_i32(error.code)),
        "reason": error.reason,
        "message": error.message,
        "field": error.field,
        "retryable": error.retryable,
    })
}

fn answered(model: &Option<v1::ModelInfo>) -> Value {
    let model = model.clone().unwrap_or_default();
    json!({
        "code": "OK",
        "message": "",
        "model": {"name": model.name, "fingerprint": model.fingerprint},
    })
}

/// What a case says of an answer.
pub trait Report {
    fn report(&self) -> Value;
}

fn embeddings(results: &[v1::EmbeddingResult], model: &Option<v1::ModelInfo>) -> Value {
    let (mut items, mut line) = (Items::new(results.len()), answered(model));
    results.iter().enumerate().for_each(|(index, result)| items.add(index, result));
    items.report(&mut line);
    line
}

impl Report for v1::EmbedTextsResponse {
    fn report(&self) -> Value {
        embeddings(&self.results, &self.model)
    }
}

impl Report for v1::EmbedImagesResponse {
    fn report(&self) -> Value {
        embeddings(&self.results, &self.model)
    }
}

impl Report for v1::ClassifyResponse {
    fn report(&self) -> Value {
        let (mut images, mut errors) = (vec![], vec![]);
        for (index, result) in self.results.iter().enumerate() {
            images.push(match &result.result {
                Some(classification_result::Result::Scores(found)) => {
                    found.scores.iter().map(score).collect()
                }
                Some(classification_result::Result::Error(error)) => {
                    errors.push(item_error(index, error));
                    Value::Null
                }
                None => Value::Null,
            });
        }
        let mut line = answered(&self.model);
        line["images"] = json!(images);
        line["item_errors"] = json!(errors);
        line
    }
}

fn score(score: &v1::LabelScore) -> Value {
    json!({
        "label": score.label,
        "index": score.label_index,
        "probability": score.probability,
        "logit": score.logit,
    })
}

impl Report for v1::ScoreResponse {
    fn report(&self) -> Value {
        let errors = self.errors.iter().map(|error| item_error(error.index as usize, error));
        let mut line = answered(&self.model);
        line["logits"] = rows(&self.logits_per_image);
        line["probabilities"] = rows(&self.probabilities);
        line["item_errors"] = errors.collect();
        line
    }
}

fn rows(matrix: &Option<v1::Matrix>) -> Value {
    let matrix = matrix.clone().unwrap_or_default();
    let numbers = matrix.numbers().unwrap_or_default();
    numbers.chunks(matrix.cols.max(1) as usize).map(|row| json!(row)).collect()
}

impl Report for v1::CreateLabelSetResponse {
    fn report(&self) -> Value {
        let mut line = answered(&self.model);
        line["label_set"] = json!(self.label_set);
        line["label_count"] = json!(self.label_count);
        line
    }
}

impl Report for v1::GetModelResponse {
    fn report(&self) -> Value {
        json!({
            "code": "OK",
            "message": "",
            "model": {
                "name": self.name,
                "fingerprint": self.fingerprint,
                "embedding_dim": self.embedding_dim,
                "text_length": self.text_length,
            },
        })
    }
}

impl Report for v1::TokenizeResponse {
    fn report(&self) -> Value {
        let tokens: Vec<_> = self.results.iter().map(|each| each.ids.clone()).collect();
        json!({"code": "OK", "message": "", "tokens": tokens})
    }
}
