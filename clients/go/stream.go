package siglipclient

import (
	"context"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "siglipclient/build/siglip/v1"
)

const (
	// Heartbeats that may fail to come.
	missedHeartbeats = 3
	firstReopen      = 100 * time.Millisecond
	// How long the first message of a stream is waited for.
	openingHeartbeat = 10 * time.Second
	leastHeartbeat   = 100 * time.Millisecond
	// As many of these as a message has items are taken from the source ahead of their turn.
	aheadBytes = chunkBytes / chunkItems
)

// StreamOptions hold for a whole stream.
type StreamOptions struct {
	// Model asked for; empty: the one that is served.
	Model     string
	Embedding *pb.EmbeddingOptions
	// Ordered: results come in the order of the items, instead of as they finish.
	Ordered bool
	// Timeout without any result, after which the stream is given up. 0: the client's.
	Timeout time.Duration
}

// Source gives the next item, and io.EOF when there is none.
type Source func() (Item, error)

// EmbedStream embeds all items of the source, which is asked only as fast as results are handled, and for
// one message (64 items, 1 MiB, or an item that is larger) ahead. There is
// exactly one result for each item, also when gateways and connections come and go meanwhile. Source and
// handle may block, and end the stream with an error of theirs; the source is called in a goroutine, which
// ends with its next item when the stream has ended before it.
func (c *Client) EmbedStream(ctx context.Context, options StreamOptions, source Source, handle func(Result) error) (StreamStats, error) {
	if options.Timeout == 0 {
		options.Timeout = c.config.Timeout
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &stream{
		client:   c,
		options:  options,
		flow:     newFlow(options, c.config.Retries),
		handle:   handle,
		ahead:    make(chan struct{}, chunkItems),
		items:    make(chan sourced, chunkItems),
		progress: time.Now(),
	}
	go s.feed(ctx, source)
	err := s.run(ctx)
	return s.flow.stats, err
}

type sourced struct {
	item Item
	err  error
}

// incoming is a message of the service, or the end of its stream (io.EOF: a good one).
type incoming struct {
	response *pb.EmbedStreamResponse
	err      error
	trailer  metadata.MD
}

// stream belongs to the goroutine that runs it; the others only have its channels.
type stream struct {
	client   *Client
	options  StreamOptions
	flow     *flow
	handle   func(Result) error
	ahead    chan struct{} // bounds what is in items
	items    chan sourced
	progress time.Time
	heard    time.Time
	failure  error // the last that passed
}

func (s *stream) feed(ctx context.Context, source Source) {
	for {
		item, err := source()
		for unit := 0; unit < item.unitsAhead(); unit++ {
			select {
			case s.ahead <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
		s.items <- sourced{item, err} // of which there are no more than units
		if err != nil {
			return
		}
	}
}

// unitsAhead is what the item takes of stream.ahead; the largest take all.
func (i Item) unitsAhead() int {
	return int(least(uint64(1+i.size()/aheadBytes), chunkItems))
}

// run opens one stream after the other until all is answered.
func (s *stream) run(ctx context.Context) error {
	for failures := 0; !s.flow.done(); failures++ {
		before := s.flow.finished
		end, err := s.converse(ctx)
		if err != nil {
			return err
		}
		drained := s.flow.draining
		s.flow.lose()
		if s.flow.finished > before {
			failures = 0
			if drained {
				continue
			}
		}
		if err := s.pause(ctx, end, failures); err != nil {
			return err
		}
	}
	return nil
}

// pause waits after a stream that ended, or gives the error that waiting does not cure.
func (s *stream) pause(ctx context.Context, end incoming, failures int) error {
	if s.flow.done() {
		return nil
	}
	if isClosed(s.client.connection) {
		return status.Error(codes.Unavailable, "the client is closed")
	}
	wait := backoffWait(firstReopen, failures)
	if end.err != io.EOF {
		s.failure = end.err
		if status.Code(end.err) == codes.ResourceExhausted {
			advice, given := pushback(end.trailer)
			if !given || advice < 0 {
				return end.err
			}
			if told := jittered(advice, 1, 1.25); told > wait {
				wait = told
			}
		} else if !passes(end.err) {
			return end.err
		}
	}
	if time.Now().Add(wait).After(s.stuckAt()) {
		wait = time.Until(s.stuckAt())
	}
	sleep(ctx, wait)
	switch {
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case !time.Now().Before(s.stuckAt()):
		return s.stuck()
	}
	return nil
}

// passes says whether opening the stream again may help.
func passes(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return true
	case codes.Internal, codes.Unknown: // of gRPC itself, when a connection breaks; the service gives a reason
		return Explain(err).Reason == ""
	}
	return false
}

// stuckAt is when the timeout has passed without a result that is waited for.
func (s *stream) stuckAt() time.Time {
	if s.flow.unfinished() == 0 && s.flow.limits != nil {
		return time.Now().Add(24 * time.Hour)
	}
	return s.progress.Add(s.options.Timeout)
}

func (s *stream) stuck() error {
	if s.failure != nil {
		return status.Errorf(codes.DeadlineExceeded, "no item was answered for %v (%v)", s.options.Timeout, s.failure)
	}
	return status.Errorf(codes.DeadlineExceeded, "no item was answered for %v", s.options.Timeout)
}

// silentAt is when so many heartbeats are missing that the stream is lost.
func (s *stream) silentAt() time.Time {
	interval := openingHeartbeat
	if s.flow.opened != nil {
		interval = time.Duration(s.flow.opened.HeartbeatIntervalMs) * time.Millisecond
		if interval < leastHeartbeat {
			interval = leastHeartbeat
		}
	}
	return s.heard.Add(missedHeartbeats * interval)
}
