#include "siglip/flow.h"

#include <algorithm>
#include <utility>

namespace siglip {
namespace {

// Of one message. More only delays the first of them.
constexpr int kChunkItems = 64;
constexpr std::uint64_t kChunkBytes = 1024 * 1024;
// What protobuf puts around an item, and around the only item of a message.
constexpr std::uint64_t kItemOverheadBytes = 16;
constexpr std::uint64_t kEnvelopeBytes = 64;
// Heartbeats that may fail to come.
constexpr int kMissed = 3;
// Until `opened` says better.
constexpr Milliseconds kHeartbeat{10000};

std::uint64_t content_bytes(const v1::EmbedStreamItem& item) {
  switch (item.content_case()) {
    case v1::EmbedStreamItem::kText:
      return item.text().size();
    case v1::EmbedStreamItem::kImage:
      return item.image().size();
    case v1::EmbedStreamItem::kPixels:
      return item.pixels().size();
    case v1::EmbedStreamItem::kTokenIds:
      return 4 * item.token_ids().ids_size();
    default:
      return 0;
  }
}

Error fault(const std::string& message) {
  Error error;
  error.code = grpc::StatusCode::INTERNAL;
  error.message = message;
  return error;
}

}  // namespace

Flow::Flow(const StreamOptions& options, int retries)
    : options_(options), retries_(retries), heard_(Clock::now()), progress_(heard_) {}

v1::EmbedStreamRequest Flow::first() const {
  v1::EmbedStreamRequest request;
  request.mutable_options()->set_model(options_.model);
  request.mutable_options()->mutable_embedding()->set_dtype(options_.dtype);
  request.mutable_options()->mutable_embedding()->set_normalize(options_.normalize);
  return request;
}

bool Flow::has_room() const {
  if (exhausted_ || !opened_) return false;
  if (accepted_ == taken_) return true;
  return accepted_ - taken_ < opened_->max_unanswered_items() && held_bytes_ < opened_->max_unanswered_bytes();
}

void Flow::add(v1::EmbedStreamItem item) {
  if (accepted_ == answered_) progress_ = Clock::now();
  item.set_id(accepted_++);
  std::uint64_t bytes = content_bytes(item);
  if (auto why = too_large(item, bytes)) {
    v1::EmbedStreamResult result;
    result.set_id(item.id());
    result.mutable_error()->set_code(grpc::StatusCode::INVALID_ARGUMENT);
    result.mutable_error()->set_reason(item.has_text() ? "TEXT_TOO_LONG" : "IMAGE_TOO_LARGE");
    result.mutable_error()->set_message(*why);
    finish(std::move(result));
    return;
  }
  held_bytes_ += bytes;
  waiting_.push_back({std::move(item), bytes, 1});
}

// The service would refuse it too, but a large enough one would end the stream.
std::optional<std::string> Flow::too_large(const v1::EmbedStreamItem& item, std::uint64_t bytes) const {
  std::uint64_t limit = opened_->max_message_bytes() - kEnvelopeBytes;
  if (item.has_text()) limit = std::min<std::uint64_t>(limit, opened_->max_text_bytes());
  if (item.has_image()) limit = std::min<std::uint64_t>(limit, opened_->max_image_bytes());
  if (bytes <= limit) return std::nullopt;
  return std::to_string(bytes) + " bytes given, at most " + std::to_string(limit) + " allowed";
}

void Flow::excuse(Clock::time_point since) {
  const auto now = Clock::now();
  progress_ = std::min(now, progress_ + (now - since));
}

void Flow::begin() {
  open_ = draining_ = useful_ = false;
  heard_ = Clock::now();
  ++counts_.streams;
}

bool Flow::has_credit(std::uint64_t bytes) const {
  if (!open_ || draining_) return false;
  if (unanswered_.empty()) return true;  // one that is alone may have any size
  return unanswered_.size() < opened_->max_unanswered_items() &&
         unanswered_bytes_ + bytes <= opened_->max_unanswered_bytes();
}

std::optional<v1::EmbedStreamRequest> Flow::next_message() {
  v1::EmbedStreamRequest request;
  std::uint64_t bytes = 0, most = open_ ? std::min(kChunkBytes, opened_->max_message_bytes()) : 0;
  while (!waiting_.empty() && request.items_size() < kChunkItems && has_credit(waiting_.front().bytes)) {
    bytes += waiting_.front().bytes + kItemOverheadBytes;
    if (request.items_size() && bytes > most) break;
    Entry entry = std::move(waiting_.front());
    waiting_.pop_front();
    *request.add_items() = entry.item;
    unanswered_bytes_ += entry.bytes;
    unanswered_.emplace(entry.item.id(), std::move(entry));
  }
  counts_.most_unanswered = std::max<std::uint64_t>(counts_.most_unanswered, unanswered_.size());
  if (!request.items_size()) return std::nullopt;
  return request;
}

Error Flow::hear(v1::EmbedStreamResponse response) {
  heard_ = Clock::now();
  if (response.has_opened())
    if (Error error = open(response.opened())) return error;
  draining_ |= response.draining();
  for (auto& result : *response.mutable_results())
    if (Error error = read(result)) return error;
  return {};
}

Error Flow::open(const v1::StreamOpened& opened) {
  // Vectors of two models must never be mixed.
  if (fingerprint_.empty()) fingerprint_ = opened.model().fingerprint();
  if (fingerprint_ != opened.model().fingerprint())
    return fault("another model is served than before: was " + fingerprint_ + ", now " +
                 opened.model().fingerprint());
  if (!opened_) progress_ = Clock::now();
  opened_ = opened;
  open_ = true;
  std::uint64_t allowed = opened.max_unanswered_items();
  counts_.allowed_unanswered = counts_.allowed_unanswered ? std::min(counts_.allowed_unanswered, allowed) : allowed;
  return {};
}

Error Flow::read(v1::EmbedStreamResult& result) {
  auto found = unanswered_.find(result.id());
  if (found == unanswered_.end()) {
    if (result.id() >= accepted_)
      return fault("the stream has a result of item " + std::to_string(result.id()) + ", which was not sent");
    ++counts_.duplicates;
    return {};
  }
  useful_ = true;
  progress_ = Clock::now();
  Entry entry = std::move(found->second);
  unanswered_.erase(found);
  unanswered_bytes_ -= entry.bytes;
  if (result.has_error() && result.error().retryable() && entry.tries <= retries_) {
    ++entry.tries;
    waiting_.push_back(std::move(entry));
    return {};
  }
  held_bytes_ -= entry.bytes;
  finish(std::move(result));
  return {};
}

void Flow::finish(v1::EmbedStreamResult result) {
  ++answered_;
  if (result.has_error()) {  // the service counts within its message, the caller within the stream
    result.mutable_error()->set_index(static_cast<std::uint32_t>(result.id()));
    result.mutable_error()->set_field("items[" + std::to_string(result.id()) + "]");
  }
  if (!options_.ordered) {
    ready_.push_back(std::move(result));
    return;
  }
  early_.emplace(result.id(), std::move(result));
  for (auto next = early_.find(next_); next != early_.end(); next = early_.find(++next_)) {
    ready_.push_back(std::move(next->second));
    early_.erase(next);
  }
}

void Flow::lose() {
  for (auto each = unanswered_.rbegin(); each != unanswered_.rend(); ++each)
    waiting_.push_front(std::move(each->second));
  unanswered_.clear();
  unanswered_bytes_ = 0;
  open_ = false;
}

std::vector<v1::EmbedStreamResult> Flow::take() {
  std::vector<v1::EmbedStreamResult> taken(std::make_move_iterator(ready_.begin()),
                                           std::make_move_iterator(ready_.end()));
  ready_.clear();
  taken_ += taken.size();
  counts_.results += taken.size();
  return taken;
}

Flow::Clock::time_point Flow::silent_at() const {
  auto interval = open_ ? Milliseconds(std::max(100u, opened_->heartbeat_interval_ms())) : kHeartbeat;
  return heard_ + kMissed * interval;
}

Flow::Clock::time_point Flow::stuck_at() const {
  if (opened_ && accepted_ == answered_) return Clock::time_point::max();  // nothing is waited for
  return progress_ + options_.timeout;
}

}  // namespace siglip
