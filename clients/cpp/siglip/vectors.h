// Vectors as they come over the wire -> floats.
#pragma once

#include <optional>
#include <vector>

#include "siglip/v1/types.pb.h"

namespace siglip {

// `dim` numbers, with the scale applied. Nothing where the encoding is unknown, or
// the bytes are not `dim` numbers: never wrong numbers.
std::optional<std::vector<float>> decode(const v1::Vector& vector);

// rows * cols numbers, row by row. Nothing where the bytes are not so many.
std::optional<std::vector<float>> decode(const v1::Matrix& matrix);

}  // namespace siglip
