// What the calls ended with, as lines of JSON; see tests/conformance/README.md.
#pragma once

#include <nlohmann/json.hpp>

#include "siglip/client.h"

using Json = nlohmann::json;

// The reports of each call. What failed as a whole has only code, message and details.
void report(Json& line, const siglip::Error& error);
void report(Json& line, const siglip::v1::EmbedTextsResponse& response);
void report(Json& line, const siglip::v1::EmbedImagesResponse& response);
void report(Json& line, const siglip::v1::ClassifyResponse& response);
void report(Json& line, const siglip::v1::ScoreResponse& response);
void report(Json& line, const siglip::v1::CreateLabelSetResponse& response);
void report(Json& line, const siglip::v1::GetModelResponse& response);
void report(Json& line, const siglip::v1::TokenizeResponse& response);
void report(Json& line, const siglip::StreamCounts& counts);

// One item: its vector, its dtype, and why it has none.
void add_vector(Json& line, std::size_t index, const siglip::v1::Vector& vector);
void add_error(Json& line, std::size_t index, const siglip::v1::ItemError& error);

// Writes the line to standard output, at once.
void write(const Json& line);
