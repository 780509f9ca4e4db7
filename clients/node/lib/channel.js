// How the connection is set up: retries, limits, reconnection, and who the caller is.

import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import grpc from '@grpc/grpc-js';

// gRPC's own bound on what it retries.
export const MAX_RETRIES = 4;
const MESSAGE_BYTES = 32 * 1024 * 1024;

/** Channel options. Throws a RangeError for retries that gRPC would not do. */
export function channelOptions(address, retries) {
  if (!Number.isInteger(retries) || retries < 0 || retries > MAX_RETRIES) {
    throw new RangeError(`retries must be between 0 and ${MAX_RETRIES}, not ${retries}`);
  }
  return {
    'grpc.service_config': JSON.stringify(serviceConfig(retries)),
    'grpc.enable_retries': Number(retries > 0),
    // What does not fit in here is silently not retried: by default, requests above 1 MiB, and all
    // requests while 16 MiB are on the way.
    'grpc.per_rpc_retry_buffer_size': MESSAGE_BYTES,
    'grpc.retry_buffer_size': 8 * MESSAGE_BYTES,
    'grpc.max_receive_message_length': MESSAGE_BYTES,
    'grpc.max_send_message_length': -1, // the service says what it takes
    'grpc.keepalive_time_ms': 60_000,
    'grpc.keepalive_timeout_ms': 20_000,
    // A gateway that comes back is found within seconds; the default backs off to two minutes.
    'grpc.initial_reconnect_backoff_ms': 200,
    'grpc.max_reconnect_backoff_ms': 3_000,
    // Clients of one address share a connection unless told not to.
    'grpc.use_local_subchannel_pool': 1,
    // A proxy of the environment has no way to this machine, and would see a token in clear.
    'grpc.enable_http_proxy': Number(!isLocal(address)),
  };
}

function serviceConfig(retries) {
  const config = { loadBalancingConfig: [{ round_robin: {} }] };
  return retries ? { ...config, methodConfig: [{ name: [{}], retryPolicy: retryPolicy(retries) }] } : config;
}

const retryPolicy = (retries) => ({
  maxAttempts: retries + 1,
  initialBackoff: '0.2s',
  maxBackoff: '3s',
  backoffMultiplier: 2,
  // RESOURCE_EXHAUSTED is not here on purpose: see retryWaitMs.
  retryableStatusCodes: ['UNAVAILABLE'],
});

/** Throws for a file that cannot be read or holds no certificate, and for a token that would travel in clear. */
export function credentials(address, { tls, caFile, token }) {
  if (!tls && !caFile) {
    if (token && !isLocal(address)) {
      throw new TypeError(`the token would travel in clear to ${address}: set tls or caFile`);
    }
    return grpc.credentials.createInsecure();
  }
  return grpc.credentials.createSsl(caFile ? readAuthority(caFile) : null);
}

/** TLS takes anything, and then no service is trusted. */
function readAuthority(file) {
  const pem = readFileSync(file);
  try {
    new X509Certificate(pem);
  } catch {
    throw new TypeError(`there is no certificate in ${file}: give the PEM file of an authority`);
  }
  return pem;
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** Whether all of it is this machine: host:port, dns:, unix:, or a list after ipv4: or ipv6:. */
export function isLocal(address) {
  if (/^unix(-abstract)?:/.test(address)) return true;
  const places = address.replace(/^(dns:(\/\/\/)?|ipv[46]:)/, '').split(',');
  return places.every((place) => isLoopback(place.replace(/:\d+$/, '').replace(/^\[|\]$/g, '')));
}

function isLoopback(host) {
  const version = isIP(host);
  return host === 'localhost' || (version > 0 && loopback.check(host, `ipv${version}`));
}
