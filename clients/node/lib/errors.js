// A failed call's status, with what the service says beside its code.

import grpc from '@grpc/grpc-js';
import { parse } from './protos.js';

const STOPPED_RETRY_MS = 100;

/**
 * A call that has no result.
 *
 * `code` is the name of the gRPC code; `reason`, `domain` and `metadata` are those of google.rpc.ErrorInfo,
 * `fieldViolations` those of BadRequest, `retryDelayMs` that of RetryInfo; null or empty where there are
 * none. `pushbackMs`: when the service wants to see the call again; null: it does not want to, or does not say.
 */
export class SiglipError extends Error {
  constructor(code, message, facts = {}) {
    super(message);
    this.name = 'SiglipError';
    this.code = code;
    this.reason = this.domain = this.metadata = this.retryDelayMs = this.pushbackMs = this.requestId = null;
    this.fieldViolations = [];
    Object.assign(this, facts);
  }

  /** Of grpc-js's own error. */
  static from(error) {
    const trailers = error.metadata ?? new grpc.Metadata();
    return new SiglipError(codeName(error.code), error.details ?? error.message, {
      ...richDetails(trailers.get('grpc-status-details-bin')[0]),
      pushbackMs: pushbackMs(trailers.get('grpc-retry-pushback-ms')[0]),
      requestId: trailers.get('x-request-id')[0] ?? null,
    });
  }
}

/** Of all that is wanted of a client after its end. */
export const closed = () => new SiglipError('UNAVAILABLE', 'the client is closed');

/** 3 -> 'INVALID_ARGUMENT'. */
export const codeName = (code) => grpc.status[code] ?? 'UNKNOWN';

/** An ItemError of the protos, with its code by name. */
export const itemError = (error) => ({ ...error, code: codeName(error.code) });

/**
 * Milliseconds to wait before an overloaded or cancelled call is sent again; null: give up.
 *
 * gRPC itself retries UNAVAILABLE. RESOURCE_EXHAUSTED is sent again only when the service says when, which
 * a service config cannot express; and CANCELLED, which is never our doing: a call that came as its server
 * stopped.
 */
export function retryWaitMs(error, timeLeftMs) {
  const waitMs =
    { CANCELLED: STOPPED_RETRY_MS, RESOURCE_EXHAUSTED: spread(error.pushbackMs) }[error.code] ?? null;
  return waitMs !== null && waitMs < timeLeftMs ? waitMs : null;
}

/** Callers refused together should not come back together. */
export const spread = (ms) => (ms === null ? null : ms * (1 + Math.random() / 4));

function pushbackMs(text) {
  const ms = Number.parseInt(text, 10);
  return ms >= 0 ? ms : null;
}

const READERS = {
  'google.rpc.ErrorInfo': ({ reason, domain, metadata }) => ({ reason, domain, metadata }),
  'google.rpc.BadRequest': ({ fieldViolations }) => ({ fieldViolations }),
  'google.rpc.RetryInfo': ({ retryDelay }) => ({
    retryDelayMs: retryDelay && retryDelay.seconds * 1000 + retryDelay.nanos / 1e6,
  }),
};

/** What is known of the details; nothing where they come from another than the service, and cannot be read. */
export function richDetails(bytes) {
  try {
    const { details } = bytes ? parse('google.rpc.Status', bytes) : { details: [] };
    return Object.assign({}, ...details.map(readDetail));
  } catch {
    return {};
  }
}

function readDetail({ type_url: url, value }) {
  const type = url.slice(url.lastIndexOf('/') + 1);
  return READERS[type]?.(parse(type, value)) ?? {};
}
