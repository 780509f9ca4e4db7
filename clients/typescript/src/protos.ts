// The types that `npm run generate` makes of the contract.

export { BadRequest, ErrorInfo, RetryInfo, Status } from '../build/generated/google/rpc/details.js';
export * from '../build/generated/siglip/v1/embedding.js';
export * from '../build/generated/siglip/v1/model.js';
export * from '../build/generated/siglip/v1/types.js';
export * from '../build/generated/siglip/v1/zero_shot.js';
