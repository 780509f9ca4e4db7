#include "siglip/errors.h"

#include <charconv>
#include <string_view>

#include "details.pb.h"

namespace siglip {
namespace {

// The last part of an Any's URL is the message's full name.
bool is(const google::protobuf::Any& detail, std::string_view name) {
  std::string_view url = detail.type_url();
  return url.substr(url.rfind('/') + 1) == name;
}

Milliseconds milliseconds(const google::protobuf::Duration& duration) {
  return Milliseconds(duration.seconds() * 1000 + duration.nanos() / 1000000);
}

void read(const google::protobuf::Any& detail, Error& error) {
  client::ErrorInfo info;
  client::BadRequest bad;
  client::RetryInfo retry;
  if (is(detail, "google.rpc.ErrorInfo") && info.ParseFromString(detail.value())) {
    error.reason = info.reason();
    error.domain = info.domain();
    error.metadata = {info.metadata().begin(), info.metadata().end()};
  } else if (is(detail, "google.rpc.BadRequest") && bad.ParseFromString(detail.value())) {
    for (const auto& each : bad.field_violations()) error.violations.push_back({each.field(), each.description()});
  } else if (is(detail, "google.rpc.RetryInfo") && retry.ParseFromString(detail.value())) {
    error.retry_delay = milliseconds(retry.retry_delay());
  }
}

// gRPC's rule: what cannot be read, or is negative, means "do not send again".
std::optional<Milliseconds> pushback(const grpc::ClientContext& context) {
  const auto& trailers = context.GetServerTrailingMetadata();
  auto found = trailers.find("grpc-retry-pushback-ms");
  if (found == trailers.end()) return std::nullopt;
  const char* end = found->second.data() + found->second.size();
  int value = 0;
  auto [stop, failure] = std::from_chars(found->second.data(), end, value);
  if (failure != std::errc() || stop != end || value < 0) return std::nullopt;
  return Milliseconds(value);
}

}  // namespace

Error error_of(const grpc::Status& status, const grpc::ClientContext& context) {
  Error error;
  error.code = status.error_code();
  if (status.ok()) return error;
  error.message = status.error_message();
  error.pushback = pushback(context);
  // What cannot be parsed is not from the service: a proxy's, perhaps.
  if (client::Status details; details.ParseFromString(status.error_details()))
    for (const auto& detail : details.details()) read(detail, error);
  return error;
}

const char* code_name(int code) {
  static const char* const names[] = {
      "OK",           "CANCELLED",         "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED", "NOT_FOUND",
      "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",          "OUT_OF_RANGE",
      "UNIMPLEMENTED", "INTERNAL",          "UNAVAILABLE",       "DATA_LOSS",          "UNAUTHENTICATED"};
  return code >= 0 && code <= 16 ? names[code] : "UNKNOWN";
}

}  // namespace siglip
