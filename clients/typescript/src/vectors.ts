// Vectors as they come over the wire -> Float32Array.

import { Dtype, type Matrix, type Vector } from './protos.js';

interface Encoding {
  size: number;
  read(view: DataView, at: number): number;
}

const ENCODINGS = new Map<Dtype, Encoding>([
  [Dtype.DTYPE_F32, { size: 4, read: (view, at) => view.getFloat32(at, true) }],
  [Dtype.DTYPE_F16, { size: 2, read: (view, at) => float16(view.getUint16(at, true)) }],
  [Dtype.DTYPE_BF16, { size: 2, read: (view, at) => bfloat16(view.getUint16(at, true)) }],
  [Dtype.DTYPE_I8, { size: 1, read: (view, at) => view.getInt8(at) }],
]);

/** The vector's numbers, its scale applied. Throws a RangeError for an encoding that is not known. */
export function decodeVector({ data, dtype, dim, scale }: Vector): Float32Array {
  const encoding = ENCODINGS.get(dtype);
  if (!encoding) throw new RangeError(`the vector has an encoding that is not known: ${dtype}`);
  const { size, read } = encoding;
  if (data.length !== dim * size) {
    throw new RangeError(`the vector has ${data.length} bytes for ${dim} numbers of ${size}`);
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const factor = dtype === Dtype.DTYPE_I8 ? scale : 1;
  return Float32Array.from({ length: dim }, (_, index) => factor * read(view, index * size));
}

/** A Matrix -> its rows. */
export function decodeMatrix({ data, rows, cols }: Matrix): Float32Array[] {
  if (data.length !== rows * cols * 4) {
    throw new RangeError(`the matrix has ${data.length} bytes for [${rows}, ${cols}] numbers of 4`);
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const row = (start: number) =>
    Float32Array.from({ length: cols }, (_, index) => view.getFloat32((start + index) * 4, true));
  return Array.from({ length: rows }, (_, index) => row(index * cols));
}

/** Of 1 sign bit, 5 of exponent and 10 of fraction: Node 22 has no Float16Array. */
function float16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

const word = new DataView(new ArrayBuffer(4));

/** The upper half of a float32. */
function bfloat16(bits: number): number {
  word.setUint32(0, bits * 0x10000);
  return word.getFloat32(0);
}
