# frozen_string_literal: true

require 'siglip/clock'
require 'siglip/errors'
require 'siglip/v1/embedding_pb'

module Siglip
  # Who has which item of a stream: free of any transport, and of threads.
  #
  # Items come in as the window has room, go out as the stream has credit, and come back as
  # results. A stream that is lost gives back what it has not answered, so that each item has
  # exactly one result.
  class Flow
    # Of one message. More only delays the first of them.
    CHUNK_ITEMS = 64
    CHUNK_BYTES = 1024 * 1024
    # What protobuf puts around an item, and around the only item of a message.
    ITEM_OVERHEAD_BYTES = 16
    ENVELOPE_BYTES = 64
    # Heartbeats that may fail to come, and their interval until `opened` says better.
    MISSED = 3
    HEARTBEAT_S = 10.0

    Entry = Struct.new(:item, :bytes, :tries)
    # duplicates: results of items that had one. most_unanswered: items sent and not answered.
    # allowed_unanswered: the least that any stream allowed.
    Counts = Struct.new(:results, :duplicates, :most_unanswered, :allowed_unanswered, :streams) do
      def initialize
        super(0, 0, 0, 0, 0)
      end
    end

    attr_reader :draining, :useful

    # retries: how often an item that failed in passing is sent again.
    # options: V1::EmbedStreamOptions, sent first on each stream. ordered: kept here, not by the service.
    def initialize(options:, ordered:, retries:, timeout_s:, counts: Counts.new)
      @options = options
      @ordered = ordered
      @retries = retries
      @timeout_s = timeout_s
      @counts = counts
      @accepted = @answered = @taken = @held_bytes = 0
      @waiting = []
      @ready = []
      @early = {} # ordered: not yet their turn
      @next = 0
      @unanswered = {}
      @unanswered_bytes = 0
      @heard_s = @progress_s = Clock.now_s
    end

    # The first message of each stream.
    def first
      V1::EmbedStreamRequest.new(options: @options)
    end

    # Whether another item may be taken from the source.
    def room?
      return false if @exhausted || !@opened
      return true if @accepted == @taken

      @accepted - @taken < @opened.max_unanswered_items && @held_bytes < @opened.max_unanswered_bytes
    end

    # The next item; its id becomes its place.
    def add(item)
      @progress_s = Clock.now_s if @accepted == @answered
      item.id = @accepted
      @accepted += 1
      bytes = content_bytes(item)
      limit = limit_of(item)
      return finish(refusal(item, bytes, limit)) if bytes > limit

      @held_bytes += bytes
      @waiting.push(Entry.new(item, bytes, 1))
    end

    # The caller was busy since then: that does not count as waiting for the service.
    def excuse(since_s)
      now_s = Clock.now_s
      @progress_s = [now_s, @progress_s + now_s - since_s].min
    end

    # The source has no more.
    def exhaust
      @exhausted = true
    end

    # A new stream begins, of which nothing is known.
    def begin
      @open = @draining = @useful = false
      @heard_s = Clock.now_s
      @counts.streams += 1
    end

    # As much as waits, fits into one message and the stream has credit for; nil: nothing.
    def next_message
      items = []
      bytes = 0
      while (entry = @waiting.first) && items.size < CHUNK_ITEMS && credit?(entry.bytes)
        bytes += entry.bytes + ITEM_OVERHEAD_BYTES
        break if items.any? && bytes > [CHUNK_BYTES, @opened.max_message_bytes].min

        items.push(send_out(@waiting.shift))
      end
      @counts.most_unanswered = [@counts.most_unanswered, @unanswered.size].max
      V1::EmbedStreamRequest.new(items: items) if items.any?
    end

    # A message of the stream. Raises CallError for what ends everything.
    def hear(response)
      @heard_s = Clock.now_s
      open(response.opened) if response.opened
      @draining ||= response.draining
      response.results.each { |result| read(result) }
    end

    # The stream has ended; what it has not answered waits again, in its order.
    def lose
      @waiting.unshift(*@unanswered.values.sort_by { |entry| entry.item.id })
      @unanswered.clear
      @unanswered_bytes = 0
      @open = false
    end

    # What is ready; each item exactly once.
    def take
      taken = @ready
      @ready = []
      @taken += taken.size
      @counts.results += taken.size
      taken
    end

    def all_answered?
      @exhausted && @accepted == @answered
    end

    def finished?
      all_answered? && @ready.empty?
    end

    # When its next message is overdue.
    def silent_at_s
      interval_s = @open ? [0.1, @opened.heartbeat_interval_ms / 1000.0].max : HEARTBEAT_S
      @heard_s + MISSED * interval_s
    end

    # When too much time has passed without a result.
    def stuck_at_s
      return Float::INFINITY if @opened && @accepted == @answered # nothing is waited for

      @progress_s + @timeout_s
    end

    private

    def content_bytes(item)
      case item.content
      when :text then item.text.bytesize
      when :image then item.image.bytesize
      when :pixels then item.pixels.bytesize
      when :token_ids then 4 * item.token_ids.ids.size
      else 0
      end
    end

    def limit_of(item)
      limits = [@opened.max_message_bytes - ENVELOPE_BYTES]
      limits << @opened.max_text_bytes if item.content == :text
      limits << @opened.max_image_bytes if item.content == :image
      limits.min
    end

    # The service would refuse it too, but a large enough one would end the stream.
    def refusal(item, bytes, limit)
      error = V1::ItemError.new(code: GRPC::Core::StatusCodes::INVALID_ARGUMENT,
                                reason: item.content == :text ? 'TEXT_TOO_LONG' : 'IMAGE_TOO_LARGE',
                                message: "#{bytes} bytes given, at most #{limit} allowed")
      V1::EmbedStreamResult.new(id: item.id, error: error)
    end

    def credit?(bytes)
      return false if !@open || @draining
      return true if @unanswered.empty? # one that is alone may have any size

      @unanswered.size < @opened.max_unanswered_items &&
        @unanswered_bytes + bytes <= @opened.max_unanswered_bytes
    end

    def send_out(entry)
      @unanswered[entry.item.id] = entry
      @unanswered_bytes += entry.bytes
      entry.item
    end

    def open(opened)
      # Vectors of two models must never be mixed.
      @fingerprint ||= opened.model.fingerprint
      if @fingerprint != opened.model.fingerprint
        fault("another model is served than before: was #{@fingerprint}, now #{opened.model.fingerprint}")
      end
      @progress_s = Clock.now_s unless @opened
      @opened = opened
      @open = true
      @counts.allowed_unanswered = [@counts.allowed_unanswered, opened.max_unanswered_items].reject(&:zero?).min || 0
    end

    def read(result)
      entry = @unanswered.delete(result.id)
      return duplicate(result) unless entry

      @useful = true
      @progress_s = Clock.now_s
      @unanswered_bytes -= entry.bytes
      return send_again(entry) if result.error&.retryable && entry.tries <= @retries

      @held_bytes -= entry.bytes
      finish(result)
    end

    def duplicate(result)
      fault("the stream has a result of item #{result.id}, which was not sent") if result.id >= @accepted
      @counts.duplicates += 1
    end

    def send_again(entry)
      entry.tries += 1
      @waiting.push(entry)
    end

    def finish(result)
      @answered += 1
      place(result.error, result.id) if result.error
      return @ready.push(result) unless @ordered

      @early[result.id] = result
      while (found = @early.delete(@next))
        @ready.push(found)
        @next += 1
      end
    end

    # The service counts within its message, the caller within the stream.
    def place(error, id)
      error.index = id
      error.field = "items[#{id}]"
    end

    def fault(message)
      raise CallError.new(message, code: 'INTERNAL')
    end
  end
end
