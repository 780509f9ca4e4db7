// EmbedStream over connections that may break: opened again until each item has a result.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "siglip/flow.h"
#include "siglip/v1/embedding.grpc.pb.h"

namespace siglip {

// Puts the next item's content into its argument (not its id, which becomes its place,
// from 0); false when there are no more. Asked only as fast as results are taken.
using StreamSource = std::function<bool(v1::EmbedStreamItem*)>;
// Gets exactly one result of each item. A bad item has an error instead of a vector.
using StreamSink = std::function<void(const v1::EmbedStreamResult&)>;

// The source and the sink are called in the thread of run(); each stream has a thread
// that reads and one that writes.
class Stream {
 public:
  Stream(v1::EmbeddingService::Stub& stub, std::string token, const StreamOptions& options, int retries);

  Error run(const StreamSource& source, const StreamSink& sink);
  const StreamCounts& counts() const { return flow_.counts(); }

 private:
  struct Link;

  Error converse(const StreamSource& source, const StreamSink& sink, Link& link);
  Error move(const StreamSource& source, const StreamSink& sink, Link& link, std::unique_lock<std::mutex>& lock);
  void read(Link& link);
  void write(Link& link);
  Error timed_out() const;

  v1::EmbeddingService::Stub& stub_;
  const std::string token_;
  Flow flow_;
  Error last_failure_;
  std::mutex mutex_;
  std::condition_variable news_, work_;  // for the caller's thread; for the writer
};

}  // namespace siglip
