# frozen_string_literal: true

require 'json'
require 'siglip/client'

# What the calls ended with, as lines of JSON; see tests/conformance/README.md.
module Report
  module_function

  # At once. A message need not be UTF-8.
  def write(line)
    $stdout.puts(JSON.generate(clean(line)))
    $stdout.flush
  end

  # JSON has neither NaN nor bytes.
  def clean(value)
    case value
    when Hash then value.transform_values { |each| clean(each) }
    when Array then value.map { |each| clean(each) }
    when Float then value.finite? ? value : nil
    when String then value.dup.force_encoding(Encoding::UTF_8).scrub
    else value
    end
  end

  def failure(error)
    line = { code: error.code, message: error.message }
    line.update(reason: error.reason, domain: error.domain, metadata: error.metadata) if error.reason
    line[:field_violations] = error.violations.map(&:to_h) if error.violations.any?
    line[:retry_delay_ms] = (error.retry_delay_s * 1000).round if error.retry_delay_s
    line
  end

  def of(response)
    case response
    when Siglip::V1::EmbedTextsResponse, Siglip::V1::EmbedImagesResponse then embeddings(response)
    when Siglip::V1::ClassifyResponse then classification(response)
    when Siglip::V1::ScoreResponse then scores(response)
    when Siglip::V1::CreateLabelSetResponse
      { label_set: response.label_set, label_count: response.label_count, model: model(response.model) }
    when Siglip::V1::GetModelResponse
      { model: { **model(response), embedding_dim: response.embedding_dim, text_length: response.text_length } }
    when Siglip::V1::TokenizeResponse then { tokens: response.results.map { |tokens| tokens.ids.to_a } }
    end
  end

  def model(info)
    { name: info.name, fingerprint: info.fingerprint }
  end

  def embeddings(response)
    items = Items.new(response.results.size)
    response.results.each_with_index { |result, index| items.add(index, result) }
    { **items.to_h, model: model(response.model) }
  end

  def classification(response)
    errors = response.results.each_with_index.select { |result, _| result.error }
    { images: response.results.map { |result| result.scores&.scores&.map { |each| score(each) } },
      item_errors: errors.map { |result, index| item_error(index, result.error) },
      model: model(response.model) }
  end

  def score(each)
    { label: each.label, index: each.label_index, probability: each.probability, logit: each.logit }
  end

  def scores(response)
    { logits: Siglip::Vectors.rows(response.logits_per_image),
      probabilities: Siglip::Vectors.rows(response.probabilities),
      item_errors: response.errors.map { |error| item_error(error.index, error) },
      model: model(response.model) }
  end

  def item_error(index, error)
    { index: index, code: Siglip::CallError.code_name(error.code), reason: error.reason, message: error.message,
      field: error.field, retryable: error.retryable }
  end
end

# Vectors and errors by the places of their items.
class Items
  def initialize(shown)
    @vectors = Array.new(shown)
    @dtypes = Array.new(shown)
    @errors = []
    @undecodable = []
  end

  def add(index, result)
    return @errors.push(Report.item_error(index, result.error)) if result.error
    return if index >= @vectors.size

    @vectors[index] = Siglip::Vectors.decode(result.embedding)
    dtype = result.embedding.dtype
    @dtypes[index] = dtype.is_a?(Symbol) ? dtype.to_s : nil # an unknown one is a number
    @undecodable.push(index) unless @vectors[index]
  end

  def to_h
    { vectors: @vectors, dtypes: @dtypes, item_errors: @errors, undecodable: @undecodable }
  end
end

# One EmbedStream, however it ends.
class StreamReport
  def initialize(name, shown, pause_s)
    @name = name
    @pause_s = pause_s
    @items = Items.new(shown)
    @taken = 0
  end

  def of(client, items, **options)
    counts = Siglip::Flow::Counts.new
    { **outcome { client.embed_stream(items, counts: counts, **options) { |result| take(result) } },
      **@items.to_h, **counts.to_h }
  end

  private

  def outcome
    yield
    { code: 'OK', message: '' }
  rescue Siglip::CallError => e
    Report.failure(e)
  end

  def take(result)
    @items.add(result.id, result)
    @taken += 1
    Report.write({ case: @name, progress: @taken }) if (@taken % 100).zero?
    sleep(@pause_s) if @taken == 100
  end
end
