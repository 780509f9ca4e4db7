// Makes the calls of a plan and says what a user sees: tests/conformance/README.md has the rules.
// node build/js/src/conformance.js PLAN.json

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Method } from './client.js';
import {
  Client,
  SiglipError,
  UNDECODABLE,
  type Embedded,
  type ItemFailure,
  type StreamItem,
} from './index.js';
import * as protos from './protos.js';
import { classification, embeddings, scores } from './results.js';

interface StreamCase {
  texts?: string[];
  images?: string[];
  count: number;
  ordered?: boolean;
  dtype?: keyof typeof protos.Dtype;
  model?: string;
  normalize?: boolean;
  pause_ms?: number;
}

interface Case {
  name: string;
  endpoint: string;
  call: string;
  timeout_ms: number;
  request?: Record<string, unknown> & { images?: string[] };
  request_base64?: string;
  retries?: number;
  label_set_from?: string;
  stream?: StreamCase;
}

interface Plan {
  inputs: string;
  endpoints: Record<string, { address: string; tls?: boolean; ca_file?: string; token?: string }>;
  cases: Case[];
}

type Report = Record<string, unknown>;

/** How a call is made, and what of its reply is reported. */
interface Unary {
  run(client: Client, test: Case): Promise<Report>;
}

const plan = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as Plan;
const clients = new Map<string, Client>();
const labelSets = new Map<string, string>();

const write = (line: Report) => console.log(JSON.stringify(line));
const input = (name: string) => readFileSync(path.join(plan.inputs, name));

function clientOf({ endpoint, retries, stream: wanted }: Case): Client {
  const model = wanted?.model;
  const key = `${endpoint} ${retries} ${model}`;
  const found = clients.get(key);
  if (found) return found;
  const place = plan.endpoints[endpoint];
  if (!place) throw new Error(`the plan has no endpoint ${endpoint}`);
  const { address, tls, ca_file: caFile, token } = place;
  const made = new Client(address, { tls, caFile, token, model, retries });
  clients.set(key, made);
  return made;
}

/** As protobuf's own JSON: bytes in base64. */
function requestJson({ request = {}, label_set_from: from }: Case): object {
  const images = request.images?.map((name) => input(name).toString('base64'));
  return { ...request, images, ...(from === undefined ? {} : { label_set: labelSets.get(from) }) };
}

function unary<Request, Reply>(
  method: Method<Request, Reply> & { requestDeserialize(bytes: Buffer): Request },
  fromJSON: (json: unknown) => Request,
  report: (reply: Reply, test: Case) => Report,
): Unary {
  return {
    async run(client, test) {
      const packed = test.request_base64;
      const request =
        packed === undefined
          ? fromJSON(requestJson(test))
          : method.requestDeserialize(Buffer.from(packed, 'base64'));
      return report(await client.call(method, request, { timeoutMs: test.timeout_ms }), test);
    },
  };
}

const isUndecodable = (error: ItemFailure | null) => error?.reason === UNDECODABLE;
const errorsOf = (items: { error: ItemFailure | null }[]) =>
  items.flatMap(({ error }) => (error ? [error] : []));

const reportItems = (items: (Embedded | undefined)[]) => ({
  vectors: items.map((item) => (item?.vector ? [...item.vector] : null)),
  dtypes: items.map((item) => (item?.vector ? protos.Dtype[item.dtype] : null)),
});

function reportErrors(items: Embedded[]): Report {
  const errors = errorsOf(items);
  return {
    item_errors: errors.filter((error) => !isUndecodable(error)),
    undecodable: errors.filter(isUndecodable).map(({ index }) => index),
  };
}

function reportModel(model: protos.ModelInfo | undefined): Report {
  return model ? { model: { name: model.name, fingerprint: model.fingerprint } } : {};
}

function reportEmbeddings(reply: protos.EmbedTextsResponse): Report {
  const { items, model } = embeddings(reply);
  return { ...reportModel(model), ...reportItems(items), ...reportErrors(items) };
}

function reportImages(reply: protos.ClassifyResponse): Report {
  const { images, model } = classification(reply);
  const report = ({ label, labelIndex, probability, logit }: protos.LabelScore) => ({
    label,
    index: labelIndex,
    probability,
    logit,
  });
  return {
    ...reportModel(model),
    images: images.map((each) => each.scores?.map(report) ?? null),
    item_errors: errorsOf(images),
  };
}

function reportScores(reply: protos.ScoreResponse): Report {
  const { logits, probabilities, errors, model } = scores(reply);
  const rows = (matrix: Float32Array[]) => matrix.map((row) => [...row]); // JSON has null for NaN
  return {
    ...reportModel(model),
    logits: rows(logits),
    probabilities: rows(probabilities),
    item_errors: errors,
  };
}

function reportLabelSet(
  { labelSet, labelCount, model }: protos.CreateLabelSetResponse,
  { name }: Case,
): Report {
  labelSets.set(name, labelSet);
  return { ...reportModel(model), label_set: labelSet, label_count: labelCount };
}

function reportServed({ name, fingerprint, embeddingDim, textLength }: protos.GetModelResponse): Report {
  return { model: { name, fingerprint, embedding_dim: embeddingDim, text_length: textLength } };
}

const {
  EmbeddingServiceService: embedding,
  ZeroShotServiceService: zeroShot,
  ModelServiceService: model,
} = protos;
const CALLS: Record<string, Unary> = {
  EmbedTexts: unary(embedding.embedTexts, protos.EmbedTextsRequest.fromJSON, reportEmbeddings),
  EmbedImages: unary(embedding.embedImages, protos.EmbedImagesRequest.fromJSON, reportEmbeddings),
  Classify: unary(zeroShot.classify, protos.ClassifyRequest.fromJSON, reportImages),
  Score: unary(zeroShot.score, protos.ScoreRequest.fromJSON, reportScores),
  CreateLabelSet: unary(zeroShot.createLabelSet, protos.CreateLabelSetRequest.fromJSON, reportLabelSet),
  GetModel: unary(model.getModel, protos.GetModelRequest.fromJSON, reportServed),
  Tokenize: unary(model.tokenize, protos.TokenizeRequest.fromJSON, ({ results }) => ({
    tokens: results.map(({ ids }) => ids),
  })),
};

function* streamItems({ texts, images = [], count }: StreamCase): Generator<StreamItem<number>> {
  const pictures = texts ? [] : images.map(input);
  for (let key = 0; key < count; key++) {
    if (texts) yield { key, text: texts[key % texts.length] ?? '' };
    else yield { key, image: pictures[key % pictures.length] ?? Buffer.of() };
  }
}

async function stream(
  client: Client,
  { name, timeout_ms: timeoutMs }: Case,
  wanted: StreamCase,
): Promise<Report> {
  const dtype = wanted.dtype && protos.Dtype[wanted.dtype];
  const { ordered, normalize } = wanted;
  const running = client.embedStream(streamItems(wanted), { ordered, normalize, dtype, timeoutMs });
  const found = new Map<number, Embedded>();
  let results = 0;
  for await (const { key, ...item } of running) {
    found.set(key, item);
    if (++results % 100 === 0) write({ case: name, progress: results });
    if (results === 100) await sleep(wanted.pause_ms ?? 0);
  }
  const different = (wanted.texts ?? wanted.images ?? []).length;
  const first = Array.from({ length: Math.min(wanted.count, different) }, (_, key) => found.get(key));
  const { streams, mostUnanswered, allowedUnanswered } = running.statistics;
  return {
    results,
    duplicates: results - found.size,
    streams,
    most_unanswered: mostUnanswered,
    allowed_unanswered: allowedUnanswered,
    ...reportItems(first),
    ...reportErrors([...found.values()]),
  };
}

function run(test: Case): Promise<Report> {
  if (test.stream) return stream(clientOf(test), test, test.stream);
  const unaryCall = CALLS[test.call];
  if (!unaryCall) throw new Error(`there is no call ${test.call}`);
  return unaryCall.run(clientOf(test), test);
}

function reportFailure(error: unknown): Report {
  if (!(error instanceof SiglipError)) return { code: 'UNKNOWN', message: String(error) };
  const { code, message, reason, domain, metadata, fieldViolations, retryDelayMs } = error;
  return {
    code,
    message,
    reason,
    domain,
    metadata,
    field_violations: fieldViolations,
    retry_delay_ms: retryDelayMs,
  };
}

async function report(test: Case): Promise<Report> {
  try {
    return { case: test.name, code: 'OK', message: '', ...(await run(test)) };
  } catch (error) {
    return { case: test.name, ...reportFailure(error) };
  }
}

for (const test of plan.cases) write(await report(test));
for (const client of clients.values()) client.close();
