module siglipclient

go 1.19

require (
	google.golang.org/genproto/googleapis/rpc v0.0.0-20240401170217-c3f982113cda
	google.golang.org/grpc v1.64.0
	google.golang.org/protobuf v1.34.1
)
