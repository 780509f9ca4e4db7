//! The requests of a plan. prost reads no JSON, so each field is named here.

use std::path::PathBuf;

use prost::Message;
use serde_json::Value;
use siglip_client::v1;

use crate::Failure;

/// A JSON object, whose absent fields have proto3's defaults.
pub struct Fields<'a>(pub &'a Value);

impl Fields<'_> {
    pub fn text(&self, name: &str) -> String {
        self.0[name].as_str().unwrap_or_default().to_string()
    }

    pub fn texts(&self, name: &str) -> Vec<String> {
        let list = self.0[name].as_array().into_iter().flatten();
        list.filter_map(|each| each.as_str().map(String::from)).collect()
    }

    pub fn number(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or_default()
    }

    pub fn truth(&self, name: &str) -> Option<bool> {
        self.0[name].as_bool()
    }

    fn options(&self) -> Option<v1::EmbeddingOptions> {
        let given = Fields(self.0.get("options")?);
        let dtype = v1::Dtype::from_str_name(&given.text("dtype"));
        // An enum may also be given as a number, known or not.
        let number = given.number("dtype") as i32;
        Some(v1::EmbeddingOptions {
            dtype: dtype.map_or(number, Into::into),
            normalize: given.truth("normalize"),
        })
    }

    fn activation(&self) -> i32 {
        let activation = v1::Activation::from_str_name(&self.text("activation"));
        activation.map_or(self.number("activation") as i32, Into::into)
    }
}

/// The folder of a plan's inputs.
pub struct Pictures(pub PathBuf);

impl Pictures {
    pub fn read(&self, names: &[String]) -> Result<Vec<Vec<u8>>, Failure> {
        names.iter().map(|name| Ok(std::fs::read(self.0.join(name))?)).collect()
    }
}

pub trait FromFields: Message + Default {
    fn from_fields(given: &Fields, pictures: &Pictures) -> Result<Self, Failure>;
}

/// The request of a case: its fields, or its bytes through the generated code.
pub fn request<T: FromFields>(given: &Value, pictures: &Pictures) -> Result<T, Failure> {
    match given["request_base64"].as_str() {
        Some(text) => Ok(T::decode(from_base64(text)?.as_slice())?),
        None => T::from_fields(&Fields(&given["request"]), pictures),
    }
}

fn from_base64(text: &str) -> Result<Vec<u8>, Failure> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (vec![], 0u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = LETTERS.iter().position(|each| *each == letter).ok_or("not base64")?;
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Ok(bytes)
}

impl FromFields for v1::EmbedTextsRequest {
    fn from_fields(given: &Fields, _: &Pictures) -> Result<Self, Failure> {
        Ok(Self { model: given.text("model"), texts: given.texts("texts"), options: given.options() })
    }
}

impl FromFields for v1::EmbedImagesRequest {
    fn from_fields(given: &Fields, pictures: &Pictures) -> Result<Self, Failure> {
        let images = pictures.read(&given.texts("images"))?;
        Ok(Self { model: given.text("model"), images, options: given.options() })
    }
}

impl FromFields for v1::ClassifyRequest {
    fn from_fields(given: &Fields, pictures: &Pictures) -> Result<Self, Failure> {
        Ok(Self {
            model: given.text("model"),
            images: pictures.read(&given.texts("images"))?,
            labels: given.texts("labels"),
            templates: given.texts("templates"),
            activation: given.activation(),
            top_k: given.number("top_k") as u32,
            threshold: given.number("threshold") as f32,
            label_set: given.text("label_set"),
        })
    }
}

impl FromFields for v1::CreateLabelSetRequest {
    fn from_fields(given: &Fields, _: &Pictures) -> Result<Self, Failure> {
        let (labels, templates) = (given.texts("labels"), given.texts("templates"));
        Ok(Self { model: given.text("model"), labels, templates })
    }
}

impl FromFields for v1::ScoreRequest {
    fn from_fields(given: &Fields, pictures: &Pictures) -> Result<Self, Failure> {
        let images = pictures.read(&given.texts("images"))?;
        Ok(Self { model: given.text("model"), images, texts: given.texts("texts") })
    }
}

impl FromFields for v1::GetModelRequest {
    fn from_fields(given: &Fields, _: &Pictures) -> Result<Self, Failure> {
        Ok(Self { model: given.text("model") })
    }
}

impl FromFields for v1::TokenizeRequest {
    fn from_fields(given: &Fields, _: &Pictures) -> Result<Self, Failure> {
        Ok(Self { model: given.text("model"), texts: given.texts("texts") })
    }
}
