// A gateway of this process that does what its test says.

import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServiceError,
  type status,
  type UntypedHandleCall,
} from '@grpc/grpc-js';
import type { ClientOptions } from '../src/client.js';
import { Client } from '../src/index.js';
import {
  EmbeddingServiceService,
  EmbedTextsResponse,
  type EmbedStreamRequest,
  type EmbedStreamResponse,
  type EmbedTextsRequest,
} from '../src/protos.js';

export type StreamCall = ServerDuplexStream<EmbedStreamRequest, EmbedStreamResponse>;
export type StreamScript = (call: StreamCall) => void;
export type TextsScript = (
  call: ServerUnaryCall<EmbedTextsRequest, EmbedTextsResponse>,
  answer: (error: ServiceError | null, reply?: EmbedTextsResponse) => void,
) => void;

export interface Scripts {
  embedStream?: StreamScript[];
  embedTexts?: TextsScript[];
}

export const LIMIT = { timeout: 20_000 };

/** Ends a stream with an error. */
export const fail = (call: StreamCall, code: status, pushbackMs?: number) =>
  call.emit('error', failure(code, pushbackMs));

/** An error as servers give it. */
export function failure(code: status, pushbackMs?: number): ServiceError {
  const metadata = new Metadata();
  if (pushbackMs !== undefined) metadata.set('grpc-retry-pushback-ms', String(pushbackMs));
  return Object.assign(new Error(), { code, details: 'as the test says', metadata });
}

/** scripts: for each method what its calls do in turn, the last again and again. use: (client, calls so far). */
export async function withGateway<Result>(
  { embedStream = [], embedTexts = [] }: Scripts,
  use: (client: Client, calls: () => number) => Promise<Result>,
  options: ClientOptions = {},
): Promise<Result> {
  const server = new Server({ 'grpc.max_receive_message_length': -1 });
  let calls = 0;
  const next = <Script>(each: Script[]) => each[Math.min(calls++, each.length - 1)];
  const handlers: Record<string, UntypedHandleCall> = {
    embedStream: (call: StreamCall) => next(embedStream)?.(call),
    embedTexts: (...call: Parameters<TextsScript>) => next(embedTexts)?.(...call),
  };
  server.addService(EmbeddingServiceService, handlers);
  const client = new Client(`127.0.0.1:${await bind(server)}`, { timeoutMs: 10_000, ...options });
  try {
    return await use(client, () => calls);
  } finally {
    client.close();
    server.forceShutdown();
  }
}

const bind = (server: Server): Promise<number> =>
  new Promise((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    ),
  );
