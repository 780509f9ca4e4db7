//! Every call of the service, with a deadline, retried where that helps.

use std::future::Future;
use std::time::Duration;

use tokio::time::{sleep, timeout_at, Instant};
use tokio_stream::Stream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::channel::{self, Access, MAX_MESSAGE_BYTES, MAX_RETRIES};
use crate::errors::{Error, Pushback};
use crate::flow::{StreamCounts, StreamOptions};
use crate::stream;
use crate::v1::embedding_service_client::EmbeddingServiceClient;
use crate::v1::model_service_client::ModelServiceClient;
use crate::v1::zero_shot_service_client::ZeroShotServiceClient;
use crate::v1::{self, embed_stream_item::Content};

/// A usual time for a call, with all its retries.
pub const TIMEOUT: Duration = Duration::from_secs(30);

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// Cheap to clone; clones share a connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    retries: u32,
}

/// A method for each unary call, in the terms of its stub.
macro_rules! calls {
    ($($stub:ident: $($name:ident($request:ident) -> $response:ident),+;)+) => {$($(
        /// `timeout` is the whole time of the call, with all retries.
        pub async fn $name(&self, request: v1::$request, timeout: Duration) -> Result<v1::$response, Error> {
            let send = |channel, request| async move {
                let mut stub = $stub::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
                stub.$name(request).await
            };
            self.call(request, timeout, send).await
        }
    )+)+};
}

impl Client {
    /// `retries`: how often a call may be sent again, 0 to MAX_RETRIES. Nothing is sent yet.
    pub fn new(address: &str, access: &Access, retries: u32) -> Result<Self, Error> {
        if retries > MAX_RETRIES {
            let why = format!("retries must be between 0 and {MAX_RETRIES}, not {retries}");
            return Err(Error::new(Code::InvalidArgument, why));
        }
        let token = access.token.as_ref().map(|token| format!("Bearer {token}").parse());
        let unreadable =
            |_| Error::new(Code::InvalidArgument, "the token has characters that no header may have");
        Ok(Self {
            channel: channel::open(address, access)?,
            token: token.transpose().map_err(unreadable)?,
            retries,
        })
    }

    calls! {
        EmbeddingServiceClient:
            embed_texts(EmbedTextsRequest) -> EmbedTextsResponse,
            embed_images(EmbedImagesRequest) -> EmbedImagesResponse;
        ZeroShotServiceClient:
            classify(ClassifyRequest) -> ClassifyResponse,
            score(ScoreRequest) -> ScoreResponse,
            create_label_set(CreateLabelSetRequest) -> CreateLabelSetResponse;
        ModelServiceClient:
            get_model(GetModelRequest) -> GetModelResponse,
            tokenize(TokenizeRequest) -> TokenizeResponse;
    }

    /// Gives `sink` exactly one result of each item, as they come; its id is the item's place, from 0. A
    /// bad item has an error instead of a vector.
    ///
    /// `items` are taken only as fast as results are. `counts` is kept up while it runs.
    pub async fn embed_stream(
        &self,
        items: impl Stream<Item = Content> + Unpin,
        sink: impl FnMut(v1::EmbedStreamResult),
        options: StreamOptions,
        counts: &mut StreamCounts,
    ) -> Result<(), Error> {
        let stub =
            EmbeddingServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let open = |messages| {
            let (mut stub, request) = (stub.clone(), self.with_token(Request::new(messages)));
            async move { stub.embed_stream(request).await }
        };
        stream::run(open, items, sink, options, self.retries, counts).await
    }

    async fn call<T: Clone, R, F>(
        &self,
        request: T,
        timeout: Duration,
        send: impl Fn(Channel, Request<T>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let deadline = Instant::now() + timeout;
        for sent in 0.. {
            let left = deadline - Instant::now();
            if left.is_zero() {
                return Err(too_late());
            }
            let mut message = self.with_token(Request::new(request.clone()));
            message.set_timeout(left); // the service gives up then, too
            let error: Error = match timeout_at(deadline, send(self.channel.clone(), message)).await {
                Err(_) => return Err(too_late()),
                Ok(Ok(response)) => return Ok(response.into_inner()),
                // tonic has a clock of its own for this, and another word.
                Ok(Err(_)) if Instant::now() >= deadline => return Err(too_late()),
                Ok(Err(status)) => status.into(),
            };
            let wait = retry_wait(&error, sent)
                .filter(|wait| sent < self.retries && Instant::now() + *wait < deadline);
            match wait {
                Some(wait) => sleep(wait).await,
                None => return Err(error),
            }
        }
        unreachable!("the last attempt returns")
    }

    fn with_token<T>(&self, mut request: Request<T>) -> Request<T> {
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }
}

fn too_late() -> Error {
    Error::new(Code::DeadlineExceeded, "no answer in time")
}

/// None: sending the call again would not help. What was refused together should not come back together.
fn retry_wait(error: &Error, sent: u32) -> Option<Duration> {
    match (error.code, error.pushback) {
        (_, Pushback::Never) => None,
        (Code::Unavailable | Code::ResourceExhausted, Pushback::After(told)) => {
            Some(told.mul_f64(stream::spread(1.0, 1.25)))
        }
        // CANCELLED, and not by us: the call arrived as the gateway stopped.
        (Code::Unavailable | Code::Cancelled, _) => Some(backoff(sent)),
        // What tonic makes of a connection that breaks. The service's have a reason.
        (Code::Unknown, _) if error.reason.is_empty() => Some(backoff(sent)),
        _ => None,
    }
}

fn backoff(sent: u32) -> Duration {
    (FIRST_WAIT * 2u32.pow(sent)).min(LONGEST_WAIT).mul_f64(stream::spread(0.8, 1.2))
}
