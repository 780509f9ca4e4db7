#include "siglip/stream.h"

#include <algorithm>
#include <optional>
#include <random>
#include <thread>
#include <utility>

namespace siglip {
namespace {

using Clock = Flow::Clock;

constexpr double kFirstWaitMs = 100, kLongestWaitMs = 3000;

double spread(double from, double to) {
  static thread_local std::minstd_rand random{std::random_device{}()};
  return std::uniform_real_distribution<double>(from, to)(random);
}

// Streams that were lost together should not come back together.
Milliseconds backoff(int failures) {
  if (failures == 0) return Milliseconds(0);
  double wait = kFirstWaitMs * static_cast<double>(1 << std::min(failures - 1, 10));
  return Milliseconds(static_cast<int>(std::min(kLongestWaitMs, wait) * spread(0.75, 1.25)));
}

// How long to wait before the stream is opened again; nothing: that would not help.
std::optional<Milliseconds> reopen_wait(const Error& error, int failures) {
  switch (error.code) {
    case grpc::StatusCode::OK:
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::CANCELLED:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return backoff(failures);
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      if (!error.pushback) return std::nullopt;
      return std::max(backoff(failures),
                      Milliseconds(static_cast<std::int64_t>(error.pushback->count() * spread(1.0, 1.25))));
    case grpc::StatusCode::INTERNAL:
    case grpc::StatusCode::UNKNOWN:
      // gRPC's own, when a connection breaks at the wrong moment. The service's have a reason.
      return error.reason.empty() ? std::optional(backoff(failures)) : std::nullopt;
    default:
      return std::nullopt;
  }
}

}  // namespace

struct Stream::Link {
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<v1::EmbedStreamRequest, v1::EmbedStreamResponse>> call;
  bool ended = false;  // nothing more comes
  Error fatal;         // of what came
};

Stream::Stream(v1::EmbeddingService::Stub& stub, std::string token, const StreamOptions& options, int retries)
    : stub_(stub), token_(std::move(token)), flow_(options, retries) {}

Error Stream::run(const StreamSource& source, const StreamSink& sink) {
  int failures = 0;
  while (!flow_.finished()) {
    if (Clock::now() >= flow_.stuck_at()) return timed_out();
    Link link;
    flow_.begin();
    Error error = converse(source, sink, link);
    if (link.fatal) return link.fatal;
    if (flow_.finished()) break;
    failures = flow_.draining() ? 0 : flow_.was_of_use() ? 1 : failures + 1;
    auto wait = reopen_wait(error, failures);
    if (!wait) return error;
    if (error) last_failure_ = error;
    std::this_thread::sleep_until(std::min(Clock::now() + *wait, flow_.stuck_at()));
  }
  return {};
}

// One stream, from its opening to its end.
Error Stream::converse(const StreamSource& source, const StreamSink& sink, Link& link) {
  // A stream may last: it has no deadline, but is cancelled when its heartbeats fail.
  if (!token_.empty()) link.context.AddMetadata("authorization", "Bearer " + token_);
  link.call = stub_.EmbedStream(&link.context);
  std::thread reader(&Stream::read, this, std::ref(link)), writer(&Stream::write, this, std::ref(link));
  Error error;
  try {
    std::unique_lock lock(mutex_);
    error = move(source, sink, link, lock);
  } catch (...) {  // of the source or the sink: nothing may stay behind
    link.context.TryCancel();
    reader.join();
    writer.join();
    link.call->Finish();
    throw;
  }
  if (error) link.context.TryCancel();
  reader.join();
  writer.join();
  Error status = error_of(link.call->Finish(), link.context);
  flow_.lose();
  return error ? error : status;
}

// Until the stream has ended; an error ends everything.
Error Stream::move(const StreamSource& source, const StreamSink& sink, Link& link,
                   std::unique_lock<std::mutex>& lock) {
  auto unlocked = [&](auto&& callers_work) {
    const auto since = Clock::now();
    lock.unlock();
    callers_work();
    lock.lock();
    flow_.excuse(since);
  };
  for (;;) {
    if (auto ready = flow_.take(); !ready.empty()) {
      unlocked([&] {
        for (const auto& result : ready) sink(result);
      });
    } else if (link.ended) {
      return {};
    } else if (flow_.has_room()) {
      v1::EmbedStreamItem item;
      bool more = false;
      unlocked([&] { more = source(&item); });
      more ? flow_.add(std::move(item)) : flow_.exhaust();
      work_.notify_one();
    } else if (Clock::now() >= flow_.stuck_at()) {
      link.fatal = timed_out();
      return link.fatal;
    } else {
      if (Clock::now() >= flow_.silent_at()) link.context.TryCancel();
      auto until = std::min({flow_.stuck_at(), flow_.silent_at(), Clock::now() + Milliseconds(1000)});
      news_.wait_until(lock, std::max(until, Clock::now() + Milliseconds(50)));
    }
  }
}

void Stream::read(Link& link) {
  v1::EmbedStreamResponse response;
  while (link.call->Read(&response)) {
    std::lock_guard lock(mutex_);
    last_failure_ = {};
    if (Error error = flow_.hear(std::move(response))) {
      link.fatal = error;
      link.context.TryCancel();
      break;
    }
    news_.notify_one();
    work_.notify_one();
  }
  std::lock_guard lock(mutex_);
  link.ended = true;
  news_.notify_one();
  work_.notify_one();
}

void Stream::write(Link& link) {
  bool written = link.call->Write(flow_.first());
  while (written) {
    std::optional<v1::EmbedStreamRequest> message;
    {
      std::unique_lock lock(mutex_);
      while (!(message = flow_.next_message()))
        if (link.ended || flow_.draining() || flow_.all_answered())
          break;
        else
          work_.wait(lock);
    }
    if (!message) break;
    written = link.call->Write(*message);
  }
  link.call->WritesDone();
}

Error Stream::timed_out() const {
  Error error;
  error.code = grpc::StatusCode::DEADLINE_EXCEEDED;
  error.message = "no item was answered in time";
  if (last_failure_) error.message += ": " + last_failure_.message;
  return error;
}

}  // namespace siglip
