package main

import (
	"errors"
	"math"

	"google.golang.org/genproto/googleapis/rpc/code"

	siglip "siglipclient"
	pb "siglipclient/build/siglip/v1"
)

// report is one line of output.
type report map[string]interface{}

func (r report) status(err error) {
	failure := siglip.Explain(err)
	r["code"] = code.Code(failure.Code).String()
	if err == nil {
		return
	}
	r["message"] = failure.Message
	if failure.Reason != "" {
		r["reason"], r["domain"], r["metadata"] = failure.Reason, failure.Domain, failure.Metadata
	}
	if failure.Violations != nil {
		r["field_violations"] = violations(failure.Violations)
	}
	if failure.RetryDelay != 0 {
		r["retry_delay_ms"] = failure.RetryDelay.Milliseconds()
	}
}

func violations(found []siglip.FieldViolation) []map[string]string {
	listed := []map[string]string{}
	for _, one := range found {
		listed = append(listed, map[string]string{"field": one.Field, "description": one.Description})
	}
	return listed
}

func (r report) model(model *pb.ModelInfo) {
	r["model"] = map[string]string{"name": model.GetName(), "fingerprint": model.GetFingerprint()}
}

func (r report) embeddings(found []siglip.Embedding) {
	vectors, dtypes := make([]interface{}, len(found)), make([]interface{}, len(found))
	failed, undecodable := []*pb.ItemError{}, []int{}
	for i, one := range found {
		var itemError *siglip.ItemError
		switch {
		case errors.As(one.Err, &itemError):
			failed = append(failed, itemError.ItemError)
			continue
		case one.Err != nil:
			undecodable = append(undecodable, i)
		default:
			vectors[i] = numbers(one.Vector)
		}
		dtypes[i] = one.Dtype.String()
	}
	r["vectors"], r["dtypes"] = vectors, dtypes
	r.itemErrors(failed)
	r.undecodable(undecodable)
}

func (r report) undecodable(indices []int) {
	if len(indices) > 0 {
		r["undecodable"] = indices
	}
}

func (r report) itemErrors(found []*pb.ItemError) {
	if len(found) == 0 {
		return
	}
	listed := make([]map[string]interface{}, len(found))
	for i, one := range found {
		listed[i] = map[string]interface{}{
			"index": one.Index, "code": code.Code(one.Code).String(), "reason": one.Reason,
			"message": one.Message, "field": one.Field, "retryable": one.Retryable,
		}
	}
	r["item_errors"] = listed
}

func (r report) classified(results []*pb.ClassificationResult) {
	images := make([]interface{}, len(results))
	failed := []*pb.ItemError{}
	for i, result := range results {
		if found := result.GetError(); found != nil {
			failed = append(failed, found)
			continue
		}
		images[i] = labels(result.GetScores().GetScores())
	}
	r["images"] = images
	r.itemErrors(failed)
}

func labels(scores []*pb.LabelScore) []map[string]interface{} {
	listed := []map[string]interface{}{}
	for _, score := range scores {
		listed = append(listed, map[string]interface{}{
			"label": score.Label, "index": score.LabelIndex,
			"probability": number(score.Probability), "logit": number(score.Logit),
		})
	}
	return listed
}

func (r report) matrices(reply *pb.ScoreResponse) error {
	for name, matrix := range map[string]*pb.Matrix{"logits": reply.LogitsPerImage, "probabilities": reply.Probabilities} {
		rows, err := siglip.Rows(matrix)
		if err != nil {
			return err
		}
		listed := make([][]interface{}, len(rows))
		for i, row := range rows {
			listed[i] = numbers(row)
		}
		r[name] = listed
	}
	return nil
}

func numbers(found []float32) []interface{} {
	listed := make([]interface{}, len(found))
	for i, one := range found {
		listed[i] = number(one)
	}
	return listed
}

// number is nil, JSON's null, for what JSON cannot hold.
func number(found float32) interface{} {
	if wide := float64(found); math.IsNaN(wide) || math.IsInf(wide, 0) {
		return nil
	}
	return found
}
