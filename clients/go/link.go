package siglipclient

import (
	"context"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "siglipclient/build/siglip/v1"
)

// link is one stream to a gateway. Two goroutines carry its messages: sending waits for the connection, and
// receiving for the service.
type link struct {
	call     pb.EmbeddingService_EmbedStreamClient
	idle     chan struct{} // the sender wants a message
	closed   chan struct{} // there will be none
	outgoing chan *pb.EmbedStreamRequest
	incoming chan incoming
}

func newLink(call pb.EmbeddingService_EmbedStreamClient) *link {
	return &link{
		call:   call,
		idle:   make(chan struct{}),
		closed: make(chan struct{}),
		// Each is asked for, so that one place never blocks.
		outgoing: make(chan *pb.EmbedStreamRequest, 1),
		incoming: make(chan incoming),
	}
}

// converse has one stream, and says how it ended. An error is final.
func (s *stream) converse(ctx context.Context) (incoming, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.heard = time.Now()
	call, err := s.open(ctx, cancel)
	if err != nil {
		return incoming{err: err}, nil
	}
	l := newLink(call)
	go l.send(ctx, s.first())
	go l.receive(ctx)
	for closed := false; ; {
		if !closed && (s.flow.draining || s.flow.done()) {
			closed = true
			close(l.closed)
		}
		if end, err := s.step(ctx, l); end != nil || err != nil {
			return valueOf(end), err
		}
	}
}

// open waits for a connection, but not longer than the stream may be without a result.
func (s *stream) open(ctx context.Context, cancel func()) (pb.EmbeddingService_EmbedStreamClient, error) {
	guard := time.AfterFunc(time.Until(s.stuckAt()), cancel)
	defer guard.Stop()
	return s.client.Embedding.EmbedStream(ctx)
}

func (s *stream) first() *pb.EmbedStreamRequest {
	return &pb.EmbedStreamRequest{
		Options: &pb.EmbedStreamOptions{Model: s.options.Model, Embedding: s.options.Embedding},
	}
}

// step does the next thing that can be done, and says whether the stream has ended.
func (s *stream) step(ctx context.Context, l *link) (*incoming, error) {
	items, idle := s.items, l.idle
	if !s.flow.hasRoom() {
		items = nil
	}
	if !s.flow.hasCredit() {
		idle = nil
	}
	timer := time.NewTimer(time.Until(earlier(s.silentAt(), s.stuckAt())))
	defer timer.Stop()
	select {
	case next := <-items:
		return nil, s.take(next)
	case <-idle:
		if err := s.takeMore(); err != nil {
			return nil, err
		}
		l.outgoing <- s.flow.message()
	case found := <-l.incoming:
		if found.err != nil {
			return &found, nil
		}
		return nil, s.answer(found.response)
	case <-timer.C:
		return s.overdue()
	case <-ctx.Done():
		return &incoming{err: status.FromContextError(ctx.Err()).Err()}, nil
	}
	return nil, nil
}

func (s *stream) take(next sourced) error {
	for unit := 0; unit < next.item.unitsAhead(); unit++ {
		<-s.ahead
	}
	switch {
	case next.err == io.EOF:
		s.flow.exhausted = true
	case next.err != nil:
		return next.err
	default:
		if s.flow.unfinished() == 0 {
			s.progress = time.Now()
		}
		s.flow.add(next.item)
	}
	return s.deliver()
}

// takeMore fills a message with what the source has given already.
func (s *stream) takeMore() error {
	for len(s.flow.waiting) < chunkItems && s.flow.hasRoom() {
		select {
		case next := <-s.items:
			if err := s.take(next); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// answer takes a message of the service.
func (s *stream) answer(response *pb.EmbedStreamResponse) error {
	if err := s.flow.hear(response); err != nil {
		return err
	}
	s.heard = time.Now()
	if response.GetOpened() != nil && s.flow.stats.Streams == 1 || len(response.GetResults()) > 0 {
		s.progress, s.failure = s.heard, nil
	}
	return s.deliver()
}

// deliver hands over what is ready. Time in the caller's hands does not count against the service.
func (s *stream) deliver() error {
	ready, since := s.flow.ready, time.Now()
	s.flow.ready = nil
	defer func() {
		held := time.Since(since)
		s.heard, s.progress = s.heard.Add(held), s.progress.Add(held)
	}()
	for _, result := range ready {
		if err := s.handle(result); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) overdue() (*incoming, error) {
	now := time.Now()
	if !now.Before(s.stuckAt()) {
		return nil, s.stuck()
	}
	if !now.Before(s.silentAt()) {
		return &incoming{err: status.Error(codes.Unavailable, "the stream is silent: heartbeats are missing")}, nil
	}
	return nil, nil
}

func (l *link) send(ctx context.Context, message *pb.EmbedStreamRequest) {
	for message != nil {
		if l.call.Send(message) != nil { // why, receiving tells
			return
		}
		message = l.nextMessage(ctx)
	}
	l.call.CloseSend()
}

// nextMessage is nil when there are no more.
func (l *link) nextMessage(ctx context.Context) *pb.EmbedStreamRequest {
	select {
	case l.idle <- struct{}{}:
	case <-l.closed:
		return nil
	case <-ctx.Done():
		return nil
	}
	select {
	case message := <-l.outgoing:
		return message
	case <-ctx.Done():
		return nil
	}
}

func (l *link) receive(ctx context.Context) {
	for {
		response, err := l.call.Recv()
		found := incoming{response: response, err: err}
		if err != nil {
			found.trailer = l.call.Trailer()
		}
		select {
		case l.incoming <- found:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func valueOf(end *incoming) incoming {
	if end == nil {
		return incoming{}
	}
	return *end
}
