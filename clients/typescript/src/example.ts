// Embeds, classifies and streams: node build/js/src/example.js [HOST:PORT] [CA_FILE]
// SIGLIP_TOKEN: the token, where the service wants one.

import { readFile } from 'node:fs/promises';
import { Client, Dtype, SiglipError, type StreamItem } from './index.js';

const [address = '127.0.0.1:50051', caFile] = process.argv.slice(2);
const picture = (name: string) => readFile(new URL(`../../../../../samples/${name}.jpg`, import.meta.url));
const labels = ['a red circle', 'a blue square', 'two yellow stars'];
const client = new Client(address, { caFile, token: process.env['SIGLIP_TOKEN'], timeoutMs: 20_000 });

const dot = (one: Float32Array, other: Float32Array) =>
  one.reduce((sum, value, index) => sum + value * (other[index] ?? NaN), 0);

async function embed(): Promise<void> {
  const [texts, images] = await Promise.all([
    client.embedTexts(labels, { dtype: Dtype.DTYPE_F16 }),
    client.embedImages([await picture('red-circle')]),
  ]);
  const image = images.items[0]?.vector;
  texts.items.forEach(({ vector }, index) => {
    if (image && vector) console.log(`cosine ${dot(image, vector).toFixed(3)}  ${labels[index]}`);
  });
}

async function classify(): Promise<void> {
  const { images } = await client.classify([await picture('red-circle'), Buffer.from('no picture')], labels);
  for (const { scores, error } of images) {
    if (error) console.log(`${error.field}: ${error.message} (${error.reason})`);
    else scores.forEach(({ label, probability }) => console.log(`${probability.toFixed(3)}  ${label}`));
  }
}

async function fail(): Promise<void> {
  try {
    await client.embedTexts([]);
  } catch (error) {
    if (!(error instanceof SiglipError)) throw error;
    console.log(`${error.code} ${error.reason}: ${error.message}`);
    for (const { field, description } of error.fieldViolations ?? [])
      console.log(`  ${field}: ${description}`);
  }
}

async function stream(count: number): Promise<void> {
  function* items(): Generator<StreamItem<number>> {
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
