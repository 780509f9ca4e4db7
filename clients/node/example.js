// Embeds, classifies and streams: node example.js [HOST:PORT] [CA_FILE]
// SIGLIP_TOKEN: the token, where the service wants one.

import { readFile } from 'node:fs/promises';
import { Client, SiglipError } from './lib/index.js';

const [address = '127.0.0.1:50051', caFile] = process.argv.slice(2);
const picture = (name) => readFile(new URL(`../../samples/${name}.jpg`, import.meta.url));
const labels = ['a red circle', 'a blue square', 'two yellow stars'];
const client = new Client(address, { caFile, token: process.env.SIGLIP_TOKEN, timeoutMs: 20_000 });

const dot = (one, other) => one.reduce((sum, value, index) => sum + value * other[index], 0);

async function embed() {
  const [texts, images] = await Promise.all([
    client.embedTexts(labels, { dtype: 'DTYPE_F16' }),
    client.embedImages([await picture('red-circle')]),
  ]);
  texts.items.forEach(({ vector }, index) =>
    console.log(`cosine ${dot(images.items[0].vector, vector).toFixed(3)}  ${labels[index]}`),
  );
}

async function classify() {
  const { images } = await client.classify([await picture('red-circle'), Buffer.from('no picture')], labels);
  for (const { scores, error } of images) {
    if (error) console.log(`${error.field}: ${error.message} (${error.reason})`);
    else scores.forEach(({ label, probability }) => console.log(`${probability.toFixed(3)}  ${label}`));
  }
}

async function fail() {
  try {
    await client.embedTexts([]);
  } catch (error) {
    if (!(error instanceof SiglipError)) throw error;
    console.log(`${error.code} ${error.reason}: ${error.message}`);
    for (const { field, description } of error.fieldViolations) console.log(`  ${field}: ${description}`);
  }
}

async function stream(count) {
  async function* items() {
    for (let key = 0; key < count; key++) yield { key, text: `${key} ${labels[key % labels.length]}` };
  }
  let done = 0;
  const started = performance.now();
  for await (const { key, error } of client.embedStream(items())) {
    if (error) console.log(`${key}: ${error.message}`);
    else done += 1;
  }
  console.log(`${done} texts in ${(performance.now() - started).toFixed(0)} ms`);
}

try {
  await embed();
  await classify();
  await fail();
  await stream(1_000);
} catch (error) {
  if (!(error instanceof SiglipError)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1;
} finally {
  client.close();
}
