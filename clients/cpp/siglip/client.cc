#include "siglip/client.h"

#include <optional>
#include <random>
#include <thread>

namespace siglip {
namespace {

using Clock = std::chrono::steady_clock;

// CANCELLED, and not by us: the call arrived as the gateway stopped.
constexpr Milliseconds kStoppedRetry{100};

// gRPC is some milliseconds generous: it would send a call whose time is over.
Error too_late() {
  Error error;
  error.code = grpc::StatusCode::DEADLINE_EXCEEDED;
  error.message = "no time is left for the call";
  return error;
}

// How long to wait before sending the call again; nothing: give up. gRPC itself retries
// UNAVAILABLE.
std::optional<Milliseconds> retry_wait(const Error& error, Milliseconds left) {
  std::optional<Milliseconds> wait;
  if (error.code == grpc::StatusCode::CANCELLED) wait = kStoppedRetry;
  if (error.code == grpc::StatusCode::RESOURCE_EXHAUSTED && error.pushback) {
    // Callers refused together should not come back together.
    static thread_local std::minstd_rand random{std::random_device{}()};
    double factor = std::uniform_real_distribution<double>(1.0, 1.25)(random);
    wait = std::chrono::duration_cast<Milliseconds>(*error.pushback * factor);
  }
  return wait && *wait < left ? wait : std::nullopt;
}

}  // namespace

Client::Client(const std::string& address, const Access& access, int retries)
    : token_(access.token), retries_(retries) {
  auto channel = open_channel(address, access, retries);
  embedding_ = v1::EmbeddingService::NewStub(channel);
  zero_shot_ = v1::ZeroShotService::NewStub(channel);
  model_ = v1::ModelService::NewStub(channel);
}

template <class Stub, class Request, class Response>
Result<Response> Client::call(Stub& stub,
                              grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                              const Request& request, Milliseconds timeout) {
  const auto end = Clock::now() + timeout;
  for (int sent = 0;; ++sent) {
    auto left = std::chrono::duration_cast<Milliseconds>(end - Clock::now());
    if (left.count() <= 0) return {{}, too_late()};
    grpc::ClientContext context;  // of one call only
    context.set_deadline(std::chrono::system_clock::now() + left);
    if (!token_.empty()) context.AddMetadata("authorization", "Bearer " + token_);
    Result<Response> result;
    result.error = error_of((stub.*method)(&context, request, &result.response), context);
    if (!result.error || sent == retries_) return result;
    auto wait = retry_wait(result.error, std::chrono::duration_cast<Milliseconds>(end - Clock::now()));
    if (!wait) return result;
    std::this_thread::sleep_for(*wait);
  }
}

Result<v1::EmbedTextsResponse> Client::embed_texts(const v1::EmbedTextsRequest& request, Milliseconds timeout) {
  return call(*embedding_, &v1::EmbeddingService::Stub::EmbedTexts, request, timeout);
}

Result<v1::EmbedImagesResponse> Client::embed_images(const v1::EmbedImagesRequest& request, Milliseconds timeout) {
  return call(*embedding_, &v1::EmbeddingService::Stub::EmbedImages, request, timeout);
}

Result<v1::ClassifyResponse> Client::classify(const v1::ClassifyRequest& request, Milliseconds timeout) {
  return call(*zero_shot_, &v1::ZeroShotService::Stub::Classify, request, timeout);
}

Result<v1::ScoreResponse> Client::score(const v1::ScoreRequest& request, Milliseconds timeout) {
  return call(*zero_shot_, &v1::ZeroShotService::Stub::Score, request, timeout);
}

Result<v1::CreateLabelSetResponse> Client::create_label_set(const v1::CreateLabelSetRequest& request,
                                                            Milliseconds timeout) {
  return call(*zero_shot_, &v1::ZeroShotService::Stub::CreateLabelSet, request, timeout);
}

Result<v1::GetModelResponse> Client::get_model(const v1::GetModelRequest& request, Milliseconds timeout) {
  return call(*model_, &v1::ModelService::Stub::GetModel, request, timeout);
}

Result<v1::TokenizeResponse> Client::tokenize(const v1::TokenizeRequest& request, Milliseconds timeout) {
  return call(*model_, &v1::ModelService::Stub::Tokenize, request, timeout);
}

Error Client::embed_stream(const StreamSource& source, const StreamSink& sink, const StreamOptions& options,
                           StreamCounts* counts) {
  Stream stream(*embedding_, token_, options, retries_);
  Error error = stream.run(source, sink);
  if (counts) *counts = stream.counts();
  return error;
}

}  // namespace siglip
