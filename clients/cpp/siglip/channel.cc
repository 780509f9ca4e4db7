#include "siglip/channel.h"

#include <fstream>
#include <sstream>
#include <stdexcept>

namespace siglip {
namespace {

std::string read_authority(const std::string& file) {
  if (file.empty()) return {};
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream pem;
  pem << stream.rdbuf();
  // gRPC takes anything, and then every call waits for its whole time.
  if (pem.str().find("-----BEGIN CERTIFICATE-----") == std::string::npos)
    throw std::invalid_argument("there is no certificate in " + file + ": give the PEM file of an authority");
  return pem.str();
}

bool is_local(const std::string& address) {
  for (const char* start : {"localhost:", "[::1]:", "unix:", "dns:///localhost:", "dns:localhost:"})
    if (address.rfind(start, 0) == 0) return true;
  // Only a numeric address: a name may begin with 127, too.
  return address.rfind("127.", 0) == 0 && address.find_first_not_of("0123456789.") == address.find(':');
}

// RESOURCE_EXHAUSTED is not listed on purpose: gRPC would send the call again whether the
// service names a time or not. Client::call does it when it does.
std::string service_config(int retries) {
  std::string policy = R"("loadBalancingConfig":[{"round_robin":{}}])";
  if (retries > 0)
    policy += R"(,"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":)" + std::to_string(retries + 1) +
              R"(,"initialBackoff":"0.2s","maxBackoff":"3s","backoffMultiplier":2,)"
              R"("retryableStatusCodes":["UNAVAILABLE"]}}])";
  return "{" + policy + "}";
}

grpc::ChannelArguments arguments(const std::string& address, int retries) {
  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(service_config(retries));
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, retries > 0);
  // Requests above gRPC's default of 256 KiB, which most images are, would silently not
  // be retried.
  arguments.SetInt(GRPC_ARG_PER_RPC_RETRY_BUFFER_SIZE, kMaxMessageBytes);
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(-1);  // the service says what it takes
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 60000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000);
  // A service that comes back is found within seconds; the default backs off to two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 3000);
  // Channels to one address share a connection unless told not to.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // A proxy of the environment has no way to this machine, and would see a token in clear.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, !is_local(address));
  return arguments;
}

}  // namespace

std::shared_ptr<grpc::Channel> open_channel(const std::string& address, const Access& access, int retries) {
  if (retries < 0 || retries > kMaxRetries)
    throw std::invalid_argument("retries must be between 0 and " + std::to_string(kMaxRetries) + ", not " +
                                std::to_string(retries));
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (access.tls || !access.ca_file.empty()) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = read_authority(access.ca_file);
    credentials = grpc::SslCredentials(options);
  } else if (!access.token.empty() && !is_local(address)) {
    throw std::invalid_argument("the token would travel in clear to " + address + ": set tls or ca_file");
  }
  return grpc::CreateCustomChannel(address, credentials, arguments(address, retries));
}

}  // namespace siglip
