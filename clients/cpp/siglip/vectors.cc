#include "siglip/vectors.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>

namespace siglip {
namespace {

// Byte by byte, so that the machine's own order does not matter.
std::uint32_t read_u16(const unsigned char* from) { return from[0] | from[1] << 8; }
std::uint32_t read_u32(const unsigned char* from) {
  return read_u16(from) | static_cast<std::uint32_t>(read_u16(from + 2)) << 16;
}

float from_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

float from_f16(std::uint32_t bits) {
  int exponent = bits >> 10 & 31, fraction = bits & 1023;
  float size = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
               : exponent == 31 ? (fraction ? std::numeric_limits<float>::quiet_NaN()
                                            : std::numeric_limits<float>::infinity())
                                : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return bits >> 15 ? -size : size;
}

template <class Read>
std::optional<std::vector<float>> numbers(const std::string& data, std::size_t count, std::size_t width, Read read) {
  if (data.size() != count * width) return std::nullopt;
  const auto* bytes = reinterpret_cast<const unsigned char*>(data.data());
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = read(bytes + i * width);
  return values;
}

float read_f32(const unsigned char* from) { return from_bits(read_u32(from)); }

}  // namespace

std::optional<std::vector<float>> decode(const v1::Vector& vector) {
  const std::string& data = vector.data();
  std::size_t dim = vector.dim();
  switch (vector.dtype()) {
    case v1::DTYPE_F32:
      return numbers(data, dim, 4, read_f32);
    case v1::DTYPE_F16:
      return numbers(data, dim, 2, [](const unsigned char* from) { return from_f16(read_u16(from)); });
    case v1::DTYPE_BF16:  // the upper half of a float32
      return numbers(data, dim, 2, [](const unsigned char* from) { return from_bits(read_u16(from) << 16); });
    case v1::DTYPE_I8:
      return numbers(data, dim, 1, [scale = vector.scale()](const unsigned char* from) {
        return scale * static_cast<float>(static_cast<signed char>(*from));
      });
    default:
      return std::nullopt;
  }
}

std::optional<std::vector<float>> decode(const v1::Matrix& matrix) {
  return numbers(matrix.data(), std::size_t{matrix.rows()} * matrix.cols(), 4, read_f32);
}

}  // namespace siglip
