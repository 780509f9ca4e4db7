package main

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

type plan struct {
	Inputs    string
	Endpoints map[string]endpoint
	Cases     []testCase
}

type endpoint struct {
	Address string
	TLS     bool
	CAFile  string `json:"ca_file"`
	Token   string
}

type testCase struct {
	Name          string
	Endpoint      string
	Call          string
	Request       map[string]json.RawMessage
	RequestBase64 *string `json:"request_base64"`
	TimeoutMS     int     `json:"timeout_ms"`
	Retries       *int
	LabelSetFrom  string `json:"label_set_from"`
	Stream        *streamCase
}

type streamCase struct {
	Texts     []string
	Images    []string
	Count     int
	Ordered   bool
	Dtype     string
	Normalize *bool
	Model     string
	PauseMS   int `json:"pause_ms"`
}

func readPlan(file string) (*plan, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	found := &plan{}
	return found, json.Unmarshal(text, found)
}

// fill puts the case's request into a message of the generated code.
func (p *plan) fill(one testCase, request proto.Message) error {
	if one.RequestBase64 != nil {
		packed, err := base64.StdEncoding.DecodeString(*one.RequestBase64)
		if err != nil {
			return err
		}
		return proto.Unmarshal(packed, request)
	}
	text, err := p.withImages(one.Request)
	if err != nil {
		return err
	}
	return protojson.Unmarshal(text, request)
}

// withImages puts the bytes of files in the place of their names, as protobuf's JSON has bytes.
func (p *plan) withImages(fields map[string]json.RawMessage) ([]byte, error) {
	complete := map[string]interface{}{}
	for name, value := range fields {
		complete[name] = value
	}
	if names, given := fields["images"]; given {
		var files []string
		if err := json.Unmarshal(names, &files); err != nil {
			return nil, err
		}
		images, err := p.images(files)
		if err != nil {
			return nil, err
		}
		complete["images"] = images
	}
	return json.Marshal(complete)
}

func (p *plan) images(files []string) ([][]byte, error) {
	images := make([][]byte, len(files))
	for i, file := range files {
		data, err := os.ReadFile(filepath.Join(p.Inputs, file))
		if err != nil {
			return nil, err
		}
		images[i] = data
	}
	return images, nil
}
