// The client: one promise a call, and a stream.

import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client as GrpcClient, Metadata } from '@grpc/grpc-js';
import { MAX_RETRIES, channelOptions, credentialsFor, type Access } from './channel.js';
import { SiglipError, closed, retryWaitMs } from './errors.js';
import { isWellFormed } from './items.js';
import {
  ClassifyRequest,
  Dtype,
  EmbeddingServiceService as embedding,
  ModelServiceService as models,
  ZeroShotServiceService as zeroShot,
  type CreateLabelSetResponse,
  type GetModelResponse,
  type TokenizeResponse,
} from './protos.js';
import * as results from './results.js';
import { Stream, type StreamItems } from './stream.js';

export interface ClientOptions extends Access {
  /** Asked for by its name; empty, the default: the first one that is served. */
  model?: string | undefined;
  /** Longest time for one call, its retries included; 30,000. Each call can have its own. */
  timeoutMs?: number | undefined;
  /**
   * At most this often (0 to 4, by default 4) a call is sent again when the service is unavailable, or
   * overloaded and says when to come back.
   */
  retries?: number | undefined;
}

export interface CallOptions {
  timeoutMs?: number | undefined;
}

export interface EmbedOptions extends CallOptions {
  /** How vectors travel; smaller is coarser. Default float32. */
  dtype?: Dtype | undefined;
  /** Scale each vector to length 1, the default. */
  normalize?: boolean | undefined;
}

export interface StreamOptions extends EmbedOptions {
  /** Results come in the order of the items. */
  ordered?: boolean | undefined;
}

/** Templates, activation, topK and threshold; labelSet in place of labels. */
export type ClassifyOptions = CallOptions &
  Partial<Omit<ClassifyRequest, 'images' | 'labels' | '_unknownFields'>>;

/** What is generated for each call. */
export interface Method<Request, Reply> {
  path: string;
  requestSerialize(request: Request): Buffer;
  responseDeserialize(bytes: Buffer): Reply;
}

/**
 * Calls a SigLIP gateway. Share one; close it in the end. Calls reject with a SiglipError.
 *
 * address: 'host:port', 'dns:///name:port' (all its addresses are used in turn) or 'unix:///path'.
 */
export class Client {
  readonly #grpc: GrpcClient;
  readonly #token: string | undefined;
  readonly #model: string;
  readonly #timeoutMs: number;
  readonly #retries: number;
  readonly #end = new AbortController();

  constructor(
    address: string,
    { model = '', timeoutMs = 30_000, retries = MAX_RETRIES, ...access }: ClientOptions = {},
  ) {
    this.#grpc = new GrpcClient(address, credentialsFor(address, access), channelOptions(address, retries));
    this.#token = access.token;
    this.#model = model;
    this.#timeoutMs = timeoutMs;
    this.#retries = retries;
    setMaxListeners(0, this.#end.signal); // one for each stream
  }

  /** Vectors of texts. A bad text fails that item only. */
  async embedTexts(texts: string[], options: EmbedOptions = {}): Promise<results.Embeddings> {
    const request = { model: this.#model, texts: unicode('texts', texts), options: embeddingOptions(options) };
    return results.embeddings(await this.call(embedding.embedTexts, request, options));
  }

  /** Vectors of encoded images (JPEG, PNG, ...). A bad image fails that item only. */
  async embedImages(images: Uint8Array[], options: EmbedOptions = {}): Promise<results.Embeddings> {
    const request = { model: this.#model, images, options: embeddingOptions(options) };
    return results.embeddings(await this.call(embedding.embedImages, request, options));
  }

  /** How probable each label is for each image, the most probable first. */
  async classify(
    images: Uint8Array[],
    labels: string[],
    { timeoutMs, ...options }: ClassifyOptions = {},
  ): Promise<results.Classification> {
    const given = { images, labels: unicode('labels', labels) };
    const request = ClassifyRequest.fromPartial({ model: this.#model, ...options, ...given });
    return results.classification(await this.call(zeroShot.classify, request, { timeoutMs }));
  }

  /** Logits and probabilities of every image with every text. */
  async score(images: Uint8Array[], texts: string[], options: CallOptions = {}): Promise<results.Scores> {
    const request = { model: this.#model, images, texts: unicode('texts', texts) };
    return results.scores(await this.call(zeroShot.score, request, options));
  }

  /** Embeds labels once, for classify with its labelSet. */
  async createLabelSet(
    labels: string[],
    templates: string[] = [],
    options: CallOptions = {},
  ): Promise<CreateLabelSetResponse> {
    const request = { model: this.#model, labels: unicode('labels', labels), templates };
    return this.call(zeroShot.createLabelSet, request, options);
  }

  /** The served model, its limits and its live workers. */
  getModel(options: CallOptions = {}): Promise<GetModelResponse> {
    return this.call(models.getModel, { model: this.#model }, options);
  }

  /** The token ids of each text. */
  async tokenize(texts: string[], options: CallOptions = {}): Promise<TokenizeResponse> {
    return this.call(models.tokenize, { model: this.#model, texts: unicode('texts', texts) }, options);
  }

  /**
   * Vectors of any number of items, as they come.
   *
   * The items are taken only as fast as results are. A gateway that stops or breaks is ridden out: what it
   * has not answered is sent to the next. timeoutMs: longest wait without any result. The stream is for one
   * loop; leaving that ends all that is on the way.
   */
  embedStream<Key>(items: StreamItems<Key>, options: StreamOptions = {}): Stream<Key> {
    const ordered = options.ordered ?? false;
    const first = { model: this.#model, embedding: embeddingOptions(options), ordered };
    const { path, requestSerialize, responseDeserialize } = embedding.embedStream;
    const open = () =>
      this.#grpc.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, this.#metadata());
    const timeoutMs = checked(options.timeoutMs ?? this.#timeoutMs);
    const clientEnd = this.#end.signal;
    return new Stream(open, first, items, { retries: this.#retries, timeoutMs, clientEnd });
  }

  /** Any call with one reply, with messages as they are in the protos. */
  async call<Request, Reply>(
    method: Method<Request, Reply>,
    request: Request,
    { timeoutMs = this.#timeoutMs }: CallOptions = {},
  ): Promise<Reply> {
    const deadline = Date.now() + checked(timeoutMs);
    // grpc-js 1.14 would send it nevertheless, and the service work for nobody.
    if (timeoutMs <= 0) throw new SiglipError('DEADLINE_EXCEEDED', `timeoutMs is ${timeoutMs}`);
    const metadata = this.#metadata();
    for (let left = this.#retries; ; left--) {
      try {
        return await this.#send(method, request, metadata, deadline);
      } catch (error) {
        const again = left > 0 && error instanceof SiglipError;
        const waitMs = again ? retryWaitMs(error, deadline - Date.now()) : undefined;
        if (waitMs === undefined) throw error;
        await sleep(waitMs);
      }
    }
  }

  /** Closes the connection: what is on the way is still answered, but streams end with UNAVAILABLE. */
  close(): void {
    this.#end.abort();
    this.#grpc.close();
  }

  #send<Request, Reply>(
    { path, requestSerialize, responseDeserialize }: Method<Request, Reply>,
    request: Request,
    metadata: Metadata,
    deadline: number,
  ): Promise<Reply> {
    if (this.#end.signal.aborted) throw closed();
    return new Promise((resolve, reject) => {
      const options = { deadline };
      this.#grpc.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        metadata,
        options,
        (error, reply) => {
          if (error) reject(SiglipError.from(error));
          else if (reply === undefined) reject(new SiglipError('INTERNAL', 'a reply without a message'));
          else resolve(reply);
        },
      );
    });
  }

  #metadata(): Metadata {
    const metadata = new Metadata();
    metadata.set('x-request-id', randomBytes(8).toString('hex'));
    if (this.#token) metadata.set('authorization', `Bearer ${this.#token}`);
    return metadata;
  }
}

function embeddingOptions({ dtype = Dtype.DTYPE_F32, normalize = true }: EmbedOptions) {
  return { dtype, normalize };
}

/** gRPC would take what is no number for "no deadline". */
function checked(timeoutMs: number): number {
  if (!Number.isFinite(timeoutMs)) throw new TypeError(`timeoutMs must be a number, not ${timeoutMs}`);
  return timeoutMs;
}

/** Throws a TypeError for half a surrogate pair: UTF-8 cannot hold it, and another text would be embedded. */
function unicode(field: string, texts: string[]): string[] {
  const index = texts.findIndex((text) => !isWellFormed(text));
  if (index >= 0) throw new TypeError(`${field}[${index}] has a lone surrogate, which UTF-8 cannot hold`);
  return texts;
}
