// The client: one promise a call, and a stream.

import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import grpc from '@grpc/grpc-js';
import { MAX_RETRIES, channelOptions, credentials } from './channel.js';
import { SiglipError, closed, retryWaitMs } from './errors.js';
import { isWellFormed } from './items.js';
import { services } from './protos.js';
import { classification, embeddings, scores } from './results.js';
import { Stream } from './stream.js';

/**
 * Calls a SigLIP gateway. Share one; close it in the end.
 *
 * address: 'host:port', 'dns:///name:port' (all its addresses are used in turn) or 'unix:///path'.
 * tls: encrypt; a caFile (PEM) implies it: the authority that signed the service, by default those that Node
 *     knows.
 * token: shown to the service with every call; refused in clear beyond this machine.
 * model: asked for by its name; empty: the first one that is served.
 * timeoutMs: longest time for one call, its retries included; each call can have its own.
 * retries: at most this often (0 to 4) a call is sent again when the service is unavailable, or overloaded
 *     and says when to come back.
 *
 * Calls reject with a SiglipError. Messages are those of the protos, with names in camelCase and enums by name.
 */
export class Client {
  #channel;
  #stubs;
  #token;
  #model;
  #timeoutMs;
  #retries;
  #end = new AbortController();

  constructor(address, options = {}) {
    const { tls = false, caFile, token, model = '', timeoutMs = 30_000, retries = MAX_RETRIES } = options;
    const shown = credentials(address, { tls, caFile, token });
    this.#channel = new grpc.Channel(address, shown, channelOptions(address, retries));
    this.#stubs = services.map((Stub) => new Stub(address, shown, { channelOverride: this.#channel }));
    this.#token = token;
    this.#model = model;
    this.#timeoutMs = timeoutMs;
    this.#retries = retries;
    setMaxListeners(0, this.#end.signal); // one for each stream
  }

  /** Vectors of texts: {items: [{vector, dtype, error}], model, timing}. A bad text fails that item only. */
  async embedTexts(texts, { dtype = 'DTYPE_F32', normalize = true, timeoutMs } = {}) {
    const request = { model: this.#model, texts: unicode('texts', texts), options: { dtype, normalize } };
    return embeddings(await this.call('EmbedTexts', request, { timeoutMs }));
  }

  /** Vectors of encoded images (Uint8Array: JPEG, PNG, ...); as embedTexts. */
  async embedImages(images, { dtype = 'DTYPE_F32', normalize = true, timeoutMs } = {}) {
    const request = { model: this.#model, images: files(images), options: { dtype, normalize } };
    return embeddings(await this.call('EmbedImages', request, { timeoutMs }));
  }

  /**
   * How probable each label is for each image: {images: [{scores, error}], ...}, the most probable first.
   * options: templates, activation, topK and threshold of ClassifyRequest; labelSet in place of labels.
   */
  async classify(images, labels, { timeoutMs, ...options } = {}) {
    const given = { images: files(images), labels: unicode('labels', labels ?? []) };
    const request = { model: this.#model, ...given, ...options };
    return classification(await this.call('Classify', request, { timeoutMs }));
  }

  /** Logits and probabilities of every image with every text: rows of Float32Array. */
  async score(images, texts, { timeoutMs } = {}) {
    const request = { model: this.#model, images: files(images), texts: unicode('texts', texts) };
    return scores(await this.call('Score', request, { timeoutMs }));
  }

  /** Embeds labels once, for classify with its labelSet. */
  async createLabelSet(labels, { templates = [], timeoutMs } = {}) {
    const request = { model: this.#model, labels: unicode('labels', labels), templates };
    return this.call('CreateLabelSet', request, { timeoutMs });
  }

  /** The served model, its limits and its live workers. */
  getModel({ timeoutMs } = {}) {
    return this.call('GetModel', { model: this.#model }, { timeoutMs });
  }

  /** The token ids of each text. */
  async tokenize(texts, { timeoutMs } = {}) {
    const request = { model: this.#model, texts: unicode('texts', texts) };
    return this.call('Tokenize', request, { timeoutMs });
  }

  /**
   * Vectors of any number of items, as they come; in the order of the items if `ordered`.
   *
   * items: {key, text} or {key, image}; an iterable or an asynchronous one, which is taken only as fast as
   * results are. The stream that comes back is an asynchronous iterable, for one loop, of {key, vector,
   * dtype, error}. A gateway that stops or breaks is ridden out: what it has not answered is sent to the
   * next. timeoutMs: longest wait without any result. Leaving the loop ends all that is on the way.
   */
  embedStream(items, { ordered = false, dtype = 'DTYPE_F32', normalize = true, timeoutMs } = {}) {
    const first = { options: { model: this.#model, ordered, embedding: { dtype, normalize } } };
    const open = () => this.#stub('EmbedStream').EmbedStream(this.#metadata(requestId()));
    return new Stream(open, first, items, {
      retries: this.#retries,
      timeoutMs: checked(timeoutMs ?? this.#timeoutMs),
      clientEnd: this.#end.signal,
    });
  }

  /** Any call with one reply, with messages as they are in the protos. */
  async call(method, request, { timeoutMs = this.#timeoutMs } = {}) {
    const deadline = Date.now() + checked(timeoutMs);
    // grpc-js 1.14 would send it nevertheless, and the service work for nobody.
    if (timeoutMs <= 0) throw new SiglipError('DEADLINE_EXCEEDED', `timeoutMs is ${timeoutMs}`);
    const metadata = this.#metadata(requestId());
    for (let left = this.#retries; ; left--) {
      try {
        return await this.#send(method, request, metadata, deadline);
      } catch (error) {
        const waitMs = left > 0 ? retryWaitMs(error, deadline - Date.now()) : null;
        if (waitMs === null) throw error;
        await sleep(waitMs);
      }
    }
  }

  /** Closes the connection: what is on the way is still answered, but streams end with UNAVAILABLE. */
  close() {
    this.#end.abort();
    this.#channel.close();
  }

  #send(method, request, metadata, deadline) {
    if (this.#end.signal.aborted) throw closed();
    return new Promise((resolve, reject) => {
      this.#stub(method)[method](request, metadata, { deadline }, (error, reply) =>
        error ? reject(SiglipError.from(error)) : resolve(reply),
      );
    });
  }

  #stub(method) {
    return this.#stubs.find((stub) => method in stub);
  }

  #metadata(id) {
    const metadata = new grpc.Metadata();
    metadata.set('x-request-id', id);
    if (this.#token) metadata.set('authorization', `Bearer ${this.#token}`);
    return metadata;
  }
}

const requestId = () => randomBytes(8).toString('hex');

/** gRPC would take what is no number for "no deadline". */
function checked(timeoutMs) {
  if (!Number.isFinite(timeoutMs)) throw new TypeError(`timeoutMs must be a number, not ${timeoutMs}`);
  return timeoutMs;
}

/** Throws a TypeError for what is no text, and for half a surrogate pair: another text would be embedded. */
function unicode(field, texts) {
  all(field, texts, (text) => typeof text === 'string', 'is no string');
  return all(field, texts, isWellFormed, 'has a lone surrogate, which UTF-8 cannot hold');
}

/** Throws a TypeError for what is no image; protobuf would take a string for base64. */
const files = (images) => all('images', images, (image) => image instanceof Uint8Array, 'is no Uint8Array');

function all(field, values, isRight, wrong) {
  if (!Array.isArray(values)) throw new TypeError(`${field} must be an array`);
  const index = values.findIndex((value) => !isRight(value));
  if (index >= 0) throw new TypeError(`${field}[${index}] ${wrong}`);
  return values;
}
