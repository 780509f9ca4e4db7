# frozen_string_literal: true

require 'grpc'
require 'json'

module Siglip
  # How a channel is set up: who is called, retries, limits, reconnection.
  module Channel
    # gRPC's own bound: a call is sent at most five times.
    MAX_RETRIES = 4
    MAX_MESSAGE_BYTES = 32 * 1024 * 1024

    LOCAL = /\A(dns:(\/\/\/)?)?(127\.[0-9.]+|localhost|\[::1\]):|\Aunix:/.freeze

    module_function

    # Connects with the first call. Raises ArgumentError for what cannot be used.
    def open(address, tls:, ca_file:, token:, retries:)
      unless (0..MAX_RETRIES).cover?(retries)
        raise ArgumentError, "retries must be between 0 and #{MAX_RETRIES}, not #{retries}"
      end

      credentials = credentials(address, tls || !ca_file.nil?, ca_file, token)
      GRPC::ClientStub.setup_channel(nil, address, credentials, arguments(address, retries))
    end

    def credentials(address, tls, ca_file, token)
      return GRPC::Core::ChannelCredentials.new(ca_file && authority(ca_file)) if tls
      if token && !LOCAL.match?(address)
        raise ArgumentError, "the token would travel in clear to #{address}: set tls or ca_file"
      end

      :this_channel_is_insecure
    end

    # gRPC takes anything, and then every call waits for its whole time.
    def authority(file)
      pem = File.binread(file)
      return pem if pem.include?('-----BEGIN CERTIFICATE-----')

      raise ArgumentError, "there is no certificate in #{file}: give the PEM file of an authority"
    end

    def arguments(address, retries)
      {
        'grpc.service_config' => JSON.generate(service_config(retries)),
        'grpc.enable_retries' => retries.positive? ? 1 : 0,
        # Requests above gRPC's default of 256 KiB, which most images are, would silently not
        # be retried.
        'grpc.per_rpc_retry_buffer_size' => MAX_MESSAGE_BYTES,
        'grpc.max_receive_message_length' => MAX_MESSAGE_BYTES,
        'grpc.max_send_message_length' => -1, # the service says what it takes
        'grpc.keepalive_time_ms' => 60_000,
        'grpc.keepalive_timeout_ms' => 20_000,
        # A service that comes back is found within seconds; the default backs off to two minutes.
        'grpc.initial_reconnect_backoff_ms' => 200,
        'grpc.max_reconnect_backoff_ms' => 3_000,
        # Channels to one address share a connection unless told not to.
        'grpc.use_local_subchannel_pool' => 1,
        # A proxy of the environment has no way to this machine, and would see a token in clear.
        'grpc.enable_http_proxy' => LOCAL.match?(address) ? 0 : 1
      }
    end

    # RESOURCE_EXHAUSTED is not listed on purpose: gRPC would send the call again whether the
    # service names a time or not. Client does it when it does.
    def service_config(retries)
      config = { loadBalancingConfig: [{ round_robin: {} }] }
      return config if retries.zero?

      policy = { maxAttempts: retries + 1, initialBackoff: '0.2s', maxBackoff: '3s', backoffMultiplier: 2,
                 retryableStatusCodes: ['UNAVAILABLE'] }
      config.merge(methodConfig: [{ name: [{}], retryPolicy: policy }])
    end
  end
end
