package siglipclient

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "siglipclient/build/siglip/v1"
)

// Failure is all that a failed call says.
type Failure struct {
	Code    codes.Code
	Message string
	// Reason, Domain and Metadata of google.rpc.ErrorInfo. An empty Reason: gRPC itself failed.
	Reason   string
	Domain   string
	Metadata map[string]string
	// Violations of google.rpc.BadRequest: which field breaks which rule.
	Violations []FieldViolation
	// RetryDelay of google.rpc.RetryInfo. 0: none is given.
	RetryDelay time.Duration
}

// FieldViolation is one broken rule.
type FieldViolation struct{ Field, Description string }

// Explain reads the status of a failed call and its rich details.
func Explain(err error) Failure {
	state := status.Convert(err)
	failure := Failure{Code: state.Code(), Message: state.Message()}
	for _, detail := range state.Details() {
		failure.add(detail)
	}
	return failure
}

func (f *Failure) add(detail interface{}) {
	switch detail := detail.(type) {
	case *errdetails.ErrorInfo:
		f.Reason, f.Domain, f.Metadata = detail.Reason, detail.Domain, detail.Metadata
	case *errdetails.BadRequest:
		for _, violation := range detail.FieldViolations {
			f.Violations = append(f.Violations, FieldViolation{violation.Field, violation.Description})
		}
	case *errdetails.RetryInfo:
		delay := detail.GetRetryDelay()
		f.RetryDelay = time.Duration(delay.GetSeconds())*time.Second + time.Duration(delay.GetNanos())
	}
}

// ItemError says why one item of a call has no result.
type ItemError struct{ *pb.ItemError }

func (e *ItemError) Error() string {
	return e.GetField() + ": " + e.GetMessage() + " (" + e.GetReason() + ")"
}
