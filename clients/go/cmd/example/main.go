// Command example makes each kind of call once: GetModel, EmbedTexts, EmbedImages, Classify, one that
// fails, and a stream of 1,000 texts.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	siglip "siglipclient"
	pb "siglipclient/build/siglip/v1"
)

func main() {
	address := flag.String("address", "127.0.0.1:50051", "host:port of the service")
	caFile := flag.String("ca-file", "", "PEM file of the authority that signed the service; implies TLS")
	tls := flag.Bool("tls", false, "encrypt, with the system's authorities")
	flag.Parse()
	log.SetFlags(0)
	client, err := siglip.Dial(siglip.Config{
		Address: *address, TLS: *tls, CAFile: *caFile, Token: os.Getenv("SIGLIP_TOKEN"),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := run(client, flag.Args()); err != nil {
		failure := siglip.Explain(err)
		log.Fatalf("%v: %s (%s) %v", failure.Code, failure.Message, failure.Reason, failure.Violations)
	}
}

func run(client *siglip.Client, pictures []string) error {
	steps := []func(context.Context, *siglip.Client) error{describe, embedTexts, refused, stream}
	if len(pictures) > 0 {
		steps = append(steps, func(ctx context.Context, client *siglip.Client) error {
			return look(ctx, client, pictures)
		})
	}
	for _, step := range steps {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err := step(ctx, client)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

func describe(ctx context.Context, client *siglip.Client) error {
	model, err := client.Model.GetModel(ctx, &pb.GetModelRequest{})
	if err != nil {
		return err
	}
	fmt.Printf("model %s, vectors of %d numbers\n", model.Name, model.EmbeddingDim)
	return nil
}

func embedTexts(ctx context.Context, client *siglip.Client) error {
	reply, err := client.Embedding.EmbedTexts(ctx, &pb.EmbedTextsRequest{
		Texts:   []string{"a red circle", "a blue square"},
		Options: &pb.EmbeddingOptions{Dtype: pb.Dtype_DTYPE_F16},
	})
	if err != nil {
		return err
	}
	for i, embedding := range siglip.Embeddings(reply.Results) {
		if embedding.Err != nil {
			fmt.Printf("text %d: %v\n", i, embedding.Err)
			continue
		}
		fmt.Printf("text %d: %.3f ... (%v)\n", i, embedding.Vector[:3], embedding.Dtype)
	}
	return nil
}

// refused shows what a call that breaks a rule says.
func refused(ctx context.Context, client *siglip.Client) error {
	_, err := client.Embedding.EmbedTexts(ctx, &pb.EmbedTextsRequest{})
	failure := siglip.Explain(err)
	fmt.Printf("no texts: %v, reason %s\n", failure.Code, failure.Reason)
	for _, violation := range failure.Violations {
		fmt.Printf("  %s: %s\n", violation.Field, violation.Description)
	}
	return nil
}

func stream(ctx context.Context, client *siglip.Client) error {
	const count = 1000
	sent, good := 0, 0
	source := func() (siglip.Item, error) {
		if sent == count {
			return siglip.Item{}, io.EOF
		}
		sent++
		return siglip.Item{Key: sent, Text: fmt.Sprintf("%d red circles", sent)}, nil
	}
	stats, err := client.EmbedStream(ctx, siglip.StreamOptions{}, source, func(result siglip.Result) error {
		if result.Err != nil {
			fmt.Printf("item %v: %v\n", result.Key, result.Err)
			return nil
		}
		good++
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Printf("stream: %d of %d embedded, at most %d of %d allowed unanswered\n",
		good, count, stats.MostUnanswered, stats.AllowedUnanswered)
	return nil
}

// look embeds and classifies pictures.
func look(ctx context.Context, client *siglip.Client, files []string) error {
	images := make([][]byte, len(files))
	for i, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		images[i] = data
	}
	embedded, err := client.Embedding.EmbedImages(ctx, &pb.EmbedImagesRequest{Images: images})
	if err != nil {
		return err
	}
	for i, embedding := range siglip.Embeddings(embedded.Results) {
		fmt.Printf("%s: %d numbers, error: %v\n", files[i], len(embedding.Vector), embedding.Err)
	}
	return classify(ctx, client, files, images)
}

func classify(ctx context.Context, client *siglip.Client, files []string, images [][]byte) error {
	reply, err := client.ZeroShot.Classify(ctx, &pb.ClassifyRequest{
		Images: images, Labels: []string{"a red circle", "a blue square", "two yellow stars"}, TopK: 1,
	})
	if err != nil {
		return err
	}
	for i, result := range reply.Results {
		if failed := result.GetError(); failed != nil {
			fmt.Printf("%s: %s\n", files[i], failed.Message)
			continue
		}
		for _, score := range result.GetScores().GetScores() {
			fmt.Printf("%s: %.3f %s\n", files[i], score.Probability, score.Label)
		}
	}
	return nil
}
