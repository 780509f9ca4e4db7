package siglipclient

import (
	"context"
	"math"
	"math/rand"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	firstBackoff   = 200 * time.Millisecond
	longestBackoff = 3 * time.Second
	// A call that arrived as a server stopped.
	stoppedWait = 100 * time.Millisecond
)

// retrying gives each call a deadline if it has none, and sends it again while that is right and in time.
// The request is kept by the caller, so that its size does not matter.
func retrying(retries int, timeout time.Duration) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply interface{},
		connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		ctx, cancel := withDeadline(ctx, timeout)
		defer cancel()
		for sent := 0; ; sent++ {
			var trailer metadata.MD
			err := invoke(ctx, method, request, reply, connection, append(options[:len(options):len(options)], grpc.Trailer(&trailer))...)
			if err == nil || sent >= retries || isClosed(connection) {
				return err
			}
			wait, again := retryWait(status.Code(err), trailer, sent)
			if !again || !sleep(ctx, wait) {
				return err
			}
		}
	}
}

// isClosed connections never come back.
func isClosed(connection *grpc.ClientConn) bool {
	return connection.GetState() == connectivity.Shutdown
}

func withDeadline(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, given := ctx.Deadline(); given {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

// retryWait says when to send a call again that failed after having been sent again so many times. The
// service's advice counts: without it RESOURCE_EXHAUSTED is final, and a negative one ends all retries.
func retryWait(code codes.Code, trailer metadata.MD, retried int) (time.Duration, bool) {
	advice, given := pushback(trailer)
	switch {
	case given && advice < 0:
		return 0, false
	case given && (code == codes.Unavailable || code == codes.ResourceExhausted):
		// Callers refused together should not come back together.
		return jittered(advice, 1, 1.25), true
	case code == codes.Unavailable:
		return backoffWait(firstBackoff, retried), true
	case code == codes.Canceled: // by the server: sleep ends when it was the caller
		return stoppedWait, true
	}
	return 0, false
}

// pushback is what the trailer grpc-retry-pushback-ms says; what cannot be read means "do not retry".
func pushback(trailer metadata.MD) (time.Duration, bool) {
	values := trailer.Get("grpc-retry-pushback-ms")
	if len(values) == 0 {
		return 0, false
	}
	milliseconds, err := strconv.Atoi(values[0])
	if err != nil {
		return -1, true
	}
	return time.Duration(milliseconds) * time.Millisecond, true
}

// backoffWait doubles with each failure, up to longestBackoff.
func backoffWait(first time.Duration, failures int) time.Duration {
	doubled := float64(first) * math.Pow(2, math.Min(float64(failures), 10))
	return jittered(time.Duration(math.Min(doubled, float64(longestBackoff))), 0.8, 1.2)
}

func jittered(wait time.Duration, least, most float64) time.Duration {
	return time.Duration(float64(wait) * (least + rand.Float64()*(most-least)))
}

// sleep is false when the wait does not end before the deadline, or the caller gives up.
func sleep(ctx context.Context, wait time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
