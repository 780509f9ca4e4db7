// Vectors as they come over the wire -> Float32Array.

const SIZES = { DTYPE_F32: 4, DTYPE_F16: 2, DTYPE_BF16: 2, DTYPE_I8: 1 };

/** The names of the encodings that this client can ask for. */
export const DTYPES = Object.keys(SIZES);

/** The vector's numbers, its scale applied. Throws a RangeError for an encoding that is not known. */
export function decodeVector({ data, dtype, dim, scale }) {
  const size = SIZES[dtype];
  if (size === undefined) throw new RangeError(`the vector has an encoding that is not known: ${dtype}`);
  if (data.length !== dim * size) {
    throw new RangeError(`the vector has ${data.length} bytes for ${dim} numbers of ${size}`);
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return Float32Array.from({ length: dim }, READERS[dtype](view, scale));
}

/** A Matrix -> its rows, each a Float32Array. */
export function decodeMatrix({ data, rows, cols }) {
  if (data.length !== rows * cols * 4) {
    throw new RangeError(`the matrix has ${data.length} bytes for [${rows}, ${cols}] numbers of 4`);
  }
  const row = (start) => ({ data: data.subarray(start, start + cols * 4), dtype: 'DTYPE_F32', dim: cols });
  return Array.from({ length: rows }, (_, index) => decodeVector(row(index * cols * 4)));
}

const READERS = {
  DTYPE_F32: (view) => (_, index) => view.getFloat32(index * 4, true),
  DTYPE_F16: (view) => (_, index) => float16(view.getUint16(index * 2, true)),
  DTYPE_BF16: (view) => (_, index) => bfloat16(view.getUint16(index * 2, true)),
  DTYPE_I8: (view, scale) => (_, index) => scale * view.getInt8(index),
};

/** Of 1 sign bit, 5 of exponent and 10 of fraction: Node 22 has no Float16Array. */
function float16(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

const word = new DataView(new ArrayBuffer(4));

/** The upper half of a float32. */
function bfloat16(bits) {
  word.setUint32(0, bits * 0x10000);
  return word.getFloat32(0);
}
