//! Makes the calls of a plan and reports what came back: tests/conformance/README.md.

mod report;
mod requests;

use std::collections::HashMap;
use std::time::Duration;

use report::{Items, Report};
use requests::{request, Fields, Pictures};
use serde_json::{json, Value};
use siglip_client::v1::{self, embed_stream_item::Content};
use siglip_client::{Access, Client, Error, StreamCounts, StreamOptions, MAX_RETRIES};

type Failure = Box<dyn std::error::Error>;

struct Plan {
    plan: Value,
    clients: HashMap<(String, u32), Client>,
    label_sets: HashMap<String, String>,
}

impl Plan {
    fn read(path: &str) -> Result<Self, Failure> {
        Ok(Self {
            plan: serde_json::from_slice(&std::fs::read(path)?)?,
            clients: HashMap::new(),
            label_sets: HashMap::new(),
        })
    }

    async fn run(&mut self) {
        for given in self.plan["cases"].as_array().cloned().unwrap_or_default() {
            let mut line = match self.line(&given).await {
                Ok(line) => line,
                Err(error) => match error.downcast::<Error>() {
                    Ok(error) => report::failure(&error),
                    Err(error) => json!({"code": "UNKNOWN", "message": error.to_string()}),
                },
            };
            line["case"] = given["name"].clone();
            println!("{line}");
        }
    }

    async fn line(&mut self, given: &Value) -> Result<Value, Failure> {
        let client = self.client(given)?;
        match given["call"].as_str().unwrap_or_default() {
            "EmbedStream" => self.stream(client, given).await,
            call => self.unary(call, client, given).await,
        }
    }

    /// One connection for each endpoint and number of retries.
    fn client(&mut self, given: &Value) -> Result<Client, Failure> {
        let name = given["endpoint"].as_str().unwrap_or_default();
        let retries = given["retries"].as_u64().map_or(MAX_RETRIES, |retries| retries as u32);
        let key = (name.to_string(), retries);
        if let Some(client) = self.clients.get(&key) {
            return Ok(client.clone());
        }
        let endpoint = &self.plan["endpoints"][name];
        let access = Access {
            tls: endpoint["tls"].as_bool().unwrap_or(false),
            ca_pem: endpoint["ca_file"].as_str().map(std::fs::read_to_string).transpose()?,
            token: endpoint["token"].as_str().map(String::from),
        };
        let client = Client::new(endpoint["address"].as_str().unwrap_or_default(), &access, retries)?;
        self.clients.insert(key, client.clone());
        Ok(client)
    }

    async fn unary(&mut self, call: &str, client: Client, given: &Value) -> Result<Value, Failure> {
        let (pictures, timeout) = (self.pictures(), timeout(given));
        macro_rules! answer {
            ($name:ident) => {
                client.$name(request(given, &pictures)?, timeout).await?
            };
        }
        Ok(match call {
            "EmbedTexts" => answer!(embed_texts).report(),
            "EmbedImages" => answer!(embed_images).report(),
            "Score" => answer!(score).report(),
            "GetModel" => answer!(get_model).report(),
            "Tokenize" => answer!(tokenize).report(),
            "CreateLabelSet" => {
                let made = answer!(create_label_set);
                self.label_sets.insert(given["name"].to_string(), made.label_set.clone());
                made.report()
            }
            "Classify" => {
                let mut asked: v1::ClassifyRequest = request(given, &pictures)?;
                if given["label_set_from"].is_string() {
                    asked.label_set = self.label_sets[&given["label_set_from"].to_string()].clone();
                }
                client.classify(asked, timeout).await?.report()
            }
            _ => return Err(format!("unknown call {call}").into()),
        })
    }

    fn pictures(&self) -> Pictures {
        Pictures(self.plan["inputs"].as_str().unwrap_or_default().into())
    }

    async fn stream(&self, client: Client, given: &Value) -> Result<Value, Failure> {
        let wanted = Fields(&given["stream"]);
        let texts = wanted.texts("texts").into_iter().map(Content::Text);
        let images = self.pictures().read(&wanted.texts("images"))?.into_iter().map(Content::Image);
        let contents: Vec<Content> = texts.chain(images).collect();
        let count = wanted.number("count") as usize;
        let dtype = wanted.text("dtype");
        let options = StreamOptions {
            dtype: v1::Dtype::from_str_name(&dtype).unwrap_or(v1::Dtype::F32),
            ordered: wanted.truth("ordered").unwrap_or(false),
            timeout: timeout(given),
            model: wanted.text("model"),
            normalize: wanted.truth("normalize").unwrap_or(true),
        };
        let mut items = Items::new(count.min(contents.len()));
        let (mut results, mut counts) = (0, StreamCounts::default());
        let source = tokio_stream::iter((0..count).map(|i| contents[i % contents.len()].clone()));
        let sink = |result: v1::EmbedStreamResult| {
            items.add_streamed(result);
            results += 1;
            if results % 100 == 0 {
                println!("{}", json!({"case": given["name"], "progress": results}));
            }
            if results == 100 {
                // What a caller does who is busy.
                std::thread::sleep(Duration::from_millis(given["stream"]["pause_ms"].as_u64().unwrap_or(0)));
            }
        };
        let mut line = match client.embed_stream(source, sink, options, &mut counts).await {
            Ok(()) => json!({"code": "OK", "message": ""}),
            Err(error) => report::failure(&error),
        };
        items.report(&mut line);
        report::counts(&counts, &mut line);
        Ok(line)
    }
}

/// A time that is past is none.
fn timeout(given: &Value) -> Duration {
    Duration::from_millis(given["timeout_ms"].as_i64().unwrap_or(30_000).max(0) as u64)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let path = std::env::args().nth(1).ok_or("usage: conformance PLAN.json")?;
    Plan::read(&path)?.run().await;
    Ok(())
}
