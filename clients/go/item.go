package siglipclient

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	pb "siglipclient/build/siglip/v1"
)

// What protobuf puts around one item and its message.
const envelopeBytes = 64

// Item is what a stream embeds: an image file, token ids, prepared pixels, or, where none of these is
// set, the text.
type Item struct {
	// Key comes back with the result.
	Key      any
	Text     string
	Image    []byte
	TokenIDs []int32
	Pixels   []byte
}

// Result is the embedding of one item, or why there is none.
type Result struct {
	// Index is the item's place in the stream, from 0.
	Index uint64
	Key   any
	Embedding
}

// entry is an item on its way.
type entry struct {
	Item
	id    uint64
	tries int
}

func (i Item) size() int {
	switch {
	case i.Image != nil:
		return len(i.Image)
	case i.TokenIDs != nil:
		return 4 * len(i.TokenIDs)
	case i.Pixels != nil:
		return len(i.Pixels)
	}
	return len(i.Text)
}

func (e *entry) message() *pb.EmbedStreamItem {
	item := &pb.EmbedStreamItem{Id: e.id}
	switch {
	case e.Image != nil:
		item.Content = &pb.EmbedStreamItem_Image{Image: e.Image}
	case e.TokenIDs != nil:
		item.Content = &pb.EmbedStreamItem_TokenIds{TokenIds: &pb.TokenIds{Ids: e.TokenIDs}}
	case e.Pixels != nil:
		item.Content = &pb.EmbedStreamItem_Pixels{Pixels: e.Pixels}
	default:
		item.Content = &pb.EmbedStreamItem_Text{Text: e.Text}
	}
	return item
}

// refusal of an item that would end the stream if it were sent; nil: it may be sent.
func (e *entry) refusal(opened *pb.StreamOpened) error {
	if e.Image == nil && e.TokenIDs == nil && e.Pixels == nil && !utf8.ValidString(e.Text) {
		return e.invalid("TEXT_NOT_UNICODE", "the text is not valid UTF-8")
	}
	reason, name, limit := e.limit(opened)
	limit = least(limit, opened.MaxMessageBytes-envelopeBytes)
	if size := uint64(e.size()); size > limit {
		return e.invalid(reason, fmt.Sprintf("%d bytes given, at most %d allowed (%s)", size, limit, name))
	}
	return nil
}

func (e *entry) limit(opened *pb.StreamOpened) (reason, name string, limit uint64) {
	switch {
	case e.Image != nil:
		return "IMAGE_TOO_LARGE", "max_image_bytes", opened.MaxImageBytes
	case e.TokenIDs != nil || e.Pixels != nil:
		return "MESSAGE_TOO_LARGE", "max_message_bytes", opened.MaxMessageBytes
	}
	return "TEXT_TOO_LONG", "max_text_bytes", opened.MaxTextBytes
}

func (e *entry) invalid(reason, message string) error {
	return &ItemError{&pb.ItemError{
		Index:   uint32(e.id),
		Code:    int32(codes.InvalidArgument),
		Reason:  reason,
		Message: message,
		Field:   fmt.Sprintf("items[%d]", e.id),
	}}
}

func least(a, b uint64) uint64 {
	if a < b {
		return a
	}
	return b
}
