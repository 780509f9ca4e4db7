// Package siglipclient is what the generated stubs of siglip.v1 do not do by themselves: a connection
// with TLS and a token, deadlines, retries, errors with their details, vectors as numbers, and streams
// of any length.
package siglipclient

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	pb "siglipclient/build/siglip/v1"
)

const (
	defaultTimeout  = 30 * time.Second
	defaultRetries  = 4
	maxMessageBytes = 32 << 20
)

// Config says how to reach a service.
type Config struct {
	// Address is "host:port", or a target of gRPC such as "dns:///name:port".
	Address string
	// TLS encrypts, checking against the system's authorities. CAFile implies it.
	TLS bool
	// CAFile is the PEM file of the authority that signed the service.
	CAFile string
	// Token is shown with every call. It is refused in clear beyond this machine.
	Token string
	// Timeout of each call without a deadline, its retries included. 0: 30 s.
	Timeout time.Duration
	// Retries is how often at most a call is sent again. 0: four times; negative: never.
	Retries int
}

// Client holds the stubs of all services over one connection. It may be shared between goroutines.
type Client struct {
	Embedding pb.EmbeddingServiceClient
	ZeroShot  pb.ZeroShotServiceClient
	Model     pb.ModelServiceClient

	connection *grpc.ClientConn
	config     Config
}

// Dial prepares a connection; it is made with the first call.
func Dial(config Config) (*Client, error) {
	config = withDefaults(config)
	options, err := dialOptions(config)
	if err != nil {
		return nil, err
	}
	connection, err := grpc.Dial(target(config.Address), options...)
	if err != nil {
		return nil, err
	}
	return &Client{
		Embedding:  pb.NewEmbeddingServiceClient(connection),
		ZeroShot:   pb.NewZeroShotServiceClient(connection),
		Model:      pb.NewModelServiceClient(connection),
		connection: connection,
		config:     config,
	}, nil
}

// Close ends the connection, and all calls with it.
func (c *Client) Close() error { return c.connection.Close() }

func withDefaults(config Config) Config {
	config.TLS = config.TLS || config.CAFile != ""
	if config.Timeout == 0 {
		config.Timeout = defaultTimeout
	}
	switch {
	case config.Retries == 0:
		config.Retries = defaultRetries
	case config.Retries < 0:
		config.Retries = 0
	}
	return config
}

// A bare address would be passed through: one connection to one of its addresses.
func target(address string) string {
	if strings.Contains(address, ":///") || strings.HasPrefix(address, "unix:") {
		return address
	}
	return "dns:///" + address
}

func dialOptions(config Config) ([]grpc.DialOption, error) {
	transport, err := transportOption(config)
	if err != nil {
		return nil, err
	}
	options := []grpc.DialOption{
		transport,
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithDisableServiceConfig(),
		// Retries are the interceptor's. Those of gRPC are off in versions before 1.40, count for a whole
		// connection, and would be multiplied with these.
		grpc.WithDisableRetry(),
		grpc.WithUnaryInterceptor(retrying(config.Retries, config.Timeout)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 60 * time.Second, Timeout: 20 * time.Second}),
		// A gateway that comes back is found within seconds; the default backs off to two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	if config.Token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer{config.Token, config.TLS}))
	}
	return options, nil
}

func transportOption(config Config) (grpc.DialOption, error) {
	if !config.TLS {
		if config.Token != "" && !isLocal(config.Address) {
			return nil, fmt.Errorf("the token would travel in clear to %s: set TLS or CAFile", config.Address)
		}
		// Deprecated since 1.43, where credentials/insecure took its place, and kept throughout 1.x.
		return grpc.WithInsecure(), nil
	}
	authorities, err := readAuthorities(config.CAFile)
	if err != nil {
		return nil, err
	}
	return grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12})), nil
}

// Nil, which stands for the system's authorities, without a file.
func readAuthorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("there is no certificate in %s: give the PEM file of an authority", file)
	}
	return pool, nil
}

func isLocal(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(strings.TrimPrefix(address, "dns:///"))
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}
