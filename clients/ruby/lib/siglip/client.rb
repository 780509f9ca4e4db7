# frozen_string_literal: true

require 'siglip/channel'
require 'siglip/errors'
require 'siglip/stream'
require 'siglip/v1/embedding_services_pb'
require 'siglip/v1/model_services_pb'
require 'siglip/v1/zero_shot_services_pb'
require 'siglip/vectors'

module Siglip
  # Every call of the service, with a deadline, retried where that helps.
  #
  # Requests and answers are the messages of Siglip::V1. Every call raises CallError.
  class Client
    TIMEOUT_S = 30.0
    # CANCELLED, and not by us: the call arrived as the gateway stopped.
    STOPPED_RETRY_S = 0.1

    CALLS = {
      embed_texts: V1::EmbeddingService, embed_images: V1::EmbeddingService,
      classify: V1::ZeroShotService, score: V1::ZeroShotService, create_label_set: V1::ZeroShotService,
      get_model: V1::ModelService, tokenize: V1::ModelService
    }.freeze

    # tls: with the machine's authorities, or that of `ca_file` (PEM; implies tls).
    # token: shown with every call; refused in clear beyond this machine.
    # retries: how often a call may be sent again, 0 to 4.
    def initialize(address, tls: false, ca_file: nil, token: nil, retries: Channel::MAX_RETRIES)
      channel = Channel.open(address, tls: tls, ca_file: ca_file, token: token, retries: retries)
      @retries = retries
      @metadata = token ? { 'authorization' => "Bearer #{token}" } : {}
      @stubs = CALLS.values.uniq.to_h do |service|
        [service, service::Stub.new(address, nil, channel_override: channel)]
      end
    end

    # One method for each unary call: embed_texts(request, timeout_s: 30.0) -> response.
    # `timeout_s` is the whole time of the call, with all retries.
    CALLS.each do |name, service|
      define_method(name) do |request, timeout_s: TIMEOUT_S|
        call(@stubs.fetch(service).method(name), request, timeout_s)
      end
    end

    # Yields exactly one V1::EmbedStreamResult for each item, as they come; its id is the item's
    # place, from 0. A bad item has an error instead of a vector.
    #
    # items: an Enumerable of V1::EmbedStreamItem (without ids), taken as fast as results are.
    # dtype: how vectors travel. ordered: results come in the order of the items.
    # model: asked for by its name; empty: the one that is served. normalize: vectors of length 1.
    # timeout_s: longest time without any result; what passes sooner is ridden out.
    # counts: a Flow::Counts, kept up while it runs.
    def embed_stream(items, dtype: :DTYPE_F32, ordered: false, model: '', normalize: true, timeout_s: TIMEOUT_S,
                     counts: Flow::Counts.new, &sink)
      embedding = V1::EmbeddingOptions.new(dtype: dtype, normalize: normalize)
      options = V1::EmbedStreamOptions.new(model: model, embedding: embedding)
      flow = Flow.new(options: options, ordered: ordered, retries: @retries, timeout_s: timeout_s, counts: counts)
      Stream.new(@stubs.fetch(V1::EmbeddingService), @metadata, flow).run(items, &sink)
    end

    private

    def call(method, request, timeout_s)
      last = Clock.now_s + timeout_s
      (0..@retries).each do |sent|
        return method.call(request, deadline: deadline(last - Clock.now_s), metadata: @metadata.dup)
      rescue GRPC::BadStatus => e
        error = CallError.from(e)
        wait_s = sent < @retries ? retry_wait_s(error, last - Clock.now_s) : nil
        raise error unless wait_s

        sleep(wait_s)
      end
    end

    # gRPC is some milliseconds generous: it would send a call whose time is over.
    def deadline(left_s)
      raise CallError.new('no time is left for the call', code: 'DEADLINE_EXCEEDED') unless left_s.positive?

      Time.now + left_s
    end

    # nil: give up. gRPC itself retries UNAVAILABLE.
    def retry_wait_s(error, left_s)
      wait_s = STOPPED_RETRY_S if error.code == 'CANCELLED'
      # Callers refused together should not come back together.
      wait_s = error.pushback_s * rand(1.0..1.25) if error.code == 'RESOURCE_EXHAUSTED' && error.pushback_s
      wait_s if wait_s && wait_s < left_s
    end
  end
end
