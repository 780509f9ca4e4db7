// A call that failed, in the service's own words.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace siglip {

using Milliseconds = std::chrono::milliseconds;

struct FieldViolation {
  std::string field;        // in the request, for example "texts"
  std::string description;  // what is wrong, with the limit and the value
};

// `code` is OK when nothing failed. `reason` is stable, for programs; it is empty
// where gRPC itself failed and not the service.
struct Error {
  grpc::StatusCode code = grpc::StatusCode::OK;
  std::string message;
  std::string reason;
  std::string domain;
  std::map<std::string, std::string> metadata;
  std::vector<FieldViolation> violations;
  // RetryInfo: when the service expects to have room again.
  std::optional<Milliseconds> retry_delay;
  // When a call that was refused for overload may be sent again; absent: not at all.
  std::optional<Milliseconds> pushback;

  explicit operator bool() const { return code != grpc::StatusCode::OK; }
};

// What `status`, that of the finished call of `context`, tells.
Error error_of(const grpc::Status& status, const grpc::ClientContext& context);

// "INVALID_ARGUMENT" and so on.
const char* code_name(int code);

}  // namespace siglip
