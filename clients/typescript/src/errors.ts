// A failed call's status, with what the service says beside its code.

import { Metadata, status, type MetadataValue, type ServiceError } from '@grpc/grpc-js';
import { BadRequest, ErrorInfo, RetryInfo, Status, type ItemError } from './protos.js';

const STOPPED_RETRY_MS = 100;

/** The name of a gRPC code, for example 'INVALID_ARGUMENT'. */
export type Code = keyof typeof status;

/** What there is beside code and message; a field is absent where the service does not say it. */
export interface Facts {
  /** Of google.rpc.ErrorInfo: stable, for programs. */
  reason?: string;
  domain?: string;
  metadata?: Record<string, string>;
  /** Of google.rpc.BadRequest. */
  fieldViolations?: { field: string; description: string }[];
  /** Of google.rpc.RetryInfo. */
  retryDelayMs?: number;
  /** When the service wants to see the call again; absent, too, when it does not want to. */
  pushbackMs?: number;
  requestId?: string;
}

/** A call that has no result. */
export class SiglipError extends Error {
  override readonly name = 'SiglipError';
  readonly code: Code;

  constructor(code: Code, message: string, facts: Facts = {}) {
    super(message);
    this.code = code;
    Object.assign(this, facts);
  }

  static from(error: ServiceError): SiglipError {
    const trailers = error.metadata ?? new Metadata();
    const requestId = textOf(trailers.get('x-request-id'));
    return new SiglipError(codeName(error.code), error.details || error.message, {
      ...richDetails(trailers.get('grpc-status-details-bin')[0]),
      ...pushback(textOf(trailers.get('grpc-retry-pushback-ms'))),
      ...(requestId === undefined ? {} : { requestId }),
    });
  }
}

export interface SiglipError extends Readonly<Facts> {}

/** Of all that is wanted of a client after its end. */
export const closed = (): SiglipError => new SiglipError('UNAVAILABLE', 'the client is closed');

/** 3 -> 'INVALID_ARGUMENT'. */
export const codeName = (code: number): Code => (status[code] ?? 'UNKNOWN') as Code;

/** Why one item has no result. */
export type ItemFailure = Pick<ItemError, 'index' | 'reason' | 'message' | 'field' | 'retryable'> & {
  code: Code;
};

export const itemFailure = ({ index, code, reason, message, field, retryable }: ItemError): ItemFailure => ({
  index,
  code: codeName(code),
  reason,
  message,
  field,
  retryable,
});

/**
 * Milliseconds to wait before an overloaded or cancelled call is sent again; undefined: give up.
 *
 * gRPC itself retries UNAVAILABLE. RESOURCE_EXHAUSTED is sent again only when the service says when, which
 * a service config cannot express; and CANCELLED, which is never our doing: a call that came as its server
 * stopped.
 */
export function retryWaitMs({ code, pushbackMs }: SiglipError, timeLeftMs: number): number | undefined {
  const overloadedMs = code === 'RESOURCE_EXHAUSTED' ? pushbackMs : undefined;
  const waitMs = code === 'CANCELLED' ? STOPPED_RETRY_MS : overloadedMs && spread(overloadedMs);
  return waitMs !== undefined && waitMs < timeLeftMs ? waitMs : undefined;
}

/** Callers refused together should not come back together. */
export const spread = (ms: number): number => ms * (1 + Math.random() / 4);

const textOf = ([value]: MetadataValue[]): string | undefined => value?.toString();

function pushback(text: string | undefined): Facts {
  const pushbackMs = Number.parseInt(text ?? '', 10);
  return pushbackMs >= 0 ? { pushbackMs } : {};
}

/** What is known of the details; nothing where they come from another than the service, and cannot be read. */
export function richDetails(bytes: MetadataValue | undefined): Facts {
  if (!(bytes instanceof Uint8Array)) return {};
  try {
    return Object.assign({}, ...Status.decode(bytes).details.map(readDetail));
  } catch {
    return {};
  }
}

function readDetail({ typeUrl, value }: { typeUrl: string; value: Uint8Array }): Facts {
  switch (typeUrl.slice(typeUrl.lastIndexOf('/') + 1)) {
    case 'google.rpc.ErrorInfo': {
      const { reason, domain, metadata } = ErrorInfo.decode(value);
      return { reason, domain, metadata };
    }
    case 'google.rpc.BadRequest': {
      const { fieldViolations } = BadRequest.decode(value);
      return { fieldViolations: fieldViolations.map(({ field, description }) => ({ field, description })) };
    }
    case 'google.rpc.RetryInfo': {
      const { retryDelay } = RetryInfo.decode(value);
      return retryDelay ? { retryDelayMs: Number(retryDelay.seconds) * 1000 + retryDelay.nanos / 1e6 } : {};
    }
    default:
      return {};
  }
}
