# frozen_string_literal: true

module Siglip
  # Seconds that no change of the machine's time touches.
  module Clock
    module_function

    def now_s
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
