export { Client } from './client.js';
export { SiglipError } from './errors.js';
export { UNDECODABLE } from './results.js';
export { DTYPES, decodeMatrix, decodeVector } from './vectors.js';
