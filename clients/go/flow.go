package siglipclient

import (
	"fmt"
	"sort"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "siglipclient/build/siglip/v1"
)

// Of one message. More only delays the first of its items.
const (
	chunkItems = 64
	chunkBytes = 1 << 20
	// What protobuf puts around one item, at most.
	itemOverheadBytes = 24
)

// flow knows who has which item: it waits, is sent and not answered, or is finished. It is free of gRPC's
// calls, and belongs to one goroutine.
type flow struct {
	ordered     bool
	retries     int
	fingerprint string

	opened     *pb.StreamOpened // of the current stream; nil before its first message
	limits     *pb.StreamOpened // the last that is known
	draining   bool
	unanswered map[uint64]*entry
	sentBytes  uint64

	waiting   []*entry
	ready     []Result
	early     map[uint64]Result
	next      uint64
	accepted  uint64
	finished  uint64
	heldBytes uint64
	exhausted bool

	stats StreamStats
}

func newFlow(options StreamOptions, retries int) *flow {
	return &flow{
		ordered:    options.Ordered,
		retries:    retries,
		unanswered: map[uint64]*entry{},
		early:      map[uint64]Result{},
	}
}

// hasRoom says whether one more item may be taken from the source.
func (f *flow) hasRoom() bool {
	if f.exhausted || f.limits == nil {
		return false
	}
	held := f.accepted - f.finished + uint64(len(f.early))
	return held == 0 || held < uint64(f.limits.MaxUnansweredItems) && f.heldBytes < f.limits.MaxUnansweredBytes
}

// unfinished items have no result.
func (f *flow) unfinished() uint64 { return f.accepted - f.finished }

func (f *flow) done() bool { return f.exhausted && f.unfinished() == 0 }

func (f *flow) add(item Item) {
	found := &entry{Item: item, id: f.accepted}
	f.accepted++
	f.heldBytes += uint64(found.size())
	if err := found.refusal(f.limits); err != nil {
		f.finish(found, Embedding{Err: err})
		return
	}
	f.waiting = append(f.waiting, found)
}

// hasCredit says whether the first item that waits may be sent; one that is alone may have any size.
func (f *flow) hasCredit() bool {
	if len(f.waiting) == 0 || f.opened == nil || f.draining {
		return false
	}
	size := uint64(f.waiting[0].size())
	return len(f.unanswered) == 0 ||
		len(f.unanswered) < int(f.opened.MaxUnansweredItems) && f.sentBytes+size <= f.opened.MaxUnansweredBytes
}

// message holds as much as waits, has credit, and fits into one chunk.
func (f *flow) message() *pb.EmbedStreamRequest {
	request := &pb.EmbedStreamRequest{}
	most := least(chunkBytes, f.opened.MaxMessageBytes)
	for used := uint64(0); f.hasCredit() && len(request.Items) < chunkItems; {
		first := f.waiting[0]
		used += uint64(first.size()) + itemOverheadBytes
		if len(request.Items) > 0 && used > most {
			break
		}
		f.waiting = f.waiting[1:]
		f.unanswered[first.id] = first
		f.sentBytes += uint64(first.size())
		request.Items = append(request.Items, first.message())
	}
	f.stats.sent(len(f.unanswered))
	return request
}

// hear takes a message of the service.
func (f *flow) hear(response *pb.EmbedStreamResponse) error {
	if opened := response.GetOpened(); opened != nil {
		if err := f.open(opened); err != nil {
			return err
		}
	}
	f.draining = f.draining || response.GetDraining()
	for _, result := range response.GetResults() {
		if err := f.read(result); err != nil {
			return err
		}
	}
	return nil
}

func (f *flow) open(opened *pb.StreamOpened) error {
	now := opened.GetModel().GetFingerprint()
	if f.fingerprint != "" && f.fingerprint != now {
		return status.Errorf(codes.Internal, "the served model changed from %s to %s", f.fingerprint, now)
	}
	f.fingerprint, f.opened, f.limits = now, opened, opened
	f.stats.opened(opened)
	return nil
}

func (f *flow) read(result *pb.EmbedStreamResult) error {
	found, ok := f.unanswered[result.GetId()]
	if !ok {
		return status.Errorf(codes.Internal, "the stream has a result of item %d, which is not unanswered", result.GetId())
	}
	delete(f.unanswered, found.id)
	f.sentBytes -= uint64(found.size())
	if failed := result.GetError(); failed != nil {
		// The service counts within its message, the caller within the stream.
		failed.Index, failed.Field = uint32(found.id), fmt.Sprintf("items[%d]", found.id)
		if failed.Retryable && found.tries < f.retries {
			found.tries++
			f.waiting = append(f.waiting, found)
			return nil
		}
	}
	f.finish(found, embedding(result.GetEmbedding(), result.GetError()))
	return nil
}

func (f *flow) finish(found *entry, embedding Embedding) {
	f.finished++
	f.heldBytes -= uint64(found.size())
	result := Result{found.id, found.Key, embedding}
	if !f.ordered {
		f.ready = append(f.ready, result)
		return
	}
	f.early[found.id] = result
	for {
		result, ok := f.early[f.next]
		if !ok {
			return
		}
		delete(f.early, f.next)
		f.next++
		f.ready = append(f.ready, result)
	}
}

// lose gives back what the stream that ended has not answered; it is sent again first, in its order.
func (f *flow) lose() {
	again := make([]*entry, 0, len(f.unanswered)+len(f.waiting))
	for _, entry := range f.unanswered {
		again = append(again, entry)
	}
	sort.Slice(again, func(i, j int) bool { return again[i].id < again[j].id })
	f.waiting = append(again, f.waiting...)
	f.unanswered, f.sentBytes = map[uint64]*entry{}, 0
	f.opened, f.draining = nil, false
}

// StreamStats is what a stream did.
type StreamStats struct {
	// Streams is how many were opened.
	Streams int
	// MostUnanswered is the most items that were sent and not answered.
	MostUnanswered int
	// AllowedUnanswered is what the service allowed; of several streams the smallest.
	AllowedUnanswered int
}

func (s *StreamStats) sent(unanswered int) {
	if unanswered > s.MostUnanswered {
		s.MostUnanswered = unanswered
	}
}

func (s *StreamStats) opened(opened *pb.StreamOpened) {
	s.Streams++
	if allowed := int(opened.MaxUnansweredItems); s.Streams == 1 || allowed < s.AllowedUnanswered {
		s.AllowedUnanswered = allowed
	}
}
