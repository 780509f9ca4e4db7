//! Embeds texts, classifies a picture, shows an error, and streams 1,000 texts.
//!
//! cargo run --example example [ADDRESS [CA_FILE]]     the token, if any, is in SIGLIP_TOKEN

use std::error::Error;
use std::time::Duration;

use siglip_client::v1::{
    self, classification_result, embed_stream_item::Content, embed_stream_result, embedding_result,
};
use siglip_client::{Access, Client, StreamCounts, StreamOptions, MAX_RETRIES, TIMEOUT};

async fn embed(client: &Client) -> Result<(), Box<dyn Error>> {
    let half_the_bytes = v1::EmbeddingOptions { dtype: v1::Dtype::F16.into(), ..Default::default() };
    let request = v1::EmbedTextsRequest {
        texts: vec!["a red circle".into(), "a blue square".into()],
        options: Some(half_the_bytes),
        ..Default::default()
    };
    for result in client.embed_texts(request, TIMEOUT).await?.results {
        if let Some(embedding_result::Result::Embedding(vector)) = result.result {
            println!(
                "a vector of {} numbers: {:?}, ...",
                vector.dim,
                vector.numbers().ok_or("unknown encoding")?[0]
            );
        }
    }
    Ok(())
}

async fn classify(client: &Client, image: Vec<u8>) -> Result<(), Box<dyn Error>> {
    let labels = ["a red circle", "a blue square", "two yellow stars"].map(String::from).to_vec();
    let request = v1::ClassifyRequest { images: vec![image], labels, ..Default::default() };
    for image in client.classify(request, Duration::from_secs(10)).await?.results {
        match image.result {
            Some(classification_result::Result::Scores(found)) => {
                found.scores.iter().for_each(|score| println!("{:.3}  {}", score.probability, score.label));
            }
            Some(classification_result::Result::Error(error)) => {
                println!("{}: {}", error.field, error.message)
            }
            None => println!("no result"),
        }
    }
    Ok(())
}

async fn be_refused(client: &Client) {
    let nothing = v1::EmbedTextsRequest::default();
    if let Err(error) = client.embed_texts(nothing, TIMEOUT).await {
        println!("{error} ({})", error.reason);
        error.violations.iter().for_each(|each| println!("  {}: {}", each.field, each.description));
    }
}

async fn stream(client: &Client) -> Result<(), Box<dyn Error>> {
    let items = tokio_stream::iter((0..1000).map(|i| Content::Text(format!("picture number {i}"))));
    let (mut vectors, mut counts) = (0, StreamCounts::default());
    let sink = |result: v1::EmbedStreamResult| {
        vectors += u32::from(matches!(result.result, Some(embed_stream_result::Result::Embedding(_))));
    };
    client.embed_stream(items, sink, StreamOptions::default(), &mut counts).await?;
    println!("{vectors} vectors, never more than {} unanswered", counts.most_unanswered);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut given = std::env::args().skip(1);
    let address = given.next().unwrap_or("127.0.0.1:50051".into());
    let ca_pem = given.next().map(std::fs::read_to_string).transpose()?;
    let access = Access { ca_pem, token: std::env::var("SIGLIP_TOKEN").ok(), ..Default::default() };
    let client = Client::new(&address, &access, MAX_RETRIES)?;
    embed(&client).await?;
    classify(&client, std::fs::read("../../samples/red-circle.jpg")?).await?;
    be_refused(&client).await;
    stream(&client).await
}
