# frozen_string_literal: true

require 'siglip/flow'

module Siglip
  # EmbedStream over connections that may break: opened again until each item has a result.
  #
  # The items are taken, and the results given, in the thread of `run`; each stream has a thread
  # that reads, and gRPC's own that writes.
  class Stream
    FIRST_WAIT_S = 0.1
    LONGEST_WAIT_S = 3.0
    PASSING = %w[OK UNAVAILABLE CANCELLED DEADLINE_EXCEEDED].freeze
    # gRPC's own, when a connection breaks at the wrong moment. The service's have a reason.
    PASSING_WITHOUT_REASON = %w[INTERNAL UNKNOWN].freeze

    # fatal: what ends everything. failure: how the stream ended, if not well.
    Link = Struct.new(:operation, :reader, :ended, :fatal, :failure)

    def initialize(stub, metadata, flow)
      @stub = stub
      @metadata = metadata
      @flow = flow
      @lock = Mutex.new
      @news = ConditionVariable.new # for the thread of `run`
      @work = ConditionVariable.new # for the one that writes
    end

    def run(items, &sink)
      source = items.each_entry
      failures = 0
      until @flow.finished?
        check_time
        link = converse(source, &sink)
        break if @flow.finished?

        failures = failures_after(failures)
        pause(reopen_wait_s(link.failure, failures))
        @last_failure = link.failure || @last_failure
      end
    end

    private

    def failures_after(failures)
      return 0 if @flow.draining

      @flow.useful ? 1 : failures + 1
    end

    def pause(wait_s)
      sleep([wait_s, @flow.stuck_at_s - Clock.now_s].min.clamp(0, nil))
    end

    # Raises the failure when opening the stream again would not help.
    def reopen_wait_s(failure, failures)
      backoff = backoff_s(failures)
      return backoff if failure.nil? || PASSING.include?(failure.code)
      return backoff if PASSING_WITHOUT_REASON.include?(failure.code) && !failure.reason
      raise failure unless failure.code == 'RESOURCE_EXHAUSTED' && failure.pushback_s

      [backoff, failure.pushback_s * rand(1.0..1.25)].max
    end

    # Streams that were lost together should not come back together.
    def backoff_s(failures)
      return 0.0 if failures.zero?

      [LONGEST_WAIT_S, FIRST_WAIT_S * 2**[failures - 1, 10].min].min * rand(0.75..1.25)
    end

    # One stream, from its opening to its end.
    def converse(source, &sink)
      link = open
      @lock.synchronize { move(link, source, &sink) }
      link
    ensure
      close(link) if link
    end

    # A stream may last: it has no deadline, but is cancelled when its heartbeats fail.
    def open
      @flow.begin
      link = Link.new
      link.operation = @stub.embed_stream(messages(link), metadata: @metadata.dup, return_op: true)
      link.reader = Thread.new { read(link) }
      link
    end

    def close(link)
      @lock.synchronize { give_up(link) } unless link.ended
      link.reader.join
      @lock.synchronize { @flow.lose }
    end

    # Both threads end with it.
    def give_up(link)
      link.ended = true
      link.operation.cancel
      @work.broadcast
    end

    # Until the stream has ended.
    def move(link, source, &sink)
      loop do
        if (ready = @flow.take).any?
          unlocked { ready.each(&sink) }
        elsif link.ended
          break
        elsif @flow.room?
          pull(source)
        else
          wait(link)
        end
      end
      raise link.fatal if link.fatal
    end

    def pull(source)
      item = unlocked { next_of(source) }
      item ? @flow.add(item) : @flow.exhaust
      @work.broadcast
    end

    def next_of(source)
      source.next
    rescue StopIteration
      nil
    end

    def wait(link)
      check_time
      now_s = Clock.now_s
      give_up(link) if now_s >= @flow.silent_at_s
      until_s = [@flow.stuck_at_s, @flow.silent_at_s, now_s + 1].min
      @news.wait(@lock, [until_s - now_s, 0.05].max)
    end

    def check_time
      return if Clock.now_s < @flow.stuck_at_s

      why = @last_failure ? ": #{@last_failure.message}" : ''
      raise CallError.new("no item was answered in time#{why}", code: 'DEADLINE_EXCEEDED')
    end

    # The caller's work.
    def unlocked
      since_s = Clock.now_s
      @lock.unlock
      yield
    ensure
      @lock.lock
      @flow.excuse(since_s)
    end

    def read(link)
      link.operation.execute.each do |response|
        @lock.synchronize { hear(link, response) }
      end
    rescue GRPC::BadStatus => e
      link.failure = CallError.from(e)
    rescue GRPC::Core::CallError => e # cancelled before it had begun
      link.failure = CallError.new(e.message, code: 'CANCELLED')
    ensure
      @lock.synchronize { tell_end(link) }
    end

    def hear(link, response)
      @last_failure = nil
      @flow.hear(response)
      @news.signal
      @work.broadcast
    rescue CallError => e
      link.fatal = e
      give_up(link)
    end

    def tell_end(link)
      link.ended = true
      @news.signal
      @work.broadcast
    end

    # What gRPC's thread sends; its end closes our side.
    def messages(link)
      Enumerator.new do |to_send|
        to_send << @flow.first
        while (message = next_message(link))
          to_send << message
        end
      end
    end

    def next_message(link)
      @lock.synchronize do
        loop do
          message = @flow.next_message
          return message if message
          return nil if link.ended || @flow.draining || @flow.all_answered?

          @work.wait(@lock)
        end
      end
    end
  end
end
