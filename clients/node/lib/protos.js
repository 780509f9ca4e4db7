// The messages and services, read from the .proto files when the program starts: nothing is generated.

import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const folder = (path) => fileURLToPath(new URL(path, import.meta.url));

const FILES = ['embedding', 'zero_shot', 'model'].map((name) => `siglip/v1/${name}.proto`);

const definition = loadSync([...FILES, 'google/rpc/details.proto'], {
  includeDirs: [folder('../../../protos'), folder('../protos')],
  // Without this, uint64 are objects of the package `long`. All of ours, the ids that this client
  // chooses among them, are far below 2^53; what a service might say above that is a limit, and
  // rounding does not harm it.
  longs: Number,
  enums: String, // a value of a newer service stays a number
  defaults: true,
  oneofs: true, // the name of the field that is set, or nothing
});

const { EmbeddingService, ZeroShotService, ModelService } = grpc.loadPackageDefinition(definition).siglip.v1;

/** The classes of stubs, each with its methods. */
export const services = [EmbeddingService, ZeroShotService, ModelService];

/** A message's bytes -> object; `type` is its full name. Throws for what is no such message. */
export const parse = (type, bytes) => definition[type].deserialize(bytes);

/** A request's bytes -> object, for the named method. */
export function parseRequest(method, bytes) {
  const { service } = services.find((each) => method in each.service);
  return service[method].requestDeserialize(bytes);
}
