# frozen_string_literal: true

require 'google/rpc/error_details_pb'
require 'google/rpc/status_pb'
require 'grpc'

module Siglip
  # One broken rule: the field's name in the request, and what is wrong.
  FieldViolation = Struct.new(:field, :description)

  # A call that failed, in the service's own words.
  class CallError < StandardError
    CODES = GRPC::Core::StatusCodes.constants.to_h { |name| [GRPC::Core::StatusCodes.const_get(name), name.to_s] }.freeze

    # code: "INVALID_ARGUMENT" and so on.
    # reason: stable, for programs; nil where gRPC itself failed and not the service.
    # retry_delay_s: RetryInfo, when the service expects to have room again.
    # pushback_s: when a call that was refused for overload may be sent again; nil: not at all.
    attr_reader :code, :reason, :domain, :metadata, :violations, :retry_delay_s, :pushback_s

    def initialize(message, code:, pushback_s: nil, details: [])
      super(message)
      @code = code
      @pushback_s = pushback_s
      @violations = []
      details.each { |detail| read(detail) }
    end

    def self.from(bad_status)
      new(bad_status.details, code: code_name(bad_status.code),
                              pushback_s: pushback_s(bad_status.metadata),
                              details: details(bad_status))
    end

    def self.code_name(code)
      CODES.fetch(code, 'UNKNOWN')
    end

    # gRPC's rule: what cannot be read, or is negative, means "do not send again".
    def self.pushback_s(metadata)
      told = Integer(metadata['grpc-retry-pushback-ms'].to_s, 10, exception: false)
      told / 1000.0 if told && !told.negative?
    end

    # What cannot be parsed is not from the service: a proxy's, perhaps.
    def self.details(bad_status)
      bad_status.to_rpc_status&.details.to_a
    rescue Google::Protobuf::ParseError
      []
    end

    private

    def read(detail)
      if (info = unpack(detail, Google::Rpc::ErrorInfo))
        @reason = info.reason
        @domain = info.domain
        @metadata = info.metadata.to_h
      elsif (bad = unpack(detail, Google::Rpc::BadRequest))
        @violations = bad.field_violations.map { |each| FieldViolation.new(each.field, each.description) }
      elsif (retry_info = unpack(detail, Google::Rpc::RetryInfo))
        delay = retry_info.retry_delay
        @retry_delay_s = delay ? delay.seconds + delay.nanos / 1e9 : 0.0
      end
    end

    # Any#unpack comes with a file that not all versions load by themselves.
    def unpack(detail, type)
      type.decode(detail.value) if detail.type_url.split('/').last == type.descriptor.name
    end
  end
end
