import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Dtype } from '../src/protos.js';
import { decodeItem, UNDECODABLE } from '../src/results.js';
import { decodeMatrix, decodeVector } from '../src/vectors.js';

const vector = (dtype: Dtype, hex: string, dim: number, scale = 1) => ({
  data: Buffer.from(hex, 'hex'),
  dtype,
  dim,
  scale,
});

test('float32 is little-endian, and need not be aligned', () => {
  const { data, ...rest } = vector(Dtype.DTYPE_F32, '000000803f000020c0', 2);
  assert.deepEqual([...decodeVector({ data: data.subarray(1), ...rest })], [1, -2.5]);
});

test('float16: normal, subnormal, largest, zero and infinite numbers', () => {
  const numbers = [...decodeVector(vector(Dtype.DTYPE_F16, '003c00c10100ff03ff7b0080007c00fc007e', 9))];
  assert.deepEqual(numbers.slice(0, 5), [1, -2.5, 2 ** -24, 1023 * 2 ** -24, 65504]);
  assert.ok(Object.is(numbers[5], -0));
  assert.deepEqual(numbers.slice(6), [Infinity, -Infinity, NaN]);
});

test('bfloat16 is the upper half of a float32', () => {
  assert.deepEqual(
    [...decodeVector(vector(Dtype.DTYPE_BF16, '803f20c0010080ff', 4))],
    [1, -2.5, 2 ** -133, -Infinity],
  );
});

test('signed bytes are multiplied by the scale', () => {
  assert.deepEqual([...decodeVector(vector(Dtype.DTYPE_I8, '7f8100ff', 4, 0.5))], [63.5, -63.5, 0, -0.5]);
});

test('a vector of another length, or of an encoding of the future, is an error of its item', () => {
  for (const embedding of [vector(Dtype.DTYPE_F32, '0000803f', 2), vector(9 as Dtype, '00', 1)]) {
    const { vector: numbers, error } = decodeItem({ $case: 'embedding', value: embedding }, 3);
    assert.equal(numbers, null);
    assert.deepEqual([error?.index, error?.code, error?.reason], [3, 'INTERNAL', UNDECODABLE]);
  }
});

test('a matrix has rows', () => {
  const matrix = {
    data: Buffer.from('0000803f0000004000004040000080400000a0400000c07f', 'hex'),
    rows: 2,
    cols: 3,
  };
  assert.deepEqual(
    decodeMatrix(matrix).map((row) => [...row]),
    [
      [1, 2, 3],
      [4, 5, NaN],
    ],
  );
  assert.throws(() => decodeMatrix({ ...matrix, cols: 2 }), /24 bytes for \[2, 2\]/);
});
