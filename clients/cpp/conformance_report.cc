#include "conformance_report.h"

#include <iostream>

#include "siglip/vectors.h"

namespace v1 = siglip::v1;

void report(Json& line, const siglip::Error& error) {
  line["code"] = siglip::code_name(error.code);
  line["message"] = error.message;
  if (!error.reason.empty()) {
    line["reason"] = error.reason;
    line["domain"] = error.domain;
    line["metadata"] = error.metadata;
  }
  for (const auto& each : error.violations)
    line["field_violations"].push_back({{"field", each.field}, {"description", each.description}});
  if (error.retry_delay) line["retry_delay_ms"] = error.retry_delay->count();
}

template <class Model>
static Json model_json(const Model& model) {
  return {{"name", model.name()}, {"fingerprint", model.fingerprint()}};
}

void add_vector(Json& line, std::size_t index, const v1::Vector& vector) {
  auto numbers = siglip::decode(vector);
  line["vectors"][index] = numbers ? Json(*numbers) : Json();
  line["dtypes"][index] = v1::Dtype_IsValid(vector.dtype()) ? Json(v1::Dtype_Name(vector.dtype())) : Json();
  if (!numbers) line["undecodable"].push_back(index);
}

void add_error(Json& line, std::size_t index, const v1::ItemError& error) {
  line["item_errors"].push_back({{"index", index},
                                 {"code", siglip::code_name(error.code())},
                                 {"reason", error.reason()},
                                 {"message", error.message()},
                                 {"field", error.field()},
                                 {"retryable", error.retryable()}});
}

template <class Results>
static void add_items(Json& line, const Results& results) {
  line["vectors"] = line["dtypes"] = Json(results.size(), nullptr);
  line["item_errors"] = line["undecodable"] = Json::array();
  for (int i = 0; i < results.size(); ++i)
    if (results[i].has_embedding())
      add_vector(line, i, results[i].embedding());
    else
      add_error(line, i, results[i].error());
}

void report(Json& line, const v1::EmbedTextsResponse& response) {
  add_items(line, response.results());
  line["model"] = model_json(response.model());
}

void report(Json& line, const v1::EmbedImagesResponse& response) {
  add_items(line, response.results());
  line["model"] = model_json(response.model());
}

void report(Json& line, const v1::ClassifyResponse& response) {
  line["images"] = line["item_errors"] = Json::array();
  for (int i = 0; i < response.results_size(); ++i) {
    const auto& result = response.results(i);
    Json scores = result.has_error() ? Json() : Json::array();
    for (const auto& score : result.scores().scores())
      scores.push_back({{"label", score.label()},
                        {"index", score.label_index()},
                        {"probability", score.probability()},
                        {"logit", score.logit()}});
    line["images"].push_back(scores);
    if (result.has_error()) add_error(line, i, result.error());
  }
  line["model"] = model_json(response.model());
}

// NaN becomes null.
static Json rows(const v1::Matrix& matrix) {
  auto numbers = siglip::decode(matrix);
  Json rows = Json::array();
  if (!numbers) return rows;
  for (auto at = numbers->begin(); at != numbers->end(); at += matrix.cols())
    rows.push_back(std::vector<float>(at, at + matrix.cols()));
  return rows;
}

void report(Json& line, const v1::ScoreResponse& response) {
  line["logits"] = rows(response.logits_per_image());
  line["probabilities"] = rows(response.probabilities());
  line["item_errors"] = Json::array();
  for (const auto& error : response.errors()) add_error(line, error.index(), error);
  line["model"] = model_json(response.model());
}

void report(Json& line, const v1::CreateLabelSetResponse& response) {
  line["label_set"] = response.label_set();
  line["label_count"] = response.label_count();
  line["model"] = model_json(response.model());
}

void report(Json& line, const v1::GetModelResponse& response) {
  line["model"] = model_json(response);
  line["model"]["embedding_dim"] = response.embedding_dim();
  line["model"]["text_length"] = response.text_length();
}

void report(Json& line, const v1::TokenizeResponse& response) {
  line["tokens"] = Json::array();
  for (const auto& tokens : response.results())
    line["tokens"].push_back(std::vector<int>(tokens.ids().begin(), tokens.ids().end()));
}

void report(Json& line, const siglip::StreamCounts& counts) {
  line["results"] = counts.results;
  line["duplicates"] = counts.duplicates;
  line["most_unanswered"] = counts.most_unanswered;
  line["allowed_unanswered"] = counts.allowed_unanswered;
  line["streams"] = counts.streams;
}

void write(const Json& line) {
  // A message need not be UTF-8.
  std::cout << line.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
}
