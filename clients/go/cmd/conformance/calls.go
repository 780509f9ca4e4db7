package main

import (
	"context"
	"fmt"
	"time"

	siglip "siglipclient"
	pb "siglipclient/build/siglip/v1"
)

// runner has one client for each endpoint and number of retries.
type runner struct {
	plan      *plan
	clients   map[string]*siglip.Client
	labelSets map[string]string
}

func newRunner(plan *plan) *runner {
	return &runner{plan, map[string]*siglip.Client{}, map[string]string{}}
}

func (r *runner) report(one testCase) report {
	found := report{"case": one.Name}
	client, err := r.client(one)
	if err == nil {
		err = r.call(client, one, found)
	}
	found.status(err)
	return found
}

func (r *runner) client(one testCase) (*siglip.Client, error) {
	retries := 0 // the helper's default
	if one.Retries != nil {
		if retries = *one.Retries; retries == 0 {
			retries = -1
		}
	}
	key := fmt.Sprintf("%s, %d", one.Endpoint, retries)
	if client, made := r.clients[key]; made {
		return client, nil
	}
	to := r.plan.Endpoints[one.Endpoint]
	client, err := siglip.Dial(siglip.Config{
		Address: to.Address, TLS: to.TLS, CAFile: to.CAFile, Token: to.Token, Retries: retries,
	})
	if err == nil {
		r.clients[key] = client
	}
	return client, err
}

func (r *runner) call(client *siglip.Client, one testCase, found report) error {
	timeout := time.Duration(one.TimeoutMS) * time.Millisecond
	if one.Call == "EmbedStream" {
		return r.stream(client, one, timeout, found)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	switch one.Call {
	case "EmbedTexts":
		return r.embedTexts(ctx, client, one, found)
	case "EmbedImages":
		return r.embedImages(ctx, client, one, found)
	case "Classify":
		return r.classify(ctx, client, one, found)
	case "Score":
		return r.score(ctx, client, one, found)
	case "CreateLabelSet":
		return r.createLabelSet(ctx, client, one, found)
	case "GetModel":
		return r.getModel(ctx, client, one, found)
	case "Tokenize":
		return r.tokenize(ctx, client, one, found)
	}
	return fmt.Errorf("unknown call %q", one.Call)
}

func (r *runner) embedTexts(ctx context.Context, client *siglip.Client, one testCase, found report) error {
	request := &pb.EmbedTextsRequest{}
	if err := r.plan.fill(one, request); err != nil {
		return err
	}
	reply, err := client.Embedding.EmbedTexts(ctx, request)
	if err != nil {
		return err
	}
	found.embeddings(siglip.Embeddings(reply.Results))
	found.model(reply.Model)
	return nil
}

func (r *runner) embedImages(ctx context.Context, client *siglip.Client, one testCase, found report) error {
	request := &pb.EmbedImagesRequest{}
	if err := r.plan.fill(one, request); err != nil {
		return err
	}
	reply, err := client.Embedding.EmbedImages(ctx, request)
	if err != nil {
		return err
	}
	found.embeddings(siglip.Embeddings(reply.Results))
	found.model(reply.Model)
	return nil
}

func (r *runner) classify(ctx context.Context, client *siglip.Client, one testCase, found report) error {
	request := &pb.ClassifyRequest{}
	if err := r.plan.fill(one, request); err != nil {
		return err
	}
	if one.LabelSetFrom != "" {
		request.LabelSet = r.labelSets[one.LabelSetFrom]
	}
	reply, err := client.ZeroShot.Classify(ctx, request)
	if err != nil {
		return err
	}
	found.classified(reply.Results)
	found.model(reply.Model)
	return nil
}

func (r *runner) score(ctx context.Context, client *siglip.Client, one testCase, found report) error {
	request := &pb.ScoreRequest{}
	if err := r.plan.fill(one, request); err != nil {
		return err
	}
	reply, err := client.ZeroShot.Score(ctx, request)
	if err != nil {
		return err
	}
	found.itemErrors(reply.Errors)
	found.model(reply.Model)
	return found.matrices(reply)
}

func (r *runner) createLabelSet(ctx context.Context, client *siglip.Client, one testCase, found report) error {
	request := &pb.CreateLabelSetRequest{}
	if err := r.plan.fill(one, request); err != nil {
		return err
	}
	reply, err := client.ZeroShot.CreateLabelSet(ctx, request)
	if err != nil {
		return err
	}
	r.labelSets[one.Name] = reply.LabelSet
	found["label_set"], found["label_count"] = reply.LabelSet, reply.LabelCount
	found.model(reply.Model)
	return nil
}

func (r *runner) getModel(ctx context.Context, client *siglip.Client, one testCase, found report) error {
	request := &pb.GetModelRequest{}
	if err := r.plan.fill(one, request); err != nil {
		return err
	}
	reply, err := client.Model.GetModel(ctx, request)
	if err != nil {
		return err
	}
	found["model"] = map[string]interface{}{
		"name": reply.Name, "fingerprint": reply.Fingerprint,
		"embedding_dim": reply.EmbeddingDim, "text_length": reply.TextLength,
	}
	return nil
}

func (r *runner) tokenize(ctx context.Context, client *siglip.Client, one testCase, found report) error {
	request := &pb.TokenizeRequest{}
	if err := r.plan.fill(one, request); err != nil {
		return err
	}
	reply, err := client.Model.Tokenize(ctx, request)
	if err != nil {
		return err
	}
	tokens := make([][]int32, len(reply.Results))
	for i, result := range reply.Results {
		tokens[i] = result.Ids
	}
	found["tokens"] = tokens
	return nil
}
