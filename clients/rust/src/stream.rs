//! EmbedStream over connections that may break: opened again until each item has a result.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout_at, Instant};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Response, Status, Streaming};

use crate::errors::{Error, Pushback};
use crate::flow::{Flow, StreamCounts, StreamOptions};
use crate::v1::{embed_stream_item::Content, EmbedStreamRequest, EmbedStreamResponse, EmbedStreamResult};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

type Messages = UnboundedReceiverStream<EmbedStreamRequest>;
type Sender = mpsc::UnboundedSender<EmbedStreamRequest>;

/// How a stream ended that is not to be the last.
enum End {
    /// Opening another one may help.
    Lost(Option<Error>),
    /// It may not.
    Fatal(Error),
}

/// `open` makes a call of the messages that it sends.
pub(crate) async fn run<F>(
    open: impl Fn(Messages) -> F,
    mut items: impl Stream<Item = Content> + Unpin,
    mut sink: impl FnMut(EmbedStreamResult),
    options: StreamOptions,
    retries: u32,
    counts: &mut StreamCounts,
) -> Result<(), Error>
where
    F: Future<Output = Result<Response<Streaming<EmbedStreamResponse>>, Status>>,
{
    let mut flow = Flow::new(options, retries, counts);
    let (mut failures, mut last) = (0, None);
    while !flow.finished() {
        check_time(&flow, &last)?;
        flow.begin();
        let end = converse(&open, &mut flow, &mut items, &mut sink, &mut last).await;
        flow.lose();
        if flow.finished() {
            break;
        }
        failures = flow.failures_after(failures);
        let failure = match end {
            End::Lost(failure) => failure,
            End::Fatal(error) => return Err(error),
        };
        let until = Instant::now() + reopen_wait(failure.as_ref(), failures)?;
        last = failure.or(last);
        sleep_until(flow.stuck_at().map_or(until, |stuck| until.min(stuck))).await;
    }
    Ok(())
}

/// One stream, from its opening to its end. Dropping the answers ends the call.
async fn converse<F>(
    open: &impl Fn(Messages) -> F,
    flow: &mut Flow<'_>,
    items: &mut (impl Stream<Item = Content> + Unpin),
    sink: &mut impl FnMut(EmbedStreamResult),
    last: &mut Option<Error>,
) -> End
where
    F: Future<Output = Result<Response<Streaming<EmbedStreamResponse>>, Status>>,
{
    // What is in this channel is bounded by the stream's credit.
    let (sender, messages) = mpsc::unbounded_channel();
    let _ = sender.send(flow.first());
    let mut sender = Some(sender);
    let opening = timeout_at(look_at(flow), open(UnboundedReceiverStream::new(messages)));
    let mut answers = match opening.await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return End::Lost(Some(status.into())),
        Err(_) => return End::Lost(None),
    };
    loop {
        let since = Instant::now();
        flow.take().into_iter().for_each(&mut *sink);
        flow.excuse(since);
        send(flow, &mut sender);
        tokio::select! {
            answer = answers.message() => match answer {
                Ok(Some(response)) => {
                    *last = None;
                    if let Err(error) = flow.hear(response) {
                        return End::Fatal(error);
                    }
                }
                Ok(None) => return End::Lost(None),
                Err(status) => return End::Lost(Some(status.into())),
            },
            item = items.next(), if flow.has_room() => match item {
                Some(content) => flow.add(content),
                None => flow.exhaust(),
            },
            () = sleep_until(look_at(flow)) => {
                if let Err(error) = check_time(flow, last) {
                    return End::Fatal(error);
                }
                if Instant::now() >= flow.silent_at() {
                    return End::Lost(None);
                }
            }
        }
    }
}

/// All that may go now; our side is closed when nothing more comes.
fn send(flow: &mut Flow<'_>, sender: &mut Option<Sender>) {
    while let Some(message) = sender.as_ref().and_then(|_| flow.next_message()) {
        // One that does not arrive is unanswered, and goes over the next stream.
        let _ = sender.as_ref().map(|sender| sender.send(message));
    }
    if flow.sends_no_more() {
        sender.take();
    }
}

/// When something has to be done even though nothing happens.
fn look_at(flow: &Flow<'_>) -> Instant {
    let silent = flow.silent_at();
    flow.stuck_at().map_or(silent, |stuck| stuck.min(silent))
}

fn check_time(flow: &Flow<'_>, last: &Option<Error>) -> Result<(), Error> {
    if flow.stuck_at().is_none_or(|stuck| Instant::now() < stuck) {
        return Ok(());
    }
    let why = last.as_ref().map(|error| format!(": {}", error.message)).unwrap_or_default();
    Err(Error::new(Code::DeadlineExceeded, format!("no item was answered in time{why}")))
}

/// How long to wait before the stream is opened again. The error: that would not help.
fn reopen_wait(failure: Option<&Error>, failures: u32) -> Result<Duration, Error> {
    let wait = backoff(failures);
    let Some(error) = failure else { return Ok(wait) };
    match (error.code, error.pushback) {
        (Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded, _) => Ok(wait),
        (Code::ResourceExhausted, Pushback::After(told)) => Ok(wait.max(told.mul_f64(spread(1.0, 1.25)))),
        // Of the connection, when it breaks at the wrong moment. The service's have a reason.
        (Code::Internal | Code::Unknown, _) if error.reason.is_empty() => Ok(wait),
        _ => Err(error.clone()),
    }
}

/// Streams that were lost together should not come back together.
fn backoff(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ => (FIRST_WAIT * 2u32.pow((failures - 1).min(10))).min(LONGEST_WAIT).mul_f64(spread(0.75, 1.25)),
    }
}

/// A random number; the standard library's only source of them seeds its hash maps.
pub(crate) fn spread(from: f64, to: f64) -> f64 {
    let random = RandomState::new().build_hasher().finish();
    from + (to - from) * (random as f64 / u64::MAX as f64)
}
