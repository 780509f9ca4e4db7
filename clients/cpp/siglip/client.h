// Every call of the service, with a deadline, retried where that helps.
#pragma once

#include <memory>
#include <string>

#include "siglip/channel.h"
#include "siglip/errors.h"
#include "siglip/stream.h"
#include "siglip/v1/embedding.grpc.pb.h"
#include "siglip/v1/model.grpc.pb.h"
#include "siglip/v1/zero_shot.grpc.pb.h"

namespace siglip {

constexpr Milliseconds kTimeout{30000};

// The service's answer, or why there is none.
template <class Response>
struct Result {
  Response response;
  Error error;
};

// May be used from several threads at once; its channel closes with it.
class Client {
 public:
  // Throws std::invalid_argument; see open_channel.
  explicit Client(const std::string& address, const Access& access = {}, int retries = kMaxRetries);

  // `timeout` is the whole time of a call, with all retries; one that is not above zero is past.
  Result<v1::EmbedTextsResponse> embed_texts(const v1::EmbedTextsRequest&, Milliseconds timeout = kTimeout);
  Result<v1::EmbedImagesResponse> embed_images(const v1::EmbedImagesRequest&, Milliseconds timeout = kTimeout);
  Result<v1::ClassifyResponse> classify(const v1::ClassifyRequest&, Milliseconds timeout = kTimeout);
  Result<v1::ScoreResponse> score(const v1::ScoreRequest&, Milliseconds timeout = kTimeout);
  Result<v1::CreateLabelSetResponse> create_label_set(const v1::CreateLabelSetRequest&,
                                                      Milliseconds timeout = kTimeout);
  Result<v1::GetModelResponse> get_model(const v1::GetModelRequest&, Milliseconds timeout = kTimeout);
  Result<v1::TokenizeResponse> tokenize(const v1::TokenizeRequest&, Milliseconds timeout = kTimeout);

  // Embeds all that `source` gives; see stream.h. Returns when each item has a result, or
  // why not all have one.
  Error embed_stream(const StreamSource& source, const StreamSink& sink, const StreamOptions& options = {},
                     StreamCounts* counts = nullptr);

 private:
  template <class Stub, class Request, class Response>
  Result<Response> call(Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                        const Request& request, Milliseconds timeout);

  std::string token_;
  int retries_;
  std::unique_ptr<v1::EmbeddingService::Stub> embedding_;
  std::unique_ptr<v1::ZeroShotService::Stub> zero_shot_;
  std::unique_ptr<v1::ModelService::Stub> model_;
};

}  // namespace siglip
