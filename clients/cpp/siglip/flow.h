// Who has which item of a stream: free of any transport, and of threads.
//
// Items come in as the window has room, go out as the stream has credit, and come back
// as results. A stream that is lost gives back what it has not answered, so that each
// item has exactly one result.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "siglip/errors.h"
#include "siglip/v1/embedding.pb.h"

namespace siglip {

struct StreamOptions {
  v1::Dtype dtype = v1::DTYPE_F32;
  bool ordered = false;            // results in the order of the items
  Milliseconds timeout{30000};     // longest time without any result
  std::string model;               // asked for by its name; empty: the one that is served
  bool normalize = true;           // vectors of length 1
};

struct StreamCounts {
  std::uint64_t results = 0;
  std::uint64_t duplicates = 0;          // results of items that had one
  std::uint64_t most_unanswered = 0;     // items sent and not answered
  std::uint64_t allowed_unanswered = 0;  // the least that any stream allowed
  std::uint64_t streams = 0;
};

class Flow {
 public:
  using Clock = std::chrono::steady_clock;

  // `retries`: how often an item that failed in passing is sent again.
  Flow(const StreamOptions& options, int retries);

  // The first message of each stream.
  v1::EmbedStreamRequest first() const;

  // Whether another item may be taken from the source.
  bool has_room() const;
  // The next item; its id becomes its place.
  void add(v1::EmbedStreamItem item);
  // The caller was busy since then: that does not count as waiting for the service.
  void excuse(Clock::time_point since);
  // The source has no more.
  void exhaust() { exhausted_ = true; }

  // A new stream begins, of which nothing is known.
  void begin();
  // As much as waits, fits into one message and the stream has credit for.
  std::optional<v1::EmbedStreamRequest> next_message();
  // A message of the stream. The error is one that ends everything.
  Error hear(v1::EmbedStreamResponse response);
  // The stream has ended; what it has not answered waits again, in its order.
  void lose();

  // What is ready; each item exactly once.
  std::vector<v1::EmbedStreamResult> take();

  bool all_answered() const { return exhausted_ && accepted_ == answered_; }
  bool finished() const { return all_answered() && ready_.empty(); }
  bool draining() const { return draining_; }
  bool was_of_use() const { return useful_; }
  // When its next message is overdue.
  Clock::time_point silent_at() const;
  // When too much time has passed without a result.
  Clock::time_point stuck_at() const;
  const StreamCounts& counts() const { return counts_; }

 private:
  struct Entry {
    v1::EmbedStreamItem item;
    std::uint64_t bytes = 0;
    int tries = 1;
  };

  Error open(const v1::StreamOpened& opened);
  Error read(v1::EmbedStreamResult& result);
  void finish(v1::EmbedStreamResult result);
  std::optional<std::string> too_large(const v1::EmbedStreamItem& item, std::uint64_t bytes) const;
  bool has_credit(std::uint64_t bytes) const;

  const StreamOptions options_;
  const int retries_;
  std::optional<v1::StreamOpened> opened_;  // the last that came: its limits hold for new items
  std::string fingerprint_;
  std::deque<Entry> waiting_;
  bool exhausted_ = false;
  std::uint64_t accepted_ = 0, answered_ = 0, taken_ = 0, held_bytes_ = 0;

  // Of the stream that is open.
  bool open_ = false, draining_ = false, useful_ = false;
  std::map<std::uint64_t, Entry> unanswered_;
  std::uint64_t unanswered_bytes_ = 0;
  Clock::time_point heard_, progress_;

  std::deque<v1::EmbedStreamResult> ready_;
  std::map<std::uint64_t, v1::EmbedStreamResult> early_;  // ordered: not yet their turn
  std::uint64_t next_ = 0;
  StreamCounts counts_;
};

}  // namespace siglip
