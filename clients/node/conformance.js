// Makes the calls of a plan and says what a user sees: tests/conformance/README.md has the rules.
// node conformance.js PLAN.json

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, SiglipError, UNDECODABLE } from './lib/index.js';
import { parseRequest } from './lib/protos.js';
import { classification, embeddings, scores } from './lib/results.js';

const plan = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const clients = new Map();
const labelSets = new Map();

const write = (line) => console.log(JSON.stringify(line));
const input = (name) => readFileSync(path.join(plan.inputs, name));

function clientOf({ endpoint, retries, stream: { model } = {} }) {
  const key = `${endpoint} ${retries} ${model}`;
  if (!clients.has(key)) {
    const { address, tls, ca_file: caFile, token } = plan.endpoints[endpoint];
    clients.set(key, new Client(address, { tls, caFile, token, model, retries }));
  }
  return clients.get(key);
}

/** {"top_k": 1} -> {topK: 1}, and names of files -> their bytes. */
function toRequest(value, name) {
  if (name === 'images') return value.map(input);
  if (Array.isArray(value)) return value.map((each) => toRequest(each));
  if (value === null || typeof value !== 'object') return value;
  const camel = (key) => key.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [camel(key), toRequest(each, key)]));
}

function requestOf({ call, request = {}, request_base64: packed, label_set_from: from }) {
  const built = packed === undefined ? toRequest(request) : parseRequest(call, Buffer.from(packed, 'base64'));
  return from === undefined ? built : { ...built, labelSet: labelSets.get(from) };
}

const isUndecodable = ({ error }) => error?.reason === UNDECODABLE;
const itemErrors = (errors) =>
  errors.map(({ index, code, reason, message, field, retryable }) => ({
    index,
    code,
    reason,
    message,
    field,
    retryable,
  }));
const errorsOf = (items) => itemErrors(items.flatMap(({ error }) => (error ? [error] : [])));

const reportItems = (items) => ({
  vectors: items.map(({ vector }) => vector && [...vector]),
  dtypes: items.map(({ dtype }) => dtype),
});
const reportErrors = (items) => ({
  item_errors: errorsOf(items.filter((item) => !isUndecodable(item))),
  undecodable: items.filter(isUndecodable).map(({ error }) => error.index),
});

function reportEmbeddings(reply) {
  const { items } = embeddings(reply);
  return { ...reportItems(items), ...reportErrors(items) };
}

function reportImages(reply) {
  const { images } = classification(reply);
  const report = ({ label, labelIndex, probability, logit }) => ({
    label,
    index: labelIndex,
    probability,
    logit,
  });
  return {
    images: images.map((each) => each.scores && each.scores.map(report)),
    item_errors: errorsOf(images),
  };
}

function reportScores(reply) {
  const { logits, probabilities, errors } = scores(reply);
  const rows = (matrix) => matrix.map((row) => [...row]); // JSON has null for NaN
  return { logits: rows(logits), probabilities: rows(probabilities), item_errors: itemErrors(errors) };
}

function reportModel({ name, fingerprint, embeddingDim, textLength }) {
  return { model: { name, fingerprint, embedding_dim: embeddingDim, text_length: textLength } };
}

const REPORTS = {
  EmbedTexts: reportEmbeddings,
  EmbedImages: reportEmbeddings,
  Classify: reportImages,
  Score: reportScores,
  CreateLabelSet: ({ labelSet, labelCount }) => ({ label_set: labelSet, label_count: labelCount }),
  GetModel: reportModel,
  Tokenize: ({ results }) => ({ tokens: results.map(({ ids }) => ids) }),
};

const modelOf = ({ model }) => (model ? { model: { name: model.name, fingerprint: model.fingerprint } } : {});

async function unary(test) {
  const reply = await clientOf(test).call(test.call, requestOf(test), { timeoutMs: test.timeout_ms });
  if (test.call === 'CreateLabelSet') labelSets.set(test.name, reply.labelSet);
  return { ...modelOf(reply), ...REPORTS[test.call](reply) };
}

function* streamItems({ texts, images, count }) {
  const contents = texts ? texts.map((text) => ({ text })) : images.map((name) => ({ image: input(name) }));
  for (let key = 0; key < count; key++) yield { key, ...contents[key % contents.length] };
}

async function stream(test) {
  const { texts, images, count, ordered, dtype, normalize, pause_ms: pauseMs = 0 } = test.stream;
  const options = { ordered, dtype, normalize, timeoutMs: test.timeout_ms };
  const running = clientOf(test).embedStream(streamItems(test.stream), options);
  const found = new Map();
  let results = 0;
  for await (const item of running) {
    found.set(item.key, item);
    if (++results % 100 === 0) write({ case: test.name, progress: results });
    if (results === 100) await sleep(pauseMs);
  }
  const keys = Array.from({ length: Math.min(count, (texts ?? images).length) }, (_, key) => key);
  const { streams, mostUnanswered, allowedUnanswered } = running.statistics;
  return {
    results,
    duplicates: results - found.size,
    streams,
    most_unanswered: mostUnanswered,
    allowed_unanswered: allowedUnanswered,
    ...reportItems(keys.map((key) => found.get(key) ?? { vector: null, dtype: null })),
    ...reportErrors([...found.values()]),
  };
}

function reportFailure(error) {
  if (!(error instanceof SiglipError)) return { code: 'UNKNOWN', message: String(error) };
  const { code, message, reason, domain, metadata, fieldViolations, retryDelayMs } = error;
  const absent = (value) => value ?? undefined;
  return {
    code,
    message,
    reason: absent(reason),
    domain: absent(domain),
    metadata: absent(metadata),
    field_violations: fieldViolations.length > 0 ? fieldViolations : undefined,
    retry_delay_ms: absent(retryDelayMs),
  };
}

async function report(test) {
  try {
    const seen = await (test.call === 'EmbedStream' ? stream : unary)(test);
    return { case: test.name, code: 'OK', message: '', ...seen };
  } catch (error) {
    return { case: test.name, ...reportFailure(error) };
  }
}

for (const test of plan.cases) write(await report(test));
for (const client of clients.values()) client.close();
