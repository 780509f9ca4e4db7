//! Who has which item of a stream: free of any transport, and of tasks.
//!
//! Items come in as the window has room, go out as the stream has credit, and come back as results. A stream
//! that is lost gives back what it has not answered, so that each item has exactly one result.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use crate::errors::Error;
use crate::v1::{self, embed_stream_item::Content, embed_stream_result};

/// Of one message. More only delays the first of them.
const CHUNK_ITEMS: usize = 64;
const CHUNK_BYTES: u64 = 1024 * 1024;
/// What protobuf puts around an item, and around the only item of a message.
const ITEM_OVERHEAD_BYTES: u64 = 16;
const ENVELOPE_BYTES: u64 = 64;
/// Heartbeats that may fail to come, and their interval until `opened` says better.
const MISSED: u32 = 3;
const HEARTBEAT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct StreamOptions {
    pub dtype: v1::Dtype,
    /// Results in the order of the items.
    pub ordered: bool,
    /// Longest time without any result; what passes sooner is ridden out.
    pub timeout: Duration,
    /// Asked for by its name; empty: the one that is served.
    pub model: String,
    /// Vectors of length 1.
    pub normalize: bool,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            dtype: v1::Dtype::F32,
            ordered: false,
            timeout: crate::TIMEOUT,
            model: String::new(),
            normalize: true,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct StreamCounts {
    pub results: u64,
    /// Results of items that had one.
    pub duplicates: u64,
    /// Items sent and not answered, at most.
    pub most_unanswered: usize,
    /// The least that any stream allowed.
    pub allowed_unanswered: Option<u32>,
    pub streams: u64,
}

struct Entry {
    item: v1::EmbedStreamItem,
    bytes: u64,
    tries: u32,
}

pub(crate) struct Flow<'a> {
    options: StreamOptions,
    retries: u32,
    counts: &'a mut StreamCounts,
    /// The last that came: its limits hold for new items.
    opened: Option<v1::StreamOpened>,
    fingerprint: Option<String>,
    waiting: VecDeque<Entry>,
    exhausted: bool,
    accepted: u64,
    answered: u64,
    taken: u64,
    held_bytes: u64,
    progress: Instant,
    // Of the stream that is open.
    open: bool,
    draining: bool,
    useful: bool,
    heard: Instant,
    unanswered: BTreeMap<u64, Entry>,
    unanswered_bytes: u64,
    ready: Vec<v1::EmbedStreamResult>,
    /// Ordered: not yet their turn.
    early: BTreeMap<u64, v1::EmbedStreamResult>,
    next: u64,
}

impl<'a> Flow<'a> {
    /// `retries`: how often an item that failed in passing is sent again.
    pub fn new(options: StreamOptions, retries: u32, counts: &'a mut StreamCounts) -> Self {
        let now = Instant::now();
        Self {
            options,
            retries,
            counts,
            opened: None,
            fingerprint: None,
            waiting: VecDeque::new(),
            exhausted: false,
            accepted: 0,
            answered: 0,
            taken: 0,
            held_bytes: 0,
            progress: now,
            open: false,
            draining: false,
            useful: false,
            heard: now,
            unanswered: BTreeMap::new(),
            unanswered_bytes: 0,
            ready: Vec::new(),
            early: BTreeMap::new(),
            next: 0,
        }
    }

    /// The first message of each stream.
    pub fn first(&self) -> v1::EmbedStreamRequest {
        let StreamOptions { dtype, model, normalize, .. } = &self.options;
        let embedding = v1::EmbeddingOptions { dtype: (*dtype).into(), normalize: Some(*normalize) };
        let options =
            v1::EmbedStreamOptions { model: model.clone(), embedding: Some(embedding), ..Default::default() };
        v1::EmbedStreamRequest { options: Some(options), items: vec![] }
    }

    /// Whether another item may be taken from the source.
    pub fn has_room(&self) -> bool {
        let Some(opened) = self.opened.as_ref().filter(|_| !self.exhausted) else {
            return false;
        };
        let held = self.accepted - self.taken;
        let fits = held < opened.max_unanswered_items.into() && self.held_bytes < opened.max_unanswered_bytes;
        held == 0 || fits
    }

    /// The next item; its id becomes its place.
    pub fn add(&mut self, content: Content) {
        if self.accepted == self.answered {
            self.progress = Instant::now();
        }
        let (id, bytes) = (self.accepted, content_bytes(&content));
        self.accepted += 1;
        if let Some(error) = self.refusal(&content, bytes) {
            let result = Some(embed_stream_result::Result::Error(error));
            return self.finish(v1::EmbedStreamResult { id, result });
        }
        self.held_bytes += bytes;
        let item = v1::EmbedStreamItem { id, content: Some(content) };
        self.waiting.push_back(Entry { item, bytes, tries: 1 });
    }

    /// The service would refuse it too, but a large enough one would end the stream.
    fn refusal(&self, content: &Content, bytes: u64) -> Option<v1::ItemError> {
        let opened = self.opened.as_ref()?;
        let (most, reason) = match content {
            Content::Text(_) => (opened.max_text_bytes, "TEXT_TOO_LONG"),
            Content::Image(_) => (opened.max_image_bytes, "IMAGE_TOO_LARGE"),
            _ => (u64::MAX, "ITEM_TOO_LARGE"),
        };
        let limit = most.min(opened.max_message_bytes.saturating_sub(ENVELOPE_BYTES));
        (bytes > limit).then(|| v1::ItemError {
            code: Code::InvalidArgument as i32,
            reason: reason.into(),
            message: format!("{bytes} bytes given, at most {limit} allowed"),
            ..Default::default()
        })
    }

    /// The caller was busy since then: that does not count as waiting for the service.
    pub fn excuse(&mut self, since: Instant) {
        let held = since.elapsed();
        self.heard += held;
        self.progress += held;
    }

    /// The source has no more.
    pub fn exhaust(&mut self) {
        self.exhausted = true;
    }

    /// A new stream begins, of which nothing is known.
    pub fn begin(&mut self) {
        (self.open, self.draining, self.useful) = (false, false, false);
        self.heard = Instant::now();
        self.counts.streams += 1;
    }

    /// As much as waits, fits into one message and the stream has credit for.
    pub fn next_message(&mut self) -> Option<v1::EmbedStreamRequest> {
        let most = CHUNK_BYTES.min(self.opened.as_ref()?.max_message_bytes);
        let (mut items, mut bytes) = (vec![], 0);
        while items.len() < CHUNK_ITEMS
            && self.waiting.front().is_some_and(|entry| self.has_credit(entry.bytes))
        {
            bytes += self.waiting[0].bytes + ITEM_OVERHEAD_BYTES;
            if !items.is_empty() && bytes > most {
                break;
            }
            let entry = self.waiting.pop_front()?;
            items.push(entry.item.clone());
            self.unanswered_bytes += entry.bytes;
            self.unanswered.insert(entry.item.id, entry);
        }
        self.counts.most_unanswered = self.counts.most_unanswered.max(self.unanswered.len());
        (!items.is_empty()).then_some(v1::EmbedStreamRequest { options: None, items })
    }

    fn has_credit(&self, bytes: u64) -> bool {
        let Some(opened) = self.opened.as_ref().filter(|_| self.open && !self.draining) else {
            return false;
        };
        let fits = self.unanswered.len() < opened.max_unanswered_items as usize
            && self.unanswered_bytes + bytes <= opened.max_unanswered_bytes;
        self.unanswered.is_empty() || fits // one that is alone may have any size
    }

    /// A message of the stream. The error is one that ends everything.
    pub fn hear(&mut self, response: v1::EmbedStreamResponse) -> Result<(), Error> {
        self.heard = Instant::now();
        if let Some(opened) = response.opened {
            self.open_with(opened)?;
        }
        self.draining |= response.draining;
        response.results.into_iter().try_for_each(|result| self.read(result))
    }

    fn open_with(&mut self, opened: v1::StreamOpened) -> Result<(), Error> {
        let now = opened.model.as_ref().map(|model| model.fingerprint.clone()).unwrap_or_default();
        let was = self.fingerprint.get_or_insert_with(|| now.clone());
        if *was != now {
            // Vectors of two models must never be mixed.
            return Err(fault(format!("another model is served than before: was {was}, now {now}")));
        }
        if self.opened.is_none() {
            self.progress = Instant::now();
        }
        let allowed = opened.max_unanswered_items;
        self.counts.allowed_unanswered = Some(self.counts.allowed_unanswered.unwrap_or(allowed).min(allowed));
        (self.opened, self.open) = (Some(opened), true);
        Ok(())
    }

    fn read(&mut self, result: v1::EmbedStreamResult) -> Result<(), Error> {
        let Some(mut entry) = self.unanswered.remove(&result.id) else {
            return self.read_again(result.id);
        };
        self.useful = true;
        self.progress = Instant::now();
        self.unanswered_bytes -= entry.bytes;
        if is_retryable(&result) && entry.tries <= self.retries {
            entry.tries += 1;
            self.waiting.push_back(entry);
            return Ok(());
        }
        self.held_bytes -= entry.bytes;
        self.finish(result);
        Ok(())
    }

    fn read_again(&mut self, id: u64) -> Result<(), Error> {
        if id >= self.accepted {
            return Err(fault(format!("the stream has a result of item {id}, which was not sent")));
        }
        self.counts.duplicates += 1;
        Ok(())
    }

    fn finish(&mut self, mut result: v1::EmbedStreamResult) {
        self.answered += 1;
        if let Some(embed_stream_result::Result::Error(error)) = &mut result.result {
            // The service counts within its message, the caller within the stream.
            (error.index, error.field) = (result.id as u32, format!("items[{}]", result.id));
        }
        if !self.options.ordered {
            return self.ready.push(result);
        }
        self.early.insert(result.id, result);
        while let Some(found) = self.early.remove(&self.next) {
            self.ready.push(found);
            self.next += 1;
        }
    }

    /// The stream has ended; what it has not answered waits again, in its order.
    pub fn lose(&mut self) {
        for (_, entry) in std::mem::take(&mut self.unanswered).into_iter().rev() {
            self.waiting.push_front(entry);
        }
        self.unanswered_bytes = 0;
        self.open = false;
    }

    /// What is ready; each item exactly once.
    pub fn take(&mut self) -> Vec<v1::EmbedStreamResult> {
        self.taken += self.ready.len() as u64;
        self.counts.results += self.ready.len() as u64;
        std::mem::take(&mut self.ready)
    }

    pub fn all_answered(&self) -> bool {
        self.exhausted && self.accepted == self.answered
    }

    pub fn finished(&self) -> bool {
        self.all_answered() && self.ready.is_empty()
    }

    /// Whether our side is to be closed.
    pub fn sends_no_more(&self) -> bool {
        self.draining || self.all_answered()
    }

    /// In a row: a stream that was of use begins a new one.
    pub fn failures_after(&self, failures: u32) -> u32 {
        match (self.draining, self.useful) {
            (true, _) => 0,
            (_, true) => 1,
            _ => failures + 1,
        }
    }

    /// When its next message is overdue.
    pub fn silent_at(&self) -> Instant {
        let told = self.opened.as_ref().filter(|_| self.open);
        let told = told.map(|opened| Duration::from_millis(opened.heartbeat_interval_ms.max(100).into()));
        self.heard + MISSED * told.unwrap_or(HEARTBEAT)
    }

    /// When too much time has passed without a result; None: nothing is waited for.
    pub fn stuck_at(&self) -> Option<Instant> {
        let waits = self.opened.is_none() || self.accepted > self.answered;
        waits.then(|| self.progress + self.options.timeout)
    }
}

fn content_bytes(content: &Content) -> u64 {
    match content {
        Content::Text(text) => text.len() as u64,
        Content::Image(bytes) | Content::Pixels(bytes) => bytes.len() as u64,
        Content::TokenIds(tokens) => 4 * tokens.ids.len() as u64,
    }
}

fn is_retryable(result: &v1::EmbedStreamResult) -> bool {
    matches!(&result.result, Some(embed_stream_result::Result::Error(error)) if error.retryable)
}

fn fault(message: String) -> Error {
    Error::new(Code::Internal, message)
}
