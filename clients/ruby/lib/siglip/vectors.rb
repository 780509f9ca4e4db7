# frozen_string_literal: true

module Siglip
  # Vectors as they come over the wire -> arrays of Float.
  module Vectors
    WIDTHS = { DTYPE_F32: 4, DTYPE_F16: 2, DTYPE_BF16: 2, DTYPE_I8: 1 }.freeze

    module_function

    # `dim` numbers, with the scale applied. nil where the encoding is unknown, or the bytes
    # are not `dim` numbers: never wrong numbers.
    def decode(vector)
      data = vector.data
      return nil unless data.bytesize == vector.dim * WIDTHS.fetch(vector.dtype, -1)

      case vector.dtype
      when :DTYPE_F32 then data.unpack('e*')
      when :DTYPE_F16 then data.unpack('S<*').map { |bits| from_f16(bits) }
      # The upper half of a float32.
      when :DTYPE_BF16 then data.unpack('S<*').map { |bits| bits << 16 }.pack('L<*').unpack('e*')
      when :DTYPE_I8 then data.unpack('c*').map { |byte| byte * vector.scale }
      end
    end

    # Rows of a Matrix. nil where the bytes are not rows * cols numbers.
    def rows(matrix)
      return nil unless matrix.data.bytesize == matrix.rows * matrix.cols * 4
      return Array.new(matrix.rows) { [] } if matrix.cols.zero?

      matrix.data.unpack('e*').each_slice(matrix.cols).to_a
    end

    def from_f16(bits)
      exponent = bits >> 10 & 31
      fraction = bits & 1023
      size = case exponent
             when 0 then Math.ldexp(fraction, -24)
             when 31 then fraction.zero? ? Float::INFINITY : Float::NAN
             else Math.ldexp(fraction + 1024, exponent - 25)
             end
      bits >> 15 == 1 ? -size : size
    end
  end
end
