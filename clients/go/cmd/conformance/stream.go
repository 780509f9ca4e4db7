package main

import (
	"context"
	"errors"
	"io"
	"time"

	siglip "siglipclient"
	pb "siglipclient/build/siglip/v1"
)

// What a stream may take in all; without a result it ends much earlier.
const longestStream = 100 * time.Second

// collected is what came over a stream.
type collected struct {
	name       string
	count      int
	duplicates int
	pause      time.Duration
	seen       map[uint64]bool
	first      []siglip.Embedding
	errors     []*pb.ItemError
	odd        []int
}

func (r *runner) stream(client *siglip.Client, one testCase, timeout time.Duration, found report) error {
	source, kinds, err := r.source(one.Stream)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), longestStream)
	defer cancel()
	if kinds > one.Stream.Count {
		kinds = one.Stream.Count
	}
	results := collected{
		name:  one.Name,
		pause: time.Duration(one.Stream.PauseMS) * time.Millisecond,
		seen:  map[uint64]bool{},
		first: make([]siglip.Embedding, kinds),
	}
	options := siglip.StreamOptions{
		Model: one.Stream.Model,
		Embedding: &pb.EmbeddingOptions{
			Dtype:     pb.Dtype(pb.Dtype_value[one.Stream.Dtype]),
			Normalize: one.Stream.Normalize,
		},
		Ordered: one.Stream.Ordered,
		Timeout: timeout,
	}
	stats, err := client.EmbedStream(ctx, options, source, results.add)
	results.tell(found)
	found["most_unanswered"], found["streams"] = stats.MostUnanswered, stats.Streams
	if stats.Streams > 0 {
		found["allowed_unanswered"] = stats.AllowedUnanswered
	}
	return err
}

// source gives the items of a case, and says how many different ones there are.
func (r *runner) source(one *streamCase) (siglip.Source, int, error) {
	images, err := r.plan.images(one.Images)
	if err != nil {
		return nil, 0, err
	}
	kinds := len(one.Texts) + len(images)
	next := 0
	return func() (siglip.Item, error) {
		if next >= one.Count {
			return siglip.Item{}, io.EOF
		}
		place := next
		next++
		if len(images) > 0 {
			return siglip.Item{Key: place, Image: images[place%len(images)]}, nil
		}
		return siglip.Item{Key: place, Text: one.Texts[place%len(one.Texts)]}, nil
	}, kinds, nil
}

func (c *collected) add(result siglip.Result) error {
	c.count++
	if c.seen[result.Index] {
		c.duplicates++
	}
	c.seen[result.Index] = true
	var itemError *siglip.ItemError
	switch {
	case errors.As(result.Err, &itemError):
		c.errors = append(c.errors, itemError.ItemError)
	case result.Err != nil:
		c.odd = append(c.odd, int(result.Index))
	}
	if result.Index < uint64(len(c.first)) {
		c.first[result.Index] = result.Embedding
	}
	if c.count%100 != 0 {
		return nil
	}
	err := emit(report{"case": c.name, "progress": c.count})
	time.Sleep(c.pause)
	c.pause = 0
	return err
}

func (c *collected) tell(found report) {
	for i := range c.first {
		if !c.seen[uint64(i)] {
			c.first[i].Err = io.ErrUnexpectedEOF
		}
	}
	found.embeddings(c.first)
	delete(found, "item_errors")
	delete(found, "undecodable")
	found["results"], found["duplicates"] = c.count, c.duplicates
	found.itemErrors(c.errors)
	found.undecodable(c.odd)
}
