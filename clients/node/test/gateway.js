// A gateway of this process that does what its test says.

import grpc from '@grpc/grpc-js';
import { Client } from '../lib/index.js';
import { services } from '../lib/protos.js';

export const LIMIT = { timeout: 20_000 };

/** Ends a stream with an error. */
export const fail = (call, code, pushbackMs) => call.emit('error', failure(code, pushbackMs));

/** An error as servers give it. */
export function failure(code, pushbackMs) {
  const metadata = new grpc.Metadata();
  if (pushbackMs !== undefined) metadata.set('grpc-retry-pushback-ms', String(pushbackMs));
  return { code, details: 'as the test says', metadata };
}

/** scripts: for each method what its calls do in turn, the last again and again. use: (client, calls so far). */
export async function withGateway(scripts, use, options) {
  const server = new grpc.Server({ 'grpc.max_receive_message_length': -1 });
  let calls = 0;
  const inTurn =
    (each) =>
    (...call) =>
      each[Math.min(calls++, each.length - 1)](...call);
  const handlers = Object.entries(scripts).map(([method, each]) => [method, inTurn(each)]);
  server.addService(services[0].service, Object.fromEntries(handlers));
  const client = new Client(`127.0.0.1:${await bind(server)}`, { timeoutMs: 10_000, ...options });
  try {
    return await use(client, () => calls);
  } finally {
    client.close();
    server.forceShutdown();
  }
}

const bind = (server) =>
  new Promise((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    ),
  );
